"""Evaluation: what the tables need of classes and of masks, and statistics adapted to unlabelled recordings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evlift.datasets.base import Batch
from evlift.engine.metrics import Recognition, Segmentation, confusion_matrix
from evlift.errors import DataError
from evlift.models.modes import batch_norms, evaluating


@dataclass(frozen=True)
class Evaluation:
    """What a network says about a split, and how good that is.

    Args:
        logits: float32 [n, T, K], one row a sample and time step.
        target: int64 [n].
        names: of the samples, in order.
    """

    metric: ClassVar[str] = "accuracy"

    logits: NDArray[np.float32]
    target: NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def score(self) -> float:
        """The number that weights are chosen by: accuracy."""
        return self.metrics.accuracy

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 [n]: class with the largest mean logit over T."""
        return self.logits.mean(axis=1).argmax(axis=1)

    @property
    def metrics(self) -> Recognition:
        """Accuracy, per class, interval."""
        return Recognition(confusion_matrix(self.target, self.predicted, self.logits.shape[2]))

    @property
    def per_step(self) -> NDArray[np.float64]:
        """Accuracy [T] if only the first 1, 2, ... T steps had been seen."""
        counts = np.arange(1, self.logits.shape[1] + 1)[None, :, None]
        running = (self.logits.cumsum(axis=1) / counts).argmax(axis=2)  # [n, T]
        return (running == self.target[:, None]).mean(axis=0)

    def summary(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        metrics = self.metrics
        return {
            "samples": metrics.samples,
            "accuracy": metrics.accuracy,
            "class_mean": metrics.class_mean,
            "interval": list(metrics.interval),
            "per_class": _plain(metrics.per_class),
            "per_step": self.per_step.tolist(),
            "confusion": metrics.confusion.tolist(),
        }


@dataclass(frozen=True)
class SegmentationEvaluation:
    """How well a network segments a split; pixels are counted, not kept.

    Args:
        confusions: int64 [T, K, K], row = true class, as if the first 1, 2, ... T steps had been seen.
        names: of the samples, in order.
    """

    metric: ClassVar[str] = "mIoU"

    confusions: NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def score(self) -> float:
        """The number that weights are chosen by: mIoU."""
        return self.metrics.mean_iou

    @property
    def metrics(self) -> Segmentation:
        """mIoU, per class, pixel accuracy, of the mean logits over all T steps."""
        return Segmentation(self.confusions[-1])

    @property
    def per_step(self) -> NDArray[np.float64]:
        """mIoU [T] if only the first 1, 2, ... T steps had been seen."""
        return np.array([Segmentation(confusion).mean_iou for confusion in self.confusions])

    def summary(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        metrics = self.metrics
        return {
            "samples": len(self.names),
            "pixels": metrics.pixels,
            "mIoU": _plain(np.array([metrics.mean_iou]))[0],
            "accuracy": _plain(np.array([metrics.accuracy]))[0],
            "class_mean": _plain(np.array([metrics.class_mean]))[0],
            "per_class": _plain(metrics.per_class),
            "per_step": _plain(self.per_step),
            "confusion": metrics.confusion.tolist(),
        }


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    """Floats, None for NaN, which JSON does not have."""
    return [None if np.isnan(value) else float(value) for value in values]


@torch.no_grad()
def run_network(
    network: nn.Module, batches: Iterable[Batch], *, device: torch.device | str = "cpu"
) -> Evaluation | SegmentationEvaluation:
    """Run a network over labelled batches through its event head, in evaluation mode, and give the mode back.

    Args:
        network: ``network(x [B, T, C, H, W]).logits`` is [B, T, K], for masks [B, T, K, H, W].
        batches: with `events` and `event_target`, or with `image` and `image_target`; targets are classes [B] or
            masks [B, H, W].
        device: where the network is.

    Raises:
        DataError: no batch, one without sequence or label, or labels that are not of the network's kind.
    """
    counted: _Clips | _Masks | None = None
    names: list[str] = []
    with evaluating(network):
        for batch in batches:
            clips, target = _labelled(batch)
            logits = network(clips.to(device)).logits.float()
            if target.shape != logits.shape[:1] + logits.shape[3:]:
                raise DataError(
                    "Expected logits [B, T, K] for classes [B], or [B, T, K, H, W] for masks [B, H, W], but got "
                    f"{list(logits.shape)} for {list(target.shape)}. Use a network for what the labels are."
                )
            counted = counted or (_Masks() if target.ndim > 1 else _Clips())
            counted.add(logits, target.cpu())
            names.extend(batch.names)
    if counted is None:
        raise DataError("Expected labelled batches to evaluate on, but got none.")
    return counted.judged(tuple(names))


def _labelled(batch: Batch) -> tuple[Tensor, Tensor]:
    """Sequence and target of the event side, or else of the image side."""
    clips = batch.events if batch.events is not None else batch.image
    target = batch.event_target if batch.events is not None else batch.image_target
    if clips is None or target is None or (target < 0).any():
        raise DataError("Expected labelled batches to evaluate on, but got some without sequence or label.")
    return clips, target


class _Clips:
    """Keeps the logits of clips."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []
        self.targets: list[Tensor] = []

    def add(self, logits: Tensor, target: Tensor) -> None:
        self.logits.append(logits.cpu())
        self.targets.append(target)

    def judged(self, names: tuple[str, ...]) -> Evaluation:
        return Evaluation(torch.cat(self.logits).numpy(), torch.cat(self.targets).numpy(), names)


class _Masks:
    """Counts the pixels of masks; the logits of a whole set would not fit into memory."""

    confusions: Any = 0

    def add(self, logits: Tensor, target: Tensor) -> None:
        running, steps = torch.zeros_like(logits[:, 0]), []
        for step in logits.unbind(1):
            running += step
            predicted = running.argmax(1).cpu().numpy()  # [B, K, H, W] → [B, H, W]
            steps.append(confusion_matrix(target.numpy(), predicted, logits.shape[2]))
        self.confusions = self.confusions + np.stack(steps)  # [T, K, K]

    def judged(self, names: tuple[str, ...]) -> SegmentationEvaluation:
        return SegmentationEvaluation(self.confusions, names)


@torch.no_grad()
def adapt_statistics(
    network: nn.Module, clips: Iterable[Tensor], *, device: torch.device | str = "cpu"
) -> int:
    """Replace the running statistics of batch normalisation by those of unlabelled recordings.

    Every layer's mean and variance become the average over all given batches; weights stay as they are. Source:
    adaptive batch normalisation (Li et al., 2016); for spiking networks with statistics a step, decided here.

    Args:
        network: changed in place; left in the mode it was in.
        clips: batches [B, T, C, H, W] without labels.

    Returns:
        The number of adapted layers; 0 for a network without batch normalisation.

    Raises:
        DataError: no clips.
    """
    layers = batch_norms(network)
    if not layers:
        return 0
    batches = iter(clips)
    first = next(batches, None)
    if first is None:
        raise DataError("Expected unlabelled recordings to adapt to, but got none.")
    momenta = [layer.momentum for layer in layers]
    try:
        with evaluating(network):
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # a cumulative average
                layer.train()
            for batch in chain([first], batches):
                network(batch.to(device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    return len(layers)
