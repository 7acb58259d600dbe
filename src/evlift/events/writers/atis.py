"""Writer for ATIS 40-bit `.bin` files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.events.readers.atis import OVERFLOW_ROW, RECORD
from evlift.events.stream import EventStream
from evlift.events.writers.base import WRITERS, RecordWriter

CLOCK_END = 2**23
OVERFLOW_US = 2**13


@WRITERS.register("atis")
class AtisWriter(RecordWriter):
    """Writes 5-byte records: 8-bit x, y below 240, polarity and 23 bits of µs.

    Times from 2^23 µs on get as many overflow records (y = 240, 2^13 µs each) as they need.
    """

    format = "atis"
    extensions = (".bin",)
    max_x, max_y = 255, OVERFLOW_ROW - 1
    max_t = 2**33 - 1  # 2.4 hours: a million overflow records

    def _encode(self, block: EventStream) -> NDArray[Any]:
        overflows = _overflows(block.t)
        before = 0 if self.last_t is None else int(_overflows(np.array([self.last_t]))[0])
        added = np.diff(overflows, prepend=before)
        source = np.repeat(
            np.arange(len(block)), added + 1
        )  # the event itself last among its overflow records
        clock = block.t - overflows * OVERFLOW_US
        records = np.empty(len(source), RECORD)
        records["x"] = block.x[source]
        records["y"] = OVERFLOW_ROW
        records["y"][np.cumsum(added + 1) - 1] = block.y
        records["pt"] = clock[source] >> 16 | block.p[source].astype(np.int64) << 7
        records["t"] = clock[source] & 0xFFFF
        return records


def _overflows(t: NDArray[np.int64]) -> NDArray[np.int64]:
    """Overflow records that must precede an event at `t` so that the rest fits the clock."""
    return np.maximum(-((CLOCK_END - 1 - t) // OVERFLOW_US), 0)
