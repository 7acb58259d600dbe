"""Voxel grids: three conventions under their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlift.checks import check_choice, check_positive
from evlift.events.stream import EventStream
from evlift.representations.base import (
    REPRESENTATIONS,
    Columns,
    Representation,
    Window,
    columns,
)
from evlift.representations.counts import tensor_edges, time_edges
from evlift.representations.scatter import GridSum, pieces

Convention = Literal["e2vid", "tonic", "hard"]


@REPRESENTATIONS.register("voxel")
@dataclass(frozen=True)
class Voxel(Representation):
    """A voxel grid over time, [bins, H, W] with signed events, or [2·bins, H, W] with the polarities apart.

    Example:
        >>> Voxel(bins=5, convention="e2vid")(stream).shape
        torch.Size([5, 180, 240])

    Args:
        bins: time bins B.
        convention: where an event at time s in [0, 1] (first to last microsecond of the window) counts.
            "e2vid" shares it between the two bins around s·(B - 1): every event has the weight 1;
            "tonic" shares it between the two bins from s·B on, and drops what falls behind the last bin;
            "hard" counts it whole in bin floor(s·B), bins half-open.
        split: the polarities in planes of their own (all bins of off, then all of on) instead of -1 and +1.

    Source: "e2vid" is Rebecq et al., CVPR 2019, and the code of DSEC; "tonic" is Tonic's to_voxel_grid;
    "hard" is a signed stacked histogram (all three from released code).
    """

    kind = "voxel"

    bins: int = 5
    convention: Convention = "e2vid"
    split: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("bins", self.bins)
        check_choice("convention", self.convention, Convention)

    @property
    def channels(self) -> int:
        return self.bins * (1 + self.split)

    @property
    def cells(self) -> int:
        """Intervals of time within which an event keeps its pair of bins."""
        return max(self.bins - 1, 1) if self.convention == "e2vid" else self.bins

    def _fill(self, grid: NDArray[np.float32], stream: EventStream, window: Window) -> None:
        from evlift.kernels.represent import spread

        start, span = window[0], time_span(window, self.convention)
        edges = time_edges(stream.t, (start, start + span), self.cells)
        edges[-1] = len(stream)  # the last microsecond belongs to the last cell
        smooth = self.convention == "tonic" or (self.convention == "e2vid" and self.bins > 1)
        height, width = stream.sensor_size
        area = height * width
        layout = np.array([width, area, self.bins, self.bins * area * self.split], np.uint32)
        t, x, y, p = columns(stream)
        spread(
            t,
            x,
            y,
            p,
            edges,
            start,
            np.arange(self.cells) * (span / self.cells),
            self.cells / span if smooth else 0.0,
            layout,
            np.float32(1 if self.split else -1),
            grid.reshape(-1),
        )

    def _tensor_grid(
        self, events: Columns, *, sensor_size: tuple[int, int], window: Window, weights: Tensor | None
    ) -> Tensor:
        return voxel_grid(
            events,
            sensor_size=sensor_size,
            window=window,
            bins=self.bins,
            convention=self.convention,
            split=self.split,
            weights=weights,
        )


def time_span(window: Window, convention: Convention) -> int:
    """µs from the window's start to where s = 1: its last microsecond, or its end for half-open hard bins."""
    start, stop = window
    return stop - start if convention == "hard" else max(stop - 1 - start, 1)


def voxel_grid(
    events: Columns,
    *,
    sensor_size: tuple[int, int],
    window: Window,
    bins: int,
    convention: Convention = "e2vid",
    split: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Voxel grid in torch on any device, differentiable in `weights` and, but for "hard", in floating times.

    Args:
        events: t [n] µs, x [n], y [n], p [n].
        sensor_size: (H, W).
        window: (start, stop) µs; every event lies in it.
        bins, convention, split: as in :class:`Voxel`.
        weights: [n], what each event counts, default 1.

    Returns:
        [bins, H, W], or [2·bins, H, W] if `split`.
    """
    t, x, y, p = events
    like = weights if weights is not None else t
    total = GridSum(sensor_size, bins * (1 + split), strides=(1, bins if split else 0), like=like)
    cells = max(bins - 1, 1) if convention == "e2vid" else bins
    span = time_span(window, convention)
    for k, part in pieces(tensor_edges(t, (window[0], window[0] + span), cells), t.device):
        place = (x[part], y[part], p[part])
        values = total.total.new_ones(len(place[0])) if weights is None else weights[part]
        if not split:
            values = torch.where(place[2] > 0, values, -values)
        if convention == "hard" or (convention == "e2vid" and bins == 1):
            total.add(place, k, values)
            continue
        # integers stay exact until the remainder is taken
        later = values * ((t[part] - window[0]) * cells - k * span).to(values.dtype) / span
        total.add(place, k, values - later)
        if k + 1 < bins:
            total.add(place, k + 1, later)
    return total.grid
