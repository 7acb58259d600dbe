"""What every reader shares: opening, range and order checks, whole reads and windows in constant memory."""

from __future__ import annotations

import io
import operator
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, FormatError
from evlift.events.readers.chunk import (
    CHUNK_EVENTS,
    SLACK_US,
    GrowingColumns,
    Mark,
    Problems,
    RawChunk,
    RecordingWarning,
)
from evlift.events.readers.source import GIVE_SENSOR, Source, buffered, checked_source, system_errors_of
from evlift.events.readers.windowing import windows_of
from evlift.events.stream import MAX_PIXELS, EventStream
from evlift.registry import Registry

READERS = Registry("event format")

SensorSize = tuple[int, int]

MAX_HELD = 2**20
"""Events held back for late ones, at most, however dense they are."""


class Reader(ABC):
    """A recording that is open for reading; subclass it and register it to add a format.

    A subclass states `format` and `extensions`, tells in :meth:`sniff` whether a file is its own, reads its
    header in :meth:`_inspect` and yields columns in :meth:`_decode`. Everything else is here: range and order
    checks, counts and warnings, whole reads and windows. Options of a format are keyword arguments of its
    constructor, which sets them before it calls this one.

    Args:
        source: path, or a binary stream (one pass only) where the format allows.
        sensor_size: (H, W), overrides the file's own.
        strict: raise :class:`FormatError` at the first problem instead of counting and warning.

    Raises:
        FormatError: the file is missing, is not of this format, or states an impossible size.
    """

    format: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]] = ()
    headerless: ClassVar[bool] = False
    """True if content alone cannot prove the format: the extension must match as well."""
    max_side: ClassVar[int] = 16_384
    """Longest side of a sensor that the format can address."""
    seeks: ClassVar[bool] = False
    """Whether the file itself knows where a time lies, so that a range costs the same anywhere in it."""
    mark: Mark | None = None
    """Where the chunk that :meth:`chunks` gave last can be decoded from; None where the format cannot say."""
    _begins_at: Mark | None = None

    def __init__(
        self, source: Source, *, sensor_size: SensorSize | None = None, strict: bool = False
    ) -> None:
        self.source: Path | BinaryIO = checked_source(source)
        self.strict = strict
        self.problems = Problems()
        self.detected: tuple[str, ...] = ()  # what the file does not state and was found out or assumed
        given = None if sensor_size is None else self.checked_size(*_pair(sensor_size))
        with system_errors_of(self.name):
            stated = self._inspect(given)
        self.sensor_size: SensorSize = self.checked_size(*stated)

    @property
    def guesses_sensor(self) -> bool:
        """Whether the file does not state its sensor, and nobody else did."""
        return any("sensor" in what for what in self.detected)

    def assume_sensor(self, usual: SensorSize) -> None:
        """Take a recording that does not state its sensor for one of `usual` (H, W), if its events fit on that."""
        if self.guesses_sensor and all(a <= b for a, b in zip(self.sensor_size, usual, strict=True)):
            self.sensor_size = usual

    @classmethod
    @abstractmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """Whether the first bytes (up to 64 KiB; the file at `path`, if there is one) are of this format."""

    @abstractmethod
    def _inspect(self, sensor_size: SensorSize | None) -> SensorSize:
        """Read the header; return (H, W): `sensor_size` if given, else the file's, else the default."""

    @abstractmethod
    def _decode(self) -> Iterator[RawChunk]:
        """One pass over the file: chunks of bounded size in file order, with p as bool and t in µs.

        Coordinates may be of any integer type and out of range: the caller checks. Losses go to
        :meth:`_count`.
        """

    def chunks(self) -> Iterator[RawChunk]:
        """Raw columns of bounded size in file order, range-checked but not sorted; restarts `problems`.

        Example:
            >>> sum(len(chunk) for chunk in open_reader("recording.raw").chunks())  # doctest: +SKIP
            219596
        """
        self.problems = Problems()
        try:
            with system_errors_of(self.name), closing(_as_generator(self._decode())) as decoded:
                yield from self._checked(decoded)
        finally:
            if self.problems and not self.strict:
                warnings.warn(f"{self.name}: {self.problems}.", RecordingWarning, stacklevel=2)

    def chunks_between(
        self, start_us: int | None = None, stop_us: int | None = None, *, mark: Mark | None = None
    ) -> Iterator[RawChunk]:
        """The events with ``start_us <= t < stop_us`` as :meth:`chunks` gives them, in constant memory.

        Args:
            start_us, stop_us: time range; None is open.
            mark: a place before it from an earlier pass (:attr:`mark`), to begin there and not at the file's start.
        """
        self._begins_at = mark
        try:
            yield from self._within(start_us, stop_us)
        finally:
            self._begins_at = None

    def columns(self, start_us: int | None = None, stop_us: int | None = None) -> RawChunk:
        """All events with ``start_us <= t < stop_us`` as columns in file order, unsorted."""
        found = GrowingColumns()
        for chunk in self._within(start_us, stop_us):
            found.append(chunk)
        return found.filled

    def read(self, start_us: int | None = None, stop_us: int | None = None) -> EventStream:
        """All events with ``start_us <= t < stop_us``, stably sorted by time.

        Reading ends at the first chunk that lies wholly more than `SLACK_US` after `stop_us`.
        """
        found = self.columns(start_us, stop_us)
        return self._stream(_sorted(found) if self.problems.backward_steps else found)

    def windows(
        self,
        *,
        duration_us: int | None = None,
        n_events: int | None = None,
        stride: int | None = None,
        drop_last: bool = False,
        start_us: int | None = None,
        stop_us: int | None = None,
    ) -> Iterator[EventStream]:
        """Windows as :meth:`EventStream.windows` cuts them, in memory that does not grow with the file.

        Events are held back until they are `SLACK_US` older than the newest one (at most `MAX_HELD` of
        them), so that late ones find their place; one that comes later still is dropped and counted as
        `late_events`.

        Raises:
            ValueError: not exactly one of `duration_us` and `n_events`, or one that is not positive.
            FormatError: a gap of more than a million empty windows, as a broken time stamp makes it.
        """
        return windows_of(
            self.pieces(start_us, stop_us),
            duration_us=duration_us,
            n_events=n_events,
            stride=stride,
            drop_last=drop_last,
        )

    def pieces(self, start_us: int | None = None, stop_us: int | None = None) -> Iterator[EventStream]:
        """Consecutive streams of bounded size in the order of time, of which :meth:`windows` cuts windows."""
        return (self._stream(chunk) for chunk in self._ordered(start_us, stop_us))

    @property
    def name(self) -> str:
        """The file's name for messages."""
        return str(self.source) if isinstance(self.source, Path) else f"<{self.format} stream>"

    @property
    def path(self) -> Path:
        """The file's path, for formats that cannot be read from a stream."""
        if not isinstance(self.source, Path):
            raise FormatError(
                f"Expected a path for {self.format}, but got a stream. Save it to a file first."
            )
        return self.source

    def checked_size(self, height: int, width: int) -> SensorSize:
        """(H, W) as integers, refused if the format cannot address such a sensor or no memory could hold it."""
        if not (0 < height <= self.max_side and 0 < width <= self.max_side):
            raise FormatError(
                f"Expected a sensor size within 1 to {self.max_side} for {self.format}, but got (H, W) = "
                f"({height}, {width}) for {self.name}. {GIVE_SENSOR}"
            )
        if height * width > MAX_PIXELS:
            raise FormatError(
                f"Expected a sensor of at most {MAX_PIXELS} pixels, but got (H, W) = ({height}, {width}) for "
                f"{self.name}. {GIVE_SENSOR}"
            )
        return int(height), int(width)

    def _count(self, problem: str, count: int) -> None:
        """Add to a count of :class:`Problems`; in strict mode raise instead."""
        if count <= 0:
            return
        setattr(self.problems, problem, getattr(self.problems, problem) + count)
        if self.strict:
            raise FormatError(
                f"{self.name}: {self.problems}. To keep the rest, leave --strict out (in Python: strict=False)."
            )

    def _announce(self, detected: list[str]) -> None:
        """Say in a warning, and keep in `detected`, what was found out rather than stated."""
        self.detected = tuple(detected)
        if detected:
            warnings.warn(
                f"{self.name}: detected {'; '.join(detected)}. If that is wrong, state it: --sensor HxW (in Python: "
                "sensor_size=(H, W), columns=, time_unit=).",
                RecordingWarning,
                stacklevel=5,
            )

    def _checked(self, chunks: Iterator[RawChunk]) -> Iterator[RawChunk]:
        newest: int | None = None
        for chunk in chunks:
            kept = self._inside(chunk)
            if not len(kept):
                continue
            self._count_backward(kept.t, newest)
            newest = int(kept.t[-1])
            yield kept

    def _inside(self, chunk: RawChunk) -> RawChunk:
        height, width = self.sensor_size
        if len(chunk) and (_exceeds(chunk.x, width) or _exceeds(chunk.y, height)):
            inside = (chunk.x >= 0) & (chunk.x < width) & (chunk.y >= 0) & (chunk.y < height)
            self._count("out_of_range", len(chunk) - int(np.count_nonzero(inside)))
            chunk = chunk.take(inside)
        return RawChunk(
            chunk.t, chunk.x.astype(np.uint16, copy=False), chunk.y.astype(np.uint16, copy=False), chunk.p
        )

    def _count_backward(self, t: NDArray[np.int64], newest: int | None) -> None:
        steps = int(np.count_nonzero(t[1:] < t[:-1]))
        if newest is not None and t[0] < newest:
            steps += 1
        self._count("backward_steps", steps)

    def _within(self, start_us: int | None, stop_us: int | None) -> Iterator[RawChunk]:
        """Chunks cut to a time range; ends early once the file is past it."""
        with closing(_as_generator(self.chunks())) as chunks:
            for chunk in chunks:
                if stop_us is not None and chunk.t.min() >= stop_us + SLACK_US:
                    return
                yield _cut(chunk, start_us, stop_us)

    def _ordered(self, start_us: int | None, stop_us: int | None) -> Iterator[RawChunk]:
        """Chunks in time order; holds back events that may still be overtaken."""
        held = RawChunk.concatenate([])
        released: int | None = None
        for chunk in self._within(start_us, stop_us):
            merged = _sorted(RawChunk.concatenate([held, chunk]))
            if released is not None and len(merged) and merged.t[0] < released:
                late = int(np.searchsorted(merged.t, released))
                self._count("late_events", late)
                merged = merged.take(slice(late, None))
            if not len(merged):
                held = merged
                continue
            ripe = max(int(np.searchsorted(merged.t, merged.t[-1] - SLACK_US)), len(merged) - MAX_HELD)
            if ripe:
                released = int(merged.t[ripe - 1])
                yield merged.take(slice(ripe))
            held = merged.take(slice(ripe, None))
        yield held

    def _stream(self, chunk: RawChunk) -> EventStream:
        return EventStream(chunk.t, chunk.x, chunk.y, chunk.p, self.sensor_size)


class RecordReader(Reader):
    """A reader of a byte stream, be it a file or a pipe: a header, then records of a fixed size.

    A subclass states `record_bytes`, reads the header in :meth:`_read_header` and turns blocks of whole
    records into chunks in :meth:`_decode_blocks`.
    """

    record_bytes: ClassVar[int]
    block_records: ClassVar[int] = CHUNK_EVENTS
    _state: NDArray[np.int64] | None = None

    @abstractmethod
    def _read_header(self, file: io.BufferedReader, sensor_size: SensorSize | None) -> SensorSize:
        """Read up to the first record; return the sensor size as :meth:`Reader._inspect` does."""

    @abstractmethod
    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        """Chunks of blocks uint8 [k · record_bytes]; a block is valid until the next one is asked for."""

    def _inspect(self, sensor_size: SensorSize | None) -> SensorSize:
        self._stream_file: io.BufferedReader | None = None
        if not isinstance(self.source, Path):
            self._stream_file = buffered(self.source)
            return self._read_header(self._stream_file, sensor_size)
        with self.source.open("rb") as file:
            size = self._read_header(file, sensor_size)
            self._data_start = file.tell()
        return size

    def _decode(self) -> Iterator[RawChunk]:
        if isinstance(self.source, Path):
            begin = self._begins_at.offset if self._begins_at else self._data_start
            with self.source.open("rb") as file:
                file.seek(begin)
                yield from self._decode_blocks(self._blocks(file, begin))
            return
        if self._stream_file is None:
            raise FormatError(f"Expected {self.name} to be read once, but a second pass was asked for.")
        file, self._stream_file = self._stream_file, None
        yield from self._decode_blocks(self._blocks(file))

    def _started(self, *fresh: int) -> NDArray[np.int64]:
        """The decoder's state: `fresh`, or as it was at the mark that the pass begins at; makes marks possible."""
        begin = self._begins_at
        self._state = np.array(fresh, np.int64) if begin is None else begin.state.copy()
        return self._state

    def _blocks(self, file: io.BufferedReader, at: int = 0) -> Iterator[NDArray[np.uint8]]:
        buffer = np.empty(self.block_records * self.record_bytes, np.uint8)
        rest = 0
        while got := file.readinto1(buffer[rest:].data):
            whole = (rest + got) // self.record_bytes * self.record_bytes
            rest += got - whole
            if whole:
                self.mark = None if self._state is None else Mark(at, self._state.copy())
                yield buffer[:whole]
                at += whole
                buffer[:rest] = buffer[whole : whole + rest]
        self._count("dropped_bytes", rest)


def _pair(sensor_size: Any) -> SensorSize:
    try:
        height, width = map(operator.index, sensor_size)
    except (TypeError, ValueError):
        said = f"Expected `sensor_size` to be (H, W) in whole pixels, but got {sensor_size!r}."
        raise ConfigError(f"{said} {GIVE_SENSOR}") from None
    return height, width


def require_options(reader: Any, options: dict[str, Any]) -> None:
    """Turn an unknown keyword of a reader into a message that names the known ones."""
    import inspect

    known = [name for name in inspect.signature(reader).parameters if name != "source"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"Unknown option {unknown} for the format '{reader.format}'. Known: {known}.")


def _as_generator(iterator: Iterator[RawChunk]) -> Any:
    """Iterators that cannot be closed get a generator around them."""
    return iterator if hasattr(iterator, "close") else (item for item in iterator)


def _exceeds(column: NDArray[Any], limit: int) -> bool:
    if column.dtype.kind != "u" and column.min() < 0:
        return True
    return bool(column.max() >= limit)


def _sorted(chunk: RawChunk) -> RawChunk:
    if not np.any(chunk.t[1:] < chunk.t[:-1]):
        return chunk
    return chunk.take(np.argsort(chunk.t, kind="stable"))


def _cut(chunk: RawChunk, start_us: int | None, stop_us: int | None) -> RawChunk:
    if start_us is None and stop_us is None:
        return chunk
    keep = np.ones(len(chunk), np.bool_)
    if start_us is not None:
        keep &= chunk.t >= start_us
    if stop_us is not None:
        keep &= chunk.t < stop_us
    return chunk.take(keep)
