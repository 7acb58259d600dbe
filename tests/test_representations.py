"""Laws that hold for every registered representation: a new one is tested by being there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.representations import (
    REPRESENTATIONS,
    Frames,
    Representation,
    Voxel,
    create_representation,
    fit_scale,
    warm_up,
)
from stream_strategies import FAR, streams, tensors

VARIANTS: list[Representation] = [create_representation(name) for name in REPRESENTATIONS] + [
    *(
        Voxel(bins=bins, convention=convention, split=split)  # type: ignore[arg-type]
        for bins in (1, 2, 7)
        for convention in ("e2vid", "tonic", "hard")
        for split in (False, True)
    ),
    Frames(steps=3, by="count"),
    Frames(steps=4, size=(5, 6), crop_to_events=True),
    Frames(steps=1, size=(40, 7)),
]
every = pytest.mark.parametrize("rep", VARIANTS, ids=lambda rep: rep.cache_key())


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    warm_up()


def mirrored(stream: EventStream) -> EventStream:
    x = (stream.sensor_size[1] - 1 - stream.x.astype(np.int64)).astype(np.uint16)
    return EventStream(stream.t, x, stream.y, stream.p, stream.sensor_size)


@every
class TestEveryRepresentation:
    @settings(max_examples=15, deadline=None)
    @given(stream=streams())
    def test_shape_is_declared_and_values_are_finite(self, rep: Representation, stream: EventStream) -> None:
        grid = rep(stream)
        assert tuple(grid.shape) == rep.shape(stream.sensor_size)
        assert grid.dtype == rep.dtype == torch.float32
        assert grid.shape[-3] == rep.channels
        assert rep.steps == (grid.shape[0] if grid.ndim == 4 else None)
        assert grid.isfinite().all()

    @settings(max_examples=25, deadline=None)
    @given(stream=streams())
    def test_compiled_and_torch_routes_agree(self, rep: Representation, stream: EventStream) -> None:
        grid = rep(stream)
        torch.testing.assert_close(
            rep.from_tensors(*tensors(stream), sensor_size=stream.sensor_size), grid, atol=1e-5, rtol=1e-5
        )

    @settings(max_examples=15, deadline=None)
    @given(stream=streams(), start=st.integers(-5, 1000), length=st.integers(1, 2000))
    def test_window_is_half_open_and_equal_on_both_routes(
        self, rep: Representation, stream: EventStream, start: int, length: int
    ) -> None:
        start += int(stream.t[0]) if len(stream) else 0
        window = (start, start + length)
        grid = rep(stream, window_us=window)
        torch.testing.assert_close(grid, rep(stream.between(*window), window_us=window))
        other = rep.from_tensors(*tensors(stream), sensor_size=stream.sensor_size, window_us=window)
        torch.testing.assert_close(other, grid, atol=1e-5, rtol=1e-5)

    @settings(max_examples=15, deadline=None)
    @given(stream=streams())
    def test_mirroring_events_mirrors_the_grid(self, rep: Representation, stream: EventStream) -> None:
        torch.testing.assert_close(rep(mirrored(stream)), rep(stream).flip(-1), atol=1e-5, rtol=1e-5)

    @settings(max_examples=10, deadline=None)
    @given(stream=streams(), later=st.integers(1, FAR))
    def test_only_relative_time_counts(self, rep: Representation, stream: EventStream, later: int) -> None:
        moved = EventStream(stream.t + later, stream.x, stream.y, stream.p, stream.sensor_size)
        torch.testing.assert_close(rep(moved), rep(stream), atol=1e-5, rtol=1e-5)

    def test_out_is_overwritten_and_returned(self, rep: Representation, random_stream: EventStream) -> None:
        batch = torch.full((2, *rep.shape(random_stream.sensor_size)), 7.0)
        assert rep(random_stream, out=batch[1]).data_ptr() == batch[1].data_ptr()
        torch.testing.assert_close(batch[1], rep(random_stream), rtol=0, atol=0)
        assert (batch[0] == 7).all()

    def test_out_of_another_memory_layout(self, rep: Representation, random_stream: EventStream) -> None:
        shape = rep.shape(random_stream.sensor_size)
        out = torch.empty(shape[::-1]).permute(*reversed(range(len(shape))))
        torch.testing.assert_close(rep(random_stream, out=out), rep(random_stream), rtol=0, atol=0)

    def test_normalisations_together_with_out(self, rep: Representation, random_stream: EventStream) -> None:
        if rep.kind == "picture":
            with pytest.raises(ConfigError, match="for a picture"):
                dataclasses.replace(rep, normalise="max")
            return
        scaled = dataclasses.replace(rep, normalise="max")
        out = torch.empty(scaled.shape(random_stream.sensor_size))
        assert scaled(random_stream, out=out) is out
        assert out.abs().max() == 1
        torch.testing.assert_close(out, rep(random_stream) / rep(random_stream).abs().max())

    def test_wrong_out_is_refused(self, rep: Representation, random_stream: EventStream) -> None:
        with pytest.raises(ValueError, match="Expected `out` to be float32"):
            rep(random_stream, out=torch.zeros(3))

    def test_the_callers_arrays_are_untouched(self, rep: Representation) -> None:
        rng = np.random.default_rng(1)
        columns = [np.sort(rng.integers(0, 99, 50)), *rng.integers(0, 4, (2, 50)).astype(np.uint16)]
        columns.append(rng.random(50) < 0.5)
        before = [column.copy() for column in columns]
        rep(EventStream(*columns, sensor_size=(4, 4)))
        assert all(column.flags.writeable for column in columns)
        for column, copy in zip(columns, before, strict=True):
            np.testing.assert_array_equal(column, copy)

    def test_strided_columns_are_read_rightly(self, rep: Representation, random_stream: EventStream) -> None:
        thinned = random_stream[::2]
        packed = EventStream.from_columns(
            thinned.t, thinned.x, thinned.y, thinned.p, sensor_size=thinned.sensor_size
        )
        torch.testing.assert_close(rep(thinned), rep(packed), rtol=0, atol=0)

    def test_empty_stream_is_zero_or_background(self, rep: Representation) -> None:
        grid = rep(EventStream.empty((6, 8)))
        assert tuple(grid.shape) == rep.shape((6, 8))
        assert (grid == (1.0 if rep.kind == "picture" else 0.0)).all()

    def test_resizing_happens_last_and_keeps_the_mean(
        self, rep: Representation, random_stream: EventStream
    ) -> None:
        # the random stream touches all borders, so that a crop to its events cuts nothing
        uncut = {"crop_to_events": False} if isinstance(rep, Frames) else {}
        half = dataclasses.replace(rep, size=(15, 20))
        plain = dataclasses.replace(rep, size=None, **uncut)
        assert half.shape(random_stream.sensor_size)[-2:] == (15, 20)
        # away from the border, where the filter is cut, halving keeps local means
        small, large = half(random_stream)[..., 2:-2, 2:-2], plain(random_stream)[..., 4:-4, 4:-4]
        torch.testing.assert_close(small.mean(), large.mean(), atol=0.02 * float(large.abs().max()), rtol=0.1)

    def test_keys_tell_recipes_apart(self, rep: Representation) -> None:
        keys = {other.cache_key() for other in VARIANTS}
        assert len(keys) == len(set(VARIANTS))
        assert rep.cache_key() == dataclasses.replace(rep).cache_key()
        assert rep.cache_key() != dataclasses.replace(rep, size=(3, 3)).cache_key()

    def test_recipe_is_frozen(self, rep: Representation) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            rep.size = (1, 1)  # type: ignore[misc]


class TestNormalisation:
    def test_max_bounds_by_one_and_keeps_signs(self, random_stream: EventStream) -> None:
        raw, scaled = Voxel()(random_stream), Voxel(normalise="max")(random_stream)
        torch.testing.assert_close(scaled, raw / raw.abs().max())

    def test_p999_clips_the_hot_pixel(self) -> None:
        rng = np.random.default_rng(0)
        n = 20_000
        columns = [np.arange(n), rng.integers(0, 64, n), rng.integers(0, 64, n), np.ones(n, bool)]
        columns[1][:900], columns[2][:900] = 3, 5
        stream = EventStream.from_columns(*columns, sensor_size=(64, 64))
        rep = create_representation("histogram", normalise="p99.9")
        raw, grid = create_representation("histogram")(stream), rep(stream)
        oracle = np.quantile(raw[raw > 0].numpy(), 0.999, method="inverted_cdf")
        torch.testing.assert_close(grid, (raw / oracle).clamp(max=1))
        assert grid[1, 5, 3] == 1

    def test_log1p_matches_numpy_with_signs(self, random_stream: EventStream) -> None:
        raw = Voxel()(random_stream).numpy()
        expected = np.sign(raw) * np.log1p(np.abs(raw))
        np.testing.assert_allclose(Voxel(normalise="log1p")(random_stream), expected, rtol=1e-6)

    def test_fitted_scale_is_the_quantile_over_the_data_set(self) -> None:
        rng = np.random.default_rng(0)
        made = [
            EventStream.from_columns(
                np.arange(n),
                rng.integers(0, 5, n),
                rng.integers(0, 5, n),
                rng.random(n) < 0.5,
                sensor_size=(5, 5),
            )
            for n in (0, 10, 400, 3000)
        ]
        raw = Frames(steps=2, normalise="max")  # its own normalisation must not matter
        values = np.concatenate([Frames(steps=2)(stream).numpy().ravel() for stream in made])
        scale = fit_scale(raw, made, q=0.9)
        assert scale == np.quantile(values[values > 0], 0.9, method="inverted_cdf")
        rep = dataclasses.replace(raw, normalise="quantile", scale=scale)
        grid = rep(made[-1])
        assert grid.max() == 1
        torch.testing.assert_close(grid, (Frames(steps=2)(made[-1]) / scale).clamp(max=1))

    def test_fit_on_nothing_is_one(self) -> None:
        assert fit_scale(Frames(), []) == fit_scale(Frames(), [EventStream.empty((2, 2))]) == 1.0


class TestMistakes:
    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("frames", {"steps": 0}, "`steps` to be at least 1, but got 0"),
            ("frames", {"by": "tme"}, "one of time, count, but got 'tme'"),
            ("frames", {"crop_to_events": True}, "Expected a `size`"),
            ("frames", {"normalise": "quantile"}, "fit_scale"),
            ("frames", {"scale": 2.0}, "exactly with normalise='quantile'"),
            ("frames", {"normalise": "quantile", "scale": 0.0}, "positive"),
            ("frames", {"normalise": "maximum"}, "none, max, p99.9, log1p, quantile"),
            ("frames", {"size": (0, 3)}, "positive sides"),
            ("frames", {"step": 3}, "Unknown option of representation 'frames': step"),
            ("voxel", {"convention": "rvt"}, "e2vid, tonic, hard"),
            ("voxel", {"bins": 0}, "`bins`"),
            ("time-surface", {"tau_us": 0}, "`tau_us`"),
            ("picture", {"normalise": "max"}, "for a picture"),
            ("picture", {"background": "pink"}, "one of light, dark, but got 'pink'"),
            ("voxels", {}, "Did you mean 'voxel'"),
        ],
    )
    def test_message_names_the_remedy(self, name: str, options: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
            create_representation(name, **options)

    def test_backward_window(self, random_stream: EventStream) -> None:
        with pytest.raises(ValueError, match="start < stop"):
            Frames()(random_stream, window_us=(5, 5))

    def test_unsorted_tensors(self) -> None:
        zero = torch.zeros(2, dtype=torch.long)
        with pytest.raises(ValueError, match="non-decreasing"):
            Frames().from_tensors(torch.tensor([2, 1]), zero, zero, zero, sensor_size=(1, 1))

    @pytest.mark.parametrize("name", ["time-surface", "evsegnet"])
    def test_weights_where_there_is_no_sum(self, name: str, random_stream: EventStream) -> None:
        with pytest.raises(ValueError, match="no `weights`"):
            create_representation(name).from_tensors(
                *tensors(random_stream), sensor_size=(30, 40), weights=torch.ones(len(random_stream))
            )

    def test_lists_from_a_recipe_become_tuples(self) -> None:
        assert create_representation("frames", size=[28, 28]) == Frames(size=(28, 28))
