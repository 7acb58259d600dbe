"""Encoding loops: event columns → the words of a format; `state` is carried from block to block."""

from __future__ import annotations

from typing import TypeAlias

from numba import njit
from numpy import bool_, int64, uint16, uint32
from numpy.typing import NDArray

Columns: TypeAlias = tuple[NDArray[int64], NDArray[uint16], NDArray[uint16], NDArray[bool_]]

HIGH, LOW, ROW = 0, 1, 2
"""Places in the state: last TIME_HIGH (unwrapped, -1 before the first), last TIME_LOW and last row (EVT3)."""


@njit(cache=True, nogil=True)
def next_high(high: int, last: int, bits: int) -> int:
    """The TIME_HIGH to write on the way from `last` to `high`: never over a quarter of the counter at once.

    A reader takes a fall of more than half a counter for a wrap, so longer gaps are walked, the first from 0.
    """
    if last < 0:
        return high if high < 1 << bits else 0
    return min(high, last + (1 << (bits - 2)))


@njit(cache=True, nogil=True)
def evt2(columns: Columns, state: NDArray[int64], words: NDArray[uint32]) -> int:
    """EVT2 words of n events; returns their count. `state` [1]: HIGH."""
    t, x, y, p = columns
    k = 0
    last = state[HIGH]
    for i in range(len(t)):
        high = t[i] >> 6
        while last != high:
            last = next_high(high, last, 28)
            words[k] = 0x80000000 | (last & 0xFFFFFFF)
            k += 1
        words[k] = int64(p[i]) << 28 | (t[i] & 0x3F) << 22 | int64(x[i]) << 11 | int64(y[i])
        k += 1
    state[HIGH] = last
    return k


@njit(cache=True, nogil=True)
def vector_at(i: int, columns: Columns) -> tuple[int, int]:
    """Events from `i` on that fit one VECT_12: (mask, count); same time, row, polarity, and x increasing."""
    t, x, y, p = columns
    mask, count, last = 0, 0, -1
    while i + count < len(t):
        j = i + count
        bit = int(x[j]) - int(x[i])
        if t[j] != t[i] or y[j] != y[i] or p[j] != p[i] or bit <= last or bit >= 12:
            break
        mask |= 1 << bit
        last = bit
        count += 1
    return mask, count


@njit(cache=True, nogil=True)
def evt3(columns: Columns, state: NDArray[int64], words: NDArray[uint16]) -> int:
    """EVT3 words of n events; returns their count. `state` [3]: HIGH, LOW, ROW."""
    t, x, y, p = columns
    k = i = 0
    last, low, row = state[HIGH], state[LOW], state[ROW]
    while i < len(t):
        high = t[i] >> 12
        while last != high:
            last = next_high(high, last, 12)
            words[k] = 0x8000 | (last & 0xFFF)
            k += 1
            low = -1  # a reader sets it to 0, others may keep it: state it
        if low != t[i] & 0xFFF:
            low = t[i] & 0xFFF
            words[k] = 0x6000 | low
            k += 1
        if row != int64(y[i]):
            row = int64(y[i])
            words[k] = row
            k += 1
        side = int64(p[i]) << 11 | int64(x[i])
        mask, count = vector_at(i, columns)
        if count > 2:  # two words for three events or more
            words[k], words[k + 1] = 0x3000 | side, 0x4000 | mask
            k += 2
            i += count
        else:
            words[k] = 0x2000 | side
            k += 1
            i += 1
    state[HIGH], state[LOW], state[ROW] = last, low, row
    return k
