"""Scenes as tensors on one pixel grid: a sequence, the picture that belongs to it, and the mask of both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlift.augment import Geometry, RandomGeometry, drop_events
from evlift.datasets.scenes import EventScene, Scene
from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.masks import VOID
from evlift.representations import Frames, fit_scale
from evlift.representations.base import resize

if TYPE_CHECKING:
    from evlift.config import InputOptions
    from evlift.datasets.task import TransferTask
    from evlift.simulate import SceneSimulator

STEP_PX = 0.6  # between two rendered frames; finer ones hardly change the events, but cost
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Clip:
    """One row of a batch.

    Args:
        sequence: float32 [T, 2, H, W] or None.
        picture: float32 [P, H, W] in 0..1 or None.
        mask: uint8 [H, W], 255 where there is no class, or None.
    """

    sequence: Tensor | None = None
    picture: Tensor | None = None
    mask: Tensor | None = None


class SceneEncoder:
    """Turns windows and pictures with masks into clips by one rule.

    Args:
        options: steps, size, encoding, normalisation, colour, augmentation.
        sensor_size: (H, W) of the windows, which simulated ones share.
        duration_us: length of every window.
        label_at: when masks hold, as a share of that length.
        scale: the count that becomes 1 where ``normalise="quantile"``; see :meth:`fit`.
    """

    def __init__(
        self,
        options: InputOptions,
        *,
        sensor_size: tuple[int, int],
        duration_us: int,
        label_at: float = 1.0,
        scale: float | None = None,
    ) -> None:
        if options.crop_to_events:
            raise ConfigError(
                "Expected input.crop_to_events to be false for scenes, whose masks stay in place, but got true."
            )
        self.options, self.scale, self.sensor_size = options, scale, sensor_size
        self.duration_us, self.label_at = duration_us, label_at
        self.channels = 3 if options.colour else 1
        self.frames = Frames(steps=options.steps, size=options.size)
        if options.normalise != "quantile" or scale is not None:
            self.frames = replace(self.frames, normalise=options.normalise, scale=scale)
        self._geometry = RandomGeometry(
            flip=0.5 if options.flip else 0.0,
            rotation_deg=options.rotation,
            padding=options.shift,
            scale=(1 / (1 + options.zoom), 1 + options.zoom),
        )
        self._still = Geometry(options.size)

    @classmethod
    def of(cls, task: TransferTask, options: InputOptions, scale: float | None = None) -> SceneEncoder:
        """The encoder for a segmentation task.

        Raises:
            ConfigError: a task whose targets are no masks.
        """
        if not task.segments or task.duration_us is None:
            raise ConfigError("Expected a task with masks, but got one with a class a picture. Use Encoder.")
        return cls(
            options,
            sensor_size=task.sensor_size,
            duration_us=task.duration_us,
            label_at=task.label_at,
            scale=scale,
        )

    @cached_property
    def simulator(self) -> SceneSimulator:
        """What sets pictures in motion where ``encoding="saccade"``."""
        from evlift.simulate import SceneSimulator

        far = (self.options.amplitude or SceneSimulator.amplitude_px)[1]
        return SceneSimulator(
            motion=self.options.motion,
            sensor_size=self.sensor_size,
            duration_us=self.duration_us,
            step_us=self.duration_us // max(5, math.ceil(far / STEP_PX)),
            label_at=self.label_at,
            negative=self.options.negative,
            **self.options.camera,
        )

    def fit(self, streams: Iterable[EventStream]) -> SceneEncoder:
        """This encoder with its count scale fitted to windows of training recordings."""
        if self.options.normalise != "quantile":
            return self
        return SceneEncoder(
            self.options,
            sensor_size=self.sensor_size,
            duration_us=self.duration_us,
            label_at=self.label_at,
            scale=fit_scale(self.frames, streams, self.options.quantile),
        )

    def events(
        self, scene: EventScene, rng: np.random.Generator, *, augment: bool, frame: bool = True
    ) -> Clip:
        """A window as it was recorded; `frame` asks for its aligned picture."""
        shown = None if scene.frame is None or not frame else self._tensor(scene.frame)
        if augment and self.options.drop:
            scene = replace(scene, stream=drop_events(scene.stream, rng.uniform(0, self.options.drop), rng))
        frames = self.frames(scene.stream, window_us=(0, self.duration_us))  # [T, 2, H, W]
        return self._moved(frames, shown, scene.mask, augment and rng)

    def watch(self, scene: Scene, rng: np.random.Generator) -> EventScene:
        """The window that a moving sensor records of a picture, with picture and mask as they lie at the label time."""
        seen = self.simulator(scene.picture, rng, mask=scene.mask)
        return EventScene(seen.stream, seen.mask, seen.picture)

    def still(self, scene: Scene, rng: np.random.Generator, *, augment: bool, sequence: bool = True) -> Clip:
        """A picture as the resting sensor sees it, and its sequence: its V of HSV, repeated.

        A picture larger than the sensor is seen through a window, at random in training, else in the middle.

        Args:
            scene: picture [H', W'] or [H', W', 3] and mask.
            rng: draws window and augmentation.
            augment: change geometry.
            sequence: whether to make the sequence at all.
        """
        corner = window_corner(scene.mask.shape, self.sensor_size, rng if augment else None)
        picture = cut(scene.picture, corner, self.sensor_size, None)
        mask = cut(scene.mask, corner, self.sensor_size, VOID)
        repeated = None
        if sequence:
            value = picture.max(axis=2) if picture.ndim == 3 else picture  # as Encoder.picture
            grey = resize(torch.from_numpy(value.astype(np.float32) / 255)[None], self.options.size)
            repeated = grey.expand(
                self.options.steps, 2, *self.options.size
            ).contiguous()  # [1, H, W] → [T, 2, H, W]
        return self._moved(repeated, self._tensor(picture), mask, augment and rng)

    def _tensor(self, picture: NDArray[np.uint8]) -> Tensor:
        """float32 [P, H, W] of a picture uint8 [H', W'] or [H', W', 3]; grey is the luma of Rec. 601."""
        if self.channels == 1:
            grey = picture @ LUMA if picture.ndim == 3 else picture.astype(np.float32)
            return resize(torch.from_numpy(grey / np.float32(255))[None], self.options.size)
        colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        planes = np.ascontiguousarray(colour.transpose(2, 0, 1), np.float32) / np.float32(
            255
        )  # → [3, H', W']
        return resize(torch.from_numpy(planes), self.options.size)

    def _moved(
        self,
        sequence: Tensor | None,
        picture: Tensor | None,
        mask: NDArray[np.uint8] | None,
        rng: np.random.Generator | bool,
    ) -> Clip:
        """All three on the grid of the network's input, under one drawn geometry if there is a generator."""
        label = None if mask is None else nearest(torch.from_numpy(mask), self.options.size)
        geometry = (
            self._geometry.sample(rng, self.options.size)
            if isinstance(rng, np.random.Generator)
            else self._still
        )
        if geometry == self._still:
            return Clip(sequence, picture, label)
        planes = [part.flatten(0, -3) for part in (sequence, picture) if part is not None]
        changed = geometry(torch.cat(planes)).split(
            [len(part) for part in planes]
        )  # one call: [2T + P, H, W]
        return Clip(
            None if sequence is None else changed[0].reshape(sequence.shape),  # [2T, H, W] → [T, 2, H, W]
            None if picture is None else changed[-1],
            None if label is None else geometry.mask(label),
        )


def nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels [H, W] at another size [h, w], each pixel that of the nearest."""
    if tuple(mask.shape) == tuple(size):
        return mask
    planes = torch.nn.functional.interpolate(mask[None, None], size=size, mode="nearest-exact")
    return planes[0, 0]  # [1, 1, h, w] → [h, w]


def window_corner(
    size: tuple[int, ...], window: tuple[int, int], rng: np.random.Generator | None
) -> tuple[int, int]:
    """(top, left) of a window within `size` (H, W), at random or in the middle; negative where it is larger."""
    room = [side - wanted for side, wanted in zip(size, window, strict=True)]
    if rng is None:
        return room[0] // 2, room[1] // 2
    top, left = (int(rng.integers(min(0, side), max(0, side), endpoint=True)) for side in room)
    return top, left


def cut(
    picture: NDArray[np.uint8], corner: tuple[int, int], size: tuple[int, int], fill: int | None
) -> NDArray[np.uint8]:
    """The window [h, w(, 3)] at `corner` of a picture [H, W(, 3)]; outside is `fill`, or the edge repeated."""
    rows, columns = (np.arange(start, start + side) for start, side in zip(corner, size, strict=True))
    height, width = picture.shape[:2]
    result = picture[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    if fill is not None:
        result[(rows < 0) | (rows >= height)] = fill
        result[:, (columns < 0) | (columns >= width)] = fill
    return result
