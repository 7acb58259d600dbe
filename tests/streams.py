"""Recipes, recordings and comparisons that the tests of predictions share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import evlift
from evlift.events import EventStream
from helpers import tiny

SIZE = (34, 34)
SPIKING = tiny(
    model={"threshold": 0.02}, train={"steps": 1}
)  # so low that all layers fire before any training
MASKS = tiny(
    data={"name": "simulated-digit-masks", "recordings": 60},
    model={"name": "unet", "width": 0.25},
    input={"encoding": "saccade", "motion": "pan", "size": [68, 68]},
    train={"steps": 1},
)


def events(n: int = 4000, duration_us: int = 200_000, size: tuple[int, int] = SIZE) -> EventStream:
    """Random events that begin at 1 ms."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(1000, 1000 + duration_us, n))
    x, y = rng.integers(0, size[1], n), rng.integers(0, size[0], n)
    return EventStream.from_columns(t, x, y, rng.random(n) < 0.5, sensor_size=size)


def written(folder: Path, stream: EventStream, format: str = "evt3") -> Path:
    suffix = {"evt2": "raw", "evt3": "raw", "atis": "bin", "text": "txt"}.get(format, format)
    path = folder / f"{format}.{suffix}"
    evlift.write_events(path, stream, format=format)
    return path


def change_record(folder: Path, **values: object) -> None:
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | values))


def shown(found) -> list[tuple]:
    return [(one.start_us, one.stop_us, one.events, one.index, round(one.confidence, 5)) for one in found]
