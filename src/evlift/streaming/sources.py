"""What is predicted on: a file, a folder, a pipe, a file that grows; one open reader after the other."""

from __future__ import annotations

import io
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from evlift.errors import ConfigError, DataError
from evlift.events import READERS, Reader, open_reader
from evlift.events.readers import RecordReader, detect_format, readable_suffixes
from evlift.files import files_below
from evlift.streaming.live import FollowedFile, LiveBytes, PipeBytes

HEAD_BYTES = 4096  # of a stream, before its format is told: longer than the headers in use
BUFFER_BYTES = (
    2**21
)  # above any block of a reader: else Python waits for more before it hands out what it has
SensorSize = tuple[int, int]
AnySource = str | Path | BinaryIO


@dataclass(frozen=True)
class Opened:
    """A recording that is open.

    Args:
        reader: of its events.
        live: its bytes, if they are still coming.
    """

    reader: Reader
    live: LiveBytes | None = None


@dataclass(frozen=True)
class Source:
    """A recording by name, not open yet; `open()` does that."""

    name: str
    open: Callable[[], Opened]


@dataclass(frozen=True)
class Sources:
    """All recordings that one call predicts on.

    Args:
        items: in order.
        folder: they were found in a folder: one that cannot be read does not end the others.
        live: bytes that are still coming, for the one recording that is endless.
    """

    items: tuple[Source, ...]
    folder: bool = False
    live: LiveBytes | None = None

    def __iter__(self) -> Iterator[Source]:
        return iter(self.items)


@dataclass(frozen=True)
class HowToRead:
    """What is said about the recordings.

    Args:
        format: where content cannot tell it.
        sensor_size: (H, W), overrides the files' own.
        usual_size: (H, W) of the network's recordings, for files that state none if their events fit on it.
        follow: the file is still being written.
        idle_s: how long a followed file may stay as it is before it counts as finished.
    """

    format: str | None
    sensor_size: SensorSize | None
    usual_size: SensorSize
    follow: bool
    idle_s: float


def find_sources(source: AnySource, how: HowToRead) -> Sources:
    """The recordings behind a path, "-" or a binary stream.

    Raises:
        ConfigError: `follow` for something else than a file.
        DataError: a folder without a recording.
    """
    if source == "-":
        if sys.stdin is None:  # `<&-`, or a service without one
            raise ConfigError(
                "Expected a recording on standard input, but it is closed. Pipe one into it, or name a file."
            )
        if sys.stdin.isatty():
            raise ConfigError("Expected a recording on standard input, but got a terminal. Pipe one into it.")
        return _stream("standard input", PipeBytes(sys.stdin.buffer), how)
    if not isinstance(source, str | Path):
        return _stream(getattr(source, "name", "a stream"), PipeBytes(source), how)
    path = Path(source)
    if path.is_dir():
        return _folder(path, how)
    if _is_pipe(path):
        return _stream(str(path), PipeBytes(path.open("rb", buffering=0)), how)
    if how.follow:
        return _live(str(path), FollowedFile(path, how.idle_s), how)
    return Sources((Source(str(path), partial(_open_file, path, how)),))


def _folder(path: Path, how: HowToRead) -> Sources:
    if how.follow:
        raise ConfigError(f"Expected a file to follow, but got the folder {path}. Name one file in it.")
    files = files_below(path, readable_suffixes())
    if not files:
        known = " ".join(sorted(readable_suffixes()))
        raise DataError(f"Expected recordings below {path}, but there is no file with one of {known}.")
    items = (Source(str(file.relative_to(path)), partial(_open_file, file, how)) for file in files)
    return Sources(tuple(items), folder=True)


def _is_pipe(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _stream(name: str, live: LiveBytes, how: HowToRead) -> Sources:
    if how.follow:
        raise ConfigError(f"Expected a file to follow, but got {name}, which is read to its end anyway.")
    return _live(name, live, how)


def _live(name: str, live: LiveBytes, how: HowToRead) -> Sources:
    return Sources((Source(name, partial(_open_live, name, live, how)),), live=live)


def _open_file(path: Path, how: HowToRead) -> Opened:
    return Opened(_assumed(open_reader(path, format=how.format, sensor_size=how.sensor_size), how))


def _open_live(name: str, live: LiveBytes, how: HowToRead) -> Opened:
    file = io.BufferedReader(_WithHead(live, HEAD_BYTES), BUFFER_BYTES)
    format = how.format or detect_format(file.peek(), None)
    kind: Any = READERS[format]
    if not issubclass(kind, RecordReader):
        streamed = ", ".join(n for n in READERS if issubclass(READERS[n], RecordReader))  # type: ignore[arg-type]
        raise ConfigError(
            f"Expected a format that can be read while it is written, but got {format} from {name}. These can: "
            f"{streamed}. Predict on the finished file instead."
        )
    size = how.sensor_size or (how.usual_size if kind.headerless else None)
    reader = open_reader(file, format=format, sensor_size=size)
    return Opened(_assumed(reader, how), live)


def _assumed(reader: Reader, how: HowToRead) -> Reader:
    if how.sensor_size is None:
        reader.assume_sensor(how.usual_size)
    return reader


class _WithHead(io.RawIOBase):
    """A stream whose first read brings enough to tell its format, however small the pieces are that come."""

    def __init__(self, live: LiveBytes, head_bytes: int) -> None:
        self._live, self._wanted = live, head_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view, got = memoryview(buffer), 0
        while True:
            more = self._live.readinto(view[got:])
            got += more
            if not more or got >= min(self._wanted, len(view)):
                break
        self._wanted = 0
        return got
