"""The verbs in Python: train and evaluate; `evlift.streaming` has predict. The command line calls these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.assembly import (
    Trained,
    build_feeder,
    build_method,
    create_task,
    evaluation_feeder,
    open_run,
    reads_pictures,
)
from evlift.config import Recipe, parse_recipe
from evlift.engine.run import Run
from evlift.errors import ConfigError

if TYPE_CHECKING:
    from evlift.datasets.base import Batch
    from evlift.datasets.task import TransferTask
    from evlift.datasets.transfer import Feeder
    from evlift.engine.distributed import Crew
    from evlift.engine.evaluate import Evaluation, SegmentationEvaluation
    from evlift.engine.train import Report
    from evlift.models.cost import Cost

SourceOfRecipe = Recipe | Mapping[str, Any] | str | Path


def train(
    recipe: SourceOfRecipe,
    out: str | Path | None = None,
    *,
    flags: Sequence[str] = (),
    report: Report | None = None,
    found: Callable[[TransferTask], None] | None = None,
) -> Run:
    """Train what a recipe says; a folder that holds an unfinished run of the same recipe is resumed.

    Example:
        >>> run = evlift.train("tmkt-digits", "runs/first", flags=["--train.steps", "200"])  # doctest: +SKIP

    Args:
        recipe: a YAML file, the name of a shipped recipe, a dictionary or a `Recipe`.
        out: folder of the run; default ``runs/<method>-<model>-<digest>``.
        flags: overrides as on the command line.
        report: called as ``report(finished_steps, all_steps, scalars)`` after every step.
        found: called once with the data, when all settings have been checked and nothing has been trained yet.

    Raises:
        EvliftError: settings, data or files that do not fit; nothing has been trained then.
    """
    from evlift.engine.train import Trainer

    crew = processes()
    wanted = recipe if isinstance(recipe, Recipe) else parse_recipe(recipe, flags)
    folder = Path(out) if out is not None else default_folder(wanted)

    def prepare() -> Trainer:
        import torch

        torch.manual_seed(wanted.train.seed)
        task = create_task(wanted)
        method = build_method(wanted, task)
        feeder = build_feeder(wanted, task, method)
        if found is not None:
            found(task)
        return Trainer(wanted, method, feeder, folder, report)

    crew.first(Run(folder).check_writable)
    crew.together(prepare).train()
    return Run(folder)


def processes() -> Crew:
    """The processes that torchrun started, of which this is one: each calls :func:`train` with the same arguments."""
    from evlift.engine.distributed import join

    return join()


def default_folder(recipe: Recipe) -> Path:
    """Where a run goes that was not told where."""
    return Path("runs") / f"{recipe.method['name']}-{recipe.model['name']}-{recipe.digest}"


def evaluate(
    folder: str | Path, *, split: str = "val", window: str | None = None, adapt: bool = False
) -> Evaluation | SegmentationEvaluation:
    """Judge a finished run on a split of its own data.

    Args:
        folder: the run.
        split: val or test; test is for tables that are final. A network that reads pictures is judged on source_val, or
            on the frames aligned with the windows of val and test where there are any.
        window: full, saccade or first300; default: the one it was trained on.
        adapt: replace batch statistics by those of the unlabelled training recordings first.

    Raises:
        DataError: no such run.
        ConfigError: `adapt` for a network without batch normalisation or one that reads pictures, or for such a network
            windows without frames.
    """
    from evlift.engine.evaluate import adapt_statistics, run_network

    trained = open_run(folder)
    if adapt and reads_pictures(trained.recipe):
        raise ConfigError(f"{folder} reads pictures, not the recordings to adapt to. Leave --adapt out.")
    task = create_task(trained.recipe)
    feeder = evaluation_feeder(trained, task)
    if adapt:
        clips = (batch.events for batch in feeder.evaluation("unlabelled", window=window))
        if not adapt_statistics(trained.network, (clip for clip in clips if clip is not None)):
            raise ConfigError(
                f"The model {trained.recipe.model['name']} has no batch statistics to adapt. Leave --adapt out."
            )
    return run_network(trained.network, split_batches(trained, feeder, split, window))


def split_batches(
    trained: Trained, feeder: Feeder, split: str, window: str | None = None, *, batch_size: int = 100
) -> Iterator[Batch]:
    """What a split holds of the kind that the network reads.

    Raises:
        ConfigError: recordings without frames for a network that reads pictures, or a split without labelled ones.
    """
    if not len(getattr(feeder.task, split, "?")):  # the feeder names an unknown split
        raise ConfigError(
            f"Expected {split} of {trained.run.folder} to hold labelled recordings, but it is empty. Give "
            "another one, such as --split source_val, of held-out pictures."
        )
    batches = feeder.evaluation(split, window=window, batch_size=batch_size)
    return _pictures_of(batches, trained, split) if reads_pictures(trained.recipe) else batches


def _pictures_of(batches: Iterator[Batch], trained: Trained, split: str) -> Iterator[Batch]:
    for batch in batches:
        if batch.picture is None and batch.frame is None:
            raise ConfigError(
                f"Expected the split source_val for {trained.run.folder}, which reads pictures, but got '{split}', "
                "whose windows do not all have aligned frames. Give --split source_val."
            )
        yield batch.of_pictures()


def cost(folder: str | Path, *, split: str = "val", window: str | None = None) -> Cost:
    """What one clip costs the network of a finished run: MACs, synaptic operations, firing rates.

    Measured on the first 32 recordings of the split, or pictures where it reads pictures.
    """
    from evlift.models.cost import measure_cost

    trained = open_run(folder)
    feeder = evaluation_feeder(trained, create_task(trained.recipe))
    batch = next(split_batches(trained, feeder, split, window, batch_size=32))
    clips = batch.events if batch.events is not None else batch.image
    if clips is None:
        raise ValueError(f"Expected a split of recordings or pictures, but got '{split}'.")
    return measure_cost(trained.network, clips)
