"""Compiled loops of the representations.

Grids are flat float32; indices are unsigned, which spares the sign checks. Columns are contiguous arrays
of an `EventStream`; `width` is the sensor's.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count(x, y, p, edges, strides, width, grid):  # type: ignore[no-untyped-def]
    """Count events a pixel and polarity; events edges[k]:edges[k+1] go to bin k.

    strides: uint32 (bin, polarity), distance of neighbouring planes in `grid`.
    """
    wide = np.uint32(width)
    for k in range(edges.size - 1):
        plane = grid[np.uint32(k) * strides[0] :]
        for i in range(edges[k], edges[k + 1]):
            index = np.uint32(p[i]) * strides[1] + np.uint32(y[i]) * wide + np.uint32(x[i])
            plane[index] += np.float32(1)
