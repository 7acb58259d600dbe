"""NumPy's npz and npy files, streamed: four columns, one structured array or one N×4 array."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.readers.base import CHUNK_EVENTS, READERS, RawChunk, SensorSize
from evlift.events.readers.columns import (
    TableReader,
    detect_order,
    detect_unit,
    match_names,
    to_chunk,
)
from evlift.events.readers.source import refuse_bomb

MAX_ROW_BYTES = 1024
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Member:
    """One array on disk: how to open it, and what its header states."""

    name: str
    open: Callable[[], IO[bytes]]
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool


@dataclass(frozen=True)
class Track:
    """Rows of a member that are read one after another; `names` are the columns in a row.

    Args:
        skip: bytes after the start of the member's data.
        dtype: of a row: structured, or plain for a single column.
    """

    member: Member
    skip: int
    dtype: np.dtype[Any]
    rows: int
    names: tuple[str, ...]


class ArrayReader(TableReader):
    """What npz and npy share: streaming of one or several arrays as t, x, y, p."""

    def _inspect(self, sensor_size: SensorSize | None) -> SensorSize:
        detected: list[str] = []
        self._tracks, stated = self._find_tracks()
        sample = next(self._rows(), None)
        if "0" in {name for track in self._tracks for name in track.names}:
            order = self.order_given
            if order is None:
                order = detect_order([sample[str(i)] for i in range(4)], self.name) if sample else "txyp"
                detected.append(f"column order {' '.join(order)}")
            self._rename(order)
            sample = {order[int(name)]: column for name, column in sample.items()} if sample else None
        if not self.time_unit:
            self.time_unit = detect_unit(sample["t"]) if sample else "us"
            if self.time_unit != "us":
                detected.append(f"times in {self.time_unit}")
        size = sensor_size or stated
        if size is None:
            size = self._extent()
            detected.append(f"a sensor of (H, W) = {size} from the largest coordinates")
        self._announce(detected)
        return size

    def _find_tracks(self) -> tuple[list[Track], SensorSize | None]:
        raise NotImplementedError

    def _rename(self, order: str) -> None:
        self._tracks = [
            Track(
                track.member, track.skip, track.dtype, track.rows, tuple(order[int(i)] for i in track.names)
            )
            for track in self._tracks
        ]

    def _extent(self) -> SensorSize:
        """(H, W) that just holds every coordinate; one pass over the file."""
        height = width = 1
        for rows in self._rows():
            chunk, _ = to_chunk(rows["t"], rows["x"], rows["y"], rows["p"], self.time_unit)
            if len(chunk):
                height, width = max(height, int(chunk.y.max()) + 1), max(width, int(chunk.x.max()) + 1)
        return height, width

    def _rows(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Column arrays [n] by name; ends where the shortest track ends and notes the bytes left over."""
        self._leftover = 0
        with ExitStack() as stack:
            try:
                files = [stack.enter_context(track.member.open()) for track in self._tracks]
                for file, track in zip(files, self._tracks, strict=True):
                    file.seek(track.member.start + track.skip)
            except DAMAGED as error:
                raise FormatError(f"Expected {self.name} to be readable, but got: {error}.") from None
            done, rows = 0, min(track.rows for track in self._tracks)
            while done < rows:
                wanted = min(CHUNK_EVENTS, rows - done)
                blocks = [
                    _read_up_to(f, wanted * t.dtype.itemsize)
                    for f, t in zip(files, self._tracks, strict=True)
                ]
                got = min(len(b) // t.dtype.itemsize for b, t in zip(blocks, self._tracks, strict=True))
                if got:
                    yield self._split(blocks, got)
                done += got
                if got < wanted:
                    self._leftover = sum(
                        len(b) - got * t.dtype.itemsize for b, t in zip(blocks, self._tracks, strict=True)
                    )
                    self._leftover += rows > done and not self._leftover
                    return

    def _split(self, blocks: list[bytes], count: int) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {}
        for block, track in zip(blocks, self._tracks, strict=True):
            rows = np.frombuffer(block, track.dtype, count)
            if track.dtype.names is None:
                columns[track.names[0]] = rows
            else:
                columns |= {
                    name: rows[field] for name, field in zip(track.names, track.dtype.names, strict=True)
                }
        return columns

    def _decode(self) -> Iterator[RawChunk]:
        for rows in self._rows():
            chunk, unusable = to_chunk(rows["t"], rows["x"], rows["y"], rows["p"], self.time_unit)
            self._count("unknown_records", unusable)
            yield chunk
        self._count("dropped_bytes", self._leftover)

    def _tracks_of(self, member: Member) -> list[Track]:
        """Tracks of a single array that holds all four columns."""
        if member.dtype.names is not None and len(member.shape) == 1:
            matched = match_names(member.dtype.names)
            if len(matched) == 4 and all(member.dtype[name].kind in "biuf" for name in matched.values()):
                dtype = member.dtype[
                    [matched[name] for name in "txyp"]
                ]  # keeps the offsets and the row's size
                return [Track(member, 0, dtype, member.shape[0], tuple("txyp"))]
        if member.dtype.names is None and len(member.shape) == 2 and 4 in member.shape:
            return self._tracks_of_matrix(member)
        raise FormatError(
            f"Expected {self.name} to hold t, x, y and p, a structured array of them or an N×4 array, but "
            f"got shape {member.shape} of {member.dtype}."
        )

    @staticmethod
    def _tracks_of_matrix(member: Member) -> list[Track]:
        wide = member.shape[1] != 4  # [4, N]: its rows lie like the columns of a Fortran-ordered [N, 4]
        rows = member.shape[1] if wide else member.shape[0]
        if wide != member.fortran:
            step = rows * member.dtype.itemsize
            return [Track(member, i * step, member.dtype, rows, (str(i),)) for i in range(4)]
        row = np.dtype([(str(i), member.dtype) for i in range(4)])
        return [Track(member, 0, row, rows, ("0", "1", "2", "3"))]


@READERS.register("npy")
class NpyReader(ArrayReader):
    """Reads a structured array with fields for t, x, y, p, or an N×4 or 4×N array; never unpickles.

    Example:
        >>> NpyReader("events.npy", columns="xytp", sensor_size=(260, 346)).read()  # doctest: +SKIP

    Arguments as of :class:`TableReader`. Without `sensor_size` the largest coordinates decide; a warning
    says so.
    """

    format = "npy"
    extensions = (".npy",)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """NumPy's magic bytes."""
        return head.startswith(b"\x93NUMPY")

    def _find_tracks(self) -> tuple[list[Track], SensorSize | None]:
        return self._tracks_of(read_member(self.name, _Opener(self.path))), None


@READERS.register("npz")
class NpzReader(ArrayReader):
    """Reads an archive of arrays named t, x, y, p, or by another name in `columns.ALIASES`.

    Example:
        >>> NpzReader("events.npz").read()  # doctest: +SKIP

    One structured or N×4 array under any name is read too. `sensor_size` [2] as (H, W), or `height` and
    `width`, may lie beside them. Compressed and plain members alike are streamed, and nothing is ever
    unpickled.
    """

    format = "npz"
    extensions = (".npz",)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """A zip archive whose first member is an array."""
        return head.startswith(b"PK\x03\x04") and b".npy" in head[30:300]

    def _find_tracks(self) -> tuple[list[Track], SensorSize | None]:
        path = self.path
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".npy")]
                unpacked = sum(member.file_size for member in archive.infolist())
        except DAMAGED as error:
            raise FormatError(
                f"Expected {self.name} to be a whole npz archive, but got: {error}. A cut npz cannot "
                "be read: the directory of an archive is at its end."
            ) from None
        refuse_bomb(self.name, path.stat().st_size, unpacked)
        matched = match_names(name[:-4] for name in names)
        size = self._stated_size(path, names)
        if len(matched) == 4:
            tracks = [
                self._column(name, self._member(path, f"{stored}.npy")) for name, stored in matched.items()
            ]
            if len({track.rows for track in tracks}) > 1:
                rows = {track.names[0]: track.rows for track in tracks}
                raise FormatError(f"Expected columns of one length in {self.name}, but got {rows}.")
            return tracks, size
        for name in names:
            member = self._member(path, name)
            if len(member.shape) == 2 or member.dtype.names:
                return self._tracks_of(member), size
        raise FormatError(
            f"Expected {self.name} to hold arrays t, x, y and p, a structured array or an N×4 array, but got "
            f"{[name[:-4] for name in names]}."
        )

    def _member(self, path: Path, name: str) -> Member:
        return read_member(f"{self.name}:{name}", _Opener(path, name))

    def _column(self, name: str, member: Member) -> Track:
        if len(member.shape) != 1 or member.dtype.names:
            raise FormatError(f"Expected {member.name} to be of shape [n], but got {member.shape}.")
        return Track(member, 0, member.dtype, member.shape[0], (name,))

    def _stated_size(self, path: Path, names: list[str]) -> SensorSize | None:
        numbers: list[int] = []
        for name in ("sensor_size.npy", "height.npy", "width.npy"):
            if name not in names:
                continue
            member = self._member(path, name)
            if member.dtype.kind not in "iuf" or member.dtype.itemsize > 8:
                continue
            with member.open() as file:
                file.seek(member.start)
                data = _read_up_to(file, member.dtype.itemsize * 2)
            values = np.frombuffer(
                data[: len(data) // member.dtype.itemsize * member.dtype.itemsize], member.dtype
            )
            numbers += [int(value) for value in values if np.isfinite(value)]
        return (numbers[0], numbers[1]) if len(numbers) >= 2 else None


@dataclass(frozen=True)
class _Opener:
    """Opens a file, or a member of an archive; a class and no closure, so that a reader can be pickled."""

    path: Path
    member: str | None = None

    def __call__(self) -> IO[bytes]:
        if self.member is None:
            return self.path.open("rb")
        with zipfile.ZipFile(self.path) as archive:
            return archive.open(self.member)  # keeps the archive's file open until it is closed itself


def read_member(name: str, opener: Callable[[], IO[bytes]]) -> Member:
    """The header of an array, without its data.

    Raises:
        FormatError: no NumPy array, one of objects, or one with absurd rows.
    """
    try:
        with opener() as file:
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(file)
            start = file.tell()
    except Exception as error:  # the parser raises whatever a broken byte leads it to
        raise FormatError(f"Expected {name} to be a NumPy array, but got: {error}.") from None
    plain = dtype.names is not None or dtype.kind in "biuf"
    if dtype.hasobject or not plain or not 0 < dtype.itemsize <= MAX_ROW_BYTES:
        raise FormatError(
            f"Expected {name} to hold numbers, but got {dtype}. Pickled objects are never loaded."
        )
    if any(side < 0 for side in shape):
        raise FormatError(f"Expected {name} to have a shape, but got {shape}.")
    return Member(name, opener, start, dtype, shape, fortran)


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """Up to `size` bytes; fewer where the file is cut or damaged."""
    parts: list[bytes] = []
    try:
        while size and (part := file.read(min(size, 2**20))):
            parts.append(part)
            size -= len(part)
    except DAMAGED:
        pass  # what was complete is kept; the caller counts what is missing
    return b"".join(parts)
