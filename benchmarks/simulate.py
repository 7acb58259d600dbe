"""Speed of the simulator on one core, beside the formula of v2e's published emulator.

    python benchmarks/simulate.py [--frames 60] [--runs 5] [--json FILE]

A photograph moves before 346x260 pixels, slowly and fast, one frame every 5 ms. The formula of v2e (frames
differenced against the memorised one, whole thresholds counted, a pass for each further event of the busiest pixel,
times evenly spread, leak and shot noise as noise frames) is written anew in NumPy from its description; without noise
its events are compared with ours, pixel by pixel, before it is timed. Every figure is the best of `runs` in
milliseconds of processor time, so that a busy machine disturbs it little.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before any library that would start threads

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from evlift.simulate import EventCamera, Saccades, SceneSimulator, log_intensity, simulate_frames  # noqa: E402

SIZE, STEP_US = (260, 346), 5_000
THRESHOLD, LEAK_HZ, SHOT_HZ = 0.2, 0.1, 1.0
Floats = NDArray[np.float32]


def photograph() -> NDArray[np.uint8]:
    """A grey photograph [427, 640], a temple before the sky, that scikit-learn carries."""
    from sklearn.datasets import load_sample_image

    return (load_sample_image("china.jpg") @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def moving(n: int, pixels_a_frame: float) -> NDArray[np.uint8]:
    """Frames [N, H, W] of the photograph that moves to the left."""
    whole = photograph()[80 : 80 + SIZE[0]].astype(np.float32)
    frames = []
    for place in np.arange(n) * pixels_a_frame:
        left, share = int(place), np.float32(place % 1)
        frames.append(
            whole[:, left : left + SIZE[1]] * (1 - share) + whole[:, left + 1 : left + 1 + SIZE[1]] * share
        )
    return np.stack(frames).round().astype(np.uint8)


@dataclass
class V2e:
    """v2e's emulator in NumPy: `step` turns a log frame [H, W] into events (t in s, x, y, ±1)."""

    base: Floats
    on: Floats
    off: Floats
    rng: np.random.Generator
    leak_hz: float = 0.0
    shot_hz: float = 0.0

    def step(self, logs: Floats, light: Floats, start: float, stop: float) -> list[Any]:
        """Events between two frames; `light` [H, W] in 0..1."""
        duration = stop - start
        if self.leak_hz:
            jitter = 1 - 0.1 * self.rng.standard_normal(self.base.shape, np.float32)
            self.base = self.base - np.float32(duration * self.leak_hz) * jitter * self.on
        difference = logs - self.base
        ups = (np.maximum(difference, 0) // self.on).astype(np.int32)
        downs = (np.maximum(-difference, 0) // self.off).astype(np.int32)
        rounds = max(int(ups.max()), int(downs.max()), 1 if self.shot_hz else 0)
        events = []
        for k in range(rounds):
            on, off = ups > k, downs > k
            if self.shot_hz:
                chance = self.shot_hz / 2 * duration / rounds * (1 - 0.75 * light)
                luck = self.rng.random(self.base.shape, np.float32)
                on, off = on | (luck > 1 - chance), off | (luck < chance)
            for hit, sign in ((on, 1), (off, -1)):
                y, x = np.nonzero(hit)
                at = np.full(len(x), start + duration * (k + 1) / rounds)
                events.append(np.stack([at, x, y, np.full(len(x), sign)], axis=1))
        self.base = self.base + ups * self.on - downs * self.off
        return events


def run_v2e(frames: NDArray[np.uint8], maps: list[Floats], **noise: float) -> NDArray[np.float64]:
    """Events [n, 4] of all frames."""
    logs = log_intensity(frames[0], black=0.02)
    emulator, events = V2e(logs, maps[0], maps[1], np.random.default_rng(0), **noise), []
    for k, frame in enumerate(frames[1:]):
        logs, light = log_intensity(frame, black=0.02), frame * np.float32(1 / 255)
        events += emulator.step(logs, light, k * STEP_US * 1e-6, (k + 1) * STEP_US * 1e-6)
    return np.concatenate(events)


def best_ms(case: Callable[[], Any], runs: int) -> float:
    """Processor time in ms of the fastest of `runs`, after one that is not counted."""
    case()
    spent = []
    for _ in range(runs):
        start = time.process_time()
        case()
        spent.append(time.process_time() - start)
    return 1e3 * min(spent)


def differing(found: NDArray[np.float64], ours: Any) -> float:
    """Share of events by which the counts of pixels and polarities differ."""
    counts = np.zeros((2, 2, *SIZE))
    np.add.at(counts[0], ((found[:, 3] > 0).astype(int), found[:, 2].astype(int), found[:, 1].astype(int)), 1)
    np.add.at(counts[1], (ours.p.astype(int), ours.y, ours.x), 1)
    return float(np.abs(counts[0] - counts[1]).sum() / len(ours))


def measure(n: int, runs: int, pixels_a_frame: float) -> dict[str, float]:
    """Milliseconds a frame of each row."""
    frames, times = moving(n + 1, pixels_a_frame), np.arange(n + 1) * STEP_US
    maps = [
        np.exp(0.1 * np.random.default_rng(k).standard_normal(SIZE, np.float32)) * np.float32(THRESHOLD)
        for k in (0, 1)
    ]
    logs = log_intensity(frames, black=0.02)
    noisy = EventCamera(
        threshold=(THRESHOLD, THRESHOLD), leak_hz=(LEAK_HZ, LEAK_HZ), shot_hz=(SHOT_HZ, SHOT_HZ)
    )

    def ours() -> Any:
        return simulate_frames(logs, times, threshold_on=maps[0], threshold_off=maps[1])[0]

    def with_logs() -> Any:
        shown = log_intensity(frames, black=0.02)
        return simulate_frames(shown, times, threshold_on=maps[0], threshold_off=maps[1])[0]

    def with_noise() -> Any:
        rng = np.random.default_rng(0)
        return noisy.draw(SIZE, rng).watch(log_intensity(frames, black=0.02), times, rng)[0]

    events, theirs = ours(), run_v2e(frames, maps)
    speed = pixels_a_frame / STEP_US * 1e6
    print(
        f"\n{speed:g} pixels/s, {len(events) / n:,.0f} events a frame ({len(events) / n / STEP_US:.1f} Mev/s)"
    )
    print(f"v2e's formula differs by {differing(theirs, events):.1e} of them")
    return {
        "evlift, log frames in": best_ms(ours, runs) / n,
        "evlift, pictures in": best_ms(with_logs, runs) / n,
        "evlift, leak, shot, refractory": best_ms(with_noise, runs) / n,
        "v2e's formula, clean": best_ms(lambda: run_v2e(frames, maps), runs) / n,
        "v2e's formula, noisy": best_ms(lambda: run_v2e(frames, maps, leak_hz=LEAK_HZ, shot_hz=SHOT_HZ), runs)
        / n,
    }


def still(runs: int) -> dict[str, float]:
    """Milliseconds of whole recordings of 20 frames of a still picture, 240x180."""
    picture, rng = photograph()[100:280, 200:440], np.random.default_rng
    setting = {"sensor_size": (180, 240), "duration_us": 100_000, "step_us": STEP_US, "motion": "random3"}
    saccades, scenes = Saccades(**setting), SceneSimulator(**setting)
    print(f"\nstill picture, {len(saccades(picture, rng(0))):,} events in 20 frames of 240x180")
    return {
        "Saccades": best_ms(lambda: saccades(picture, rng(0)), runs),
        "SceneSimulator, mask and picture": best_ms(lambda: scenes(picture, rng(0), picture), runs),
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    results = {}
    for speed in (0.1, 0.5):
        rows = results[f"{speed} px a frame"] = measure(arguments.frames, arguments.runs, speed)
        for row, ms in rows.items():
            print(f"{row:34}{ms:8.2f} ms a frame{ms / rows['evlift, pictures in']:6.1f}x")
    results["still picture"] = still(arguments.runs)
    for row, ms in results["still picture"].items():
        print(f"{row:34}{ms:8.2f} ms in all")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
