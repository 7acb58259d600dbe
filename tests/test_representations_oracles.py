"""Each representation against a slow loop in float64, and gradients of the torch route."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evlift.events import EventStream
from evlift.representations import (
    EvSegNet,
    Frames,
    Histogram,
    Picture,
    StackedHistogram,
    TimeSurface,
    Voxel,
    render,
    voxel_grid,
)
from stream_strategies import streams, tensors

Rows = list[tuple[int, int, int, bool]]


def rows(stream: EventStream) -> Rows:
    columns = (stream.t.tolist(), stream.x.tolist(), stream.y.tolist(), stream.p.tolist())
    return list(zip(*columns, strict=True))


def e2vid_loop(stream: EventStream, bins: int) -> NDArray[np.float64]:
    """Rebecq et al., CVPR 2019, equation 2: weight max(0, 1 - |bin - t*|), t* = (B - 1)(t - t0)/(tN - t0)."""
    grid = np.zeros((bins, *stream.sensor_size))
    events = rows(stream)
    span = max(events[-1][0] - events[0][0], 1) if events else 1
    for t, x, y, p in events:
        position = (bins - 1) * (t - events[0][0]) / span
        for b in range(bins):
            grid[b, y, x] += (1 if p else -1) * max(0.0, 1 - abs(b - position))
    return grid


def tonic_loop(stream: EventStream, bins: int) -> NDArray[np.float64]:
    """What Tonic documents for to_voxel_grid, in a loop: scale B, shares beyond the last bin are lost."""
    grid = np.zeros((bins, *stream.sensor_size))
    events = rows(stream)
    span = max(events[-1][0] - events[0][0], 1) if events else 1
    for t, x, y, p in events:
        position = bins * (t - events[0][0]) / span
        b = int(position)
        for plane, share in ((b, 1 - (position - b)), (b + 1, position - b)):
            if plane < bins:
                grid[plane, y, x] += share if p else -share
    return grid


class TestVoxel:
    @settings(max_examples=40, deadline=None)
    @given(stream=streams(), bins=st.integers(1, 12))
    def test_e2vid_is_the_papers_equation(self, stream: EventStream, bins: int) -> None:
        np.testing.assert_allclose(Voxel(bins=bins)(stream), e2vid_loop(stream, bins), atol=1e-5)

    @settings(max_examples=40, deadline=None)
    @given(stream=streams(), bins=st.integers(1, 12))
    def test_tonic_is_tonics(self, stream: EventStream, bins: int) -> None:
        grid = Voxel(bins=bins, convention="tonic")(stream)
        np.testing.assert_allclose(grid, tonic_loop(stream, bins), atol=1e-5)

    def test_tonic_as_recorded_from_tonic_itself(self) -> None:
        """to_voxel_grid of Tonic 1.7.0 on these events, recorded: sensor 2x1, three bins, polarity 0/1."""
        stream = EventStream.from_columns(
            [0, 10, 20, 30, 40], [0, 1, 0, 1, 0], [0] * 5, [1, 0, 1, 1, 0], sensor_size=(1, 2)
        )
        recorded = [[[1.0, -0.25]], [[0.5, -0.75]], [[0.5, 0.75]]]
        np.testing.assert_allclose(Voxel(bins=3, convention="tonic")(stream), recorded, atol=1e-6)

    @settings(max_examples=30, deadline=None)
    @given(stream=streams(), bins=st.integers(1, 9))
    def test_hard_is_the_signed_stacked_histogram(self, stream: EventStream, bins: int) -> None:
        off, on = StackedHistogram(bins=bins)(stream).chunk(2)
        torch.testing.assert_close(Voxel(bins=bins, convention="hard")(stream), on - off)

    @settings(max_examples=30, deadline=None)
    @given(stream=streams(), bins=st.integers(1, 9), convention=st.sampled_from(["e2vid", "tonic", "hard"]))
    def test_signed_is_on_minus_off(self, stream: EventStream, bins: int, convention: Any) -> None:
        off, on = Voxel(bins=bins, convention=convention, split=True)(stream).chunk(2)
        signed = Voxel(bins=bins, convention=convention)(stream)
        torch.testing.assert_close(signed, on - off, atol=1e-5, rtol=1e-5)

    @settings(max_examples=30, deadline=None)
    @given(stream=streams(), bins=st.integers(1, 9))
    def test_every_event_weighs_one(self, stream: EventStream, bins: int) -> None:
        grid = Voxel(bins=bins, split=True)(stream)
        torch.testing.assert_close(
            grid.reshape(2, bins, *stream.sensor_size).sum(1), Histogram()(stream), atol=1e-4, rtol=1e-5
        )

    def test_off_events_are_negative(self) -> None:
        stream = EventStream.from_columns([0, 9], [0, 1], [0, 0], [False, True], sensor_size=(1, 2))
        np.testing.assert_array_equal(Voxel(bins=2)(stream), [[[-1, 0]], [[0, 1]]])

    def test_a_minute_of_absolute_time_stamps_keeps_its_microseconds(self) -> None:
        times = 10**15 + np.array([0, 1, 2, 3, 4])
        stream = EventStream.from_columns(times, [0] * 5, [0] * 5, [1] * 5, sensor_size=(1, 1))
        np.testing.assert_allclose(Voxel(bins=5)(stream).ravel(), 1)


class TestCounts:
    @settings(max_examples=40, deadline=None)
    @given(stream=streams())
    def test_histogram_is_a_loop(self, stream: EventStream) -> None:
        expected = np.zeros((2, *stream.sensor_size))
        for _, x, y, p in rows(stream):
            expected[int(p), y, x] += 1
        np.testing.assert_array_equal(Histogram()(stream), expected)

    @settings(max_examples=40, deadline=None)
    @given(stream=streams(), steps=st.integers(1, 12))
    def test_frames_by_time_are_a_loop(self, stream: EventStream, steps: int) -> None:
        expected = np.zeros((steps, 2, *stream.sensor_size))
        span = stream.duration_us + 1
        for t, x, y, p in rows(stream):
            expected[(t - int(stream.t[0])) * steps // span, int(p), y, x] += 1
        np.testing.assert_array_equal(Frames(steps=steps)(stream), expected)

    @settings(max_examples=40, deadline=None)
    @given(stream=streams(), steps=st.integers(1, 12), by=st.sampled_from(["time", "count"]))
    def test_frames_sum_to_the_histogram(self, stream: EventStream, steps: int, by: Any) -> None:
        torch.testing.assert_close(Frames(steps=steps, by=by)(stream).sum(0), Histogram()(stream))

    @settings(max_examples=40, deadline=None)
    @given(stream=streams(), steps=st.integers(1, 12))
    def test_frames_by_count_are_even(self, stream: EventStream, steps: int) -> None:
        sums = Frames(steps=steps, by="count")(stream).sum((1, 2, 3))
        assert sums.max() - sums.min() <= 1
        assert sums.sum() == len(stream)

    def test_stacked_histogram_has_the_polarity_outside(self, random_stream: EventStream) -> None:
        frames = Frames(steps=4)(random_stream)  # [T, 2, H, W]
        stacked = StackedHistogram(bins=4)(random_stream)  # [2·T, H, W]
        torch.testing.assert_close(stacked.reshape(2, 4, 30, 40), frames.transpose(0, 1))

    def test_crop_is_the_bounding_box(self) -> None:
        stream = EventStream.from_columns([0, 1, 2], [3, 5, 4], [2, 2, 3], [1, 1, 0], sensor_size=(20, 30))
        grid = Frames(steps=1, size=(2, 3), crop_to_events=True)(stream)  # the box itself: no resampling
        np.testing.assert_array_equal(grid[0], [[[0, 0, 0], [0, 1, 0]], [[1, 0, 1], [0, 0, 0]]])

    def test_resize_is_torchvisions(self, random_stream: EventStream) -> None:
        from torchvision.transforms.v2 import functional as transforms

        expected = transforms.resize(Frames()(random_stream), [12, 17], antialias=True)
        torch.testing.assert_close(Frames(size=(12, 17))(random_stream), expected)


class TestTimes:
    @settings(max_examples=40, deadline=None)
    @given(stream=streams(), tau=st.sampled_from([10.0, 1e4, 1e6]))
    def test_time_surface_is_a_loop(self, stream: EventStream, tau: float) -> None:
        expected = np.zeros((2, *stream.sensor_size))
        for t, x, y, p in rows(stream):
            expected[int(p), y, x] = math.exp((t - int(stream.t[-1])) / tau)
        np.testing.assert_allclose(TimeSurface(tau_us=tau)(stream), expected, atol=1e-6)

    @settings(max_examples=40, deadline=None)
    @given(stream=streams())
    def test_evsegnet_is_numpys_mean_and_deviation(self, stream: EventStream) -> None:
        expected = np.zeros((6, *stream.sensor_size))
        times: dict[tuple[int, int, int], list[float]] = {}
        for t, x, y, p in rows(stream):
            scaled = (t - int(stream.t[0])) / max(stream.duration_us, 1)
            times.setdefault((int(p), y, x), []).append(scaled)
        for (p, y, x), seen in times.items():
            deviation = np.std(seen, ddof=1) if len(seen) > 1 else 0
            expected[[p, 2 + p, 4 + p], y, x] = len(seen), np.mean(seen), deviation
        np.testing.assert_allclose(EvSegNet()(stream), expected, atol=1e-5)

    def test_deviation_survives_a_late_burst(self) -> None:
        """Plain sums of squares in float32 would cancel: times 0.999 to 1 of a second, deviation 1 µs."""
        times = np.concatenate([[0], 999_999 + np.tile([0, 2], 500)])
        times.sort()
        places = np.where(times == 0, 1, 0)
        stream = EventStream.from_columns(times, places, 0 * places, 1 + 0 * places, sensor_size=(1, 2))
        deviation = EvSegNet()(stream)[5, 0, 0]
        assert float(deviation) == pytest.approx(1e-6, rel=0.1)


class TestPicture:
    def test_colours(self) -> None:
        stream = EventStream.from_columns([0, 1], [0, 1], [0, 0], [0, 1], sensor_size=(1, 3))
        picture = render(stream)
        assert picture.dtype == np.uint8
        off, on, nothing = picture[0].astype(int)
        assert off[0] > off[2]  # vermilion
        assert on[2] > on[0]  # blue
        assert nothing.tolist() == [255, 255, 255]
        assert render(stream, background="dark")[0, 2].tolist() == [16, 16, 16]
        np.testing.assert_allclose(Picture()(stream).permute(1, 2, 0) * 255, picture, atol=1e-4)


class TestGradients:
    @pytest.mark.parametrize("convention", ["e2vid", "tonic", "hard"])
    @pytest.mark.parametrize("split", [False, True])
    def test_voxel_grid_by_finite_differences(self, convention: Any, split: bool) -> None:
        rng = np.random.default_rng(0)
        t = torch.from_numpy(np.sort(rng.uniform(0, 99, 12)))
        t[0], t[-1] = 0.5, 98.5
        x, y, p = (torch.from_numpy(rng.integers(0, high, 12)) for high in (3, 2, 2))
        weights = torch.from_numpy(rng.uniform(0.5, 2, 12))

        def grid(times: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            return voxel_grid(
                (times, x, y, p),
                sensor_size=(2, 3),
                window=(0, 100),
                bins=4,
                convention=convention,
                split=split,
                weights=values,
            )

        torch.autograd.gradcheck(grid, (t.requires_grad_(convention != "hard"), weights.requires_grad_()))

    def test_weights_scale_what_an_event_counts(self, random_stream: EventStream) -> None:
        weights = torch.full((len(random_stream),), 0.5, requires_grad=True)
        for rep in (Histogram(), Frames(steps=3, size=(9, 9)), StackedHistogram(bins=2), Voxel(bins=3)):
            grid = rep.from_tensors(*tensors(random_stream), sensor_size=(30, 40), weights=weights)
            torch.testing.assert_close(grid, 0.5 * rep(random_stream), atol=1e-5, rtol=1e-5)
            (gradient,) = torch.autograd.grad(grid.square().sum(), weights)
            assert gradient.abs().max() > 0

    def test_mean_time_has_gradients(self) -> None:
        t = torch.tensor([0.0, 50.0, 100.0], requires_grad=True)
        zero = torch.zeros(3, dtype=torch.long)
        channels = EvSegNet().from_tensors(t, zero, zero, zero, sensor_size=(1, 1), window_us=(0, 101))
        channels[2].sum().backward()
        np.testing.assert_allclose(t.grad, [1 / 300] * 3, rtol=1e-5)

    def test_time_surface_has_gradients_of_the_newest_times(self) -> None:
        t = torch.tensor([0.0, 50.0, 90.0], requires_grad=True)
        zero = torch.zeros(3, dtype=torch.long)
        surface = TimeSurface(tau_us=10).from_tensors(
            t, zero, zero, zero, sensor_size=(1, 1), window_us=(0, 101)
        )
        surface.sum().backward()
        np.testing.assert_allclose(t.grad, [0, 0, math.exp(-1) / 10], rtol=1e-5)


def test_many_chunks_agree() -> None:
    rng = np.random.default_rng(0)
    n = 300_000
    times = np.sort(rng.integers(0, 10**6, n))
    stream = EventStream.from_columns(
        times, *rng.integers(0, 9, (2, n)), rng.random(n) < 0.5, sensor_size=(9, 9)
    )
    for rep in (Histogram(), Frames(steps=7, by="count"), Frames(), Voxel(split=True), EvSegNet()):
        grid = rep.from_tensors(*tensors(stream), sensor_size=(9, 9))
        torch.testing.assert_close(grid, rep(stream), atol=1e-3, rtol=1e-4)


def test_real_recording_counts(data_root: Any) -> None:
    """An N-MNIST recording in ten frames keeps every one of its events."""
    raw = np.fromfile(data_root / "recordings" / "bin_nmnist.bin", np.uint8).reshape(-1, 5).astype(np.int64)
    times = ((raw[:, 2] & 127) << 16) | (raw[:, 3] << 8) | raw[:, 4]
    stream = EventStream.from_columns(times, raw[:, 0], raw[:, 1], raw[:, 2] >> 7, sensor_size=(34, 34))
    assert len(stream) == 4325
    assert Frames(steps=10)(stream).sum() == 4325
    assert Frames(steps=10, size=(28, 28))(stream).shape == (10, 2, 28, 28)
