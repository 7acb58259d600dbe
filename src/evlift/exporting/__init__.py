"""Trained networks as files for other runtimes, ONNX, torch.export and NIR, and such files opened again."""

from __future__ import annotations

from evlift.exporting.opened import Exported, open_exported
from evlift.exporting.write import FORMATS, Handover, export

__all__ = ["FORMATS", "Exported", "Handover", "export", "open_exported"]
