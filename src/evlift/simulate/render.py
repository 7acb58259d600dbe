"""What a moving sensor sees of a picture: light, blur, and one log frame for each pose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.simulate.pixel import FloatArray, unit_range

SAMPLES_PER_PIXEL = 2
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, as Pillow weighs them


def grey(picture: NDArray[Any]) -> NDArray[Any]:
    """A picture [H, W] or [H, W, 3] as [H, W]; uint8 stays uint8.

    Raises:
        ValueError: another shape.
    """
    if picture.ndim == 2 and picture.size:
        return picture
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(
            f"Expected a grey `picture` [H', W'] or a colour one [H', W', 3], but got shape {picture.shape}."
        )
    mixed = picture.astype(np.float32) @ GREY
    return (mixed + 0.5).astype(np.uint8) if picture.dtype == np.uint8 else mixed


def light_of(picture: NDArray[Any], gamma: float, *, negative: bool = False) -> NDArray[np.float32]:
    """Light in 0..1 of a grey picture [H, W], uint8 or float in 0..1."""
    if picture.dtype == np.uint8:
        values = unit_range(np.arange(256, dtype=np.uint8), "picture")
        return np.power(1 - values if negative else values, np.float32(gamma))[picture]
    values = unit_range(picture, "picture")
    return np.power(1 - values if negative else values, np.float32(gamma))


def reduced(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means over blocks of factor × factor: [H'·F, W'·F] → [H', W'] float32; what is left over is cut."""
    if factor < 2:
        return image.astype(np.float32, copy=False)
    height, width = (side // factor for side in image.shape)
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def compose(outer: FloatArray, inner: FloatArray) -> FloatArray:
    """The affine map [2, 3] that applies `inner` [2, 3] and then `outer` [2, 3]."""
    return np.concatenate([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]], axis=1)


def about(matrix: FloatArray, at: FloatArray, to: FloatArray) -> FloatArray:
    """The affine map [2, 3] ``x → matrix · (x - at) + to``."""
    return np.concatenate([matrix, (to - matrix @ at)[:, None]], axis=1)


def turn(angle: float) -> FloatArray:
    """Rotation [2, 2] of (down, right)."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def looks_at(pose: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Affine map [2, 3] from a sensor pixel to the place at rest of what it sees at a pose [2] or [4], in pixels."""
    centre = (np.array(size) - 1) / 2
    matrix = np.eye(2)
    if len(pose) == 4:
        angle, zoom = pose[2:] / (max(size) / 2)
        matrix = turn(-angle) / np.exp(zoom)
    return about(matrix, centre + pose[:2], centre)


def reach(poses: FloatArray, size: tuple[int, int]) -> float:
    """Farthest way in pixels of any sensor pixel from its place at rest over poses [N, 2] or [N, 4]."""
    if poses.shape[1] == 2:
        return float(np.abs(poses).max())
    corners = np.array([[y, x, 1] for y in (0, size[0] - 1) for x in (0, size[1] - 1)])  # [4, 3]
    return max(float(np.abs(corners @ looks_at(pose, size).T - corners[:, :2]).max()) for pose in poses)


def log_frames(canvas: NDArray[np.float32], poses: FloatArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Frames [N, H, W] at poses [N, 2] or [N, 4] of a canvas [H'·S, W'·S], S samples a pixel, centred on the sensor."""
    from evlift.kernels.simulate import shift_frames, warp

    parts = SAMPLES_PER_PIXEL
    height, width = (side // parts for side in canvas.shape)
    corner = (height - size[0]) // 2
    frames = np.empty((len(poses), *size), np.float32)
    if poses.shape[1] == 4:
        samples = np.array([[parts, 0, parts * corner], [0, parts, parts * corner]], float)
        for frame, pose in zip(frames, poses, strict=True):
            warp(canvas, compose(samples, looks_at(pose, size)), frame)
        return frames
    phases = canvas.reshape(height, parts, width, parts).transpose(
        1, 3, 0, 2
    )  # [H'·S, W'·S] → [S, S, H', W']
    shift_frames(np.ascontiguousarray(phases), (corner - poses) * parts, frames)
    return frames


def blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of an image [H, W], edges repeated."""
    from evlift.kernels.simulate import convolve_rows

    taps = _gaussian(sigma)
    once, twice = np.empty_like(image), np.empty_like(image.T)
    convolve_rows(image, taps, once)
    convolve_rows(np.ascontiguousarray(once.T), taps, twice)
    return twice.T


def _gaussian(sigma: float) -> NDArray[np.float32]:
    radius = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    return (taps / taps.sum()).astype(np.float32)
