"""From a recipe, or from a finished run, to its data, network, method and batches."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.config import Recipe
from evlift.engine.run import Run
from evlift.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from evlift.datasets.task import TransferTask
    from evlift.datasets.transfer import Encoder, Feeder
    from evlift.engine.calibration import Calibration
    from evlift.events import EventStream
    from evlift.events.framing import Fit, Framing
    from evlift.methods.base import Method
    from evlift.methods.teacher import Teacher


def create_task(recipe: Recipe) -> TransferTask:
    """The data that a recipe names."""
    from evlift.datasets.suites import SUITES

    options = {name: value for name, value in recipe.data.items() if name != "name"}
    return SUITES[recipe.data["name"]](**options)


def build_network(recipe: Recipe, classes: int, *, inference: bool = False) -> nn.Module:
    """The student that a recipe names; for inference without what only training needs."""
    from evlift.methods import METHODS
    from evlift.models import MODELS, create_model

    options: dict[str, Any] = {**recipe.model, "classes": classes}
    known = inspect.signature(MODELS[recipe.model["name"]]).parameters
    of_pictures = reads_pictures(recipe)
    filled = {
        "input_size": recipe.input.size,
        "channels": picture_channels(recipe) if of_pictures else 2,
        "picture_channels": picture_channels(recipe),
        "steps": 1 if of_pictures else recipe.input.steps,
        "image_head": METHODS[recipe.method["name"]].image_head and not inference,  # type: ignore[attr-defined]
    }
    if inference and "separate_bn" in known:
        options["separate_bn"] = False
    options |= {name: value for name, value in filled.items() if name in known}
    return create_model(**options)


def build_method(recipe: Recipe, task: TransferTask) -> Method:
    """The method that a recipe names, around a fresh student.

    Raises:
        ConfigError: a network for another task than the data's, or options that contradict each other.
    """
    from evlift.methods import create_method, method_options
    from evlift.models import check_task

    options = dict(recipe.method)
    name = options.pop("name")
    filled = {"steps": recipe.input.steps, "picture_channels": picture_channels(recipe)}
    options |= {option: value for option, value in filled.items() if option in method_options(name)}
    if isinstance(options.get("teacher"), str) and Path(options["teacher"], "config.yaml").is_file():
        options["teacher"] = trained_teacher(options["teacher"], recipe, task)
    network = build_network(recipe, len(task.classes))
    check_task(network, "segmentation" if task.segments else "recognition")
    method = create_method(name, network, **options)
    if method.simulates and recipe.input.encoding != "saccade":
        raise ConfigError(
            f"Expected input.encoding='saccade' for {name}, which learns from simulated events here, but got "
            f"'{recipe.input.encoding}'."
        )
    return method


def reads_pictures(recipe: Recipe) -> bool:
    """Whether the recipe's student is a network for pictures."""
    from evlift.methods import METHODS

    return METHODS[recipe.method["name"]].reads == "pictures"  # type: ignore[attr-defined]


def picture_channels(recipe: Recipe) -> int:
    """P, the channels of the pictures that image networks see."""
    return 3 if recipe.input.colour else 1


def trained_teacher(folder: str | Path, recipe: Recipe, task: TransferTask) -> Teacher:
    """The image network of a finished run as a teacher.

    Raises:
        DataError: the run reads events, or other classes, or pictures of another kind or of objects that judge here.
    """
    from evlift.datasets.manifest import Manifest
    from evlift.methods.teacher import Teacher

    trained = open_run(folder)
    if not reads_pictures(trained.recipe):
        raise DataError(
            f"Expected a teacher that reads pictures, but {folder} was trained by "
            f"'{trained.recipe.method['name']}'. Use 'image-model'."
        )
    mapped = recipe.method.get("teacher_map")
    if not mapped and trained.classes != task.classes:
        raise DataError(
            f"Expected a teacher of the classes {', '.join(task.classes)}, but {folder} knows "
            f"{', '.join(trained.classes)}. Give method.teacher_map."
        )
    if picture_channels(trained.recipe) != picture_channels(recipe):
        raise DataError(f"Expected input.colour as in {folder}, but got {recipe.input.colour}.")
    judged = frozenset((*task.val.object_ids, *task.test.object_ids)) - task.source.objects
    seen = sorted(judged & Manifest.load(trained.run.manifest).objects("source"))
    if seen:
        raise DataError(
            f"Expected a teacher that has not seen what judges here, but {folder} learned from {len(seen)} objects of "
            f"val and test, such as '{seen[0]}'. Train it on the same fold."
        )
    return Teacher(trained.network, trained=True, size=trained.recipe.input.size, class_map=mapped)


def build_feeder(recipe: Recipe, task: TransferTask, method: Method) -> Feeder:
    """Batches of the task for the method."""
    return feeder_kind(task)(
        task, recipe.input, method, batch_size=recipe.train.batch_size, seed=recipe.train.seed
    )


def feeder_kind(task: TransferTask) -> type[Feeder]:
    """The feeder of a task of its kind: recognition or segmentation."""
    if task.segments:
        from evlift.datasets.scene_feeder import SceneFeeder

        return SceneFeeder  # type: ignore[return-value]
    from evlift.datasets.transfer import Feeder

    return Feeder


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

    @property
    def calibration(self) -> Calibration | None:
        """Temperature and threshold, if they were fitted: when it was trained, or by `evlift evaluate --calibrate`."""
        from evlift.engine.calibration import Calibration

        return Calibration.of_record(self.record)

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become a confidence; 1 without a calibration."""
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def framing(self) -> Framing:
        """How the recordings that it learned from lie on their sensor, so that those of others can be shown alike."""
        from evlift.events.framing import Framing

        found = self.record.get("framing")
        height, width = self.record["sensor_size"]
        return Framing.from_dict(found) if found else Framing.assumed((height, width))


def open_run(folder: str | Path) -> Trained:
    """Open a finished run, a pack of it, or shipped weights by their name.

    Raises:
        DataError: no run there, unfinished, or weights that do not fit.
    """
    from evlift.engine.checkpoint import load_weights
    from evlift.engine.run import find_run

    run = find_run(folder)
    recipe, record = run.recipe(), run.read_record()
    network = build_network(recipe, len(record["classes"]), inference=True)
    load_weights(network, run.weights)
    if recipe.train.channels_last:
        import torch

        network.to(memory_format=torch.channels_last)
    return Trained(run, recipe, record, network.eval())


def open_classifier(folder: str | Path) -> Trained:
    """Open a run whose network gives recordings a class; ConfigError for any other."""
    trained = open_run(folder)
    if reads_pictures(trained.recipe) or getattr(trained.network, "task", "recognition") != "recognition":
        raise ConfigError(f"Expected a run that gives recordings a class, but {folder} does another task.")
    return trained


class Viewer:
    """Turns windows of recordings of any sensor into what a network was trained to see.

    Example:
        >>> view = Viewer(evlift.open_run("runs/a"))  # doctest: +SKIP
        >>> clip = view(stream, np.random.default_rng(0))  # doctest: +SKIP

    Recordings of the network's own sensor are encoded as in training. Those of another one are shown by
    :func:`~evlift.events.framing.framed`; as their pixels count otherwise, the quantile of their own counts takes the
    place of a fixed count scale.
    """

    def __init__(self, trained: Trained, fit: Fit = "auto") -> None:
        from evlift.datasets.transfer import Encoder

        height, width = trained.record["sensor_size"]
        self.fit, self.framing, self.own = fit, trained.framing, (height, width)
        self.encoder = Encoder(trained.recipe.input, self.own, trained.record["count_scale"])

    def __call__(self, stream: EventStream, rng: np.random.Generator, *, window: str = "full") -> Tensor:
        """[T, 2, H, W] of one window; `rng` draws a stretch of it where `window` is not "full"."""
        shown, encoder = self.adapt(stream)
        return encoder.events(shown, rng, augment=False, window=window)

    def adapt(self, stream: EventStream) -> tuple[EventStream, Encoder]:
        """The stream as the network is to see it, and the encoder for it."""
        from evlift.datasets.transfer import Encoder
        from evlift.events.framing import framed

        shown = framed(stream, self.framing, self.fit)
        if stream.sensor_size == self.own:
            return shown, self.encoder
        return shown, Encoder(self.encoder.options, self.own).fit([shown])


def evaluation_feeder(trained: Trained, task: TransferTask) -> Feeder:
    """A feeder that encodes as the run did, its count scale included.

    Raises:
        DataError: the task's splits are not those of the run.
    """
    from evlift.datasets.scene_encoder import SceneEncoder
    from evlift.datasets.transfer import Encoder
    from evlift.engine.run import check_split
    from evlift.methods import METHODS

    check_split(trained.run, task, trained.record["split"])
    recipe, scale = trained.recipe, trained.record["count_scale"]
    encoder: Any = (
        SceneEncoder.of(task, recipe.input, scale)
        if task.segments
        else Encoder(recipe.input, task.sensor_size, scale)
    )
    method: type[Method] = METHODS[recipe.method["name"]]  # type: ignore[assignment]
    return feeder_kind(task)(
        task,
        recipe.input,
        method,
        batch_size=recipe.train.batch_size,
        seed=recipe.train.seed,
        encoder=encoder,
    )
