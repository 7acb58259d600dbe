"""Compiled loops behind :mod:`evlift.events.readers.aedat` and :mod:`evlift.events.readers.es`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

WRAP = 2**32
HALF = 2**31


@njit(cache=True, nogil=True)
def swap(word: np.int64) -> np.int64:
    """A big-endian word read on a little-endian machine."""
    return (word & 0xFF) << 24 | (word & 0xFF00) << 8 | (word >> 8) & 0xFF00 | word >> 24


@njit(cache=True, nogil=True)
def unwrap(raw: np.int64, state: NDArray[np.int64]) -> np.int64:
    """Undo the wrap of a 32-bit counter; `state` [2] is the last raw tick (-1: none) and what was added.

    A backward step is a wrap only if it exceeds half the counter's range.
    """
    last = state[0]
    if last >= 0:
        if last - raw > HALF:
            state[1] += WRAP
        elif raw - last > HALF and state[1] > 0:
            state[1] -= WRAP  # an event from before the wrap comes late
    state[0] = raw
    return raw + state[1]


@njit(cache=True, nogil=True)
def aedat2(
    words: NDArray[np.uint32],
    layout: NDArray[np.int64],
    state: NDArray[np.int64],
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
) -> int:
    """Decode pairs of big-endian address and time [2n]; return the number of polarity events.

    `layout` [8]: the bits that must be clear, shift and mask of x, shift and mask of y, shift of polarity, its bit
    for ON, H.
    """
    n = 0
    for i in range(0, len(words), 2):
        address = swap(np.int64(words[i]))
        if address & layout[0]:
            continue
        t[n] = unwrap(swap(np.int64(words[i + 1])), state)
        x[n] = address >> layout[1] & layout[2]
        # rows count from the bottom; a row above the top wraps to a value no sensor has
        y[n] = layout[7] - 1 - (address >> layout[3] & layout[4])
        p[n] = (address >> layout[5] & 1) == layout[6]
        n += 1
    return n


@njit(cache=True, nogil=True)
def aedat3(
    words: NDArray[np.uint32],
    overflow: int,
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
) -> int:
    """Decode pairs of little-endian data and time [2n] of a packet; return the number of valid events."""
    n = 0
    base = overflow << 31
    for i in range(0, len(words), 2):
        data = words[i]
        if data & 1:
            t[n] = base + (np.int64(words[i + 1]) & 0x7FFFFFFF)
            x[n] = data >> 17
            y[n] = data >> 2 & 0x7FFF
            p[n] = data & 2
            n += 1
    return n


@njit(cache=True, nogil=True)
def es_dvs(
    data: NDArray[np.uint8],
    state: NDArray[np.int64],
    height: int,
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
) -> tuple[int, int]:
    """Decode Event Stream's DVS bytes; return events written and bytes used. `state` [1] is the time so far.

    A byte 0xFF adds 127 µs, 0xFE is a reset marker and skipped; any other byte holds seven bits of time, then
    polarity, and is followed by x and y, little-endian, y counted from the bottom.
    """
    n = i = 0
    now = state[0]
    while i < len(data):
        head = data[i]
        if head == 0xFE:
            i += 1
        elif head == 0xFF:
            now += 127
            i += 1
        elif i + 5 <= len(data):
            now += head >> 1
            t[n] = now
            x[n] = np.uint16(data[i + 1]) | np.uint16(data[i + 2]) << 8
            y[n] = height - 1 - (np.int64(data[i + 3]) | np.int64(data[i + 4]) << 8)
            p[n] = head & 1
            n += 1
            i += 5
        else:
            break
    state[0] = now
    return n, i
