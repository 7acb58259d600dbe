"""The verbs in Python: train, evaluate, predict. The command line calls these."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.config import Recipe, parse_recipe
from evlift.engine.run import Run

if TYPE_CHECKING:
    from torch import nn

    from evlift.datasets.task import TransferTask
    from evlift.datasets.transfer import Feeder
    from evlift.engine.evaluate import Evaluation
    from evlift.engine.train import Report
    from evlift.methods.base import Method
    from evlift.models.cost import Cost

SourceOfRecipe = Recipe | Mapping[str, Any] | str | Path


def train(
    recipe: SourceOfRecipe,
    out: str | Path | None = None,
    *,
    flags: Sequence[str] = (),
    report: Report | None = None,
) -> Run:
    """Train what a recipe says; a folder that holds an unfinished run of the same recipe is resumed.

    Example:
        >>> run = evlift.train("tmkt-digits", "runs/first", flags=["--train.steps", "200"])  # doctest: +SKIP

    Args:
        recipe: a YAML file, the name of a shipped recipe, a dictionary or a `Recipe`.
        out: folder of the run; default ``runs/<method>-<model>-<digest>``.
        flags: overrides as on the command line.
        report: called as ``report(finished_steps, all_steps, scalars)`` after every step.

    Raises:
        EvliftError: settings, data or files that do not fit; nothing has been trained then.
    """
    from evlift.engine.train import Trainer

    wanted = recipe if isinstance(recipe, Recipe) else parse_recipe(recipe, flags)
    folder = Path(out) if out is not None else default_folder(wanted)
    import torch

    torch.manual_seed(wanted.train.seed)
    task = create_task(wanted)
    method = build_method(wanted, task)
    feeder = build_feeder(wanted, task, method)
    Trainer(wanted, method, feeder, folder, report).train()
    return Run(folder)


def default_folder(recipe: Recipe) -> Path:
    """Where a run goes that was not told where."""
    return Path("runs") / f"{recipe.method['name']}-{recipe.model['name']}-{recipe.digest}"


def create_task(recipe: Recipe) -> TransferTask:
    """The data that a recipe names."""
    from evlift.datasets.suites import SUITES

    options = {name: value for name, value in recipe.data.items() if name != "name"}
    return SUITES[recipe.data["name"]](**options)


def build_network(recipe: Recipe, classes: int, *, inference: bool = False) -> nn.Module:
    """The student that a recipe names; for inference without what only training needs."""
    from evlift.models import MODELS, create_model

    options: dict[str, Any] = {**recipe.model, "classes": classes}
    known = inspect.signature(MODELS[recipe.model["name"]]).parameters
    filled = {
        "input_size": recipe.input.size,
        "channels": 2,
        "steps": recipe.input.steps,
        "image_head": not inference,
    }
    options |= {name: value for name, value in filled.items() if name in known}
    return create_model(**options)


def build_method(recipe: Recipe, task: TransferTask) -> Method:
    """The method that a recipe names, around a fresh student."""
    from evlift.methods import METHODS

    options = {name: value for name, value in recipe.method.items() if name != "name"}
    entry = METHODS[recipe.method["name"]]
    if "steps" in inspect.signature(entry).parameters:
        options["steps"] = recipe.input.steps
    return entry(build_network(recipe, len(task.classes)), **options)


def build_feeder(recipe: Recipe, task: TransferTask, method: Method) -> Feeder:
    """Batches of the task for the method."""
    from evlift.datasets.transfer import Feeder

    return Feeder(task, recipe.input, method, batch_size=recipe.train.batch_size, seed=recipe.train.seed)


@dataclass(frozen=True)
class Trained:
    """A finished run, opened: recipe, network in evaluation mode, and what turns recordings into its input."""

    run: Run
    recipe: Recipe
    record: dict[str, Any]
    network: nn.Module

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return tuple(self.record["classes"])


def open_run(folder: str | Path) -> Trained:
    """Open a finished run.

    Raises:
        DataError: no run there, unfinished, or weights that do not fit.
    """
    from evlift.engine.checkpoint import load_weights

    run = Run(Path(folder))
    recipe, record = run.recipe(), run.read_record()
    network = build_network(recipe, len(record["classes"]), inference=True)
    load_weights(network, run.weights)
    return Trained(run, recipe, record, network.eval())


def evaluate(
    folder: str | Path, *, split: str = "val", window: str | None = None, adapt: bool = False
) -> Evaluation:
    """Judge a finished run on a split of its own data.

    Args:
        folder: the run.
        split: val or test; test is for tables that are final.
        window: full, saccade or first300; default: the one it was trained on.
        adapt: replace batch statistics by those of the unlabelled training recordings first.

    Raises:
        DataError: no such run; ConfigError: `adapt` for a network without batch normalisation.
    """
    from evlift.engine.evaluate import adapt_statistics, run_network
    from evlift.errors import ConfigError

    trained = open_run(folder)
    task = create_task(trained.recipe)
    feeder = evaluation_feeder(trained, task)
    if adapt:
        clips = (batch.events for batch in feeder.evaluation("unlabelled", window=window))
        if not adapt_statistics(trained.network, (clip for clip in clips if clip is not None)):
            raise ConfigError(
                f"The model {trained.recipe.model['name']} has no batch statistics to adapt. Leave --adapt out."
            )
    return run_network(trained.network, feeder.evaluation(split, window=window))


def cost(folder: str | Path, *, split: str = "val") -> Cost:
    """What one clip costs the network of a finished run: MACs, synaptic operations, firing rates.

    Measured on the first 32 recordings of the split.
    """
    from evlift.models.cost import measure_cost

    trained = open_run(folder)
    feeder = evaluation_feeder(trained, create_task(trained.recipe))
    batch = next(feeder.evaluation(split, batch_size=32))
    if batch.events is None:
        raise ValueError(f"Expected a split of recordings, but got '{split}'.")
    return measure_cost(trained.network, batch.events)


def evaluation_feeder(trained: Trained, task: TransferTask) -> Feeder:
    """A feeder that encodes as the run did, its count scale included."""
    from evlift.datasets.transfer import Encoder
    from evlift.methods import METHODS

    feeder = build_feeder(trained.recipe, task, METHODS[trained.recipe.method["name"]])  # type: ignore[arg-type]
    feeder.encoder = Encoder(trained.recipe.input, task.sensor_size, trained.record["count_scale"])
    return feeder


@dataclass(frozen=True)
class Prediction:
    """What a network says about one window.

    Args:
        start_us, stop_us: of the window.
        events: number of events in it.
        label: most probable class; `index` its number.
        confidence: softmax probability of that class, of the mean logit over T.
    """

    start_us: int
    stop_us: int
    events: int
    label: str
    index: int
    confidence: float


def predict(
    folder: str | Path,
    recording: str | Path,
    *,
    duration_us: int | None = None,
    n_events: int | None = None,
    format: str | None = None,
) -> Iterator[Prediction]:
    """Labels of a recording, window by window, in constant memory.

    Args:
        folder: a finished run.
        recording: a file in any readable format.
        duration_us, n_events: cut into windows of this length; default: the whole recording is one window.
            Recordings of another sensor are scaled to the one that the network was trained for.
        format: of the file, where it cannot be told from its content.
    """
    import numpy as np
    import torch

    from evlift.datasets.transfer import Encoder
    from evlift.events import open_reader
    from evlift.events.filters import resize

    trained = open_run(folder)
    height, width = trained.record["sensor_size"]
    encoder = Encoder(trained.recipe.input, (height, width), trained.record["count_scale"])
    reader = open_reader(recording, format=format)
    whole = duration_us is None and n_events is None
    windows = [reader.read()] if whole else reader.windows(duration_us=duration_us, n_events=n_events)
    for stream in windows:
        adapted = stream if stream.sensor_size == (height, width) else resize(stream, height, width)
        clip = encoder.events(adapted, np.random.default_rng(0), augment=False, window="full")
        with torch.no_grad():
            scores = trained.network(clip[None]).logits.float().mean(1).softmax(-1)[0]  # [1, T, K] → [K]
        index = int(scores.argmax())
        start = int(stream.t[0]) if len(stream) else 0
        stop = int(stream.t[-1]) + 1 if len(stream) else 0
        yield Prediction(start, stop, len(stream), trained.classes[index], index, float(scores[index]))
