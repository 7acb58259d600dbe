"""Readers, chosen by content; a module registers its formats by being in this folder."""

import importlib
import pkgutil

from evlift.events.readers.base import READERS, Reader, RecordReader
from evlift.events.readers.chunk import Mark, Problems, RawChunk, RecordingWarning
from evlift.events.readers.detect import detect_format, open_reader, read_events, readable_suffixes

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "READERS",
    "Mark",
    "Problems",
    "RawChunk",
    "Reader",
    "RecordReader",
    "RecordingWarning",
    "detect_format",
    "open_reader",
    "read_events",
    "readable_suffixes",
]
