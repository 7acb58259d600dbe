"""Ways in which a still picture moves before the camera.

A motion takes `times_us` [N], the recording's duration and a generator, and returns poses [N, 2] (down, right) or
[N, 4] (down, right, turn, zoom). The path's longer side has extent 1, which an amplitude in pixels multiplies; turn and
zoom are the way of a pixel at the edge of the sensor in the same unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.registry import Registry

FloatArray = NDArray[np.floating[Any]]
MOTIONS = Registry("motion")
# Place of the picture on the sensor of N-MNIST every 10 ms, in pixels off the centre.
NMNIST_DOWN = (
    *(-2.1, -2.0, -1.6, -0.7, 0.5, 1.8, 2.8, 3.4, 3.5, 3.5, 3.5, 3.4, 3.3, 2.9, 2.1, 0.9),
    *(-0.3, -1.2, -1.7, -1.8, -1.8, -1.8, -1.8, -1.8, -1.8, -1.8, -1.9, -2.0, -2.1, -2.1, -2.1),
)
NMNIST_RIGHT = (
    *(-2.9, -2.9, -3.0, -3.0, -3.0, -2.8, -2.3, -1.7, -1.5, -1.4, -1.3, -1.1, -0.9, -0.3, 0.5, 1.0),
    *(1.3, 1.6, 1.9, 2.0, 2.2, 2.4, 2.5, 2.3, 1.5, 0.5, -0.5, -1.4, -2.0, -2.4, -2.5),
)


@MOTIONS.register("nmnist")
def nmnist_path(times_us: FloatArray, duration_us: float, rng: np.random.Generator) -> FloatArray:
    """The fixed path of N-MNIST, started a few milliseconds early or late: (down, right) [N, 2], extent 1.

    Source: one path fitted on 150 recordings of nmnist/Train and their pictures, each judged in one fold of
    `digits`: signed events of 5 ms, regressed on the pictures' gradients, give velocities (r² up to 0.53). The refit
    on recordings that `digits` does not hold (benchmarks/fit_nmnist.py) agrees within rms 0.15 px: 0.17 px higher,
    rms 0.09 px in shape.
    """
    knots = np.linspace(0, duration_us, len(NMNIST_DOWN))
    late = times_us - rng.normal(0, 0.007) * duration_us
    path = np.stack([np.interp(late, knots, axis) for axis in (NMNIST_DOWN, NMNIST_RIGHT)], axis=1)
    return path / np.ptp(NMNIST_DOWN)


@MOTIONS.register("random3")
def random3_path(times_us: FloatArray, duration_us: float, rng: np.random.Generator) -> FloatArray:
    """Three long moves between random places near the centre: (down, right) [N, 2], the longer side's extent 1.

    Of eight random paths the one whose shortest move is longest: short moves hardly fire. Each axis starts and
    ends a move on its own, so that moves curve and pause as those of a real pan-tilt head do. Decided here.
    """
    paths = rng.uniform(-0.5, 0.5, (8, 4, 2))
    low, high = paths.min(axis=1, keepdims=True), paths.max(axis=1, keepdims=True)
    paths = (paths - (low + high) / 2) / (high - low).max(axis=2, keepdims=True)
    shortest = np.square(np.diff(paths, axis=1)).sum(axis=2).min(axis=1)  # [8]
    places = paths[shortest.argmax()] + rng.uniform(-0.1, 0.1, 2)  # [4, 2]
    phase = times_us[:, None] * (3 / duration_us) - np.arange(3)[:, None, None]  # [3, N, 1], one unit a move
    start, length = rng.uniform(0.0, 0.35, (3, 1, 2)), rng.uniform(0.35, 0.9, (3, 1, 2))
    u = ((phase - start) / np.minimum(length, 1 - start)).clip(0.0, 1.0)
    moved = u * u * (3 - 2 * u) * np.diff(places, axis=0)[:, None]
    return places[0] + moved.sum(axis=0)


@MOTIONS.register("pan")
def pan_path(times_us: FloatArray, duration_us: float, rng: np.random.Generator) -> FloatArray:
    """One way at constant speed in a random direction: (down, right) [N, 2], the longer side's extent 1."""
    angle = rng.uniform(0, 2 * np.pi)
    way = np.array([np.sin(angle), np.cos(angle)])
    return (times_us[:, None] / duration_us - 0.5) * (way / np.abs(way).max())


@MOTIONS.register("shake")
def shake_path(times_us: FloatArray, duration_us: float, rng: np.random.Generator) -> FloatArray:
    """A hand's tremor, three oscillations of 5 to 12 Hz an axis: (down, right) [N, 2], the longer side's extent 1.

    A recording shorter than an oscillation gets half of one at least. Decided here.
    """
    slowest = 0.5e6 / duration_us
    hertz = np.maximum(rng.uniform(5, 12, (3, 2)), slowest)
    return _oscillations(times_us, duration_us, hertz * 1e-6, rng)


@MOTIONS.register("affine")
def affine_path(times_us: FloatArray, duration_us: float, rng: np.random.Generator) -> FloatArray:
    """A slow drift that also turns and zooms: (down, right, turn, zoom) [N, 4], the longest extent 1.

    Each is the sum of three oscillations of a third to 1.2 periods a recording. Decided here.
    """
    return _oscillations(times_us, duration_us, rng.uniform(0.33, 1.2, (3, 4)) / duration_us, rng)


@MOTIONS.register("varied")
def varied_path(times_us: FloatArray, duration_us: float, rng: np.random.Generator) -> FloatArray:
    """One of random3, pan, shake and affine, another for each recording; for cameras whose motion is not known."""
    names = ("random3", "pan", "shake", "affine")
    return MOTIONS[names[rng.integers(len(names))]](times_us, duration_us, rng)


def _oscillations(
    times_us: FloatArray, duration_us: float, per_us: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Sum of oscillations `per_us` [3, K], about 0 and with the longest extent 1 over the duration: [N, K]."""
    phase, size = rng.uniform(0, 2 * np.pi, per_us.shape), rng.uniform(0.3, 1.0, per_us.shape)

    def at(t: FloatArray) -> FloatArray:
        return np.sum(
            size * np.sin(2 * np.pi * per_us * t[:, None, None] + phase), axis=1
        )  # [N, 3, K] → [N, K]

    whole = at(np.linspace(0, duration_us, 512))
    low, high = whole.min(axis=0), whole.max(axis=0)
    return (at(times_us) - (low + high) / 2) / (high - low).max()
