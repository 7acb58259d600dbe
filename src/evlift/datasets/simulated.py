"""Simulated windows of pictures with masks, and the suite `simulated-digit-masks`, which needs no data set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from evlift.datasets.digit_masks import SCENE_SIZE, TRAIN_PASSES, TiledPictures
from evlift.datasets.items import Item, hash_of_text
from evlift.datasets.manifest import disjoint, fold_of_items, some, split_by_fold
from evlift.datasets.scenes import EventScene, SceneImages, SceneRecordings
from evlift.datasets.suites import hold_out
from evlift.datasets.task import TransferTask, assemble_scenes

if TYPE_CHECKING:
    from evlift.simulate import SceneSimulator


def watched(frames: SceneImages, camera: SceneSimulator, *, takes: int = 1) -> SceneRecordings:
    """Windows in which `camera` moves over each frame, `takes` times along different paths.

    Motion and noise are drawn from a hash of object id and take: they are the same at every call.
    """
    place = {item.object_id: position for position, item in enumerate(frames)}
    items = [
        replace(item, name=f"{item.name}/{take}", index=take) for item in frames for take in range(takes)
    ]
    read, fingerprint = partial(_watch, frames, place, camera), partial(_fingerprint, frames, place, camera)
    return SceneRecordings(f"simulated-{frames.name}", frames.classes, items, read, fingerprint)


def _watch(frames: SceneImages, place: dict[str, int], camera: SceneSimulator, item: Item) -> EventScene:
    seed = int(hash_of_text(f"{item.object_id}/{item.index}")[:16], 16)
    scene = frames.load(place[item.object_id])
    seen = camera(scene.picture, np.random.default_rng(seed), mask=scene.mask)
    return EventScene(seen.stream, seen.mask, seen.picture)


def _fingerprint(frames: SceneImages, place: dict[str, int], camera: SceneSimulator, item: Item) -> str:
    return hash_of_text(f"{frames.fingerprint(place[item.object_id])}/{camera!r}/{item.index}")


def simulated_digit_masks(*, fold: int = 0, recordings: int = 500) -> TransferTask:
    """Tiles of scikit-learn's digits to simulated windows of tiles of other digits; see `digit_masks`.

    Args:
        fold: 0 to 4.
        recordings: how many digits are recorded (60 % train, 20 % val, 20 % test); the others teach.
    """
    from evlift.datasets.synthetic import sklearn_digits
    from evlift.simulate import SceneSimulator

    pictures = sklearn_digits()
    moved = some(pictures, recordings)
    parts = split_by_fold(fold_of_items(moved, 5), fold)
    camera = SceneSimulator(
        sensor_size=SCENE_SIZE, label_at=0.5, amplitude_px=(1.0, 5.5), step_us=5_000, negative=True, fill=0
    )
    tiles = TiledPictures(pictures)
    train, val, test = (
        tiles.scenes(moved.subset(part).object_ids) for part in (parts.train, parts.val, parts.test)
    )
    source, source_val = hold_out(disjoint(pictures, moved.object_ids), share=0.1)
    return assemble_scenes(
        (tiles.scenes(source.object_ids), tiles.scenes(source_val.object_ids)),
        (watched(train, camera, takes=TRAIN_PASSES), watched(val, camera), watched(test, camera)),
        sensor_size=SCENE_SIZE,
        duration_us=camera.duration_us,
        label_at=camera.label_at,
    )
