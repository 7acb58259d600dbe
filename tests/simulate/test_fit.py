"""`fit` finds the camera behind simulated recordings, and makes simulated rates those of real ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from evlift.errors import ConfigError, DataError
from evlift.events import EventStream, read_events
from evlift.simulate import EventCamera, Saccades, SceneSimulator, fit, simulate_video


def shapes(n: int, seed: int = 0) -> list[np.ndarray]:
    """Bright boxes on black, like digits 28x28."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(n):
        picture = np.zeros((28, 28), np.uint8)
        for _ in range(3):
            row, column = rng.integers(5, 18, 2)
            picture[row : row + rng.integers(3, 8), column : column + rng.integers(2, 6)] = 255
        made.append(picture)
    return made


@pytest.mark.parametrize(
    ("threshold", "tilt", "noise", "leak"),
    [(0.25, 0.15, 1.2, 0.0), (0.5, -0.2, 0.4, 0.0), (0.35, 0.0, 2.0, 1.5)],
)
def test_known_cameras_are_found(threshold: float, tilt: float, noise: float, leak: float) -> None:
    """Threshold within 5 %, log-ratio within 0.04, noise and leak within 10 %, from other pictures than were shown."""
    true = Saccades(
        motion="nmnist",
        threshold=(threshold, threshold),
        imbalance=(tilt, tilt),
        noise_hz=(noise, noise),
        leak_hz=(leak, leak),
    )
    recorded = [true(picture, np.random.default_rng(k)) for k, picture in enumerate(shapes(60))]
    found = fit(recorded, shapes(60, seed=1), simulator=Saccades(motion="nmnist"), seed=7)
    fitted = found.simulator
    assert fitted.threshold[0] == pytest.approx(threshold, rel=0.05)
    assert fitted.imbalance[0] == pytest.approx(tilt, abs=0.04)
    assert fitted.noise_hz[0] == pytest.approx(noise, rel=0.1)
    assert fitted.leak_hz[0] == pytest.approx(leak, rel=0.1, abs=1e-9)
    assert found.simulated_hz == pytest.approx(found.rate_hz, rel=0.01)
    assert 0.3 < found.quiet_share < 0.9


def test_ranges_around_the_fitted_values() -> None:
    recorded = [Saccades(noise_hz=(1.0, 1.0))(picture, np.random.default_rng(0)) for picture in shapes(8)]
    exact, spread = (fit(recorded, shapes(8), spread=s).simulator for s in (0.0, 0.3))
    for name in ("threshold", "noise_hz"):
        low, high = getattr(spread, name)
        assert exact.threshold[0] == exact.threshold[1]
        assert np.log(high / low) == pytest.approx(0.6)
        assert np.sqrt(low * high) == pytest.approx(getattr(exact, name)[0])


def test_without_pictures_the_threshold_stays() -> None:
    given = Saccades(threshold=(0.2, 0.6))
    recorded = [
        Saccades(imbalance=(0.3, 0.3), threshold=(0.3, 0.3), noise_hz=(0.5, 0.5))(p, np.random.default_rng(0))
        for p in shapes(30)
    ]
    found = fit(recorded, simulator=given)
    assert found.simulator.threshold == (0.2, 0.6)
    assert found.simulated_hz is None
    assert found.simulator.imbalance[0] == pytest.approx(0.3, abs=0.1)
    assert found.simulator.noise_hz[0] == pytest.approx(0.5, rel=0.15)
    assert any("no picture" in value for _, value in found.rows())


def test_a_scene_simulator_and_a_video_camera_are_fitted_too() -> None:
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (12, 14), dtype=np.uint8), np.ones((6, 6), np.uint8))
    scenes = SceneSimulator(
        sensor_size=(40, 50), threshold=(0.3, 0.3), imbalance=0.0, duration_us=100_000, noise_hz=(0.1, 0.1)
    )
    recorded = [scenes(picture, np.random.default_rng(k)).stream for k in range(20)]
    found = fit(recorded, [picture] * 20, simulator=SceneSimulator(duration_us=100_000), seed=3)
    assert found.simulator.sensor_size == (40, 50)
    assert found.simulator.threshold[0] == pytest.approx(0.3, rel=0.08)

    frames, times = [np.roll(picture, k, axis=1) for k in range(12)], list(range(0, 240_000, 20_000))
    camera = EventCamera(threshold=(0.4, 0.4), imbalance=(0.1, 0.1), black=(0.03, 0.03), gamma=(2.0, 2.0))
    windows = list(simulate_video(frames, rng, times_us=times, camera=camera, window_us=10**6))
    seen = EventCamera(black=(0.03, 0.03), gamma=(2.0, 2.0))
    found = fit(windows[0], frames, times_us=times, simulator=seen)
    assert found.simulator.threshold[0] == pytest.approx(0.4, rel=0.05)


def test_what_does_not_fit_is_refused() -> None:
    recorded = Saccades()(shapes(1)[0], np.random.default_rng(0))
    other = Saccades(sensor_size=(40, 40))(shapes(1)[0], np.random.default_rng(0))
    with pytest.raises(DataError, match="of one sensor"):
        fit([recorded, other])
    with pytest.raises(DataError, match="of one sensor, but got sensors none"):
        fit([EventStream.empty((3, 3))])
    with pytest.raises(DataError, match="at least 50 ms"):
        fit(recorded.between(0, 20_000))
    with pytest.raises(DataError, match="Compare motion, amplitude and sign"):
        fit(recorded, [np.zeros((28, 28), np.uint8)])
    with pytest.raises(ConfigError, match="EventCamera for frames"):
        fit(recorded, shapes(2), times_us=[0, 9], simulator=Saccades())
    with pytest.raises(ConfigError, match="EventCamera for frames"):
        fit(recorded, shapes(2), simulator=EventCamera())


def test_real_and_simulated_rates_of_nmnist_agree(data_root: Path) -> None:
    """Fitted on 40 recordings and their pictures, judged on 60 others: rates within 5 %, noise as far from digits."""
    files = sorted((data_root / "nmnist/Train").glob("*/*.bin"))
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:100]]
    with gzip.open(data_root / "mnist/MNIST/raw/train-images-idx3-ubyte.gz") as file:
        everything = np.frombuffer(file.read(), np.uint8)[16:].reshape(-1, 28, 28)
    pictures = [everything[int(file.stem) - 1] for file in files]
    given = Saccades(
        motion="nmnist", amplitude_px=(5.6, 5.6), black=(0.05, 0.05), gamma=(1.7, 1.7), blur_px=(0.4, 0.4),
        rotation_deg=0.0, scale=(1.0, 1.0), shear=0.0,
    )  # fmt: skip
    found = fit(files[:40], pictures[:40], simulator=given)
    real = np.array([np.bincount(read_events(file).p, minlength=2) for file in files[40:]])
    made = np.array(
        [
            np.bincount(found.simulator(picture, np.random.default_rng(k)).p, minlength=2)
            for k, picture in enumerate(pictures[40:])
        ]
    )
    np.testing.assert_allclose(made.sum(axis=0) / real.sum(axis=0), 1.0, atol=0.05)
    assert np.corrcoef(real.sum(axis=1), made.sum(axis=1))[0, 1] > 0.95
    corners = [
        e[(e.x < 4) & (e.y < 4)] for e in (read_events(file) for file in files)
    ]  # an independent look at the noise
    on = sum(int(e.p.sum()) for e in corners) / (len(files) * 16 * 0.305)
    assert found.background_hz[1] == pytest.approx(on, rel=0.3)
    assert found.background_hz[1] > 5 * found.background_hz[0]  # a leak, not noise of both polarities
