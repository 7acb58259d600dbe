"""Compiled loops behind :mod:`evlift.events.filters`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

LONG_AGO = -(2**62)  # earlier than any time stamp, and far enough from the int64 limit to subtract from


@njit(cache=True, nogil=True)
def refractory_mask(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    height: int,
    width: int,
    period_us: int,
) -> NDArray[np.bool_]:
    """Keep an event when its pixel's last kept event is at least `period_us` old."""
    last = np.full(height * width, LONG_AGO, np.int64)
    keep = np.zeros(len(t), np.bool_)
    for i in range(len(t)):
        pixel = np.int64(y[i]) * width + x[i]
        if t[i] - last[pixel] >= period_us:
            last[pixel] = t[i]
            keep[i] = True
    return keep


@njit(cache=True, nogil=True)
def supported_mask(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    height: int,
    width: int,
    window_us: int,
) -> NDArray[np.bool_]:
    """Keep an event when one of its eight neighbours fired at most `window_us` earlier."""
    row = width + 2  # one pixel of border on each side saves the bounds checks
    last = np.full((height + 2) * row, LONG_AGO, np.int64)
    keep = np.zeros(len(t), np.bool_)
    for i in range(len(t)):
        pixel = (np.int64(y[i]) + 1) * row + x[i] + 1
        latest = max(last[pixel - row - 1], last[pixel - row], last[pixel - row + 1])
        latest = max(latest, last[pixel - 1], last[pixel + 1])
        latest = max(latest, last[pixel + row - 1], last[pixel + row], last[pixel + row + 1])
        keep[i] = t[i] - latest <= window_us
        last[pixel] = t[i]
    return keep
