"""Kill a command again and again at random moments, look at its files each time, and let it end: nothing may be lost.

    python benchmarks/soak.py train --kills 50 --minutes 30
    python benchmarks/soak.py convert
    python benchmarks/soak.py export

A work is a command, a check that every file under a final name is whole, and a digest of what it leaves. The digest
after all the kills must be that of an undisturbed run. Every line printed is a measurement.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlift import api, assembly
from evlift.config import parse_recipe

RECIPE: dict[str, Any] = {
    "data": {"name": "simulated-digits", "labels_per_class": 2, "recordings": 100},
    "input": {"steps": 3, "encoding": "constant"},
    "model": {"name": "convnet", "width": 0.1},
    "method": {"name": "evdistill", "averaged": 1.0, "generator_width": 4},
    "train": {
        "steps": 60,
        "batch_size": 8,
        "eval_every": 10,
        "checkpoint_every": 3,
        "log_every": 1,
        "ema": 0.9,
        "precision": "32-true",
        "threads": 1,
    },
}


@dataclass(frozen=True)
class Work:
    """What is killed.

    Args:
        command: arguments of `evlift`, for a folder that it fills.
        check: raises where a file under a final name is not whole.
        digest: of what the command leaves when it has ended.
        standing: how far it has come, in words.
    """

    command: Callable[[Path], list[str]]
    check: Callable[[Path], Any]
    digest: Callable[[Path], str]
    standing: Callable[[Path], str] = lambda out: (
        f"{len(list(out.glob('[!.]*')))} files under their final names"
    )
    sweeps: bool = True  # the next call deletes what a killed one left unfinished


@dataclass
class Tally:
    """What happened."""

    kills: int = 0
    ended: int = 0
    leftovers: int = 0
    seconds: float = 0.0


def training(out: Path) -> list[str]:
    """`evlift train` of a GAN-like method, which has the most state; its data are made once and inherited."""
    recipe = out.parent / "recipe.json"
    if not recipe.exists():
        recipe.write_text(json.dumps(RECIPE))
        task = assembly.create_task(parse_recipe(RECIPE))
        api.create_task = lambda recipe: task
    return ["train", str(recipe), "--out", str(out)]


def check_run(out: Path) -> None:
    """Every file of a run that is there can be read to its end."""
    from safetensors.torch import load_file

    from evlift.datasets.manifest import Manifest
    from evlift.engine.checkpoint import load_resume
    from evlift.engine.run import Run

    run = Run(out)
    readers: dict[Path, Callable[[], Any]] = {
        run.config: run.recipe,
        run.manifest: lambda: Manifest.load(run.manifest),
        run.resume: lambda: load_resume(run.resume),
        run.weights: lambda: load_file(run.weights),
        run.record: run.read_record,
    }
    for path, read in readers.items():
        if path.exists():
            read()


def digest_run(out: Path) -> str:
    """Of weights, resume state and log; the seconds alone may differ."""
    from evlift.engine.checkpoint import load_resume

    found = hashlib.sha256()
    for name in ("best.safetensors", "metrics.csv", "manifest.jsonl"):
        found.update((out / name).read_bytes())
    state = load_resume(out / "last.ckpt")
    del state["state"]["seconds"]
    _feed(found, state)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if hasattr(value, "numpy"):
        found.update(value.contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for name in value:
            found.update(str(name).encode())
            _feed(found, value[name])
    elif isinstance(value, list | tuple):
        for part in value:
            _feed(found, part)
    else:
        found.update(repr(value).encode())


def step_of(out: Path) -> str:
    """The step of the last checkpoint."""
    from evlift.engine.checkpoint import load_resume

    reached = load_resume(out / "last.ckpt")["state"]["step"] if (out / "last.ckpt").exists() else 0
    return f"checkpoint of step {reached} of {RECIPE['train']['steps']}"


def converting(out: Path) -> list[str]:
    """`evlift convert` of a folder with two workers."""
    source = out.parent / "recordings"
    if not source.exists():
        from evlift.events import write_events

        clips = assembly.create_task(parse_recipe(RECIPE)).unlabelled
        for i in range(len(clips)):
            write_events(source / f"{i}.npz", clips.load(i))
    return ["convert", str(source), str(out), "--to", "dsec", "--workers", "2"]


def events_of(out: Path) -> dict[str, Any]:
    """Every recording under a final name, read whole."""
    from evlift.events import read_events

    return {path.name: read_events(path, strict=True) for path in sorted(out.glob("[!.]*"))}


def check_recordings(out: Path) -> None:
    """Every recording that is there equals its source."""
    from evlift.events import read_events

    for name, stream in events_of(out).items():
        source = read_events((out.parent / "recordings" / name).with_suffix(".npz"))
        same = all((getattr(stream, column) == getattr(source, column)).all() for column in "txyp")
        _expect(len(stream) == len(source) and same, f"{name} differs from its source")


def digest_recordings(out: Path) -> str:
    """Of all events."""
    found = hashlib.sha256()
    for name, stream in events_of(out).items():
        found.update(name.encode())
        for column in "txyp":
            found.update(getattr(stream, column).tobytes())
    return found.hexdigest()


def exporting(out: Path) -> list[str]:
    """`evlift export` of a small run, which is trained once."""
    run = out.parent / "run"
    if not run.exists():
        api.train(RECIPE | {"method": {"name": "events-only"}}, run)
    out.mkdir(exist_ok=True)
    return ["export", str(run), "--to", "pt2", "--out", str(out / "model.pt2")]


def answers_of(out: Path) -> Any:
    """What the exported network says of a fixed clip; None without a file."""
    import torch

    from evlift.exporting import open_exported

    if not (out / "model.pt2").exists():
        return None
    clip = torch.rand(4, RECIPE["input"]["steps"], 2, 28, 28, generator=torch.Generator().manual_seed(0))
    return open_exported(out / "model.pt2").network(clip).logits


def digest_answers(out: Path) -> str:
    """Of what the exported network says."""
    found = hashlib.sha256()
    _feed(found, answers_of(out))
    return found.hexdigest()


# Another verb that writes files joins by a line: its command, its check, its digest.
WORKS = {
    "train": Work(training, check_run, digest_run, step_of),
    "convert": Work(converting, check_recordings, digest_recordings, sweeps=False),
    "export": Work(exporting, answers_of, digest_answers, sweeps=False),
}


def soak(work: Work, folder: Path, *, kills: int, minutes: float, seed: int) -> Tally:
    """Kill `work` at random moments until it has been killed `kills` times or the time is up, then let it end."""
    draw, tally, out = random.Random(seed), Tally(), folder / "killed"
    _end(_start(work, folder / "warm"), work)  # what is compiled and cached once
    started = time.monotonic()
    _end(_start(work, folder / "whole"), work)
    length, expected = time.monotonic() - started, work.digest(folder / "whole")
    print(f"undisturbed: {length:.1f} s, digest {expected[:16]}", flush=True)
    while tally.kills < kills and time.monotonic() - started < 60 * minutes:
        process = _start(work, out)
        process.join(draw.uniform(0.0, 0.5) * length)
        if process.is_alive():
            process.kill()
            process.join()
            tally.kills += 1
            work.check(out)
            tally.leftovers += len(list(out.glob(".*.part*")))
            print(f"kill {tally.kills}: {work.standing(out)}", flush=True)
            continue
        _end(process, work)
        _expect(
            work.digest(out) == expected, "a work that was killed and ended differs from the undisturbed one"
        )
        tally.ended += 1
        shutil.rmtree(out)
    _end(_start(work, out), work)
    work.check(out)
    _expect(work.digest(out) == expected, "the killed work differs from the undisturbed one")
    _expect(not work.sweeps or not list(out.glob(".*.part*")), "parts of files are left")
    tally.seconds = time.monotonic() - started
    return tally


def _start(work: Work, out: Path) -> multiprocessing.Process:
    """The command in a process forked from this one: kills meet its work, not Python's imports."""
    process = multiprocessing.get_context("fork").Process(target=_quietly, args=(work.command(out),))
    process.start()
    return process  # type: ignore[return-value]


def _quietly(command: list[str]) -> None:
    from evlift.cli import main as evlift

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(evlift(command))


def _end(process: multiprocessing.Process, work: Work) -> None:
    process.join()
    _expect(process.exitcode == 0, f"the command ended with {process.exitcode}")


def _expect(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"FAILED: {what}")


def main() -> None:
    """Soak one of the works."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = soak(
            WORKS[options.work],
            Path(folder),
            kills=options.kills,
            minutes=options.minutes,
            seed=options.seed,
        )
    swept = ", which were swept" if WORKS[options.work].sweeps else ""
    print(
        f"{options.work}: {tally.kills} kills in {tally.seconds:.0f} s, every file whole after each, {tally.leftovers} "
        f"unfinished parts beside them{swept}; {tally.ended + 1} works ended in spite of them, each with the result of "
        "the undisturbed one, bit for bit"
    )


if __name__ == "__main__":
    main()
