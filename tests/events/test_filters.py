"""Filters: laws on generated streams, and ten-line oracles for the compiled loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.events.filters import (
    FILTERS,
    Filter,
    crop,
    event_counts,
    flip_horizontal,
    flip_polarity,
    flip_vertical,
    hot_pixel_mask,
    isolated_noise,
    refractory,
    remove_hot_pixels,
    resize,
    reverse_time,
)

ARGUMENTS = {"crop": {"y0": 1, "x0": 2, "height": 3, "width": 4}, "resize": {"height": 3, "width": 9}}
SIZE = (6, 7)


@st.composite
def streams(draw: st.DrawFn, max_size: int = 60) -> EventStream:
    rows = st.tuples(st.integers(0, 300), st.integers(0, 6), st.integers(0, 5), st.booleans())
    events = draw(st.lists(rows, max_size=max_size))
    columns = list(zip(*events, strict=True)) or [[]] * 4
    return EventStream.from_columns(*columns, sensor_size=SIZE)


def build(name: str) -> Filter:
    return FILTERS[name](**ARGUMENTS.get(name, {}))


@pytest.mark.parametrize("name", FILTERS.names())
@given(stream=streams())
@settings(max_examples=25, deadline=None)
def test_every_filter_keeps_a_legal_stream_and_its_input(name: str, stream: EventStream) -> None:
    before = [np.array(getattr(stream, column)) for column in "txyp"]
    out = build(name)(stream)
    assert all(np.array_equal(a, getattr(stream, c)) for a, c in zip(before, "txyp", strict=True))
    again = EventStream.from_columns(
        out.t, out.x, out.y, out.p, sensor_size=out.sensor_size
    )  # checks the range
    assert again == out
    assert [getattr(out, c).dtype for c in "txyp"] == [np.int64, np.uint16, np.uint16, np.bool_]
    assert len(out) <= len(stream)


@pytest.mark.parametrize("flip", [flip_horizontal, flip_vertical, flip_polarity, reverse_time])
@given(stream=streams())
@settings(max_examples=25, deadline=None)
def test_flip_twice_is_identity(flip, stream: EventStream) -> None:
    assert flip(flip(stream)) == stream


def test_flips_move_what_they_name() -> None:
    stream = EventStream.from_columns([3, 10], [0, 2], [1, 5], [True, False], sensor_size=SIZE)
    assert flip_horizontal(stream).x.tolist() == [6, 4]
    assert flip_vertical(stream).y.tolist() == [4, 0]
    assert flip_polarity(stream).p.tolist() == [False, True]
    backwards = reverse_time(stream)
    assert backwards.t.tolist() == [3, 10]
    assert backwards.x.tolist() == [2, 0]
    assert backwards.p.tolist() == [True, False]


@given(stream=streams(), period=st.integers(1, 100))
@settings(max_examples=50, deadline=None)
def test_refractory_equals_a_plain_loop(stream: EventStream, period: int) -> None:
    last: dict[tuple[int, int], int] = {}
    keep = []
    for t, x, y in zip(stream.t.tolist(), stream.x.tolist(), stream.y.tolist(), strict=True):
        keep.append((x, y) not in last or t - last[x, y] >= period)
        if keep[-1]:
            last[x, y] = t
    assert refractory(stream, period) == stream[np.array(keep, bool)]


@given(stream=streams(), window=st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_isolated_noise_equals_a_plain_search(stream: EventStream, window: int) -> None:
    events = list(zip(stream.t.tolist(), stream.x.tolist(), stream.y.tolist(), strict=True))
    keep = [
        any(max(abs(x - a), abs(y - b)) == 1 and t - s <= window for s, a, b in events[:i])
        for i, (t, x, y) in enumerate(events)
    ]
    assert isolated_noise(stream, window) == stream[np.array(keep, bool)]


@given(stream=streams(), y0=st.integers(0, 5), x0=st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_four_crops_share_out_the_events(stream: EventStream, y0: int, x0: int) -> None:
    parts = [
        crop(stream, y, x, height, width)
        for y, height in ((0, y0), (y0, SIZE[0] - y0))
        for x, width in ((0, x0), (x0, SIZE[1] - x0))
        if height and width
    ]
    assert sum(map(len, parts)) == len(stream)
    whole = event_counts(stream)
    assert np.array_equal(event_counts(parts[-1]), whole[y0:, x0:])


@given(stream=streams())
@settings(max_examples=25, deadline=None)
def test_resize_keeps_events_and_undoes_an_enlargement(stream: EventStream) -> None:
    large = resize(stream, 18, 14)
    assert len(large) == len(stream)
    assert resize(large, *SIZE) == stream
    small = event_counts(resize(stream, 3, 7))
    assert np.array_equal(small, event_counts(stream).reshape(3, 2, 7).sum(1))


def test_resize_reaches_no_pixel_outside_at_full_width() -> None:
    stream = EventStream.from_columns([0], [65534], [65534], [1], sensor_size=(65535, 65535))
    assert resize(stream, 65535, 65535).x.tolist() == [65534]


def test_hot_pixels_are_found_and_an_edge_is_spared() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (40, 40))
    counts[10:30, 20] = 200  # a busy edge
    counts[5, 5] = counts[33, 8] = 400
    counts[33, 9] = 300  # a pair side by side
    assert np.argwhere(hot_pixel_mask(counts)).tolist() == [[5, 5], [33, 8], [33, 9]]


def test_remove_hot_pixels_drops_exactly_their_events(random_stream: EventStream) -> None:
    extra = np.arange(0, 100_000, 50)
    columns = {
        "t": np.concatenate([random_stream.t, extra]),
        "x": np.concatenate([random_stream.x, np.full(len(extra), 7)]),
        "y": np.concatenate([random_stream.y, np.full(len(extra), 9)]),
        "p": np.concatenate([random_stream.p, np.ones(len(extra), bool)]),
    }
    noisy = EventStream.from_columns(**columns, sensor_size=random_stream.sensor_size)
    on_pixel = (random_stream.x == 7) & (random_stream.y == 9)
    assert remove_hot_pixels(noisy) == random_stream[~on_pixel]
    assert remove_hot_pixels(random_stream) == random_stream


@pytest.mark.parametrize(
    ("y0", "x0", "height", "width"), [(0, 0, 7, 7), (-1, 0, 2, 2), (0, 0, 0, 3), (0, 5, 2, 3)]
)
def test_crop_outside_the_sensor_is_refused(y0: int, x0: int, height: int, width: int) -> None:
    with pytest.raises(ConfigError, match="Expected a crop inside the sensor"):
        crop(EventStream.empty(SIZE), y0, x0, height, width)


@pytest.mark.parametrize(("name", "argument"), [("refractory", "period_us"), ("isolated_noise", "window_us")])
def test_settings_must_be_positive(name: str, argument: str) -> None:
    with pytest.raises(ConfigError, match=f"Expected `{argument}` to be positive, but got 0"):
        FILTERS[name](**{argument: 0})
