"""Opening a recording: the content decides, then the extension."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal, overload

from evlift.errors import FormatError
from evlift.events.readers.base import READERS, RawChunk, Reader, require_options
from evlift.events.readers.source import Source, buffered, checked_source, system_errors_of
from evlift.events.stream import EventStream

HEAD_BYTES = 2**16


def open_reader(source: Source, *, format: str | None = None, **options: Any) -> Reader:
    """Open a recording by its content, or as the `format` that is named.

    Example:
        >>> open_reader("recording.raw").sensor_size  # doctest: +SKIP
        (720, 1280)

    Args:
        source: path, or a binary stream such as ``sys.stdin.buffer`` (formats of fixed-size records only).
        format: a name from `READERS`; needed for a stream without a header, else detected.
        options: `sensor_size`, `strict` and the options of the format's reader.

    Raises:
        FormatError: no such file, a folder, an unknown format, or a file that is not what it says.
        ConfigError: an unknown format name or option.
    """
    opened = checked_source(source)
    if not isinstance(opened, Path):
        opened = buffered(opened)
    if format is None:
        format = detect_format(_head(opened), opened if isinstance(opened, Path) else None)
    reader: Any = READERS[format]
    require_options(reader, options)
    found: Reader = reader(opened, **options)
    return found


def _head(source: Path | io.BufferedReader) -> bytes:
    if not isinstance(source, Path):
        return source.peek()
    with system_errors_of(str(source)), source.open("rb") as file:
        return file.read(HEAD_BYTES)


def detect_format(head: bytes, path: Path | None) -> str:
    """The format of content that starts with `head`; formats without a header also need their extension.

    Raises:
        FormatError: nothing fits; the message lists what can be read.
    """
    what = f"'{path}'" if path is not None else "the stream"
    if not head and path is None:
        raise FormatError(
            "Expected a recording in the stream, but it is empty. If more comes later, name its format: --format (in "
            "Python: format=)."
        )
    readers: list[Any] = [READERS[name] for name in READERS]
    for reader in sorted(readers, key=lambda reader: reader.headerless):
        if reader.headerless and (path is None or path.suffix.lower() not in reader.extensions):
            continue
        if reader.sniff(head, path):
            return str(reader.format)
    known = ", ".join(f"{reader.format} ({' '.join(reader.extensions)})" for reader in readers)
    found = "its content fits no known format" if head else "it is empty"
    raise FormatError(
        f"Expected {what} to be a recording, but {found}. Can be read: {known}. If it is one of these, name it with "
        "--format (in Python: format=)."
    )


@overload
def read_events(
    source: Source,
    start_us: int | None = None,
    stop_us: int | None = None,
    *,
    format: str | None = None,
    sort: Literal[True] = True,
    **options: Any,
) -> EventStream: ...


@overload
def read_events(
    source: Source,
    start_us: int | None = None,
    stop_us: int | None = None,
    *,
    format: str | None = None,
    sort: Literal[False],
    **options: Any,
) -> RawChunk: ...


def read_events(
    source: Source,
    start_us: int | None = None,
    stop_us: int | None = None,
    *,
    format: str | None = None,
    sort: bool = True,
    **options: Any,
) -> EventStream | RawChunk:
    """Read the events with ``start_us <= t < stop_us`` of a recording in any known format.

    Example:
        >>> read_events("recording.raw", 0, 10_000)  # doctest: +SKIP
        EventStream(40712 events, 9999 µs, 1280x720)

    Args:
        source, format, options: as for :func:`open_reader`.
        start_us, stop_us: time range in the recording's own microseconds; None is open.
        sort: False hands out the raw columns in file order instead of a stream sorted by time.

    Raises:
        FormatError: as :func:`open_reader`; with ``strict=True`` also at the first problem inside the file.
    """
    reader = open_reader(source, format=format, **options)
    return reader.read(start_us, stop_us) if sort else reader.columns(start_us, stop_us)


def readable_suffixes() -> tuple[str, ...]:
    """Extensions of all readable formats."""
    readers: list[Any] = [READERS[name] for name in READERS]
    return tuple(dict.fromkeys(suffix for reader in readers for suffix in reader.extensions))
