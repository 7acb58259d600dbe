"""Whether a network's probabilities mean what they say: bins of confidence, and the error over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Answers sorted into bins of equal width by their confidence.

    Example:
        >>> both = Reliability.of(np.array([0.9, 0.6]), np.array([True, False]))
        >>> round(both.ece, 3)
        0.35

    Args:
        count: int64 [n], answers in each bin.
        confidence: float64 [n], sum of their probabilities.
        hits: float64 [n], how many were right.

    Source: Guo et al., ICML 2017: 15 bins, ECE the mean gap weighted by the answers in a bin.
    """

    count: NDArray[np.int64]
    confidence: NDArray[Any]
    hits: NDArray[Any]

    @classmethod
    def of(cls, confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
        """From the probability of each answer in (0, 1], and whether it was right, both [n]."""
        place = (np.ceil(confidence * bins) - 1).clip(0, bins - 1).astype(np.int64)  # bins open at their left
        sure, hits = (np.bincount(place, weights, bins) for weights in (confidence, right))
        return cls(np.bincount(place, minlength=bins), sure, hits)

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.count + other.count, self.confidence + other.confidence, self.hits + other.hits
        )

    @property
    def ece(self) -> float:
        """Expected calibration error; NaN without answers."""
        total = self.count.sum()
        return float(np.abs(self.hits - self.confidence).sum() / total) if total else float("nan")

    @property
    def curve(self) -> tuple[list[float], list[float]]:
        """Mean confidence and share of right answers of the bins that have any."""
        used = self.count > 0
        sure, hits = ((sums[used] / self.count[used]).tolist() for sums in (self.confidence, self.hits))
        return sure, hits
