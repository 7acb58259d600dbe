"""What a second process brings: the same global batch on one process and on two, one thread each, in turns.

    python benchmarks/scale.py [--recipe tmkt-digits] [--steps 20] [--rounds 2] [--processes 2]

Efficiency is the time a step of one process over the time of all processes together, 1 at best. Wall time says what
a user sees on this machine at this hour; processor time leaves out waiting, for other programs and for each other, and
is what the processes do. Where the time goes: making the batch, exchanging (batch, answers, statistics, gradients,
agreement; its wall time includes waiting for the slower process), and the rest, networks and losses.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

SKIPPED = 3  # steps that warm up
Spent = dict[str, list[float]]  # part → wall and processor seconds


def timed(spent: Spent, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, whose seconds are added to `spent`; what it calls of other parts is theirs alone."""

    @functools.wraps(work)
    def call(*given: Any, **named: Any) -> Any:
        before = [sum(values[i] for values in spent.values()) for i in (0, 1)]
        start = time.perf_counter(), time.thread_time()
        try:
            return work(*given, **named)
        finally:
            inner = [sum(values[i] for values in spent.values()) - before[i] for i in (0, 1)]
            spent[part][0] += time.perf_counter() - start[0] - inner[0]
            spent[part][1] += time.thread_time() - start[1] - inner[1]

    return call


def member(rank: int, size: int, port: int, flags: list[str], recipe: str, answers: Any) -> None:
    """Train in this process; puts seconds a step and part, wall and processor."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch

    import evlift
    from evlift.datasets.transfer import Feeder
    from evlift.engine.distributed import Crew

    torch.set_num_threads(1)
    spent: Spent = defaultdict(lambda: [0.0, 0.0])
    steps: list[dict[str, list[float]]] = []
    Feeder.batch = timed(spent, "feed", Feeder.batch)  # type: ignore[method-assign]
    for name in ("gather", "sum", "together"):
        setattr(Crew, name, timed(spent, "exchange", getattr(Crew, name)))
    last = [time.perf_counter(), time.process_time()]

    def report(done: int, total: int, values: dict[str, float]) -> None:
        now = [time.perf_counter(), time.process_time()]
        steps.append({"all": [a - b for a, b in zip(now, last, strict=True)]} | dict(spent))
        spent.clear()
        last[:] = now

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) if rank else Path(folder) / "run"
        evlift.train(recipe, out, flags=flags, report=report)
    kept = steps[SKIPPED:-1]  # the last one evaluates and writes
    parts = ("all", "feed", "exchange")
    found = {
        part: [1000 * statistics.median(step.get(part, [0.0, 0.0])[i] for step in kept) for i in (0, 1)]
        for part in parts
    }
    answers.put((rank, found))


def measure(size: int, flags: list[str], recipe: str) -> dict[str, list[float]]:
    """Milliseconds a step and part, wall and processor, of the process that took longest."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    members = [
        context.Process(target=member, args=(rank, size, port, flags, recipe, answers))
        for rank in range(size)
    ]
    for process in members:
        process.start()
    found = [answers.get()[1] for _ in members]
    for process in members:
        process.join()
    return max(found, key=lambda times: times["all"][1])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tmkt-digits")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("flags", nargs="*", help="further fields: -- --train.batch_size 32")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    flags = ["--train.steps", str(options.steps), "--train.eval_every", "0", "--train.threads", "1"]
    flags += ["--train.log_every", "1000", "--train.checkpoint_every", "1000", *options.flags]
    times: dict[int, list[dict[str, list[float]]]] = {1: [], options.processes: []}
    for turn in range(options.rounds):
        for size, found in times.items():
            found.append(measure(size, flags, options.recipe))
            print(
                f"round {turn}, {size} processes, load {os.getloadavg()[0]:.1f}: {found[-1]['all']}",
                flush=True,
            )
    best = {
        size: {
            part: [min(one[part][i] for one in found) for i in (0, 1)] for part in ("all", "feed", "exchange")
        }
        for size, found in times.items()
    }
    print(f"\n{options.recipe}, {' '.join(options.flags)} ms a step, wall (processor), best round")
    print("| processes | step | batch | exchange | networks, losses, update | efficiency |")
    print("|---|---|---|---|---|---|")
    for size, found in best.items():
        rest = [found["all"][i] - found["feed"][i] - found["exchange"][i] for i in (0, 1)]
        columns = [*(found[part] for part in ("all", "feed", "exchange")), rest]
        gain = [best[1]["all"][i] / (size * found["all"][i]) for i in (0, 1)]
        cells = [f"{wall:.0f} ({processor:.0f})" for wall, processor in columns]
        print(f"| {size} | {' | '.join(cells)} | {gain[0]:.2f} ({gain[1]:.2f}) |")


if __name__ == "__main__":
    main()
