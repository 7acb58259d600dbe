"""`Saccades`: a still picture set in motion, for recognition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError
from evlift.events.stream import EventStream
from evlift.simulate.camera import EventCamera, Range, check_moves
from evlift.simulate.motions import MOTIONS
from evlift.simulate.pixel import FloatArray, log_intensity
from evlift.simulate.render import (
    SAMPLES_PER_PIXEL,
    blurred,
    grey,
    light_of,
    log_frames,
    reach,
    reduced,
    turn,
)


@dataclass(frozen=True, kw_only=True)
class Saccades(EventCamera):
    """A still picture set in motion before a simulated event camera.

    Example:
        >>> picture = np.zeros((28, 28), np.uint8)
        >>> picture[10:18, 12:16] = 255
        >>> Saccades()(picture, np.random.default_rng(0)).sensor_size
        (34, 34)

    Pairs (low, high) are ranges from which each recording draws.

    Args:
        motion: "random3" (three random moves; for recognition), "nmnist" (N-MNIST's path), "pan", "shake", "affine",
            "varied" (one of these but N-MNIST's, another for each recording).
        sensor_size: (H, W) of the camera; the picture fills it less `margin` pixels on each side.
        duration_us: length of the recording, from 0.
        step_us: time between two rendered frames.
        amplitude_px: extent of the motion, 5.6 in N-MNIST.
        threshold: contrast threshold in log units; 0.4 fits N-MNIST.
        negative: show the picture's negative. Measured: N-MNIST did, N-Caltech101 did not.
        black: light of a black pixel relative to a white one (see :func:`log_intensity`); 0.05 fits N-MNIST.
        gamma: exponent from pixel value to light; 1.7 fits N-MNIST.
        blur_px: standard deviation of the optics' blur in sensor pixels; 0.4 fits N-MNIST.
        noise_hz: background events a second and pixel; 0.4 was measured far from the digits of N-MNIST.
        rotation_deg: largest rotation of the picture.
        scale: zoom of the picture.
        shear: largest shear of the picture.

    The other options are those of :class:`EventCamera`.

    Raises:
        ConfigError: an unknown motion, a range with its ends swapped, or a margin that leaves no room.
        ValueError: a picture that is not [H', W'] or [H', W', 3], or of floats outside 0..1.

    Source: values that "fit" maximise the correlation of simulated and real event counts (10 ms, pixel, polarity)
    on 50 recordings of nmnist/Train, each judged in one fold of `digits`; ranges and the rest: decided here.
    """

    motion: str = "random3"
    sensor_size: tuple[int, int] = (34, 34)
    duration_us: int = 300_000
    step_us: int = 5_000
    margin: int = 3
    amplitude_px: Range = (4.5, 6.7)
    threshold: Range = (0.28, 0.55)
    negative: bool = True
    black: Range = (0.03, 0.1)
    gamma: Range = (1.2, 2.2)
    blur_px: Range = (0.3, 0.6)
    noise_hz: Range = (0.2, 0.8)
    rotation_deg: float = 5.0
    scale: Range = (0.95, 1.05)
    shear: float = 0.05
    version: ClassVar[int] = 1  # part of cache keys: raise it when the arithmetic changes

    def __post_init__(self) -> None:
        super().__post_init__()
        MOTIONS[self.motion]
        check_moves(self)
        if not 0 <= 2 * self.margin < min(self.sensor_size):
            raise ConfigError(
                f"Expected a margin that leaves room for the picture on a sensor of {self.sensor_size}, but got "
                f"{self.margin} pixels on each side. Give a smaller --margin (in Python: margin=) or a larger sensor."
            )

    def __call__(self, picture: NDArray[Any], rng: np.random.Generator) -> EventStream:
        """Events of `picture` [H', W'] or [H', W', 3], uint8 or float in 0..1; all randomness comes from `rng`."""
        return self.record(picture, rng)[0]

    def record(
        self, picture: NDArray[Any], rng: np.random.Generator
    ) -> tuple[EventStream, NDArray[np.int64], FloatArray]:
        """As the call, with times [N] µs and poses [N, 2] or [N, 4] (down, right in pixels first) on the way."""
        times = np.arange(0, self.duration_us + self.step_us, self.step_us).clip(max=self.duration_us)
        motion: Callable[..., FloatArray] = MOTIONS[self.motion]
        poses = motion(times, self.duration_us, rng) * rng.uniform(*self.amplitude_px)  # [N, 2] or [N, 4]
        frames = self._frames(grey(np.asarray(picture)), poses, rng)  # [N, H, W]
        return self.draw(self.sensor_size, rng).watch(frames, times, rng)[0], times, poses

    def _frames(
        self, picture: NDArray[Any], poses: FloatArray, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Log frames [N, H, W] of the picture [H', W'] at each pose [N, 2] or [N, 4]."""
        from evlift.kernels.simulate import warp

        parts, far = SAMPLES_PER_PIXEL, int(np.ceil(reach(poses, self.sensor_size)) + 2)
        height, width = (side + 2 * far for side in self.sensor_size)
        canvas = np.empty((height * parts, width * parts), np.float32)
        light = light_of(picture, rng.uniform(*self.gamma), negative=self.negative)
        light = reduced(light, int(1 / (self._fit(light.shape) * parts)))
        warp(light, self._inverse(light.shape, canvas.shape, rng), canvas)
        canvas = blurred(canvas, rng.uniform(*self.blur_px) * parts)
        return log_frames(log_intensity(canvas, black=rng.uniform(*self.black)), poses, self.sensor_size)

    def _fit(self, picture_size: tuple[int, ...]) -> float:
        """Sensor pixels a picture pixel."""
        room = (side - 2 * self.margin for side in self.sensor_size)
        return min(side / size for side, size in zip(room, picture_size, strict=True))

    def _inverse(
        self, picture_size: tuple[int, ...], canvas_size: tuple[int, ...], rng: np.random.Generator
    ) -> FloatArray:
        """Affine map [2, 3] from canvas samples to picture pixels."""
        angle = np.deg2rad(rng.uniform(-self.rotation_deg, self.rotation_deg))
        shear = rng.uniform(-self.shear, self.shear)
        zoom = self._fit(picture_size) * rng.uniform(*self.scale) * SAMPLES_PER_PIXEL
        matrix = turn(angle) @ np.array([[1.0, 0.0], [shear, 1.0]]) / zoom
        centre = (np.array(picture_size) - 1) / 2 - matrix @ ((np.array(canvas_size) - 1) / 2)
        return np.concatenate([matrix, centre[:, None]], axis=1)
