"""The digits table: every method, label count and window on real N-MNIST recordings, resumable at the run.

    python benchmarks/digits.py run --out runs/digits --workers 2 [--models scnn] [--budget-minutes 60]
    python benchmarks/digits.py table --out runs/digits [--test] > table.md

A run trains one network and judges it on val (full windows, one saccade, the first 300 events). `table --test` reads
the test recordings, pooled over the folds, once. What has not been run is listed as not run.
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

import numpy as np

WINDOWS = ("full", "saccade", "first300")
LABELS = (1, 5, 20, None)
SHARED = {
    "input": {"steps": 6, "size": [28, 28], "window": "mixed", "quantile": 0.5, "motion": "random3"},
    "train": {"threads": 1, "precision": "32-true", "eval_every": 100, "checkpoint_every": 200, "log_every": 50},
}
MODELS = {
    "scnn": {"model": {"name": "scnn"}, "train": {"steps": 500, "batch_size": 64, "lr": 0.005}},
    "vgg": {"model": {"name": "vgg-snn", "width": 0.125}, "train": {"steps": 300, "batch_size": 32, "lr": 0.003}},
}
ROWS = {  # row name: method options and encoding of the pictures
    "events-only": ({"name": "events-only"}, "constant"),
    "source-only": ({"name": "source-only"}, "constant"),
    "source-only, saccade": ({"name": "source-only"}, "saccade"),
    "fine-tune": ({"name": "fine-tune"}, "constant"),
    "fine-tune, saccade": ({"name": "fine-tune"}, "saccade"),
    "KT": ({"name": "kt"}, "constant"),
    "KT, saccade": ({"name": "kt"}, "saccade"),
    "TMKT": ({"name": "tmkt"}, "constant"),
    "TMKT, saccade": ({"name": "tmkt"}, "saccade"),
}


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

    def recipe(self) -> dict:
        """The recipe of the run."""
        method, encoding = ROWS[self.row]
        preset = MODELS[self.model]
        return {
            "data": {
                "name": "digits",
                "fold": self.fold,
                "labels_per_class": self.labels,
                "label_seed": self.seed,
            },
            "input": {**SHARED["input"], "encoding": encoding},
            "model": preset["model"],
            "method": method,
            "train": {**SHARED["train"], **preset["train"], "seed": self.seed},
        }


def cells(models: list[str]) -> list[Cell]:
    """All runs of the table: k = 1, 5, 20 on fold 0 with 3 seeds, all labels on 5 folds; seed by seed, so that an
    interrupted table has every row first."""
    found = []
    for turn in range(5):
        for model in models:
            for row in ROWS:
                counts = (None,) if row.startswith("source-only") else LABELS
                for labels in counts:
                    if labels is None:
                        found.append(Cell(model, row, labels, turn, 0))
                    elif turn < 3:
                        found.append(Cell(model, row, labels, 0, turn))
    return found


def run_cell(cell: Cell, out: Path) -> None:
    """Train and judge one run in this process; writes result.json when done."""
    from evlift import api
    from evlift.engine.evaluate import batch_norms
    from evlift.files import write_json

    folder = out / cell.name
    run = api.train(cell.recipe(), folder)
    trained = api.open_run(folder)
    adapts = (False, True) if batch_norms(trained.network) else (False,)
    val = {}
    for adapt in adapts:
        for window in WINDOWS:
            evaluation = api.evaluate(folder, window=window, adapt=adapt)
            val[window + ("+adapted" if adapt else "")] = evaluation.metrics.accuracy
    record = run.read_record()
    write_json(folder / "result.json", {**asdict(cell), "val": val, "seconds": record["seconds"]})
    run.resume.unlink()


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
            command = [sys.executable, __file__, "cell", "--out", str(out), "--cell", json.dumps(asdict(cell))]
            log = open(out / cell.name / "log.txt", "w")  # noqa: SIM115
            running[cell.name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        if time.time() >= deadline and not running:
            print(f"budget spent, {len(todo)} runs not run")
            return
        time.sleep(0.5)


def results(out: Path) -> list[dict]:
    """All finished runs."""
    return [json.loads(path.read_text()) for path in sorted(out.rglob("result.json"))]


def table(out: Path, models: list[str]) -> str:
    """Markdown: mean ± standard deviation (n) of the val accuracy for every row, label count and window."""
    grouped = defaultdict(list)
    for found in results(out):
        for window, accuracy in found["val"].items():
            grouped[found["model"], found["row"], found["labels"], window].append(accuracy)
    lines = []
    for model in models:
        windows = [w for w in (*WINDOWS, *(f"{w}+adapted" for w in WINDOWS)) if any(k[0] == model and k[3] == w for k in grouped)]
        for window in windows:
            lines += [f"\n### {model}, {window}\n", "| row | k = 1 | k = 5 | k = 20 | all |", "|---|---|---|---|---|"]
            for row in ROWS:
                shown = [_cell(grouped.get((model, row, labels, window))) for labels in LABELS]
                lines.append(f"| {row} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _cell(values: list[float] | None) -> str:
    if not values:
        return "not run"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread} ({len(values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "cell", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/digits"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--budget-minutes", type=float, default=720)
    parser.add_argument("--cell", type=json.loads)
    options = parser.parse_args()
    if options.action == "run":
        run_all(options.out, options.models, options.workers, options.budget_minutes)
    elif options.action == "cell":
        run_cell(Cell(**options.cell), options.out)
    else:
        print(table(options.out, options.models))


if __name__ == "__main__":
    main()
