"""Metrics from one confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evlift.masks import VOID


def confusion_matrix(
    target: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts [K, K], row = true class, column = predicted class, of arrays of one shape.

    Where 255 is no class, it is void and counts nowhere.
    """
    if classes <= VOID:
        known = target != VOID
        target, predicted = target[known], predicted[known]
    flat = target.ravel().astype(np.int64) * classes + predicted.ravel().astype(np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Recognition:
    """What a confusion matrix [K, K] says about a classifier.

    Example:
        >>> Recognition(np.array([[3, 1], [0, 4]])).accuracy
        0.875
    """

    confusion: NDArray[np.int64]

    @property
    def samples(self) -> int:
        """Number of judged samples."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of samples whose class was found; NaN without samples."""
        return float(np.trace(self.confusion) / self.samples) if self.samples else float("nan")

    @property
    def per_class(self) -> NDArray[np.float64]:
        """Recall of each class [K]; NaN for a class without samples."""
        return _shares(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def class_mean(self) -> float:
        """Mean of the recalls over the classes that have samples."""
        return float(np.nanmean(self.per_class)) if self.samples else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        from scipy.stats import binomtest

        if not self.samples:
            return (0.0, 1.0)
        found = binomtest(int(np.trace(self.confusion)), self.samples).proportion_ci(method="wilson")
        return (float(found.low), float(found.high))


@dataclass(frozen=True)
class Segmentation:
    """What a confusion matrix [K, K] over the pixels of a whole set says about a segmentation.

    Example:
        >>> round(Segmentation(np.array([[3, 1], [0, 4]])).mean_iou, 3)
        0.775
    """

    confusion: NDArray[np.int64]

    @property
    def pixels(self) -> int:
        """Number of judged pixels, void ones left out."""
        return int(self.confusion.sum())

    @property
    def per_class(self) -> NDArray[np.float64]:
        """Intersection over union of each class [K]; NaN for a class neither there nor predicted."""
        hits = np.diag(self.confusion)
        return _shares(hits, self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - hits)

    @property
    def mean_iou(self) -> float:
        """mIoU: mean over the classes that are there or predicted, anywhere in the set; NaN without pixels."""
        return float(np.nanmean(self.per_class)) if self.pixels else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of pixels whose class was found; NaN without pixels."""
        return Recognition(self.confusion).accuracy

    @property
    def class_mean(self) -> float:
        """Mean over the classes that are there of the share of their pixels that was found."""
        return Recognition(self.confusion).class_mean


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, NaN where there is nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
