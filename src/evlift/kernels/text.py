"""Compiled parser behind :mod:`evlift.events.readers.text`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

NEWLINE, RETURN = 10, 13
POWERS = np.array([10**k for k in range(19)], np.int64)
MAX_DIGITS = 18
FULL = 10**17  # a value that cannot take another digit


@njit(cache=True, nogil=True)
def parse_number(text: NDArray[np.uint8], i: int, stop: int, shift: int) -> tuple[int, int]:
    """Read a decimal number at `i`: its value times 10^shift, rounded, and the index behind it (-1: none)."""
    negative = i < stop and text[i] == ord("-")
    if i < stop and (text[i] == ord("-") or text[i] == ord("+")):
        i += 1
    value, exponent, seen, point = 0, 0, 0, False
    while i < stop:
        c = text[i]
        if ord("0") <= c <= ord("9"):
            seen += 1
            if value < FULL:
                value = value * 10 + (c - ord("0"))
                exponent -= point
            elif not point:
                return 0, -1  # more digits than an int64 holds
        elif c == ord(".") and not point:
            point = True
        else:
            break
        i += 1
    if seen == 0:
        return 0, -1
    if i < stop and (text[i] == ord("e") or text[i] == ord("E")):
        written, i = parse_exponent(text, i + 1, stop)
        exponent += written
    scaled = scale(value, exponent + shift)
    return (-scaled if negative else scaled), i


@njit(cache=True, nogil=True)
def parse_exponent(text: NDArray[np.uint8], i: int, stop: int) -> tuple[int, int]:
    """Read the signed integer behind an "e"; the index is -1 if there is none."""
    negative = i < stop and text[i] == ord("-")
    if i < stop and (text[i] == ord("-") or text[i] == ord("+")):
        i += 1
    value, first = 0, i
    while i < stop and ord("0") <= text[i] <= ord("9"):
        value = min(value * 10 + (text[i] - ord("0")), 10_000)
        i += 1
    return (-value if negative else value), (i if i > first else -1)


@njit(cache=True, nogil=True)
def scale(value: int, exponent: int) -> int:
    """`value` times 10^exponent, rounded half up; an overflow saturates far above every legal value."""
    if exponent >= 0:
        if exponent > MAX_DIGITS or value > 2**62 // POWERS[exponent]:
            return 0 if value == 0 else 2**62
        return value * POWERS[exponent]
    if exponent < -MAX_DIGITS:
        return 0
    return (value + POWERS[-exponent] // 2) // POWERS[-exponent]


@njit(cache=True, nogil=True)
def is_gap(c: int) -> bool:
    """Space, tab, comma, semicolon or carriage return."""
    return c == 32 or c == 9 or c == 44 or c == 59 or c == RETURN


@njit(cache=True, nogil=True)
def parse_lines(
    text: NDArray[np.uint8], order: NDArray[np.int64], time_shift: int, out: NDArray[np.int64]
) -> tuple[int, int]:
    """Parse whole lines; return how many made a row of `out` and how many did not.

    Args:
        text: ends with a newline.
        order: for each field of a line the column of `out` it fills, or -1 to skip it.
        time_shift: column 0 is multiplied by 10^time_shift.
        out: [n, 4], rows t, x, y, p; n at least the number of lines.
    """
    rows = bad = start = 0
    while start < len(text):
        stop = start
        while text[stop] != NEWLINE:
            stop += 1
        kind = parse_line(text, start, stop, order, time_shift, out[rows])
        rows += kind == 1
        bad += kind == 2
        start = stop + 1
    return rows, bad


@njit(cache=True, nogil=True)
def parse_line(
    text: NDArray[np.uint8],
    i: int,
    stop: int,
    order: NDArray[np.int64],
    time_shift: int,
    row: NDArray[np.int64],
) -> int:
    """Fill `row` from a line: 0 blank or a comment, 1 an event, 2 neither."""
    field = 0
    while True:
        while i < stop and is_gap(text[i]):
            i += 1
        if i >= stop:
            break
        if text[i] == ord("#") or text[i] == ord("%"):
            return 0 if field == 0 else 2
        column = order[field] if field < len(order) else -1
        if column >= 0:
            value, i = parse_number(text, i, stop, time_shift if column == 0 else 0)
            if i < 0 or abs(value) >= 2**62:
                return 2
            row[column] = value
        while i < stop and not is_gap(text[i]):
            if column >= 0:
                return 2  # something hangs on to the number
            i += 1
        field += 1
    if field == 0:
        return 0
    return 1 if field >= len(order) else 2
