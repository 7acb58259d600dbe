"""Decoding loops: `out` holds the columns (t, x, y, p); `state` is carried from block to block."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy import bool_, int64, uint8, uint16, uint32, uint64
from numpy.typing import NDArray

Columns: TypeAlias = tuple[NDArray[int64], NDArray[uint16], NDArray[uint16], NDArray[bool_]]
State: TypeAlias = NDArray[int64]

TIME, UNKNOWN = 0, 1
"""Places in every EVT state: µs of the last TIME_HIGH (negative before it), records of no known kind."""


@njit(cache=True, nogil=True)
def atis_extent(data: NDArray[uint8]) -> tuple[int, int]:
    """Largest y + 1 and x + 1 of ATIS records uint8 [5 k] below the marker row; 0 for none."""
    rows = columns = 0
    for i in range(len(data) // 5):
        row = int64(data[5 * i + 1])
        below = row < 240
        rows = max(rows, int((row + 1) * below))
        columns = max(columns, int((data[5 * i] + int64(1)) * below))
    return rows, columns


@njit(cache=True, nogil=True)
def atis(data: NDArray[uint8], state: State, out: Columns) -> int:
    """ATIS 40-bit records uint8 [5 k]; returns the event count. `state` [1]: µs that overflows have added."""
    t, x, y, p = out
    n = uint64(0)  # unsigned: an index that cannot be negative needs no check
    offset = state[0]
    for i in range(len(data) // 5):
        row = data[5 * i + 1]
        middle = int64(data[5 * i + 2])
        t[n] = offset + ((middle & 127) << 16 | int64(data[5 * i + 3]) << 8 | int64(data[5 * i + 4]))
        x[n] = data[5 * i]
        y[n] = row
        p[n] = middle >> 7 != 0
        marker = row == 240  # an overflow, not an event: the next record is written over it
        n += uint64(not marker)
        offset += int64(marker) << 13
    state[0] = offset
    return int(n)


@njit(cache=True, nogil=True)
def lzf_length(data: NDArray[uint8]) -> int:
    """Bytes that an LZF block uint8 [n] unpacks to; runs of literals and references to what came before."""
    i = length = 0
    while i < len(data):
        head = int(data[i])
        if head < 32:
            length += head + 1
            i += head + 2
            continue
        long = head >> 5 == 7
        length += (head >> 5) + 2
        if long and i + 1 < len(data):
            length += int(data[i + 1])
        i += 3 if long else 2
    return length


@njit(cache=True, nogil=True)
def dat(words: NDArray[uint32], state: State, out: Columns) -> int:
    """DAT records uint32 [2 k]: time, then p, y, x. `state` [2]: last raw time, µs that wraps have added."""
    t, x, y, p = out
    last, offset = state[0], state[1]
    n = len(words) >> 1
    for i in range(n):
        raw = int64(words[2 * i])
        if raw < last - (1 << 31):  # only a step of more than half the counter is a wrap
            offset += 1 << 32
        elif raw > last + (1 << 31) and offset > 0:  # a late event from before the wrap
            offset -= 1 << 32
        last = raw
        word = words[2 * i + 1]
        t[i] = offset + raw
        x[i] = word & 0x3FFF
        y[i] = (word >> 14) & 0x3FFF
        p[i] = (word >> 28) & 1
    state[0], state[1] = last, offset
    return n


@njit(cache=True, nogil=True)
def time_after(high: int64, bits: int, low_bits: int, state: State) -> None:
    """Set `state[TIME]` after a TIME_HIGH of `bits` bits: the counter wraps if it falls by more than half."""
    if state[TIME] < 0:
        state[TIME] = high << low_bits
        return
    loops = state[TIME] >> (bits + low_bits)
    before = (state[TIME] >> low_bits) & ((1 << bits) - 1)
    if high < before - (1 << (bits - 1)):
        loops += 1
    elif high > before + (1 << (bits - 1)) and loops > 0:
        loops -= 1
    state[TIME] = ((loops << bits) | high) << low_bits


@njit(cache=True, nogil=True)
def evt2(words: NDArray[uint32], state: State, out: Columns) -> int:
    """EVT2 words [k]; returns the event count. `state` [2]: TIME, UNKNOWN. Timeless events are skipped."""
    t, x, y, p = out
    n = 0
    for word in words:
        kind = word >> 28
        if kind <= 1:
            t[n] = state[TIME] + int64((word >> 22) & 0x3F)
            x[n] = (word >> 11) & 0x7FF
            y[n] = word & 0x7FF
            p[n] = kind
            n += state[TIME] >= 0
        elif kind == 8:
            time_after(int64(word & 0xFFFFFFF), 28, 6, state)
        elif kind not in (10, 14, 15):
            state[UNKNOWN] += 1
    return n


@njit(cache=True, nogil=True)
def evt21(words: NDArray[uint64], start: int, state: State, out: Columns) -> tuple[int, int]:
    """EVT2.1 words [k] from `start`; returns (next word, event count), stopping before `out` is full."""
    t, x, y, p = out
    n = 0
    for i in range(start, len(words)):
        word = words[i]
        kind = word >> uint64(60)
        if kind <= 1:
            if n + 32 > len(t):
                return i, n
            if state[TIME] < 0:
                continue
            time = state[TIME] + int64((word >> uint64(54)) & uint64(0x3F))
            column = uint16((word >> uint64(43)) & uint64(0x7FF))
            row = uint16((word >> uint64(32)) & uint64(0x7FF))
            mask = uint32(word & uint64(0xFFFFFFFF))
            while mask:
                if mask & uint32(1):
                    t[n] = time
                    x[n] = column
                    y[n] = row
                    p[n] = kind == 1
                    n += 1
                mask >>= uint32(1)
                column += uint16(1)
        elif kind == 8:
            time_after(int64((word >> uint64(32)) & uint64(0xFFFFFFF)), 28, 6, state)
        elif kind not in (10, 14, 15):
            state[UNKNOWN] += 1
    return len(words), n


LOW, ROW, COLUMN, POLARITY = 2, 3, 4, 5
"""Further places in the state of EVT3; a row or base column of -1 was not seen yet."""

LOWEST_BIT = np.array([(value & -value).bit_length() - 1 for value in range(2**12)], np.int64)
"""Index of the lowest bit that is set in a 12-bit mask."""


@njit(cache=True, nogil=True)
def evt3(words: NDArray[uint16], start: int, state: State, out: Columns) -> tuple[int, int]:
    """EVT3 words [k] from `start`; returns (next word, event count), stopping before `out` is full.

    `state` [6]: TIME, UNKNOWN, LOW, ROW, COLUMN, POLARITY. Events before a first time and row are skipped.
    """
    t, x, y, p = out
    n = uint64(0)  # unsigned: an index that cannot be negative needs no check
    room = uint64(len(t) - 12)
    now, row = state[TIME] + state[LOW], state[ROW]
    timed = uint64(state[TIME] >= 0)
    i = uint64(start)
    stop = uint64(len(words))
    while i < stop and n <= room:
        word = int64(words[i])
        i += uint64(1)
        kind = word >> 12
        if kind & 13 == 0:  # ADDR_Y (0) and ADDR_X (2) alternate too wildly for a branch between them
            row = row if kind else word & 0x7FF
            t[n] = now
            x[n] = word & 0x7FF
            y[n] = row
            p[n] = word & 0x800 != 0
            n += uint64(kind >> 1) & timed & uint64(row >= 0)
        elif kind == 6:
            state[LOW] = word & 0xFFF
            now = state[TIME] + state[LOW]
        elif kind == 3:
            state[COLUMN], state[POLARITY] = word & 0x7FF, word & 0x800
        elif kind & 14 == 4:
            column = state[COLUMN]
            mask = word & (0xFFF if kind == 4 else 0xFF)
            if column < 0:
                continue
            state[COLUMN] = column + (12 if kind == 4 else 8)
            while mask and timed and row >= 0:
                t[n] = now
                x[n] = column + LOWEST_BIT[mask]
                y[n] = row
                p[n] = state[POLARITY] != 0
                n += uint64(1)
                mask &= mask - 1
        elif kind == 8:
            before = state[TIME]
            time_after(word & 0xFFF, 12, 12, state)
            if state[TIME] != before:  # a repeated TIME_HIGH keeps TIME_LOW
                state[LOW] = 0
            now = state[TIME] + state[LOW]
            timed = uint64(1)
        elif kind not in (7, 10, 14, 15):
            state[UNKNOWN] += 1
    state[ROW] = row
    return int(i), int(n)
