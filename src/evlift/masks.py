"""What every part takes for granted of masks: the label of pixels that have no class."""

from __future__ import annotations

VOID = 255
"""Label of mask pixels without a class; they count in no loss and in no score."""
