"""The digits table: every method, label count and window on real N-MNIST recordings, resumable at the run.

    python benchmarks/digits.py run --out runs/digits --workers 2 [--models scnn] [--budget-minutes 60]
    python benchmarks/digits.py judge --out runs/digits    # recording by recording; reads the test recordings, once
    python benchmarks/digits.py table --out runs/digits [--split test]
    python benchmarks/digits.py ceiling --out runs/digits  # the image model on images

A run trains one network on windows of all kinds and is judged on full recordings, on one saccade of each, and on the
first 300 events of a random saccade. Weights are chosen on val (source-only: on held-out pictures). The tables show
val; `judge` reads the test recordings too. What has not been run is shown as not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

WINDOWS = ("full", "saccade", "first300")
LABELS = (1, 5, 20, None)
HEADER = ["| row | k = 1 | k = 5 | k = 20 | all |", "|---|---|---|---|---|"]
INPUT = {"steps": 6, "size": [28, 28], "window": "mixed", "quantile": 0.25}
TRAIN = {"threads": 1, "eval_every": 200, "checkpoint_every": 200, "log_every": 50, "batch_size": 64}
MODELS: dict[str, dict[str, Any]] = {
    "scnn": {"model": {"name": "scnn"}, "train": {"steps": 700, "lr": 0.01}},
    "vgg": {"model": {"name": "vgg-snn", "width": 0.125}, "train": {"steps": 400, "lr": 0.005}},
}
CONSTANT = {"encoding": "constant"}
RANDOM3 = {"encoding": "saccade", "motion": "random3"}
NMNIST = {"encoding": "saccade", "motion": "nmnist"}
ROWS: dict[str, tuple[str, dict[str, str]]] = {  # row: method, how pictures become sequences
    "events-only": ("events-only", CONSTANT),
    "source-only": ("source-only", CONSTANT),
    "fine-tune": ("fine-tune", CONSTANT),
    "KT": ("kt", CONSTANT),
    "TMKT": ("tmkt", CONSTANT),
    "source-only, random saccades": ("source-only", RANDOM3),
    "KT, random saccades": ("kt", RANDOM3),
    "TMKT, random saccades": ("tmkt", RANDOM3),
    "source-only, N-MNIST saccades": ("source-only", NMNIST),
    "fine-tune, N-MNIST saccades": ("fine-tune", NMNIST),
    "KT, N-MNIST saccades": ("kt", NMNIST),
    "TMKT, N-MNIST saccades": ("tmkt", NMNIST),
}
# r_m of TMKT by label count; compared on val at k = 1 and 20 alone
RATIO = {1: 0.1, 5: 0.2, 20: 0.2, None: 0.5}
MAIN = ("events-only", "KT, N-MNIST saccades", "TMKT, N-MNIST saccades")


@dataclass(frozen=True)
class Cell:
    """One run: a row of the table, a label count, a fold and a seed."""

    model: str
    row: str
    labels: int | None
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """Folder of the run."""
        labels = "all" if self.labels is None else self.labels
        row = self.row.replace(", ", "_").replace(" ", "-")
        return f"{self.model}/{row}/k{labels}/fold{self.fold}-seed{self.seed}"

    def recipe(self) -> dict[str, Any]:
        """The recipe of the run."""
        name, encoding = ROWS[self.row]
        method = {"name": name, "r_m": RATIO[self.labels]} if name == "tmkt" else {"name": name}
        preset = MODELS[self.model]
        data = {"name": "digits", "fold": self.fold, "labels_per_class": self.labels, "label_seed": self.seed}
        return {
            "data": data,
            "input": {**INPUT, **encoding},
            "model": preset["model"],
            "method": method,
            "train": {**TRAIN, **preset["train"], "seed": self.seed},
        }


def cells(models: list[str]) -> list[Cell]:
    """All runs, the most telling first, so that a table whose time runs out has them.

    k = 1, 5, 20: fold 0 with 3 seeds; all labels: 5 folds.
    """
    turns = [
        Cell(model, row, k, *_place(k, turn))
        for model in models
        for turn in range(5)
        for row, k in _cells(turn)
    ]
    return sorted(turns, key=lambda cell: _priority(cell, models))


def _cells(turn: int) -> list[tuple[str, int | None]]:
    counts = LABELS if turn < 3 else (None,)
    return [(row, k) for row in ROWS for k in counts if k is None or not row.startswith("source-only")]


def _place(labels: int | None, turn: int) -> tuple[int, int]:
    """Fold and seed."""
    return (turn, 0) if labels is None else (0, turn)


def _priority(cell: Cell, models: list[str]) -> int:
    """Main rows of the first network first, then of the others, seed by seed; rival encodings later."""
    turn, later = cell.fold + cell.seed, models.index(cell.model) > 0
    if cell.row in MAIN:
        return (5 if later and turn else 2) * turn + later
    rival = cell.row.endswith("random saccades") and not cell.row.startswith("source-only")
    return 3 + 4 * turn + 3 * later + 3 * rival


def run_cell(cell: Cell, out: Path) -> None:
    """Train and judge one run in this process; writes result.json when done."""
    from evlift import api
    from evlift.files import write_json

    folder = out / cell.name
    run = api.train(cell.recipe(), folder)
    record = run.read_record()
    val = {window: found["accuracy"] for window, found in judge(folder, "val").items()}
    write_json(folder / "result.json", {**asdict(cell), "val": val, "seconds": record["seconds"]})
    run.resume.unlink(missing_ok=True)


def judge(folder: Path, split: str) -> dict[str, dict[str, Any]]:
    """What a run says of every window, and again with batch statistics adapted to the unlabelled recordings."""
    from evlift import assembly
    from evlift.engine.evaluate import adapt_statistics, run_network
    from evlift.models.modes import batch_norms

    trained = assembly.open_run(folder)
    feeder = assembly.evaluation_feeder(trained, assembly.create_task(trained.recipe))
    found = {}
    for window in WINDOWS:
        network = assembly.open_run(folder).network
        found[window] = _said(run_network(network, feeder.evaluation(split, window=window)))
        if batch_norms(network):
            clips = (batch.events for batch in feeder.evaluation("unlabelled", window=window))
            adapt_statistics(network, (clip for clip in clips if clip is not None))
            adapted = run_network(network, feeder.evaluation(split, window=window))
            found[f"{window}, adapted"] = _said(adapted)
    return found


def _said(evaluation: Any) -> dict[str, Any]:
    """Accuracy, mean over the classes, and which recordings (in the order of the split) were read rightly."""
    metrics = evaluation.metrics
    right = (evaluation.predicted == evaluation.target).astype(int).tolist()
    return {"accuracy": metrics.accuracy, "class_mean": metrics.class_mean, "right": right}


def ceiling(out: Path) -> str:
    """The image model on images: a convolutional network of the same source, on the pictures behind each split."""
    from evlift import api, assembly
    from evlift.config import parse_recipe
    from evlift.datasets.base import Batch
    from evlift.datasets.images import mnist
    from evlift.datasets.suites import data_root
    from evlift.engine.evaluate import run_network

    recipe = {
        "data": {"name": "digits"},
        "input": {"steps": 1, "size": [28, 28]},
        "model": {"name": "convnet"},
        "method": {"name": "source-only"},
        "train": {**TRAIN, "steps": 1000, "lr": 0.003},
    }
    api.train(recipe, out / "ceiling")
    trained = assembly.open_run(out / "ceiling")
    pictures = mnist(data_root())
    position = {item.object_id: i for i, item in enumerate(pictures)}
    lines = ["| fold | val | test | wrong on val |", "|---|---|---|---|"]
    for fold in range(5):
        task = assembly.create_task(parse_recipe({**recipe, "data": {"name": "digits", "fold": fold}}))
        encoder = assembly.evaluation_feeder(trained, task).encoder
        shown = []
        for items in (task.val, task.test):
            drawn = [pictures.load(position[object_id]) for object_id in items.object_ids]
            clips = [
                encoder.picture(p, np.random.default_rng(0), augment=False, window="full") for p in drawn
            ]
            batch = Batch(image=torch.stack(clips), image_target=torch.from_numpy(items.targets))
            shown.append((items, run_network(trained.network, [batch])))
        (val, judged), (_, test) = shown
        wrong = [val[i].name for i in np.flatnonzero(judged.predicted != judged.target)]
        row = f"| {fold} | {judged.metrics.accuracy:.3f} | {test.metrics.accuracy:.3f} | {', '.join(wrong)} |"
        lines.append(row)
    return "\n".join(lines)


def judge_all(out: Path) -> None:
    """Judge all finished runs recording by recording, on val and (once) on test; judged runs are left alone."""
    from evlift.api import cost
    from evlift.files import write_json

    for path in sorted(out.rglob("result.json")):
        if not (path.parent / "judged.json").exists():
            found: dict[str, Any] = {split: judge(path.parent, split) for split in ("val", "test")}
            spent = cost(path.parent)
            found["cost"] = {"parameters": spent.parameters, "macs": spent.macs, "synops": spent.synops}
            write_json(path.parent / "judged.json", found)
            print(path.parent, flush=True)


def run_all(out: Path, models: list[str], workers: int, minutes: float) -> None:
    """Start a process for each open run, `workers` at a time, until the budget is spent."""
    todo = [cell for cell in cells(models) if not (out / cell.name / "result.json").exists()]
    deadline = time.time() + 60 * minutes
    running: dict[str, subprocess.Popen] = {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while todo or running:
        for name, process in list(running.items()):
            if process.poll() is not None:
                state = "done" if process.returncode == 0 else f"failed ({process.returncode})"
                print(f"{time.strftime('%H:%M:%S')} {name} {state}, {len(todo)} to go", flush=True)
                del running[name]
        if todo and len(running) < workers and time.time() < deadline:
            cell = todo.pop(0)
            (out / cell.name).mkdir(parents=True, exist_ok=True)
            command = [
                sys.executable,
                __file__,
                "cell",
                "--out",
                str(out),
                "--cell",
                json.dumps(asdict(cell)),
            ]
            log = open(out / cell.name / "log.txt", "w")  # noqa: SIM115
            running[cell.name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        if time.time() >= deadline and not running:
            print(f"budget spent, {len(todo)} runs not run")
            return
        time.sleep(0.5)


Place = tuple[int, int]  # fold and seed
Results = dict[tuple[str, str, int | None, str], dict[Place, dict[str, Any]]]


def results(out: Path, split: str) -> Results:
    """What all finished runs said: (model, row, labels a class, window) → (fold, seed) → accuracy and more."""
    grouped: Results = defaultdict(dict)
    for path in sorted(out.rglob("result.json")):
        run = json.loads(path.read_text())
        judged = path.parent / "judged.json"
        found = json.loads(judged.read_text())[split] if judged.exists() else {}
        if not found and split == "val":
            found = {window: {"accuracy": accuracy} for window, accuracy in run["val"].items()}
        for window, said in found.items():
            grouped[run["model"], run["row"], run["labels"], window][run["fold"], run["seed"]] = said
    return dict(grouped)


def table(out: Path, models: list[str], split: str) -> str:
    """Markdown: mean ± standard deviation (number of runs) for every row, label count and window."""
    grouped = results(out, split)
    lines = []
    for model in models:
        for window in _windows(grouped, model):
            lines += [f"\n### {model}, {window}, {split}\n", *HEADER]
            for row in ROWS:
                shown = [_shown(row, k, grouped.get((model, row, k, window))) for k in LABELS]
                lines.append(f"| {row} | " + " | ".join(shown) + " |")
            lines += _differences(grouped, model, window)
    return "\n".join(lines)


def _windows(grouped: Results, model: str) -> list[str]:
    found = {key[3] for key in grouped if key[0] == model}
    return sorted(found, key=lambda window: ("adapted" in window, WINDOWS.index(window.split(",")[0])))


def _shown(row: str, labels: int | None, runs: dict[Place, dict[str, Any]] | None) -> str:
    if row.startswith("source-only") and labels is not None:
        return "as all"
    if not runs:
        return "not run"
    values = [run["accuracy"] for run in runs.values()]
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread} ({len(values)})"


def _differences(grouped: Results, model: str, window: str) -> list[str]:
    """TMKT minus its rivals, paired by fold and seed, with standard errors over the runs and over the recordings."""
    lines = []
    for rival in ("events-only", "source-only, N-MNIST saccades", "KT, N-MNIST saccades", "KT"):
        shown = []
        for k in LABELS:
            ours = grouped.get((model, MAIN[2], k, window), {})
            theirs = grouped.get((model, rival, None if rival.startswith("source-only") else k, window), {})
            if rival.startswith("source-only"):  # no labels: one run a fold serves every k
                theirs = {place: theirs[place[0], 0] for place in ours if (place[0], 0) in theirs}
            shown.append(_difference({p: (ours[p], theirs[p]) for p in ours if p in theirs}))
        lines.append(f"| *{MAIN[2]} − {rival}* | " + " | ".join(shown) + " |")
    return lines


def _difference(pairs: dict[Place, tuple[dict[str, Any], dict[str, Any]]]) -> str:
    if not pairs:
        return "not run"
    gains = [a["accuracy"] - b["accuracy"] for a, b in pairs.values()]
    said = [f"{np.mean(gains):+.3f}"]
    if len(gains) > 1:
        said.append(f"s.e. {np.std(gains, ddof=1) / np.sqrt(len(gains)):.3f} over runs")
    if all("right" in run for pair in pairs.values() for run in pair):
        by_recording = _by_recording(pairs)
        said.append(f"{np.std(by_recording, ddof=1) / np.sqrt(len(by_recording)):.3f} over recordings")
    return ", ".join(said) + f" ({len(gains)})"


def _by_recording(pairs: dict[Place, tuple[dict[str, Any], dict[str, Any]]]) -> np.ndarray:
    """Difference of every judged recording [n]: the mean over the seeds of its fold, folds strung together."""
    folds = defaultdict(list)
    for (fold, _), (a, b) in pairs.items():
        folds[fold].append(np.subtract(a["right"], b["right"]))
    return np.concatenate([np.mean(gains, axis=0) for gains in folds.values()])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["run", "cell", "judge", "table", "ceiling"])
    parser.add_argument("--out", type=Path, default=Path("runs/digits"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--budget-minutes", type=float, default=720)
    parser.add_argument("--cell", type=json.loads, help="one run, as JSON (used by `run`)")
    parser.add_argument("--split", choices=["val", "test"], default="val", help="what the table shows")
    options = parser.parse_args()
    if options.action == "run":
        run_all(options.out, options.models, options.workers, options.budget_minutes)
    elif options.action == "cell":
        run_cell(Cell(**options.cell), options.out)
    elif options.action == "ceiling":
        print(ceiling(options.out))
    elif options.action == "judge":
        judge_all(options.out)
    else:
        print(table(options.out, options.models, options.split))


if __name__ == "__main__":
    main()
