"""The check-up: what is in a recording and what is wrong with it, in one pass and constant memory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.events.filters import hot_pixel_mask
from evlift.events.readers.base import Problems, RawChunk, Reader, RecordingWarning, Source
from evlift.events.readers.detect import open_reader
from evlift.wording import counted

RATE_BINS = 2048
RATE_BIN_US = 125
PEAK_BIN_US = 1_000
TOP = 5
EVENTS_A_PIXEL = 0.35
EPOCH_US = (631_152_000_000_000, 4_102_444_800_000_000)
"""1990 to 2100: times in between are taken for microseconds since 1970 (decided here)."""

MIN_GAP_US = 10_000
GAP_FACTOR = 100


class RateCurve:
    """Events over time in at most `RATE_BINS` bins: their width doubles whenever the recording outgrows them.

    Example:
        >>> curve = RateCurve()
        >>> curve.add(np.array([0, 10, 5_000]))
        >>> counts, bin_us = curve.binned(1_000)
        >>> counts.tolist(), bin_us
        ([2, 0, 0, 0, 0, 1], 1000)
    """

    def __init__(self) -> None:
        self.start_us: int | None = None
        self.bin_us = RATE_BIN_US
        self._counts = np.zeros(RATE_BINS, np.int64)
        self._last_bin = -1

    def add(self, t: NDArray[np.int64]) -> None:
        """Count times [n]; one before the first ever counted goes to the first bin."""
        if not len(t):
            return
        if self.start_us is None:
            self.start_us = int(t[0])
        newest = int(t.max()) - self.start_us
        while newest >= self.bin_us * RATE_BINS:
            self._counts[: RATE_BINS // 2] = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts[RATE_BINS // 2 :] = 0
            self.bin_us *= 2
            self._last_bin //= 2
        bins = np.maximum(t - self.start_us, 0) // self.bin_us
        self._counts += np.bincount(bins, minlength=RATE_BINS)
        self._last_bin = max(self._last_bin, newest // self.bin_us)

    def binned(self, at_least_us: int) -> tuple[NDArray[np.int64], int]:
        """Events a bin [k] up to the last event's, and the width of a bin in µs."""
        factor = 1
        while self.bin_us * factor < at_least_us and factor < RATE_BINS:
            factor *= 2
        bins = -(-(self._last_bin + 1) // factor)
        return self._counts.reshape(-1, factor).sum(axis=1)[:bins], self.bin_us * factor


@dataclass(frozen=True)
class HotPixel:
    """A pixel that fires far more often than its surroundings."""

    x: int
    y: int
    events: int
    rate_hz: float


@dataclass(frozen=True)
class Gap:
    """A stretch of time without an event."""

    start_us: int
    duration_us: int


@dataclass(frozen=True)
class Checkup:
    """What :func:`examine` found.

    Args:
        height, width: sensor size in pixels.
        events: those inside the sensor.
        first_us, last_us: earliest and latest time; None without events.
        mean_rate, peak_rate: events a second, over the whole and in the busiest bin of `peak_bin_us`.
        on_share: share of ON events.
        active_share: share of pixels that fired at all.
        backward_steps: how often a time is smaller than the one before it.
        out_of_range: events outside the sensor, not counted in `events`.
        duplicates: events with the pixel, polarity and microsecond of the pixel's previous event.
        dropped_bytes: what a cut or damaged file lost at its end.
        unknown_records: records of no known kind, or without usable numbers.
        hot_pixels: the busiest of them; `hot_pixel_count` and `hot_event_share` are of all.
        gaps: the longest, of at least 10 ms and 100 times the mean interval between events.
        window_ms, window_events: advice, see :func:`advise_window`.
        detected: what the file does not state and was found from its content.
        advice: what to do about what was found.
        counts: int64 [2, H, W], OFF and ON events a pixel.
        curve: events over time.
    """

    path: str
    format: str
    height: int
    width: int
    events: int
    first_us: int | None
    last_us: int | None
    duration_ms: float
    mean_rate: float
    peak_rate: float
    peak_bin_us: int
    on_share: float
    active_share: float
    backward_steps: int
    out_of_range: int
    duplicates: int
    dropped_bytes: int
    unknown_records: int
    hot_pixel_count: int
    hot_event_share: float
    hot_pixels: tuple[HotPixel, ...]
    gaps: tuple[Gap, ...]
    window_ms: float
    window_events: int
    detected: tuple[str, ...]
    advice: tuple[str, ...]
    counts: NDArray[np.int64] = field(repr=False, compare=False)
    curve: RateCurve = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON takes it."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("counts", "curve")}
        plain["hot_pixels"] = [vars(pixel) for pixel in self.hot_pixels]
        plain["gaps"] = [vars(gap) for gap in self.gaps]
        plain["detected"], plain["advice"] = list(self.detected), list(self.advice)
        return plain

    def rows(self) -> list[tuple[str, str]]:
        """Names and readable values for a table of two columns."""
        rows = [
            ("format", self.format),
            ("sensor", f"{self.width} × {self.height} pixels (width × height)"),
            *(("detected", fact) for fact in self.detected),
            ("events", f"{self.events:,}"),
        ]
        if self.events:
            rows += self._rows_of_events()
        rows += [
            ("outside the sensor", counted(self.out_of_range, "event")),
            ("lost at the end", f"{self.dropped_bytes:,} bytes"),
            ("unreadable records", f"{self.unknown_records:,}"),
        ]
        return rows + [("advice", line) for line in self.advice]

    def _rows_of_events(self) -> list[tuple[str, str]]:
        peak = f"{rate_text(self.peak_rate)} in the busiest {_length_text(self.peak_bin_us)}"
        start = self.first_us or 0
        gaps = [
            f"{_length_text(g.duration_us)}, {_length_text(g.start_us - start)} after the start"
            for g in self.gaps
        ]
        return [
            ("time", _time_text(self)),
            ("rate", f"{rate_text(self.mean_rate)} on average, {peak}" if self.mean_rate else "–"),
            ("ON events", f"{self.on_share:.1%}"),
            ("active pixels", f"{self.active_share:.1%}"),
            ("order", "in order" if not self.backward_steps else f"{self.backward_steps:,} backward steps"),
            ("duplicates", f"{self.duplicates:,} (same pixel, polarity and µs)"),
            ("hot pixels", _hot_text(self)),
            ("gaps", "; ".join(gaps) or "none"),
            ("window to start from", _window_text(self)),
        ]


def examine(source: Source | Reader, **options: Any) -> Checkup:
    """Check a recording in one pass, in memory that does not grow with the file.

    Example:
        >>> examine("recording.raw").events  # doctest: +SKIP
        219596

    Args:
        source: path, stream or open reader.
        options: as for :func:`~evlift.events.readers.open_reader`.

    Raises:
        FormatError: what cannot be read at all; what can be read in part is reported instead.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)  # the report says it all
        reader = source if isinstance(source, Reader) else open_reader(source, **options)
        tally = _Tally(*reader.sensor_size)
        for chunk in reader.chunks():
            tally.add(chunk)
    return tally.report(reader)


def advise_window(events: int, duration_us: int, active_pixels: int) -> tuple[float, int]:
    """A window to start from, in ms and in events: 0.35 events for each pixel that is ever active.

    That many light up contours without smearing them; the time follows from the mean rate. No longer than the
    recording. Source: 0.35 events a pixel is E2VID's default (released code); counting active pixels only is
    decided here, so that a scene that fills part of the sensor gets a short window.
    """
    count = min(max(round(EVENTS_A_PIXEL * active_pixels), 1), events)
    if events == 0:
        return 0.0, 0
    return count / events * duration_us / 1000, count


class _Tally:
    """What one pass accumulates."""

    def __init__(self, height: int, width: int) -> None:
        self.counts = np.zeros((2, height, width), np.int64)
        self._last = np.full((2, height, width), np.iinfo(np.int64).min)
        self.curve = RateCurve()
        self.events = self.duplicates = 0
        self.first: int | None = None
        self.last: int | None = None
        self._gaps: list[Gap] = []

    def add(self, chunk: RawChunk) -> None:
        from evlift.kernels.checkup import tally

        if not len(chunk):
            return
        self.duplicates += tally(chunk.t, chunk.x, chunk.y, chunk.p, self.counts, self._last)
        self.events += len(chunk)
        self.curve.add(chunk.t)
        self._note_gaps(chunk.t)
        low, high = int(chunk.t.min()), int(chunk.t.max())
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)

    def _note_gaps(self, t: NDArray[np.int64]) -> None:
        times = t if self.last is None else np.concatenate([[self.last], t])
        steps = np.diff(np.maximum.accumulate(times))
        for i in np.argsort(steps)[: -TOP - 1 : -1]:
            self._gaps.append(Gap(int(times[i]), int(steps[i])))
        self._gaps = sorted(self._gaps, key=lambda gap: -gap.duration_us)[:TOP]

    def report(self, reader: Reader) -> Checkup:
        height, width = reader.sensor_size
        problems = reader.problems
        duration = 0 if self.first is None or self.last is None else self.last - self.first
        seconds = max(duration, 1) / 1e6
        total = self.counts.sum(axis=0)  # [2, H, W] → [H, W]
        active = int(np.count_nonzero(total))
        hot = hot_pixel_mask(total)
        busiest = sorted(zip(*np.nonzero(hot), strict=True), key=lambda yx: -total[yx])[:TOP]
        shortest = max(MIN_GAP_US, GAP_FACTOR * duration / max(self.events, 1))
        window_ms, window_events = advise_window(self.events, duration, active)
        bins, bin_us = self.curve.binned(PEAK_BIN_US)
        return Checkup(
            path=reader.name,
            format=reader.format,
            height=height,
            width=width,
            events=self.events,
            first_us=self.first,
            last_us=self.last,
            duration_ms=duration / 1000,
            mean_rate=self.events / seconds if duration else 0.0,
            peak_rate=float(bins.max() / bin_us * 1e6) if len(bins) else 0.0,
            peak_bin_us=bin_us,
            on_share=float(self.counts[1].sum() / max(self.events, 1)),
            active_share=active / (height * width),
            backward_steps=problems.backward_steps,
            out_of_range=problems.out_of_range,
            duplicates=self.duplicates,
            dropped_bytes=problems.dropped_bytes,
            unknown_records=problems.unknown_records,
            hot_pixel_count=int(hot.sum()),
            hot_event_share=float(total[hot].sum() / max(self.events, 1)),
            hot_pixels=tuple(
                HotPixel(int(x), int(y), int(total[y, x]), float(total[y, x] / seconds)) for y, x in busiest
            ),
            gaps=tuple(gap for gap in self._gaps if gap.duration_us >= shortest),
            window_ms=window_ms,
            window_events=window_events,
            detected=reader.detected,
            advice=_advice(self, problems, float(total[hot].sum() / max(self.events, 1)), height * width),
            counts=self.counts,
            curve=self.curve,
        )


def _advice(tally: _Tally, problems: Problems, hot_share: float, pixels: int) -> tuple[str, ...]:
    """Remedies for what was found, the gravest first."""
    seen = max(tally.events, 1)
    found = [
        (tally.events == 0, "There are no events in it."),
        (problems.dropped_bytes > 0, "The file is cut or damaged at its end: what was whole is read."),
        (
            problems.out_of_range > 0,
            "Events lie outside the sensor: check `sensor_size`, the format, or the order of columns.",
        ),
        (
            problems.unknown_records > seen // 100,
            "Over 1 % of the records cannot be read: is the format the right one?",
        ),
        (
            problems.backward_steps > 0,
            "Time steps back: `read` and `windows` sort it, raw columns stay as they are.",
        ),
        (
            tally.duplicates > seen // 100,
            "Over 1 % of the events are duplicates: the filter `refractory` drops them.",
        ),
        (hot_share > 0.01, "Hot pixels make over 1 % of the events: the filter `hot_pixels` removes them."),
        (
            tally.events > 0 and not 0.1 < tally.counts[1].sum() / seen < 0.9,
            "Nearly all events have one polarity: is the polarity column the right one?",
        ),
    ]
    return tuple(text for is_so, text in found if is_so)


def _time_text(checkup: Checkup) -> str:
    first, last = checkup.first_us or 0, checkup.last_us or 0
    length = _length_text(last - first)
    if EPOCH_US[0] <= first <= EPOCH_US[1]:
        began = datetime.fromtimestamp(first // 10**6, UTC)
        return f"{length} from {began:%Y-%m-%d %H:%M:%S} UTC on ({first / 1e6:.6f} s since 1970)"
    return f"{length}, from {first / 1e6:.6f} s to {last / 1e6:.6f} s"


def rate_text(rate: float) -> str:
    """Events a second, readable: "1.5 kev/s"."""
    for limit, unit in ((1e6, "Mev/s"), (1e3, "kev/s")):
        if rate >= limit:
            return f"{rate / limit:.3g} {unit}"
    return f"{rate:.3g} ev/s"


def _length_text(us: float) -> str:
    if us >= 10_000_000:
        return f"{us / 1e6:,.1f} s"
    return f"{us / 1000:,.0f} ms" if us >= 1_000_000 else f"{us / 1000:.4g} ms"


def _hot_text(checkup: Checkup) -> str:
    if not checkup.hot_pixel_count:
        return "none"
    top = ", ".join(f"({p.x}, {p.y}) {rate_text(p.rate_hz)}" for p in checkup.hot_pixels[:3])
    return (
        f"{checkup.hot_pixel_count:,} with {checkup.hot_event_share:.2%} of the events; busiest (x, y): {top}"
    )


def _window_text(checkup: Checkup) -> str:
    count = counted(checkup.window_events, "event")
    return f"{_length_text(checkup.window_ms * 1000)}, or {count}" if checkup.window_ms else count
