"""evlift: teach event cameras what labelled images already know.

Everything is loaded when it is first used, so that importing the package costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evlift.api import evaluate, predict, train
    from evlift.assembly import open_run
    from evlift.config import parse_recipe
    from evlift.datasets.pack import write_shards
    from evlift.events import EventStream, open_reader, read_events, write_events
    from evlift.events.convert import convert
    from evlift.methods import create_method
    from evlift.models import create_model
    from evlift.representations import create_representation

_HOMES = {
    "evlift.api": ("evaluate", "predict", "train"),
    "evlift.assembly": ("open_run",),
    "evlift.config": ("parse_recipe",),
    "evlift.datasets.pack": ("write_shards",),
    "evlift.events": ("EventStream", "open_reader", "read_events", "write_events"),
    "evlift.events.convert": ("convert",),
    "evlift.methods": ("create_method",),
    "evlift.models": ("create_model",),
    "evlift.representations": ("create_representation",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "EventStream",
    "convert",
    "create_method",
    "create_model",
    "create_representation",
    "evaluate",
    "open_reader",
    "open_run",
    "parse_recipe",
    "predict",
    "read_events",
    "train",
    "write_events",
    "write_shards",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'evlift' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
