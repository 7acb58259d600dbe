"""Where in a recording something moves, and how that place is shown to a network of another sensor size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError
from evlift.events.filters import event_counts, hot_pixel_mask, isolated_noise
from evlift.events.stream import EventStream

Fit = Literal["auto", "crop-to-events", "cover", "letterbox", "stretch", "none"]
FITS: tuple[Fit, ...] = get_args(Fit)

CELLS = 32
"""Cells along the longer side of the grid in which activity is looked for."""

EDGE_SHARE = 0.01
"""Share of the activity that may lie outside the box at each of its four sides."""

FAINT = 0.1
"""A cell belongs to nothing that moves below this share of what the cell holds that a typical event lies in."""

CHANCE = 0.1
"""Share of the background noise that may be supported by a neighbour by chance."""

LONGEST_US = 50_000
"""No event supports a neighbour for longer."""

SUPPORTED = 0.5
"""Share of the events above the background that must be supported, or the filter does harm."""

COARSE = 640
"""Pixels along the longer side of a sensor at least, when those of larger ones are merged for the search."""

DETAIL = 4
"""Pixels of a recording a pixel of the network, where there are twice as many: more cost time and show no more."""

FILL = 0.7
"""Of the shorter side of the sensor, what moves takes up where nothing else is known: as in N-MNIST."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """A rectangle on a sensor, in pixels: ``top <= y < bottom`` and ``left <= x < right``."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def longer(self) -> float:
        """The longer side."""
        return max(self.bottom - self.top, self.right - self.left)

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) of the middle."""
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2


@dataclass(frozen=True)
class Framing:
    """How the recordings that a network was trained on lie on their sensor.

    Args:
        sensor_size: (H, W) of that sensor.
        longer: longer side of what moves (:func:`event_box`) in its pixels, median.
        centre: (y, x) of its middle, median.
        duration_us: from the first to the last event, median; None where it is not known.
        measured_on: what it was measured on.
        samples: how many recordings that were.
    """

    sensor_size: Size
    longer: float
    centre: tuple[float, float]
    duration_us: int | None
    measured_on: str
    samples: int

    @classmethod
    def of(cls, streams: Iterable[EventStream], sensor_size: Size, measured_on: str) -> Framing:
        """The framing of recordings of one sensor; :meth:`assumed` if none has an event."""
        found = [(box, stream.duration_us) for stream in streams if (box := event_box(stream)) is not None]
        if not found:
            return cls.assumed(sensor_size)
        y, x = (float(np.median([box.centre[axis] for box, _ in found])) for axis in (0, 1))
        longer = float(np.median([box.longer for box, _ in found]))
        duration = int(np.median([duration for _, duration in found]))
        return cls(sensor_size, longer, (y, x), duration or None, measured_on, len(found))

    @classmethod
    def assumed(cls, sensor_size: Size) -> Framing:
        """Something in the middle that takes up seven tenths of the shorter side, of unknown duration."""
        height, width = sensor_size
        return cls(sensor_size, FILL * min(sensor_size), (height / 2, width / 2), None, "assumed", 0)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Framing:
        """What :meth:`to_dict` gave."""
        pairs = {name: tuple(content[name]) for name in ("sensor_size", "centre")}
        return cls(**{**content, **pairs})

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for a run's record."""
        return {**asdict(self), "sensor_size": list(self.sensor_size), "centre": list(self.centre)}


def framed(stream: EventStream, framing: Framing, fit: Fit = "auto", *, merge: bool = False) -> EventStream:
    """A recording of any sensor, cut or padded so that it lies as the network's own recordings do.

    Pixels are not merged: the result has the proportions of the network's sensor (but for "stretch") at the recording's
    own resolution, and the representation, which averages over areas, does the rest.

    Args:
        stream: of any sensor.
        framing: of the recordings that the network was trained on.
        fit: "crop-to-events": background noise is dropped, then the busiest region (:func:`event_box`) gets the size
            and the place that it has in `framing`, in its own proportions. "cover": the largest middle part with the
            proportions of the network's sensor. "letterbox": the whole sensor, padded to these proportions. "stretch":
            the whole sensor, distorted. "none": unchanged, as "stretch". "auto": unchanged where the sensor is the
            network's own, else "crop-to-events".
        merge: where what is cut has many times the network's pixels, merge them to :data:`DETAIL` a side; counts a
            pixel grow by that.

    Raises:
        ConfigError: an unknown `fit`.
    """
    if fit not in FITS:
        raise ConfigError(f"Expected fit to be one of {', '.join(FITS)}, but got '{fit}'.")
    own = stream.sensor_size == framing.sensor_size
    if fit in ("stretch", "none") or (fit == "auto" and own) or not len(stream):
        return stream
    (height, width), (rows, columns) = stream.sensor_size, framing.sensor_size
    if fit in ("cover", "letterbox"):
        choose = min if fit == "cover" else max
        scale = choose(
            height / rows, width / columns
        )  # pixels of the recording a pixel of the network's sensor
        corner = (height - rows * scale) / 2, (width - columns * scale) / 2
        return _cut(stream, corner, framing.sensor_size, scale, merge)
    stream = without_background(stream)
    box = event_box(stream)
    if box is None:
        return stream
    scale = box.longer / framing.longer
    y, x = (middle - scale * own for middle, own in zip(box.centre, framing.centre, strict=True))
    return _cut(stream, (y, x), framing.sensor_size, scale, merge)


def _cut(
    stream: EventStream, corner: tuple[float, float], size: Size, scale: float, merge: bool
) -> EventStream:
    """The window at `corner` (y, x) as large as `size` times `scale`; what lies outside the sensor is empty."""
    height, width = (max(2, round(side * scale)) for side in size)
    y, x = stream.y.astype(np.int64) - round(corner[0]), stream.x.astype(np.int64) - round(corner[1])
    kept = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    parts = max(1, int(scale / DETAIL)) if merge else 1
    columns = (x[kept] // parts).astype(np.uint16), (y[kept] // parts).astype(np.uint16)
    sides = (-(-height // parts), -(-width // parts))
    return EventStream(stream.t[kept], *columns, stream.p[kept], sides)


def without_background(stream: EventStream) -> EventStream:
    """The stream less the events that no neighbouring pixel supports, if events lie all over the sensor.

    They do where the median cell of :func:`event_box` is not empty; its rate is that of the background. A neighbour
    supports an event for so long that one in ten of the background's is supported by chance, at most 50 ms. Where that
    would leave less than half of what exceeds the background, as where coordinates were multiplied and neighbouring
    pixels never fire together, nothing is dropped. Source: decided here.
    """
    counts, parts = _coarse_counts(stream)
    cell = -(-max(counts.shape) // CELLS)
    background = float(np.median(_summed(counts, cell)))
    if not background:
        return stream
    rate = background / (parts * cell) ** 2 / (stream.duration_us + 1)  # events a pixel and µs
    kept = isolated_noise(stream, int(min(max(CHANCE / (8 * rate), 1), LONGEST_US)))
    noise = rate * (stream.duration_us + 1) * parts**2 * counts.size
    enough = SUPPORTED * (len(stream) - noise) + CHANCE * noise
    return kept if len(kept) >= enough else stream


def event_box(stream: EventStream) -> Box | None:
    """The box around the busiest connected region of a recording; None without events.

    Example:
        >>> stream = EventStream.from_columns([0, 1], [3, 5], [2, 4], [1, 0], sensor_size=(10, 10))
        >>> event_box(stream)
        Box(top=2.0, left=3.0, bottom=5.0, right=6.0)

    Hot pixels are left out. The sensor is cut into at most 32 cells a side; what the median cell holds is background.
    Cells clearly above it that touch, or nearly do, are one region, and the box holds all of the most active one but
    one hundredth of the activity at each side. Uniform noise, a few hot pixels and the size of the sensor do not move
    it. Source: decided here.
    """
    if not len(stream):
        return None
    counts, parts = _coarse_counts(stream)
    hot = hot_pixel_mask(counts)
    counts = np.where(hot, 0, counts) if (counts[~hot] > 0).any() else counts
    cell = -(-max(counts.shape) // CELLS)
    cells = _summed(counts, cell)
    background = float(np.median(cells))
    region = _busiest(cells - background, noise=3 * background**0.5)
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    height, width = counts.shape
    top, bottom = max(rows[0] - 1, 0) * cell, min((rows[-1] + 2) * cell, height)
    left, right = max(columns[0] - 1, 0) * cell, min((columns[-1] + 2) * cell, width)
    excess = counts[top:bottom, left:right] - background / cell**2
    first, last = _extent(excess.sum(1))
    start, stop = _extent(excess.sum(0))
    return Box(*(float(parts * side) for side in (top + first, left + start, top + last, left + stop)))


def _coarse_counts(stream: EventStream) -> tuple[NDArray[np.int64], int]:
    """Events a pixel, of large sensors a square of pixels, and the pixels along its side."""
    parts = max(1, max(stream.sensor_size) // COARSE)
    if parts == 1:
        return event_counts(stream), 1
    height, width = (-(-side // parts) for side in stream.sensor_size)
    flat = (stream.y // parts).astype(np.uint32) * width + stream.x // parts
    return np.bincount(flat, minlength=height * width).reshape(height, width), parts


def _summed(counts: NDArray[np.int64], cell: int) -> NDArray[np.int64]:
    """Counts [H, W] a cell of `cell` x `cell` pixels; the last ones may be narrower."""
    height, width = counts.shape
    rows = np.add.reduceat(counts, np.arange(0, height, cell), axis=0)
    return np.add.reduceat(rows, np.arange(0, width, cell), axis=1)


def _busiest(excess: NDArray[np.floating[Any]], noise: float) -> NDArray[np.bool_]:
    """The connected cells that hold most, gaps of one cell bridged; the fullest cell where nothing stands out."""
    from scipy import ndimage

    above = np.sort(excess[excess > noise])
    if not len(above):
        return excess == excess.max()
    typical = above[
        np.searchsorted(np.cumsum(above), above.sum() / 2)
    ]  # half of the activity lies in fuller cells
    active = (excess > noise) & (excess >= FAINT * typical)
    labels, n = ndimage.label(ndimage.binary_dilation(active, np.ones((3, 3))), np.ones((3, 3)))
    held = ndimage.sum_labels(np.where(active, excess, 0), labels, np.arange(1, n + 1))
    found: NDArray[np.bool_] = active & (labels == 1 + int(np.argmax(held)))
    return found


def _extent(profile: NDArray[np.floating[Any]]) -> tuple[int, int]:
    """First and one past the last position that hold all but the outermost shares of a profile [n]."""
    grown = np.cumsum(np.maximum(profile, 0))
    if grown[-1] <= 0:
        return 0, len(profile)
    first = int(np.searchsorted(grown, EDGE_SHARE * grown[-1], side="right"))
    last = int(np.searchsorted(grown, (1 - EDGE_SHARE) * grown[-1], side="left"))
    return min(first, last), last + 1
