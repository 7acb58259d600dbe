"""Compiled loops of the simulator: pictures that move, threshold crossings, order by microsecond.

An event in flight is one int64: time since the call's start << 31 | row << 16 | column << 1 | polarity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

TIME_SHIFT = 31
ROW_SHIFT = 16


@njit(cache=True, nogil=True)
def warp(picture: Array, inverse: Array, out: Array) -> None:
    """Sample `picture` [H', W'] at ``inverse @ (row, column, 1)`` for each sample of `out` [H, W], edges repeated."""
    height, width = picture.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            row = inverse[0, 0] * i + inverse[0, 1] * j + inverse[0, 2]
            column = inverse[1, 0] * i + inverse[1, 1] * j + inverse[1, 2]
            row = min(max(row, 0.0), height - 1.0)
            column = min(max(column, 0.0), width - 1.0)
            top, left = int(row), int(column)
            down, right = min(top + 1, height - 1), min(left + 1, width - 1)
            fy, fx = np.float32(row - top), np.float32(column - left)
            upper = picture[top, left] + fx * (picture[top, right] - picture[top, left])
            lower = picture[down, left] + fx * (picture[down, right] - picture[down, left])
            out[i, j] = upper + fy * (lower - upper)


@njit(cache=True, nogil=True)
def convolve_rows(image: Array, taps: Array, out: Array) -> None:
    """Convolve `image` [H, W] along its first axis with symmetric `taps` [2r + 1], edges repeated."""
    height, width = image.shape
    radius = len(taps) // 2
    for i in range(height):
        for j in range(width):
            out[i, j] = np.float32(0.0)
        for k in range(-radius, radius + 1):
            source = min(max(i + k, 0), height - 1)
            weight = taps[k + radius]
            for j in range(width):
                out[i, j] += weight * image[source, j]


@njit(cache=True, nogil=True)
def shift_frames(phases: Array, origin: Array, out: Array) -> None:
    """Cut one [H, W] frame for each `origin` [N, 2] out of a canvas given as `phases` [S, S, H', W'].

    `origin` is the (row, column) of the frame's corner in canvas samples, S samples to a pixel; between samples
    the value is interpolated bilinearly. The planes of a phase are contiguous in x, so that rows vectorise.
    """
    parts = phases.shape[0]
    n_frames, height, width = out.shape
    for k in range(n_frames):
        row, column = int(np.floor(origin[k, 0])), int(np.floor(origin[k, 1]))
        fy, fx = np.float32(origin[k, 0] - row), np.float32(origin[k, 1] - column)
        one = np.float32(1.0)
        w00, w01, w10, w11 = (one - fy) * (one - fx), (one - fy) * fx, fy * (one - fx), fy * fx
        y0, x0 = row // parts, column // parts
        y1, x1 = (row + 1) // parts, (column + 1) // parts
        p00 = phases[row % parts, column % parts]
        p01 = phases[row % parts, (column + 1) % parts]
        p10 = phases[(row + 1) % parts, column % parts]
        p11 = phases[(row + 1) % parts, (column + 1) % parts]
        for i in range(height):
            for j in range(width):
                out[k, i, j] = (
                    w00 * p00[y0 + i, x0 + j]
                    + w01 * p01[y0 + i, x1 + j]
                    + w10 * p10[y1 + i, x0 + j]
                    + w11 * p11[y1 + i, x1 + j]
                )


@njit(cache=True, nogil=True)
def radix_sort(keys: Array, first: int, last: int, base: int, span: int) -> None:
    """Sort ``keys[first:last]`` stably by time; all times lie in ``[base, base + span]``."""
    counts = np.zeros(257, np.int64)
    scratch = np.empty(last - first, np.int64)
    shift = 0
    while span >> shift:
        counts[:] = 0
        for i in range(first, last):
            counts[((((keys[i] >> TIME_SHIFT) - base) >> shift) & 255) + 1] += 1
        for digit in range(256):
            counts[digit + 1] += counts[digit]
        for i in range(first, last):
            digit = (((keys[i] >> TIME_SHIFT) - base) >> shift) & 255
            scratch[counts[digit]] = keys[i]
            counts[digit] += 1
        keys[first:last] = scratch
        shift += 8


@njit(cache=True, nogil=True)
def _row_is_quiet(frame: Array, reference: Array, on: Array, off: Array, y: int) -> bool:
    hits = np.int32(0)
    for x in range(frame.shape[1]):
        change = frame[y, x] - reference[y, x]
        hits += np.int32((change >= on[y, x]) | (change <= -off[y, x]))
    return hits == 0


@njit(cache=True, nogil=True)
def _row_can_see(blind_until: Array, start: int, y: int) -> bool:
    hits = np.int32(0)
    for x in range(blind_until.shape[1]):
        hits += np.int32(blind_until[y, x] > start)
    return hits == 0


@njit(cache=True, nogil=True)
def _grown(keys: Array, needed: int) -> Array:
    bigger = np.empty(max(2 * len(keys), needed), np.int64)
    bigger[: len(keys)] = keys
    return bigger


@njit(cache=True, nogil=True)
def _fire(
    a: float,
    slope: float,
    value: float,
    on: float,
    off: float,
    refractory: float,
    start: int,
    stop: int,
    zero: int,
    y: int,
    x: int,
    reference: Array,
    blind_until: Array,
    keys: Array,
    n: int,
) -> int:
    """Append the events of pixel (y, x), whose log intensity goes from `a` with `slope` (a µs) to `value`."""
    label = (y << ROW_SHIFT) | (x << 1)
    while True:
        change = value - reference[y, x]
        if change >= on:
            step = on
        elif change <= -off:
            step = -off
        else:
            return n
        # A threshold that was lowered between two calls is found crossed at the start.
        lag = (reference[y, x] + step - a) / slope if slope != 0.0 else 0.0
        time = start + min(max(lag, 0.0), float(stop - start))
        keys[n] = (np.int64(time - zero) << TIME_SHIFT) | label | np.int64(step > 0)
        n += 1
        if refractory <= 0:
            reference[y, x] += step
            continue
        blind_until[y, x] = time + refractory
        if blind_until[y, x] > stop:
            return n
        reference[y, x] = a + slope * (blind_until[y, x] - start)


@njit(cache=True, nogil=True)
def crossings(
    frames: Array,
    times: Array,
    on: Array,
    off: Array,
    refractory: float,
    previous: Array,
    reference: Array,
    blind_until: Array,
    start: int,
) -> Array:
    """Events of log frames [N, H, W] at `times` [N] µs, packed and sorted; `reference`, `blind_until` change.

    `previous` is the log frame at time `start`. A pixel fires when its log intensity, linear between two
    frames, has moved by `on` [H, W] up or `off` [H, W] down from `reference`. Without `refractory` (µs) the
    reference moves by the threshold; with it the pixel is held in reset: it is blind until the time in
    `blind_until` and refers to the value at that time.
    """
    height, width = frames.shape[1:]
    zero = start
    keys = np.empty(max(1024, height * width), np.int64)
    n = 0
    for k in range(len(frames)):
        stop, first, frame = times[k], n, frames[k]
        for y in range(height):
            awake = refractory <= 0 or _row_can_see(blind_until, start, y)
            if awake and _row_is_quiet(frame, reference, on, off, y):
                continue
            for x in range(width):
                a, b, blind = previous[y, x], frame[y, x], blind_until[y, x]
                change = b - reference[y, x]
                if blind > stop or (blind <= start and -off[y, x] < change < on[y, x]):
                    continue
                slope = (np.float64(b) - a) / (stop - start)
                if blind > start:
                    reference[y, x] = a + slope * (blind - start)
                up, down = on[y, x], off[y, x]
                room = n + 2 + int((abs(change) + abs(b - a)) / min(up, down))
                if room > len(keys):
                    keys = _grown(keys, room)
                n = _fire(
                    a, slope, b, up, down, refractory, start, stop, zero, y, x, reference, blind_until, keys, n
                )
        radix_sort(keys, first, n, start - zero, stop - start)
        previous, start = frame, stop
    return keys[:n]


@njit(cache=True, nogil=True)
def unpack(keys: Array, start: int, t: Array, x: Array, y: Array, p: Array) -> None:
    """Spread packed events [n] over the four columns [n]."""
    for i in range(len(keys)):
        key = keys[i]
        t[i] = (key >> TIME_SHIFT) + start
        y[i] = (key >> ROW_SHIFT) & 0x7FFF
        x[i] = (key >> 1) & 0x7FFF
        p[i] = (key & 1) == 1
