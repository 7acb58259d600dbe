"""Scenes: events, picture and mask tell of the same motion."""

from __future__ import annotations

import numpy as np
import pytest

from evlift.errors import ConfigError
from evlift.simulate import MOTIONS, SceneSimulator, SimulatedScene, log_intensity

THRESHOLD, BLACK = 0.1, 0.05
IDEAL = {
    "threshold": (THRESHOLD, THRESHOLD), "imbalance": 0.0, "mismatch": 0.0, "refractory_us": (0.0, 0.0),
    "noise_hz": (0.0, 0.0), "black": (BLACK, BLACK), "gamma": (1.0, 1.0), "blur_px": (0.0, 0.0), "step_us": 1000,
}  # fmt: skip
ROWS = np.repeat(np.arange(200, dtype=np.uint8)[:, None], 180, axis=1)  # every pixel says its row


def smooth_picture(height: int, width: int) -> np.ndarray:
    row, column = np.mgrid[:height, :width]
    return (127 + 60 * np.sin(row / 6 + column / 15) + 60 * np.cos(column / 7)).astype(np.uint8)


def simulator(motion: str = "pan", **options) -> SceneSimulator:
    return SceneSimulator(**{**IDEAL, "motion": motion, "sensor_size": (40, 56), **options})


def seen(motion: str, seed: int = 0, picture=ROWS, mask=ROWS, **options) -> SimulatedScene:
    return simulator(motion, **options)(picture, np.random.default_rng(seed), mask)


@pytest.mark.parametrize("motion", MOTIONS.names())
@pytest.mark.parametrize("scale", [1.0, 0.7, 1.6])
def test_picture_and_mask_are_seen_from_one_place(motion: str, scale: float) -> None:
    """A bilinear sample of "every pixel says its row" rounds to the row of the nearest pixel."""
    scene = seen(motion, scale=(scale, scale), rotation_deg=20.0, shear=0.2)
    assert scene.mask is not None
    inside = scene.mask != 255
    assert inside.mean() > 0.6
    off = np.abs(scene.picture[inside].astype(int) - scene.mask[inside])
    assert off.max() <= 1  # ties
    assert off.mean() < 1e-3


@pytest.mark.parametrize("motion", MOTIONS.names())
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_events_lead_from_the_first_picture_to_the_last(motion: str, scale: float) -> None:
    """The sum of thresholds is the change of log intensity between `label_at` 0, 0.35 and 1, pixel by pixel."""
    picture = smooth_picture(120, 160)
    if scale < 1:
        picture = np.kron(picture, np.ones((3, 3), np.uint8))
    at = {
        share: seen(motion, 3, picture, None, label_at=share, scale=(scale, scale), amplitude_px=(6.0, 6.0))
        for share in (0.0, 0.35, 1.0)
    }
    assert at[0.0].stream == at[1.0].stream
    largest = 0.0
    for start, stop in ((0.0, 0.35), (0.0, 1.0)):
        events = at[1.0].stream.between(0, int(50_000 * stop))
        change = np.zeros((40, 56))
        np.add.at(change, (events.y, events.x), np.where(events.p, THRESHOLD, -THRESHOLD))
        logs = [log_intensity(at[share].picture, black=BLACK) for share in (start, stop)]
        wrong = np.abs(change - (logs[1] - logs[0]))
        assert np.quantile(wrong, 0.99) < THRESHOLD + 0.06  # rounding of dark pixels to uint8
        largest = max(largest, float(np.ptp(logs[1] - logs[0])))
    assert largest > 8 * THRESHOLD  # there was something to get wrong


def test_a_sensor_at_rest_sees_nothing() -> None:
    for motion in MOTIONS.names():
        scene = seen(motion, amplitude_px=(0.0, 0.0), picture=smooth_picture(90, 90), mask=None)
        assert len(scene.stream) == 0
        assert scene.mask is None


def test_a_picture_of_the_sensors_size_at_rest_is_handed_back() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    mask = colour[..., 0] % 11
    scene = seen("pan", picture=colour, mask=mask, amplitude_px=(0.0, 0.0))
    np.testing.assert_array_equal(scene.picture, colour)
    np.testing.assert_array_equal(scene.mask, mask)


@pytest.mark.parametrize("label_at", [0.0, 0.5, 1.0])
def test_a_pan_lies_where_its_speed_says(label_at: float) -> None:
    scene = seen("pan", 7, label_at=label_at, amplitude_px=(12.0, 12.0))
    angle = np.random.default_rng(7).uniform(0, 2 * np.pi)
    down = 12.0 * np.sin(angle) / max(abs(np.sin(angle)), abs(np.cos(angle)))
    middle = seen("pan", 7, label_at=0.5, amplitude_px=(12.0, 12.0)).picture.astype(float)
    np.testing.assert_allclose(scene.picture - middle, -(label_at - 0.5) * down, atol=1.0)


def test_a_small_picture_is_centred_and_the_mask_filled_around_it() -> None:
    picture = np.full((28, 28), 200, np.uint8)
    options = {"sensor_size": (34, 34), "amplitude_px": (0.0, 0.0)}
    for fill in (255, 3):
        scene = seen("shake", picture=picture, mask=picture * 0, fill=fill, **options)
        assert scene.mask is not None
        assert (scene.mask[3:31, 3:31] == 0).all()
        assert (scene.mask == fill).sum() == 34 * 34 - 28 * 28
        assert (scene.picture == 200).all()  # the edge is repeated in the light


def test_a_crop_of_a_large_picture_stays_inside_it_and_moves_about() -> None:
    corners = set()
    for seed in range(20):
        scene = seen("random3", seed)
        assert scene.mask is not None
        assert (scene.mask != 255).all()
        corners.add(int(scene.mask[0, 0]))
    assert len(corners) > 10


def test_the_generator_decides_everything() -> None:
    noisy = {"noise_hz": (5.0, 5.0), "leak_hz": (5.0, 5.0), "shot_hz": (5.0, 5.0), "mismatch": 0.1}
    first, again, other = (seen("affine", seed, **noisy) for seed in (1, 1, 2))
    assert first.stream == again.stream
    np.testing.assert_array_equal(first.picture, again.picture)
    assert first.stream != other.stream
    assert len(first.stream) > 100


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="Did you mean 'shake'"):
        SceneSimulator(motion="shakes")
    with pytest.raises(ConfigError, match=r"`label_at` in 0\.\.1"):
        SceneSimulator(label_at=1.5)
    with pytest.raises(ValueError, match="`threshold` as a pair"):
        SceneSimulator(threshold=(0.5, 0.2))
    with pytest.raises(ValueError, match="`picture` as uint8"):
        SceneSimulator()(np.zeros((9, 9)), rng)
    with pytest.raises(ValueError, match=r"colour one \[H', W', 3\]"):
        SceneSimulator()(np.zeros((9, 9, 4), np.uint8), rng)
    with pytest.raises(ValueError, match=r"`mask` uint8 \[9, 9\]"):
        SceneSimulator()(np.zeros((9, 9), np.uint8), rng, np.zeros((9, 8), np.uint8))
