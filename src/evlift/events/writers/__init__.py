"""Writers, chosen by name or extension; a module registers its formats by being in this folder."""

import importlib
import pkgutil

from evlift.events.writers.base import WRITERS, RecordWriter, Writer, write_events

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["WRITERS", "RecordWriter", "Writer", "write_events"]
