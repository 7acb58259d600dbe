"""`fit`: thresholds and noise of the simulator from recordings of a real camera."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, DataError
from evlift.events.stream import EventStream
from evlift.simulate.camera import EventCamera
from evlift.simulate.saccades import Saccades
from evlift.simulate.scene import SceneSimulator
from evlift.simulate.video import simulate_video

Recording = EventStream | str | Path
Rates = NDArray[np.float64]  # [2], OFF and ON

SLICE_US = 50_000
RADIUS = 3  # a cell is judged by the pixels around it up to this far
CELLS = 4_000_000  # that are looked at
TOLERANCE = 0.005
ROUNDS = 16
LOWEST, HIGHEST = 0.02, 3.0  # thresholds that are tried


@dataclass(frozen=True)
class Fit:
    """A fitted simulator, and how it compares with the recordings. Rates are events a second and pixel: (OFF, ON).

    Args:
        simulator: what was given, with threshold, imbalance, noise and leak set.
        recordings: how many were read.
        quiet_share: share of pixels and 50 ms slices without signal, from which the noise was taken.
        background_hz: rates there.
        rate_hz: rates of the recordings.
        simulated_hz: rates of the fitted simulator; None where there was nothing to show it.
    """

    simulator: Any
    recordings: int
    quiet_share: float
    background_hz: tuple[float, float]
    rate_hz: tuple[float, float]
    simulated_hz: tuple[float, float] | None

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for a table."""

        def pair(rates: tuple[float, float]) -> str:
            return f"{rates[0]:.3g} OFF, {rates[1]:.3g} ON a second and pixel"

        threshold = " to ".join(f"{value:.3f}" for value in sorted(set(self.simulator.threshold)))
        rows = [
            ("recordings", f"{self.recordings}, {pair(self.rate_hz)}"),
            (
                "background",
                f"{pair(self.background_hz)}, from {self.quiet_share:.0%} of all pixels and slices",
            ),
            ("noise", f"{self.simulator.noise_hz[0]:.3g} Hz, leak {self.simulator.leak_hz[0]:.3g} Hz"),
            ("log ON/OFF threshold", f"{self.simulator.imbalance[0]:+.3f}"),
        ]
        if self.simulated_hz is None:
            return [*rows, ("threshold", f"{threshold} as it was: no picture to show")]
        return [*rows, ("threshold", f"{threshold} log units"), ("simulated", pair(self.simulated_hz))]


def fit(
    recordings: Recording | Iterable[Recording],
    pictures: Sequence[NDArray[Any]] | None = None,
    *,
    simulator: Saccades | SceneSimulator | EventCamera | None = None,
    times_us: Sequence[int] | None = None,
    spread: float = 0.0,
    seed: int = 0,
) -> Fit:
    """Set a simulator's noise, leak and thresholds so that its rates are those of recordings.

    Noise comes from pixels and slices of 50 ms with quiet surroundings; what ON events exceed OFF events there is taken
    as leak. The thresholds' ratio comes from the ratio of signal events, which crossings up and down of the same edges
    leave behind; their level only from pictures: simulated events of them shall be as many as were recorded.

    Example:
        >>> picture = np.zeros((28, 28), np.uint8)
        >>> picture[8:20, 12:16] = 255
        >>> camera = Saccades(motion="nmnist", threshold=(0.3, 0.3), imbalance=0.0)
        >>> recorded = [camera(picture, np.random.default_rng(k)) for k in range(8)]
        >>> found = fit(recorded, [picture] * 8, simulator=Saccades(motion="nmnist"))
        >>> abs(found.simulator.threshold[0] - 0.3) < 0.03
        True

    Args:
        recordings: files or streams of one sensor, at rest or before what the pictures show.
        pictures: like those that the camera saw, not necessarily the same ones; with `times_us`: the frames of a video.
        simulator: motion, optics, mismatch and all that is not fitted; default `Saccades()`, or `EventCamera()` with
            `times_us`. Its `sensor_size` becomes the recordings'.
        times_us: times of the frames.
        spread: half-width of the fitted ranges as a log-ratio; 0 is one value, 0.3 varies what a network trains on.
        seed: of the simulations.

    Raises:
        DataError: no events, recordings of several sensors, or no threshold that gives the recordings' rate.
        ConfigError: frames with a simulator that sets still pictures in motion, or the reverse.

    Source: decided here.
    """
    simulator = simulator or (Saccades() if times_us is None else EventCamera())
    if isinstance(simulator, Saccades | SceneSimulator) == (times_us is not None):
        raise ConfigError(
            f"Expected Saccades or SceneSimulator for pictures and EventCamera for frames with `times_us`, "
            f"but got {type(simulator).__name__}."
        )
    measured = _measure(_streams(recordings))
    if isinstance(simulator, Saccades | SceneSimulator):
        simulator = replace(simulator, sensor_size=measured.sensor_size)
    noisy = _with_noise(simulator, measured)
    shown = _shown(pictures, times_us, measured.sensor_size, seed)
    base, tilt, rates = _levels(noisy, measured, shown)
    ranges = {
        "threshold": (base * np.exp(-spread), base * np.exp(spread)),
        "imbalance": (tilt, tilt),
        **{
            name: tuple(getattr(noisy, name)[0] * np.exp([-spread, spread]))
            for name in ("noise_hz", "leak_hz")
        },
    }
    if shown is None:
        ranges["threshold"] = simulator.threshold
    return Fit(
        replace(noisy, **{name: (float(low), float(high)) for name, (low, high) in ranges.items()}),
        measured.recordings,
        measured.quiet_share,
        _pair(measured.background),
        _pair(measured.rate),
        None if rates is None else _pair(rates),
    )


@dataclass(frozen=True)
class _Measured:
    sensor_size: tuple[int, int]
    recordings: int
    rate: Rates
    quiet_events: NDArray[np.int64]
    quiet_cells: int
    quiet_share: float

    @property
    def background(self) -> Rates:
        return self.quiet_events / (self.quiet_cells * SLICE_US * 1e-6)


def _streams(recordings: Recording | Iterable[Recording]) -> Iterator[EventStream]:
    from evlift.events.readers import read_events

    some = [recordings] if isinstance(recordings, Recording) else recordings
    for recording in some:
        yield recording if isinstance(recording, EventStream) else read_events(recording)


def _measure(streams: Iterator[EventStream]) -> _Measured:
    """Rates of whole recordings and of their quiet cells."""
    cells: list[NDArray[np.int32]] = []
    sizes = set[tuple[int, int]]()
    counts, duration, n, looked = np.zeros(2), 0.0, 0, 0
    for stream in streams:
        if stream.duration_us == 0:
            continue
        n, duration = n + 1, duration + stream.duration_us
        sizes.add(stream.sensor_size)
        counts += np.bincount(stream.p, minlength=2)
        if looked < CELLS:
            cells.append(_cells(stream, CELLS - looked))
            looked += cells[-1].shape[1]
    if len(sizes) != 1:
        raise DataError(
            f"Expected recordings with events, of one sensor, but got sensors {sorted(sizes) or 'none'}."
        )
    (size,) = sizes
    quiet, share = _background(np.concatenate(cells, axis=1))
    rate = counts / (duration * 1e-6 * size[0] * size[1])
    return _Measured(size, n, rate, quiet, round(share * looked), share)


def _cells(stream: EventStream, most: int) -> NDArray[np.int32]:
    """(OFF, ON, both in the surroundings) of pixels × slices: int32 [3, N]; a few slices of a long recording."""
    height, width = stream.sensor_size
    starts = np.arange(int(stream.t[0]), int(stream.t[-1]) + 1 - SLICE_US, SLICE_US)
    if len(starts) == 0:
        raise DataError(
            f"Expected recordings of at least {SLICE_US / 1e3:g} ms, but got one of {stream.duration_us / 1e3:g} ms."
        )
    taken = starts[
        np.linspace(0, len(starts) - 1, max(1, min(len(starts), most // (height * width)))).astype(int)
    ]
    return np.concatenate([_slice_cells(stream.between(start, start + SLICE_US)) for start in taken], axis=1)


def _slice_cells(stream: EventStream) -> NDArray[np.int32]:
    height, width = stream.sensor_size
    place = (stream.p * height + stream.y.astype(np.int64)) * width + stream.x
    own = np.bincount(place, minlength=2 * height * width).reshape(2, height, width).astype(np.int32)
    total, side = own.sum(axis=0), 2 * RADIUS + 1
    sums = np.pad(np.pad(total, RADIUS, mode="reflect").cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    box = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.stack([own[0], own[1], box - total]).reshape(3, -1).astype(np.int32)  # [3, H, W] → [3, H·W]


def _background(cells: NDArray[np.int32]) -> tuple[NDArray[np.int64], float]:
    """Events (OFF, ON) where the surroundings hold no more than such noise would leave, and the share of cells."""
    from scipy.special import pdtrik

    around = (2 * RADIUS + 1) ** 2 - 1
    limit, quiet = 0, np.zeros(0, bool)
    for _ in range(20):
        quiet = cells[2] <= limit
        if not quiet.any():
            limit = int(cells[2].min())
            continue
        expected = around * cells[:2, quiet].sum(axis=0).mean()
        wider = int(np.ceil(pdtrik(0.99, max(expected, 1e-9))))
        if wider <= limit:
            break
        limit = wider
    return cells[:2, quiet].sum(axis=1, dtype=np.int64), float(quiet.mean())


def _with_noise(simulator: Any, measured: _Measured) -> Any:
    off, on = measured.background
    excess = np.diff(measured.quiet_events) / np.sqrt(max(measured.quiet_events.sum(), 1))
    # A leak puts every pixel somewhere below its threshold from the start: it must not come of chance alone.
    leak = max(on - off, 0.0) if excess > 3 else 0.0
    noise = float(off + on - leak)
    return replace(simulator, noise_hz=(noise, noise), leak_hz=(float(leak), float(leak)))


Shown = Callable[[Any], Rates]


def _shown(
    pictures: Sequence[NDArray[Any]] | None, times_us: Sequence[int] | None, size: tuple[int, int], seed: int
) -> Shown | None:
    """Function from a simulator to the rates of its events; the same random numbers at each call."""
    if pictures is None:
        return None
    if times_us is not None:
        return lambda camera: _video_rates(camera, pictures, times_us, size, seed)
    return lambda simulator: _picture_rates(simulator, pictures, seed)


def _picture_rates(simulator: Any, pictures: Sequence[NDArray[Any]], seed: int) -> Rates:
    counts = np.zeros(2)
    for k, picture in enumerate(pictures):
        made = simulator(picture, np.random.default_rng([seed, k]))
        stream = made if isinstance(made, EventStream) else made.stream
        counts += np.bincount(stream.p, minlength=2)
    pixels = simulator.sensor_size[0] * simulator.sensor_size[1]
    return counts / (len(pictures) * simulator.duration_us * 1e-6 * pixels)


def _video_rates(
    camera: EventCamera,
    frames: Sequence[NDArray[Any]],
    times_us: Sequence[int],
    size: tuple[int, int],
    seed: int,
) -> Rates:
    windows = simulate_video(
        frames, np.random.default_rng(seed), times_us=times_us, camera=camera, sensor_size=size
    )
    counts = sum((np.bincount(window.p, minlength=2) for window in windows), np.zeros(2))
    return counts / ((times_us[-1] - times_us[0]) * 1e-6 * size[0] * size[1])


def _levels(simulator: Any, measured: _Measured, shown: Shown | None) -> tuple[float, float, Rates | None]:
    """(threshold, log-ratio of ON to OFF threshold, simulated rates or None)."""
    signal = np.maximum(measured.rate - measured.background, 1e-9)
    tilt, base = float(np.clip(np.log(signal[0] / signal[1]), -1, 1)), float(np.mean(simulator.threshold))
    if shown is None:
        return base, tilt, None
    low, high = np.log(LOWEST), np.log(HIGHEST)
    rates = np.zeros(2)
    for _ in range(ROUNDS):
        base = float(np.clip(base, np.exp(low), np.exp(high)))
        rates = shown(replace(simulator, threshold=(base, base), imbalance=(tilt, tilt)))
        simulated = np.maximum(rates - measured.background, 1e-9)
        level, ratio = (
            np.log(simulated.sum() / signal.sum()),
            np.log(simulated[1] / simulated[0] * signal[0] / signal[1]),
        )
        if max(abs(level), abs(ratio)) < TOLERANCE:
            return base, tilt, rates
        # Events fall at least as fast as one over the threshold: the step stays short of it, and within what is known.
        low, high = (np.log(base), high) if level > 0 else (low, np.log(base))
        tilt = float(np.clip(tilt + ratio, -1, 1))
        base = float(np.exp(min(max(np.log(base) + 0.7 * level, low), high)))
    if abs(level) > 0.1:
        raise DataError(
            f"Expected a threshold in {LOWEST}..{HIGHEST} at which the pictures give the recordings' "
            f"{measured.rate.sum():.3g} events a second and pixel, but got {rates.sum():.3g} at {base:.3g}. "
            "Compare motion, amplitude and sign of the pictures with the recordings."
        )
    return base, tilt, rates


def _pair(rates: Rates) -> tuple[float, float]:
    return (float(rates[0]), float(rates[1]))
