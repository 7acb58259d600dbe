"""ECE and reliability curve against a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlift.report.calibration import Reliability


@given(st.lists(st.tuples(st.floats(0.001, 1.0), st.booleans()), min_size=1, max_size=60))
def test_ece_is_the_mean_gap_of_the_bins(answers):
    confidence = np.array([answer[0] for answer in answers])
    right = np.array([answer[1] for answer in answers])
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    found = Reliability.of(confidence, right)
    assert found.ece == pytest.approx(expected, abs=1e-9)
    half = len(answers) // 2
    parts = Reliability.of(confidence[:half], right[:half]) + Reliability.of(confidence[half:], right[half:])
    assert parts.ece == pytest.approx(expected, abs=1e-9)
    assert parts.count.sum() == len(answers)


def test_the_curve_has_a_point_a_used_bin():
    found = Reliability.of(np.array([0.9, 0.95, 0.3]), np.array([True, False, True]))
    sure, right = found.curve
    assert sure == pytest.approx([0.3, 0.9, 0.95])
    assert right == [1.0, 1.0, 0.0]


def test_without_answers_there_is_no_error():
    assert np.isnan(Reliability.of(np.zeros(0), np.zeros(0, bool)).ece)
