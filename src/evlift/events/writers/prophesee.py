"""Writers for Prophesee's formats: EVT2 and EVT3 RAW, DAT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.stream import EventStream
from evlift.events.writers.base import WRITERS, RecordWriter


class EvtWriter(RecordWriter):
    """What the EVT writers share: 11-bit coordinates, and time words that step over long gaps."""

    max_x = max_y = 2**11 - 1
    max_t = 2**42 - 1  # 51 days
    name: str
    version: str

    def __init__(self, path: Path, sensor_size: tuple[int, int]) -> None:
        height, width = sensor_size
        if max(height, width) > 2**11:
            raise FormatError(
                f"Expected a sensor of at most 2048x2048 for {self.format}, but got (H, W) = "
                f"({height}, {width}). Crop the events (evlift convert has --crop), or choose HDF5."
            )
        super().__init__(path, sensor_size)
        self._state = np.full(3, -1, np.int64)

    def _header(self) -> bytes:
        height, width = self.sensor_size
        lines = f"% evt {self.version}", f"% format {self.name};height={height};width={width}"
        return "\n".join((*lines, f"% geometry {width}x{height}", "% end", "")).encode()

    def _time_words(self, block: EventStream, quarter_us: int) -> int:
        """Upper bound of the extra time words that gaps longer than a quarter of the counter need."""
        before = max(self.last_t or 0, 0)
        return int((block.t[-1] - before) // quarter_us) + 2


@WRITERS.register("evt2")
class Evt2Writer(EvtWriter):
    """Writes EVT2: one 32-bit word an event, and one for every 64 µs that hold events."""

    format = "evt2"
    name, version = "EVT2", "2.0"

    def _encode(self, block: EventStream) -> NDArray[Any]:
        from evlift.kernels import encode

        words = np.empty(2 * len(block) + self._time_words(block, 2**32), np.uint32)
        k = encode.evt2((block.t, block.x, block.y, block.p), self._state, words)
        return words[:k].astype("<u4", copy=False)


@WRITERS.register("evt3")
class Evt3Writer(EvtWriter):
    """Writes EVT3: 16-bit words, with three or more neighbours of one row, time and polarity as a vector."""

    format = "evt3"
    extensions = (".raw",)
    name, version = "EVT3", "3.0"

    def _encode(self, block: EventStream) -> NDArray[Any]:
        from evlift.kernels import encode

        words = np.empty(4 * len(block) + self._time_words(block, 2**22), np.uint16)
        k = encode.evt3((block.t, block.x, block.y, block.p), self._state, words)
        return words[:k].astype("<u2", copy=False)


@WRITERS.register("dat")
class DatWriter(RecordWriter):
    """Writes DAT: 8-byte records. Its clock starts below 2^32 µs and may wrap, but not across half a turn.

    From the first wrap on, and across it, a gap of 2^31 µs (35.8 minutes) and more is refused: readers take it for a
    wrap, or for an event from before one.
    """

    format = "dat"
    extensions = (".dat",)
    max_x = max_y = 2**14 - 1
    max_t = 2**62

    def _header(self) -> bytes:
        height, width = self.sensor_size
        title = "% Data file containing CD events."
        lines = title, "% Version 2", f"% Height {height}", f"% Width {width}"
        return "\n".join((*lines, "")).encode() + bytes([12, 8])

    def _check(self, block: EventStream) -> None:
        super()._check(block)
        before = block.t[0] if self.last_t is None else self.last_t
        times = np.concatenate([[before], block.t])
        wrapped = times[1:] >> 32 > 0
        late_start = self.last_t is None and block.t[0] >= 2**32
        if late_start or np.any(np.diff(times)[wrapped] >= 2**31):
            raise FormatError(
                "Expected times that a 32-bit clock can tell, from below 2^32 µs and without a gap of 2^31 "
                f"µs from its first wrap on, but got {block.t[0]} to {block.t[-1]} µs. Shift them (evlift convert has "
                "--from-zero), or choose EVT3."
            )

    def _encode(self, block: EventStream) -> NDArray[Any]:
        words = np.empty((len(block), 2), "<u4")
        words[:, 0] = block.t & 0xFFFFFFFF
        words[:, 1] = block.x
        words[:, 1] |= block.y.astype(np.uint32) << 14
        words[:, 1] |= block.p.astype(np.uint32) << 28
        return words
