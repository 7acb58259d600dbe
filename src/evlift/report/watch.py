"""Looking inside: spikes of one clip, an answer as a recording goes on, and what a method makes of unseen data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evlift.assembly import Trained, build_method, evaluation_feeder
from evlift.datasets.base import Batch
from evlift.datasets.task import TransferTask
from evlift.engine.checkpoint import load_resume
from evlift.engine.metrics import Segmentation, confusion_matrix
from evlift.engine.pictures import ROWS, strip_columns
from evlift.methods.base import Progress
from evlift.models.modes import evaluating
from evlift.models.neurons import Neuron
from evlift.report.judge import clips_of
from evlift.report.pictures import events_png, mask_png, stream_png
from evlift.streaming.predictor import Predictor
from evlift.wording import counted

NEURONS = 64
FRAMES = 30
WINDOWS = 16


@dataclass(frozen=True)
class Raster:
    """Spikes of one layer for one clip.

    Args:
        spikes: bool [T, n], up to 64 neurons, evenly spaced among those that fired.
        fired: how many neurons of the layer fired at all.
        neurons: how many it has.
        rates: float64 [T], share of the neurons that fired in each step.
    """

    spikes: NDArray[np.bool_]
    fired: int
    neurons: int
    rates: NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """A frame of a player: pictures (data URIs) and what is said of them."""

    images: tuple[str, ...]
    said: str


def rasters(network: nn.Module, clip: Tensor) -> dict[str, Raster]:
    """The spikes of every neuron layer for one clip [T, C, H, W]; empty for conventional networks."""
    found: dict[str, Raster] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, Neuron):

            def hook(module: nn.Module, given: Any, trace: Any, name: str = name) -> None:
                found[name] = raster(torch.stack(trace.spikes).flatten(1).numpy() > 0)  # [T, 1, ...] → [T, N]

            handles.append(module.register_forward_hook(hook))
    try:
        with torch.no_grad(), evaluating(network):
            network(clip[None])
    finally:
        for handle in handles:
            handle.remove()
    return found


def raster(spikes: NDArray[np.bool_], most: int = NEURONS) -> Raster:
    """From all spikes [T, N] of a layer."""
    active = np.flatnonzero(spikes.any(0))
    shown = active[np.linspace(0, len(active) - 1, min(most, len(active))).astype(int)]
    return Raster(spikes[:, shown], len(active), spikes.shape[1], spikes.mean(1))


def play(trained: Trained, task: TransferTask, split: str, side: int) -> list[Frame]:
    """Frames of a player: the first recording of a split as it goes on, or its first windows with their masks."""
    if task.segments:
        return _play_masks(trained, task, split, side)
    items = getattr(task, split)
    stream, truth = items.load(0), trained.classes[int(items.targets[0])]
    if not len(stream):
        return []
    begin, predictor = int(stream.t[0]), Predictor(trained, keep_state=False)
    frames = []
    for start, stop in pairwise(np.linspace(begin, int(stream.t[-1]) + 1, FRAMES + 1).astype(int)):
        found = predictor(stream.between(begin, stop), begin, stop, recording="")
        now = stream.between(start, stop)
        said = (
            f"{(stop - begin) / 1000:.0f} ms: {counted(len(now), 'event')}; of all events up to here the network says "
            f"{found.label} ({found.confidence:.2f}). Label: {truth}."
        )
        frames.append(Frame((stream_png(now, side),), said))
    return frames


def _play_masks(trained: Trained, task: TransferTask, split: str, side: int) -> list[Frame]:
    frames: list[Frame] = []
    predictor = Predictor(trained, keep_state=False)
    for batch in evaluation_feeder(trained, task).evaluation(split, batch_size=1):
        clips, target = clips_of(batch)
        answer = predictor.ask(clips).argmax(0).numpy()  # [K, H, W] → [H, W]
        truth = target[0].numpy()
        iou = Segmentation(confusion_matrix(truth, answer, len(trained.classes))).mean_iou
        images = (events_png(clips[0].sum(0).numpy(), side), mask_png(answer, side), mask_png(truth, side))
        frames.append(Frame(images, f"{batch.names[0]}: mean IoU {iou:.3f}"))
        if len(frames) == WINDOWS:
            break
    return frames


Strip = dict[str, list[Any]]
"""Title → pictures uint8 [H, W(, 3)], or class names."""


def method_views(trained: Trained, task: TransferTask, split: str) -> Strip:
    """What the run's method sees and makes of data that it was not trained on, in rows.

    The method comes from the run's last checkpoint, with its teacher and generators as they were then; the student is
    the run's. Empty without that file, and for methods that show nothing.
    """
    if not trained.run.resume.is_file():
        return {}
    method = build_method(trained.recipe, task)
    method.load_state_dict(load_resume(trained.run.resume)["method"])
    batch = _held_out(trained, task, split, method)
    if batch is None:
        return {}
    phase = method.phases[-1]
    with evaluating(method), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = method.step(batch, Progress(phase.name, 1, 2)).outputs
    if "events" not in outputs:
        return {**strip_columns(outputs)}
    truth = next(evaluation_feeder(trained, task).evaluation(split, batch_size=ROWS)).event_target
    with torch.no_grad():
        outputs |= {"logits": trained.network(outputs["events"]).logits}
    rows: Strip = {**strip_columns(outputs if truth is None else outputs | {"target": truth})}
    if not task.segments:
        rows |= _class_rows(outputs, truth, trained.classes)
    return rows


def _class_rows(outputs: dict[str, Tensor], truth: Tensor | None, classes: tuple[str, ...]) -> Strip:
    """What teacher, student and label call each row of the real events."""
    said = {"teacher": outputs.get("seen"), "student": outputs["logits"].mean(1).argmax(1), "label": truth}
    return {
        name: [classes[int(index)] if int(index) < len(classes) else "none" for index in indices]
        for name, indices in said.items()
        if indices is not None
    }


def _held_out(trained: Trained, task: TransferTask, split: str, method: Any) -> Batch | None:
    """A batch as training has them, of a split's recordings and the held-out pictures, if both sides are there."""
    feeder = evaluation_feeder(trained, task)
    sides: dict[str, Any] = {}
    if method.uses_events:
        seen = next(feeder.evaluation(split, batch_size=ROWS), None)
        if seen is None:
            return None
        labels = seen.event_target if method.uses_event_labels else None
        sides |= {"events": seen.events, "event_target": labels, "frame": seen.frame}
    if method.uses_images or method.uses_pictures:
        taught = next(feeder.evaluation("source_val", batch_size=10 * ROWS), None)
        if taught is None or taught.image_target is None:
            return None
        rows = list(range(min(ROWS, len(taught.image_target))))
        if method.pairing == "category":
            partners = [torch.nonzero(taught.image_target == label) for label in sides["event_target"]]
            if any(not len(found) for found in partners):
                return None
            rows = [int(found[0, 0]) for found in partners]
        for name in ("image", "picture", "image_target"):
            value = getattr(taught, name)
            sides[name] = None if value is None else value[rows]
    return Batch(**sides)
