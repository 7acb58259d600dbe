"""The torch path: sums over flat indices, in chunks that stay in the cache."""

from __future__ import annotations

import torch
from torch import Tensor

CPU_CHUNK = 2**17  # one-shot code is 8 to 15 times slower on the CPU: its temporaries fall out of the cache
DEVICE_CHUNK = 2**24  # on a GPU the launch counts, memory is the only limit


def scatter_sum(index: Tensor, values: Tensor | None, length: int) -> Tensor:
    """Sum of `values` [n] (default: ones) over equal `index` [n] in [0, length): [length].

    Differentiable in `values`; float32 unless `values` has another floating type.
    """
    dtype = torch.float32 if values is None else values.dtype
    total = torch.zeros(length, dtype=dtype, device=index.device)
    chunk = CPU_CHUNK if index.device.type == "cpu" else DEVICE_CHUNK
    ones = torch.ones(min(chunk, len(index)), dtype=dtype, device=index.device)
    for first in range(0, len(index), chunk):
        part = index[first : first + chunk]
        source = ones[: len(part)] if values is None else values[first : first + chunk]
        total.scatter_add_(0, part, source)
    return total
