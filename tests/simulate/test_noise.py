"""Leak and noise have their rates, and are alike for both polarities where they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.events import EventStream
from evlift.simulate import EventCamera, EventPixels, add_noise, add_shot_noise, simulate_frames

STILL = {"mismatch": 0.0, "noise_hz": (0.0, 0.0), "refractory_us": (0.0, 0.0)}


def pixels(size: tuple[int, int] = (40, 50), **options) -> EventPixels:
    return EventCamera(**{**STILL, **options}).draw(size, np.random.default_rng(0))


def still(seconds: float, size: tuple[int, int] = (40, 50), light: float = 1.0, step_us: int = 10_000):
    times = np.arange(0, round(seconds * 1e6) + 1, step_us)
    return np.full((len(times), *size), np.log(light), np.float32), times


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


@pytest.mark.parametrize("step_us", [100, 10_000, 500_000])
@pytest.mark.parametrize("leak_hz", [2.0, 0.02])
def test_a_still_pixel_leaks_on_time(leak_hz: float, step_us: int) -> None:
    """Analytic: one ON event every 1/rate seconds, whatever the time between frames, also after minutes."""
    seconds = 4.5 / leak_hz
    if seconds * 1e6 / step_us > 1e5:
        seconds, times = (
            4.5 / leak_hz,
            np.concatenate([np.arange(0, 100_000, step_us), [round(4.5e6 / leak_hz)]]),
        )
        frames = np.full((len(times), 2, 2), -3.0, np.float32)
    else:
        frames, times = still(seconds, (2, 2), light=0.05, step_us=step_us)
    events, _ = simulate_frames(frames, times, threshold_on=0.3, threshold_off=0.1, leak_hz=leak_hz)
    assert events.p.all()
    assert len(events) == 4 * 4
    np.testing.assert_allclose(np.unique(events.t), np.arange(1, 5) / leak_hz * 1e6, rtol=1e-4)


def test_leak_adds_to_a_ramp() -> None:
    """Rising light fires sooner and falling light later: rates add up, each in thresholds a second."""
    times = np.arange(0, 2_000_001, 10_000)
    for slope, on, off in ((1.0, 20, 0), (-3.0, 0, 20)):  # 0.2 · 5 Hz leak = 1 log unit a second upwards
        frames = (slope * times * 1e-6)[:, None, None] * np.ones((1, 3, 3))
        events, _ = simulate_frames(frames, times, threshold_on=0.2, threshold_off=0.2, leak_hz=5.0)
        assert abs(int(events.p.sum()) - on * 9) <= 9
        assert abs(int((~events.p).sum()) - off * 9) <= 9


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(1, 20), refractory=st.sampled_from([0.0, 3000.0]), seed=st.integers(0, 1000))
def test_leak_goes_on_in_the_next_chunk(cut: int, refractory: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 50_000, 21))
    frames = np.cumsum(rng.normal(0, 0.1, (21, 4, 30)), axis=0)
    setting = {
        "threshold_on": 0.2, "threshold_off": 0.3, "refractory_us": refractory, "leak_hz": rng.uniform(0, 9, (4, 30))
    }  # fmt: skip
    whole, _ = simulate_frames(frames, times, **setting)
    first, state = simulate_frames(frames[:cut], times[:cut], **setting)
    second, _ = simulate_frames(frames[cut:], times[cut:], state=state, **setting)
    for name in "txyp":
        both = np.concatenate([getattr(first, name), getattr(second, name)])
        np.testing.assert_array_equal(both, getattr(whole, name))


def test_the_pixels_of_a_camera_leak_at_their_rate_out_of_step() -> None:
    frames, times = still(2.0)
    events, _ = pixels(leak_hz=(3.0, 3.0)).watch(frames, times, np.random.default_rng(1))
    assert events.p.all()
    assert len(events) == pytest.approx(3.0 * 2.0 * 2000, rel=0.02)
    per_slice = np.histogram(events.t, bins=20, range=(0, 2_000_000))[0]
    assert per_slice.std() < 3 * np.sqrt(per_slice.mean())


@pytest.mark.parametrize(("light", "share"), [(0.001, 1.0), (0.5, 0.625), (1.0, 0.25)])
def test_shot_noise_is_poisson_and_falls_with_light(light: float, share: float) -> None:
    frames, times = still(3.0, light=light)
    events, _ = pixels(shot_hz=(8.0, 8.0)).watch(frames, times, np.random.default_rng(2))
    counts = np.bincount(events.y.astype(int) * 50 + events.x, minlength=2000)
    mean = 8.0 * share * 3.0
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / 2000) + 0.02)
    assert counts.var() / counts.mean() == pytest.approx(
        1.0, abs=4 * np.sqrt(2 / 2000)
    )  # a Poisson law's dispersion
    assert abs(events.p.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(events))
    gaps = np.diff(events.t)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)  # an exponential law's
    assert (gaps >= 0).all()


def test_shot_noise_follows_the_light_between_two_frames() -> None:
    frames = np.stack([np.full((60, 60), np.log(1e-3)), np.zeros((60, 60))]).astype(np.float32)
    quiet = EventStream.empty((60, 60))
    noisy = add_shot_noise(
        quiet, 20.0, np.random.default_rng(0), log_frames=frames, times_us=np.array([0, 1_000_000])
    )
    found = np.histogram(noisy.t, bins=10, range=(0, 1_000_000))[0]
    middle = np.exp(np.log(1e-3) * (1 - (np.arange(10) + 0.5) / 10))
    expected = 20.0 * 3600 / 10 * (1 - 0.75 * middle)
    assert (np.abs(found - expected) < 5 * np.sqrt(expected)).all()


def test_polarities_mirror_each_other() -> None:
    """The negative of the light swaps ON and OFF, and nothing else, when the thresholds are swapped too."""
    rng = np.random.default_rng(4)
    times, frames = np.arange(12) * 3000, np.cumsum(rng.normal(0, 0.3, (12, 9, 13)), axis=0)
    on, off = rng.uniform(0.1, 0.4, (2, 9, 13))
    events, _ = simulate_frames(frames, times, threshold_on=on, threshold_off=off, refractory_us=500.0)
    mirrored, _ = simulate_frames(-frames, times, threshold_on=off, threshold_off=on, refractory_us=500.0)

    def listed(stream: EventStream, p: np.ndarray) -> list:
        return sorted(zip(stream.t, stream.y, stream.x, p, strict=True))

    assert len(events) > 500
    assert listed(events, events.p) == listed(mirrored, ~mirrored.p)


def test_what_does_not_fit_is_refused() -> None:
    for leak in (-1.0, np.nan, np.ones((2, 3))):
        with pytest.raises(ValueError, match=r"`leak_hz` >= 0 as one number or a map \(4, 5\)"):
            simulate_frames(np.zeros((2, 4, 5)), [0, 9], threshold_on=0.1, threshold_off=0.1, leak_hz=leak)
    with pytest.raises(ValueError, match="`leak_hz` as a pair 0 <= low <= high"):
        EventCamera(leak_hz=(-1.0, 2.0))
