"""HDF5 recordings: DSEC's layout (which is also our own cache's) and MVSEC's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from evlift.errors import ConfigError, FormatError
from evlift.events.readers.base import CHUNK_EVENTS, READERS, RawChunk, Reader, SensorSize, Source
from evlift.events.readers.columns import to_chunk
from evlift.events.readers.hdf5_file import (
    DAMAGED,
    MAGIC,
    names_in,
    open_hdf5,
    read_rows,
    require_filters,
    row_bytes,
    stored_rows,
)
from evlift.events.stream import LATEST_US


class Hdf5Reader(Reader):
    """What both layouts share: named data sets, read chunk by chunk from a file opened in each pass."""

    format = "hdf5"  # each subclass states its own
    extensions = (".h5", ".hdf5")
    max_side = 65_535
    default_size: ClassVar[SensorSize]

    def _names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def _inspect(self, sensor_size: SensorSize | None) -> SensorSize:
        with open_hdf5(self.path) as file:
            sets = [file.get(name) for name in self._names()]
            if any(not hasattr(found, "shape") for found in sets):
                raise FormatError(
                    f"Expected {self.name} to hold {', '.join(self._names())}, but got {sorted(file)[:10]}."
                )
            for name, dataset in zip(self._names(), sets, strict=True):
                require_filters(dataset, f"{self.name}:{name}")
            stated = tuple(file.attrs.get(name) for name in ("height", "width"))
            self._inspect_more(file)
        if sensor_size is None and None not in stated:
            return int(stated[0]), int(stated[1])
        return sensor_size or self.default_size

    def _inspect_more(self, file: Any) -> None:
        """Check what the layout has beside its events."""

    def _read_rows(self, start: int | None = None, stop: int | None = None) -> Iterator[list[Any]]:
        """The data sets' rows [start:stop], a list of arrays of at most `CHUNK_EVENTS` rows at a time."""
        with open_hdf5(self.path) as file:
            sets = [file[name] for name in self._names()]
            rows = min(stored_rows(dataset) for dataset in sets)
            missing = max(int(dataset.shape[0]) for dataset in sets) - rows
            first, last = start or 0, rows if stop is None else min(stop, rows)
            while first < last:
                # whole chunks of the file: no chunk is decompressed twice
                end = min(first // CHUNK_EVENTS * CHUNK_EVENTS + CHUNK_EVENTS, last)
                try:
                    block = [read_rows(dataset, first, end) for dataset in sets]
                except DAMAGED:
                    missing += rows - first
                    break
                yield block
                first = end
            if stop is None or missing > 0:
                self._count("dropped_bytes", missing * sum(map(row_bytes, sets)))


@READERS.register("dsec")
class DsecReader(Hdf5Reader):
    """Reads events/t, x, y, p, t_offset and the index ms_to_idx, as DSEC publishes them and our writer does.

    Example:
        >>> DsecReader("events.h5").read(1_000_000, 1_050_000)  # doctest: +SKIP

    Times are absolute: t + t_offset. A range of time is looked up in ms_to_idx, so that a window costs the
    same anywhere in the file. Sensor size: attributes `height` and `width`, else 480×640. Source: DSEC
    (released code).
    """

    format = "dsec"
    seeks = True
    default_size = (480, 640)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """HDF5 with events/t, x, y and p."""
        return head.startswith(MAGIC) and names_in(path, ("events/t", "events/x", "events/y", "events/p"))

    def _names(self) -> tuple[str, ...]:
        return "events/t", "events/x", "events/y", "events/p"

    def _inspect_more(self, file: Any) -> None:
        if any(len(file[name].shape) != 1 for name in self._names()):
            shapes = [file[name].shape for name in self._names()]
            raise FormatError(
                f"Expected events/t, x, y, p of {self.name} to be of shape [n], but got {shapes}."
            )
        offset = file.get("t_offset")
        self.t_offset = 0
        if getattr(offset, "size", 0) == 1 and offset.dtype.kind in "iuf":
            self.t_offset = self._checked_offset(np.ravel(offset[()])[0])
        self._range: tuple[int | None, int | None] = (None, None)

    def _checked_offset(self, offset: Any) -> int:
        if not abs(float(offset)) < LATEST_US / 2:
            raise FormatError(f"Expected t_offset of {self.name} to be a time in µs, but got {offset}.")
        return int(offset)

    def _within(self, start_us: int | None, stop_us: int | None) -> Iterator[RawChunk]:
        self._range = self._look_up(start_us, stop_us)
        try:
            yield from super()._within(start_us, stop_us)
        finally:
            self._range = (None, None)

    def _look_up(self, start_us: int | None, stop_us: int | None) -> tuple[int | None, int | None]:
        """Rows that hold a range of time for certain; (None, None) without an index that can be trusted."""
        if start_us is None and stop_us is None:
            return None, None
        with open_hdf5(self.path) as file:
            index, t = file.get("ms_to_idx"), file["events/t"]
            if not _is_whole_index(index):
                return None, None
            require_filters(index, f"{self.name}:ms_to_idx")
            first: int | None = 0
            last: int | None = stored_rows(t)
            if start_us is not None:
                first = _first_row(index, t, (start_us - self.t_offset) // 1000)
            if stop_us is not None and (ms := -((self.t_offset - stop_us) // 1000)) < index.shape[0]:
                last = _first_row(index, t, ms)
        if first is None or last is None:
            return None, None
        return first, max(first, last)

    def _decode(self) -> Iterator[RawChunk]:
        for t, x, y, p in self._read_rows(*self._range):
            chunk, unusable = to_chunk(t, x, y, p, "us")
            self._count("unknown_records", unusable)
            np.add(chunk.t, self.t_offset, out=chunk.t)  # read from the file a moment ago: nobody else has it
            yield chunk


def _is_whole_index(index: Any) -> bool:
    if len(getattr(index, "shape", ())) != 1 or index.dtype.kind not in "iu":
        return False
    return 0 < index.shape[0] <= stored_rows(index)


def _first_row(index: Any, t: Any, ms: int) -> int | None:
    """The first row with t >= 1000 · ms, of the last indexed ms if that is earlier; None if the index is wrong."""
    ms = min(max(ms, 0), index.shape[0] - 1)
    row, rows = int(read_rows(index, ms, ms + 1)[0]), stored_rows(t)
    if not 0 <= row <= rows:
        return None
    around = [int(time) for time in read_rows(t, max(row - 1, 0), min(row + 1, rows))]
    before_fits = row == 0 or ms == 0 or around[0] < 1000 * ms
    return row if before_fits and (row == rows or around[-1] >= 1000 * ms) else None


@READERS.register("mvsec")
class MvsecReader(Hdf5Reader):
    """Reads davis/<camera>/events [N, 4]: x, y, t in seconds, polarity ±1, as MVSEC publishes them.

    Example:
        >>> MvsecReader("indoor_flying1_data.hdf5", camera="right").read()  # doctest: +SKIP

    Times are the file's own, in µs since 1970. Sensor size: 260×346. Source: MVSEC (published summary).

    Args:
        camera: "left" or "right".
    """

    format = "mvsec"
    default_size = (260, 346)

    def __init__(
        self,
        source: Source,
        *,
        sensor_size: SensorSize | None = None,
        strict: bool = False,
        camera: str = "left",
    ) -> None:
        if camera not in ("left", "right"):
            raise ConfigError(f"Expected `camera` to be 'left' or 'right', but got '{camera}'.")
        self.camera = camera
        super().__init__(source, sensor_size=sensor_size, strict=strict)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """HDF5 with the events of a left or a right camera."""
        sides = ("davis/left/events", "davis/right/events")
        return head.startswith(MAGIC) and any(names_in(path, (side,)) for side in sides)

    def _names(self) -> tuple[str, ...]:
        return (f"davis/{self.camera}/events",)

    def _inspect_more(self, file: Any) -> None:
        shape = file[self._names()[0]].shape
        if len(shape) != 2 or shape[1] != 4:
            raise FormatError(f"Expected {self._names()[0]} of {self.name} to be [N, 4], but got {shape}.")

    def _decode(self) -> Iterator[RawChunk]:
        for (rows,) in self._read_rows():
            chunk, unusable = to_chunk(rows[:, 2], rows[:, 0], rows[:, 1], rows[:, 3], "s")
            self._count("unknown_records", unusable)
            yield chunk
