"""Video: windows are cuts of one recording, in constant memory, and files are read as they are."""

from __future__ import annotations

import tracemalloc
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest

from evlift.errors import ConfigError, DataError
from evlift.events import EventStream
from evlift.simulate import EventCamera, Video, log_intensity, simulate_frames, simulate_video

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio's pipes to ffmpeg
NOISY = EventCamera(leak_hz=(3.0, 3.0), shot_hz=(4.0, 4.0), noise_hz=(2.0, 2.0))
IDEAL = EventCamera(
    threshold=(0.2, 0.2), imbalance=0.0, mismatch=0.0, refractory_us=(0.0, 0.0), noise_hz=(0.0, 0.0),
    black=(0.05, 0.05), gamma=(2.0, 2.0),
)  # fmt: skip


def moving(n: int = 12, size: tuple[int, int] = (20, 30)) -> list[np.ndarray]:
    row, column = np.mgrid[: size[0], : size[1]]
    return [(127 + 100 * np.sin(row / 4 + column / 3 + 0.4 * k)).astype(np.uint8) for k in range(n)]


def joined(windows: list[EventStream]) -> list[np.ndarray]:
    return [np.concatenate([getattr(window, name) for window in windows]) for name in "txyp"]


@pytest.mark.parametrize("camera", [IDEAL, NOISY])
@pytest.mark.parametrize("window_us", [1_000, 33_000, 40_000, 70_000])
def test_windows_are_cuts_of_the_whole(camera: EventCamera, window_us: int) -> None:
    def windows(length_us: int) -> list[EventStream]:
        return list(
            simulate_video(moving(), np.random.default_rng(5), fps=25, camera=camera, window_us=length_us)
        )

    (whole,) = windows(440_000)
    parts = windows(window_us)
    assert len(parts) == -(-440_000 // window_us)
    for k, part in enumerate(parts[:-1]):
        assert part == whole.between(k * window_us, (k + 1) * window_us)
    for mine, expected in zip(joined(parts), joined([whole]), strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert len(whole) > 1000


def test_a_video_is_its_frames_through_the_pixel() -> None:
    times = [7, 500, 90_000, 100_000]
    (events,) = simulate_video(
        moving(4), np.random.default_rng(0), times_us=times, camera=IDEAL, window_us=10**6
    )
    logs = log_intensity(np.stack(moving(4)), black=0.05, gamma=2.0)
    expected, _ = simulate_frames(logs, times, threshold_on=0.2, threshold_off=0.2)
    assert events == expected
    assert len(events) > 500


def test_the_generator_decides_everything() -> None:
    made = [
        list(simulate_video(moving(), np.random.default_rng(seed), fps=30, camera=NOISY))
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_memory_does_not_grow_with_the_video() -> None:
    def frames():
        some = moving(8)
        for k in count():
            yield some[k % 8]

    windows = simulate_video(frames(), np.random.default_rng(0), fps=100, camera=NOISY, window_us=20_000)
    next(windows)
    tracemalloc.start()
    peaks = []
    for _ in range(3):
        for _ in islice(windows, 40):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[0]


def test_colour_frames_of_another_size_are_fitted_to_the_sensor() -> None:
    frames = [np.repeat(frame[..., None], 3, axis=2) for frame in moving(5, (40, 90))]
    windows = list(
        simulate_video(frames, np.random.default_rng(0), fps=30, camera=IDEAL, sensor_size=(20, 30))
    )
    middle = [frame[:, 15:75] for frame in moving(5, (40, 90))]  # fills 20x30 at half the size
    expected = list(
        simulate_video(middle, np.random.default_rng(0), fps=30, camera=IDEAL, sensor_size=(20, 30))
    )
    for mine, other in zip(
        windows, expected, strict=True
    ):  # but at the cut, which only one of them sees beyond
        assert mine[(mine.x > 1) & (mine.x < 28)] == other[(other.x > 1) & (other.x < 28)]
    assert windows[0].sensor_size == (20, 30)
    assert len(windows[0]) > 500


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_file_gives_the_events_of_its_frames(tmp_path: Path, name: str) -> None:
    import imageio.v3 as imageio

    frames = np.stack([np.repeat(frame[..., None], 3, axis=2) for frame in moving(10, (32, 48))])
    imageio.imwrite(tmp_path / name, frames, **({"fps": 25} if name == "a.mp4" else {"duration": 40}))
    video = Video(tmp_path / name)
    shown = list(video)
    assert len(shown) == 10
    assert video.rate() == 25
    assert video.length() in (10, None)
    assert np.abs(np.stack(shown).astype(int) - frames).mean() < 12  # lossy
    for fps, expected_fps in ((None, 25), (250.0, 250)):
        from_file = simulate_video(tmp_path / name, np.random.default_rng(0), fps=fps, camera=IDEAL)
        from_frames = simulate_video(shown, np.random.default_rng(0), fps=expected_fps, camera=IDEAL)
        assert list(from_file) == list(from_frames)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    def run(frames, **options) -> None:
        list(simulate_video(frames, np.random.default_rng(0), **options))

    with pytest.raises(ConfigError, match="`times_us`, or `fps`"):
        run(moving())
    with pytest.raises(ConfigError, match="`window_us` > 0"):
        run(moving(), fps=25, window_us=0)
    for n in (0, 1):
        with pytest.raises(DataError, match=f"at least two frames with their times, but got {n}"):
            run(moving(n), fps=25)
        with pytest.raises(DataError, match=f"at least two frames with their times, but got {n}"):
            run(moving(n), fps=25, camera=NOISY)
    with pytest.raises(ValueError, match="strictly increasing"):
        run(moving(3), times_us=[0, 5, 5])
    with pytest.raises(ValueError, match="the state's size"):
        run([*moving(2), *moving(2, (9, 9))], fps=25)
    with pytest.raises(ValueError, match="uint8 frames to scale"):
        run([np.zeros((9, 9)), np.ones((9, 9))], fps=25, sensor_size=(4, 4))
    (tmp_path / "b.mp4").write_bytes(b"no video" * 99)
    for name in ("b.mp4", "none.mp4"):
        with pytest.raises(DataError, match=f"{name}' to be a video"):
            run(tmp_path / name)
        with pytest.raises(DataError, match=f"{name}' to be a video"):
            list(Video(tmp_path / name))
