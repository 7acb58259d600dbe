"""The suite `mask-folders`: your own pictures with masks, and your own recordings with few masks or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from evlift.datasets.driving.cityscapes import resized
from evlift.datasets.driving.files import read_mask
from evlift.datasets.images import SUFFIXES as PICTURES
from evlift.datasets.images import read_picture
from evlift.datasets.items import HIDDEN, Item, hash_of_file, hash_of_file_item, hash_of_text, sorted_files
from evlift.datasets.manifest import disjoint
from evlift.datasets.recordings import SUFFIXES as RECORDINGS
from evlift.datasets.scenes import EventScene, Scene, SceneImages, SceneRecordings, check_mask
from evlift.datasets.suites import hold_out
from evlift.datasets.task import TransferTask, assemble_scenes
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream
from evlift.masks import VOID

CLASS_FILE = "classes.txt"
ROOM = 1.25  # a picture is as large as the sensor times this: the motion moves a window inside it
SMALL_FILE = 64 << 20
PARTS = 5
CHECKED = 20


def mask_pictures(
    images: Path | str, masks: Path | str, *, classes: Sequence[str], sensor_size: tuple[int, int]
) -> SceneImages:
    """Pictures in one folder and, under the same names with ``.png``, their masks in another.

    Pictures are scaled to cover the sensor and a quarter more. The object id is the file's name without suffix.

    Args:
        images: folder of pictures.
        masks: folder of masks: class numbers of 8 bits, 255 for void.
        classes: class names by number.
        sensor_size: (H, W).

    Raises:
        DataError: a missing folder or mask, a class without a name, or a mask of another size than its picture.
    """
    files = _files(images, PICTURES, "pictures")
    folder = Path(masks)
    lost = [file.stem for file in files if not (folder / f"{file.stem}.png").is_file()]
    if lost:
        raise DataError(
            f"Expected a mask '{folder / lost[0]}.png' for the picture of that name, but it is not there "
            f"({len(lost)} of {len(files)} are missing). Add them, or take those pictures away."
        )
    read = partial(_read_scene, masks=folder, classes=len(classes), sensor_size=sensor_size)
    items = [Item(file.name, HIDDEN, file.stem, file) for file in files]
    pictures = SceneImages("mask-folders", classes, items, read, partial(_fingerprint, masks=folder))
    for position in np.unique(np.linspace(0, len(files) - 1, min(CHECKED, len(files))).astype(int)):
        pictures.load(int(position))  # a wrong mask is better found now than in the middle of a training
    return pictures


def _files(folder: Path | str, suffixes: Sequence[str], what: str) -> list[Path]:
    if not Path(folder).is_dir():
        raise DataError(
            f"Expected the folder '{folder}' of {what}, but it is not there. Create it or give its right name."
        )
    files = sorted_files(Path(folder), suffixes)
    if not files:
        raise DataError(f"Expected {what} in '{folder}', but found none ({', '.join(suffixes)}).")
    stems = [file.stem for file in files]
    twice = [stem for stem in stems if stems.count(stem) > 1]
    if twice:
        raise DataError(f"Expected one file a name in '{folder}', but got several of '{twice[0]}'.")
    return files


def _read_scene(item: Item, *, masks: Path, classes: int, sensor_size: tuple[int, int]) -> Scene:
    picture = read_picture(item)
    mask = _checked_mask(masks / f"{item.object_id}.png", classes, picture.shape[:2])
    scale = ROOM * max(side / old for side, old in zip(sensor_size, mask.shape, strict=True))
    size = (round(mask.shape[0] * scale), round(mask.shape[1] * scale))
    return Scene(resized(picture, size, smooth=True), resized(mask, size, smooth=False))


def _checked_mask(path: Path, classes: int, size: tuple[int, ...]) -> Any:
    """The mask uint8 [H, W] in a file."""
    mask = read_mask(path)
    try:
        check_mask(mask, size, "picture or sensor")
    except DataError as error:
        raise DataError(f"'{path}': {error}") from None
    wrong = np.setdiff1d(mask, [*range(classes), VOID])
    if len(wrong):
        raise DataError(
            f"Expected classes 0 to {classes - 1} and 255 (void) in '{path}', but got {wrong.tolist()[:5]}. Name all "
            f"classes in the recipe's data.classes or in {CLASS_FILE}, or change the mask."
        )
    return mask


def _fingerprint(item: Item, *, masks: Path) -> str:
    return hash_of_text(f"{hash_of_file_item(item)}/{hash_of_file(masks / f'{item.object_id}.png')}")


def class_names(masks: Path | str, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names that were given, else the lines of ``classes.txt`` in the folder of masks.

    Raises:
        DataError: neither, or fewer than two names.
    """
    names = tuple(given or ())
    file = Path(masks) / CLASS_FILE
    if not names and file.is_file():
        names = tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(
            f"Expected two class names or more, all different, in the recipe's data.classes or in '{file}', one a "
            f"line, but got {list(names)}."
        )
    return names


@dataclass(frozen=True)
class Windows:
    """Windows of equal length of the recordings in a folder.

    Args:
        folder: recordings in any readable format; the object id is the file's name without suffix.
        classes: class names.
        duration_us: length of a window.
        sensor_size: (H, W); None for what each file says.
        labels: folder with one subfolder a recording, of masks ``<t>.png``, t being the end of their window in µs.
        most: windows a recording that need no mask, evenly spread.
    """

    folder: Path
    classes: tuple[str, ...]
    duration_us: int
    sensor_size: tuple[int, int] | None = None
    labels: Path | None = None
    most: int = 200

    def all(self) -> SceneRecordings:
        """Windows of every recording, for use without masks."""
        items = [
            item for file in _files(self.folder, RECORDINGS, "recordings") for item in self._spread(file)
        ]
        return SceneRecordings("mask-folders", self.classes, items, self.read, self.fingerprint)

    def labelled(self) -> SceneRecordings:
        """The windows that have a mask."""
        files = _files(self.folder, RECORDINGS, "recordings")
        items = [item for file in files for item in self._with_mask(file)]
        if self.labels is not None and not items:
            raise DataError(
                f"Expected masks '{self.labels}/<recording>/<t in µs>.png' for recordings in '{self.folder}', but "
                "found none. Leave data.labels out if there are none."
            )
        return SceneRecordings("mask-folders", self.classes, items, self.read, self.fingerprint)

    def _spread(self, file: Path) -> list[Item]:
        start, stop = _span(file, file.stat().st_size, file.stat().st_mtime_ns, self.sensor_size)
        n = max(1, (stop - start) // self.duration_us)
        chosen = np.unique(np.linspace(0, n - 1, min(n, self.most)).astype(np.int64))
        return [self._item(file, start + int(k) * self.duration_us + self.duration_us) for k in chosen]

    def _with_mask(self, file: Path) -> list[Item]:
        if self.labels is None or not (self.labels / file.stem).is_dir():
            return []
        masks = sorted_files(self.labels / file.stem, (".png",))
        wrong = [mask.name for mask in masks if not (mask.stem.isascii() and mask.stem.isdecimal())]
        if wrong:
            raise DataError(
                f"Expected masks named by their time in µs in '{self.labels / file.stem}', but got '{wrong[0]}'."
            )
        return [self._item(file, int(mask.stem)) for mask in masks]

    def _item(self, file: Path, stop: int) -> Item:
        return Item(f"{file.name}/{stop}", HIDDEN, file.stem, file, 0, stop - self.duration_us, stop)

    def _mask_of(self, item: Item) -> Path | None:
        path = None if self.labels is None else self.labels / item.object_id / f"{item.stop_us}.png"
        return path if path is not None and path.is_file() else None

    def read(self, item: Item) -> EventScene:
        """The events of a window, times from its start, and its mask where it has one."""
        start, stop = item.start_us or 0, item.stop_us or 0
        stream = _slice(item.path, start, stop, self.sensor_size)
        stream = EventStream(stream.t - start, stream.x, stream.y, stream.p, stream.sensor_size)
        path = self._mask_of(item)
        if path is None:
            return EventScene(stream)
        return EventScene(stream, _checked_mask(path, len(self.classes), stream.sensor_size))

    def fingerprint(self, item: Item) -> str:
        """Hash of the recording's hash, the window's times, and the hash of its mask."""
        path = self._mask_of(item)
        return hash_of_text(f"{hash_of_file_item(item)}/{path and hash_of_file(path)}")


def _options(sensor_size: tuple[int, int] | None) -> dict[str, Any]:
    return {} if sensor_size is None else {"sensor_size": sensor_size}


@lru_cache(maxsize=10_000)
def _span(path: Path, size: int, mtime_ns: int, sensor_size: tuple[int, int] | None) -> tuple[int, int]:
    """First time, and last time plus one, of a recording; (0, 0) without events."""
    from evlift.events import open_reader

    times = [
        chunk.t[[0, -1]] for chunk in open_reader(path, **_options(sensor_size)).chunks() if len(chunk.t)
    ]
    return (int(np.min(times)), int(np.max(times)) + 1) if times else (0, 0)


def _slice(path: Path | None, start: int, stop: int, sensor_size: tuple[int, int] | None) -> EventStream:
    """``start <= t < stop`` of a recording: small ones are read once, of large ones this stretch."""
    from evlift.events import read_events

    if path is None:
        raise DataError("Expected a window of a file, but it has none.")
    state = path.stat()
    if state.st_size <= SMALL_FILE:
        return _whole(path, state.st_size, state.st_mtime_ns, sensor_size).between(start, stop)
    return read_events(path, start, stop, **_options(sensor_size))


@lru_cache(maxsize=16)
def _whole(path: Path, size: int, mtime_ns: int, sensor_size: tuple[int, int] | None) -> EventStream:
    from evlift.events import read_events

    return read_events(path, **_options(sensor_size))


def deal(recordings: Sequence[str], fold: int) -> dict[str, str]:
    """Recording → train, val or test, 60 / 20 / 20 %; of few recordings test is served first, then val."""
    if not 0 <= fold < PARTS:
        raise ConfigError(f"Expected `fold` in [0, {PARTS - 1}], but got {fold}. Name one of the folds.")
    order = sorted(set(recordings), key=lambda name: hash_of_text(f"deal/{name}"))
    turns = {0: "test", 1: "val"}
    n = min(PARTS, max(len(order), 1))
    return {name: turns.get((rank - fold) % n, "train") for rank, name in enumerate(order)}


def mask_folders(
    pictures: tuple[Path | str, Path | str],
    windows: Windows,
    *,
    fold: int = 0,
) -> TransferTask:
    """A segmentation task of your own files; arguments as the suite `mask-folders` explains them.

    Args:
        pictures: folders of pictures and of their masks.
        windows: of the recordings.
        fold: 0 to 4, which labelled recordings judge.
    """
    free, labelled = windows.all(), windows.labelled()
    part = deal(labelled.object_ids, fold)
    train, val, test = (
        labelled.subset([i for i, item in enumerate(labelled) if part[item.object_id] == name])
        for name in ("train", "val", "test")
    )
    judged = val.objects | test.objects
    size = windows.sensor_size or free.load(0).stream.sensor_size
    source = mask_pictures(pictures[0], pictures[1], classes=windows.classes, sensor_size=size)
    return assemble_scenes(
        hold_out(disjoint(source, judged), share=0.1),
        (train, val, test),
        sensor_size=size,
        duration_us=windows.duration_us,
        unlabelled=disjoint(free, judged),
    )
