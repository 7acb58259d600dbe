"""Kill a command again and again at random moments, look at its files each time, and let it end: nothing may be lost.

    python benchmarks/soak.py train --kills 50 --minutes 30
    python benchmarks/soak.py convert
    python benchmarks/soak.py export

A work is a command, a check that every file under a final name is whole, and a digest of what it leaves. The digest
after all the kills must be that of an undisturbed run. A kill that finds the work complete ends that round: the next
one starts from the beginning, so that no kill meets a command with nothing to do. Every line printed is a measurement.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # a forked process waits for ever for threads that its parent had

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

POLL_S = 0.001
BEYOND = 1.5  # kills around a file's writing fall up to that much of its time after its first sign


@dataclass(frozen=True)
class Work:
    """What is killed.

    Args:
        command: arguments of `evlift`, for a folder that it fills.
        check: raises where a file under a final name is not whole.
        digest: of what the command leaves when it has ended.
        standing: how far it has come, in words.
        prepare: what is there before the command is called for the first time.
        sweeps: the next call deletes what a killed one left unfinished.
        share: of the undisturbed length within which the moments of kills are drawn.
        near: share of the kills that wait for a file: half of them fall around the time in which the first one is
            written, half between its name and the end.
    """

    command: Callable[[Path], list[str]]
    check: Callable[[Path], Any]
    digest: Callable[[Path], str]
    standing: Callable[[Path], str] = lambda out: (
        f"{len(list(out.glob('[!.]*')))} files under their final names"
    )
    prepare: Callable[[Path], None] = lambda out: None
    sweeps: bool = True
    share: float = 1.0
    near: float = 0.5


@dataclass
class Course:
    """When an undisturbed command began to write, gave the first and the last final name, and ended, in seconds."""

    begun: float = 0.0
    named: float = 0.0
    last: float = 0.0
    length: float = 0.0


MOMENTS = {
    "before": "before the call's first file had its final name",
    "amid": "between its first and its last",
    "after": "when everything had its final name",
}


@dataclass
class Tally:
    """What happened; kills by what they left."""

    moments: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MOMENTS, 0))
    writing: int = 0
    ended: int = 0
    leftovers: int = 0
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """Of all moments."""
        return sum(self.moments.values())

    def __str__(self) -> str:
        met = self.moments["before"] + self.moments["amid"]
        spread = ", ".join(f"{count} {MOMENTS[moment]}" for moment, count in self.moments.items())
        return (
            f"{self.kills} kills in {self.seconds:.0f} s, {met} met unfinished work ({spread}; {self.writing} left an "
            "unfinished part)"
        )


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


def exporting(out: Path, seed: int = 0) -> list[str]:
    """`evlift export` of a small run, which is trained once."""
    run = out.parent / f"run-{seed}"
    if not run.exists():
        api.train(
            RECIPE | {"method": {"name": "events-only"}, "train": RECIPE["train"] | {"seed": seed}}, run
        )
    return ["export", str(run), "--to", "pt2", "--out", str(out / "model.pt2")]


def older_export(out: Path) -> None:
    """Another network's file under the name that the command is going to write."""
    older = out.parent / "older" / "model.pt2"
    if not older.exists():
        process = _start(exporting(older.parent, seed=1))
        _end(process)
    out.mkdir()
    shutil.copy(older, out)


def answers_of(out: Path) -> Any:
    """What the exported network says of a fixed clip; the file is there from the start."""
    import torch

    from evlift.exporting import open_exported

    clip = torch.rand(4, RECIPE["input"]["steps"], 2, 28, 28, generator=torch.Generator().manual_seed(0))
    return open_exported(out / "model.pt2").network(clip).logits


def digest_answers(out: Path) -> str:
    """Of what the exported network says."""
    found = hashlib.sha256()
    _feed(found, answers_of(out))
    return found.hexdigest()


def older_or_new(out: Path) -> None:
    """The file under the final name is the older one or the new one, to the last answer."""
    known = [digest_answers(out.parent / name) for name in ("older", "whole")]
    _expect(digest_answers(out) in known, "the file is neither the older nor the new one")


# Another verb that writes files joins by a line: its command, its check, its digest.
WORKS = {
    "train": Work(training, check_run, digest_run, step_of, near=0.0),
    "convert": Work(converting, check_recordings, digest_recordings, sweeps=False),
    "export": Work(exporting, older_or_new, digest_answers, prepare=older_export, sweeps=False, near=0.75),
}


def soak(work: Work, folder: Path, *, kills: int, minutes: float, seed: int) -> Tally:
    """Kill `work` at random moments until it has been killed `kills` times or the time is up, then let it end."""
    draw, tally, out = random.Random(seed), Tally(), folder / "killed"
    _fresh(work, folder / "warm")
    _end(_start(work.command(folder / "warm")))  # what is compiled and cached once
    _fresh(work, folder / "whole")
    started = time.monotonic()
    course = watch(work, folder / "whole")
    expected = work.digest(folder / "whole")
    print(
        f"undisturbed: {course.length:.1f} s, writing from {course.begun:.2f} s, names from {course.named:.2f} s to "
        f"{course.last:.2f} s, digest {expected[:16]}",
        flush=True,
    )
    _fresh(work, out)
    _expect(not complete(work, out, expected), "the work is complete before it begins")
    while tally.kills < kills and time.monotonic() - started < 60 * minutes:
        before = names(out)
        process = _start(work.command(out))
        wait(process, work, out, course, draw)
        if process.is_alive():
            process.kill()
            process.join()
            moment = _look_at(work, out, before, expected, tally)
            print(f"kill {tally.kills}: {MOMENTS[moment]}; {work.standing(out)}", flush=True)
            if moment == "after":
                _fresh(work, out)
            continue
        _end(process)
        _expect(
            work.digest(out) == expected, "a work that was killed and ended differs from the undisturbed one"
        )
        tally.ended += 1
        _fresh(work, out)
    _end(_start(work.command(out)))
    work.check(out)
    _expect(work.digest(out) == expected, "the killed work differs from the undisturbed one")
    _expect(not work.sweeps or not unfinished(names(out)), "parts of files are left")
    tally.seconds = time.monotonic() - started
    return tally


def watch(work: Work, out: Path) -> Course:
    """Let the command end, and see when its files come."""
    started, before, course = time.monotonic(), names(out), Course()
    seen = before
    process = _start(work.command(out))
    while process.is_alive():
        now, at = names(out), time.monotonic() - started
        if now != before:
            course.begun = course.begun or at
        if final(now) != final(seen):
            course.named, course.last = course.named or at, at
        seen = now
        time.sleep(POLL_S)
    _end(process)
    course.length = time.monotonic() - started
    return course


def wait(process: Any, work: Work, out: Path, course: Course, draw: random.Random) -> None:
    """Until the moment to kill, see :class:`Work`."""
    if draw.random() >= work.near:
        process.join(draw.uniform(0.0, work.share) * course.length)
        return
    named = draw.random() < 0.5
    looked_at = final if named else dict
    longest = course.length - course.named if named else BEYOND * (course.named - course.begun)
    before = looked_at(names(out))
    while process.is_alive() and looked_at(names(out)) == before:
        time.sleep(POLL_S)
    process.join(draw.uniform(0.0, longest))


def _look_at(work: Work, out: Path, before: dict[str, int], expected: str, tally: Tally) -> str:
    """Check and count what a kill left; returns its moment."""
    work.check(out)
    now = names(out)
    moment = "after" if complete(work, out, expected) else "before"
    if moment == "before" and final(now) != final(before):
        moment = "amid"
    tally.moments[moment] += 1
    left = len(unfinished(now) - unfinished(before))
    tally.leftovers += left
    tally.writing += left > 0
    return moment


def complete(work: Work, out: Path, expected: str) -> bool:
    """Whether everything that the undisturbed command leaves is there."""
    try:
        return work.digest(out) == expected
    except FileNotFoundError:
        return False


def names(out: Path) -> dict[str, int]:
    """Files of a folder with their inodes: a file that replaces another has its own."""
    try:
        with os.scandir(out) as entries:
            return {entry.name: entry.inode() for entry in entries}
    except FileNotFoundError:
        return {}


def unfinished(found: dict[str, int]) -> set[str]:
    """Parts of files that have no final name yet."""
    return {name for name in found if name.startswith(".") and ".part" in name}


def final(found: dict[str, int]) -> dict[str, int]:
    """Files under final names."""
    return {name: inode for name, inode in found.items() if not name.startswith(".")}


def _fresh(work: Work, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    work.prepare(out)


def _start(command: list[str]) -> multiprocessing.Process:
    """The command in a process forked from this one: kills meet its work, not Python's imports."""
    process = multiprocessing.get_context("fork").Process(target=_quietly, args=(command,))
    process.start()
    return process  # type: ignore[return-value]


def _quietly(command: list[str]) -> None:
    from evlift.cli import main as evlift

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(evlift(command))


def _end(process: multiprocessing.Process) -> None:
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
        f"{options.work}: {tally}; every file whole after each, {tally.leftovers} unfinished parts beside them{swept}; "
        f"{tally.ended + 1} works ended in spite of them, each with the result of the undisturbed one, bit for bit"
    )


if __name__ == "__main__":
    main()
