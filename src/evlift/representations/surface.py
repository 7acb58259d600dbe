"""What the time stamps of a pixel say: time surface and Ev-SegNet's six channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlift.errors import ConfigError
from evlift.events.stream import EventStream
from evlift.representations.base import REPRESENTATIONS, Columns, Representation, Window, columns
from evlift.representations.scatter import flat_index, pieces


@REPRESENTATIONS.register("time-surface")
@dataclass(frozen=True)
class TimeSurface(Representation):
    """exp(-age / tau) of the newest event a pixel and polarity, [2, H, W]; 0 where there was none.

    Args:
        tau_us: decay time. Age counts back from the last microsecond of the window.

    Source: HOTS, Lagorce et al., TPAMI 2017 (published equation), without its neighbourhood.
    """

    kind = "time-surface"

    tau_us: float = 50_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tau_us > 0:
            raise ConfigError(f"Expected `tau_us` to be positive, but got {self.tau_us}.")

    @property
    def channels(self) -> int:
        return 2

    def _fill(self, grid: NDArray[np.float32], stream: EventStream, window: Window) -> None:
        from evlift.kernels.represent import newest

        t, x, y, p = columns(stream)
        newest(t, x, y, p, window[1] - 1, self.tau_us, stream.sensor_size[1], grid.reshape(-1))

    def _tensor_grid(
        self, events: Columns, *, sensor_size: tuple[int, int], window: Window, weights: Tensor | None
    ) -> Tensor:
        refuse_weights(self.kind, weights)
        t, x, y, p = events
        newest = torch.full((2 * sensor_size[0] * sensor_size[1],), -torch.inf, device=t.device)
        for _, part in pieces([0, len(t)], t.device):
            index = flat_index((x[part], y[part], p[part]), sensor_size, apart=1)
            age = (t[part] - (window[1] - 1)).float() / self.tau_us
            newest = newest.scatter_reduce(0, index, age, "amax")
        return newest.exp().reshape(2, *sensor_size)


@REPRESENTATIONS.register("evsegnet")
@dataclass(frozen=True)
class EvSegNet(Representation):
    """Count, mean and deviation of the time stamps a pixel and polarity, [6, H, W].

    Channels: count off, count on, mean off, mean on, deviation off, deviation on. Times run from 0 to 1 over
    the window; the deviation divides by n - 1 and is 0 under two events.

    Source: Ev-SegNet, Alonso and Murillo, CVPR Workshops 2019 (published summary); order and n - 1 are
    decided here.
    """

    kind = "evsegnet"

    @property
    def channels(self) -> int:
        return 6

    def _fill(self, grid: NDArray[np.float32], stream: EventStream, window: Window) -> None:
        from evlift.kernels.represent import moments

        t, x, y, p = columns(stream)
        scale = 1 / max(window[1] - 1 - window[0], 1)
        moments(t, x, y, p, window[0], scale, stream.sensor_size[1], grid.reshape(-1))

    def _tensor_grid(
        self, events: Columns, *, sensor_size: tuple[int, int], window: Window, weights: Tensor | None
    ) -> Tensor:
        refuse_weights(self.kind, weights)
        t, x, y, p = events
        start, span = window[0], max(window[1] - 1 - window[0], 1)
        size = 2 * sensor_size[0] * sensor_size[1]
        count, total, squares = (torch.zeros(size, device=t.device) for _ in range(3))
        parts = [part for _, part in pieces([0, len(t)], t.device)]
        for part in parts:
            index = flat_index((x[part], y[part], p[part]), sensor_size, apart=1)
            count.scatter_add_(0, index, count.new_ones(1).expand(len(index)))
            total.scatter_add_(0, index, (t[part] - start).float() / span)
        mean = total / count.clamp(min=1)
        for part in parts:
            index = flat_index((x[part], y[part], p[part]), sensor_size, apart=1)
            squares.scatter_add_(0, index, ((t[part] - start).float() / span - mean[index]) ** 2)
        deviation = (squares / (count - 1).clamp(min=1)).sqrt()
        return torch.stack([count, mean, deviation]).reshape(6, *sensor_size)


def refuse_weights(kind: str, weights: Tensor | None) -> None:
    """Raise if `weights` were given to a kind that is not a sum over events."""
    if weights is not None:
        raise ValueError(
            f"Expected no `weights` for '{kind}', which is no sum over events. Use counts or a voxel grid."
        )
