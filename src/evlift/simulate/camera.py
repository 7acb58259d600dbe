"""`EventCamera`: ranges of thresholds and noise; `EventPixels`: one camera drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evlift.errors import ConfigError
from evlift.events.stream import EventStream
from evlift.simulate.noise import add_noise, add_shot_noise
from evlift.simulate.pixel import PixelState, simulate_frames

Range = tuple[float, float]
LEAST_THRESHOLD = 0.001
"""Log units; a camera of less would send more events than memory holds. Source: decided here."""


def check_pair(name: str, pair: Range, least: float = 0.0) -> None:
    """Raise ConfigError unless `pair` is (low, high) with least <= low <= high, both finite."""
    low, high = pair
    if not least <= low <= high < np.inf:
        raise ConfigError(f"Expected `{name}` as a pair {least:g} <= low <= high, but got ({low}, {high}).")


def check_moves(camera: Any) -> None:
    """Raise ConfigError for ranges and times of moving pictures that no recording can have."""
    for name in ("amplitude_px", "blur_px"):
        check_pair(name, getattr(camera, name))
    check_pair("scale", camera.scale, least=0.01)
    if not 0 < camera.step_us <= camera.duration_us:
        raise ConfigError(
            f"Expected 0 < step_us <= duration_us, but got {camera.step_us} and {camera.duration_us}."
        )


@dataclass(frozen=True, eq=False)
class EventPixels:
    """The pixels of one camera.

    Args:
        threshold_on: float32 [H, W], contrast threshold of ON events in log units.
        threshold_off: the same of OFF events, positive.
        refractory_us: dead time after an event.
        noise_hz: background events a second and pixel, either polarity.
        leak_hz: float32 [H, W], ON events a second of a pixel that sees no change.
        shot_hz: shot noise events a second and pixel in the dark; a quarter of them in white.
    """

    threshold_on: NDArray[np.float32]
    threshold_off: NDArray[np.float32]
    refractory_us: float
    noise_hz: float
    leak_hz: NDArray[np.float32]
    shot_hz: float

    def watch(
        self,
        log_frames: ArrayLike,
        times_us: ArrayLike,
        rng: np.random.Generator,
        *,
        state: PixelState | None = None,
    ) -> tuple[EventStream, PixelState]:
        """Events and noise of `log_frames` [N, H, W], and the state for the frames that follow.

        As :func:`simulate_frames`, with the noise of the time from the former frame to the last. With leak the pixels
        start anywhere below their ON threshold, so that they do not leak in step.
        """
        frames, times = np.ascontiguousarray(log_frames, np.float32), np.asarray(times_us).astype(np.int64)
        leaks = bool(self.leak_hz.any())
        if state is None and leaks and len(frames):
            behind = rng.random(frames.shape[1:], np.float32) * self.threshold_on
            blind = np.full(frames.shape[1:], -np.inf)
            state = PixelState(int(times[0]), frames[0], frames[0] - behind, blind, int(times[0]))
            frames, times = frames[1:], times[1:]
        events, after = simulate_frames(
            frames,
            times,
            threshold_on=self.threshold_on,
            threshold_off=self.threshold_off,
            refractory_us=self.refractory_us,
            leak_hz=self.leak_hz if leaks else 0.0,
            state=state,
        )
        start = int(times[0]) if state is None else state.time_us
        events = add_noise(events, self.noise_hz, rng, start_us=start, stop_us=after.time_us)
        if self.shot_hz > 0:
            before = frames[:0] if state is None else state.log_frame[None]
            knots = times if state is None else np.concatenate([[start], times])
            seen = np.concatenate([before, frames])  # [N + 1, H, W]
            events = add_shot_noise(events, self.shot_hz, rng, log_frames=seen, times_us=knots)
        return events, after


@dataclass(frozen=True, kw_only=True)
class EventCamera:
    """Ranges from which each recording draws its camera. Pairs are (low, high).

    Example:
        >>> camera = EventCamera(threshold=(0.2, 0.2), mismatch=0.0, imbalance=0.0)
        >>> camera.draw((2, 2), np.random.default_rng(0)).threshold_on.tolist()
        [[0.20000000298023224, 0.20000000298023224], [0.20000000298023224, 0.20000000298023224]]

    Args:
        threshold: contrast threshold in log units.
        imbalance: largest log-ratio of ON to OFF threshold, or its range.
        mismatch: standard deviation of a pixel's log threshold.
        refractory_us: dead time of a pixel after an event.
        noise_hz: background events a second and pixel.
        leak_hz: ON events a second of a pixel that sees no change.
        shot_hz: shot noise events a second and pixel in the dark; a quarter of them in white.
        black: light of a black pixel relative to a white one (see :func:`log_intensity`).
        gamma: exponent from pixel value to light.

    Source: leak and shot noise as in v2e (published); ranges decided here.
    """

    threshold: Range = (0.2, 0.5)
    imbalance: float | Range = 0.2
    mismatch: float = 0.1
    refractory_us: Range = (0.0, 500.0)
    noise_hz: Range = (0.0, 0.3)
    leak_hz: Range = (0.0, 0.0)
    shot_hz: Range = (0.0, 0.0)
    black: Range = (0.01, 0.05)
    gamma: Range = (1.8, 2.4)

    def __post_init__(self) -> None:
        for name in ("refractory_us", "noise_hz", "leak_hz", "shot_hz", "gamma"):
            check_pair(name, getattr(self, name))
        check_pair("threshold", self.threshold, least=LEAST_THRESHOLD)
        check_pair("black", self.black, least=1e-6)

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> EventPixels:
        """Pixels of a camera of (H, W)."""
        width = self.imbalance
        low, high = (-width, width) if isinstance(width, int | float) else width
        base, tilt = rng.uniform(*self.threshold), rng.uniform(low, high)
        spread = np.exp(self.mismatch * rng.standard_normal((2, *size), np.float32))  # [2, H, W]
        refractory, noise = rng.uniform(*self.refractory_us), rng.uniform(*self.noise_hz)
        # Nothing is drawn for what is off, so that a seed gives the recording that it gave without these two.
        leak, shot = (rng.uniform(*pair) if pair[1] > 0 else 0.0 for pair in (self.leak_hz, self.shot_hz))
        return EventPixels(
            threshold_on=(base * np.exp(tilt / 2) * spread[0]).astype(np.float32),
            threshold_off=(base * np.exp(-tilt / 2) * spread[1]).astype(np.float32),
            refractory_us=refractory,
            noise_hz=noise,
            leak_hz=np.float32(leak) / spread[0],
            shot_hz=shot,
        )
