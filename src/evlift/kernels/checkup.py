"""Compiled loop behind :mod:`evlift.events.checkup`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def tally(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    counts: NDArray[np.int64],
    last: NDArray[np.int64],
) -> int:
    """Add events to `counts` [2, H, W] (OFF, ON) and return how many repeat time, pixel and polarity.

    `last` [2, H, W] keeps each pixel's latest time from chunk to chunk.
    """
    duplicates = 0
    for i in range(len(t)):
        sign = 1 if p[i] else 0
        counts[sign, y[i], x[i]] += 1
        if last[sign, y[i], x[i]] == t[i]:
            duplicates += 1
        last[sign, y[i], x[i]] = t[i]
    return duplicates
