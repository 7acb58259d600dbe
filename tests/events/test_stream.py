"""`EventStream.from_columns`: numbers that would become others are refused."""

from __future__ import annotations

import numpy as np
import pytest

from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.events.filters import resize

SIZE = (4, 6)
GOOD = {"t": [0, 5], "x": [1, 2], "y": [0, 3], "p": [True, False]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"t": [0, np.nan]}, r"time stamps in µs within ±2\^62, but got \[nan, nan\]"),
        ({"t": [0, 1e30]}, r"within ±2\^62"),
        ({"t": np.array([0, 2**63 + 5], np.uint64)}, r"within ±2\^62"),
        ({"x": [np.nan, 1]}, "Expected `x` in"),
        ({"y": [0, np.nan]}, "Expected `y` in"),
        ({"x": [1, 6]}, r"Expected `x` in \[0, 5\] for a sensor of \(H, W\) = \(4, 6\), but got \[1, 6\]"),
        ({"y": [-1, 0]}, r"Expected `y` in \[0, 3\]"),
        ({"p": [True]}, "four columns"),
    ],
)
def test_numbers_that_would_become_others_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        EventStream.from_columns(**(GOOD | changed), sensor_size=SIZE)


def test_columns_are_sorted_stably_and_fractions_of_pixels_cut_off():
    stream = EventStream.from_columns([7, 3, 7], [0.9, 1.2, 2], [0, 1, 2], [-1, 1, 0], sensor_size=SIZE)
    assert (stream.t.tolist(), stream.x.tolist(), stream.p.tolist()) == (
        [3, 7, 7],
        [1, 0, 2],
        [True, False, False],
    )


def test_a_sensor_larger_than_its_coordinates_can_say_is_refused():
    stream = EventStream.from_columns(**GOOD, sensor_size=SIZE)
    assert resize(stream, 4, 2**16).x.tolist() == [2**16 // 6, 2 * 2**16 // 6]
    with pytest.raises(ConfigError, match="at most 65536 pixels, but got 4x200000"):
        resize(stream, 4, 200_000)
