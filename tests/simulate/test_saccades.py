"""Still pictures in motion: reproducible, of the extent that is asked for, and like the real recordings."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.simulate import MOTIONS, Saccades, SceneSimulator

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
        assert path.shape[0] == 301
        assert path.shape[1] in {"affine": (4,), "varied": (2, 4)}.get(motion, (2,))
        assert np.ptp(path, axis=0).max() == pytest.approx(1.0, abs=0.05)
        assert np.abs(np.diff(path, axis=0)).max() < 0.06  # no jumps


def test_varied_draws_every_motion_but_the_fixed_path() -> None:
    times = np.arange(0, 300_001, 1000)
    rest = {name: MOTIONS[name] for name in MOTIONS.names() if name not in ("nmnist", "varied")}
    met = set()
    for seed in range(30):
        varied, rng = (
            MOTIONS["varied"](times, 300_000, np.random.default_rng(seed)),
            np.random.default_rng(seed),
        )
        rng.integers(4)  # the draw of the motion; those that follow make its path
        state = rng.bit_generator.state
        for name, motion in rest.items():
            rng.bit_generator.state = state
            met |= {name} if np.array_equal(motion(times, 300_000, rng), varied) else set()
    assert met == set(rest)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (1.05, 0.95)}, r"`scale` as a pair 0\.01 <= low <= high, but got \(1\.05, 0\.95\)"),
        ({"scale": (0.0, 0.0)}, "`scale` as a pair"),
        ({"amplitude_px": (6.0, 4.0)}, "`amplitude_px` as a pair"),
        ({"blur_px": (0.6, 0.3)}, "`blur_px` as a pair"),
        ({"threshold": (0.0, 0.2)}, r"`threshold` as a pair 0\.001 <="),
        ({"noise_hz": (0.0, float("nan"))}, "`noise_hz` as a pair"),
        ({"step_us": 0}, "0 < step_us <= duration_us"),
    ],
)
def test_ranges_that_no_camera_can_have_are_refused(options, message) -> None:
    for camera in (Saccades, SceneSimulator):
        with pytest.raises(ConfigError, match=message):
            camera(**options)


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


@pytest.mark.parametrize("margin", [-1, 17, 40])
def test_a_margin_leaves_room_for_the_picture(margin: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"margin that leaves room .* but got {margin} pixels on each side"
    ):
        Saccades(margin=margin)
