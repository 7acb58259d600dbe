"""The suite `digit-masks`: MNIST masks to windows of real N-MNIST recordings, four to a scene."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.images import mnist
from evlift.datasets.items import HIDDEN, Collection, Images, Item, Recordings, hash_of_text
from evlift.datasets.recognition import N_SOURCE, digits
from evlift.datasets.recordings import nmnist
from evlift.datasets.registration import BORDER, Registration
from evlift.datasets.scenes import EventScene, Scene, SceneImages, SceneRecordings
from evlift.datasets.task import TransferTask, assemble_scenes
from evlift.events import EventStream
from evlift.masks import VOID

CLASSES = ("background", *"0123456789")
TILE, SIDE = 34, 2  # pixels of a tile, tiles of a side
SCENE_SIZE = (TILE * SIDE, TILE * SIDE)
INK, EDGE = (
    128,
    64,
)  # from INK on a pixel is the digit's; from EDGE to INK it is no class's; below it is background
TRAIN_PASSES = 4


def digit_masks(
    root: Path | str,
    *,
    fold: int = 0,
    n_unlabelled: int | None = None,
    source: int = N_SOURCE,
    seed: int = 0,
) -> TransferTask:
    """Tiled MNIST pictures to tiled N-MNIST windows of 50 ms, with the folds and objects of `digits`.

    A scene is 2x2 tiles of 34x34 pixels, all of one window of the recordings' common motion; digit c is class c + 1.
    Pixels whose grey lies between ink and paper are void. The mask lies where it explains the window's events
    best, so it holds at the window's middle. Windows that the registration explains badly (r² under 0.3, about 6 %)
    are left out, in all splits. Which objects meet in a scene is decided by a hash of their ids.

    Args:
        root: folder with `mnist` and `nmnist`, the latter with its `registration.npz`.
        fold: 0 to 4.
        n_unlabelled: objects in the unlabelled scenes; None for all of the training part.
        source: number of source pictures, four to a scene.
        seed: of the choice of unlabelled objects.

    Raises:
        DataError: missing files.
        ConfigError: a fold or a number that there is not.

    Source: our protocol (decided here).
    """
    base = digits(root, fold=fold, n_unlabelled=n_unlabelled, source=source, seed=seed)
    pictures, registration = mnist(root), Registration.load(root)
    tiles = TiledPictures(pictures)
    windows = TiledRecordings(nmnist(root), pictures, registration)
    train = windows.scenes(base.train.object_ids, passes=TRAIN_PASSES)
    fewer = None if n_unlabelled is None else windows.scenes(base.unlabelled.object_ids, passes=TRAIN_PASSES)
    return assemble_scenes(
        (tiles.scenes(base.source.object_ids), tiles.scenes(base.source_val.object_ids)),
        (train, windows.scenes(base.val.object_ids), windows.scenes(base.test.object_ids)),
        sensor_size=SCENE_SIZE,
        duration_us=registration.duration_us,
        label_at=0.5,
        unlabelled=fewer,
    )


class TiledPictures:
    """Scenes of four pictures each, in the middle of their tiles."""

    def __init__(self, pictures: Images) -> None:
        self.pictures, self._place = pictures, places(pictures)

    def scenes(self, objects: Iterable[str]) -> SceneImages:
        """Every object once, four to a scene."""
        items = [_scene_item("tiles", 0, four) for four in fours(objects, "tiles")]
        return SceneImages("digit-masks", CLASSES, items, self.read, self.fingerprint)

    def read(self, item: Item) -> Scene:
        """The scene of an item whose parts are four objects."""
        pairs = [self.tile(object_id, (0, 0)) for object_id in item.parts]
        return Scene(tiled([picture for picture, _ in pairs]), tiled([mask for _, mask in pairs]))

    def tile(self, object_id: str, shift: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Picture and mask uint8 [34, 34] of an object that lies `shift` (dy, dx) up and left of the middle."""
        position = self._place[object_id]
        picture = on_tile(self.pictures.load(position), shift)
        mask = np.where(picture >= EDGE, VOID, 0).astype(np.uint8)
        mask[picture >= INK] = self.pictures[position].target + 1
        return picture, mask

    def fingerprint(self, item: Item) -> str:
        """Hash of the pictures' hashes."""
        return hash_of_text("/".join(self.pictures.fingerprint(self._place[part]) for part in item.parts))


class TiledRecordings:
    """Scenes of one window of four recordings each, with masks laid on their events."""

    def __init__(self, recordings: Recordings, pictures: Images, registration: Registration) -> None:
        self.recordings, self.registration = recordings, registration
        self._place, self._tiles = places(recordings), TiledPictures(pictures)
        self._load = lru_cache(maxsize=None)(recordings.load)  # 50 kB a recording, read many times

    def scenes(self, objects: Iterable[str], *, passes: int = 1) -> SceneRecordings:
        """Every object once a window and pass, four to a scene; other passes bring other objects together."""
        wanted = tuple(objects)
        items = []
        for window in range(len(self.registration.windows_us)):
            fit = [object_id for object_id in wanted if self.registration.fits(object_id, window)]
            for lap in range(passes):
                items += [
                    _scene_item(f"w{window}-{lap}", window, four) for four in fours(fit, f"{window}/{lap}")
                ]
        return SceneRecordings("digit-masks", CLASSES, items, self.read, self.fingerprint)

    def read(self, item: Item) -> EventScene:
        """The scene of an item whose parts are four objects and whose index is the window."""
        pairs = [self._tiles.tile(part, self.registration.shift_of(part, item.index)) for part in item.parts]
        stream = self._stream(item)
        return EventScene(stream, mask=tiled([mask for _, mask in pairs]), frame=tiled([p for p, _ in pairs]))

    def _stream(self, item: Item) -> EventStream:
        start, stop = (int(edge) for edge in self.registration.windows_us[item.index])
        parts = [self._load(self._place[part]).between(start, stop) for part in item.parts]
        corners = [divmod(number, SIDE) for number in range(len(parts))]  # (row, column) of each tile
        t = np.concatenate([part.t - start for part in parts])
        x = np.concatenate(
            [part.x + np.uint16(TILE * right) for part, (_, right) in zip(parts, corners, strict=True)]
        )
        y = np.concatenate(
            [part.y + np.uint16(TILE * down) for part, (down, _) in zip(parts, corners, strict=True)]
        )
        p = np.concatenate([part.p for part in parts])
        order = np.argsort(t, kind="stable")
        return EventStream(t[order], x[order], y[order], p[order], SCENE_SIZE)

    def fingerprint(self, item: Item) -> str:
        """Hash of window, shifts, and the hashes of recordings and pictures."""
        said = [str(self.registration.windows_us[item.index].tolist()), self._tiles.fingerprint(item)]
        for part in item.parts:
            said += [
                self.recordings.fingerprint(self._place[part]),
                str(self.registration.shift_of(part, item.index)),
            ]
        return hash_of_text("/".join(said))


def places(items: Collection[Any]) -> dict[str, int]:
    """Object id → position."""
    return {item.object_id: position for position, item in enumerate(items)}


def fours(objects: Iterable[str], key: str) -> list[tuple[str, ...]]:
    """Objects in groups of four in an order that a hash of key and id decides; up to three are left over."""
    order = sorted(set(objects), key=lambda object_id: hash_of_text(f"{key}/{object_id}"))
    n = SIDE * SIDE
    return [tuple(order[start : start + n]) for start in range(0, len(order) - n + 1, n)]


def _scene_item(kind: str, window: int, parts: tuple[str, ...]) -> Item:
    together = "+".join(parts)
    return Item(f"{kind}/{hash_of_text(together)[:12]}", HIDDEN, together, index=window, parts=parts)


def on_tile(picture: NDArray[np.uint8], shift: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture [h, w] on a black tile [34, 34], `shift` (dy, dx) up and left of the middle; the rest is cut off."""
    height, width = picture.shape
    reach = BORDER + max(abs(side) for side in shift)
    room = np.zeros((height + 2 * reach, width + 2 * reach), np.uint8)
    room[reach : reach + height, reach : reach + width] = picture
    top, left = (reach - BORDER + side for side in shift)
    tile = np.zeros((TILE, TILE), np.uint8)
    cut = room[top : top + TILE, left : left + TILE]
    tile[: cut.shape[0], : cut.shape[1]] = cut
    return tile


def tiled(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Four tiles [h, w] → [2h, 2w], row by row."""
    return np.block([tiles[row * SIDE : (row + 1) * SIDE] for row in range(SIDE)])
