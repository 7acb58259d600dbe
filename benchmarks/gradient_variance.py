"""How much the gradient varies with the draw of the mixture, by mixing law, beside the first-order formula.

    python benchmarks/gradient_variance.py [--samples 16] [--draws 64] [--steps 10] [--ratio 0.5] [--out DIR]

An SCNN is trained a little by TMKT on `digits` (600 labelled recordings). Then one pair of picture and recording at
a time is mixed anew `draws` times at the same ratio; the variance of the gradient of the mixed stream's label loss,
summed over all parameters, is taken for each pair and averaged over pairs. To first order in the ratio rho the
gradient is g + rho g', so that its variance is proportional to var(rho): r(1 - r) for whole clips, the variance of
the switch time for time-step mixup, r(1 - r) / T for independent frames. Both are given relative to whole clips, with
the exact var(rho) and that of the draws. Writes gradient-variance.md and .json to DIR if it is given.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LAWS = ("whole-clip", "timestep", "blend", "spatio-temporal", "independent")


def recipe(options: argparse.Namespace) -> dict[str, Any]:
    """TMKT with moving pictures or still ones, as in `evlift bench digits-labels`."""
    moved = {"encoding": "saccade", "motion": "random3"} if options.moved else {}
    return {
        "data": {"name": "digits"},
        "input": {"steps": options.steps, "size": [28, 28], "quantile": 0.25, **moved},
        "model": {"name": "scnn"},
        "method": {"name": "tmkt", "r_m": options.ratio},
        "train": {"steps": options.train, "batch_size": 32, "lr": 0.01, "threads": 1, "seed": options.seed},
    }


def trained(options: argparse.Namespace) -> tuple[Any, Any]:
    """The method after a few steps, and the feeder of further pairs."""
    from evlift import assembly
    from evlift.config import parse_recipe
    from evlift.engine.optim import Optimizers
    from evlift.methods.base import Progress

    wanted = parse_recipe(recipe(options))
    torch.set_num_threads(1)
    torch.manual_seed(wanted.train.seed)
    task = assembly.create_task(wanted)
    method = assembly.build_method(wanted, task)
    feeder = assembly.build_feeder(wanted, task, method)
    optimizer = Optimizers(method.parameter_groups("train"), wanted.train)
    method.train()
    for step in range(options.train):
        optimizer.set_rate(step, options.train)
        output = method.step(feeder.batch(step), Progress("train", step, options.train))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.clip()
        optimizer.step()
    return method, feeder


def gradient(method: Any, clip: Tensor, target: Tensor) -> Tensor:
    """Gradient of the label loss of one mixed clip [1, T, C, H, W], all parameters in one vector."""
    method.student.zero_grad()
    method.label_loss(method.student(clip, head="image").logits, target).backward()
    grads = [p.grad.flatten() for p in method.student.parameters() if p.grad is not None]
    return torch.cat(grads).double()


def measure(method: Any, feeder: Any, law: str, options: argparse.Namespace) -> dict[str, Any]:
    """Variance of the gradient and of the ratio over the draws of one law, averaged over the pairs."""
    from evlift.methods.mixing import Mixer

    mixer, variances, ratios = Mixer(law), [], []
    generator = torch.Generator().manual_seed(options.seed)
    batch = feeder.batch(options.train)
    for row in range(options.samples):
        pair = slice(row, row + 1)
        mean, square, n = 0.0, 0.0, options.draws
        for _ in range(n):
            mixed = mixer(batch.image[pair], batch.events[pair], options.ratio, generator)
            g = gradient(method, mixed.clip, batch.event_target[pair])
            mean, square = mean + g, square + float(g @ g)
            ratios.append(float(mixed.ratio))
        variances.append((square - float(mean @ mean) / n) / (n - 1))
    values = torch.tensor(variances, dtype=torch.float64)
    return {
        "variance": float(values.mean()),
        "error": float(values.std() / math.sqrt(len(values))),
        "var_ratio_drawn": float(torch.tensor(ratios, dtype=torch.float64).var()),
        "per_pair": [round(value, 8) for value in variances],
    }


def var_ratio(law: str, steps: int, ratio: float) -> float:
    """Exact var(rho) of a law; NaN where it depends on the size of the picture."""
    from evlift.methods.mixing import solve_p

    if law == "whole-clip":
        return ratio * (1 - ratio)
    if law == "independent":
        return ratio * (1 - ratio) / steps
    if law == "blend":  # w = u^k, k = (1-r)/r: E[w^2] = 1/(2k+1)
        return 1 / (2 * (1 - ratio) / ratio + 1) - ratio**2
    if law == "timestep":
        p = solve_p(ratio, steps)
        chances = [p * (1 - p) ** t for t in range(steps)]  # of the switch at step t + 1
        shares = [(steps - t) / steps for t in range(steps)]
        return sum(c * s**2 for c, s in zip(chances, shares, strict=True)) - ratio**2
    return math.nan


def table(found: dict[str, dict[str, Any]], steps: int, ratio: float) -> str:
    """Markdown; relative figures are to whole clips: of the means over pairs, and the median over pairs."""
    lines = [
        "| law | var(ρ) | var(ρ) of the draws | formula, relative | variance of the gradient | relative | median |",
        "|---|---|---|---|---|---|---|",
    ]
    whole = found["whole-clip"]
    for law, one in found.items():
        exact = var_ratio(law, steps, ratio)
        known = exact if not math.isnan(exact) else one["var_ratio_drawn"]
        each = [a / b for a, b in zip(one["per_pair"], whole["per_pair"], strict=True)]
        one |= {
            "formula_relative": known / var_ratio("whole-clip", steps, ratio),
            "relative": one["variance"] / whole["variance"],
            "median": statistics.median(each),
        }
        lines.append(
            f"| {law} | {'–' if math.isnan(exact) else f'{exact:.3f}'} | {one['var_ratio_drawn']:.3f} | "
            f"{one['formula_relative']:.2f} | {one['variance']:.3g} ± {one['error']:.2g} | {one['relative']:.2f} | "
            f"{one['median']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=16, help="pairs, at most 32")
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="time steps T")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--train", type=int, default=60, help="training steps before the measurement")
    parser.add_argument("--moved", action="store_true", help="pictures set in motion in place of still ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    method, feeder = trained(options)
    found = {law: measure(method, feeder, law, options) for law in LAWS}
    shown = table(found, options.steps, options.ratio)
    print(shown)
    if options.out:
        from evlift.files import write_json, write_text

        settings = {name: value for name, value in vars(options).items() if name != "out"}
        write_text(options.out / "gradient-variance.md", shown + "\n")
        write_json(options.out / "gradient-variance.json", {"settings": settings, "laws": found})


if __name__ == "__main__":
    main()
