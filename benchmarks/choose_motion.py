"""Which simulated motion looks most like unlabelled recordings: a choice without a label.

    python benchmarks/choose_motion.py [RECIPE] [--motions random3,pan,...] [--batches 40] [--field.of.recipe VALUE ...]

For each motion the recipe's pictures are simulated as in training, beside the recipe's unlabelled recordings, and
windows of both are described by seven numbers that need no label: events, active pixels, events of an active pixel,
how far ON and OFF keep apart, share of ON, how evenly the events lie in time, and whether rows or columns of events
join up. The energy distance of the two clouds (Székely and Rizzo 2013), each number in units of the recordings'
deviation, says how unlike they are; twice its own value between two halves of the recordings is no difference.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlift.assembly import build_feeder, build_method, create_task
from evlift.config import parse_recipe

MOTIONS = "random3,pan,shake,affine,varied,nmnist"
NAMES = ("events", "active", "a pixel", "apart", "ON", "uneven", "rows")


def described(clips: Tensor) -> NDArray[np.float64]:
    """[B, 7] of count frames [B, T, 2, H, W], T even."""
    counts = clips.double()
    total = counts.sum(dim=(1, 2, 3, 4)).clamp(min=1)
    pixels = counts.sum(dim=1)  # [B, T, 2, H, W] → [B, 2, H, W]
    both = pixels.sum(dim=1)  # [B, H, W]
    active = (both > 0).double()
    number = active.sum(dim=(1, 2)).clamp(min=1)
    early = counts[:, : counts.shape[1] // 2].sum(dim=(1, 2, 3, 4))
    along = (active[:, :, 1:] * active[:, :, :-1]).sum(dim=(1, 2))
    across = (active[:, 1:] * active[:, :-1]).sum(dim=(1, 2))
    columns = (
        total.log(),
        number.log(),
        (total / number).log(),
        (pixels[:, 1] - pixels[:, 0]).abs().sum(dim=(1, 2)) / total,
        pixels[:, 1].sum(dim=(1, 2)) / total,
        (2 * early / total - 1).abs(),
        ((along + 1) / (across + 1)).log(),
    )
    return torch.stack(columns, 1).numpy()


def energy_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """2 E|A - B| - E|A - A'| - E|B - B'| of clouds [n, k] and [m, k]; 0 for equal distributions."""

    def mean(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(first[:, None] - second[None], axis=2).mean())

    return 2 * mean(a, b) - mean(a, a) - mean(b, b)


def clouds(recipe: str, fields: list[str], batches: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What describes the recordings and the simulated pictures of a recipe, [n, 7] each."""
    parsed = parse_recipe(recipe, ["--method.name", "mean-teacher", "--input.normalise", "none", *fields])
    task = create_task(parsed)
    feeder = build_feeder(parsed, task, build_method(parsed, task))
    pairs = [feeder.batch(step) for step in range(batches)]
    real, simulated = ([getattr(pair, side) for pair in pairs] for side in ("events", "image"))
    return described(torch.cat(real)), described(torch.cat(simulated))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", default="evdistill-digit-masks")
    parser.add_argument("--motions", default=MOTIONS)
    parser.add_argument("--batches", type=int, default=40)
    options, fields = parser.parse_known_args()
    print(f"{'':10s}{'distance':>10s}" + "".join(f"{name:>10s}" for name in NAMES))
    for motion in options.motions.split(","):
        real, simulated = clouds(options.recipe, [*fields, "--input.motion", motion], options.batches)
        deviation = real.std(axis=0)
        off = (simulated.mean(axis=0) - real.mean(axis=0)) / deviation
        distance = energy_distance(real / deviation, simulated / deviation)
        print(f"{motion:10s}{distance:10.3f}" + "".join(f"{value:+10.2f}" for value in off))
    halves = energy_distance(real[::2] / deviation, real[1::2] / deviation)
    print(f"{'recordings':10s}{halves:10.3f}  between two halves of them")


if __name__ == "__main__":
    main()
