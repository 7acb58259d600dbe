"""What every writer shares: the registry, the checks before a byte is written, and atomic files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.stream import MAX_PIXELS, EventStream
from evlift.files import atomic_path
from evlift.registry import Registry

WRITERS = Registry("output format")

BLOCK_EVENTS = 2**17


class Writer(ABC):
    """A recording that is being written; subclass it and register it to add an output format.

    A subclass states `format` and `extensions` (those that mean this format when none is named), opens `path`
    in its constructor after it has called this one, and writes blocks in :meth:`_write`. What the format
    cannot hold it refuses in :meth:`_check`, never clips.

    Args:
        path: file to write; :func:`write_events` hands a temporary one.
        sensor_size: (H, W) of every stream.
    """

    format: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, sensor_size: tuple[int, int]) -> None:
        if sensor_size[0] * sensor_size[1] > MAX_PIXELS:
            raise FormatError(
                f"Expected a sensor of at most {MAX_PIXELS} pixels, as readers do, but got (H, W) = {sensor_size}."
            )
        self.path = path
        self.sensor_size = sensor_size
        self.last_t: int | None = None

    def write(self, stream: EventStream) -> None:
        """Append a stream of the same sensor that starts no earlier than the last one ended.

        Raises:
            FormatError: another sensor, a step back in time, or events that the format cannot hold.
        """
        if stream.sensor_size != self.sensor_size:
            raise FormatError(
                f"Expected streams of one sensor (H, W) = {self.sensor_size}, but got {stream.sensor_size}."
            )
        for start in range(0, len(stream), BLOCK_EVENTS):
            block = stream[start : start + BLOCK_EVENTS]
            if self.last_t is not None and block.t[0] < self.last_t:
                raise FormatError(
                    f"Expected streams in the order of time, but got {block.t[0]} µs after {self.last_t} µs. "
                    "Sort or join them first."
                )
            self._check(block)
            self._write(block)
            self.last_t = int(block.t[-1])

    def close(self) -> None:  # noqa: B027 (not every format has anything left)
        """Write what is left and close the file."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, block: EventStream) -> None:  # noqa: B027 (some formats hold everything)
        """Raise :class:`FormatError` for events that the format cannot hold."""

    @abstractmethod
    def _write(self, block: EventStream) -> None:
        """Append a checked block of at least one and at most 2^17 events."""


class RecordWriter(Writer):
    """A writer of a byte stream: a header, then the records of each block.

    A subclass gives :meth:`_header` and :meth:`_encode`, and states what its records can address.
    """

    max_x: ClassVar[int]
    max_y: ClassVar[int]
    max_t: ClassVar[int]
    """Largest time in µs that can be written without an excess of records that carry time alone."""

    def __init__(self, path: Path, sensor_size: tuple[int, int]) -> None:
        super().__init__(path, sensor_size)
        self._file = path.open("wb")
        self._file.write(self._header())

    def close(self) -> None:
        self._file.close()

    def _header(self) -> bytes:
        return b""

    @abstractmethod
    def _encode(self, block: EventStream) -> NDArray[Any]:
        """The records of a block, in the byte order of the file."""

    def _write(self, block: EventStream) -> None:
        self._file.write(self._encode(block).data)

    def _check(self, block: EventStream) -> None:
        for name, high in (("x", self.max_x), ("y", self.max_y), ("t", self.max_t)):
            column = getattr(block, name)
            if column.min() < 0 or column.max() > high:
                raise FormatError(
                    f"Expected `{name}` in [0, {high}], all that {self.format} can hold, but got "
                    f"[{column.min()}, {column.max()}]. Crop the events or shift their times (evlift convert has "
                    "--crop and --from-zero), or choose HDF5."
                )


def write_events(
    path: str | Path,
    events: EventStream | Iterable[EventStream],
    *,
    format: str | None = None,
    check: Callable[[Path], None] | None = None,
    **options: Any,
) -> None:
    """Write a stream, or consecutive streams of one recording, to a file that appears only when it is whole.

    Example:
        >>> write_events("copy.raw", open_reader("in.dat").windows(duration_us=10_000))  # doctest: +SKIP

    Args:
        path: where to; the extension chooses the format unless `format` does (``.raw`` means EVT3).
        events: one stream, or an iterable of streams in the order of time: the memory needed is one stream's.
        format: a name from `WRITERS`.
        check: called with the whole file before it gets its name; what it raises leaves no file.
        options: those of the format's writer.

    Raises:
        FormatError: an extension of no known format, no stream at all, or events that the format cannot
            hold. A file that was there before is kept.
        ConfigError: an unknown format name.
    """
    path = Path(path)
    writer: Any = WRITERS[format or format_of(path)]
    streams: Iterator[EventStream] = iter([events] if isinstance(events, EventStream) else events)
    first = next(streams, None)
    if first is None:
        raise FormatError(
            "Expected at least one stream, but got none. `EventStream.empty` is one without events."
        )
    with atomic_path(path) as part:
        with writer(part, first.sensor_size, **options) as opened:
            for stream in chain([first], streams):
                opened.write(stream)
        if check is not None:
            check(part)


def format_of(path: Path) -> str:
    """The output format that a path's extension names.

    Raises:
        FormatError: none does.
    """
    writers: list[Any] = [WRITERS[name] for name in WRITERS]
    for writer in writers:
        if path.suffix.lower() in writer.extensions:
            return str(writer.format)
    known = ", ".join(f"{writer.format} ({' '.join(writer.extensions) or 'by name'})" for writer in writers)
    raise FormatError(
        f"Expected an extension that names an output format, but got '{path.name}'. Can be written: {known}. "
        "Rename the file, or name the format: convert --to, simulate --format (in Python: format=)."
    )
