"""Metrics from one confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    target: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts [K, K], row = true class, column = predicted class."""
    flat = target.astype(np.int64) * classes + predicted.astype(np.int64)
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
        totals = self.confusion.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(totals > 0, np.diag(self.confusion) / totals, np.nan)

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
