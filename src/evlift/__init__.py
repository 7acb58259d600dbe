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
    from evlift.events import EventStream, open_reader, read_events, write_events
    from evlift.methods import create_method
    from evlift.models import create_model
    from evlift.representations import create_representation
    from evlift.streaming import predict

_HOMES = {
    "evlift.api": ("evaluate", "train"),
    "evlift.assembly": ("open_run",),
    "evlift.config": ("parse_recipe",),
    "evlift.events": ("EventStream", "open_reader", "read_events", "write_events"),
    "evlift.methods": ("create_method",),
    "evlift.models": ("create_model",),
    "evlift.representations": ("create_representation",),
    "evlift.streaming": ("predict",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "EventStream",
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
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'evlift' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
