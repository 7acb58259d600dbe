"""DDD17's raw recordings: the network packets of a DAVIS, one a row of an HDF5 file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import DataError
from evlift.events import EventStream

HEADER = struct.Struct("<2h6i")
POLARITY, EVENT_BYTES = 1, 8
WRAP_US = 2**31
SKEW_US = 1_000_000
"""How far the camera's clock and the computer's may drift apart; more means that the camera's was set to zero."""

Packet = tuple[int, NDArray[np.uint32]]  # computer's time in µs; words (data, time) [n, 2] of valid events


class RawDavis:
    """Windows of a raw recording, `dvs/data` [n, 3] (time, header, body of a packet) and `dvs/timestamp` [n] in µs.

    Example:
        >>> RawDavis(Path("run3/rec1487417411.hdf5"), (260, 346)).window(0, 50_000)  # doctest: +SKIP

    Times count from the first event. Rows are found by the computer's time and cut by the camera's. Where the camera's
    clock was set to zero on the way, its times are shifted to the computer's, exact to a packet's delay.

    Args:
        path: of the HDF5 file.
        sensor_size: (H, W).

    Raises:
        DataError: `dvs/data` or `dvs/timestamp` is missing, or there is no event.
        FormatError: the file is no whole HDF5 file.

    Source: DDD17 (released code).
    """

    def __init__(self, path: Path, sensor_size: tuple[int, int]) -> None:
        self.path, self.sensor_size = path, sensor_size
        state = path.stat()
        self._times, self._clock, self._first = _index(path, state.st_size, state.st_mtime_ns)

    def window(self, start_us: int, stop_us: int) -> EventStream:
        """Events with ``start_us <= t < stop_us`` after the first one; their times count from `start_us`."""
        low, high = np.searchsorted(
            self._times, [self._clock + t for t in (start_us - SKEW_US, stop_us + SKEW_US)]
        )
        with _opened(self.path) as data:
            packets = list(_packets(data, int(low), int(high)))
        lags = [clock - self._clock - (int(words[0, 1]) - self._first) for clock, words in packets]
        reset = [lag for lag in lags if abs(lag) > SKEW_US]
        shift = int(np.median(reset)) if reset else 0
        parts = [
            words[:, 1].astype(np.int64) - self._first + (shift if abs(lag) > SKEW_US else 0)
            for lag, (_, words) in zip(lags, packets, strict=True)
        ]
        if not parts:
            return EventStream.empty(self.sensor_size)
        t, data_words = np.concatenate(parts), np.concatenate([words[:, 0] for _, words in packets])
        inside = (t >= start_us) & (t < stop_us)
        return self._stream(t[inside] - start_us, data_words[inside])

    def _stream(self, t: NDArray[np.int64], data: NDArray[Any]) -> EventStream:
        x, y, p = data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1
        try:
            return EventStream.from_columns(t, x, y, p, sensor_size=self.sensor_size)
        except ValueError as error:
            raise DataError(f"'{self.path}' is damaged: {error}") from error


@lru_cache(maxsize=32)
def _index(path: Path, size: int, mtime_ns: int) -> tuple[NDArray[np.int64], int, int]:
    """Computer's times [n] of the packets, and both clocks at the first event."""
    with _opened(path) as data:
        times = np.asarray(data.parent["timestamp"][()], np.int64)
        empty = np.flatnonzero(times == 0)  # the recorder appends rows ahead and leaves the last ones empty
        times = times[: empty[0]] if len(empty) else times
        first = next(_packets(data, 0, len(times)), None)
    if first is None:
        raise DataError(f"Expected events in '{path}', but it holds none.")
    return times, first[0], int(first[1][0, 1])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The data set `dvs/data` of the file."""
    from evlift.events.readers.hdf5_file import open_hdf5

    with open_hdf5(path) as file:
        if not all(hasattr(file.get(f"dvs/{name}"), "shape") for name in ("data", "timestamp")):
            raise DataError(f"Expected dvs/data and dvs/timestamp in '{path}', but got {sorted(file)[:10]}.")
        yield file["dvs/data"]


def _packets(data: Any, low: int, high: int, rows: int = 64) -> Iterator[Packet]:
    """The polarity packets among rows [low:high] that hold a valid event."""
    for start in range(low, high, rows):
        for clock, head, body in data[start : min(start + rows, high)]:
            words = _valid_events(head.tobytes(), body)
            if words is not None and len(words):
                yield int(clock.tobytes()), words


def _valid_events(head: bytes, body: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Words (data, time in µs) [n, 2] of a packet; None for a packet of another kind."""
    if len(head) != HEADER.size:
        return None
    kind, _, event_bytes, _, overflow, _, number, _ = HEADER.unpack(head)
    if kind != POLARITY or event_bytes != EVENT_BYTES:
        return None
    words = (
        body[: len(body) // EVENT_BYTES * EVENT_BYTES].view("<u4").reshape(-1, 2)[:number].astype(np.int64)
    )
    words[:, 1] += overflow * WRAP_US
    return words[words[:, 0] & 1 == 1]
