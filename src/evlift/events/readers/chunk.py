"""What passes between a file and an event stream: raw columns, and counts of what was wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.wording import counted

CHUNK_EVENTS = 2**17
"""Events in a chunk, at most: its columns stay in a core's own cache (decided here, measured)."""

SLACK_US = 10_000
"""How late an event may come in a windowed pass and still be put in its place."""


class RecordingWarning(UserWarning):
    """Something is wrong with a recording; what could be read was kept and what was lost was counted."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file that decoding can begin at.

    Args:
        offset: of the first byte.
        state: int64 [k], what the decoder knew there.
    """

    offset: int
    state: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Columns in the file's own order, of one length n; a reader's internal currency.

    Args:
        t: int64 [n], microseconds.
        x: integer [n], column; uint16 once :meth:`Reader.chunks` has checked it.
        y: integer [n], row; the same.
        p: bool [n], True for a brightness increase.
    """

    t: NDArray[np.int64]
    x: NDArray[Any]
    y: NDArray[Any]
    p: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.t)

    @property
    def columns(self) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        """(t, x, y, p)."""
        return self.t, self.x, self.y, self.p

    def take(self, index: slice | NDArray[Any]) -> RawChunk:
        """The events that a slice, a mask or indices select."""
        return RawChunk(self.t[index], self.x[index], self.y[index], self.p[index])

    @classmethod
    def allocate(cls, n: int) -> RawChunk:
        """Uninitialised columns of n events, for a decoder to fill."""
        return cls(
            np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint16), np.empty(n, np.bool_)
        )

    @classmethod
    def concatenate(cls, parts: list[RawChunk]) -> RawChunk:
        """One chunk of several; no copy where there is but one."""
        parts = [part for part in parts if len(part)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            empty = np.empty(0, np.uint16)
            return cls(np.empty(0, np.int64), empty, empty, np.empty(0, np.bool_))
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("t", "x", "y", "p"))
        )


class GrowingColumns:
    """Chunks appended end to end, in arrays that double.

    Large arrays get large pages from the system: several times quicker than keeping the chunks and joining them.
    """

    def __init__(self) -> None:
        self._columns = RawChunk.allocate(0)
        self._n = 0

    def append(self, chunk: RawChunk) -> None:
        """Add a chunk; the first is taken as it is, so that a short recording is not copied at all."""
        end = self._n + len(chunk)
        if not self._n:
            self._columns, self._n = chunk, end
            return
        if end > len(self._columns):
            grown = RawChunk.allocate(max(2 * len(self._columns), end))
            self._copy(self._columns.take(slice(self._n)), grown, 0)
            self._columns = grown
        self._copy(chunk, self._columns, self._n)
        self._n = end

    @property
    def filled(self) -> RawChunk:
        """All events so far, as views."""
        return self._columns.take(slice(self._n))

    @staticmethod
    def _copy(source: RawChunk, target: RawChunk, at: int) -> None:
        for column, place in zip(source.columns, target.columns, strict=True):
            place[at : at + len(source)] = column


@dataclass
class Problems:
    """Counts of what was wrong in the last pass over a recording."""

    dropped_bytes: int = 0
    unknown_records: int = 0
    out_of_range: int = 0
    backward_steps: int = 0
    late_events: int = 0

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(_remark(count, *REMARKS[name]) for name, count in counts.items() if count)


def _remark(count: int, noun: str, rest: str) -> str:
    return f"{counted(count, noun)} {rest}"


REMARKS = {  # what is counted, and what became of it
    "dropped_bytes": ("byte", "at the end dropped (the file is cut)"),
    "unknown_records": ("record", "of no known kind skipped"),
    "out_of_range": ("event", "outside the sensor dropped (is --sensor, in Python sensor_size=, right?)"),
    "backward_steps": ("backward step", "in time (sorted, unless raw columns are asked for)"),
    "late_events": ("event", f"dropped for coming more than {SLACK_US} µs late in a windowed pass"),
}
