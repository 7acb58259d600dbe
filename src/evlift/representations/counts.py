"""Counts a pixel and polarity: histogram, stacked histogram and frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlift.checks import check_choice, check_positive
from evlift.errors import ConfigError
from evlift.events.stream import EventStream
from evlift.representations.base import (
    REPRESENTATIONS,
    Columns,
    Representation,
    Window,
    columns,
)
from evlift.representations.scatter import GridSum, pieces

Cut = Literal["time", "count"]


def bin_starts(window: Window, bins: int) -> list[int]:
    """First µs [bins + 1] of each of `bins` bins of equal duration over `window`, and its end, exact in integers."""
    start, stop = window
    # bin of t is k = (t - start)·bins // span, so bin k starts at start + ceil(k·span / bins)
    return [start - (-k * (stop - start)) // bins for k in range(bins + 1)]


def time_edges(t: NDArray[np.int64], window: Window, bins: int) -> NDArray[np.int64]:
    """Index edges [bins + 1] of `bins` bins of equal duration over `window`."""
    return np.searchsorted(t, np.array(bin_starts(window, bins), np.int64), side="left")


def tensor_edges(t: Tensor, window: Window, bins: int) -> list[int]:
    """The same in torch for times within `window`; the last microsecond belongs to the last bin."""
    starts: list[float] = list(bin_starts(window, bins))
    if t.dtype.is_floating_point:
        starts = [window[0] + k * (window[1] - window[0]) / bins for k in range(bins + 1)]
    inner = torch.tensor(starts[1:-1], dtype=t.dtype, device=t.device)
    return [0, *torch.searchsorted(t.detach().contiguous(), inner).tolist(), len(t)]


def count_edges(n: int, bins: int) -> NDArray[np.int64]:
    """Index edges [bins + 1] of `bins` bins of `n` events whose sizes differ by one at most."""
    return np.arange(bins + 1, dtype=np.int64) * n // bins


def fill_counts(
    stream: EventStream, edges: NDArray[np.int64], grid: NDArray[np.float32], *, strides: tuple[int, int]
) -> None:
    """Add the counts of `stream` to `grid`; `strides`: planes between (bins, polarities)."""
    from evlift.kernels.represent import count

    height, width = stream.sensor_size
    pixels = np.array(strides, np.uint32) * np.uint32(height * width)
    _, x, y, p = columns(stream)
    count(x, y, p, edges, pixels, width, grid.reshape(-1))


def count_tensor(
    events: Columns,
    edges: Sequence[int],
    *,
    sensor_size: tuple[int, int],
    planes: int,
    strides: tuple[int, int],
    weights: Tensor | None,
) -> Tensor:
    """Counts [planes, H, W] in torch; events edges[k]:edges[k + 1] go to bin k, `strides` as in fill_counts."""
    _, x, y, p = events
    total = GridSum(sensor_size, planes, strides=strides, like=x if weights is None else weights)
    for k, part in pieces(edges, x.device):
        total.add((x[part], y[part], p[part]), k, None if weights is None else weights[part])
    return total.grid


@REPRESENTATIONS.register("histogram")
@dataclass(frozen=True)
class Histogram(Representation):
    """Events a pixel and polarity, [2, H, W]: channel 0 off, channel 1 on."""

    kind = "histogram"

    @property
    def channels(self) -> int:
        return 2

    def _fill(self, grid: NDArray[np.float32], stream: EventStream, window: Window) -> None:
        fill_counts(stream, count_edges(len(stream), 1), grid, strides=(2, 1))

    def _tensor_grid(
        self, events: Columns, *, sensor_size: tuple[int, int], window: Window, weights: Tensor | None
    ) -> Tensor:
        return count_tensor(
            events, [0, len(events[0])], sensor_size=sensor_size, planes=2, strides=(2, 1), weights=weights
        )


@REPRESENTATIONS.register("stacked-histogram")
@dataclass(frozen=True)
class StackedHistogram(Representation):
    """Counts in bins of equal duration, [2·bins, H, W]: all bins of the off polarity, then all of the on.

    The channel order is that of RVT (Gehrig and Scaramuzza, CVPR 2023, released code). Bins are half-open and
    exact in integers, where RVT rounds in float32 and clips counts to uint8.
    """

    kind = "stacked-histogram"

    bins: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("bins", self.bins)

    @property
    def channels(self) -> int:
        return 2 * self.bins

    def _fill(self, grid: NDArray[np.float32], stream: EventStream, window: Window) -> None:
        fill_counts(stream, time_edges(stream.t, window, self.bins), grid, strides=(1, self.bins))

    def _tensor_grid(
        self, events: Columns, *, sensor_size: tuple[int, int], window: Window, weights: Tensor | None
    ) -> Tensor:
        return count_tensor(
            events,
            tensor_edges(events[0], window, self.bins),
            sensor_size=sensor_size,
            planes=self.channels,
            strides=(1, self.bins),
            weights=weights,
        )


@REPRESENTATIONS.register("frames")
@dataclass(frozen=True)
class Frames(Representation):
    """T frames of counts a polarity for spiking networks, [T, 2, H, W].

    Example:
        >>> Frames(steps=10, size=(48, 48), crop_to_events=True)(stream).shape
        torch.Size([10, 2, 48, 48])

    Args:
        steps: T.
        by: "time" cuts the window into T bins of equal duration, "count" the events into T equal parts.
        crop_to_events: cut to the bounding box of the events before resizing; needs `size`.

    Source: KT, He et al., AAAI 2024 (released code): equal duration, bounding box, bilinear, raw.
    """

    kind = "frames"

    steps: int = 10
    by: Cut = "time"
    crop_to_events: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("steps", self.steps)
        check_choice("by", self.by, Cut)
        if self.crop_to_events and self.size is None:
            raise ConfigError(
                "Expected a `size` with crop_to_events=True, but got None. Give (H, W) to resize to."
            )

    @property
    def channels(self) -> int:
        return 2

    def _crop(self, stream: EventStream) -> EventStream:
        if not self.crop_to_events or len(stream) == 0:
            return stream
        top, left = int(stream.y.min()), int(stream.x.min())
        box = (int(stream.y.max()) - top + 1, int(stream.x.max()) - left + 1)
        x, y = stream.x - np.uint16(left), stream.y - np.uint16(top)
        return EventStream(stream.t, x, y, stream.p, box)

    def _fill(self, grid: NDArray[np.float32], stream: EventStream, window: Window) -> None:
        edges = time_edges(stream.t, window, self.steps)
        if self.by == "count":
            edges = count_edges(len(stream), self.steps)
        fill_counts(stream, edges, grid, strides=(2, 1))

    def _tensor_grid(
        self, events: Columns, *, sensor_size: tuple[int, int], window: Window, weights: Tensor | None
    ) -> Tensor:
        t, x, y, p = events
        if self.crop_to_events and len(t):
            x, y = x.long() - x.min(), y.long() - y.min()
            sensor_size = (int(y.max()) + 1, int(x.max()) + 1)
        edges = tensor_edges(t, window, self.steps)
        if self.by == "count":
            edges = count_edges(len(t), self.steps).tolist()
        planes = count_tensor(
            (t, x, y, p),
            edges,
            sensor_size=sensor_size,
            planes=2 * self.steps,
            strides=(2, 1),
            weights=weights,
        )
        return planes.reshape(self.steps, 2, *sensor_size)  # [T·2, H, W] → [T, 2, H, W]
