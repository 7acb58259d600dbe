"""`evlift demo`: events-only, source-only, KT and TMKT on few labelled recordings, compared on one page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from evlift import report as pages
from evlift.api import train
from evlift.assembly import create_task, evaluation_feeder, open_run
from evlift.config import parse_recipe
from evlift.engine.evaluate import Evaluation, run_network
from evlift.engine.run import Run

if TYPE_CHECKING:
    from rich.console import Console

    from evlift.datasets.transfer import Feeder

METHODS = {"events-only": "events-only", "source-only": "source-only", "KT": "kt", "TMKT": "tmkt"}
LABELS = 2
STEPS = 200


def run_demo(
    out: Path, *, steps: int | None = None, embedded: bool = False, console: Console | None = None
) -> Path:
    """Train four small spiking networks, print their table and write a page.

    Args:
        out: folder for the runs and ``index.html``.
        steps: optimiser steps of each network.
        embedded: use scikit-learn's digits even where EVLIFT_DATA has N-MNIST.
        console: where to print; None: nowhere.

    Returns:
        Path of the page.

    Source of the data: real N-MNIST recordings and MNIST pictures where EVLIFT_DATA has them; else the digits of
    scikit-learn, and recordings simulated from other digits of that set.
    """
    data = demo_data(embedded)
    said = describe(data["name"])
    if console:
        console.print(
            f"evlift demo: {said}\nEach method has {LABELS} labelled recordings a class, source-only none.\n"
        )
    runs = {}
    for name, method in METHODS.items():
        recipe = demo_recipe(data, method, steps or STEPS)
        runs[name] = out / "runs" / f"{method}-{parse_recipe(recipe).digest}"
        _train(recipe, runs[name], name, console)
    feeder = evaluation_feeder(open_run(runs["TMKT"]), create_task(open_run(runs["TMKT"]).recipe))
    batches = list(feeder.evaluation("val"))
    judged = {
        name: cast(Evaluation, run_network(open_run(folder).network, batches))
        for name, folder in runs.items()
    }
    if console:
        print_table(console, table_rows(runs, judged))
    return write_page(out, said, runs, judged, feeder)


def demo_data(embedded: bool) -> dict[str, Any]:
    """Real recordings if they are at hand, embedded digits otherwise."""
    root = os.environ.get("EVLIFT_DATA", "")
    real = not embedded and all(Path(root, part).is_dir() for part in ("mnist", "nmnist")) and root
    return {"name": "digits" if real else "simulated-digits", "labels_per_class": LABELS}


def describe(suite: str) -> str:
    """What the data of the demo are, in one sentence."""
    if suite == "digits":
        return "MNIST pictures teach a spiking network to read real N-MNIST recordings."
    return (
        "digit pictures of scikit-learn teach a spiking network to read simulated recordings of other digits."
    )


def demo_recipe(data: dict[str, Any], method: str, steps: int) -> dict[str, Any]:
    """The same budget, network and input for every method."""
    return {
        "data": data,
        "input": {"steps": 6, "size": [28, 28], "encoding": "saccade", "quantile": 0.25},
        "model": {"name": "scnn"},
        "method": {"name": method},
        "train": {"steps": steps, "batch_size": 32, "lr": 0.01, "eval_every": max(1, steps // 4)},
    }


def _train(recipe: dict[str, Any], folder: Path, name: str, console: Console | None) -> None:
    from evlift.progress import TrainingBar

    if console is None:
        train(recipe, folder)
        return
    with TrainingBar(console, name) as report:
        train(recipe, folder, report=report)


def table_rows(runs: dict[str, Path], judged: dict[str, Evaluation]) -> list[tuple[str, ...]]:
    """One row a method."""
    return [
        pages.accuracy_row(name, judged[name], Run(folder).read_record()) for name, folder in runs.items()
    ]


def print_table(console: Console, rows: list[tuple[str, ...]]) -> None:
    """The table of the four methods."""
    from rich.table import Table

    table = Table(title="val recordings", title_justify="left", header_style="bold")
    for column in pages.ROW_HEADER:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def write_page(
    out: Path,
    said: str,
    runs: dict[str, Path],
    judged: dict[str, Evaluation],
    feeder: Feeder,
) -> Path:
    """The page: table, what the networks see, curves, accuracy over time, predictions."""
    page = pages.Page("evlift demo", said)
    page.heading("Accuracy on recordings that no network was trained on")
    page.table(pages.ROW_HEADER, table_rows(runs, judged))
    page.text(
        f"All rows share network, steps and batch size; events-only, KT and TMKT have {LABELS} labelled "
        "recordings a class and keep the best of four evaluations on the recordings shown here; source-only has none. "
        "One seed and a short training: a taste, not a benchmark."
    )
    page.heading("What the network sees")
    batch = next(iter(feeder.evaluation("val", batch_size=20)))
    picture = next(iter(feeder.evaluation("source_val", batch_size=1)))
    if batch.events is not None and picture.image is not None:
        clips = {"recording": batch.events[0], "picture,\nset in motion": picture.image[0]}
        page.figure(
            pages.sequence_figure(clips),
            "Event frames over time, ON blue and OFF orange: a recording, and a moved picture.",
        )
        page.heading("Predictions of TMKT")
        caption = "The first third of recordings, with the predicted class; wrong ones in red."
        page.figure(pages.predictions_figure(batch.events, judged["TMKT"], feeder.task.classes), caption)
    page.heading("Curves")
    logs = {name: folder / "metrics.csv" for name, folder in runs.items()}
    page.figure(pages.curves_figure(logs), "Label loss in training, and accuracy at each evaluation.")
    page.figure(pages.per_step_figure(judged), "Accuracy if only the first time steps had been seen.")
    return page.write(out / "index.html")
