"""The check-up as a picture: where the events are, how a window looks, and the rate over time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError
from evlift.events.checkup import Checkup, examine, rate_text
from evlift.events.readers.base import RawChunk, RecordingWarning
from evlift.events.readers.detect import open_reader
from evlift.files import atomic_path
from evlift.wording import counted

BACKGROUND = "#0e1420"
PANEL = "#151d2c"
TEXT = "#dfe6f1"
MUTED = "#8c9ab0"
ON, OFF, BOTH = "#4db4ff", "#ff9d4d", "#fff6ea"  # as in representations: ON blue, OFF orange
FAINTEST = 0.3
SNAPSHOTS = 3
RATE_POINTS = 300
MARGIN = 0.05
KINDS = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf")


def picture(path: str | Path, out: str | Path, **options: Any) -> Checkup:
    """Draw a recording to an image file and return its check-up.

    Example:
        >>> picture("recording.raw", "recording.png")  # doctest: +SKIP

    Left all events (ON blue, OFF orange, both white), right three windows of the advised length, below
    the rate over time with those windows marked. Two passes over the file, in constant memory.

    Args:
        path: the recording; a stream cannot be read twice.
        out: the image file; its extension is the kind of image.
        options: as for :func:`~evlift.events.readers.open_reader`.

    Raises:
        ConfigError: an extension that is no kind of image.
        FormatError: the recording cannot be read.
    """
    if Path(out).suffix.lower() not in KINDS:
        raise ConfigError(f"Expected a picture that ends in {', '.join(KINDS)}, but got '{out}'. Rename it.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    checkup = examine(path, **options)
    starts = _snapshot_starts(checkup)
    shots = _snapshots(path, checkup, starts, options)
    width = min(
        max(6.4 * checkup.width / checkup.height + 0.9, 9.6), 14.0
    )  # inches: as wide as the sensor asks
    figure = Figure(figsize=(width, 8.0), dpi=120, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        SNAPSHOTS + 1,
        2,
        width_ratios=(3.3, 1),
        height_ratios=(1, 1, 1, 0.85),
        left=MARGIN,
        right=0.975,
        top=0.86,
        bottom=0.085,
        hspace=0.22,
        wspace=0.05,
    )
    _draw_title(figure, checkup)
    main = figure.add_subplot(grid[:SNAPSHOTS, 0])
    _draw_events(main, checkup.counts, "all events" if checkup.events else "no events")
    _mark_hot_pixels(main, checkup)
    for i, (start, shot) in enumerate(zip(starts, shots, strict=True)):
        axes = figure.add_subplot(grid[i, 1])
        after = (start - (checkup.first_us or 0)) / 1000
        _draw_events(axes, shot, f"{_number(checkup.window_ms)} ms from {_number(after)} ms on")
    _draw_rate(figure.add_subplot(grid[SNAPSHOTS, :]), checkup, starts)
    with atomic_path(out) as part:
        figure.savefig(part, facecolor=BACKGROUND)
    return checkup


def colour(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts [2, H, W] (OFF, ON) as an RGB picture [H, W, 3] in 0 to 1: hue by polarity, brightness by count.

    The busiest 0.5 % of the active pixels are at full brightness, and a single event can still be seen.
    """
    from matplotlib.colors import to_rgb

    base, on, off, both = (np.array(to_rgb(name)) for name in (PANEL, ON, OFF, BOTH))
    total = counts.sum(axis=0)  # [2, H, W] → [H, W]
    if not total.any():
        return np.broadcast_to(base, (*total.shape, 3)).copy()
    top = max(float(np.percentile(total[total > 0], 99.5)), 1.0)
    strength = FAINTEST + (1 - FAINTEST) * np.minimum(total / top, 1.0) ** 0.6
    lean = ((counts[1] - counts[0]) / np.maximum(total, 1))[..., None]  # [H, W, 1], -1 all OFF to 1 all ON
    hue = both + np.maximum(lean, 0) * (on - both) + np.maximum(-lean, 0) * (off - both)
    return np.where(total[..., None] > 0, base + strength[..., None] * (hue - base), base)


def _snapshot_starts(checkup: Checkup) -> list[int]:
    """Starts of windows in the middle of equal parts of the recording, in µs."""
    if checkup.first_us is None or checkup.last_us is None:
        return []
    span = checkup.last_us - checkup.first_us
    window = checkup.window_ms * 1000
    middles = [(2 * i + 1) / (2 * SNAPSHOTS) * span for i in range(SNAPSHOTS)]
    return [checkup.first_us + round(min(max(m - window / 2, 0.0), max(span - window, 0.0))) for m in middles]


def _snapshots(
    path: str | Path, checkup: Checkup, starts: list[int], options: dict[str, Any]
) -> list[NDArray[np.int64]]:
    """Counts [2, H, W] of the windows that begin at `starts`; a second pass over the file."""
    shots = [np.zeros_like(checkup.counts) for _ in starts]
    length = max(round(checkup.window_ms * 1000), 1)
    if not starts:
        return shots
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        for chunk in open_reader(path, **options).chunks():
            for start, shot in zip(starts, shots, strict=True):
                _add(shot, chunk, start, start + length)
    return shots


def _add(counts: NDArray[np.int64], chunk: RawChunk, start_us: int, stop_us: int) -> None:
    inside = (chunk.t >= start_us) & (chunk.t < stop_us)
    if inside.any():
        part = chunk.take(inside)
        np.add.at(counts, (part.p.astype(np.intp), part.y, part.x), 1)


def _draw_title(figure: Any, checkup: Checkup) -> None:
    facts = (
        checkup.format.upper(),
        f"{checkup.width} × {checkup.height}",
        counted(checkup.events, "event"),
        f"{_number(checkup.duration_ms)} ms",
        f"{rate_text(checkup.mean_rate)} on average",
        f"{checkup.on_share:.0%} ON",
        f"{checkup.active_share:.0%} of pixels active",
    )
    figure.text(MARGIN, 0.945, Path(checkup.path).name, color=TEXT, fontsize=17, fontweight="bold")
    figure.text(MARGIN, 0.905, "   ·   ".join(facts), color=MUTED, fontsize=10.5)
    for x, name, shade in ((0.925, "ON", ON), (0.975, "OFF", OFF)):
        figure.text(x, 0.945, name, color=shade, fontsize=10.5, fontweight="bold", ha="right")


def _draw_events(axes: Any, counts: NDArray[np.int64], title: str) -> None:
    axes.imshow(colour(counts), interpolation="nearest", aspect="equal")
    axes.set_anchor("W")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#2a3548")
    axes.set_title(title, color=MUTED, fontsize=9, loc="left", pad=4)


def _mark_hot_pixels(axes: Any, checkup: Checkup) -> None:
    if not checkup.hot_pixels:
        return
    xs, ys = [p.x for p in checkup.hot_pixels], [p.y for p in checkup.hot_pixels]
    axes.scatter(xs, ys, s=70, facecolors="none", edgecolors="#ff5470", linewidths=1.2)
    text = (
        f"{checkup.hot_pixel_count} hot pixels, {checkup.hot_event_share:.1%} of the events; busiest circled"
    )
    axes.set_title(text, color="#ff5470", fontsize=9, loc="right", pad=4)


def _draw_rate(axes: Any, checkup: Checkup, starts: list[int]) -> None:
    counts, bin_us = checkup.curve.binned(round(checkup.duration_ms * 1000 / RATE_POINTS))
    ms = np.arange(len(counts) + 1) * bin_us / 1000
    rate = counts / bin_us * 1e6
    axes.set_facecolor(PANEL)
    unit, scale = ("Mev/s", 1e6) if rate.size and rate.max() >= 1e6 else ("kev/s", 1e3)
    axes.stairs(rate / scale, ms, fill=True, color="#c9a7ff", alpha=0.25)
    axes.stairs(rate / scale, ms, color="#c9a7ff", linewidth=1.1)
    for start in starts:
        first = (start - (checkup.first_us or 0)) / 1000
        axes.axvspan(first, first + checkup.window_ms, color=TEXT, alpha=0.22, linewidth=0)
    for gap in checkup.gaps:
        first = (gap.start_us - (checkup.first_us or 0)) / 1000
        axes.axvspan(first, first + gap.duration_us / 1000, color="#ff5470", alpha=0.15, linewidth=0)
    axes.set_xlim(0, max(checkup.duration_ms, 1e-3))
    axes.set_ylim(0, max(float(rate.max(initial=0.0)) / scale * 1.08, 1e-3))
    axes.set_xlabel("ms from the first event", color=MUTED, fontsize=9)
    axes.set_title(
        f"rate in {unit}, over bins of {_number(bin_us / 1000)} ms", color=MUTED, fontsize=9, loc="left"
    )
    axes.tick_params(colors=MUTED, labelsize=8)
    axes.grid(axis="y", color="#2a3548", linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color("#2a3548")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
