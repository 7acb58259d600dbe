"""The torch path: sums over flat indices, in chunks that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

CPU_CHUNK = 2**17  # one-shot code is 8 to 15 times slower on the CPU: its temporaries fall out of the cache
DEVICE_CHUNK = 2**24  # on a GPU the launch counts, memory is the only limit


def pieces(edges: Sequence[int], device: torch.device) -> Iterator[tuple[int, slice]]:
    """(k, slice) that cover the events edges[k]:edges[k + 1] of each bin k in chunks of a size that suits `device`."""
    size = CPU_CHUNK if device.type == "cpu" else DEVICE_CHUNK
    for k, (first, last) in enumerate(pairwise(edges)):
        for start in range(first, last, size):
            yield k, slice(start, min(start + size, last))


class GridSum:
    """Sums event values into planes [planes, H, W], differentiable in the values.

    Args:
        sensor_size: (H, W).
        planes: number of planes.
        strides: distance of neighbouring (bins, polarities) in planes.
        like: gives the device, and the type where it is floating (else float32).
    """

    def __init__(
        self, sensor_size: tuple[int, int], planes: int, *, strides: tuple[int, int], like: Tensor
    ) -> None:
        self.shape = (planes, *sensor_size)
        self.area = sensor_size[0] * sensor_size[1]
        self.strides = strides
        dtype = like.dtype if like.dtype.is_floating_point else torch.float32
        self.total = torch.zeros(planes * self.area, dtype=dtype, device=like.device)

    def add(self, xyp: tuple[Tensor, Tensor, Tensor], bin_index: int, values: Tensor | None) -> None:
        """Add `values` [n] (default: ones) of events at `x`, `y`, `p` [n] to the planes of one bin."""
        index = (
            flat_index(xyp, self.shape[1:], apart=self.strides[1]) + bin_index * self.strides[0] * self.area
        )
        if values is None:
            values = self.total.new_ones(1).expand(len(index))
        self.total.scatter_add_(0, index, values)

    @property
    def grid(self) -> Tensor:
        """The sums as [planes, H, W]."""
        return self.total.reshape(self.shape)


def flat_index(xyp: tuple[Tensor, Tensor, Tensor], sensor_size: tuple[int, int], *, apart: int) -> Tensor:
    """int64 [n], flat index of each event in planes [.., H, W] whose polarities lie `apart` planes apart."""
    x, y, p = (column.int() for column in xyp)  # half the memory traffic of int64
    return ((p * (apart * sensor_size[0]) + y) * sensor_size[1] + x).long()
