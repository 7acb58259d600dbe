"""Windows over ordered pieces of a recording, one buffer at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evlift.errors import FormatError
from evlift.events.stream import EventStream

MAX_EMPTY = 1_000_000
"""Empty windows in a row before a gap is taken for a broken time stamp (decided here)."""


def windows_of(
    pieces: Iterator[EventStream],
    *,
    duration_us: int | None = None,
    n_events: int | None = None,
    stride: int | None = None,
    drop_last: bool = False,
) -> Iterator[EventStream]:
    """Cut consecutive pieces into the windows that :meth:`EventStream.windows` cuts of the whole.

    Raises:
        ValueError: not exactly one of `duration_us` and `n_events`, or one that is not positive.
        FormatError: more than a million empty windows in a row.
    """
    next(EventStream.empty((1, 1)).windows(duration_us=duration_us, n_events=n_events, stride=stride), None)
    if n_events is not None:
        return _by_count(pieces, n_events, stride or n_events, drop_last)
    length = duration_us or 0
    return _by_time(pieces, length, stride or length, drop_last)


def _by_count(
    pieces: Iterator[EventStream], length: int, step: int, drop_last: bool
) -> Iterator[EventStream]:
    buffer: list[EventStream] = []
    size = skip = 0  # events in the buffer; events to leave out before the next window
    for piece in pieces:
        taken = piece[min(skip, len(piece)) :]
        skip -= len(piece) - len(taken)
        buffer.append(taken)
        size += len(taken)
        if size < length:
            continue
        whole = join(buffer)
        start = 0
        while start + length <= size:
            yield whole[start : start + length]
            start += step
        skip = max(start - size, 0)
        buffer = [whole[min(start, size) :]]
        size = len(buffer[0])
    if size and not drop_last:
        whole = join(buffer)
        for start in range(0, size, step):
            yield whole[start : start + length]


def _by_time(pieces: Iterator[EventStream], length: int, step: int, drop_last: bool) -> Iterator[EventStream]:
    buffer: list[EventStream] = []
    start: int | None = None
    last = 0
    for piece in pieces:
        if not len(piece):
            continue
        start = int(piece.t[0]) if start is None else start
        last = int(piece.t[-1])
        buffer.append(piece)
        if last < start + length:
            continue
        _refuse_gap(buffer, start, step)
        whole = join(buffer)
        while start + length <= last:  # a later piece may still add events at t = last
            yield whole.between(start, start + length)
            start += step
        buffer = [whole[int(np.searchsorted(whole.t, start)) :]]
    if start is None:
        return
    whole = join(buffer)
    while start <= last and not (drop_last and start + length > last + 1):
        yield whole.between(start, start + length)
        start += step


def _refuse_gap(buffer: list[EventStream], start: int, step: int) -> None:
    newest = max((int(piece.t[-1]) for piece in buffer[:-1] if len(piece)), default=start)
    times = buffer[-1].t
    gap = max(int(times[0]) - newest, int(np.diff(times).max()) if len(times) > 1 else 0)
    if gap > MAX_EMPTY * step:
        raise FormatError(
            f"Expected windows to hold events, but got a gap of {gap} µs, which is over {MAX_EMPTY} windows. "
            "A time stamp is broken, or the window is too short: take longer ones, or a part: evlift convert "
            "--start-ms --stop-ms (in Python: start_us=, stop_us=)."
        )


def join(pieces: list[EventStream]) -> EventStream:
    """Consecutive pieces as one stream; no copy where there is but one."""
    if len(pieces) == 1:
        return pieces[0]
    t, x, y, p = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("t", "x", "y", "p"))
    return EventStream(t, x, y, p, pieces[0].sensor_size)
