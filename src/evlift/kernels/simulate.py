"""Compiled loops of the simulator: pictures that move, threshold crossings, order by microsecond.

An event in flight is one int64: time since the call's start << 32 | pixel << 1 | polarity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
Scalar = Any  # a number whose width numba infers: float32 or float64, signed or unsigned

TIME_SHIFT = 32
BLOCK = 128  # pixels that are looked at together


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
def warp_labels(labels: Array, inverse: Array, fill: int, out: Array) -> None:
    """Nearest of `labels` [H', W'] at ``inverse @ (row, column, 1)`` for each of `out` [H, W], `fill` outside."""
    height, width = labels.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            row = int(np.floor(inverse[0, 0] * i + inverse[0, 1] * j + inverse[0, 2] + 0.5))
            column = int(np.floor(inverse[1, 0] * i + inverse[1, 1] * j + inverse[1, 2] + 0.5))
            inside = 0 <= row < height and 0 <= column < width
            out[i, j] = labels[row, column] if inside else fill


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
        # Slices, since an index that may be negative keeps the compiler from vectorising.
        y0, x0 = row // parts, column // parts
        y1, x1 = (row + 1) // parts, (column + 1) // parts
        p00 = phases[row % parts, column % parts, y0 : y0 + height, x0 : x0 + width]
        p01 = phases[row % parts, (column + 1) % parts, y0 : y0 + height, x1 : x1 + width]
        p10 = phases[(row + 1) % parts, column % parts, y1 : y1 + height, x0 : x0 + width]
        p11 = phases[(row + 1) % parts, (column + 1) % parts, y1 : y1 + height, x1 : x1 + width]
        frame = out[k]
        for i in range(height):
            for j in range(width):
                frame[i, j] = w00 * p00[i, j] + w01 * p01[i, j] + w10 * p10[i, j] + w11 * p11[i, j]


@njit(cache=True, nogil=True)
def radix_sort(keys: Array, first: int, last: int, base: int, span: int) -> None:
    """Sort ``keys[first:last]`` stably by time; all times lie in ``[base, base + span]``."""
    bits = 0
    while span >> bits:
        bits += 1
    # A pass over thousands of digits pays for thousands of keys alone.
    most = 13 if last - first > 4096 else 8
    passes = (bits + most - 1) // most
    digit_bits = (bits + passes - 1) // passes
    mask = (1 << digit_bits) - 1
    # Loops, not slices: numba takes seconds to compile a slice assignment.
    counts = np.empty(mask + 2, np.int32)
    scratch = np.empty(last - first, np.int64)
    for step in range(passes):
        shift = step * digit_bits
        for digit in range(len(counts)):
            counts[digit] = 0
        for i in range(first, last):
            counts[((((keys[i] >> TIME_SHIFT) - base) >> shift) & mask) + 1] += 1
        for digit in range(mask):
            counts[digit + 1] += counts[digit]
        for i in range(first, last):
            digit = (((keys[i] >> TIME_SHIFT) - base) >> shift) & mask
            scratch[counts[digit]] = keys[i]
            counts[digit] += 1
        for i in range(last - first):
            keys[first + i] = scratch[i]


@njit(cache=True, nogil=True)
def _flag(
    frame: Array, reference: Array, on: Array, off: Array, first: Scalar, last: Scalar, flags: Array
) -> None:
    """Set `flags` of those of the pixels first..last that have crossed a threshold."""
    for i in range(first, last):
        change = frame[i] - reference[i]
        flags[i - first] = (change >= on[i]) | (change <= -off[i])


@njit(cache=True, nogil=True)
def _flag_blind(blind_until: Array, start: int, first: Scalar, last: Scalar, flags: Array) -> None:
    """Set `flags` also of those that wake later than `start`."""
    for i in range(first, last):
        flags[i - first] |= blind_until[i] > start


@njit(cache=True, nogil=True)
def _active(flags: Array, words: Array, first: int, active: Array) -> int:
    """Write the flagged pixels to the front of `active`, return their number; `words` are `flags` eight by eight."""
    n = 0
    for word in range(len(words)):
        if words[word] == 0:
            continue
        for lane in range(word * 8, word * 8 + 8):
            active[n] = first + lane
            n += flags[lane]
    return n


@njit(cache=True, nogil=True)
def _grown(keys: Array, needed: int) -> Array:
    bigger = np.empty(max(2 * len(keys), needed), np.int64)
    for i in range(len(keys)):
        bigger[i] = keys[i]
    return bigger


@njit(inline="always")
def _fire(
    a: float,
    b: float,
    on: float,
    off: float,
    refractory: float,
    reference: Scalar,
    blind: float,
    start: int,
    stop: int,
    zero: int,
    label: int,
    keys: Array,
    n: int,
) -> tuple[int, float, float]:
    """Append the events of one pixel whose log intensity goes from `a` to `b`: (n, reference, end of blindness)."""
    rise = np.float64(b) - a
    span = float(stop - start)
    if blind > start:
        reference = np.float32(a + rise * ((blind - start) / span))
    lag_per_log = span / rise if rise != 0.0 else 0.0
    while True:
        change = b - reference
        up = change >= on
        if not up and change > -off:
            return n, reference, blind
        crossed = reference + on if up else reference - off
        # A threshold that was lowered between two calls is found crossed at the start.
        lag = min(max((crossed - np.float64(a)) * lag_per_log, 0.0), span)
        keys[n] = (np.int64(start - zero + lag + 0.5) << TIME_SHIFT) | label | np.int64(up)
        n += 1
        if refractory <= 0:
            reference = crossed
            continue
        blind = start + lag + refractory
        if blind > stop:
            return n, reference, blind
        reference = np.float32(a + rise * ((blind - start) / span))


@njit(cache=True, nogil=True)
def _lift(frame: Array, leak: Array, duration: int, out: Array) -> None:
    for i in range(len(frame)):
        out[i] = frame[i] + leak[i] * duration


@njit(cache=True, nogil=True)
def _interval(
    previous: Array,
    frame: Array,
    on: Array,
    off: Array,
    refractory: float,
    reference: Array,
    blind_until: Array,
    held: bool,
    most_per_log: float,
    start: int,
    stop: int,
    zero: int,
    active: Array,
    keys: Array,
    n: int,
) -> tuple[Array, int]:
    """Append the events of all pixels between two frames: the (grown) keys and their number."""
    pixels = len(frame)
    flags = np.zeros(BLOCK, np.uint8)
    words = flags.view(np.uint64)
    for begin in range(0, pixels, BLOCK):
        # Unsigned, since an index that may be negative keeps the compiler from vectorising.
        low, high = np.uint64(begin), np.uint64(min(begin + BLOCK, pixels))
        for i in range(high - low, BLOCK):
            flags[i] = 0
        _flag(frame, reference, on, off, low, high, flags)
        if held:
            _flag_blind(blind_until, start, low, high, flags)
        for j in range(_active(flags, words, begin, active)):
            i = active[j]
            if blind_until[i] > stop:
                continue
            a, b, up, down, since = previous[i], frame[i], on[i], off[i], blind_until[i]
            # float32 rounds each step of the reference, by under 1 % of a threshold (simulate_frames sees to that)
            room = n + 2 + int((abs(b - reference[i]) + abs(b - a)) * most_per_log * 1.01)
            if room > len(keys):
                keys = _grown(keys, room)
            n, reference[i], blind_until[i] = _fire(
                a, b, up, down, refractory, reference[i], since, start, stop, zero, i << 1, keys, n
            )
    return keys, n


@njit(cache=True, nogil=True)
def crossings(
    frames: Array,
    times: Array,
    on: Array,
    off: Array,
    leak: Array,
    refractory: float,
    previous: Array,
    reference: Array,
    blind_until: Array,
    start: int,
    since: int,
) -> Array:
    """Events of log frames [N, P] at `times` [N] µs, packed and sorted; `reference`, `blind_until` change.

    `previous` is the log frame at time `start`. A pixel fires when its log intensity, linear between two
    frames, has moved by `on` [P] up or `off` [P] down from `reference`. Without `refractory` (µs) the
    reference moves by the threshold; with it the pixel is held in reset: it is blind until the time in
    `blind_until` and refers to the value at that time. A reference that falls by `leak` [P] or [0] a µs is computed as
    light that rises by as much since the time `since`, so that small steps are not lost in rounding.
    """
    zero, pixels = start, frames.shape[1]
    lifted = np.empty((2, len(leak)), np.float32)
    if len(leak):
        _lift(previous, leak, start - since, lifted[1])
        previous = lifted[1]
    held, smallest = refractory > 0, min(on[0], off[0]) if pixels else 1.0
    for i in range(pixels):
        held = held or blind_until[i] > start
        smallest = min(smallest, min(on[i], off[i]))
    keys = np.empty(max(1024, pixels), np.int64)
    active = np.empty(BLOCK + 1, np.int64)
    n = 0
    for k in range(len(frames)):
        stop, first, frame = times[k], n, frames[k]
        if len(leak):
            _lift(frame, leak, stop - since, lifted[k % 2])
            frame = lifted[k % 2]
        keys, n = _interval(
            previous, frame, on, off, refractory, reference, blind_until, held, 1 / smallest,
            start, stop, zero, active, keys, n,
        )  # fmt: skip
        radix_sort(keys, first, n, start - zero, stop - start)
        previous, start = frame, stop
    return keys[:n]


@njit(cache=True, nogil=True)
def unpack(keys: Array, start: int, width: int, t: Array, x: Array, y: Array, p: Array) -> None:
    """Spread packed events [n] over the four columns [n]."""
    for i in range(len(keys)):
        key = keys[i]
        t[i] = (key >> TIME_SHIFT) + start
        pixel = np.uint32(key & 0xFFFFFFFF) >> np.uint32(1)
        row = pixel // np.uint32(width)
        y[i] = row
        x[i] = pixel - row * np.uint32(width)
        p[i] = (key & 1) == 1
