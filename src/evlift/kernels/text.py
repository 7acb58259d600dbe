"""Compiled parser behind :mod:`evlift.events.readers.text`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

NEWLINE, RETURN, TAB, SPACE = 10, 13, 9, 32
COMMA, SEMICOLON, HASH, PERCENT = 44, 59, 35, 37
PLUS, MINUS, POINT, ZERO, NINE = 43, 45, 46, 48, 57
UPPER_E, LOWER_E = 69, 101
# characters as numbers, for the compiler
POWERS = np.array([10**k for k in range(19)], np.int64)
FLOOR, NEAREST, CEILING = range(3)
MAX_DIGITS = 18
FULL = 10**17  # a value that takes no further digit behind the point
MOST = (2**63 - 10) // 10  # a value that takes one more before it


@njit(cache=True, nogil=True)
def parse_number(text: NDArray[np.uint8], i: int, stop: int, shift: int, cut: bool) -> tuple[int, int]:
    """Read a decimal number at `i`: its value times 10^shift, and the index behind it (-1: none).

    `cut`: take the whole number below; otherwise the nearest one.
    """
    negative = i < stop and text[i] == MINUS
    if i < stop and (text[i] == MINUS or text[i] == PLUS):
        i += 1
    value, exponent, seen, point = 0, 0, 0, False
    while i < stop:
        c = int(text[i])  # uint8 would overflow where this runs uncompiled
        if ZERO <= c <= NINE:
            seen += 1
            if value < (FULL if point else MOST):
                value = value * 10 + (c - ZERO)
                exponent -= 1 if point else 0
            elif not point:
                return 0, -1  # more digits than an int64 holds
        elif c == POINT and not point:
            point = True
        else:
            break
        i += 1
    if seen == 0:
        return 0, -1
    if i < stop and (text[i] == LOWER_E or text[i] == UPPER_E):
        written, i = parse_exponent(text, i + 1, stop)
        exponent += written
    scaled = scale(value, exponent + shift, CEILING if cut and negative else FLOOR if cut else NEAREST)
    return (-scaled if negative else scaled), i


@njit(cache=True, nogil=True)
def parse_exponent(text: NDArray[np.uint8], i: int, stop: int) -> tuple[int, int]:
    """Read the signed integer behind an "e"; the index is -1 if there is none."""
    negative = i < stop and text[i] == MINUS
    if i < stop and (text[i] == MINUS or text[i] == PLUS):
        i += 1
    value, first = 0, i
    while i < stop and ZERO <= text[i] <= NINE:
        value = min(value * 10 + (int(text[i]) - ZERO), 10_000)
        i += 1
    return (-value if negative else value), (i if i > first else -1)


@njit(cache=True, nogil=True)
def scale(value: int, exponent: int, rounding: int) -> int:
    """`value` ≥ 0 times 10^exponent, rounded; an overflow saturates far above every legal value."""
    if exponent >= 0:
        if exponent > MAX_DIGITS or value > 2**62 // POWERS[exponent]:
            return 0 if value == 0 else 2**62
        return value * POWERS[exponent]
    if exponent < -MAX_DIGITS:
        return 1 if rounding == CEILING and value > 0 else 0
    unit = POWERS[-exponent]
    whole, rest = value // unit, value % unit  # a sum before the division could overflow
    if rounding == FLOOR:
        return whole
    return whole + (rest > 0 if rounding == CEILING else rest >= unit - rest)


@njit(cache=True, nogil=True)
def is_gap(c: int) -> bool:
    """Space, tab, comma, semicolon or carriage return."""
    return c in (SPACE, TAB, COMMA, SEMICOLON, RETURN)


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
        kind = parse_line(text, start, stop, order, time_shift, out, rows)
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
    out: NDArray[np.int64],
    row: int,
) -> int:
    """Fill row `row` of `out` from a line: 0 blank or a comment, 1 an event, 2 neither."""
    field = 0
    while True:
        while i < stop and is_gap(text[i]):
            i += 1
        if i >= stop:
            break
        if text[i] == HASH or text[i] == PERCENT:
            return 0 if field == 0 else 2
        column = order[field] if field < len(order) else -1
        if column >= 0:
            value, i = parse_number(text, i, stop, time_shift if column == 0 else 0, column in (1, 2))
            if i < 0 or abs(value) >= 2**62:
                return 2
            out[row, column] = value
        while i < stop and not is_gap(text[i]):
            if column >= 0:
                return 2  # something hangs on to the number
            i += 1
        field += 1
    if field == 0:
        return 0
    return 1 if field >= len(order) else 2
