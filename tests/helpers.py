"""A tiny task and recipe that train in seconds, for tests of everything above the data."""

from __future__ import annotations

import os
from typing import Any

TINY: dict[str, Any] = {
    "data": {"name": "simulated-digits", "labels_per_class": 2, "recordings": 100},
    "input": {"steps": 3, "size": [28, 28], "encoding": "constant"},
    "model": {"name": "scnn", "width": 0.4},
    "method": {"name": "events-only"},
    "train": {
        "steps": 6,
        "batch_size": 8,
        "lr": 0.01,
        "eval_every": 3,
        "checkpoint_every": 2,
        "log_every": 1,
        "precision": "32-true",
        "warmup": 2,
        "threads": 1,
    },
}


def tiny(**changes: dict[str, Any]) -> dict[str, Any]:
    """The tiny recipe with fields of its sections replaced: ``tiny(method={"name": "tmkt"})``.

    A section that names another entry replaces the section as a whole.
    """
    recipe = {}
    for section, content in TINY.items():
        change = changes.get(section, {})
        renamed = "name" in change and change["name"] != content.get("name")
        recipe[section] = dict(change) if renamed else {**content, **change}
    return recipe


def die_of_two(item: int) -> int:
    """A square; 2 ends the process, as a broken decoder would."""
    if item == 2:
        os._exit(9)
    return item * item
