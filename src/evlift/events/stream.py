"""`EventStream`: what every reader returns and every representation takes."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evlift.wording import counted

LATEST_US = 2**62
"""Times go from -2^62 to 2^62 µs, so that int64 holds the sum and the difference of two."""
MAX_SIDE = 2**16
"""Pixels; coordinates are uint16."""
MAX_PIXELS = 2**26
"""Of a sensor: the largest made have 2^20, and every representation allocates its whole grid (decided here)."""


@dataclass(frozen=True, eq=False, repr=False)
class EventStream:
    """Events of one camera as frozen columns, ordered by time.

    Example:
        >>> stream = EventStream.from_columns([0, 5], [1, 2], [0, 3], [True, False], sensor_size=(4, 4))
        >>> len(stream), stream.duration_us
        (2, 5)

    Args:
        t: int64 [n], time stamps in microseconds, non-decreasing.
        x: uint16 [n], column, 0 at the left.
        y: uint16 [n], row, 0 at the top.
        p: bool [n], polarity, True for a brightness increase.
        sensor_size: (H, W) in pixels; every x < W and y < H.

    The arrays are marked read-only. Empty and one-timestamp streams are legal everywhere. The constructor trusts
    its caller; use :meth:`from_columns` for data that was not checked.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.bool_]
    sensor_size: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("t", "x", "y", "p"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @classmethod
    def from_columns(
        cls, t: ArrayLike, x: ArrayLike, y: ArrayLike, p: ArrayLike, *, sensor_size: tuple[int, int]
    ) -> EventStream:
        """Check, convert and (stably) sort columns of any numeric type; polarity may be 0/1, -1/+1 or bool.

        Fractions of coordinates are cut off, as an event lies in the pixel that holds it.

        Raises:
            ValueError: columns of different lengths, times or coordinates that are NaN, times beyond ±2^62 µs, a
                `sensor_size` that no sensor has, or coordinates outside it.
        """
        height, width = (operator.index(side) for side in sensor_size)
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise ValueError(
                f"Expected `sensor_size` as (H, W) in 1..{MAX_SIDE} pixels, but got ({height}, {width})."
            )
        columns = {"t": np.asarray(t), "x": np.asarray(x), "y": np.asarray(y), "p": np.asarray(p)}
        shapes = {name: column.shape for name, column in columns.items()}
        if any(column.ndim != 1 for column in columns.values()) or len(set(shapes.values())) != 1:
            raise ValueError(f"Expected four columns [n] of one length, but got {shapes}.")
        if len(columns["t"]):
            earliest, latest = columns["t"].min(), columns["t"].max()
            if not (earliest > -LATEST_US and latest < LATEST_US):  # neither is true of NaN
                raise ValueError(
                    f"Expected time stamps in µs within ±2^62, but got [{earliest}, {latest}]. Drop those events first."
                )
            for name, limit in (("x", width), ("y", height)):
                low, high = columns[name].min(), columns[name].max()
                if not (low >= 0 and high < limit):
                    raise ValueError(
                        f"Expected `{name}` in [0, {limit - 1}] for a sensor of (H, W) = ({height}, {width}), but got "
                        f"[{low}, {high}]. Give the right `sensor_size` or drop those events."
                    )
        times = columns["t"].astype(np.int64)
        kept: list[NDArray[Any]] = [
            times,
            columns["x"].astype(np.uint16),
            columns["y"].astype(np.uint16),
            columns["p"] > 0,
        ]
        if len(times) > 1 and np.any(times[1:] < times[:-1]):
            order = np.argsort(times, kind="stable")
            kept = [column[order] for column in kept]
        return cls(kept[0], kept[1], kept[2], kept[3], (height, width))

    @classmethod
    def empty(cls, sensor_size: tuple[int, int]) -> EventStream:
        """A stream without events."""
        return cls.from_columns([], [], [], [], sensor_size=sensor_size)

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        height, width = self.sensor_size
        return f"EventStream({counted(len(self), 'event')}, {self.duration_us} µs, {width}x{height})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EventStream):
            return NotImplemented
        return self.sensor_size == other.sensor_size and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in "txyp"
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def duration_us(self) -> int:
        """Time from the first to the last event in µs; 0 for fewer than two events."""
        return int(self.t[-1]) - int(self.t[0]) if len(self) else 0

    def __getitem__(self, index: slice | NDArray[Any]) -> EventStream:
        """Events by slice, by mask or by increasing indices, without a check of the order."""
        return EventStream(self.t[index], self.x[index], self.y[index], self.p[index], self.sensor_size)

    def between(self, start_us: int, stop_us: int) -> EventStream:
        """Events with ``start_us <= t < stop_us``, as views of the same memory."""
        first, last = np.searchsorted(self.t, [start_us, stop_us], side="left")
        return self[int(first) : int(max(first, last))]

    def windows(
        self,
        *,
        duration_us: int | None = None,
        n_events: int | None = None,
        stride: int | None = None,
        drop_last: bool = False,
    ) -> Iterator[EventStream]:
        """Cut the stream into windows of equal duration or of equal event count.

        Args:
            duration_us: window length; the first window starts at the first event, empty windows are kept.
            n_events: events a window.
            stride: from one window's start to the next, in µs or events; default: no overlap.
            drop_last: leave out a last window that is shorter than the others.

        Raises:
            ValueError: not exactly one of `duration_us` and `n_events`, or one that is not positive.
        """
        if (duration_us is None) == (n_events is None):
            raise ValueError(
                f"Expected exactly one of `duration_us` and `n_events`, but got {duration_us} and {n_events}."
            )
        length = duration_us if duration_us is not None else n_events
        step = length if stride is None else stride
        if length is None or step is None or length <= 0 or step <= 0:
            raise ValueError(f"Expected positive window length and stride, but got {length} and {step}.")
        if len(self) == 0:
            return
        if n_events is not None:
            for start in range(0, len(self), step):
                if drop_last and start + length > len(self):
                    return
                yield self[start : start + length]
            return
        first, last = int(self.t[0]), int(self.t[-1])
        for start in range(first, last + 1, step):
            if drop_last and start + length > last + 1:
                return
            yield self.between(start, start + length)


def merged(first: EventStream, second: EventStream) -> EventStream:
    """Events of two streams of one sensor in order of time; at equal times the first stream's come first."""
    if len(second) == 0:
        return first
    t, x, y, p = (np.concatenate([getattr(first, name), getattr(second, name)]) for name in "txyp")
    order = np.argsort(t, kind="stable")
    return EventStream(t[order], x[order], y[order], p[order], first.sensor_size)
