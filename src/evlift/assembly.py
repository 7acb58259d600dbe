"""From a recipe, or from a finished run, to its data, network, method and batches."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.checks import check_range
from evlift.config import Recipe
from evlift.engine.run import Run
from evlift.errors import ConfigError, DataError
from evlift.wording import as_fields, counted

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from evlift.datasets.task import TransferTask
    from evlift.datasets.transfer import Feeder
    from evlift.engine.calibration import Calibration
    from evlift.events import EventStream
    from evlift.events.framing import Fit, Framing
    from evlift.methods.base import Method
    from evlift.methods.teacher import Teacher


def create_task(recipe: Recipe) -> TransferTask:
    """The data that a recipe names."""
    from evlift.datasets.suites import SUITES

    options = {name: value for name, value in recipe.data.items() if name != "name"}
    with _by_field("data", options):
        return SUITES[recipe.data["name"]](**options)


@contextmanager
def _by_field(section: str, options: Collection[str]) -> Iterator[None]:
    """What is wrong with an argument is said of the recipe's field that gave it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(as_fields(str(error), section, options)) from error


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
    if inference:  # the run's own weights follow; published ones would be fetched for nothing
        options |= {name: False for name in ("separate_bn", "pretrained") if name in known}
    options |= {name: value for name, value in filled.items() if name in known}
    with _by_field("model", recipe.model):
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
    with _by_field("method", recipe.method):
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
            f"Expected a teacher that has not seen what judges here, but {folder} learned from "
            f"{counted(len(seen), 'object')} of val and test, such as '{seen[0]}'. Train it on the same fold."
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


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network in evaluation mode, of a run or of a file made of one, and what turns recordings into its input.

    Args:
        recipe: how recordings are encoded for it.
        record: classes, sensor_size, count_scale and the figures of the run.
        network: ``network(x).logits`` for x [B, T, C, H, W].
    """

    recipe: Recipe
    record: dict[str, Any]
    network: Any

    @property
    def place(self) -> Path:
        """Where it was opened."""
        raise NotImplementedError

    @property
    def inner_scale(self) -> float | None:
        """The count that becomes 1 in the network itself; None where counts are scaled before it."""
        return None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return tuple(self.record["classes"])

    @property
    def sensor_size(self) -> tuple[int, int]:
        """(H, W) of the recordings that it was trained for."""
        height, width = self.record["sensor_size"]
        return int(height), int(width)

    @property
    def segments(self) -> bool:
        """Whether it gives masks."""
        return getattr(self.network, "task", "recognition") == "segmentation"

    @property
    def calibration(self) -> Calibration | None:
        """Temperature and threshold, if they were fitted: when it was trained, or by `evlift evaluate --calibrate`."""
        from evlift.engine.calibration import Calibration

        return Calibration.of_record(self.record)

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become a confidence; 1 where none was fitted."""
        return float(self.record.get("temperature", 1.0))

    def threshold(self, asked: float | str) -> float:
        """The confidence below which an answer is called unknown; "auto" is the one that its calibration suggests.

        Raises:
            ConfigError: "auto" without a calibration, or no number in 0..1.
        """
        if not isinstance(asked, str):
            check_range("unknown_below", asked, 0, 1)
            return asked
        if asked != "auto":
            raise ConfigError(
                f"Expected --unknown-below (in Python: unknown_below=) to be a number or 'auto', but got '{asked}'."
            )
        if self.calibration is None:
            raise ConfigError(
                f"Expected a calibrated run for --unknown-below auto, but {self.place} is none. Calibrate it where its "
                "data are: evlift evaluate RUN --calibrate."
            )
        return self.calibration.unknown_below

    @property
    def framing(self) -> Framing:
        """How the recordings that it learned from lie on their sensor, so that those of others can be shown alike."""
        from evlift.events.framing import Framing

        found = self.record.get("framing")
        return Framing.from_dict(found) if found else Framing.assumed(self.sensor_size)


@dataclass(frozen=True, kw_only=True)
class Trained(TrainedNetwork):
    """A finished run, opened."""

    run: Run

    @property
    def place(self) -> Path:
        """The run's folder."""
        return self.run.folder


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
    return Trained(run=run, recipe=recipe, record=record, network=network.eval())


def open_classifier(folder: str | Path) -> Trained:
    """Open a run whose network gives recordings a class; ConfigError for any other."""
    trained = open_run(folder)
    if reads_pictures(trained.recipe) or trained.segments:
        raise ConfigError(f"Expected a run that gives recordings a class, but {folder} does another task.")
    return trained


class WindowEncoder:
    """Turns windows of recordings of any sensor into what a network was trained to see; the one place that does.

    Example:
        >>> encode = WindowEncoder(evlift.open_run("runs/a"))  # doctest: +SKIP
        >>> clip = encode(stream)  # doctest: +SKIP

    Recordings of the network's own sensor are encoded as in training. Those of another one are shown by
    :func:`~evlift.events.framing.framed`; as their pixels count otherwise, the quantile of their own counts takes the
    place of a fixed count scale.

    Args:
        trained: a network that reads events.
        fit: how another sensor is shown; masks, whose pixels cover the whole sensor, know "auto" and "stretch" alone,
            which are then the same.

    Raises:
        ConfigError: a fit that would leave a part of the sensor without a mask.
    """

    def __init__(self, trained: TrainedNetwork, fit: Fit = "auto") -> None:
        from evlift.datasets.scene_encoder import SceneEncoder
        from evlift.datasets.transfer import Encoder

        if trained.segments and fit not in ("auto", "stretch"):
            raise ConfigError(
                f"Expected the fit 'stretch' for masks, which cover the whole sensor, but got '{fit}'. Leave --fit out."
            )
        self.fit: Fit = "stretch" if trained.segments else fit
        self.framing, self.own = trained.framing, trained.sensor_size
        options, scale = trained.recipe.input, trained.record["count_scale"]
        encoder: Any = (
            SceneEncoder(options, sensor_size=self.own, duration_us=1, scale=scale)
            if trained.segments
            else Encoder(options, self.own, scale)
        )
        self.frames, self._share, self._inside = encoder.frames, options.quantile, trained.inner_scale

    def __call__(
        self,
        stream: EventStream,
        rng: np.random.Generator | None = None,
        *,
        window: str = "full",
        bounds_us: tuple[int, int] | None = None,
    ) -> Tensor:
        """[T, 2, H, W] of one window.

        Args:
            stream: its events.
            rng: draws the stretch of it that is read where `window` is not "full".
            window: see :func:`~evlift.datasets.transfer.select_window`.
            bounds_us: (start, stop) that the frames divide; None is from the first event to the last, as in training.
        """
        import numpy as np

        from evlift.datasets.transfer import select_window
        from evlift.events.framing import framed

        relative = self.frames.normalise in ("quantile", "max", "p99.9")  # counts a pixel may grow
        shown = framed(stream, self.framing, self.fit, merge=relative)
        read = select_window(shown, window, rng or np.random.default_rng(0))
        if stream.sensor_size == self.own or not len(shown):
            return self.frames(read, window_us=bounds_us)
        return self._rescaled(shown, read, bounds_us)

    def _rescaled(self, shown: EventStream, read: EventStream, bounds_us: tuple[int, int] | None) -> Tensor:
        """Frames whose fixed count scale, if there is one, is that of the recording itself."""
        from evlift.representations import fit_scale

        if self.frames.normalise == "quantile":
            scale = fit_scale(self.frames, [shown], self._share)
            return replace(self.frames, scale=scale)(read, window_us=bounds_us)
        frames = self.frames(read, window_us=bounds_us)
        if self._inside is None:
            return frames
        return frames * (self._inside / fit_scale(self.frames, [shown], self._share))


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
