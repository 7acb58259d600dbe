"""Event pictures for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evlift.checks import check_choice
from evlift.errors import ConfigError
from evlift.events.stream import EventStream
from evlift.representations.base import REPRESENTATIONS, Columns, Representation, Window
from evlift.representations.counts import Histogram
from evlift.representations.surface import refuse_weights

Background = Literal["light", "dark"]
# colour-blind safe: vermilion for off and blue for on (Okabe and Ito)
OFF, ON = np.array([213, 94, 0], np.float32), np.array([0, 114, 178], np.float32)


def render(stream: EventStream, *, background: Background = "light") -> NDArray[np.uint8]:
    """uint8 [H, W, 3]: on events blue, off events vermilion, stronger with the count.

    Example:
        >>> imageio.imwrite("events.png", render(stream))  # doctest: +SKIP
    """
    return colour(Histogram()(stream).numpy(), background)


def colour(counts: NDArray[np.float32], background: Background) -> NDArray[np.uint8]:
    """Counts [2, H, W] (off, on) as uint8 [H, W, 3], from half strength to full at the 99 % quantile."""
    total = counts.sum(0)  # [2, H, W] → [H, W]
    ground = np.float32(255 if background == "light" else 16)
    busy = total[total > 0]
    top = max(float(np.quantile(busy, 0.99)), 1.0) if busy.size else 1.0
    strength = np.where(total > 0, 0.5 + 0.5 * np.minimum(total / top, 1), 0)[..., None]
    share_on = (counts[1] / np.maximum(total, 1e-6))[..., None]
    ink = share_on * ON + (1 - share_on) * OFF
    return (ground + (ink - ground) * strength).round().astype(np.uint8)  # [H, W] → [H, W, 3]


@REPRESENTATIONS.register("picture")
@dataclass(frozen=True)
class Picture(Representation):
    """The colours of :func:`render` as float32 [3, H, W] in [0, 1], to look at or for RGB networks.

    Args:
        background: "light" or "dark".
    """

    kind = "picture"

    background: Background = "light"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("background", self.background, Background)
        if self.normalise != "none":
            raise ConfigError(f"Expected normalise='none' for a picture, but got '{self.normalise}'.")

    @property
    def channels(self) -> int:
        return 3

    def _fill(self, grid: NDArray[np.float32], stream: EventStream, window: Window) -> None:
        grid[:] = render(stream, background=self.background).transpose(2, 0, 1) / np.float32(255)

    def _tensor_grid(
        self, events: Columns, *, sensor_size: tuple[int, int], window: Window, weights: Tensor | None
    ) -> Tensor:
        refuse_weights(self.kind, weights)
        counts = Histogram().from_tensors(*events, sensor_size=sensor_size)
        picture = colour(counts.detach().cpu().numpy(), self.background) / np.float32(255)
        return counts.new_tensor(picture).permute(2, 0, 1)  # [H, W, 3] → [3, H, W]
