"""`predict`: windows of any source through a network, one at a time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlift.checks import check_range
from evlift.errors import ConfigError, DataError, FormatError
from evlift.events import EventStream, RecordingWarning
from evlift.events.framing import Fit
from evlift.events.readers.windowing import windows_of
from evlift.streaming.live import LiveBytes
from evlift.streaming.opening import open_predictor
from evlift.streaming.predictions import MaskPrediction, Prediction
from evlift.streaming.sources import AnySource, HowToRead, Opened, SensorSize, Source, Sources, find_sources
from evlift.streaming.summary import Summary

ENDLESS_WINDOW_US = 100_000
"""Window of a pipe or of a growing file where none is asked for; masks have that of their training."""

GIVE_LENGTH = "Give one: --duration-ms or --events (in Python: duration_us=, n_events=)."
IDLE_S = 10.0
clock = time.perf_counter  # of the stages; a benchmark on a busy machine takes processor time instead


@dataclass(frozen=True)
class Cut:
    """How a recording becomes windows; without a length it is one window.

    Args:
        duration_us, n_events: of a window; one of them, or neither.
        overlap: share of a window that the next one sees again.
    """

    duration_us: int | None = None
    n_events: int | None = None
    overlap: float = 0.0

    def __post_init__(self) -> None:
        for name, length in (("duration_us", self.duration_us), ("n_events", self.n_events)):
            if length is not None:
                check_range(name, length, 1)
        if self.duration_us is not None and self.n_events is not None:
            raise ConfigError(
                "Expected windows by --duration-ms or by --events (in Python: `duration_us`, `n_events`), but got "
                "both. Leave one out."
            )
        if not 0 <= self.overlap < 1:
            raise ConfigError(
                f"Expected --overlap (in Python: overlap=) to be at least 0 and below 1, but got {self.overlap}."
            )
        if self.overlap and self.whole:
            raise ConfigError(f"Expected a window length for the overlap, but got none. {GIVE_LENGTH}")

    @property
    def whole(self) -> bool:
        """A recording is one window."""
        return self.duration_us is None and self.n_events is None

    @property
    def stride(self) -> int:
        """From one window's start to the next, in µs or events."""
        length = self.duration_us or self.n_events or 1
        return max(1, round(length * (1 - self.overlap)))


def predict(
    run: str | Path,
    source: AnySource,
    *,
    duration_us: int | None = None,
    n_events: int | None = None,
    overlap: float = 0.0,
    format: str | None = None,
    sensor_size: SensorSize | None = None,
    follow: bool = False,
    idle_s: float = IDLE_S,
    keep_state: bool | None = None,
    unknown_below: float | str = 0.0,
    fit: Fit = "auto",
) -> Predictions:
    """What a network says of recordings, window by window, in memory that does not grow with their length.

    Example:
        >>> for found in predict("runs/first", "recording.raw", duration_us=100_000):  # doctest: +SKIP
        ...     print(found.start_us, found.label, found.confidence)

    Args:
        run: folder of a finished run, or an exported network (.onnx, .pt2, .nir).
        source: a file in any readable format, a folder (every recording below it, by name), "-" for standard input,
            or a binary stream.
        duration_us, n_events: cut into windows of this length. Default: a recording is one window, which is held in
            memory; of a network that gives masks, windows as long as in training. A pipe or a growing file has windows
            of 100 ms.
        overlap: share of a window that the next one sees again, at least 0 and below 1.
        format: of the recordings, where it cannot be told from their content.
        sensor_size: (H, W), overrides the files' own.
        follow: the file is still being written: wait for more at its end.
        idle_s: seconds without growth after which a followed file is finished.
        keep_state: potentials of spiking neurons go on from window to window; None is what the recipe says.
        unknown_below: least probability of a class to be named; less is "unknown", in masks 255. "auto" is the
            threshold that the run's calibration suggests.
        fit: how recordings of another sensor than the network's are shown, window by window, as
            :func:`evlift.evaluate_recordings` shows them (:func:`~evlift.events.framing.framed`). Masks, and "auto"
            where state is kept, have the whole sensor ("stretch").

    Returns:
        An iterator of :class:`Prediction` or :class:`MaskPrediction`; its `summary` has counts, losses and times.

    Raises:
        DataError: no such run, no recording, or a recording without events.
        FormatError: a recording that cannot be read; in a folder it is warned of and the others go on.
        ConfigError: settings that contradict each other, or a network that reads pictures.
    """
    cut = Cut(duration_us, n_events, overlap)
    if not 0 < idle_s < float("inf"):
        raise ConfigError(f"Expected --idle-s (in Python: idle_s=) to be positive, but got {idle_s}.")
    from evlift.streaming.predictor import Predictor

    trained = open_predictor(run)
    predictor = Predictor(trained, keep_state=keep_state, unknown_below=unknown_below, fit=fit)
    if overlap and predictor.keep_state:
        raise ConfigError(
            "Expected no overlap where state is kept, because neurons would see events twice. Leave --overlap out, or "
            "give --no-keep-state (in Python: keep_state=False)."
        )
    how = HowToRead(format, sensor_size, predictor.sensor_size, follow, idle_s)
    sources = find_sources(source, how)
    if cut.whole:
        cut = _default_cut(predictor, sources, str(run))
    return Predictions(predictor, sources, cut)


def _default_cut(predictor: Any, sources: Sources, run: str) -> Cut:
    if predictor.segments:
        trained_us = predictor.trained.record.get("duration_us")
        if trained_us is None:
            raise ConfigError(
                f"Expected a window length, because the record of {run} states none. {GIVE_LENGTH}"
            )
        return Cut(duration_us=int(trained_us))
    return Cut(duration_us=ENDLESS_WINDOW_US) if sources.live else Cut()


class Predictions(Iterator[Prediction | MaskPrediction]):
    """Predictions as they are made.

    Attributes:
        summary: counts and times so far; complete at the end.
        endless: the source is a pipe or a growing file.
        recordings: the names of all that are predicted on, in order.
    """

    def __init__(self, predictor: Any, sources: Sources, cut: Cut) -> None:
        self.summary = Summary()
        self.endless = sources.live is not None
        self.cut = cut
        self.classes: tuple[str, ...] = predictor.classes
        self.segments: bool = predictor.segments
        self.several = sources.folder
        self.recordings = tuple(source.name for source in sources)
        self._predictor, self._sources = predictor, sources
        self._made: Generator[Any] = self._all()

    def __next__(self) -> Prediction | MaskPrediction:
        return next(self._made)

    def stop(self) -> None:
        """End a pipe or a growing file as if it had ended; what was read is still predicted on."""
        if self._sources.live is not None:
            self._sources.live.stop()

    def close(self) -> None:
        """Leave it here; files are closed."""
        self._made.close()

    def _all(self) -> Generator[Any]:
        self._predictor.warm_up()
        for source in self._sources:
            try:
                yield from self._one(source)
            except (FormatError, DataError) as error:
                if not self._sources.folder:
                    raise
                self.summary.failed.append((source.name, str(error)))
                warnings.warn(f"{source.name} is left out: {error}", RecordingWarning, stacklevel=2)
        if not self.summary.windows:
            raise DataError("Expected recordings with events, but not one could be read. See the warnings.")

    def _one(self, source: Source) -> Iterator[Any]:
        """One recording, from opening it to its last window."""
        self._predictor.reset()
        began = (clock(), time.perf_counter())
        opened = source.open()
        try:
            yield from self._windows(source.name, opened, began)
        finally:
            self.summary.add_recording(opened.reader.problems)
            if opened.live is not None:
                self.summary.waited_s += opened.live.waited_s
                self.summary.ended = opened.live.ended
                opened.live.close()

    def _windows(self, name: str, opened: Opened, opening: tuple[float, float]) -> Iterator[Any]:
        windows = self._cut_up(opened)
        first_us: int | None = None
        for number, (stream, decode_s, since) in enumerate(_timed(windows, opened.live, opening)):
            if first_us is None:
                if not len(stream):
                    break
                first_us = int(stream.t[0])
            start, stop = self._bounds(stream, first_us, number)
            times = {"decode": decode_s}
            began = clock()
            clip = self._predictor.encode(stream, start, stop, timed=self.cut.duration_us is not None)
            times["represent"] = (represented := clock()) - began
            found = self._predictor.ask(clip)
            times["network"] = (asked := clock()) - represented
            window = {"recording": name, "start_us": start, "stop_us": stop, "events": len(stream)}
            try:
                yield self._predictor.say(found, stream=stream, **window)
            finally:
                times["write"] = clock() - asked
                self.summary.add_window(times, time.perf_counter() - since)
        if first_us is None:
            raise DataError(f"Expected events in {name}, but it has none.")

    def _cut_up(self, opened: Opened) -> Iterator[EventStream]:
        if self.cut.whole:
            return self._counted(opened.reader.read() for _ in range(1))  # not before it is asked for
        return windows_of(
            self._counted(opened.reader.pieces()),
            duration_us=self.cut.duration_us,
            n_events=self.cut.n_events,
            stride=self.cut.stride,
        )

    def _counted(self, pieces: Iterator[EventStream]) -> Iterator[EventStream]:
        """The pieces of one recording as they are, counted."""
        newest: int | None = None
        for piece in pieces:
            if len(piece):
                newest = int(piece.t[0]) if newest is None else newest
                self.summary.events += len(piece)
                self.summary.recorded_us += int(piece.t[-1]) - newest
                newest = int(piece.t[-1])
            yield piece

    def _bounds(self, stream: EventStream, first_us: int, number: int) -> tuple[int, int]:
        if self.cut.duration_us is None:
            return int(stream.t[0]), int(stream.t[-1]) + 1
        start = first_us + number * self.cut.stride
        return start, start + self.cut.duration_us


def _timed(
    windows: Iterator[EventStream], live: LiveBytes | None, opening: tuple[float, float]
) -> Iterator[tuple[EventStream, float, float]]:
    """Windows, how long reading and decoding each took, and when the bytes that completed it were there.

    `opening` is when it began, by the stages' clock and by the wall's; it is part of the first window.
    """
    (began, asked), waited = opening, 0.0
    while (stream := next(windows, None)) is not None:
        took = clock() - began
        if live is not None:
            took -= live.waited_s - waited
        yield stream, took, live.arrived if live is not None else asked
        asked, began = time.perf_counter(), clock()
        waited = live.waited_s if live is not None else 0.0
