"""`SceneSimulator`: a picture with its mask before a moving sensor, for segmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError
from evlift.events.stream import EventStream
from evlift.simulate.camera import EventCamera, Range, check_moves
from evlift.simulate.motions import MOTIONS
from evlift.simulate.pixel import FloatArray, log_intensity
from evlift.simulate.render import (
    SAMPLES_PER_PIXEL,
    about,
    blurred,
    compose,
    grey,
    light_of,
    log_frames,
    looks_at,
    reach,
    reduced,
    turn,
)

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SimulatedScene:
    """What a moving sensor of (H, W) saw.

    Args:
        stream: the events.
        picture: uint8 [H, W] or [H, W, 3], the picture as it lies on the sensor at the label time.
        mask: uint8 [H, W], the mask as it lies there; None if none was given.
    """

    stream: EventStream
    picture: Uint8
    mask: Uint8 | None


@dataclass(frozen=True, kw_only=True)
class SceneSimulator(EventCamera):
    """A still picture before a moving sensor, with picture and mask on the sensor's pixels at one time.

    Example:
        >>> picture, mask = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)
        >>> picture[20:40, 30:50], mask[20:40, 30:50] = 255, 1
        >>> scene = SceneSimulator(sensor_size=(48, 64))(picture, np.random.default_rng(0), mask)
        >>> scene.stream.sensor_size, scene.picture.shape, scene.mask.shape
        ((48, 64), (48, 64), (48, 64))

    A picture that is larger than the sensor and its motion is seen in part, at a random place; any other is centred.
    Beyond the picture its edge is repeated in the light, and the mask is `fill`. Pairs are ranges.

    Args:
        motion: "pan", "shake", "affine", "random3", "nmnist" or "varied".
        sensor_size: (H, W) of the camera.
        duration_us: length of the recording, from 0.
        step_us: time between two rendered frames.
        label_at: when picture and mask hold, as a share of the duration.
        amplitude_px: extent of the motion in sensor pixels.
        negative: show the picture's negative to the sensor; the picture that is handed out is as given.
        blur_px: standard deviation of the optics' blur in sensor pixels.
        rotation_deg: largest rotation of the picture.
        scale: sensor pixels a picture pixel.
        shear: largest shear of the picture.
        fill: mask beyond the picture.

    The other options are those of :class:`EventCamera`.

    Raises:
        ConfigError: an unknown motion, a `label_at` outside 0..1.
        ValueError: a picture or mask that is not uint8 or of another shape.

    Source: decided here.
    """

    motion: str = "pan"
    sensor_size: tuple[int, int] = (144, 192)
    duration_us: int = 50_000
    step_us: int = 2_500
    label_at: float = 1.0
    amplitude_px: Range = (4.0, 12.0)
    negative: bool = False
    blur_px: Range = (0.3, 0.7)
    rotation_deg: float = 0.0
    scale: Range = (1.0, 1.0)
    shear: float = 0.0
    fill: int = 255

    def __post_init__(self) -> None:
        super().__post_init__()
        MOTIONS[self.motion]
        check_moves(self)
        if not 0 <= self.label_at <= 1:
            raise ConfigError(
                f"Expected `label_at` in 0..1, a share of the duration, but got {self.label_at}."
            )

    def __call__(self, picture: Uint8, rng: np.random.Generator, mask: Uint8 | None = None) -> SimulatedScene:
        """Events of `picture` [H', W'] or [H', W', 3] with `mask` [H', W']; all randomness comes from `rng`."""
        _check(picture, mask)
        times = np.arange(0, self.duration_us + self.step_us, self.step_us).clip(max=self.duration_us)
        motion: Callable[..., FloatArray] = MOTIONS[self.motion]
        asked = np.append(times, self.label_at * self.duration_us)
        poses = motion(asked, self.duration_us, rng) * rng.uniform(
            *self.amplitude_px
        )  # [N + 1, 2] or [N + 1, 4]
        at_rest = self._at_rest(picture.shape[:2], reach(poses, self.sensor_size), rng)
        frames = self._frames(picture, at_rest, poses[:-1], rng)  # [N, H, W]
        stream, _ = self.draw(self.sensor_size, rng).watch(frames, times, rng)
        labelled = compose(at_rest, looks_at(poses[-1], self.sensor_size))
        return SimulatedScene(stream, self._picture(picture, labelled), self._mask(mask, labelled))

    def _at_rest(self, picture_size: tuple[int, ...], far: float, rng: np.random.Generator) -> FloatArray:
        """Affine map [2, 3] from sensor pixels, the picture at rest, to picture pixels."""
        angle = np.deg2rad(rng.uniform(-self.rotation_deg, self.rotation_deg))
        shear = rng.uniform(-self.shear, self.shear)
        matrix = turn(angle) @ np.array([[1.0, 0.0], [shear, 1.0]]) / rng.uniform(*self.scale)
        centre, last = (np.array(self.sensor_size) - 1) / 2, np.array(picture_size) - 1.0
        half = np.abs(matrix) @ (centre + far)  # picture pixels that the sensor may see to each side
        room = np.maximum(last / 2 - half, 0)
        return about(matrix, centre, last / 2 + rng.uniform(-1, 1, 2) * room)

    def _frames(
        self, picture: Uint8, at_rest: FloatArray, poses: FloatArray, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Log frames [N, H, W] at poses [N, 2] or [N, 4]."""
        from evlift.kernels.simulate import warp

        parts, far = SAMPLES_PER_PIXEL, int(np.ceil(reach(poses, self.sensor_size)) + 2)
        height, width = (side + 2 * far for side in self.sensor_size)
        canvas = np.empty((height * parts, width * parts), np.float32)
        samples = np.array([[1 / parts, 0, -far], [0, 1 / parts, -far]])
        light = light_of(grey(picture), rng.uniform(*self.gamma), negative=self.negative)
        light, to_light = _coarser(light, compose(at_rest, samples))
        warp(light, to_light, canvas)
        canvas = blurred(canvas, rng.uniform(*self.blur_px) * parts)
        return log_frames(log_intensity(canvas, black=rng.uniform(*self.black)), poses, self.sensor_size)

    def _picture(self, picture: Uint8, seen: FloatArray) -> Uint8:
        """The picture [H, W] or [H, W, 3] under the map `seen` [2, 3] from sensor to picture pixels."""
        from evlift.kernels.simulate import warp

        planes = picture[..., None] if picture.ndim == 2 else picture
        out = np.empty((*self.sensor_size, planes.shape[2]), np.uint8)
        plane = np.empty(self.sensor_size, np.float32)
        for channel in range(planes.shape[2]):
            values, to_values = _coarser(planes[..., channel], seen)
            warp(values, to_values, plane)
            out[..., channel] = plane + 0.5
        return out[..., 0] if picture.ndim == 2 else out

    def _mask(self, mask: Uint8 | None, seen: FloatArray) -> Uint8 | None:
        from evlift.kernels.simulate import warp_labels

        if mask is None:
            return None
        out = np.empty(self.sensor_size, np.uint8)
        warp_labels(mask, seen, self.fill, out)
        return out


def _coarser(image: NDArray[Any], inverse: FloatArray) -> tuple[NDArray[np.float32], FloatArray]:
    """An image [H, W] reduced to at most about two samples a sample of `inverse` [2, 3], and the map into it."""
    factor = min(int(np.sqrt(abs(np.linalg.det(inverse[:, :2])))), *image.shape)
    if factor < 2:
        return np.ascontiguousarray(image, np.float32), inverse
    shift = (factor - 1) / 2
    return reduced(image, factor), compose(np.array([[1, 0, -shift], [0, 1, -shift]]) / factor, inverse)


def _check(picture: Any, mask: Any) -> None:
    if picture.dtype != np.uint8:
        raise ValueError(f"Expected `picture` as uint8, but got {picture.dtype}. Convert it to 0..255.")
    if mask is not None and (mask.dtype != np.uint8 or mask.shape != picture.shape[:2]):
        raise ValueError(
            f"Expected `mask` uint8 {list(picture.shape[:2])}, the size of its picture, "
            f"but got {mask.dtype} {list(mask.shape)}."
        )
