"""Pictures and recordings with a label for every pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.items import Collection, Item, hash_of_text
from evlift.errors import DataError
from evlift.events import EventStream


@dataclass(frozen=True)
class Scene:
    """A picture and its mask.

    Args:
        picture: uint8 [H, W] (grey) or [H, W, 3] (RGB).
        mask: uint8 [H, W], class of every pixel, 255 where there is none.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]

    def __post_init__(self) -> None:
        check_mask(self.mask, self.picture.shape[:2], "picture")


@dataclass(frozen=True)
class EventScene:
    """A window of events and the mask that holds at its label time.

    Args:
        stream: the window; its sensor has the size of the mask.
        mask: uint8 [H, W], 255 where there is no class; None where the recording has no label.
        frame: uint8 [H, W] or [H, W, 3], a picture aligned with the mask; None where there is none.
    """

    stream: EventStream
    mask: NDArray[np.uint8] | None = None
    frame: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            check_mask(self.mask, self.stream.sensor_size, "sensor")
        if self.frame is not None and self.frame.shape[:2] != tuple(self.stream.sensor_size):
            raise DataError(
                f"Expected a `frame` of the sensor's size {self.stream.sensor_size}, but got {self.frame.shape[:2]}."
            )


def check_mask(mask: NDArray[Any], size: tuple[int, ...], what: str) -> None:
    """Raise DataError unless `mask` is uint8 [H, W] of this size."""
    if mask.dtype != np.uint8 or mask.shape != tuple(size):
        raise DataError(
            f"Expected a `mask` uint8 {list(size)}, the size of its {what}, but got {mask.dtype} {list(mask.shape)}."
        )


class SceneImages(Collection[Scene]):
    """Pictures with masks; `load(i)` gives a `Scene`. An item's `target` is -1: classes belong to pixels."""


class SceneRecordings(Collection[EventScene]):
    """Event windows with or without masks; `load(i)` gives an `EventScene`."""

    modality = "recording"


def hide_masks(scenes: SceneRecordings) -> SceneRecordings:
    """The same windows without masks, under names that say nothing of what they show."""
    hidden = (
        replace(item, name=f"unlabelled/{hash_of_text(item.name)[:12]}", index=position)
        for position, item in enumerate(scenes)
    )
    read, fingerprint = partial(_without_mask, scenes), partial(_fingerprint, scenes)
    return SceneRecordings(scenes.name, scenes.classes, hidden, read, fingerprint)


def _without_mask(scenes: SceneRecordings, item: Item) -> EventScene:
    return replace(scenes.load(item.index), mask=None)


def _fingerprint(scenes: SceneRecordings, item: Item) -> str:
    return scenes.fingerprint(item.index)
