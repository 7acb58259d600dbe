"""MATLAB version 5 files: their numeric arrays, read without trust in what the file claims.

SciPy's reader ends the process on some damaged files, so this one is ours.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.readers.source import refuse_bomb

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""How numbers are stored, by the type in an element's tag."""

NUMERIC_CLASSES = range(6, 16)
MAX_DIMENSIONS = 32
MAX_NAME = 1024
STEP = 2**20


class _Inflated:
    """A compressed element as a stream of bytes, inflated no further than was asked."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left, self._size, self._given = file, size, size, 0
        self._inflate = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            data = self._inflate.unconsumed_tail
            if not data:
                data = self._file.read(min(self._left, 2**16))
                self._left -= len(data)
            part = self._inflate.decompress(data, size)
            if not part and not data:
                break
            parts.append(part)
            size -= len(part)
            self._given += len(part)
            refuse_bomb("a compressed array", self._size, self._given)
        return b"".join(parts)


def read_arrays(path: Path, variable: str | None = None) -> dict[str, NDArray[Any]]:
    """The real numeric arrays of a file by name, or the one that is named.

    Raises:
        FormatError: no version 5 file, or one that is cut or damaged.
    """
    size = path.stat().st_size
    arrays: dict[str, NDArray[Any]] = {}
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        order = {b"IM": "<", b"MI": ">"}.get(header[126:])
        if order is None:
            raise FormatError(
                f"Expected {path} to be a MATLAB file of version 5 or 7.3, but its header is not."
            )
        for kind, length, start in _elements(file, order, size):
            try:
                arrays |= _arrays_in(file, kind, length, order, variable)
            except (zlib.error, struct.error, ValueError, EOFError) as error:
                raise FormatError(f"Expected {path} to be whole, but at byte {start} got: {error}.") from None
    return arrays


def _elements(file: IO[bytes], order: str, size: int) -> Iterator[tuple[int, int, int]]:
    """Type, length and place of each element at the top of the file; the file stands behind its tag."""
    at = HEADER_BYTES
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack(f"{order}2I", file.read(8))
        yield kind, length, at
        at += 8 + length + (0 if kind == COMPRESSED else -length % 8)


def _arrays_in(
    file: IO[bytes], kind: int, length: int, order: str, wanted: str | None
) -> dict[str, NDArray[Any]]:
    """The array of an element by its name; nothing if the element is something else."""
    stream: Any = file
    if kind == COMPRESSED:
        stream = _Inflated(file, length)
        kind, _, _ = _tag(stream, order)
    found = _matrix(stream, order, wanted) if kind == MATRIX else None
    return {} if found is None else dict([found])


def _tag(stream: Any, order: str) -> tuple[int, int, bytes]:
    """Type and length of the element that follows, and its data if that lies within the tag."""
    first, second = _exactly(stream, 4), _exactly(stream, 4)
    (word,) = struct.unpack(f"{order}I", first)
    if word >> 16:
        return word & 0xFFFF, word >> 16, second
    return word, struct.unpack(f"{order}I", second)[0], b""


def _element(stream: Any, order: str, limit: int) -> tuple[int, bytes]:
    """Type and data of the element that follows, which may be of at most `limit` bytes."""
    kind, length, data = _tag(stream, order)
    if length > limit or (data and length > 4):
        raise ValueError(f"an element of {length} bytes where at most {limit} can be")
    if data:
        return kind, data[:length]
    return kind, _exactly(stream, length + -length % 8)[:length]


def _matrix(stream: Any, order: str, wanted: str | None) -> tuple[str, NDArray[Any]] | None:
    """Name and array of a matrix; None for another class, or another name than the one wanted."""
    flags = struct.unpack(f"{order}2I", _element(stream, order, 8)[1])[0]
    _, sides = _element(stream, order, 4 * MAX_DIMENSIONS)
    shape = tuple(int(side) for side in np.frombuffer(sides, f"{order}i4"))
    name = _element(stream, order, MAX_NAME)[1].decode("latin-1")
    if flags & 0xFF not in NUMERIC_CLASSES or flags & 0x0800 or (wanted is not None and name != wanted):
        return None
    if any(side < 0 for side in shape):
        raise ValueError(f"'{name}' of shape {shape}")
    count = int(np.prod(np.array(shape, object)))
    kind, length, data = _tag(stream, order)
    if kind not in STORED:
        raise ValueError(f"numbers of type {kind} in '{name}'")
    dtype = np.dtype(f"{order}{STORED[kind]}")
    if length != count * dtype.itemsize:
        raise ValueError(
            f"{length} bytes of '{name}' where its shape {shape} asks for {count * dtype.itemsize}"
        )
    content = data[:length] if data else _exactly(stream, length)
    return name, np.frombuffer(content, dtype).reshape(shape, order="F")


def _exactly(stream: Any, size: int) -> bytes:
    """`size` bytes, taken in steps so that a length the file does not have costs no memory."""
    parts: list[bytes] = []
    left = size
    while left and (part := stream.read(min(left, STEP))):
        parts.append(part)
        left -= len(part)
    if left:
        raise EOFError(f"{size - left} bytes where {size} should be")
    return b"".join(parts)
