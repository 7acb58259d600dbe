"""Filters: from an `EventStream` to a cleaner or differently shaped one. The input is never touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError
from evlift.events.stream import MAX_SIDE, EventStream
from evlift.registry import Registry

FILTERS = Registry("filter")


class Filter(Protocol):
    """What every entry of `FILTERS` builds: a frozen dataclass that maps a stream to a stream.

    One whose verdict on an event rests on that event alone says `pointwise = True`: it may then be called window by
    window. For the others see :mod:`evlift.events.filter_chain`.
    """

    def __call__(self, stream: EventStream) -> EventStream: ...


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ConfigError(f"Expected `{name}` to be positive, but got {value}.")


def refractory(stream: EventStream, period_us: int) -> EventStream:
    """Drop events that follow the last kept event of their pixel by less than `period_us`, polarity aside.

    Example:
        >>> stream = EventStream.from_columns([0, 5, 12], [1, 1, 1], [0, 0, 0], [1, 1, 0], sensor_size=(2, 2))
        >>> refractory(stream, period_us=10).t.tolist()
        [0, 12]
    """
    return Refractory(period_us)(stream)


def isolated_noise(stream: EventStream, window_us: int) -> EventStream:
    """Drop events that none of the eight neighbouring pixels preceded by at most `window_us`, polarity aside.

    The pixel itself gives no support, so a lone hot pixel goes too. A dropped event still supports others.
    Source: background activity filter (Delbruck, 2008).
    """
    return IsolatedNoise(window_us)(stream)


def event_counts(stream: EventStream) -> NDArray[np.int64]:
    """Events a pixel, int64 [H, W]."""
    height, width = stream.sensor_size
    flat = stream.y.astype(np.int64) * width + stream.x
    return np.bincount(flat, minlength=height * width).reshape(height, width)


def hot_pixel_mask(counts: NDArray[np.int64], factor: float = 10.0) -> NDArray[np.bool_]:
    """Mark the pixels that fire far more often than the scene explains, bool [H, W].

    A pixel is hot when its count exceeds `factor` times the largest of: the count of the second-busiest pixel
    in the 5×5 around it (so that two hot pixels side by side are both found, while the pixels of an edge
    protect each other), the median count of the active pixels, and 1.

    Args:
        counts: [H, W], events a pixel.
        factor: how far above its surroundings a hot pixel fires.

    Source: decided here.
    """
    active = counts[counts > 0]
    if active.size == 0:
        return np.zeros(counts.shape, bool)
    floor = max(float(np.median(active)), 1.0)
    padded = np.pad(counts, 2)
    ys, xs = np.nonzero(counts > factor * floor)  # a handful of candidates: look at their neighbours alone
    offsets = [(dy, dx) for dy in range(5) for dx in range(5) if (dy, dx) != (2, 2)]
    neighbours = np.stack([padded[ys + dy, xs + dx] for dy, dx in offsets])  # [24, n]
    second = np.sort(neighbours, axis=0)[-2]
    hot = np.zeros(counts.shape, bool)
    hot[ys, xs] = counts[ys, xs] > factor * second
    return hot


def remove_hot_pixels(stream: EventStream, factor: float = 10.0) -> EventStream:
    """Drop all events of the pixels that :func:`hot_pixel_mask` marks in this stream."""
    hot = hot_pixel_mask(event_counts(stream), factor)
    return stream[~hot[stream.y, stream.x]]


def crop(stream: EventStream, y0: int, x0: int, height: int, width: int) -> EventStream:
    """Keep the window [y0, y0 + height) × [x0, x0 + width) and move its corner to (0, 0).

    Raises:
        ConfigError: a window that is empty or leaves the sensor.
    """
    sensor_height, sensor_width = stream.sensor_size
    inside = min(y0, x0) >= 0 and y0 + height <= sensor_height and x0 + width <= sensor_width
    if not inside or height <= 0 or width <= 0:
        raise ConfigError(
            f"Expected a crop inside the sensor of (H, W) = {stream.sensor_size}, but got y0={y0}, x0={x0}, "
            f"height={height}, width={width}."
        )
    x, y = stream.x, stream.y
    kept = stream[(x >= x0) & (x < x0 + width) & (y >= y0) & (y < y0 + height)]
    return EventStream(
        kept.t, kept.x - np.uint16(x0), kept.y - np.uint16(y0), kept.p, sensor_size=(height, width)
    )


def resize(stream: EventStream, height: int, width: int) -> EventStream:
    """Rescale coordinates to another sensor size; every event is kept.

    The rule is ``x' = floor(x · width / W)`` in integers: shrinking merges pixels, enlarging puts each event
    at the top left of its block. Rates a pixel rise when shrinking: follow with `refractory` if that matters.
    """
    _check_positive(height=height, width=width)
    if max(height, width) > MAX_SIDE:
        raise ConfigError(f"Expected sides of at most {MAX_SIDE} pixels, but got {height}x{width}.")
    old_height, old_width = stream.sensor_size
    x = (stream.x.astype(np.uint32) * np.uint32(width) // np.uint32(old_width)).astype(np.uint16)
    y = (stream.y.astype(np.uint32) * np.uint32(height) // np.uint32(old_height)).astype(np.uint16)
    return EventStream(stream.t, x, y, stream.p, sensor_size=(height, width))


def flip_horizontal(stream: EventStream) -> EventStream:
    """Mirror left and right: ``x' = W - 1 - x``."""
    x = np.uint16(stream.sensor_size[1] - 1) - stream.x
    return EventStream(stream.t, x, stream.y, stream.p, stream.sensor_size)


def flip_vertical(stream: EventStream) -> EventStream:
    """Mirror top and bottom: ``y' = H - 1 - y``."""
    y = np.uint16(stream.sensor_size[0] - 1) - stream.y
    return EventStream(stream.t, stream.x, y, stream.p, stream.sensor_size)


def flip_polarity(stream: EventStream) -> EventStream:
    """Swap ON and OFF."""
    return EventStream(stream.t, stream.x, stream.y, ~stream.p, stream.sensor_size)


def reverse_time(stream: EventStream) -> EventStream:
    """Play backwards between the first and the last event; ON becomes OFF and OFF becomes ON."""
    if len(stream) == 0:
        return stream
    t = (stream.t[0] + stream.t[-1] - stream.t)[::-1]
    return EventStream(t, stream.x[::-1], stream.y[::-1], ~stream.p[::-1], stream.sensor_size)


@FILTERS.register("refractory")
@dataclass(frozen=True)
class Refractory:
    """See :func:`refractory`."""

    period_us: int = 1000
    remembers_kept: ClassVar[bool] = True
    """What went before counts only if it was kept."""

    def __post_init__(self) -> None:
        _check_positive(period_us=self.period_us)

    @property
    def reach_us(self) -> int:
        """How long before an event another one matters to it."""
        return self.period_us

    def mask(self, stream: EventStream) -> NDArray[np.bool_]:
        """bool [n], the events to keep."""
        from evlift.kernels.filters import refractory_mask

        return refractory_mask(stream.t, stream.x, stream.y, *stream.sensor_size, self.period_us)

    def __call__(self, stream: EventStream) -> EventStream:
        return stream[self.mask(stream)]


@FILTERS.register("isolated_noise")
@dataclass(frozen=True)
class IsolatedNoise:
    """See :func:`isolated_noise`."""

    window_us: int = 10_000
    remembers_kept: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_positive(window_us=self.window_us)

    @property
    def reach_us(self) -> int:
        """How long before an event another one matters to it."""
        return self.window_us

    def mask(self, stream: EventStream) -> NDArray[np.bool_]:
        """bool [n], the events to keep."""
        from evlift.kernels.filters import supported_mask

        return supported_mask(stream.t, stream.x, stream.y, *stream.sensor_size, self.window_us)

    def __call__(self, stream: EventStream) -> EventStream:
        return stream[self.mask(stream)]


@FILTERS.register("hot_pixels")
@dataclass(frozen=True)
class HotPixels:
    """See :func:`remove_hot_pixels` and, for the rule, :func:`hot_pixel_mask`."""

    factor: float = 10.0

    def __post_init__(self) -> None:
        _check_positive(factor=self.factor)

    def __call__(self, stream: EventStream) -> EventStream:
        return remove_hot_pixels(stream, self.factor)


@FILTERS.register("crop")
@dataclass(frozen=True)
class Crop:
    """See :func:`crop`."""

    y0: int
    x0: int
    height: int
    width: int
    pointwise: ClassVar[bool] = True

    def __call__(self, stream: EventStream) -> EventStream:
        return crop(stream, self.y0, self.x0, self.height, self.width)


@FILTERS.register("resize")
@dataclass(frozen=True)
class Resize:
    """See :func:`resize`."""

    height: int
    width: int
    pointwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_positive(height=self.height, width=self.width)

    def __call__(self, stream: EventStream) -> EventStream:
        return resize(stream, self.height, self.width)


@FILTERS.register("flip_horizontal")
@dataclass(frozen=True)
class FlipHorizontal:
    """See :func:`flip_horizontal`."""

    pointwise: ClassVar[bool] = True

    def __call__(self, stream: EventStream) -> EventStream:
        return flip_horizontal(stream)


@FILTERS.register("flip_vertical")
@dataclass(frozen=True)
class FlipVertical:
    """See :func:`flip_vertical`."""

    pointwise: ClassVar[bool] = True

    def __call__(self, stream: EventStream) -> EventStream:
        return flip_vertical(stream)


@FILTERS.register("flip_polarity")
@dataclass(frozen=True)
class FlipPolarity:
    """See :func:`flip_polarity`."""

    pointwise: ClassVar[bool] = True

    def __call__(self, stream: EventStream) -> EventStream:
        return flip_polarity(stream)


@FILTERS.register("reverse_time")
@dataclass(frozen=True)
class ReverseTime:
    """See :func:`reverse_time`."""

    def __call__(self, stream: EventStream) -> EventStream:
        return reverse_time(stream)
