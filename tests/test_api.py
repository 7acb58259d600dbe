"""Prediction on recordings: windows, sensors, recordings without events."""

from __future__ import annotations

import numpy as np
import pytest

import evlift
from evlift.api import create_task, open_run
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream
from helpers import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return evlift.train(tiny(), tmp_path_factory.mktemp("run")).folder


@pytest.fixture(scope="module")
def recording(run):
    return create_task(open_run(run).recipe).val.load(0)


@pytest.mark.parametrize("suffix", ["npz", "txt", "raw", "dat", "h5"])
def test_a_recording_is_predicted_as_evaluation_does_in_any_format(run, recording, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    evlift.write_events(path, recording)
    judged = evlift.evaluate(run)
    scores = np.exp(judged.logits[0].mean(0))
    (found,) = evlift.predict(run, path)
    assert found.index == judged.predicted[0]
    assert found.confidence == pytest.approx(scores.max() / scores.sum(), abs=1e-5)


def test_windows_of_equal_length_tile_the_recording_even_where_it_is_silent(run, tmp_path):
    t = np.array([500, 700, 10_000, 50_400])
    zeros = np.zeros(4, np.int64)
    evlift.write_events(
        tmp_path / "a.npz", EventStream.from_columns(t, zeros, zeros, zeros, sensor_size=(34, 34))
    )
    found = list(evlift.predict(run, tmp_path / "a.npz", duration_us=10_000))
    assert [one.start_us for one in found] == [500, 10_500, 20_500, 30_500, 40_500]
    assert [one.stop_us - one.start_us for one in found] == [10_000] * 5
    assert [one.events for one in found] == [3, 0, 0, 0, 1]


def test_a_recording_without_events_has_no_label(run, tmp_path):
    evlift.write_events(tmp_path / "a.npz", EventStream.empty((34, 34)))
    for options in ({}, {"duration_us": 1000}, {"n_events": 10}):
        with pytest.raises(DataError, match="has none"):
            list(evlift.predict(run, tmp_path / "a.npz", **options))


def test_windows_need_a_length(run, tmp_path):
    for options in ({"duration_us": 0}, {"n_events": -1}):
        with pytest.raises(ConfigError, match="at least 1"):
            list(evlift.predict(run, tmp_path / "a.npz", **options))
