"""A tiny task and recipe that train in seconds, for tests of everything above the data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "data": {"name": "simulated-digits", "labels_per_class": 2, "recordings": 100},
    "input": {"steps": 3, "size": [28, 28], "encoding": "constant"},
    "model": {"name": "scnn", "width": 0.4},
    "method": {"name": "events-only"},
    "train": {
        "steps": 6,
        "batch_size": 8,
        "lr": 0.01,
        "eval_every": 3,
        "checkpoint_every": 2,
        "log_every": 1,
        "precision": "32-true",
        "warmup": 2,
        "threads": 1,
    },
}


def tiny(**changes: dict[str, Any]) -> dict[str, Any]:
    """The tiny recipe with fields of its sections replaced: ``tiny(method={"name": "tmkt"})``.

    A section that names another entry replaces the section as a whole.
    """
    recipe = {}
    for section, content in TINY.items():
        change = changes.get(section, {})
        renamed = "name" in change and change["name"] != content.get("name")
        recipe[section] = dict(change) if renamed else {**content, **change}
    return recipe


def liven(folder: Path) -> None:
    """Give the spiking network of a run, which a few steps leave silent, weights with which all its layers fire."""
    import torch
    from torch import nn

    from evlift.assembly import open_run
    from evlift.engine.checkpoint import save_weights
    from evlift.models.base import StepNorm

    trained = open_run(folder)
    network: Any = trained.network
    if not hasattr(network, "layers"):
        return
    normalised = any(isinstance(module, StepNorm) for module in network.modules())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, StepNorm):
                module.bias.uniform_(0.2, 0.8, generator=generator)
                module.running_mean.uniform_(-0.1, 0.1, generator=generator)
                module.running_var.uniform_(0.05, 0.2, generator=generator)
            elif isinstance(module, nn.Conv2d | nn.Linear) and not normalised:
                module.weight.mul_(2)
        out = network(
            torch.rand(2, trained.recipe.input.steps, network.channels, *network.input_size), taps=True
        )
    rate = float(out.spikes.mean())
    if not 0.02 < rate < 0.98:
        raise ValueError(
            f"Expected the livened network of {folder} to fire, but its last layer has the rate {rate}."
        )
    save_weights(trained.run.weights, network.state_dict())


def benchmark(name: str) -> Any:
    """The module of a script in `benchmarks/`."""
    import importlib.util
    import sys

    file = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec: Any = importlib.util.spec_from_file_location(f"benchmark_{name}", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def die_of_two(item: int) -> int:
    """A square; 2 ends the process, as a broken decoder would."""
    if item == 2:
        os._exit(9)
    return item * item
