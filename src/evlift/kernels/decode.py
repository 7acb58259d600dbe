"""Decoding loops. State is carried in int64 arrays, so that blocks decode as the whole file does."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True)
def atis(data, state, t, x, y, p):  # type: ignore[no-untyped-def]
    """ATIS 40-bit records uint8 [5 k] → columns; returns the event count. `state` [1]: µs that overflows added."""
    n = 0
    offset = state[0]
    for i in range(0, len(data) - 4, 5):
        row = data[i + 1]
        if row == 240:  # overflow marker, not an event
            offset += 8192
            continue
        middle = data[i + 2]
        t[n] = offset + (
            (np.int64(middle & 127) << 16) | (np.int64(data[i + 3]) << 8) | np.int64(data[i + 4])
        )
        x[n] = data[i]
        y[n] = row
        p[n] = middle >> 7
        n += 1
    state[0] = offset
    return n
