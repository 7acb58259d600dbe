"""Event recordings in folders: one subfolder a class, any readable format; and how one item is read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from evlift.datasets.items import Item, Recordings, require, sorted_files, sorted_folders
from evlift.errors import DataError
from evlift.events import EventStream
from evlift.events.readers import readable_suffixes
from evlift.registry import Registry

RECORDINGS = Registry("recording data set")

SUFFIXES = readable_suffixes()
NMNIST_SOURCE = "https://www.garrickorchard.com/datasets/n-mnist (Train.zip and Test.zip)"
NMNIST_CLASSES = tuple("0123456789")
NMNIST_SENSOR = (34, 34)


def read_recording(item: Item, **options: Any) -> EventStream:
    """The events of one item: its whole file, or the slice ``start_us <= t < stop_us`` of it.

    Args:
        item: with a path.
        options: of the format's reader, such as `sensor_size` for formats that do not store it.
    """
    from evlift.events import read_events

    if item.path is None:
        raise DataError(f"Expected '{item.name}' to name a file, but it has none.")
    return read_events(item.path, item.start_us, item.stop_us, **options)


@RECORDINGS.register("recording-folder")
def recording_folder(
    root: Path | str,
    *,
    name: str = "recording-folder",
    drop: tuple[str, ...] = (),
    sensor_size: tuple[int, int] | None = None,
) -> Recordings:
    """Recordings in one subfolder a class; the object id is ``<class>/<file stem>``.

    Args:
        root: folder of class folders.
        name: what messages call the data set.
        drop: class folders to leave out.
        sensor_size: (H, W) for formats that do not store it.

    Raises:
        DataError: no such folder, or no recordings in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(
            f"Expected the folder '{root}' with one subfolder of recordings a class, but it is not there. "
            "Create it or give its right name."
        )
    folders = [folder for folder in sorted_folders(root) if folder.name not in drop]
    items = [
        Item(f"{folder.name}/{file.name}", target, f"{folder.name}/{file.stem}", file)
        for target, folder in enumerate(folders)
        for file in sorted_files(folder, SUFFIXES)
    ]
    if not items:
        raise DataError(f"Expected recordings in subfolders of '{root}', one a class, but found none.")
    options: dict[str, Any] = {} if sensor_size is None else {"sensor_size": sensor_size}
    read = partial(read_recording, **options)
    return Recordings(name, [folder.name for folder in folders], items, read)


@RECORDINGS.register("nmnist")
def nmnist(
    root: Path | str,
    split: str = "train",
    *,
    folder: str = "nmnist",
    classes: tuple[str, ...] = NMNIST_CLASSES,
) -> Recordings:
    """N-MNIST from ``root/<folder>/Train/<digit>/<k>.bin`` (or `Test`): 34x34, three saccades, 0.3 s.

    File `k` was recorded from MNIST image `k - 1` of the same split, so its object id is
    ``mnist/<split>/<k - 1>``: the two modalities of one digit are told apart from no other.

    Example:
        >>> nmnist("data")[0].object_id  # doctest: +SKIP
        'mnist/train/00000'

    Raises:
        DataError: the folder is missing or empty, or a file name is not a number from 1 on.
    """
    part = {"train": "Train", "test": "Test"}.get(split)
    if part is None:
        raise DataError(f"Expected the split of N-MNIST to be 'train' or 'test', but got '{split}'.")
    found = require(
        root, (f"{folder}/{part}", f"{folder}/N-MNIST/{part}"), data_set=folder, source=NMNIST_SOURCE
    )
    items = [
        _nmnist_item(file, target, split)
        for target, digit in enumerate(classes)
        if (found / digit).is_dir()
        for file in sorted_files(found / digit, (".bin",))
    ]
    if not items:
        raise DataError(f"Expected recordings in '{found}/<digit>/<k>.bin', but found none.")
    return Recordings(folder, classes, items, partial(read_recording, sensor_size=NMNIST_SENSOR))


def _nmnist_item(file: Path, target: int, split: str) -> Item:
    if not file.stem.isascii() or not file.stem.isdecimal() or int(file.stem) < 1:
        raise DataError(f"Expected N-MNIST files named by a number from 1 on, but got '{file}'.")
    object_id = f"mnist/{split}/{int(file.stem) - 1:05d}"
    return Item(f"{file.parent.name}/{file.stem}", target, object_id, file)


@RECORDINGS.register("nmnist6789")
def nmnist6789(root: Path | str, split: str = "train") -> Recordings:
    """The digits 6 to 9 of N-MNIST, from ``root/nmnist6789`` in the layout of N-MNIST; targets are 0 to 3."""
    return nmnist(root, split, folder="nmnist6789", classes=NMNIST_CLASSES[6:])
