"""Evaluation: accuracy in all the ways the tables need, and statistics adapted to unlabelled recordings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evlift.datasets.base import Batch
from evlift.engine.metrics import Recognition, confusion_matrix
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

    logits: NDArray[np.float32]
    target: NDArray[np.int64]
    names: tuple[str, ...]

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
            "per_class": [None if np.isnan(v) else float(v) for v in metrics.per_class],
            "per_step": self.per_step.tolist(),
            "confusion": metrics.confusion.tolist(),
        }


@torch.no_grad()
def run_network(
    network: nn.Module, batches: Iterable[Batch], *, device: torch.device | str = "cpu"
) -> Evaluation:
    """Run a network over labelled batches through its event head, in evaluation mode, and give the mode back.

    Args:
        network: ``network(x [B, T, C, H, W]).logits`` is [B, T, K].
        batches: with `events` and `event_target`, or with `image` and `image_target`.
        device: where the network is.
    """
    with evaluating(network):
        logits, targets = [], []
        names: list[str] = []
        for batch in batches:
            clips = batch.events if batch.events is not None else batch.image
            target = batch.event_target if batch.events is not None else batch.image_target
            if clips is None or target is None or (target < 0).any():
                raise DataError(
                    "Expected labelled batches to evaluate on, but got some without sequence or label."
                )
            logits.append(network(clips.to(device)).logits.float().cpu())  # [B, T, K]
            targets.append(target.cpu())
            names.extend(batch.names)
    return Evaluation(torch.cat(logits).numpy(), torch.cat(targets).numpy(), tuple(names))


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
