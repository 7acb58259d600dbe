"""Temperature, reliability and thresholds against samples of known truth, loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evlift.engine.calibration import (
    Confidence,
    Reliability,
    calibrate,
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    separation,
    softmax,
)
from evlift.errors import ConfigError, DataError


@pytest.fixture
def truthful():
    """Logits [4000, 5] whose softmax is the true chance of each class, and classes drawn by it."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(4000, 5))
    target = np.array([rng.choice(5, p=chances) for chances in softmax(logits)])
    return logits, target


def looped_ece(confidence, right, bins):
    total = 0.0
    for i in range(bins):
        low, high = i / bins, (i + 1) / bins
        inside = [
            (c, r) for c, r in zip(confidence, right, strict=True) if low < c <= high or (i == 0 and c == 0)
        ]
        if inside:
            gap = abs(sum(r for _, r in inside) / len(inside) - sum(c for c, _ in inside) / len(inside))
            total += gap * len(inside) / len(confidence)
    return total


def test_a_fitted_temperature_undoes_overconfidence(truthful):
    logits, target = truthful
    for factor in (0.25, 1.0, 4.0):
        assert fit_temperature(logits * factor, target) == pytest.approx(factor, rel=0.06)


def test_no_neighbouring_temperature_is_more_likely(truthful):
    logits, target = truthful
    best = fit_temperature(logits * 3, target)
    cost = negative_log_likelihood(logits * 3, target, best)
    assert cost < negative_log_likelihood(logits * 3, target, best * 1.1)
    assert cost < negative_log_likelihood(logits * 3, target, best / 1.1)


def test_a_temperature_stays_finite_where_all_is_right_and_needs_samples():
    logits = np.eye(3)[np.arange(60) % 3] * 5
    temperature = fit_temperature(logits, np.arange(60) % 3)
    assert 0.2 < temperature < 1
    with pytest.raises(DataError, match="got none"):
        fit_temperature(logits[:0], np.zeros(0, np.int64))


def test_softmax_does_not_overflow():
    assert softmax(np.array([[1e5, 0.0], [-1e5, 0.0]])).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_calibration_error_is_that_of_a_loop(bins):
    rng = np.random.default_rng(1)
    confidence = np.concatenate([rng.random(300), [0.0, 1.0, 1 / bins]])
    right = rng.random(303) < confidence**2
    assert calibration_error(confidence, right, bins) == pytest.approx(looped_ece(confidence, right, bins))


def test_calibration_lowers_the_error_and_keeps_the_share_that_it_says(truthful):
    logits, target = truthful
    found = calibrate(logits * 4, target, "source_val")
    assert found.ece_after < 0.03 < found.ece_before
    assert found.nll_after < found.nll_before
    kept = softmax(logits * 4, found.temperature).max(axis=1) >= found.unknown_below
    assert kept.mean() == pytest.approx(0.95, abs=0.001)
    assert (found.fitted_on, found.samples) == ("source_val", 4000)


def test_a_curve_without_samples_has_no_error():
    found = Reliability.of(np.zeros(0), np.zeros(0, bool))
    assert np.isnan(found.error)
    assert found.counts.sum() == 0
    assert found.curve == ([], [])


def test_bins_of_parts_add_up_and_the_curve_has_a_point_for_each_that_is_used():
    rng = np.random.default_rng(3)
    confidence, right = rng.random(90), rng.random(90) < 0.5
    parts = Reliability.of(confidence[:40], right[:40]) + Reliability.of(confidence[40:], right[40:])
    assert parts.error == pytest.approx(looped_ece(confidence, right, 15))
    assert parts.counts.sum() == 90
    sure, hits = Reliability.of(np.array([0.9, 0.95, 0.3]), np.array([True, False, True])).curve
    assert sure == pytest.approx([0.3, 0.9, 0.95])
    assert hits == [1.0, 1.0, 0.0]


def test_separation_is_the_area_under_the_curve_with_ties():
    rng = np.random.default_rng(2)
    known, unknown = rng.integers(3, 10, 50) / 10, rng.integers(0, 7, 30) / 10
    expected = roc_auc_score([1] * 50 + [0] * 30, np.concatenate([known, unknown]))
    assert separation(known, unknown) == pytest.approx(expected)
    assert np.isnan(separation(known, unknown[:0]))


def test_a_threshold_by_hand():
    found = Confidence(
        raw=np.array([0.5, 0.6, 0.9, 0.9]),
        calibrated=np.array([0.4, 0.7, 0.8, 0.9]),
        right=np.array([False, True, False, True]),
        unknown=np.array([0.3, 0.7, 0.95]),
    ).rejecting(0.7)
    assert found == {
        "threshold": 0.7,
        "kept": 0.75,
        "accuracy_kept": pytest.approx(2 / 3),
        "called_unknown": 0.25,
        "wrong_called_unknown": 0.5,
        "open_set": 3,
        "open_set_called_unknown": pytest.approx(1 / 3),
    }
    confidence = Confidence(np.zeros(1), np.zeros(1), np.array([True]), np.zeros(0))
    assert confidence.rejecting(0.5)["accuracy_kept"] is None
    with pytest.raises(ConfigError, match=r"in \[0, 1\], but got 1.5"):
        confidence.rejecting(1.5)
