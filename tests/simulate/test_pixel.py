"""The pixel's laws: analytic ramps, carried contrast, order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.events import EventStream
from evlift.simulate import PixelState, log_intensity, simulate_frames


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
        ({"threshold_on": 0.0}, "`threshold_on` to be finite and at least"),
        ({"threshold_off": np.nan}, "`threshold_off` to be finite and at least"),
        # float32 does not tell such a step from none, and the events would never end
        ({"threshold_on": 1e-8, "log_frames": np.full((3, 4, 5), -1.0)}, "at least 1.2e-05 log units"),
        ({"refractory_us": np.nan}, "`refractory_us` to be at least 0 and finite, but got nan"),
        ({"refractory_us": -5.0}, "`refractory_us` to be at least 0"),
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


@pytest.mark.parametrize("start", [-15.0, -1.0, 3.0])
def test_the_least_threshold_gives_its_events(start: float) -> None:
    """Each step of the reference is rounded: the number of events is right within 1 %."""
    stop = start + 0.9
    least = float(np.float32(100 * np.finfo(np.float32).eps * max(abs(start), abs(stop)) * 1.001))
    frames = np.array([start, stop]).reshape(2, 1, 1)
    events, _ = simulate_frames(frames, [0, 1000], threshold_on=least, threshold_off=least)
    assert len(events) == pytest.approx(0.9 / least, rel=0.01)
    assert events.p.all()


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
