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
    """How often answers of a confidence are right.

    Args:
        edges: [bins + 1], of confidence; a bin holds ``edges[i] < confidence <= edges[i + 1]``.
        counts: [bins], samples.
        confidence, accuracy: [bins], means in each bin; NaN in an empty one.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |accuracy - confidence| over the samples; NaN without samples."""
        if not self.counts.sum():
            return float("nan")
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gaps * self.counts) / self.counts.sum())


def reliability_curve(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Accuracy against confidence in bins of equal width.

    Example:
        >>> reliability_curve(np.array([0.9, 0.9]), np.array([True, False]), bins=2).error
        0.4

    Args:
        confidence: [n] in 0..1.
        right: bool [n].
        bins: how many.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(place, confidence, bins) / counts
        accuracy = np.bincount(place, right.astype(float), bins) / counts
    return Reliability(edges, counts, mean_confidence, accuracy)


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error (ECE) of confidences [n] of answers that are `right` [n] or not."""
    return reliability_curve(confidence, right, bins).error


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
