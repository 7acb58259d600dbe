"""How far the loss of every method is from that of one process when two train it, beside what rounding does anyway.

    python benchmarks/shared_curves.py [--steps 50] [METHOD ...]

Each method trains a tiny recipe in float32: by one process, by two, and by one whose first weights differ by a part
in ten million, in three ways of which the worst counts. Differences are relative to the first loss, the largest of the
first 5 steps and of all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import evlift
from crews import fork
from evlift import api, assembly
from evlift.config import parse_recipe
from evlift.engine import train as engine
from evlift.engine.logs import read_log
from helpers import tiny

CONVNET = {"name": "convnet", "width": 0.2}
VGG = {"name": "vgg-snn", "width": 0.05}
MOVED = {"encoding": "saccade"}
RUNS: dict[str, dict[str, Any]] = {
    "events-only, convnet": {"model": CONVNET},
    "events-only, scnn": {},
    "events-only, vgg-snn": {"model": VGG},
    "source-only, convnet": {"method": {"name": "source-only"}, "model": CONVNET},
    "fine-tune, convnet": {"method": {"name": "fine-tune"}, "model": CONVNET},
    "image-model, convnet": {"method": {"name": "image-model"}, "model": CONVNET},
    "mean-teacher, convnet": {"method": {"name": "mean-teacher"}, "model": CONVNET, "input": MOVED},
    "plain-kd, convnet": {"method": {"name": "plain-kd"}, "model": CONVNET},
    "reconstruct-then-run": {
        "method": {"name": "reconstruct-then-run"},
        "model": {"name": "reconstruct-then-run", "generator_width": 4, "generator_blocks": 1},
        "input": MOVED,
    },
    "kt, scnn": {"method": {"name": "kt"}},
    "tmkt, scnn": {"method": {"name": "tmkt"}},
    "tmkt, vgg-snn": {"method": {"name": "tmkt"}, "model": VGG},
    "evdistill, convnet": {"method": {"name": "evdistill", "generator_width": 4}, "model": CONVNET},
}


def losses(recipe: Any, nudge: int = 0) -> list[float]:
    """The loss of every step; `nudge` draws the change of the first weights, 0 for none."""
    kept = engine.share_weights

    def nudged(method: Any, crew: Any) -> None:
        kept(method, crew)
        draw = torch.Generator().manual_seed(nudge)
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.mul_(1 + 1e-7 * torch.randn(parameter.shape, generator=draw))

    engine.share_weights = nudged if nudge else kept
    with tempfile.TemporaryDirectory() as folder:
        # process 0 alone writes, each into a folder of its own name
        evlift.train(recipe, Path(folder) / "run")
        log = read_log(Path(folder) / "run" / "metrics.csv")
    return [row["value"] for row in log if row["name"] == "loss"]


def alone(recipe: Any, nudge: int) -> list[float]:
    """The same in a process of its own, which nothing came before."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(losses, (recipe, nudge))


def apart(one: Sequence[float], others: Sequence[Sequence[float]]) -> str:
    """Largest difference of the first 5 steps, and of all, over the first loss."""
    found = [max(abs(a - b) for b in many) / one[0] for a, *many in zip(one, *others, strict=True)]
    return f"{max(found[:5]):.0e}, {max(found):.0e}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--nudges", type=int, default=3)
    parser.add_argument("methods", nargs="*")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    task = assembly.create_task(parse_recipe(tiny()))
    api.create_task = lambda recipe: task  # the data are made once
    print("| run | two processes | first weights nudged by 1e-7 |\n|---|---|---|")
    for name, changes in RUNS.items():
        if options.methods and name.partition(",")[0] not in options.methods:
            continue
        recipe = tiny(**changes, train={"steps": options.steps, "eval_every": 0, "lr": 0.005})
        one, two = alone(recipe, 0), fork(losses, recipe)[0]
        nudged = [alone(recipe, nudge) for nudge in range(1, 1 + options.nudges)]
        print(f"| {name} | {apart(one, [two])} | {apart(one, nudged)} |", flush=True)


if __name__ == "__main__":
    main()
