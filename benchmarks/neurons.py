"""Speed and memory of the spiking networks on one core, beside SpikingJelly and snnTorch where installed.

    python benchmarks/neurons.py [--nets scnn,vgg-snn] [--runs 5] [--rows ours,bound] [--no-compile] [--json FILE]

Forward and backward of one batch. Rows are run in turn, `runs` times; a row's figure is the least processor time
of its runs, so that a busy machine disturbs it little. Memory is the growth of the peak resident set in a process
of its own (Linux). The bound is the convolutions, pools and linear layers alone, in the fastest form we know of; the
plain bound is the same as PyTorch lays it out by default, NCHW and with its own pooling.
The peers live in an environment of their own: see benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before any library that would start threads

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from evlift.models import create_model  # noqa: E402
from evlift.models.base import MeanPool, recommended_precision  # noqa: E402

CLASSES = 101
BATCHES = {"scnn": (64, 6, 28), "vgg-snn": (8, 10, 48)}
VGG = (64, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")
GOALS = {
    ("vgg-snn", "ours"): 1.12,
    ("vgg-snn", "ours bf16"): 1.2,
    ("vgg-snn", "ours compiled"): 1.0,
    ("vgg-snn", "ours bf16 compiled"): 1.1,
    ("scnn", "ours"): 1.4,
    ("scnn", "ours compiled"): 1.2,
}
Layers = list[nn.Module]


def layers(net: str, conv: Any, norm: Any, neuron: Callable[[], nn.Module], pool: Any, linear: Any) -> Layers:
    """The network as a list of layers of some library; norm and neuron may be nn.Identity."""
    if net == "scnn":
        first = [
            conv(2, 15, 5, bias=False),
            neuron(),
            pool(2),
            conv(15, 40, 5, bias=False),
            neuron(),
            pool(2),
        ]
        return [*first, _Flatten(), linear(640, 300), neuron(), linear(300, CLASSES)]
    found: Layers = []
    before = 2
    for item in VGG:
        if isinstance(item, int):
            found += [conv(before, item, 3, padding=1, bias=False), norm(item), neuron()]
            before = item
        else:
            found.append(pool(2))
    return [*found, _Flatten(), linear(512 * 9, CLASSES)]


class _Flatten(nn.Module):
    """Keeps the leading axes of peers (time, batch) and flattens the last three."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., C, h, w] → [..., C·h·w]."""
        return x.flatten(-3)


def bound(net: str) -> Callable[[Tensor], Tensor]:
    """Step by step through the layers that no neuron model can avoid."""
    identity: Any = nn.Identity
    stack = nn.Sequential(*layers(net, nn.Conv2d, identity, identity, lambda _: MeanPool(), nn.Linear))
    stack.to(memory_format=torch.channels_last)
    return _Model(stack, lambda x: torch.stack([stack(step) for step in x.unbind(1)], 1))


def plain_bound(net: str) -> Callable[[Tensor], Tensor]:
    """The bound in PyTorch's default layout and with its own pooling."""
    identity: Any = nn.Identity
    stack = nn.Sequential(*layers(net, nn.Conv2d, identity, identity, nn.AvgPool2d, nn.Linear))
    return _Model(stack, lambda x: torch.stack([stack(step) for step in x.unbind(1)], 1))


def ours(net: str, compiled: bool = False, **options: Any) -> Callable[[Tensor], Tensor]:
    """The network of this package, with its default options."""
    model = create_model(net, classes=CLASSES, **options)
    run = torch.compile(model) if compiled else model
    return _Model(model, lambda x: run(x).logits)


def spikingjelly(net: str) -> Callable[[Tensor], Tensor]:
    """Multi-step mode, PyTorch backend; its BatchNorm merges time and batch."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> nn.Module:
        slope = surrogate.PiecewiseQuadratic(alpha=2.0)
        return neuron.LIFNode(tau=2.0, v_threshold=0.5, surrogate_function=slope, detach_reset=True)

    stack = nn.Sequential(*layers(net, layer.Conv2d, layer.BatchNorm2d, lif, layer.AvgPool2d, layer.Linear))
    functional.set_step_mode(stack, "m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(stack)
        return stack(x.transpose(0, 1))

    return _Model(stack, run)


def snntorch(net: str) -> Callable[[Tensor], Tensor]:
    """Step by step, states held by the loop; its neuron does not scale the input."""
    import snntorch as snn

    def leaky() -> nn.Module:
        return snn.Leaky(beta=0.5, threshold=0.5, reset_mechanism="zero")

    stack = nn.ModuleList(layers(net, nn.Conv2d, nn.BatchNorm2d, leaky, nn.AvgPool2d, nn.Linear))

    def run(x: Tensor) -> Tensor:
        states: dict[int, Tensor | None] = {}
        outputs = []
        for step in x.unbind(1):
            for index, module in enumerate(stack):
                if isinstance(module, snn.Leaky):
                    start = states.get(index)
                    step, states[index] = module(step, torch.zeros_like(step) if start is None else start)
                else:
                    step = module(step)
            outputs.append(step)
        return torch.stack(outputs, 1)

    return _Model(stack, run)


class _Model:
    """A callable with the parameters behind it."""

    def __init__(self, module: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
        self.module, self.run = module, run

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(x)


def rows(compile_too: bool) -> dict[str, tuple[Callable[..., Any], dict[str, Any], bool]]:
    """Row name → maker, its options, bf16."""
    low, normal = {"memory": "low"}, {"memory": "normal"}
    found: dict[str, tuple[Callable[..., Any], dict[str, Any], bool]] = {
        "bound": (bound, {}, False),
        "plain bound": (plain_bound, {}, False),
        "ours": (ours, low, False),
        "ours memory=normal": (ours, normal, False),
        "bound bf16": (bound, {}, True),
        "plain bound bf16": (plain_bound, {}, True),
        "ours bf16": (ours, low, True),
        "ours bf16 memory=normal": (ours, normal, True),
    }
    if compile_too and (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        found["ours compiled"] = (ours, {"compiled": True} | normal, False)
        found["ours bf16 compiled"] = (ours, {"compiled": True} | normal, True)
    elif compile_too:
        print("no C++ compiler: the compiled rows are left out")
    for name, maker in (("spikingjelly", spikingjelly), ("snntorch", snntorch)):
        if find_spec(name) is None:
            print(f"{name} is not installed: its rows are left out (benchmarks/requirements.txt)")
            continue
        found[name] = (maker, {}, False)
        found[f"{name} bf16"] = (maker, {}, True)
    return found


def step_of(net: str, row: str, compile_too: bool) -> Callable[[], None]:
    """One training step, without the optimiser's."""
    maker, options, bf16 = rows(compile_too)[row]
    torch.manual_seed(0)
    model = maker(net, **options)
    batch, steps, size = BATCHES[net]
    x = 3 * torch.rand(batch, steps, 2, size, size)

    def step() -> None:
        model.module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(x)
        logits.float().square().mean().backward()

    return step


def peak_mb(net: str, row: str) -> float:
    """Growth of the peak resident set over two steps, measured in a fresh process."""
    command = [sys.executable, __file__, "--nets", net, "--peak-of", row]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout.split()[-1])


def memory_mb(key: str) -> float:
    """VmRSS or VmHWM of this process; getrusage would pass on the peak of the parent."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(key))


def print_peak(net: str, row: str) -> None:
    """The child's side of `peak_mb`."""
    step = step_of(net, row, compile_too=True)
    before = memory_mb("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the high-water mark
    step()
    step()
    print(memory_mb("VmHWM") - before)


def measure(net: str, names: list[str], runs: int, compile_too: bool) -> dict[str, dict[str, float]]:
    """Row → seconds and MB."""
    steps = {name: step_of(net, name, compile_too) for name in names}
    best = dict.fromkeys(names, float("inf"))
    for name, step in steps.items():
        started = time.perf_counter()
        step()
        if "compiled" in name:
            print(f"  {net}: compiling '{name}' took {time.perf_counter() - started:.0f} s")
    for _ in range(runs):
        for name, step in steps.items():
            started = time.process_time()
            step()
            best[name] = min(best[name], time.process_time() - started)
    return {name: {"seconds": best[name], "peak_mb": peak_mb(net, name)} for name in names}


def show(net: str, found: dict[str, dict[str, float]]) -> None:
    """One table a network, ratios to the bound of the same precision, and the goals."""
    batch, steps, size = BATCHES[net]
    print(f"\n{net}, B = {batch}, T = {steps}, {size}x{size}, forward + backward, one thread")
    print(f"{'':26s}{'s':>8s}{'x bound':>9s}{'x plain':>9s}{'goal':>7s}{'peak MB':>9s}")
    for name, row in found.items():
        bounds = [
            found.get(f"{kind}{' bf16' if 'bf16' in name else ''}") for kind in ("bound", "plain bound")
        ]
        ratio = "".join(f"{row['seconds'] / base['seconds']:9.2f}" if base else " " * 9 for base in bounds)
        goal = GOALS.get((net, name))
        wanted = f"{goal:7.2f}" if goal else " " * 7
        print(f"{name:26s}{row['seconds']:8.3f}{ratio}{wanted}{row['peak_mb']:9.0f}")
    if {"ours", "spikingjelly"} <= set(found):
        share = found["ours"]["peak_mb"] / found["spikingjelly"]["peak_mb"]
        print(f"peak of 'ours' (memory=low) / SpikingJelly: {share:.2f} (goal 0.52)")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", default=",".join(BATCHES))
    parser.add_argument("--rows", default="", help="only rows whose name starts with one of these")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    nets = options.nets.split(",")
    if options.peak_of:
        print_peak(nets[0], options.peak_of)
        return
    chosen = [
        name for name in rows(not options.no_compile) if name.startswith(tuple(options.rows.split(",")))
    ]
    print(f"torch {torch.__version__}, recommended precision: {recommended_precision()}")
    results = {}
    for net in nets:
        results[net] = measure(net, chosen, options.runs, not options.no_compile)
        show(net, results[net])
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
