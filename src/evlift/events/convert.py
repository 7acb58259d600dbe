"""Recordings from one format into another: cut, filtered, and read again before they get their name."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from evlift.errors import ConfigError, DataError, EvliftError, FormatError
from evlift.events.filter_chain import Pass, chain, parse_filter
from evlift.events.filters import Crop, Filter
from evlift.events.readers import READERS, RecordingWarning, open_reader, readable_suffixes
from evlift.events.stream import EventStream
from evlift.events.writers import WRITERS, write_events
from evlift.events.writers.base import BLOCK_EVENTS, format_of
from evlift.files import mirrored
from evlift.parallel import for_each
from evlift.wording import counted

IN_A_FOLDER = "dsec"
"""Format of the recordings in a folder where none is named."""

Report = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Content:
    """What a pass over a recording found, for comparison with another pass.

    Args:
        events: how many.
        first_us, last_us: times of the first and the last event; None without events.
        sha256: over the columns t, x, y, p in turn (hex), however the pass was cut into streams.
        sensor_size: (H, W).
    """

    events: int
    first_us: int | None
    last_us: int | None
    sha256: str
    sensor_size: tuple[int, int]

    def __str__(self) -> str:
        if not self.events:
            return "no events"
        return (
            f"{counted(self.events, 'event')} from {self.first_us} to {self.last_us} µs, {self.sha256[:12]}"
        )


class ContentSum:
    """Adds up a :class:`Content` while streams pass by.

    Example:
        >>> found = ContentSum()
        >>> for stream in found.watch([EventStream.empty((4, 4))]):
        ...     pass
        >>> found.result.events
        0
    """

    def __init__(self) -> None:
        self._columns = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "|b1"}
        self._sums = {name: hashlib.sha256() for name in self._columns}
        self._events = 0
        self._first: int | None = None
        self._last: int | None = None
        self._sensor_size = (0, 0)

    def watch(self, streams: Iterator[EventStream] | Sequence[EventStream]) -> Iterator[EventStream]:
        """The same streams, counted as they pass."""
        for stream in streams:
            self._sensor_size = stream.sensor_size
            if len(stream):
                self._add(stream)
            yield stream

    def _add(self, stream: EventStream) -> None:
        for name, kind in self._columns.items():
            self._sums[name].update(getattr(stream, name).astype(kind, order="C", copy=False).data)
        self._events += len(stream)
        self._first = int(stream.t[0]) if self._first is None else self._first
        self._last = int(stream.t[-1])

    @property
    def result(self) -> Content:
        """Of everything that passed."""
        whole = hashlib.sha256(b"".join(each.digest() for each in self._sums.values())).hexdigest()
        return Content(self._events, self._first, self._last, whole, self._sensor_size)


@dataclass(frozen=True)
class Converted:
    """A recording that is written and was read again.

    Args:
        source: where it came from.
        out: where it is.
        content: what both hold.
        there_already: it was, with the same events, and was left alone.
        notes: what the reader counted and had to guess.
    """

    source: Path
    out: Path
    content: Content
    there_already: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A recording that could not be converted, and why."""

    source: Path
    reason: str


@dataclass(frozen=True)
class Conversions:
    """All that became of a file or a folder, in the order of their names."""

    converted: tuple[Converted, ...]
    failed: tuple[Failed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Converter:
    """Writes a recording in another format, in memory that does not grow with it.

    Example:
        >>> Converter(to="evt3", filters=("refractory:2000",))("in.dat", "out.raw")  # doctest: +SKIP

    Args:
        to: output format, a name from `WRITERS`; default: by the extension.
        start_us, stop_us: keep ``start_us <= t < stop_us``, in the recording's own time; None is open.
        crop: (x, y, width, height) of the box to keep; its corner becomes (0, 0). Comes before the filters.
        filters: as for :func:`~evlift.events.filter_chain.parse_filter`, applied in this order.
        from_zero: count times from the first event that is left.
        format: of the input, where its content does not tell.
        sensor_size: (H, W) of the input, where it does not say.
        strict: refuse an input with anything wrong in it instead of counting what was dropped.
        overwrite: write even where a file is already.

    Raises:
        ConfigError: an unknown format or filter, an empty range, or a filter that needs the whole recording.
    """

    to: str | None = None
    start_us: int | None = None
    stop_us: int | None = None
    crop: tuple[int, int, int, int] | None = None
    filters: tuple[str, ...] = ()
    from_zero: bool = False
    format: str | None = None
    sensor_size: tuple[int, int] | None = None
    strict: bool = False
    overwrite: bool = False
    _stages: tuple[Filter, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.to is not None:
            WRITERS[self.to]
        if self.format is not None:
            READERS[self.format]
        if None not in (self.start_us, self.stop_us) and self.start_us >= self.stop_us:  # type: ignore[operator]
            raise ConfigError(
                f"Expected a range that starts before it stops, but got {self.start_us} to {self.stop_us} µs."
            )
        stages = [parse_filter(text) for text in self.filters]
        if self.crop is not None:
            x, y, width, height = self.crop
            stages.insert(0, Crop(y, x, height, width))
        chain(lambda: iter(()), stages)  # refuses what cannot work window by window
        object.__setattr__(self, "_stages", tuple(stages))

    @property
    def changes_files(self) -> bool:
        """Whether anything but the place of a file would change."""
        plain = Converter(format=self.format, sensor_size=self.sensor_size, overwrite=self.overwrite)
        return self != plain

    def __call__(self, source: str | Path, out: str | Path, report: Report | None = None) -> Converted:
        """Write `out`, read it again and compare; only then it gets its name.

        `report(done, None)` is called with the events that were read. A file at `out` with the very events that would
        be written is left alone.

        Raises:
            FormatError: no recording, events that the format cannot hold, or a file that does not hold what was
                written.
            ConfigError: `out` is the input, or ends like a file of another format than `to`.
            DataError: `out` is there already with other content.
        """
        source, out = Path(source), Path(out)
        to = self.to or format_of(out)
        if self.to and out.suffix.lower() in _suffixes() - _suffixes(to):
            raise ConfigError(
                f"Expected a file ending in {suffix_of(to)} for {to}, but got '{out}'. Rename it or leave --to out."
            )
        if out.exists() and source.exists() and out.samefile(source):
            raise ConfigError(f"Expected another file than the input, but got '{out}' twice.")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", RecordingWarning)
            opened = self._opened(source)
            if report is not None:
                opened = partial(_reporting, opened, report)
            if out.exists() and not self.overwrite:
                content, there = self._found(opened, out, to), True
            else:
                content, there = self._written(opened, out, to), False
        notes = dict.fromkeys(str(each.message) for each in said)
        return Converted(source, out, content, there, tuple(notes))

    def _opened(self, source: Path) -> Pass:
        options = {} if self.sensor_size is None else {"sensor_size": self.sensor_size}
        reader = open_reader(source, format=self.format, strict=self.strict, **options)

        def events() -> Iterator[EventStream]:
            yield EventStream.empty(reader.sensor_size)  # tells the size of a recording without events
            yield from reader.windows(n_events=BLOCK_EVENTS, start_us=self.start_us, stop_us=self.stop_us)

        filtered = chain(events, self._stages)
        return partial(_from_zero, filtered) if self.from_zero else filtered

    def _written(self, opened: Pass, out: Path, to: str) -> Content:
        wanted = ContentSum()

        def check(part: Path) -> None:
            found = content_of(part, to, wanted.result.sensor_size)
            if found != wanted.result:
                raise FormatError(
                    f"Expected '{out}' to hold what was written ({wanted.result}), but read {found}. It is not kept; "
                    "choose another format and report this."
                )

        write_events(out, wanted.watch(opened()), format=to, check=check)
        return wanted.result

    def _found(self, opened: Pass, out: Path, to: str) -> Content:
        wanted = ContentSum()
        for _ in wanted.watch(opened()):
            pass
        try:
            found = content_of(out, to, wanted.result.sensor_size)
        except FormatError as error:
            raise DataError(
                f"Expected nothing at '{out}', or the same events, but: {error} Give --overwrite (in Python: "
                "overwrite=True) to replace it."
            ) from None
        if found != wanted.result:
            raise DataError(
                f"Expected nothing at '{out}', or the same events, but it holds {found} instead of {wanted.result}. "
                "Give --overwrite (in Python: overwrite=True) to replace it."
            )
        return found


def content_of(path: Path, format: str, sensor_size: tuple[int, int]) -> Content:
    """What a recording of a known format and sensor holds.

    Raises:
        FormatError: it is of another format, or anything in it is wrong.
    """
    found = ContentSum()
    reader = open_reader(path, format=format, sensor_size=sensor_size, strict=True)
    for _ in found.watch([EventStream.empty(sensor_size)]):
        pass
    for _ in found.watch(reader.windows(n_events=BLOCK_EVENTS)):
        pass
    return found.result


def _from_zero(source: Pass) -> Iterator[EventStream]:
    start: int | None = None
    for stream in source():
        if start is None and len(stream):
            start = int(stream.t[0])
        yield EventStream(stream.t - (start or 0), stream.x, stream.y, stream.p, stream.sensor_size)


def _reporting(source: Pass, report: Report) -> Iterator[EventStream]:
    done = 0
    for stream in source():
        done += len(stream)
        report(done, None)
        yield stream


def convert(
    source: str | Path,
    out: str | Path,
    *,
    workers: int | None = 1,
    report: Report | None = None,
    **options: Any,
) -> Conversions:
    """Convert a recording, or all recordings below a folder into the same tree of another folder.

    Example:
        >>> convert("recordings", "as-hdf5", to="dsec", workers=2).failed  # doctest: +SKIP
        ()

    A file that fails in a folder does not stop the others. Every file appears when it is whole and was read again, so
    that a stopped conversion goes on with the same command: what is there already with the same events is left alone.

    Args:
        source: file or folder; in a folder every file with an extension of a readable format.
        out: file, or folder where the input is one or `out` is one already (HDF5 where nothing names a format).
        workers: processes for a folder, None for one a core. Several need what `multiprocessing` needs: a script
            that does its work under ``if __name__ == "__main__":``.
        report: called with (done, total) files of a folder, or (done, None) events of a file.
        options: of :class:`Converter`.

    Raises:
        ConfigError: options that contradict each other, or an output inside the input.
        DataError, FormatError: of a single file; in a folder they are handed out in `failed`.
    """
    source, out = Path(source), Path(out)
    converter = Converter(**options)
    if not source.is_dir():
        target = out / (source.stem + suffix_of(converter.to)) if out.is_dir() else out
        return Conversions((converter(source, target, report),))
    converter = Converter(**{**options, "to": converter.to or IN_A_FOLDER})
    jobs = mirrored(source, out, readable_suffixes(), suffix_of(converter.to), what="recordings")
    results: dict[int, Converted | Failed] = {}
    for place, result in for_each(partial(_convert_job, converter), jobs, workers):
        failed = isinstance(result, EvliftError)
        results[place] = Failed(jobs[place][0], str(result)) if failed else result  # type: ignore[assignment]
        if report is not None:
            report(len(results), len(jobs))
    ordered = [results[place] for place in range(len(jobs))]
    return Conversions(
        tuple(each for each in ordered if isinstance(each, Converted)),
        tuple(each for each in ordered if isinstance(each, Failed)),
    )


def _convert_job(converter: Converter, job: tuple[Path, Path]) -> Converted:
    return converter(*job)


def _suffixes(*formats: str) -> set[str]:
    """Extensions of these output formats, or of all."""
    return {name for to in formats or WRITERS for name in (suffix_of(to), *cast(Any, WRITERS[to]).extensions)}


def suffix_of(to: str | None) -> str:
    """The usual extension of an output format."""
    writer: Any = WRITERS[to or IN_A_FOLDER]
    return str((*writer.extensions, ".raw")[0])  # EVT2 shares `.raw` with EVT3
