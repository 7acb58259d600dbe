"""Compiled loops of the representations.

Grids are flat float32 and zero on entry. Columns are contiguous arrays of an `EventStream`; `width` is the
sensor's, `area` its number of pixels. Loops run over slices from 0 and indices are unsigned, which spares the
sign checks: that alone doubles the speed. Many positional arguments are the price of numba,
which knows no keyword-only ones.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count(x, y, p, edges, strides, width, grid):  # type: ignore[no-untyped-def]
    """Count events a pixel and polarity; events edges[k]:edges[k+1] go to bin k.

    strides: uint32 (bin, polarity), distance of neighbouring planes in `grid`.
    """
    wide = np.uint32(width)
    apart = strides[1]
    for k in range(edges.size - 1):
        part = slice(edges[k], edges[k + 1])
        xs, ys, ps = x[part], y[part], p[part]
        plane = grid[np.uint32(k) * strides[0] :]
        for i in range(xs.size):
            plane[np.uint32(ps[i]) * apart + np.uint32(ys[i]) * wide + np.uint32(xs[i])] += np.float32(1)


@njit(cache=True, nogil=True)
def spread(t, x, y, p, edges, start, origins, slope, layout, off_sign, grid):  # type: ignore[no-untyped-def]
    """Share each event of cell k between planes k (1 - d) and k + 1 (d); d = (t - start - origins[k])·slope.

    layout: uint32 (width, area, bins, distance of the two polarities in `grid`, 0 if signed).
    off_sign: what an off event counts, -1 if signed.
    With slope 0, or in the last plane, only the first share is kept.
    """
    wide, area, bins, apart = layout
    for k in range(edges.size - 1):
        part = slice(edges[k], edges[k + 1])
        ts, xs, ys, ps = t[part], x[part], y[part], p[part]
        origin = origins[k]
        left = grid[np.uint32(k) * area :]
        if slope == 0 or k + 1 >= bins:
            for i in range(xs.size):
                index = np.uint32(ps[i]) * apart + np.uint32(ys[i]) * wide + np.uint32(xs[i])
                value = np.float32(1) if ps[i] else off_sign
                left[index] += value * np.float32(1 - (ts[i] - start - origin) * slope)
        else:
            right = grid[np.uint32(k + 1) * area :]
            for i in range(xs.size):
                index = np.uint32(ps[i]) * apart + np.uint32(ys[i]) * wide + np.uint32(xs[i])
                value = np.float32(1) if ps[i] else off_sign
                later = value * np.float32((ts[i] - start - origin) * slope)
                left[index] += value - later
                right[index] += later


@njit(cache=True, nogil=True)
def newest(t, x, y, p, last, tau, width, grid):  # type: ignore[no-untyped-def]
    """exp((t - last) / tau) of the newest event a pixel and polarity, 0 where there is none."""
    wide = np.uint32(width)
    area = np.uint32(grid.size // 2)
    for i in range(t.size):
        # always negative, so that the grid's zeros go on meaning "no event"
        grid[np.uint32(p[i]) * area + np.uint32(y[i]) * wide + np.uint32(x[i])] = np.float32(t[i] - last - 1)
    for j in range(grid.size):
        if grid[j] < 0:
            grid[j] = math.exp((grid[j] + np.float32(1)) / np.float32(tau))


@njit(cache=True, nogil=True)
def moments(t, x, y, p, start, scale, width, grid):  # type: ignore[no-untyped-def]
    """Count, mean and sample deviation of the scaled times a pixel and polarity, as six planes."""
    wide = np.uint32(width)
    area = np.uint32(grid.size // 6)
    # 16 bytes a pixel and polarity, written together: count, first time, sums of the differences from it
    # (sums of plain squares would cancel in float32)
    sums = np.zeros(8 * area, np.float32)
    for i in range(t.size):
        pixel = np.uint32(y[i]) * wide + np.uint32(x[i])
        j = (pixel << np.uint32(3)) + (np.uint32(p[i]) << np.uint32(2))
        time = np.float32((t[i] - start) * scale)
        first = time if sums[j] == 0 else sums[j + np.uint32(1)]
        ahead = time - first
        sums[j] += np.float32(1)
        sums[j + np.uint32(1)] = first
        sums[j + np.uint32(2)] += ahead
        sums[j + np.uint32(3)] += ahead * ahead
    for k in range(2 * area):
        n = sums[4 * k]
        if n > 0:
            plane = (k & 1) * area + (k >> 1)
            shift = sums[4 * k + 2] / n
            grid[plane] = n
            grid[plane + 2 * area] = sums[4 * k + 1] + shift
            squares = max(sums[4 * k + 3] - n * shift * shift, np.float32(0))
            grid[plane + 4 * area] = math.sqrt(squares / max(n - 1, np.float32(1)))
