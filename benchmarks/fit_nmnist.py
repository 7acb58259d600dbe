"""Fit the motion and the sensor of N-MNIST anew, on recordings that the suite `digits` does not hold.

    EVLIFT_DATA=DIR OMP_NUM_THREADS=1 python benchmarks/fit_nmnist.py [--seed 0] [--folder nmnist6789]

1. The signed events of each 5 ms, summed over all recordings, are regressed on the gradients of the pictures: velocity
   up to a scale, and the place with the largest r².
2. Velocities are added up; a scale for each axis and the middle place come from a straight line through the places.
3. Scales, middle, a common delay of the events and the sensor are improved in turn, as long as that raises the mean
   correlation of simulated and real event counts (10 ms, pixel, polarity) on every other recording, less 0.1
   times the log-ratio of the numbers of events. Nothing starts from the constants of `evlift.simulate`.

The path at every 10 ms is printed beside those constants, and both are judged on the other recordings. Simulation here
is without noise, jitter, mismatch of pixels and dead time. No label is used.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from evlift.datasets.images import mnist
from evlift.datasets.recordings import nmnist
from evlift.datasets.suites import data_root
from evlift.events import EventStream
from evlift.simulate import NMNIST_DOWN, NMNIST_RIGHT, Saccades, log_intensity, simulate_frames

FloatArray = NDArray[np.floating[Any]]
SIDE, MARGIN = 34, 3
BIN_MS, BINS = 5, 62
COUNT_MS, COUNT_BINS = 10, 31
PAD, FINER, REACH = 64, 4, 4  # samples of the Fourier transform, places a pixel, pixels searched
KNOTS_MS = np.linspace(0, 300, len(NMNIST_DOWN))
CONSTANTS = np.stack([NMNIST_DOWN, NMNIST_RIGHT], axis=1)  # [31, 2]
FRAMES_MS = np.arange(0, 310.1, 2.5)
JITTER_MS = 2.1
DOCUMENTED = {"threshold": 0.4, "black": 0.05, "gamma": 1.7, "blur_px": 0.4}
# How far one step of the search goes: added, or a factor where a value must stay positive.
ADDED = {"down": 0.1, "right": 0.1, "scale_down": 0.01, "scale_right": 0.01, "delay_ms": 1.0}
FACTORS = {"threshold": 1.15, "black": 1.3, "gamma": 1.15, "blur_px": 1.25}


@dataclass(frozen=True)
class Pairs:
    """Pictures uint8 [n, 28, 28], their recordings, and event counts float32 [n, 2, 31, 34, 34]."""

    pictures: NDArray[np.uint8]
    streams: list[EventStream]
    counts: FloatArray

    def part(self, kept: slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.pictures[kept], self.streams[kept], self.counts[kept])


@dataclass(frozen=True)
class Fit:
    """What the search moves: the middle place in pixels, the scale of the velocities, the delay, the sensor."""

    down: float
    right: float
    scale_down: float
    scale_right: float
    delay_ms: float = 0.0
    threshold: float = 0.3
    black: float = 0.1
    gamma: float = 1.0
    blur_px: float = 0.5

    def path(self, velocities: FloatArray, times_ms: FloatArray) -> FloatArray:
        """Places (down, right) [N, 2] in pixels at `times_ms` [N]; events come `delay_ms` after the motion."""
        places = travelled(velocities) * (self.scale_down, self.scale_right) + (self.down, self.right)
        edges = np.arange(len(places)) * BIN_MS
        return np.stack([np.interp(times_ms + self.delay_ms, edges, axis) for axis in places.T], axis=1)


def load(folder: str, n: int, seed: int) -> Pairs:
    """`n` pairs drawn with `seed`; says how many of the recordings are in `digits`."""
    root = data_root()
    recordings = nmnist(root, folder=folder)
    chosen = np.random.default_rng(seed).permutation(len(recordings))[:n]
    judged = set(nmnist(root).object_ids)
    shared = sum(recordings[int(i)].object_id in judged for i in chosen)
    print(f"{n} of {len(recordings)} recordings of {folder}, {shared} of them in `digits`")
    images = mnist(root)
    row = {object_id: i for i, object_id in enumerate(images.object_ids)}
    pictures = np.stack([images.load(row[recordings[int(i)].object_id]) for i in chosen])
    streams = [recordings.load(int(i)) for i in chosen]
    return Pairs(pictures, streams, np.stack([counts(stream) for stream in streams]))


def counts(stream: EventStream) -> FloatArray:
    """Events of each polarity, 10 ms and pixel: float32 [2, 31, 34, 34]."""
    return _binned(stream, COUNT_MS, COUNT_BINS)


def _binned(stream: EventStream, width_ms: int, n: int) -> FloatArray:
    when = np.minimum(stream.t // (width_ms * 1000), n - 1)
    cell = ((stream.p.astype(np.int64) * n + when) * SIDE + stream.y) * SIDE + stream.x
    return np.bincount(cell, minlength=2 * n * SIDE * SIDE).reshape(2, n, SIDE, SIDE).astype(np.float32)


def regress(pairs: Pairs) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Velocities [62, 2] up to a scale, places [62, 2] in pixels, and their r² [62], a row for each 5 ms."""
    shown = np.pad(pairs.pictures / 255, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    logs = log_intensity(1 - gaussian_filter(shown, (0, 0.5, 0.5)), black=0.1)  # N-MNIST shows the negative
    slopes = np.array(np.gradient(logs, axis=(1, 2)))  # [2, n, 34, 34]
    spectra = np.fft.rfft2(slopes, s=(PAD, PAD))
    inner = np.einsum("anyx,bnyx->ab", slopes, slopes)
    products = np.zeros((2, BINS, PAD, PAD // 2 + 1), complex)
    energy = np.zeros(BINS)
    for stream, spectrum in zip(pairs.streams, spectra.swapaxes(0, 1), strict=True):
        off, on = _binned(stream, BIN_MS, BINS)
        energy += np.square(on - off).sum(axis=(1, 2))
        products += np.fft.rfft2(on - off, s=(PAD, PAD)) * spectrum.conj()[:, None]
    fitted = np.zeros((2, BINS, PAD * FINER, PAD * FINER // 2 + 1), complex)
    half = PAD // 2
    fitted[:, :, :half, :half] = products[:, :, :half, :half]
    fitted[:, :, -half:, :half] = products[:, :, half:, :half]
    wanted = np.arange(-REACH * FINER, REACH * FINER + 1)
    match = (
        np.fft.irfft2(fitted)[:, :, wanted[:, None], wanted] * FINER**2
    )  # [2, 62, 33, 33], a product a place
    velocity = -np.einsum("ab,bkyx->akyx", np.linalg.inv(inner), match)
    r2 = -(velocity * match).sum(axis=0) / np.maximum(energy, 1)[:, None, None]
    best = r2.reshape(BINS, -1).argmax(axis=1)
    down, right = np.divmod(best, len(wanted))
    every = np.arange(BINS)
    return (
        velocity[:, every, down, right].T,
        wanted[np.stack([down, right], 1)] / FINER,
        r2[every, down, right],
    )


def travelled(velocities: FloatArray) -> FloatArray:
    """Sums of velocities [62, 2] at the edges of their bins less their mean, [63, 2]."""
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(velocities, axis=0)])
    return path - path.mean(axis=0)


def first_fit(velocities: FloatArray, places: FloatArray, r2: FloatArray) -> Fit:
    """Scale and start of each axis from the places, weighted by r²."""
    path = travelled(velocities)
    middles = (path[1:] + path[:-1]) / 2
    (scale_down, down), (scale_right, right) = (
        np.polyfit(middles[:, axis], places[:, axis], 1, w=np.sqrt(r2.clip(0))) for axis in (0, 1)
    )
    return Fit(float(down), float(right), float(scale_down), float(scale_right))


def simulate(fit: Fit, pictures: NDArray[np.uint8], path: FloatArray) -> FloatArray:
    """Counts [n, 2, 31, 34, 34] of `pictures` [n, 28, 28] moved along `path` [N, 2], without noise or jitter."""
    fixed: dict[str, Any] = {name: (getattr(fit, name),) * 2 for name in ("black", "gamma", "blur_px")}
    camera = Saccades(rotation_deg=0, scale=(1, 1), shear=0, **fixed)
    times_us, threshold = (FRAMES_MS * 1000).astype(np.int64), fit.threshold
    rng = np.random.default_rng(0)  # nothing is left to chance
    return np.stack(
        [
            counts(
                simulate_frames(
                    camera._frames(picture, path, rng),
                    times_us,
                    threshold_on=threshold,
                    threshold_off=threshold,
                )[0]
            )
            for picture in pictures
        ]
    )


def judge(simulated: FloatArray, real: FloatArray) -> tuple[float, float]:
    """Mean correlation of the count maps of each recording, and simulated events for a real one."""
    pairs = zip(simulated, real, strict=True)
    correlation = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])
    return float(correlation), float(simulated.sum() / real.sum())


def search(fit: Fit, velocities: FloatArray, pairs: Pairs) -> Fit:
    """Move one value at a time as long as that helps, until no move helps any more."""

    def score(fit: Fit) -> float:
        simulated = simulate(fit, pairs.pictures, fit.path(velocities, FRAMES_MS))
        correlation, ratio = judge(simulated, pairs.counts)
        return correlation - 0.1 * abs(np.log(ratio))

    best = score(fit)
    for part in (1.0, 0.5):  # of a step
        before = -1.0
        while best > before + 5e-4:
            before = best
            for name, sign in product((*ADDED, *FACTORS), (part, -part)):
                while (found := score(moved := move(fit, name, sign))) > best + 1e-5:
                    best, fit = found, moved
            print(f"  score {best:.4f}")
    return fit


def move(fit: Fit, name: str, steps: float) -> Fit:
    """The fit with one value moved by some steps."""
    value = getattr(fit, name)
    return replace(
        fit, **{name: value + steps * ADDED[name] if name in ADDED else value * FACTORS[name] ** steps}
    )


def mid_range() -> dict[str, float]:
    """The middle of the ranges of `Saccades`."""
    return {name: float(np.mean(getattr(Saccades(), name))) for name in FACTORS}


def show(fit: Fit, velocities: FloatArray, unseen: Pairs) -> None:
    """Print both paths, their difference, and what each is worth on recordings that the search did not see."""
    path = fit.path(velocities, KNOTS_MS)  # [31, 2]
    print("  ms    down fitted    right fitted")
    for ms, ours, found in zip(KNOTS_MS, CONSTANTS, path, strict=True):
        print(f"{ms:4.0f}  {ours[0]:6.1f} {found[0]:6.2f}   {ours[1]:6.1f} {found[1]:6.2f}")
    difference = path - CONSTANTS
    middle = difference.mean(axis=0)
    print(f"difference: rms {rms(difference):.3f} px, largest {np.abs(difference).max():.3f} px")
    print(f"of which the mean place: down {middle[0]:.3f}, right {middle[1]:.3f} px; and the shape: ", end="")
    print(f"rms {rms(difference - middle):.3f} px, largest {np.abs(difference - middle).max():.3f} px")
    print(f"constants {JITTER_MS} ms late, as `nmnist_path` jitters: rms {late(CONSTANTS):.3f} px")
    print("fitted: " + ", ".join(f"{f.name} {getattr(fit, f.name):.3g}" for f in fields(fit)))
    sensors = {
        "fitted sensor": fit,
        "sensor that `Saccades` says fits": replace(fit, **DOCUMENTED),
        "middle of the ranges": replace(fit, **mid_range()),
    }
    for sensor, values in sensors.items():
        for name, places in (("constants", CONSTANTS), ("fitted path", path)):
            moved = np.stack([np.interp(FRAMES_MS, KNOTS_MS, axis) for axis in places.T], axis=1)
            correlation, ratio = judge(simulate(values, unseen.pictures, moved), unseen.counts)
            print(f"{sensor}, {name}: correlation {correlation:.4f}, {ratio:.3f} events for a real one")


def late(path: FloatArray) -> float:
    """How far, rms in pixels, a path [31, 2] is from itself `JITTER_MS` later."""
    moved = [np.interp(KNOTS_MS - JITTER_MS, KNOTS_MS, axis) for axis in path.T]
    return rms(np.stack(moved, axis=1) - path)


def rms(differences: FloatArray) -> float:
    """Root of the mean square over knots and axes [N, 2]."""
    return float(np.sqrt(np.square(differences).mean()))


def main() -> None:
    """Fit and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", default="nmnist6789", help="folder of recordings; `nmnist` is that of `digits`"
    )
    arguments = parser.parse_args()
    pairs = load(arguments.folder, arguments.recordings, arguments.seed)
    velocities, places, r2 = regress(pairs)
    first = first_fit(velocities, places, r2)
    print(
        f"r² up to {r2.max():.2f}; rms {rms(first.path(velocities, KNOTS_MS) - CONSTANTS):.3f} px without search"
    )
    fit = search(first, velocities, pairs.part(slice(0, None, 2)))
    unseen = pairs.part(slice(1, None, 2))
    show(fit, velocities, unseen)
    print(f"{time.process_time():.0f} s of processor time")


if __name__ == "__main__":
    main()
