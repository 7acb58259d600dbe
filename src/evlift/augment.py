"""Augmentation: one geometry for events, picture and mask, and changes of the events themselves.

Nothing here keeps a state: every random choice is drawn from the NumPy generator that the caller passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from evlift.checks import check_share
from evlift.errors import ConfigError
from evlift.events.filters import flip_polarity, reverse_time
from evlift.events.stream import EventStream, merged
from evlift.masks import VOID


@dataclass(frozen=True)
class Geometry:
    """One drawn change of geometry, to be applied alike to everything that shows the same scene.

    Example:
        >>> geometry = RandomGeometry(flip=0.5, padding=4).sample(rng, (48, 48))
        >>> frames, picture, mask = geometry(frames), geometry(picture), geometry.mask(mask)

    Args:
        size: (H, W) of the result.
        flip: mirror left and right.
        scale: resize both sides by this factor.
        angle_deg: rotate counter-clockwise about the centre.
        top, left: the corner of the window that is cut out last; what lies outside the picture is filled.

    The steps happen in the order of the arguments. Everything it is applied to shares one pixel grid.
    """

    size: tuple[int, int]
    flip: bool = False
    scale: float = 1.0
    angle_deg: float = 0.0
    top: int = 0
    left: int = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        """Event frames or pictures [..., C, H, W] → [..., C, h, w], bilinear, filled with 0."""
        return self._apply(tensor, InterpolationMode.BILINEAR, fill=0)

    def mask(self, mask: Tensor, *, fill: int = VOID) -> Tensor:
        """Labels [..., H, W] → [..., h, w], nearest neighbour; pixels from outside get `fill`."""
        # labels are one channel: [..., H, W] → [..., 1, h, w] → [..., h, w]
        return self._apply(mask.unsqueeze(-3), InterpolationMode.NEAREST, fill=fill).squeeze(-3)

    def stream(self, stream: EventStream) -> EventStream:
        """The same for events, where it is exact: flips and windows; events outside the window are dropped.

        Raises:
            ValueError: a rotation or a scale, which would move events off the pixel grid.
        """
        if self.angle_deg or self.scale != 1:
            raise ValueError(
                "Expected a geometry of flips and shifts for an event stream, but got "
                f"angle_deg={self.angle_deg} and scale={self.scale}. Make the representation first and apply "
                "the geometry to the tensor."
            )
        x = stream.x.astype(np.int64)
        if self.flip:
            x = stream.sensor_size[1] - 1 - x
        return moved(stream, x - self.left, stream.y.astype(np.int64) - self.top, self.size)

    def _apply(self, tensor: Tensor, interpolation: InterpolationMode, fill: int) -> Tensor:
        if self.flip:
            tensor = tensor.flip(-1)
        if self.scale != 1:
            size = scaled_size((tensor.shape[-2], tensor.shape[-1]), self.scale)
            # torch's plain "nearest" lies half a pixel beside its "bilinear"; the exact one does not
            kind = (
                InterpolationMode.NEAREST_EXACT
                if interpolation is InterpolationMode.NEAREST
                else interpolation
            )
            tensor = transforms.resize(tensor, list(size), interpolation=kind, antialias=True)
        if self.angle_deg:
            tensor = transforms.rotate(tensor, self.angle_deg, interpolation=interpolation, fill=fill)
        return cut_window(tensor, (self.top, self.left), self.size, fill=fill)


@dataclass(frozen=True, kw_only=True)
class RandomGeometry:
    """What :class:`Geometry` may be drawn from.

    Example:
        >>> RandomGeometry(padding=4, flip=0.5, rotation_deg=15).sample(np.random.default_rng(0), (48, 48))

    Args:
        flip: probability of mirroring left and right.
        rotation_deg: largest rotation to either side.
        padding: largest shift in pixels beyond the picture's edges: "random crop with padding".
        crop: (H, W) of a random window; None keeps the size.
        scale: (smallest, largest) factor, drawn evenly on a logarithmic scale.

    Source: KT, He et al., AAAI 2024 (released code): padding 4, and for CEP-DVS flip and 15 degrees;
    scale and crop as EvDistill uses them. The order of the steps is decided here.
    """

    flip: float = 0.0
    rotation_deg: float = 0.0
    padding: int = 0
    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"Expected `flip` to be a probability in [0, 1], but got {self.flip}.")
        if not (self.rotation_deg >= 0 and self.padding >= 0):
            raise ConfigError(
                f"Expected `rotation_deg` and `padding` to be 0 or more, but got {self.rotation_deg} and "
                f"{self.padding}."
            )
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(
                f"Expected `scale` to be (smallest, largest), both positive, but got {self.scale}."
            )

    def sample(self, rng: np.random.Generator, size: tuple[int, int]) -> Geometry:
        """Draw one geometry for pictures of `size` (H, W)."""
        low, high = np.log(self.scale)
        scale = float(np.exp(rng.uniform(low, high))) if low < high else float(self.scale[0])
        target = self.crop or size
        corner = [
            int(rng.integers(min(0, room) - self.padding, max(0, room) + self.padding, endpoint=True))
            for room in np.subtract(scaled_size(size, scale), target)
        ]
        angle = float(rng.uniform(-self.rotation_deg, self.rotation_deg)) if self.rotation_deg else 0.0
        return Geometry(
            size=(target[0], target[1]),
            flip=bool(rng.random() < self.flip),
            scale=scale,
            angle_deg=angle,
            top=corner[0],
            left=corner[1],
        )


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(H, W) times `scale`, at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def cut_window(tensor: Tensor, corner: tuple[int, int], size: tuple[int, int], *, fill: int) -> Tensor:
    """The window of `size` (h, w) at `corner` (top, left) of [..., H, W]; what lies outside is `fill`."""
    if corner == (0, 0) and tuple(tensor.shape[-2:]) == tuple(size):
        return tensor
    result = tensor.new_full((*tensor.shape[:-2], *size), fill)
    source, target = [], []
    for start, length, limit in zip(corner, size, tensor.shape[-2:], strict=True):
        first, last = max(start, 0), max(min(start + length, limit), max(start, 0))
        source.append(slice(first, last))
        target.append(slice(first - start, last - start))
    result[..., target[0], target[1]] = tensor[..., source[0], source[1]]
    return result


def moved(stream: EventStream, x: np.ndarray, y: np.ndarray, sensor_size: tuple[int, int]) -> EventStream:
    """`stream` at integer coordinates `x`, `y` [n] on a sensor of `sensor_size`, less what is outside."""
    height, width = sensor_size
    kept = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    coordinates = x[kept].astype(np.uint16), y[kept].astype(np.uint16)
    return EventStream(stream.t[kept], *coordinates, stream.p[kept], (int(height), int(width)))


def drop_events(stream: EventStream, share: float, rng: np.random.Generator) -> EventStream:
    """Each event is dropped with the probability `share`."""
    check_share("share", share)
    return stream[rng.random(len(stream)) >= share]


def drop_area(stream: EventStream, share: float, rng: np.random.Generator) -> EventStream:
    """Drop all events of a random box with the sensor's proportions that covers `share` of its area."""
    check_share("share", share)
    height, width = stream.sensor_size
    box_height, box_width = round(height * share**0.5), round(width * share**0.5)
    top = int(rng.integers(0, height - box_height, endpoint=True))
    left = int(rng.integers(0, width - box_width, endpoint=True))
    x, y = stream.x.astype(np.int64), stream.y.astype(np.int64)
    inside = (y >= top) & (y < top + box_height) & (x >= left) & (x < left + box_width)
    return stream[~inside]


def drop_time(stream: EventStream, share: float, rng: np.random.Generator) -> EventStream:
    """Drop all events of a random interval that covers `share` of the duration."""
    check_share("share", share)
    if len(stream) == 0:
        return stream
    span = stream.duration_us + 1
    length = round(span * share)
    start = int(stream.t[0]) + int(rng.integers(0, span - length, endpoint=True))
    return stream[(stream.t < start) | (stream.t >= start + length)]


def jitter_time(stream: EventStream, std_us: float, rng: np.random.Generator) -> EventStream:
    """Shift each time stamp by a normal deviate of `std_us` µs, then sort (stably)."""
    times = stream.t + np.rint(rng.normal(0, std_us, len(stream))).astype(np.int64)
    order = np.argsort(times, kind="stable")
    return EventStream(times[order], stream.x[order], stream.y[order], stream.p[order], stream.sensor_size)


def jitter_position(stream: EventStream, std_px: float, rng: np.random.Generator) -> EventStream:
    """Shift each event by normal deviates of `std_px` pixels, rounded; what leaves the sensor is dropped."""
    dx, dy = np.rint(rng.normal(0, std_px, (2, len(stream)))).astype(np.int64)
    return moved(stream, stream.x + dx, stream.y + dy, stream.sensor_size)


def add_hot_pixels(stream: EventStream, pixels: int, rate_hz: float, rng: np.random.Generator) -> EventStream:
    """Mix in `pixels` defective ones, at random places, that fire at `rate_hz` from the first event to the last."""
    height, width = stream.sensor_size
    if not 0 <= pixels <= height * width:
        raise ConfigError(f"Expected `pixels` in [0, {height * width}], but got {pixels}.")
    if not len(stream):
        return stream
    places = rng.choice(height * width, pixels, replace=False)
    fired = rng.poisson(rate_hz * (stream.duration_us + 1) * 1e-6, pixels)
    where = np.repeat(places, fired)
    t = rng.integers(stream.t[0], stream.t[-1] + 1, len(where))
    x, y = (where % width).astype(np.uint16), (where // width).astype(np.uint16)
    return merged(stream, EventStream(t, x, y, rng.random(len(where)) < 0.5, stream.sensor_size))


def scale_time(stream: EventStream, factor: float) -> EventStream:
    """The same events `factor` times as slow, from the first one on; times are rounded to whole µs."""
    if not 0 < factor < float("inf"):
        raise ConfigError(f"Expected `factor` to be positive, but got {factor}.")
    start = stream.t[0] if len(stream) else 0
    t = start + np.rint((stream.t - start) * factor).astype(np.int64)
    return EventStream(t, stream.x, stream.y, stream.p, stream.sensor_size)


def flip_polarities(stream: EventStream, share: float, rng: np.random.Generator) -> EventStream:
    """Each event gets the other polarity with the probability `share`."""
    check_share("share", share)
    flipped = stream.p ^ (rng.random(len(stream)) < share)
    return EventStream(stream.t, stream.x, stream.y, flipped, stream.sensor_size)


@dataclass(frozen=True, kw_only=True)
class RandomEvents:
    """Changes of an event stream, drawn anew at every call; nothing is on by default.

    Example:
        >>> RandomEvents(drop=0.2, flip_time=0.5)(stream, np.random.default_rng(0))

    Args:
        drop: share of the events to drop, drawn evenly from [0, drop].
        drop_area: share of the sensor's area, drawn likewise.
        drop_time: share of the duration, drawn likewise.
        jitter_us: standard deviation of the time stamps' shifts.
        jitter_px: standard deviation of the positions' shifts.
        flip_polarity: probability of exchanging the polarities.
        flip_time: probability of running backwards.

    Source: the three drops follow EventDrop, Gu et al., IJCAI 2021 (published summary); the rest is ours.
    """

    drop: float = 0.0
    drop_area: float = 0.0
    drop_time: float = 0.0
    jitter_us: float = 0.0
    jitter_px: float = 0.0
    flip_polarity: float = 0.0
    flip_time: float = 0.0

    def __post_init__(self) -> None:
        for name in ("drop", "drop_area", "drop_time", "flip_polarity", "flip_time"):
            check_share(name, getattr(self, name))
        if not (self.jitter_us >= 0 and self.jitter_px >= 0):
            raise ConfigError(
                f"Expected `jitter_us` and `jitter_px` to be 0 or more, but got {self.jitter_us} and "
                f"{self.jitter_px}."
            )

    def __call__(self, stream: EventStream, rng: np.random.Generator) -> EventStream:
        """`stream` under one draw of every option that is on."""
        for name, change in (("drop", drop_events), ("drop_area", drop_area), ("drop_time", drop_time)):
            if limit := getattr(self, name):
                stream = change(stream, rng.uniform(0, limit), rng)
        if self.jitter_us:
            stream = jitter_time(stream, self.jitter_us, rng)
        if self.jitter_px:
            stream = jitter_position(stream, self.jitter_px, rng)
        if rng.random() < self.flip_polarity:
            stream = flip_polarity(stream)
        return reverse_time(stream) if rng.random() < self.flip_time else stream
