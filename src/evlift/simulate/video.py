"""Events from video: frames as they come in, windows of events out, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, DataError
from evlift.events.stream import EventStream
from evlift.simulate.camera import EventCamera
from evlift.simulate.pixel import PixelState, log_intensity
from evlift.simulate.render import grey

VIDEO_EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".gif")


@dataclass(frozen=True)
class Video:
    """A video file whose frames are decoded one by one.

    Example:
        >>> for frame in Video("street.mp4"):  # doctest: +SKIP
        ...     print(frame.shape)

    Args:
        path: a file that imageio reads.
        fps: frames a second, for slow or fast motion and for files that do not say.

    Raises:
        DataError: no such file, or none that imageio reads as video.
    """

    path: str | Path
    fps: float | None = None

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Frames uint8 [H, W, 3]."""
        import imageio.v3 as imageio

        try:
            for frame in imageio.imiter(self.path):
                yield frame[..., :3]
        except OSError as error:
            raise self._unread(error) from error

    def rate(self) -> float:
        """Frames a second."""
        if self.fps is not None:
            return self.fps
        said = self._said()
        rate = said.get("fps") or (
            1000 / said["duration"] if said.get("duration") else 0
        )  # a GIF says ms a frame
        if not 0 < rate < np.inf:
            raise DataError(
                f"Expected '{self.path}' to say its frame rate, but got {rate}. Give --fps N (in Python: fps=)."
            )
        return float(rate)

    def length(self) -> int | None:
        """About how many frames there are; None if the file does not say."""
        said = self._said()
        frames = said.get("fps", 0) * said.get("duration", 0)
        return round(frames) if 0 < frames < np.inf else None

    def _said(self) -> dict[str, Any]:
        import imageio.v3 as imageio

        try:
            return imageio.immeta(self.path)
        except OSError as error:
            raise self._unread(error) from error

    def _unread(self, error: OSError) -> DataError:
        why = error.strerror or str(error).strip().splitlines()[0]
        return DataError(f"Expected '{self.path}' to be a video, but: {why}.")


def simulate_video(
    frames: str | Path | Iterable[NDArray[Any]],
    rng: np.random.Generator,
    *,
    times_us: Iterable[int] | None = None,
    fps: float | None = None,
    camera: EventCamera | None = None,
    sensor_size: tuple[int, int] | None = None,
    window_us: int = 50_000,
) -> Iterator[EventStream]:
    """Windows of the events of one camera that watches a video; the pixels carry their state from window to window.

    Log intensity is linear between two frames, so that a frame rate far below the motion's gives events that are evenly
    spread over the gap rather than sharp.

    Example:
        >>> frames = [np.full((4, 4), value, np.uint8) for value in (50, 100, 200)]
        >>> [len(events) > 0 for events in simulate_video(frames, np.random.default_rng(0), fps=20)]
        [True, True]

    Args:
        frames: a video file, or frames [H, W] or [H, W, 3] of one size, uint8 or float in 0..1.
        rng: draws the camera and the noise. The events do not depend on `window_us`.
        times_us: time of each frame, strictly increasing.
        fps: frames a second instead; the video file's own where neither is given.
        camera: ranges from which the camera is drawn; default `EventCamera()`.
        sensor_size: (H, W); frames (uint8) are scaled and cut about their middle to fill it. Default: the frames' size.
        window_us: length of a window. Empty ones are kept, the last may be shorter and has its end within.

    Raises:
        ConfigError: frames without times.
        DataError: fewer than two frames, or no video.
        ValueError: frames of different sizes, times that do not increase.
    """
    if isinstance(frames, str | Path):
        frames = Video(frames, fps)
        fps = frames.rate() if times_us is None else None
    if times_us is None:
        times_us = _times(fps)
    shown = (_fitted(np.asarray(frame), sensor_size) for frame in frames)
    return _windows(_watched(shown, times_us, camera or EventCamera(), rng), window_us)


def _times(fps: float | None) -> Iterator[int]:
    if fps is None or not 0 < fps <= 1e6:
        raise ConfigError(
            f"Expected `times_us`, or `fps` in 0..1000000, but got fps {fps}. Give --fps N (in Python: fps=)."
        )
    return (round(k * 1e6 / fps) for k in count())


def _fitted(frame: NDArray[Any], sensor_size: tuple[int, int] | None) -> NDArray[Any]:
    """A grey frame [H, W] that fills the sensor."""
    shown = grey(frame)
    if sensor_size is None or shown.shape == tuple(sensor_size):
        return shown
    if shown.dtype != np.uint8:
        raise ValueError(
            f"Expected uint8 frames to scale to {sensor_size}, but got {shown.dtype}. Convert to 0..255."
        )
    from PIL import Image, ImageOps

    height, width = sensor_size
    return np.asarray(ImageOps.fit(Image.fromarray(shown), (width, height), Image.Resampling.BILINEAR))


def _watched(
    frames: Iterable[NDArray[Any]], times_us: Iterable[int], camera: EventCamera, rng: np.random.Generator
) -> Iterator[tuple[EventStream, int]]:
    """(events, time of the frame) frame by frame, so that the noise does not depend on any cut."""
    state: PixelState | None = None
    for frame, time_us in zip(frames, times_us, strict=False):
        if state is None:
            pixels = camera.draw((int(frame.shape[0]), int(frame.shape[1])), rng)
            black, gamma = rng.uniform(*camera.black), rng.uniform(*camera.gamma)
        logs = log_intensity(frame, black=black, gamma=gamma)[None]  # [1, H, W]
        events, state = pixels.watch(logs, [time_us], rng, state=state)
        yield events, int(time_us)
    if state is None or state.time_us == state.since_us:
        raise DataError(
            f"Expected at least two frames with their times, but got {0 if state is None else 1}."
        )


def _windows(parts: Iterator[tuple[EventStream, int]], window_us: int) -> Iterator[EventStream]:
    if window_us <= 0:
        raise ConfigError(f"Expected `window_us` > 0, but got {window_us}.")
    waiting, start, now = list[EventStream](), None, 0
    for events, now in parts:
        start = now if start is None else start
        waiting.append(events)
        # Events at the very time of a frame may still come, so that a window ends when a later frame is there.
        if now > start + window_us:
            whole = _joined(waiting)
            while now > start + window_us:
                yield whole.between(start, start + window_us)
                start += window_us
            waiting = [whole.between(start, now + 1)]
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[EventStream]) -> EventStream:
    t, x, y, p = (np.concatenate([getattr(part, name) for part in parts]) for name in "txyp")
    return EventStream(t, x, y, p, parts[0].sensor_size)
