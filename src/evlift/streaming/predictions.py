"""What a network says about a window, as objects, rows and text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.events import EventStream
from evlift.masks import VOID

UNKNOWN = "unknown"
UNKNOWN_PIXEL = VOID
SHOWN = 3  # classes of a window, where there is no room for all


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowPrediction:
    """What every prediction says of its window.

    Args:
        recording: name of the file, or of the stream.
        start_us, stop_us: of the window; for whole recordings and windows by count, of its events.
        events: number of events in it.
        stream: the events themselves, as they were recorded.
        classes: class names by index.
        confidence: of the class, or the mean over all pixels.
    """

    recording: str
    start_us: int
    stop_us: int
    events: int
    confidence: float
    classes: tuple[str, ...] = field(repr=False)
    stream: EventStream = field(repr=False)

    @property
    def rate_hz(self) -> float:
        """Events a second."""
        return self.events * 1e6 / max(self.stop_us - self.start_us, 1)

    def row(self, *, all_probabilities: bool = False) -> dict[str, Any]:
        """Plain values for JSON."""
        raise NotImplementedError

    @property
    def said(self) -> str:
        """In a few words, for a line of text."""
        raise NotImplementedError

    @property
    def best(self) -> list[tuple[str, float]]:
        """The three classes that are most probable or cover most of the mask, and how much."""
        raise NotImplementedError

    def _place(self) -> dict[str, Any]:
        names = ("recording", "start_us", "stop_us", "events")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(WindowPrediction):
    """The class of one window.

    Args:
        label: most probable class, or "unknown" where its probability is less than was asked for or no event came;
            `index` is the number of the most probable class in any case.
        confidence: softmax probability of that class, of the mean logit over T.
        probabilities: float32 [K], of every class.
    """

    label: str
    index: int
    probabilities: NDArray[np.float32] = field(repr=False)

    def row(self, *, all_probabilities: bool = False) -> dict[str, Any]:
        """Plain values for JSON; `all_probabilities` adds those of every class."""
        found = {**self._place(), "label": self.label, "index": self.index, "confidence": self.confidence}
        if all_probabilities:
            found["probabilities"] = dict(zip(self.classes, self.probabilities.tolist(), strict=True))
        return found

    @property
    def said(self) -> str:
        """The label."""
        return self.label

    @property
    def best(self) -> list[tuple[str, float]]:
        """The three most probable classes with their probabilities."""
        order = np.argsort(-self.probabilities, kind="stable")[:SHOWN]
        return [(self.classes[i], float(self.probabilities[i])) for i in order.tolist()]


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskPrediction(WindowPrediction):
    """The class of every pixel of one window.

    Args:
        mask: uint8 [h, w] on the network's own grid, which covers the whole sensor; 255 where no class is as probable
            as was asked for.
        confidence: mean over the pixels of the probability of their most probable class.
    """

    mask: NDArray[np.uint8] = field(repr=False)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class that is there, the largest first, and of `unknown`."""
        counts = np.bincount(self.mask.ravel(), minlength=UNKNOWN_PIXEL + 1)
        names = dict(enumerate(self.classes)) | {UNKNOWN_PIXEL: UNKNOWN}
        order = np.argsort(-counts, kind="stable")
        return {names[i]: float(counts[i] / self.mask.size) for i in order.tolist() if counts[i]}

    def row(self, *, all_probabilities: bool = False) -> dict[str, Any]:
        """Plain values for JSON, the mask as its size and row-wise runs [class, length, class, length, ...]."""
        mask = {"size": list(self.mask.shape), "runs": runs_of(self.mask)}
        return {**self._place(), "confidence": self.confidence, "shares": self.shares, "mask": mask}

    @property
    def said(self) -> str:
        """The largest classes with their shares."""
        return ", ".join(f"{name} {share:.0%}" for name, share in self.best)

    @property
    def best(self) -> list[tuple[str, float]]:
        """The three classes that cover most of the mask, and which share of it."""
        return list(self.shares.items())[:SHOWN]


def runs_of(mask: NDArray[np.uint8]) -> list[int]:
    """Row-wise runs [class, length, class, length, ...] of a mask [h, w].

    Example:
        >>> runs_of(np.array([[0, 0], [0, 3]], np.uint8))
        [0, 3, 3, 1]
    """
    flat = mask.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    return np.stack([flat[starts].astype(np.int64), lengths], 1).ravel().tolist()


def mask_of(size: tuple[int, int], runs: list[int]) -> NDArray[np.uint8]:
    """The mask [h, w] of its runs; turns :func:`runs_of` back."""
    pairs = np.asarray(runs, np.int64).reshape(-1, 2)
    return np.repeat(pairs[:, 0].astype(np.uint8), pairs[:, 1]).reshape(size)
