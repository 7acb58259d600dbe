"""The event pixel: log intensity, threshold crossings, what a pixel remembers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evlift.events.stream import EventStream

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class PixelState:
    """What the pixels remember between two calls of :func:`simulate_frames`.

    Args:
        time_us: time of the last frame.
        log_frame: float32 [H, W], the last frame.
        reference: float32 [H, W], log intensity that the next threshold is counted from, leak since `since_us` added.
        blind_until_us: float64 [H, W], end of each pixel's refractory time.
        since_us: time of the first frame.
    """

    time_us: int
    log_frame: NDArray[np.float32]
    reference: NDArray[np.float32]
    blind_until_us: NDArray[np.float64]
    since_us: int


RESOLUTION = 100 * float(np.finfo(np.float32).eps)
"""Least threshold relative to the largest log intensity, 0.1 or more: the reference moves in float32 (decided here)."""


def log_intensity(frames: ArrayLike, *, black: float = 1e-3, gamma: float = 1.0) -> NDArray[np.float32]:
    """Log intensity of pictures of any shape: ``log(black + (1 - black) · picture^gamma)``.

    Example:
        >>> log_intensity([0.0, 1.0], black=0.1).round(1).tolist()
        [-2.299999952316284, 0.0]

    Args:
        frames: uint8, or float in 0..1.
        black: intensity of a black pixel relative to a white one (screen leakage, stray light, dark current); > 0.
        gamma: exponent from pixel value to light.

    Raises:
        ValueError: values outside 0..1 that are not uint8, or `black` outside (0, 1].
    """
    if not 0 < black <= 1:
        raise ValueError(f"Expected `black` in (0, 1], but got {black}.")
    light = unit_range(np.asarray(frames), "frames")
    if gamma != 1:
        light = np.power(light, np.float32(gamma))
    return np.log(np.float32(black) + np.float32(1 - black) * light)


def unit_range(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Pixel values as float32 in 0..1, within rounding."""
    if values.dtype == np.uint8:
        return values * np.float32(1 / 255)
    light = values.astype(np.float32)
    low, high = light.min(initial=0.0), light.max(initial=0.0)
    if not (low >= -1e-4 and high <= 1.0001):
        raise ValueError(
            f"Expected `{name}` as uint8, or float in 0..1, but got {values.dtype} in {low:g}..{high:g}. "
            "Convert to uint8 or divide by the largest value."
        )
    return light.clip(0.0, 1.0)


def simulate_frames(
    log_frames: ArrayLike,
    times_us: ArrayLike,
    *,
    threshold_on: float | FloatArray,
    threshold_off: float | FloatArray,
    refractory_us: float = 0.0,
    leak_hz: float | FloatArray = 0.0,
    state: PixelState | None = None,
) -> tuple[EventStream, PixelState]:
    """Events of ideal pixels that watch `log_frames`, linear in log intensity between two frames.

    Example:
        >>> ramp = np.linspace(0, 1, 11)[:, None, None]
        >>> events, state = simulate_frames(ramp, np.arange(11) * 1000, threshold_on=0.25, threshold_off=0.25)
        >>> events.t.tolist()
        [2500, 5000, 7500, 10000]

    Args:
        log_frames: [N, H, W], natural log of intensity, taken as float32 (see :func:`log_intensity`).
        times_us: int [N], strictly increasing.
        threshold_on: contrast threshold of ON events, in log units, one number or a map [H, W].
        threshold_off: the same of OFF events, positive.
        refractory_us: dead time after an event: the pixel is held in reset and then starts from the intensity it sees.
        leak_hz: ON events a second of a pixel that sees no change, one number or a map [H, W]; the same in all calls.
        state: what a former call returned; the frames then continue the former ones. Without it the first frame
            only sets the reference.

    Returns:
        The events, and the state for the next call: contrast below the threshold is carried over, so that chunks give
        the events of one long call.

    Raises:
        ValueError: shapes, times or thresholds that do not fit.

    Source: the model of ESIM (published), written anew; the dead time as a held reset is decided here. The leak is that
    of v2e (published): the reference falls steadily.
    """
    from evlift.kernels.simulate import crossings

    frames = np.ascontiguousarray(log_frames, np.float32)
    times = np.asarray(times_us).astype(np.int64)
    _check_frames(frames, times)
    if state is None:
        state, frames, times = _first_state(frames, times), frames[1:], times[1:]
    _check_continuation(frames, times, state)
    size = (int(frames.shape[1]), int(frames.shape[2]))
    if len(frames) == 0:
        return EventStream.empty(size), state
    least = max(float(np.abs(frames).max()), float(np.abs(state.reference).max()), 0.1) * RESOLUTION
    on = _threshold_map(threshold_on, size, "threshold_on", least)
    off = _threshold_map(threshold_off, size, "threshold_off", least)
    if not 0 <= refractory_us < np.inf:
        raise ValueError(f"Expected `refractory_us` to be at least 0 and finite, but got {refractory_us}.")
    reference, blind = state.reference.copy(), state.blind_until_us.copy()
    leak = _leak_per_us(leak_hz, on)
    packed = crossings(
        frames.reshape(len(frames), -1),  # [N, H, W] → [N, H·W]
        times,
        on.ravel(),
        off.ravel(),
        leak.ravel(),
        float(refractory_us),
        state.log_frame.ravel(),
        reference.ravel(),
        blind.ravel(),
        state.time_us,
        state.since_us,
    )
    events = _unpacked(packed, state.time_us, size)
    return events, PixelState(int(times[-1]), frames[-1].copy(), reference, blind, state.since_us)


def _check_frames(frames: NDArray[np.float32], times: NDArray[np.int64]) -> None:
    if frames.ndim != 3 or times.shape != frames.shape[:1]:
        raise ValueError(
            f"Expected `log_frames` [N, H, W] and `times_us` [N], but got {frames.shape} and {times.shape}."
        )
    if not np.isfinite(frames).all():
        raise ValueError(
            "Expected finite `log_frames`, but got NaN or infinity. Give black pixels some light first."
        )


def _first_state(frames: NDArray[np.float32], times: NDArray[np.int64]) -> PixelState:
    """Pixels that have just seen the first frame."""
    if len(frames) == 0:
        raise ValueError(
            "Expected at least one frame, but got none. Without a `state` there is nothing to refer to."
        )
    start = int(times[0])
    return PixelState(start, frames[0], frames[0].copy(), np.full(frames.shape[1:], -np.inf), start)


def _check_continuation(frames: NDArray[np.float32], times: NDArray[np.int64], state: PixelState) -> None:
    if state.log_frame.shape != frames.shape[1:]:
        raise ValueError(
            f"Expected frames of the state's size {state.log_frame.shape}, but got {frames.shape[1:]}."
        )
    if np.any(np.diff(times, prepend=state.time_us) <= 0):
        raise ValueError(
            f"Expected `times_us` strictly increasing and after {state.time_us} µs, but got {times}."
        )
    if len(times) and times[-1] - state.time_us >= 2**31:
        raise ValueError(
            "Expected at most 35 minutes a call, but got more. Give the frames in chunks with `state`."
        )


def _threshold_map(
    threshold: float | FloatArray, size: tuple[int, int], name: str, least: float
) -> NDArray[np.float32]:
    values = np.asarray(threshold, np.float32)
    if not ((values >= least) & (values < np.inf)).all():
        raise ValueError(
            f"Expected `{name}` to be finite and at least {least:.2g} log units, 100 times what float32 tells apart in "
            f"these frames, but got {values.min()} to {values.max()}."
        )
    if values.shape not in ((), size):
        raise ValueError(f"Expected `{name}` as one number or a map {size}, but got shape {values.shape}.")
    return np.ascontiguousarray(np.broadcast_to(values, size))


def _leak_per_us(leak_hz: float | FloatArray, on: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fall of the reference in log units a µs, [H, W]; empty where nothing leaks."""
    hertz = np.asarray(leak_hz, np.float32)
    if not (hertz >= 0).all() or hertz.shape not in ((), on.shape):
        raise ValueError(
            f"Expected `leak_hz` >= 0 as one number or a map {on.shape}, but got shape {hertz.shape} "
            f"from {hertz.min()}."
        )
    return hertz * on * np.float32(1e-6) if hertz.any() else np.empty(0, np.float32)


def _unpacked(packed: NDArray[np.int64], start_us: int, size: tuple[int, int]) -> EventStream:
    from evlift.kernels.simulate import unpack

    n = len(packed)
    t, x, y, p = np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint16), np.empty(n, np.bool_)
    unpack(packed, start_us, size[1], t, x, y, p)
    return EventStream(t, x, y, p, size)
