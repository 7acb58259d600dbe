"""Laws of the shared geometry and of the event-level changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift import augment
from evlift.augment import (
    Geometry,
    RandomEvents,
    RandomGeometry,
    add_hot_pixels,
    flip_polarities,
    scale_time,
)
from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.events.filters import event_counts, flip_polarity, reverse_time
from evlift.representations import Frames, Histogram
from stream_strategies import streams

seeds = st.integers(0, 2**32)


@st.composite
def exact_geometries(draw: st.DrawFn) -> Geometry:
    return Geometry(
        size=(draw(st.integers(1, 12)), draw(st.integers(1, 12))),
        flip=draw(st.booleans()),
        top=draw(st.integers(-12, 12)),
        left=draw(st.integers(-12, 12)),
    )


class TestGeometry:
    @settings(max_examples=100, deadline=None)
    @given(stream=streams(), geometry=exact_geometries())
    def test_events_first_or_tensor_first(self, stream: EventStream, geometry: Geometry) -> None:
        after = geometry(Histogram()(stream))
        torch.testing.assert_close(Histogram()(geometry.stream(stream)), after, rtol=0, atol=0)

    @settings(max_examples=50, deadline=None)
    @given(stream=streams())
    def test_flipping_twice_is_nothing(self, stream: EventStream) -> None:
        flip = Geometry(size=stream.sensor_size, flip=True)
        assert flip.stream(flip.stream(stream)) == stream
        grid = Frames(steps=2)(stream)
        torch.testing.assert_close(flip(flip(grid)), grid, rtol=0, atol=0)

    @settings(max_examples=30, deadline=None)
    @given(stream=streams(), dy=st.integers(-3, 3), dx=st.integers(-3, 3))
    def test_shift_and_back_keeps_the_inside(self, stream: EventStream, dy: int, dx: int) -> None:
        height, width = stream.sensor_size
        padded = Geometry(size=(height + 6, width + 6), top=-3 + dy, left=-3 + dx)
        back = Geometry(size=stream.sensor_size, top=3 - dy, left=3 - dx)
        assert back.stream(padded.stream(stream)) == stream

    def test_picture_and_mask_stay_aligned(self) -> None:
        """A disc that is bright where the mask is 1 stays so under any drawn geometry, without a bias."""
        ys, xs = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
        disc = ((ys - 19) ** 2 + (xs - 25) ** 2 < 64).float()
        options = RandomGeometry(flip=0.5, rotation_deg=30, padding=2, scale=(0.7, 1.4), crop=(36, 44))
        rng = np.random.default_rng(0)
        distances = []
        for _ in range(150):
            geometry = options.sample(rng, (40, 50))
            picture = geometry(disc[None])[0]
            mask = geometry.mask(disc.long(), fill=0)
            assert picture.shape == mask.shape == (36, 44)
            assert mask.dtype == torch.long
            bright, labelled = picture > 0.5, mask == 1
            assert (bright & labelled).sum() > 0.85 * (bright | labelled).sum()
            distances.append(bright.nonzero().float().mean(0) - labelled.nonzero().float().mean(0))
        assert torch.stack(distances).mean(0).abs().max() < 0.06  # pixels

    def test_one_call_moves_sequences_and_pictures_alike(self) -> None:
        geometry = Geometry(size=(20, 20), flip=True, scale=1.2, angle_deg=10, top=1, left=3)
        picture = torch.rand(3, 24, 24)
        sequence = picture.expand(4, 3, 24, 24)
        torch.testing.assert_close(geometry(sequence)[2], geometry(picture))

    def test_quarter_turn_is_torchs(self) -> None:
        grid = torch.rand(2, 8, 8)
        turned = Geometry(size=(8, 8), angle_deg=90)(grid)
        torch.testing.assert_close(turned, torch.rot90(grid, 1, (-2, -1)), atol=1e-5, rtol=1e-5)

    def test_outside_of_a_mask_is_void(self) -> None:
        mask = torch.zeros(3, 3, dtype=torch.uint8)
        moved = Geometry(size=(3, 3), top=-1)(mask[None])[0], Geometry(size=(3, 3), top=-1).mask(mask)
        assert moved[0][0].tolist() == [0, 0, 0]
        assert moved[1].tolist() == [[255] * 3, [0] * 3, [0] * 3]

    def test_rotated_events_are_refused(self, random_stream: EventStream) -> None:
        with pytest.raises(ValueError, match="Make the representation first"):
            Geometry(size=(30, 40), angle_deg=3).stream(random_stream)

    def test_nothing_drawn_is_nothing_done(self, random_stream: EventStream) -> None:
        geometry = RandomGeometry().sample(np.random.default_rng(0), (30, 40))
        assert geometry == Geometry(size=(30, 40))
        assert geometry.stream(random_stream) == random_stream

    @settings(max_examples=50, deadline=None)
    @given(seed=seeds)
    def test_draws_stay_within_the_options_and_repeat(self, seed: int) -> None:
        options = RandomGeometry(flip=0.5, rotation_deg=15, padding=4)
        drawn = options.sample(np.random.default_rng(seed), (48, 48))
        assert drawn == options.sample(np.random.default_rng(seed), (48, 48))
        assert max(abs(drawn.top), abs(drawn.left)) <= 4
        assert abs(drawn.angle_deg) <= 15
        assert drawn.scale == 1

    def test_all_shifts_of_a_padded_crop_occur_evenly(self) -> None:
        rng = np.random.default_rng(0)
        tops = [RandomGeometry(padding=4).sample(rng, (28, 28)).top for _ in range(4500)]
        counts = np.bincount(np.array(tops) + 4, minlength=9)
        assert ((counts - 500) ** 2 / 500).sum() < 26.1  # chi-square, 8 degrees of freedom, p = 0.001

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"flip": 1.5}, "probability"),
            ({"padding": -1}, "0 or more"),
            ({"rotation_deg": -1}, "0 or more"),
            ({"scale": (0, 1)}, "both positive"),
            ({"scale": (2, 1)}, "both positive"),
        ],
    )
    def test_bad_options(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            RandomGeometry(**options)  # type: ignore[arg-type]


def multiset(stream: EventStream) -> list[tuple[int, ...]]:
    columns = (stream.t.tolist(), stream.x.tolist(), stream.y.tolist(), stream.p.tolist())
    return sorted(zip(*columns, strict=True))


class TestEvents:
    @settings(max_examples=60, deadline=None)
    @given(stream=streams(), seed=seeds)
    def test_results_are_valid_streams_and_repeat(self, stream: EventStream, seed: int) -> None:
        every = RandomEvents(
            drop=0.3,
            drop_area=0.3,
            drop_time=0.3,
            jitter_us=20,
            jitter_px=1,
            flip_polarity=0.5,
            flip_time=0.5,
        )
        before = multiset(stream)
        result = every(stream, np.random.default_rng(seed))
        assert result == every(stream, np.random.default_rng(seed))
        assert multiset(stream) == before
        checked = EventStream.from_columns(
            result.t, result.x, result.y, result.p, sensor_size=stream.sensor_size
        )
        assert checked == result
        assert [column.dtype for column in (result.t, result.x, result.p)] == [np.int64, np.uint16, np.bool_]

    @settings(max_examples=40, deadline=None)
    @given(stream=streams(), seed=seeds, share=st.floats(0, 1))
    def test_drops_keep_a_subset(self, stream: EventStream, seed: int, share: float) -> None:
        for drop in (augment.drop_events, augment.drop_area, augment.drop_time):
            kept = drop(stream, share, np.random.default_rng(seed))
            assert not set(multiset(kept)) - set(multiset(stream))
            assert drop(stream, 0.0, np.random.default_rng(seed)) == stream
            assert len(drop(stream, 1.0, np.random.default_rng(seed))) == 0

    def test_drops_take_their_share(self) -> None:
        rng = np.random.default_rng(0)
        n = 40_000
        stream = EventStream.from_columns(
            np.arange(n),
            rng.integers(0, 100, n),
            rng.integers(0, 100, n),
            rng.random(n) < 0.5,
            sensor_size=(100, 100),
        )
        for drop in (augment.drop_events, augment.drop_area, augment.drop_time):
            assert len(drop(stream, 0.25, rng)) == pytest.approx(0.75 * n, rel=0.02)

    @settings(max_examples=40, deadline=None)
    @given(stream=streams(), steps=st.integers(1, 5))
    def test_backward_frames(self, stream: EventStream, steps: int) -> None:
        """By time, T frames of the reversed scene are the frames backwards with the polarities exchanged."""
        if stream.duration_us % steps:  # bins must be mirror images of each other
            return
        window = (int(stream.t[0]), int(stream.t[-1]) + 1) if len(stream) else (0, 1)
        if (window[1] - window[0]) % steps:
            return
        there = Frames(steps=steps)(stream, window_us=window)
        back = Frames(steps=steps)(reverse_time(stream), window_us=window)
        torch.testing.assert_close(back, there.flip(0, 1), rtol=0, atol=0)

    def test_jitter_has_its_deviation(self) -> None:
        n = 20_000
        stream = EventStream.from_columns(
            np.arange(n) * 10**6, [50] * n, [50] * n, [1] * n, sensor_size=(100, 100)
        )
        rng = np.random.default_rng(0)
        late = augment.jitter_time(stream, 100, rng).t - stream.t
        assert late.std() == pytest.approx(100, rel=0.02)
        assert augment.jitter_position(stream, 3, rng).x.std() == pytest.approx(3, rel=0.02)

    def test_jitter_never_leaves_the_sensor(self, random_stream: EventStream) -> None:
        moved = augment.jitter_position(random_stream, 30, np.random.default_rng(0))
        assert 0 < len(moved) < len(random_stream)
        assert moved.x.max() < 40
        assert moved.y.max() < 30

    def test_nothing_is_on_by_default(self, random_stream: EventStream) -> None:
        assert RandomEvents()(random_stream, np.random.default_rng(0)) == random_stream

    @pytest.mark.parametrize("field", [item.name for item in dataclasses.fields(RandomEvents)])
    def test_every_option_does_something_and_refuses_nonsense(
        self, field: str, random_stream: EventStream
    ) -> None:
        changed = RandomEvents(**{field: 1.0})(random_stream, np.random.default_rng(0))
        assert changed != random_stream
        with pytest.raises(ConfigError, match=field):
            RandomEvents(**{field: -0.1})

    def test_share_out_of_range(self, random_stream: EventStream) -> None:
        with pytest.raises(ConfigError, match="`share` in"):
            augment.drop_events(random_stream, 1.2, np.random.default_rng(0))


def test_hot_pixels_fire_at_their_rate_and_nowhere_else(random_stream):
    rng = np.random.default_rng(0)
    dirty = add_hot_pixels(random_stream, 3, 2000, rng)
    added = event_counts(dirty) - event_counts(random_stream)
    assert (added >= 0).all()
    assert np.count_nonzero(added) == 3
    assert added[added > 0] == pytest.approx(200, abs=60)  # 2 000 Hz for 0.1 s
    assert (np.diff(dirty.t) >= 0).all()
    assert add_hot_pixels(random_stream, 0, 2000, rng) == random_stream
    silence = EventStream.empty((30, 40))
    assert add_hot_pixels(silence, 3, 2000, rng) is silence
    with pytest.raises(ConfigError, match=r"in \[0, 1200\], but got 1201"):
        add_hot_pixels(random_stream, 1201, 2000, rng)


def test_scaled_time_keeps_the_first_event_and_goes_back(random_stream):
    slow = scale_time(random_stream, 2)
    assert slow.t[0] == random_stream.t[0]
    assert slow.duration_us == 2 * random_stream.duration_us
    assert scale_time(slow, 0.5) == random_stream
    assert len(scale_time(EventStream.empty((3, 4)), 2)) == 0
    for factor in (0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="positive"):
            scale_time(random_stream, factor)


def test_a_share_of_polarities_flips(random_stream):
    rng = np.random.default_rng(0)
    assert flip_polarities(random_stream, 0, rng) == random_stream
    assert flip_polarities(random_stream, 1, rng) == flip_polarity(random_stream)
    flipped = flip_polarities(random_stream, 0.3, rng)
    assert np.mean(flipped.p != random_stream.p) == pytest.approx(0.3, abs=0.02)
