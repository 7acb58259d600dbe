"""Background events: uniform noise, and shot noise that is stronger in the dark."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evlift.events.stream import EventStream, merged

SHOT_FALL = 0.75  # of the shot noise, from black to white


def add_noise(
    stream: EventStream,
    rate_hz: float,
    rng: np.random.Generator,
    *,
    start_us: int,
    stop_us: int,
    on_share: float = 0.5,
) -> EventStream:
    """Mix Poisson background events, `rate_hz` a pixel over ``start_us <= t < stop_us``, into a stream."""
    height, width = stream.sensor_size
    n = int(rng.poisson(rate_hz * height * width * (stop_us - start_us) * 1e-6))
    if n == 0:
        return stream
    t = np.sort(rng.integers(start_us, stop_us, n))
    x, y = rng.integers(0, width, n, dtype=np.uint16), rng.integers(0, height, n, dtype=np.uint16)
    return merged(stream, EventStream(t, x, y, rng.random(n) < on_share, stream.sensor_size))


def add_shot_noise(
    stream: EventStream,
    rate_hz: float,
    rng: np.random.Generator,
    *,
    log_frames: NDArray[np.float32],
    times_us: NDArray[np.int64],
) -> EventStream:
    """Mix Poisson noise into a stream, stronger in the dark: `rate_hz` a black pixel, a quarter of it in white.

    ON and OFF are alike, and a noise event does not reset its pixel.

    Args:
        stream: events of these frames.
        rate_hz: both polarities together.
        rng: source of the noise.
        log_frames: [N, H, W] natural log of intensity relative to white, linear between two frames.
        times_us: int [N], strictly increasing.

    Source: rate and its fall with intensity as in v2e (published); exact Poisson times by thinning decided here.
    """
    start, stop = int(times_us[0]), int(times_us[-1])
    height, width = stream.sensor_size
    n = int(rng.poisson(rate_hz * height * width * (stop - start) * 1e-6))
    t, y, x = (
        np.sort(rng.integers(start, max(stop, start + 1), n)),
        *rng.integers(0, [[height], [width]], (2, n)),
    )
    after = np.searchsorted(times_us, t, side="right").clip(max=len(times_us) - 1)
    before = np.maximum(after - 1, 0)
    share = (t - times_us[before]) / np.maximum(times_us[after] - times_us[before], 1)
    seen = log_frames[before, y, x] * (1 - share) + log_frames[after, y, x] * share
    kept = rng.random(n) < 1 - SHOT_FALL * np.exp(np.minimum(seen, 0))
    noise = EventStream(t, x.astype(np.uint16), y.astype(np.uint16), rng.random(n) < 0.5, stream.sensor_size)
    return merged(stream, noise[kept])
