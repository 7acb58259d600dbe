"""evlift: teach event cameras what labelled images already know.

Everything is loaded when it is first used, so that importing the package costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evlift.api import evaluate, train
    from evlift.assembly import open_run
    from evlift.config import parse_recipe
    from evlift.datasets.pack import write_shards
    from evlift.events import EventStream, open_reader, read_events, write_events
    from evlift.events.convert import convert
    from evlift.exporting import export, open_exported
    from evlift.judge.calibrate import calibrate_run
    from evlift.judge.packs import pack, shipped_packs
    from evlift.judge.recordings import evaluate_recordings
    from evlift.judge.robustness import robustness
    from evlift.methods import create_method
    from evlift.models import create_model
    from evlift.report import write_report
    from evlift.representations import create_representation
    from evlift.streaming import predict
    from evlift.viewer import open_viewer

_HOMES = {
    "evlift.api": ("evaluate", "train"),
    "evlift.assembly": ("open_run",),
    "evlift.config": ("parse_recipe",),
    "evlift.datasets.pack": ("write_shards",),
    "evlift.events": ("EventStream", "open_reader", "read_events", "write_events"),
    "evlift.exporting": ("export", "open_exported"),
    "evlift.judge.calibrate": ("calibrate_run",),
    "evlift.judge.packs": ("pack", "shipped_packs"),
    "evlift.judge.recordings": ("evaluate_recordings",),
    "evlift.judge.robustness": ("robustness",),
    "evlift.events.convert": ("convert",),
    "evlift.methods": ("create_method",),
    "evlift.models": ("create_model",),
    "evlift.report": ("write_report",),
    "evlift.representations": ("create_representation",),
    "evlift.viewer": ("open_viewer",),
    "evlift.streaming": ("predict",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "EventStream",
    "calibrate_run",
    "convert",
    "create_method",
    "create_model",
    "create_representation",
    "evaluate",
    "evaluate_recordings",
    "export",
    "open_exported",
    "open_reader",
    "open_run",
    "open_viewer",
    "pack",
    "parse_recipe",
    "predict",
    "read_events",
    "robustness",
    "shipped_packs",
    "train",
    "write_events",
    "write_report",
    "write_shards",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'evlift' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
