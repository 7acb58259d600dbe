"""`Representation`: from an event stream to a float32 tensor, with a shape that is known beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlift.checks import check_choice
from evlift.errors import ConfigError
from evlift.events.stream import EventStream
from evlift.registry import Registry

REPRESENTATIONS = Registry("representation")

Normalisation = Literal["none", "max", "p99.9", "log1p", "quantile"]
Window = tuple[int, int]
Columns = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Representation(ABC):
    """A frozen recipe for a grid; calling it turns an event stream into a tensor.

    Example:
        >>> rep = create_representation("frames", steps=10, size=(28, 28))
        >>> rep(stream).shape
        torch.Size([10, 2, 28, 28])

    Args:
        size: (H, W) to resize to (bilinear, with antialiasing where it shrinks: no event is skipped, and
            counts become local means); None keeps the sensor's size.
        normalise: applied last, to the whole tensor of one stream.
            "none" raw values;
            "max" divides by the largest magnitude;
            "p99.9" divides by the 99.9 % quantile of the non-zero magnitudes and clips to [-1, 1];
            "log1p" is sign(v)·log(1 + abs(v));
            "quantile" divides by `scale` and clips to [-1, 1], so that events share the range of pictures and
            a hot pixel cannot dominate.
        scale: divisor of "quantile", one figure for a whole data set: see :func:`fit_scale`.

    Polarity comes first in the order off, on (channel 0 counts p = 0). Row 0 is the top of the picture.
    Resizing, normalisations and antialiasing are decided here.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1  # part of the cache key: raise it when the arithmetic changes

    size: tuple[int, int] | None = None
    normalise: Normalisation = "none"
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            size = tuple(int(side) for side in self.size)
            if len(size) != 2 or min(size) < 1:
                raise ConfigError(f"Expected `size` to be (H, W) with positive sides, but got {self.size}.")
            object.__setattr__(self, "size", size)
        check_choice("normalise", self.normalise, Normalisation)
        if (self.normalise == "quantile") != (self.scale is not None):
            raise ConfigError(
                f"Expected `scale` exactly with normalise='quantile', but got scale={self.scale} with "
                f"normalise='{self.normalise}'. Take it from fit_scale(rep, training_streams)."
            )
        if self.scale is not None and not self.scale > 0:
            raise ConfigError(f"Expected `scale` to be positive, but got {self.scale}.")

    @property
    @abstractmethod
    def channels(self) -> int:
        """C of the result."""

    @property
    def steps(self) -> int | None:
        """T of the result, None without a time axis."""
        return None

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the result."""
        return torch.float32

    def shape(self, sensor_size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the result for a sensor of (H, W): (C, H, W), or (T, C, H, W) with a time axis."""
        return self._raw_shape(self.size or sensor_size)

    def cache_key(self) -> str:
        """A stable string of the kind, its version and every field: equal keys give equal tensors."""
        arguments = ",".join(
            f"{name}={getattr(self, name)!r}" for name in sorted(item.name for item in fields(self))
        )
        return f"{self.kind}/{self.version}({arguments})"

    def __call__(
        self, stream: EventStream, *, window_us: Window | None = None, out: Tensor | None = None
    ) -> Tensor:
        """The representation of `stream`, computed by compiled loops on the CPU.

        Args:
            stream: any number of events, none included.
            window_us: (start, stop), the half-open span of the time bins; events outside are left out.
                Default: from the first event to one microsecond after the last.
            out: float32 CPU tensor of :meth:`shape` to write to, for example a slice of a batch.

        Returns:
            float32 [C, H, W] or [T, C, H, W]; `out` if it was given.

        Raises:
            ValueError: a window that ends before it starts, or an `out` that does not fit.
        """
        window = check_window(window_us, stream.t)
        if window_us is not None:
            stream = stream.between(*window)
        if out is not None:
            check_out(out, self.shape(stream.sensor_size))
        cropped = self._crop(stream)
        raw_shape = self._raw_shape(cropped.sensor_size)
        if out is not None and out.is_contiguous() and tuple(out.shape) == raw_shape:
            grid = out.detach().zero_()
        else:
            # calloc hands out zero pages lazily: cheaper than torch.zeros for large sensors
            grid = torch.from_numpy(np.zeros(raw_shape, np.float32))
        self._fill(grid.numpy(), cropped, window)
        result = self._finish(grid)
        if out is None:
            return result
        return out if result.data_ptr() == out.data_ptr() else out.copy_(result)

    def from_tensors(
        self,
        t: Tensor,
        x: Tensor,
        y: Tensor,
        p: Tensor,
        *,
        sensor_size: tuple[int, int],
        window_us: Window | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The same from event tensors on any device, in plain torch: for GPUs and for gradients.

        Args:
            t: [n] µs, non-decreasing; integer, or floating and relative to a near origin for its gradient.
            x, y: [n], integer. p: [n], bool or 0/1.
            sensor_size: (H, W).
            window_us: as in calling the representation; events outside are left out.
            weights: float [n], what each event counts instead of 1; gradients flow to it. For counts and
                voxel grids alone.

        Returns:
            [C, H, W] or [T, C, H, W] on the device of `t`.
        """
        if not t.dtype.is_floating_point:
            t = t.long()  # narrower integers would overflow when times are multiplied by bins
        if (t[1:] < t[:-1]).any():
            raise ValueError(
                "Expected `t` to be non-decreasing, but got backward steps. Sort the events by time first."
            )
        start, stop = check_window(window_us, t)
        if window_us is not None:
            kept = (t >= start) & (t < stop)
            t, x, y, p = t[kept], x[kept], y[kept], p[kept]
            weights = None if weights is None else weights[kept]
        grid = self._tensor_grid((t, x, y, p), sensor_size=sensor_size, window=(start, stop), weights=weights)
        return self._finish(grid)

    def _crop(self, stream: EventStream) -> EventStream:
        return stream

    def _raw_shape(self, sensor_size: tuple[int, int]) -> tuple[int, ...]:
        shape = (self.channels, *sensor_size)
        return shape if self.steps is None else (self.steps, *shape)

    @abstractmethod
    def _fill(self, grid: NDArray[np.float32], stream: EventStream, window: Window) -> None:
        """Write the raw values into the zeroed `grid` [(T,) C, H, W]."""

    @abstractmethod
    def _tensor_grid(
        self,
        events: Columns,
        *,
        sensor_size: tuple[int, int],
        window: Window,
        weights: Tensor | None,
    ) -> Tensor:
        """The raw values [(T,) C, H, W] in torch."""

    def _finish(self, grid: Tensor) -> Tensor:
        if self.size is not None:
            grid = resize(grid, self.size)
        return normalised(grid, self.normalise, self.scale)


def create_representation(name: str, **options: Any) -> Representation:
    """A representation by name.

    Example:
        >>> create_representation("voxel", bins=5, convention="e2vid").channels
        5

    Raises:
        ConfigError: an unknown name or option, or options that contradict each other.
    """
    cls = REPRESENTATIONS[name]
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    if unknown := sorted(set(options) - set(known)):
        raise ConfigError(
            f"Unknown option of representation '{name}': {', '.join(unknown)}. Known: {', '.join(known)}."
        )
    return cls(**options)


def columns(stream: EventStream) -> list[NDArray[Any]]:
    """t, x, y, p as contiguous read-only arrays: one type, so that each kernel is compiled once."""
    packed = [np.ascontiguousarray(getattr(stream, name)) for name in "txyp"]
    for column in packed:
        column.flags.writeable = False
    return packed


def check_window(window_us: Window | None, t: NDArray[np.int64] | Tensor) -> Window:
    """(start, stop) in µs: the given window, or from the first to one past the last of the times `t` [n]."""
    if window_us is None:
        return (t[0].item(), t[-1].item() + 1) if len(t) else (0, 1)  # type: ignore[return-value]
    start, stop = window_us
    if stop <= start:
        raise ValueError(f"Expected `window_us` to be (start, stop) with start < stop, but got {window_us}.")
    return start, stop


def check_out(out: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless `out` can take a float32 result of `shape` on the CPU."""
    if tuple(out.shape) != shape or out.dtype != torch.float32 or out.device.type != "cpu":
        raise ValueError(
            f"Expected `out` to be float32 {list(shape)} on the CPU, but got {out.dtype} "
            f"{list(out.shape)} on {out.device}."
        )


def resize(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of [..., C, H, W] to [..., C, h, w], antialiased where it shrinks."""
    if tuple(grid.shape[-2:]) == size:
        return grid
    planes = grid.reshape(1, -1, *grid.shape[-2:])  # [(T,) C, H, W] → [1, T·C, H, W]
    small = torch.nn.functional.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return small.reshape(*grid.shape[:-2], *size)  # [1, T·C, h, w] → [(T,) C, h, w]


def normalised(grid: Tensor, normalise: Normalisation, scale: float | None = None) -> Tensor:
    """`grid` of any shape under a normalisation of :class:`Representation`; all-zero grids stay zero."""
    if normalise == "none":
        return grid
    if normalise == "log1p":
        return grid.sign() * grid.abs().log1p()
    if normalise == "quantile":
        if scale is None:
            raise ConfigError("Expected a `scale` for normalise='quantile', but got None. Use fit_scale.")
        return (grid / scale).clamp(-1, 1)
    magnitudes = grid.detach().abs()
    if normalise == "max":
        return grid / largest if (largest := magnitudes.amax()) > 0 else grid
    busy = magnitudes[magnitudes > 0]
    return (grid / quantile(busy, 0.999)).clamp(-1, 1) if len(busy) else grid


def quantile(values: Tensor, q: float) -> Tensor:
    """The `q` quantile of non-empty `values` [n] by rank, rounded up; torch.quantile has a size limit."""
    rank = max(1, int(np.ceil(q * len(values))))
    return values.kthvalue(rank).values


def fit_scale(rep: Representation, streams: Iterable[EventStream], q: float = 0.99) -> float:
    """The `q` quantile of the non-zero magnitudes that `rep` gives on a data set: the `scale` of "quantile".

    Example:
        >>> raw = create_representation("frames", steps=10)
        >>> rep = dataclasses.replace(raw, normalise="quantile", scale=fit_scale(raw, streams))

    Args:
        rep: its own normalisation is ignored.
        streams: of the training set alone. Fewer than 2^17 values of each are kept, evenly spaced.
        q: share of the non-zero values that stay under 1 afterwards.

    Returns:
        A positive number; 1.0 if no stream has an event.
    """
    if not 0 < q <= 1:
        raise ValueError(f"Expected `q` in (0, 1], but got {q}.")
    plain = replace(rep, normalise="none", scale=None)
    kept = []
    for stream in streams:
        values = plain(stream).abs().flatten()
        values = values[values > 0]
        kept.append(values[:: max(1, len(values) >> 16)])
    busy = torch.cat(kept) if kept else torch.empty(0)
    return float(quantile(busy, q)) if len(busy) else 1.0
