"""Where something moves, and that it looks the same whatever sensor saw it."""

from __future__ import annotations

import numpy as np
import pytest

from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.events.framing import Box, Framing, event_box, framed, without_background
from evlift.representations import Frames
from evlift.simulate.noise import add_noise, merged

OWN = (34, 34)


def ring(rng, n=4000, size=OWN, centre=(17.0, 17.0), radius=(9.0, 6.0)):
    """Events along an ellipse that shakes by a pixel, within 0.3 s."""
    angle = rng.uniform(0, 2 * np.pi, n)
    t = np.sort(rng.integers(0, 300_000, n))
    y = centre[0] + radius[0] * np.sin(angle) + rng.uniform(-1, 1, n)
    x = centre[1] + radius[1] * np.cos(angle) + rng.uniform(-1, 1, n)
    return EventStream.from_columns(
        t, np.floor(x).astype(int), np.floor(y).astype(int), rng.random(n) < 0.5, sensor_size=size
    )


def seen_by(stream, size, corner, k, rng, copies=6):
    """The same, `k` times as large on another sensor."""
    t, x, y, p = (np.repeat(getattr(stream, name), copies) for name in "txyp")
    x = np.floor((x + rng.random(len(x))) * k).astype(int) + corner[1]
    y = np.floor((y + rng.random(len(y))) * k).astype(int) + corner[0]
    return EventStream.from_columns(t + rng.integers(0, 3000, len(t)), x, y, p, sensor_size=size)


def noisy(stream, rate_hz, rng):
    return add_noise(stream, rate_hz, rng, start_us=0, stop_us=300_000)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_box_of_few_events_holds_them_all():
    stream = EventStream.from_columns([0, 1], [3, 5], [2, 4], [1, 0], sensor_size=(10, 10))
    assert event_box(stream) == Box(2, 3, 5, 6)
    one = EventStream.from_columns([0], [3], [2], [1], sensor_size=(480, 640))
    assert event_box(one) == Box(2, 3, 3, 4)
    assert event_box(EventStream.empty((10, 10))) is None


@pytest.mark.parametrize(("rate_hz", "hot"), [(0, 0), (0.1, 0), (1.0, 0), (0.2, 5)])
@pytest.mark.parametrize(("size", "k"), [((128, 128), 1.0), ((260, 346), 2.0), ((480, 640), 7.0)])
def test_neither_noise_nor_hot_pixels_move_the_box(rng, size, k, rate_hz, hot):
    clean = seen_by(ring(rng), size, (20, 60), k, rng)
    expected = event_box(clean)
    dirty = noisy(clean, rate_hz, rng) if rate_hz else clean
    for _ in range(hot):
        t = np.sort(rng.integers(0, 300_000, 300))
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        column = np.ones(300, int)
        pixel = EventStream.from_columns(t, column * x, column * y, column, sensor_size=size)
        dirty = merged(dirty, pixel)
    found = event_box(dirty)
    assert found.longer == pytest.approx(expected.longer, rel=0.25)
    assert found.centre == pytest.approx(expected.centre, abs=3 * k)


def test_noise_is_dropped_where_neighbours_tell_it_and_kept_where_they_cannot(rng):
    clean = seen_by(ring(rng), (260, 346), (20, 60), 2.0, rng)
    assert without_background(clean) == clean
    dirty = noisy(clean, 1.0, rng)
    kept = without_background(dirty)
    assert len(kept) < len(clean) + 0.3 * (len(dirty) - len(clean))
    assert len(kept) > 0.8 * len(clean)
    apart = EventStream(clean.t, clean.x // 5 * 5, clean.y // 5 * 5, clean.p, clean.sensor_size)
    dirty = noisy(apart, 0.3, rng)
    assert without_background(dirty) == dirty


@pytest.mark.parametrize(
    ("size", "corner", "k"),
    [((260, 346), (30, 200), 3.0), ((720, 1280), (400, 50), 7.5), ((128, 128), (0, 64), 1.5)],
)
def test_the_same_thing_looks_the_same_to_the_network_wherever_another_sensor_saw_it(rng, size, corner, k):
    own = [ring(rng) for _ in range(5)]
    framing = Framing.of(own, OWN, "test")
    frames = Frames(steps=1, size=(28, 28), normalise="max")
    original = frames(own[0])[0].sum(0)
    shown = framed(noisy(seen_by(own[0], size, corner, k, rng), 0.1, rng), framing)
    other = frames(shown)[0].sum(0)
    assert np.corrcoef(original.flatten(), other.flatten())[0, 1] > 0.9
    stretched = frames(seen_by(own[0], size, corner, k, rng))[0].sum(0)
    assert np.corrcoef(original.flatten(), stretched.flatten())[0, 1] < 0.5


def test_each_fit_by_hand():
    framing = Framing.assumed((10, 20))
    t, x, y, p = [0, 1, 2], [0, 30, 59], [0, 20, 39], [1, 1, 1]
    stream = EventStream.from_columns(t, x, y, p, sensor_size=(40, 60))
    assert framed(stream, framing, "stretch") is stream
    letterbox = framed(stream, framing, "letterbox")  # 4 pixels a pixel: 40x80, 10 columns on either side
    assert (letterbox.sensor_size, letterbox.x.tolist()) == ((40, 80), [10, 40, 69])
    cover = framed(stream, framing, "cover")  # 3 pixels a pixel: 30x60, 5 rows off at either side
    assert (cover.sensor_size, cover.y.tolist(), cover.x.tolist()) == ((30, 60), [15], [30])
    with pytest.raises(ConfigError, match="one of auto, crop-to-events"):
        framed(stream, framing, "squeeze")


def test_auto_leaves_the_own_sensor_and_silence_alone(rng):
    framing = Framing.of([ring(rng)], OWN, "test")
    stream = ring(rng, centre=(12, 20))
    assert framed(stream, framing) is stream
    assert framed(stream, framing, "crop-to-events") is not stream
    silence = EventStream.empty((260, 346))
    assert framed(silence, framing) is silence


def test_a_framing_comes_back_from_a_record_and_has_a_default(rng):
    framing = Framing.of([ring(rng), EventStream.empty(OWN)], OWN, "test")
    assert Framing.from_dict(framing.to_dict()) == framing
    assert framing.samples == 1
    assert 0.29e6 < framing.duration_us <= 0.3e6
    assert Framing.of([EventStream.empty(OWN)], OWN, "test") == Framing.assumed(OWN)
    assert Framing.assumed(OWN).duration_us is None
