"""Where a recording comes from: a path that leads to a file, or a stream of bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from evlift.errors import FormatError

GIVE_SENSOR = "Give the right size: --sensor HxW (in Python: sensor_size=(H, W))."
Source = str | os.PathLike[str] | BinaryIO

FREE_BYTES, MOST_TIMES = 2**30, 200
"""What a file may unpack to at any size, and how many times its size beyond that (decided here): events shrink 2 to
20 times, zeros a thousand times."""


def refuse_bomb(name: str, packed: int, unpacked: int) -> None:
    """Refuse content that unpacks to so many times its size that no recording can be in it.

    Raises:
        FormatError: over 200 times and over 1 GiB.
    """
    if unpacked > max(FREE_BYTES, MOST_TIMES * packed):
        raise FormatError(
            f"Expected a recording in {name}, but its {packed} bytes unpack to {unpacked}, over {MOST_TIMES} times as "
            "many. If you trust it, save it uncompressed with the program that made it."
        )


def checked_source(source: Source) -> Path | BinaryIO:
    """A path that leads to a file, or a stream of bytes; anything else is refused in plain words."""
    if not isinstance(source, (str, os.PathLike)):
        if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
            raise FormatError(
                f"Expected `source` to be a path or a stream of bytes, but got {type(source).__name__}. Open files "
                'with "rb", and take `.buffer` of `sys.stdin`.'
            )
        return source
    path = Path(source)
    with system_errors_of(str(path)):
        if path.is_dir():
            raise FormatError(f"Expected a recording, but got the folder '{path}'. Name one file in it.")
        if not path.exists():
            raise FormatError(f"Expected a recording at '{path}', but there is no such file.")
        if not path.is_file():
            raise FormatError(
                f"Expected '{path}' to be a file, but it is a pipe or a device. Open it as a stream."
            )
    return path


@contextmanager
def system_errors_of(name: str) -> Iterator[None]:
    """Turn what the system refuses (a file that is gone, that may not be read, a broken disk) into a FormatError."""
    try:
        yield
    except OSError as error:
        raise FormatError(
            f"Expected to read {name}, but the system says: {error.strerror or error}."
        ) from None


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes were already taken and are handed out again."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._head:
            read = getattr(self._stream, "read1", self._stream.read)
            self._head = read(len(buffer)) or b""
        taken, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def buffered(stream: BinaryIO, head: bytes = b"") -> io.BufferedReader:
    """`stream` with peek and partial reads, `head` put back in front of it."""
    if isinstance(stream, io.BufferedReader) and not head:
        return stream
    return io.BufferedReader(_Prefixed(head, stream), 2**16)
