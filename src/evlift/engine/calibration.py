"""Confidence that means what it says: temperature scaling, reliability, and when to call something unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, DataError

BINS = 15
"""Of confidence, of equal width, as in Guo et al., 2017."""

KEEPS = 0.95
"""Share of the samples of the fitted split that the suggested threshold keeps (decided here)."""

BOUNDS = (-3.0, 3.0)
"""Of the natural log of a temperature."""

Floats = NDArray[np.floating[Any]]


def softmax(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Class probabilities of logits [..., K] divided by `temperature`.

    Example:
        >>> softmax(np.array([0.0, 0.0])).tolist()
        [0.5, 0.5]
    """
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def negative_log_likelihood(logits: Floats, target: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean of -log p(true class) of logits [n, K] under a temperature."""
    chances = softmax(logits, temperature)[np.arange(len(target)), target]
    return float(-np.log(np.maximum(chances, 1e-300)).mean())


def fit_temperature(logits: Floats, target: NDArray[np.int64]) -> float:
    """The temperature under which logits [n, K] give the true classes [n] the highest likelihood.

    A weak prior (log T as of one standard normal observation) keeps it finite where every sample is right, and is
    outweighed by a few dozen samples otherwise. The predicted classes do not change. Source: Guo et al., ICML 2017;
    the prior is decided here.

    Raises:
        DataError: no sample.
    """
    if not len(target):
        raise DataError("Expected labelled samples to fit a temperature to, but got none.")
    from scipy.optimize import minimize_scalar

    def cost(log_t: float) -> float:
        likelihood = negative_log_likelihood(logits, target, float(np.exp(log_t)))
        return len(target) * likelihood + log_t**2 / 2

    return float(np.exp(minimize_scalar(cost, bounds=BOUNDS, method="bounded").x))


@dataclass(frozen=True)
class Reliability:
    """Answers sorted into bins of equal width by their confidence; such counts of parts add up.

    Example:
        >>> both = Reliability.of(np.array([0.9, 0.6]), np.array([True, False]))
        >>> round(both.error, 3)
        0.35

    Args:
        counts: int64 [bins], answers; a bin holds ``edges[i] < confidence <= edges[i + 1]``.
        sure: float64 [bins], sum of their probabilities.
        hits: float64 [bins], how many were right.

    Source: Guo et al., ICML 2017: 15 bins, the error the mean gap weighted by the answers in a bin.
    """

    counts: NDArray[np.int64]
    sure: NDArray[np.float64]
    hits: NDArray[np.float64]

    @classmethod
    def of(cls, confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
        """From the probability of each answer in 0..1, and whether it was right, both [n]."""
        edges = np.linspace(0, 1, bins + 1)
        place = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, bins - 1)
        weights: tuple[NDArray[Any], ...] = (confidence.astype(np.float64), right.astype(np.float64))
        sure, hits = (np.bincount(place, each, bins).astype(np.float64) for each in weights)
        return cls(np.bincount(place, minlength=bins), sure, hits)

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.counts + other.counts, self.sure + other.sure, self.hits + other.hits)

    @property
    def middles(self) -> NDArray[np.float64]:
        """[bins], of confidence."""
        bins = len(self.counts)
        return (np.arange(bins) + 0.5) / bins

    @property
    def error(self) -> float:
        """Expected calibration error (ECE): mean of |accuracy - confidence| over the answers; NaN without any."""
        total = self.counts.sum()
        return float(np.abs(self.hits - self.sure).sum() / total) if total else float("nan")

    @property
    def curve(self) -> tuple[list[float], list[float]]:
        """Mean confidence and share of right answers of the bins that hold any."""
        used = self.counts > 0
        sure, hits = ((sums[used] / self.counts[used]).tolist() for sums in (self.sure, self.hits))
        return sure, hits


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error (ECE) of confidences [n] of answers that are `right` [n] or not."""
    return Reliability.of(confidence, right, bins).error


def separation(known: Floats, unknown: Floats) -> float:
    """Chance that a known sample [n] has more confidence than an unknown one [m] (AUROC); NaN without either."""
    if not len(known) or not len(unknown):
        return float("nan")
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    wins = ranks.sum() - len(known) * (len(known) + 1) / 2
    return float(wins / (len(known) * len(unknown)))


@dataclass(frozen=True)
class Calibration:
    """What a run knows about its confidence.

    Args:
        temperature: that logits are divided by.
        fitted_on: the split that it was fitted on: source_val for label-free methods, else val.
        samples: of that split.
        ece_before, ece_after, nll_before, nll_after: on that split, without and with the temperature.
        unknown_below: the confidence that keeps `keeps` of that split.
        keeps: a share.
    """

    temperature: float
    fitted_on: str
    samples: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    unknown_below: float
    keeps: float = KEEPS

    def to_record(self) -> dict[str, Any]:
        """Entries of a run's record: `temperature`, and `calibration` with all the rest."""
        rest = asdict(self)
        return {"temperature": rest.pop("temperature"), "calibration": rest}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Calibration | None:
        """What :meth:`to_record` put into a record; None for a run that was not calibrated."""
        rest = record.get("calibration")
        return cls(temperature=record["temperature"], **rest) if rest else None


def calibrate(logits: Floats, target: NDArray[np.int64], fitted_on: str) -> Calibration:
    """Fit a temperature and a threshold to logits [n, K] and true classes [n] of a split that judges nothing else."""
    temperature = fit_temperature(logits, target)
    before, after = softmax(logits), softmax(logits, temperature)
    right = logits.argmax(axis=1) == target
    return Calibration(
        temperature=temperature,
        fitted_on=fitted_on,
        samples=len(target),
        ece_before=calibration_error(before.max(axis=1), right),
        ece_after=calibration_error(after.max(axis=1), right),
        nll_before=negative_log_likelihood(logits, target),
        nll_after=negative_log_likelihood(logits, target, temperature),
        unknown_below=float(np.quantile(after.max(axis=1), 1 - KEEPS, method="lower")),
    )


@dataclass(frozen=True)
class Confidence:
    """Confidences of judged samples, and what a threshold makes of them.

    Args:
        raw, calibrated: [n], largest probability of each sample without and with the temperature.
        right: bool [n].
        unknown: [m], calibrated confidences of samples of no class that the network knows.
    """

    raw: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    right: NDArray[np.bool_]
    unknown: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        logits: Floats,
        target: NDArray[np.int64],
        temperature: float,
        unknown_logits: Floats | None = None,
    ) -> Confidence:
        """Of logits [n, K] with their classes [n], and of logits [m, K] of unknown things."""
        others = np.zeros((0, logits.shape[1])) if unknown_logits is None else unknown_logits
        return cls(
            raw=softmax(logits).max(axis=1),
            calibrated=softmax(logits, temperature).max(axis=1),
            right=logits.argmax(axis=1) == target,
            unknown=softmax(others, temperature).max(axis=1) if len(others) else np.zeros(0),
        )

    def summary(self) -> dict[str, float | int | None]:
        """ECE before and after, mean confidence, separation from unknown samples; plain, None for NaN."""
        found = {
            "ece_before": calibration_error(self.raw, self.right),
            "ece_after": calibration_error(self.calibrated, self.right),
            "mean_confidence": float(self.calibrated.mean()) if len(self.calibrated) else float("nan"),
            "separation": separation(self.calibrated, self.unknown),
        }
        return {name: None if np.isnan(value) else value for name, value in found.items()}

    def rejecting(self, threshold: float) -> dict[str, float | int | None]:
        """What becomes of the samples if confidence below `threshold` is called unknown.

        Raises:
            ConfigError: a threshold outside of 0..1.
        """
        if not 0 <= threshold <= 1:
            raise ConfigError(f"Expected --unknown-below in [0, 1], but got {threshold}.")
        kept, refused = self.calibrated >= threshold, self.unknown < threshold
        return {
            "threshold": threshold,
            "kept": _mean(kept),
            "accuracy_kept": _mean(self.right[kept]),
            "called_unknown": _mean(~kept),
            "wrong_called_unknown": _mean(~kept[~self.right]),
            "open_set": len(refused),
            "open_set_called_unknown": _mean(refused),
        }


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
