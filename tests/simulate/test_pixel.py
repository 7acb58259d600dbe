"""The simulator's laws: analytic ramps, carried contrast, order, and likeness to real recordings."""

from __future__ import annotations

import gzip
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.simulate import MOTIONS, PixelState, Saccades, add_noise, log_intensity, simulate_frames

FITTED = Saccades(
    motion="nmnist",
    amplitude_px=(5.6, 5.6),
    threshold=(0.4, 0.4),
    imbalance=0.0,
    mismatch=0.0,
    refractory_us=(0.0, 0.0),
    black=(0.05, 0.05),
    gamma=(1.7, 1.7),
    blur_px=(0.4, 0.4),
    noise_hz=(0.4, 0.4),
    rotation_deg=0.0,
    scale=(1.0, 1.0),
    shear=0.0,
)


def ramp(rate_per_us: float, times: np.ndarray, size: tuple[int, int] = (2, 3)) -> np.ndarray:
    return (rate_per_us * times)[:, None, None] * np.ones(size)


def loop_oracle(
    frames: np.ndarray, times: np.ndarray, on: np.ndarray, off: np.ndarray, refractory: float
) -> list[tuple[int, int, int, bool]]:
    """The model pixel by pixel in float64, without any of the kernel's short cuts."""
    events = []
    _, height, width = frames.shape
    for y in range(height):
        for x in range(width):
            trace = frames[:, y, x].astype(np.float64)
            reference, now = trace[0], float(times[0])
            while True:
                later = [(now, np.interp(now, times, trace))]
                later += [(float(t), v) for t, v in zip(times, trace, strict=True) if t > now]
                fired = None
                for (t0, a), (t1, b) in itertools.pairwise(later):
                    if b - reference >= on[y, x]:
                        target, up = reference + on[y, x], True
                    elif b - reference <= -off[y, x]:
                        target, up = reference - off[y, x], False
                    else:
                        continue
                    fired = (t0 + (target - a) / (b - a) * (t1 - t0) if b != a else t0, target, up)
                    break
                if fired is None:
                    break
                now, reference, up = fired
                events.append((int(now), y, x, up))
                if refractory > 0:
                    now += refractory
                    if now > times[-1]:
                        break
                    reference = np.interp(now, times, trace)
    return sorted(events)


@pytest.mark.parametrize("frames_per_threshold", [0.3, 2.0, 40.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_log_ramp_fires_at_the_analytic_times(frames_per_threshold: float, sign: int) -> None:
    step, threshold = 1000, 0.25
    times = np.arange(0, 100_001, step)
    rate = threshold / (frames_per_threshold * step)
    events, _ = simulate_frames(
        ramp(sign * rate, times), times, threshold_on=threshold, threshold_off=threshold
    )
    expected = np.arange(1, 1 + int(rate * times[-1] / threshold + 1e-6)) * threshold / rate
    for pixel in range(6):
        mine = events[(events.y == pixel // 3) & (events.x == pixel % 3)]
        assert abs(len(mine) - len(expected)) <= 1  # the last crossing may fall on the last frame
        n = min(len(mine), len(expected))
        np.testing.assert_allclose(mine.t[:n], expected[:n], atol=3)
        assert (mine.p == (sign > 0)).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), refractory=st.sampled_from([0.0, 700.0, 30_000.0]))
def test_random_frames_agree_with_the_loop(seed: int, refractory: float) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 20_000, 8))
    frames = np.cumsum(rng.normal(0, 0.4, (8, 5, 31)), axis=0).astype(np.float32)
    on, off = rng.uniform(0.1, 0.5, (2, 5, 31)).astype(np.float32)
    events, _ = simulate_frames(frames, times, threshold_on=on, threshold_off=off, refractory_us=refractory)
    expected = loop_oracle(frames, times, on, off, refractory)
    got = sorted(zip(events.t, events.y, events.x, events.p, strict=True))
    # float32 may decide a crossing at a frame's very value otherwise: a handful of events out of thousands.
    assert abs(len(got) - len(expected)) <= 2
    if len(got) == len(expected):
        by_pixel = [sorted((y, x, t) for t, y, x, _ in some) for some in (got, expected)]
        np.testing.assert_allclose(by_pixel[0], by_pixel[1], atol=5)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 12), max_size=4),
    refractory=st.sampled_from([0.0, 3000.0]),
)
def test_chunks_give_the_events_of_one_call(seed: int, cuts: list[int], refractory: float) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 5000, 12))
    frames = np.cumsum(rng.normal(0, 0.15, (12, 6, 30)), axis=0)
    setting = {"threshold_on": 0.2, "threshold_off": 0.3, "refractory_us": refractory}
    whole, end = simulate_frames(frames, times, **setting)
    state: PixelState | None = None
    parts: list[EventStream] = []
    for first, last in zip(
        [0, *sorted({1, *cuts} - {0, 12})], [*sorted({1, *cuts} - {0, 12}), 12], strict=True
    ):
        events, state = simulate_frames(frames[first:last], times[first:last], state=state, **setting)
        parts.append(events)
    assert state is not None
    for name in "txyp":
        np.testing.assert_array_equal(
            np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name)
        )
    np.testing.assert_array_equal(state.reference, end.reference)
    assert (np.diff(whole.t) >= 0).all()


def test_the_callers_frames_and_state_are_untouched() -> None:
    frames = np.random.default_rng(0).normal(size=(5, 4, 4)).astype(np.float32)
    copy, times = frames.copy(), np.arange(5) * 10
    _, state = simulate_frames(frames[:3], times[:3], threshold_on=0.1, threshold_off=0.1)
    before = state.reference.copy()
    simulate_frames(frames[3:], times[3:], threshold_on=0.1, threshold_off=0.1, state=state)
    np.testing.assert_array_equal(frames, copy)
    np.testing.assert_array_equal(state.reference, before)


def test_the_dead_time_keeps_the_events_of_a_pixel_apart() -> None:
    times = np.arange(0, 50_001, 5000)
    events, _ = simulate_frames(
        ramp(2e-3, times), times, threshold_on=0.1, threshold_off=0.1, refractory_us=1234.0
    )
    mine = events[(events.x == 1) & (events.y == 1)]
    assert np.diff(mine.t).min() >= 1234
    np.testing.assert_allclose(np.diff(mine.t), 1234 + 0.1 / 2e-3, atol=1.5)


def test_constant_frames_and_an_empty_continuation_are_silent() -> None:
    events, state = simulate_frames(np.zeros((3, 4, 5)), [0, 5, 9], threshold_on=0.1, threshold_off=0.1)
    again, same = simulate_frames(np.zeros((0, 4, 5)), [], threshold_on=0.1, threshold_off=0.1, state=state)
    assert len(events) == len(again) == 0
    assert events.sensor_size == again.sensor_size == (4, 5)
    assert same is state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times_us": [0, 5, 5]}, "strictly increasing"),
        ({"times_us": [0, 5]}, r"`times_us` \[N\]"),
        ({"times_us": [0, 5, 2**32]}, "35 minutes"),
        ({"threshold_on": 0.0}, "`threshold_on` > 0"),
        ({"threshold_off": np.nan}, "`threshold_off` > 0"),
        ({"threshold_off": np.ones((2, 2))}, r"a map \(4, 5\)"),
        ({"log_frames": np.zeros((0, 4, 5)), "times_us": []}, "at least one frame"),
        ({"log_frames": np.full((3, 4, 5), -np.inf)}, "finite"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    setting = {
        "log_frames": np.zeros((3, 4, 5)), "times_us": [0, 5, 9], "threshold_on": 0.1, "threshold_off": 0.1
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        simulate_frames(**(setting | change))


def test_log_intensity_is_the_formula() -> None:
    np.testing.assert_allclose(
        log_intensity(np.array([0, 51, 255], np.uint8), black=0.1, gamma=2.0),
        np.log([0.1, 0.1 + 0.9 * 0.04, 1.0]),
        atol=1e-6,
    )


@pytest.mark.parametrize("frames", [[0, 255], [0.5, np.nan], [-1.0, 0.0]])
def test_log_intensity_refuses_values_of_another_scale(frames: list[float]) -> None:
    with pytest.raises(ValueError, match=r"`frames` as uint8, or float in 0\.\.1"):
        log_intensity(frames)


def test_noise_has_its_rate_and_share_and_keeps_the_signal() -> None:
    rng = np.random.default_rng(0)
    signal = EventStream.from_columns([100, 200], [1, 2], [3, 4], [1, 0], sensor_size=(50, 40))
    noisy = add_noise(signal, 5.0, rng, start_us=0, stop_us=1_000_000, on_share=0.25)
    expected = 5.0 * 50 * 40
    assert abs(len(noisy) - 2 - expected) < 5 * np.sqrt(expected)
    assert abs(noisy.p.mean() - 0.25) < 0.03
    assert (np.diff(noisy.t) >= 0).all()
    assert ((noisy.t == 100) & (noisy.x == 1) & (noisy.y == 3) & noisy.p).any()
    assert add_noise(signal, 0.0, rng, start_us=0, stop_us=10) is signal


@pytest.mark.parametrize("motion", MOTIONS.names())
def test_saccades_are_reproducible_also_in_threads(motion: str) -> None:
    pictures = (np.random.default_rng(3).random((6, 28, 28)) > 0.8).astype(np.float32)
    saccades = Saccades(motion=motion)

    def make(i: int) -> EventStream:
        return saccades(pictures[i], np.random.default_rng(i))

    alone = [make(i) for i in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(make, range(6))) == alone
    assert alone[0] != saccades(pictures[0], np.random.default_rng(99))
    assert all(len(events) > 500 for events in alone)
    assert all(events.t[0] >= 0 and events.t[-1] <= 300_000 for events in alone)


@pytest.mark.parametrize("motion", MOTIONS.names())
def test_a_motion_has_the_extent_that_is_asked_for(motion: str) -> None:
    times = np.arange(0, 300_001, 1000)
    for seed in range(20):
        path = MOTIONS[motion](times, 300_000, np.random.default_rng(seed))
        assert path.shape == (301, 4 if motion == "affine" else 2)
        assert np.ptp(path, axis=0).max() == pytest.approx(1.0, abs=0.05)
        assert np.abs(np.diff(path, axis=0)).max() < 0.06  # no jumps


def test_a_moving_edge_fires_where_it_passes() -> None:
    """A white square on black that moves by nmnist's path: ON and OFF balance, nothing fires far from it."""
    picture = np.zeros((28, 28), np.uint8)
    picture[10:18, 10:18] = 255
    quiet = Saccades(**{**vars(FITTED), "noise_hz": (0.0, 0.0)})
    events = quiet(picture, np.random.default_rng(0))
    assert abs(events.p.mean() - 0.5) < 0.1
    for column in (events.x, events.y):
        assert column.min() >= 13 - 6
        assert column.max() <= 20 + 6
    assert len(quiet(np.zeros((28, 28)), np.random.default_rng(0))) == 0


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (300, 200), (1, 1)])
def test_pictures_of_any_size_fill_the_sensor(size: tuple[int, int]) -> None:
    picture = np.zeros(size)
    picture[size[0] // 4 : -(size[0] // 4) or None, size[1] // 4 : -(size[1] // 4) or None] = 1.0
    events = Saccades(sensor_size=(40, 48))(picture, np.random.default_rng(0))
    assert events.sensor_size == (40, 48)
    if size != (1, 1):
        assert len(events) > 300
        assert abs(events.x.mean() - 23.5) < 6
        assert abs(events.y.mean() - 19.5) < 6


def test_saccades_refuse_what_they_cannot_show() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="Did you mean 'random3'"):
        Saccades(motion="random4")
    with pytest.raises(ValueError, match="grey `picture`"):
        Saccades()(np.zeros((3, 28, 28)), rng)
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        Saccades()(np.full((28, 28), 255.0), rng)


def _mnist_pictures(root: Path, indices: list[int]) -> np.ndarray:
    with gzip.open(root / "mnist/MNIST/raw/train-images-idx3-ubyte.gz") as file:
        return np.stack([_picture_at(file, i) for i in sorted(indices)])


def _picture_at(file: gzip.GzipFile, index: int) -> np.ndarray:
    file.seek(16 + 784 * index)
    return np.frombuffer(file.read(784), np.uint8).reshape(28, 28)


def _count_maps(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Events a polarity, 10 ms and pixel: [2, 32, 34, 34]."""
    maps = np.zeros((2, 32, 34, 34))
    np.add.at(maps, (p.astype(int), np.minimum(t // 10_000, 31), y, x), 1)
    return maps


def test_fitted_saccades_look_like_the_real_recordings(data_root: Path) -> None:
    """Same picture, same 10 ms, same pixel, same polarity: correlated with the real counts, and as many events."""
    files = [
        sorted((data_root / f"nmnist/Train/{digit}").glob("*.bin"))[k] for digit in range(10) for k in (0, 5)
    ]
    files.sort(key=lambda file: int(file.stem))
    pictures = _mnist_pictures(data_root, [int(file.stem) - 1 for file in files])
    correlation, ratio, on_share = [], [], []
    for file, picture in zip(files, pictures, strict=True):
        raw = np.frombuffer(file.read_bytes(), np.uint8).reshape(-1, 5).astype(np.int64)
        t = (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]
        real = _count_maps(t, raw[:, 0], raw[:, 1], raw[:, 2] >> 7)
        events = FITTED(picture, np.random.default_rng(int(file.stem)))
        simulated = _count_maps(events.t, events.x, events.y, events.p)
        correlation.append(np.corrcoef(real.ravel(), simulated.ravel())[0, 1])
        ratio.append(len(events) / len(raw))
        on_share.append(events.p.mean())
        swapped = np.corrcoef(real.ravel(), simulated[::-1].ravel())[0, 1]
        assert swapped < 0.3 * correlation[-1]
    assert np.mean(correlation) > 0.75
    assert 0.9 < np.mean(ratio) < 1.15
    assert np.std(ratio) < 0.1
    assert abs(np.mean(on_share) - 0.5) < 0.05
