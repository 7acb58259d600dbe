"""A tiny suite, and results as its workers leave them, for the tests of benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evlift.bench.jobs import Job
from evlift.bench.suite import Entry
from evlift.bench.worker import key_of
from evlift.datasets.items import hash_of_text
from helpers import TINY

BASE: dict[str, Any] = {
    **{section: TINY[section] for section in ("input", "train")},
    "data": {"name": "simulated-digits", "recordings": 100},
    "model": {"name": "convnet"},
}
SUITE: dict[str, Any] = {
    "title": "Tiny",
    "base": BASE,
    "rows": {
        "pictures": {
            "method": "source-only",
            "adapt": True,
            "ignores": ["data.labels_per_class", "data.label_seed"],
        },
        "events": {"method": "events-only"},
    },
    "cells": {
        "all": {"vary": {"data.fold": [0, 1]}},
        "few": {"vary": {"data.labels_per_class": [1, 2], "data.label_seed + train.seed": [0, 1, 2]}},
    },
    "judge": [{"name": "whole", "window": "full"}, {"name": "short", "window": "first300"}],
    "reference": "events",
    "quick": {"cells": ["all"], "repeats": 1, "set": {"train": {"steps": 4}}},
}


def write_suite(path: Path, **changes: Any) -> Path:
    """Write the suite with some sections replaced; returns its path."""
    path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False))
    return path


def fake_results(
    jobs: Sequence[Job],
    rng: np.random.Generator,
    *,
    splits: Sequence[str] = ("val",),
    only: Callable[[Entry], bool] = lambda entry: True,
) -> None:
    """result.json of jobs, as a worker leaves it, with recordings read rightly at random."""
    for job in jobs:
        if not any(only(entry) for entry in job.entries):
            continue
        judged: dict[str, Any] = {}
        names: dict[str, Any] = {}
        for one in job.content["judgements"]:
            if one["split"] in splits:
                names[one["split"]] = [f"{one['split']}{i}" for i in range(30)]
                right = (rng.random(30) < 0.7).astype(int).tolist()
                judged[key_of(one)] = {"score": float(np.mean(right)), "metric": "accuracy", "right": right}
                judged[key_of(one)] |= {"class_mean": 0.5, "confusion": [[1]], "per_step": [0.25, 0.5]}
        result = {
            "digest": job.content["digest"],
            "split": hash_of_text(str(job.entries[0].recipe.data["fold"])),
            "judged": judged,
            "names": names,
            "steps": 6,
            "samples": 48,
            "seconds": 2.0,
            "cost": {"parameters": 10, "macs": 20.0, "synops": 0.0, "dense_macs": 20.0},
            "environment": {"machine": "m", "device": "cpu"},
        }
        job.folder.mkdir(parents=True)
        (job.folder / "result.json").write_text(json.dumps(result))
