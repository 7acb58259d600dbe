"""One pass over a split of a run's data: scores, rates, reliability, cost, examples and the worst mistakes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evlift.api import split_batches
from evlift.assembly import Trained, evaluation_feeder, reads_pictures
from evlift.datasets.base import Batch
from evlift.datasets.items import Collection
from evlift.datasets.task import TransferTask
from evlift.engine.calibration import Reliability
from evlift.engine.evaluate import Evaluation, SegmentationEvaluation, run_network
from evlift.engine.metrics import Recognition, Segmentation, confusion_matrix
from evlift.masks import VOID
from evlift.models.cost import Cost, measure_cost
from evlift.streaming.predictor import probabilities

EXAMPLES, MISTAKES = 8, 8
COSTED = 32
GROUPS = 4


@dataclass(frozen=True)
class Example:
    """A sample and what the network made of it.

    Args:
        name: of the sample.
        clip: its input [T, C, H, W].
        answer, target: class or mask [H, W].
        confidence: of the answer; for masks the mean over wrong pixels, times their share.
        score: 1 or 0; for masks the mean IoU of the sample.
    """

    name: str
    clip: Tensor
    answer: Any
    target: Any
    confidence: float
    score: float


@dataclass
class Judged:
    """What one pass over a split found.

    Args:
        split: its name.
        evaluation: as `evlift evaluate` makes it.
        confusions: int64 [n, K, K] of single samples, for masks alone.
        rates: float64 [n], events a second of each recording; empty for pictures.
        reliability: of the probabilities, calibrated if the run is, over samples or over pixels.
        cost: of one clip.
        examples: evenly spaced over the split.
        mistakes: the most confident ones, worst first.
    """

    split: str
    evaluation: Evaluation | SegmentationEvaluation
    confusions: list[NDArray[np.int64]]
    rates: NDArray[np.float64]
    reliability: Reliability
    cost: Cost
    examples: list[Example]
    mistakes: list[Example]

    def metrics_of(self, rows: NDArray[np.int64]) -> Recognition | Segmentation:
        """The metrics of some samples."""
        if isinstance(self.evaluation, Evaluation):
            found = self.evaluation
            classes = found.logits.shape[2]
            return Recognition(confusion_matrix(found.target[rows], found.predicted[rows], classes))
        return Segmentation(np.sum([self.confusions[row] for row in rows], axis=0))

    def rate_groups(self, groups: int = GROUPS) -> list[tuple[float, float, NDArray[np.int64]]]:
        """(lowest rate, highest rate, samples) of equally large groups, slowest first; fewer where rates are equal."""
        order = np.argsort(self.rates, kind="stable")
        parts = [part for part in np.array_split(order, groups) if len(part)]
        return [(float(self.rates[part[0]]), float(self.rates[part[-1]]), part) for part in parts]


def judge(trained: Trained, task: TransferTask, split: str) -> Judged:
    """Run a finished network over a split once.

    Raises:
        DataError: the data are not those of the run. ConfigError: an empty split, or one of another kind.
    """
    split = "source_val" if reads_pictures(trained.recipe) else split
    batch_size = 1 if task.segments else 50
    batches = split_batches(trained, evaluation_feeder(trained, task), split, batch_size=batch_size)
    items = getattr(task, split)
    tally: _Tally = _MaskTally(len(items)) if task.segments else _ClassTally(len(items))
    first: list[Tensor] = []
    with heard(trained.network) as logits:
        for batch in batches:
            clips, target = clips_of(batch)
            first.extend(clips[: COSTED - len(first)])
            part = run_network(trained.network, [batch])
            tally.add(part, probabilities(logits.pop(), trained.temperature), clips, target)
    rates = (
        [] if split == "source_val" else [event_rate(items, i, task.duration_us) for i in range(len(items))]
    )
    return Judged(
        split=split,
        evaluation=tally.whole(),
        confusions=getattr(tally, "confusions", []),
        rates=np.array(rates, np.float64),
        reliability=tally.reliability,
        cost=measure_cost(trained.network, torch.stack(first)),
        examples=tally.examples,
        mistakes=[example for _, _, example in sorted(tally.worst, reverse=True)],
    )


def clips_of(batch: Batch) -> tuple[Tensor, Any]:
    """Sequences [B, T, C, H, W] and targets of the side that a batch holds."""
    if batch.events is not None:
        return batch.events, batch.event_target
    if batch.image is None:
        raise ValueError("Expected a batch with events or pictures, but got neither.")
    return batch.image, batch.image_target


def event_rate(items: Collection[Any], index: int, duration_us: int | None) -> float:
    """Events a second of one recording, or of one window of a fixed length."""
    content = items.load(index)
    stream = getattr(content, "stream", content)
    return 1e6 * len(stream) / max(1, duration_us or stream.duration_us)


@contextmanager
def heard(network: nn.Module) -> Iterator[list[Tensor]]:
    """The logits of every call, in order."""
    found: list[Tensor] = []
    handle = network.register_forward_hook(lambda module, given, output: found.append(output.logits))
    try:
        yield found
    finally:
        handle.remove()


@dataclass
class _Tally:
    """What accumulates over batches."""

    samples: int
    names: list[str] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    worst: list[tuple[float, int, Example]] = field(default_factory=list)
    reliability: Reliability = field(
        default_factory=lambda: Reliability.of(np.zeros(0, np.float64), np.zeros(0, bool))
    )
    _number: Iterator[int] = field(default_factory=count)

    def add(self, part: Any, chances: Tensor, clips: Tensor, target: Tensor) -> None:
        """A batch: its evaluation, probabilities [B, K, ...], sequences and targets."""
        raise NotImplementedError

    def whole(self) -> Evaluation | SegmentationEvaluation:
        """The evaluation of all batches."""
        raise NotImplementedError

    def keep(self, example: Example) -> None:
        """Keep it if it is one of those evenly spaced, or among the worst so far."""
        number = next(self._number)
        chosen = np.linspace(0, self.samples - 1, min(EXAMPLES, self.samples)).astype(int)
        if number in chosen:
            self.examples.append(example)
        if example.score < 1 and example.confidence > 0:
            heapq.heappush(self.worst, (example.confidence, number, example))
            self.worst = heapq.nlargest(MISTAKES, self.worst)[::-1]


@dataclass
class _ClassTally(_Tally):
    parts: list[Evaluation] = field(default_factory=list)

    def add(self, part: Any, chances: Tensor, clips: Tensor, target: Tensor) -> None:
        """See :class:`_Tally`."""
        self.parts.append(part)
        best = chances.max(-1)
        right = best.indices == target
        self.reliability += Reliability.of(best.values.numpy(), right.numpy())
        rows = zip(part.names, clips, best.indices, target, best.values, right, strict=True)
        for name, clip, guess, truth, confidence, hit in rows:
            self.keep(Example(name, clip, int(guess), int(truth), float(confidence), float(hit)))

    def whole(self) -> Evaluation:
        """See :class:`_Tally`."""
        return Evaluation(
            np.concatenate([part.logits for part in self.parts]),
            np.concatenate([part.target for part in self.parts]),
            tuple(name for part in self.parts for name in part.names),
        )


@dataclass
class _MaskTally(_Tally):
    confusions: list[NDArray[np.int64]] = field(default_factory=list)
    per_step: Any = 0

    def add(self, part: Any, chances: Tensor, clips: Tensor, target: Tensor) -> None:
        """See :class:`_Tally`; a batch is one sample."""
        self.names.extend(part.names)
        self.per_step = self.per_step + part.confusions
        self.confusions.append(part.confusions[-1])
        confidence, answer = (found[0].numpy() for found in chances.max(1))  # [1, K, H, W] → [H, W]
        truth = target[0].numpy()
        known, right = truth != VOID, answer == truth
        self.reliability += Reliability.of(confidence[known], right[known])
        wrong = float(confidence[known & ~right].sum() / max(1, known.sum()))
        score = Segmentation(part.confusions[-1]).mean_iou
        self.keep(Example(part.names[0], clips[0], answer, truth, wrong, score))

    def whole(self) -> SegmentationEvaluation:
        """See :class:`_Tally`."""
        return SegmentationEvaluation(self.per_step, tuple(self.names))


def shared_data(judged: Sequence[Judged]) -> bool:
    """Whether all were judged on the same samples."""
    return len({(found.split, found.evaluation.names) for found in judged}) < 2
