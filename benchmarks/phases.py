"""What a step of each phase of EvDistill costs, and what its student costs beside one trained with labels.

    python benchmarks/phases.py [--recipe evdistill-digits] [--steps 8]
    python benchmarks/phases.py --suite digits6789 --cell "moved pictures and k = 5" [--rows KT,TMKT] [--steps 8]

Processor time a step (batch and update) and peak memory of a process of its own for each phase; then the forward time
of the student and of the supervised student of the same recipe, in turns, one thread. Of a suite the last phase of
every row in a cell instead: where the time of its runs goes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch


def rows_of(suite: str, cell: str | None, rows: list[str]) -> dict[str, Any]:
    """Recipes of a suite's rows at the first repetition of a cell, by row."""
    from evlift.bench.suite import load_suite

    found: dict[str, Any] = {}
    for entry in load_suite(suite).entries():
        if cell in (None, entry.column.name) and (not rows or entry.row.name in rows):
            found.setdefault(entry.row.name, entry.recipe)
    missing = [row for row in rows if row not in found]
    if missing or not found:
        raise SystemExit(
            f"Expected rows of {suite} in the cell '{cell}', but got {', '.join(missing) or 'none'}."
        )
    return found


def measure(recipe: Any, phase_name: str | None, steps: int) -> dict[str, Any]:
    """Milliseconds a step and peak memory of one phase, the last if none is named, in this process."""
    from evlift import assembly
    from evlift.engine.optim import Optimizers
    from evlift.methods.base import Progress
    from evlift.models.base import recommended_precision

    task = assembly.create_task(recipe)
    method = assembly.build_method(recipe, task)
    feeder = assembly.build_feeder(recipe, task, method)
    phase = next(phase for phase in method.phases[::-1] if phase_name in (None, phase.name))
    optimizer = Optimizers(method.parameter_groups(phase.name), recipe.train)
    times: dict[str, list[float]] = {"batch": [], "update": []}
    for step in range(steps + 2):
        start = time.process_time()
        batch = feeder.batch(step, needs=phase.needs)
        half = time.process_time()
        optimizer.set_rate(step, 1000)
        method.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=recommended_precision() != "32-true"):
            output = method.step(batch, Progress(phase.name, 500 + step, 1000))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.clip()
        optimizer.step()
        method.after_update(Progress(phase.name, 500 + step, 1000))
        if step >= 2:
            times["batch"].append(half - start)
            times["update"].append(time.process_time() - half)
    found = {key: 1000 * statistics.median(values) for key, values in times.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**found, "peak_mb": peak}


def inference(name: str) -> dict[str, Any]:
    """Parameters and forward time of the label-free student as it is deployed and of the supervised one."""
    from evlift import assembly
    from evlift.config import parse_recipe

    ours = parse_recipe(name)
    labels = parse_recipe(
        {**ours.to_dict(), "method": {"name": "events-only"}, "model": {**ours.model, "separate_bn": False}}
    )
    classes = len(assembly.create_task(ours).classes)
    method = assembly.build_method(ours, assembly.create_task(ours))
    deployed = assembly.build_network(ours, classes, inference=True)
    deployed.load_state_dict(method.student.inference_state_dict())
    networks = {"label-free": deployed.eval(), "supervised": assembly.build_network(labels, classes).eval()}
    clip = torch.rand(1, ours.input.steps, 2, *ours.input.size)
    times: dict[str, list[float]] = {key: [] for key in networks}
    with torch.no_grad():
        for turn in range(60):
            for key, network in networks.items():
                start = time.process_time()
                network(clip)
                if turn >= 10:
                    times[key].append(time.process_time() - start)
    medians = {key: 1000 * statistics.median(values) for key, values in times.items()}
    counts = {key: sum(p.numel() for p in network.parameters()) for key, network in networks.items()}
    return {"parameters": counts, "ms": medians, "ratio": medians["label-free"] / medians["supervised"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="evdistill-digits")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--phase", help="measure this phase alone and print JSON (used by the script itself)")
    parser.add_argument("--suite", help="measure the rows of this suite instead")
    parser.add_argument("--cell", help="of the suite; default: the first that has the row")
    parser.add_argument(
        "--rows", type=lambda text: text.split(","), default=[], help="of the suite; default: all"
    )
    parser.add_argument(
        "--json", action="store_true", help="measure one row and print JSON (used by the script itself)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.suite:
        measure_suite(options)
    else:
        measure_recipe(options)


def measure_suite(options: argparse.Namespace) -> None:
    """Print a line for every row of a suite."""
    recipes = rows_of(options.suite, options.cell, options.rows)
    if options.json:
        print(json.dumps(measure(next(iter(recipes.values())), None, options.steps)))
        return
    print("| row | batch, ms | update, ms | peak memory, MB |\n|---|---|---|---|")
    for row in recipes:
        cell = ["--cell", options.cell] if options.cell else []
        show(row, ["--suite", options.suite, *cell, "--rows", row, "--json"], options.steps)


def measure_recipe(options: argparse.Namespace) -> None:
    """Print a line for every phase of EvDistill, and what its student costs."""
    from evlift.config import parse_recipe

    if options.phase:
        print(json.dumps(measure(parse_recipe(options.recipe), options.phase, options.steps)))
        return
    print("| phase | batch, ms | update, ms | peak memory, MB |\n|---|---|---|---|")
    for phase in ("teacher", "reconstruction", "joint"):
        show(phase, ["--recipe", options.recipe, "--phase", phase], options.steps)
    found = inference(options.recipe)
    print(
        f"\nStudent: {found['parameters']['label-free']:,} parameters, supervised "
        f"{found['parameters']['supervised']:,}; forward {found['ms']['label-free']:.2f} and "
        f"{found['ms']['supervised']:.2f} ms a clip, ratio {found['ratio']:.2f}"
    )


def show(name: str, arguments: list[str], steps: int) -> None:
    """Measure in a process of its own and print the line."""
    command = [sys.executable, __file__, *arguments, "--steps", str(steps)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    row = json.loads(said.stdout)
    print(f"| {name} | {row['batch']:.0f} | {row['update']:.0f} | {row['peak_mb']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
