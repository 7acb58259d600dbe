"""One run of a suite in a process of its own: train, judge, leave result.json.

Called as a module with the run's folder, which holds job.json: the recipe, and how the run is to be judged. What
is done already is not done again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.files import locked, write_json

if TYPE_CHECKING:
    from evlift.engine.run import Run

JOB, RESULT, LOG = "job.json", "result.json", "log.txt"
SAY_EVERY = 3.0  # seconds
PARENT = os.getppid()  # before anything slow is imported
STOPPED = 130


def judgements(judges: Sequence[Mapping[str, Any]], adapt: bool, *, test: bool) -> list[dict[str, Any]]:
    """Every way in which a run is judged: name, split, window, adapted or not."""
    found = []
    for judge in judges:
        splits = [judge["split"]] + (["test"] if test and judge["split"] == "val" else [])
        adapts = [False, True] if adapt else [False]
        found += [{**judge, "split": split, "adapt": adapted} for split in splits for adapted in adapts]
    return found


def key_of(judgement: Mapping[str, Any]) -> str:
    """What a judgement is filed under: "val/saccade", "test/saccade, adapted"."""
    window = judgement["window"] or "own window"
    return f"{judgement['split']}/{window}" + (", adapted" if judgement["adapt"] else "")


def open_judgements(folder: Path, job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The judgements of the job that the run's folder does not hold yet."""
    judged = read_result(folder, job["digest"]).get("judged", {})
    return [judgement for judgement in job["judgements"] if key_of(judgement) not in judged]


def read_result(folder: Path, digest: str) -> dict[str, Any]:
    """The result of a run of this recipe, as far as there is one."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return result if result.get("digest") == digest else {}


def main(folder: Path) -> int:
    """Train and judge what the folder's job says; returns the process's exit code."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    try:
        from evlift.bench.extras import load_plugins

        load_plugins([Path(plugin) for plugin in job["plugins"]])
        with locked(folder):  # the process of a command that was killed may still be at work here
            run = train(job, folder)
            judge(job, run)
            run.resume.unlink(missing_ok=True)
    except KeyboardInterrupt:
        say("stopped; goes on from its checkpoint")
        return STOPPED
    except Exception as error:
        import traceback

        traceback.print_exc()
        say(f"{type(error).__name__}: {error}")
        return 1
    return 0


def train(job: Mapping[str, Any], folder: Path) -> Run:
    """Train the job's recipe, from its checkpoint if there is one."""
    from rich.console import Console

    from evlift import api
    from evlift.engine.run import Run
    from evlift.progress import TrainingBar

    if Run(folder).record.exists():
        return Run(folder)
    say("starting")
    with TrainingBar(Console(quiet=True), "run") as report:
        return api.train(job["recipe"], folder, report=watched(report))


def watched(
    report: Callable[[int, int, dict[str, float]], None],
) -> Callable[[int, int, dict[str, float]], None]:
    """Say where training stands now and then; stop as by ctrl-C if the process that started this one is gone."""
    said = [0.0]

    def tell(done: int, total: int, values: dict[str, float]) -> None:
        if time.monotonic() - said[0] > SAY_EVERY:
            said[0] = time.monotonic()
            say(f"step {done} of {total}")
        if os.getppid() != PARENT:
            os.kill(os.getpid(), signal.SIGTERM)
        report(done, total, values)

    return tell


def judge(job: Mapping[str, Any], run: Run) -> None:
    """Judge in every way that is open; the result is written after each, so that none is lost."""
    from evlift import api

    record = run.read_record()
    result = read_result(run.folder, job["digest"]) or {
        **{name: job[name] for name in ("row", "cell", "place", "digest")},
        **{
            name: record[name]
            for name in ("steps", "samples", "seconds", "kept_step", "selected_on", "split")
        },
        "environment": record["environment"],
        "judge_seconds": 0.0,
        "names": {},
        "judged": {},
    }
    for judgement in open_judgements(run.folder, job):
        say(f"judging {key_of(judgement)}")
        started = time.perf_counter()
        options = {name: judgement[name] for name in ("split", "window", "adapt")}
        evaluation = api.evaluate(run.folder, **options)
        result["names"][judgement["split"]] = list(evaluation.names)
        result["judged"][key_of(judgement)] = what_was_said(evaluation)
        result["judge_seconds"] += round(time.perf_counter() - started, 2)
        result["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_json(run.folder / RESULT, result)
    if "cost" not in result:
        result["cost"] = _cost(run, job["judgements"][0]["split"])
        write_json(run.folder / RESULT, result)


def what_was_said(evaluation: Any) -> dict[str, Any]:
    """Score and its name, the classes' own, and for recognition which samples were read rightly."""
    said = {
        "score": evaluation.score,
        "metric": evaluation.metric,
        "samples": len(evaluation.names),
        "class_mean": evaluation.metrics.class_mean,
        "per_class": [None if value != value else float(value) for value in evaluation.metrics.per_class],
        "confusion": evaluation.metrics.confusion.tolist(),
        "per_step": [None if value != value else round(float(value), 6) for value in evaluation.per_step],
    }
    if evaluation.metric == "accuracy":
        said["right"] = (evaluation.predicted == evaluation.target).astype(int).tolist()
    return said


def _cost(run: Run, split: str) -> dict[str, Any]:
    """Parameters, MACs and synaptic operations of one clip; what could not be measured says why."""
    from evlift import api

    try:
        spent = api.cost(run.folder, split=split)
    except Exception as error:  # a network of somebody else's that cannot be counted must not cost a row
        return {"error": f"{type(error).__name__}: {error}"}
    return {name: getattr(spent, name) for name in ("parameters", "macs", "synops", "dense_macs")}


def say(text: str) -> None:
    """One line of the run's log."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def last_said(log: Path) -> str:
    """The last line of a log that says anything, without its time; empty if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return re.sub(r"^\d\d:\d\d:\d\d ", "", said)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
