"""Latency of exported networks beside eager PyTorch, as a ratio in one run.

    python benchmarks/export.py [--runs 30] [--nets scnn,vgg-snn] [--json FILE]

One clip at a time, as `evlift predict` asks, on one thread. All forms of a network are timed in turn, `runs` times
over; a figure is the median processor time, which is the latency where nothing else runs and which a busy machine
disturbs little. Networks have the default width and fresh weights: their speed does not depend on training.

Below, the student of a finished EvDistill run beside a supervised one of the same architecture: both are trained for
two steps on generated data, exported and compared, parameters counted in the files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--runs", type=int, default=30)
parser.add_argument("--nets", default="scnn,vgg-snn,resnet18-snn,convnet,unet,spiking-unet")
parser.add_argument("--json", type=Path)
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = "1"  # before any library that would start threads

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import evlift  # noqa: E402
from evlift.config import parse_recipe  # noqa: E402
from evlift.exporting.contract import Contract  # noqa: E402
from evlift.exporting.onnx_file import onnx_writer, open_onnx  # noqa: E402
from evlift.exporting.opened import ExportedNetwork  # noqa: E402
from evlift.exporting.pt2_file import open_pt2, pt2_writer  # noqa: E402
from evlift.models import create_model  # noqa: E402

STEPS = 6
SIZES = {"scnn": 28, "vgg-snn": 48, "resnet18-snn": 48, "convnet": 34, "unet": 68, "spiking-unet": 68}
Network = Callable[[Tensor], Any]


def forms(name: str, folder: Path) -> dict[str, Network]:
    """A network eager, and as each kind of file that holds it."""
    size = SIZES[name]
    options: dict[str, Any] = {"classes": 10, "input_size": size}
    if name in ("convnet", "unet"):
        options["steps"] = STEPS
    network = create_model(name, **options).eval()
    contract = Contract(
        evlift="benchmark",
        task=network.task,
        reads="frames",
        steps=STEPS,
        shape=(2, size, size),
        model={"name": name},
        method="events-only",
        input=parse_recipe("events-only-digits").to_dict()["input"],
        record={"classes": list("0123456789"), "sensor_size": [size, size], "count_scale": None},
    )
    found: dict[str, Network] = {"eager": network}
    for kind, writer, opener in (("onnx", onnx_writer, open_onnx), ("pt2", pt2_writer, open_pt2)):
        path = folder / f"{name}.{kind}"
        writer(network, contract)(path, contract)
        found[kind] = ExportedNetwork(*opener(path))
    return found


def median_ms(networks: dict[str, Network], clip: Tensor) -> dict[str, float]:
    """Median latency of each on one clip, in turn."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for run in range(options.runs + 3):
        for name, network in networks.items():
            start = time.process_time()
            with torch.no_grad():
                network(clip)
            if run >= 3:
                times[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def students(folder: Path) -> dict[str, Any]:
    """Parameters in the files of an EvDistill student and of a supervised one, and their latencies."""
    import onnx

    paths = {}
    for method in ("evdistill", "events-only"):
        recipe = {
            "data": {"name": "simulated-digits", "labels_per_class": 2, "recordings": 100},
            "model": {"name": "convnet"},
            "method": {"name": method},
            "input": {"steps": STEPS, "encoding": "saccade"},
            "train": {"steps": 2, "batch_size": 8, "precision": "32-true", "threads": 1},
        }
        paths[method] = evlift.export(evlift.train(recipe, folder / method).folder, "onnx").path
    held = {
        method: sum(torch.Size(tensor.dims).numel() for tensor in onnx.load(path).graph.initializer)
        for method, path in paths.items()
    }
    networks: dict[str, Network] = {
        method: evlift.open_exported(path).network for method, path in paths.items()
    }
    return {"numbers in the file": held, "ms": median_ms(networks, torch.rand(1, STEPS, 2, 28, 28))}


def main() -> None:
    """Measure and print tables."""
    torch.set_num_threads(1)
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(
            f"| network, one clip of {STEPS} steps | eager ms | onnx ms | pt2 ms | onnx : eager | pt2 : eager |"
        )
        print("|---|---|---|---|---|---|")
        for net in options.nets.split(","):
            ms = median_ms(forms(net, folder), torch.rand(1, STEPS, 2, SIZES[net], SIZES[net]))
            rows[net] = ms
            ratios = " | ".join(f"{ms[kind] / ms['eager']:.2f}" for kind in ("onnx", "pt2"))
            size = f"{SIZES[net]}×{SIZES[net]}"
            print(
                f"| {net} {size} | {' | '.join(f'{value:.2f}' for value in ms.values())} | {ratios} |",
                flush=True,
            )
        both = students(folder)
    print("\n| exported student | numbers in the file | ms |\n|---|---|---|")
    for method, count in both["numbers in the file"].items():
        print(f"| {method} | {count:,} | {both['ms'][method]:.3f} |")
    if options.json:
        options.json.write_text(json.dumps({"latency_ms": rows, "students": both}, indent=2))


if __name__ == "__main__":
    main()
