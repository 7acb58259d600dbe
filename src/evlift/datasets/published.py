"""Event data sets in their published layouts, and the pictures that belong to two of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from evlift.datasets.images import IMAGES, read_picture
from evlift.datasets.items import Images, Item, Recordings, missing, require, sorted_files, sorted_folders
from evlift.datasets.recordings import RECORDINGS, read_recording, recording_folder
from evlift.errors import DataError

NCALTECH_SOURCE = "https://www.garrickorchard.com/datasets/n-caltech101 (Caltech101.zip)"
CIFAR_SOURCE = "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671 (a zip a class)"
CEP_SOURCE = "https://github.com/Brain-Cog-Lab/Transfer-for-DVS (links in its issue 2)"
OMNIGLOT_SOURCE = "https://github.com/brendenlake/omniglot (images_background.zip, images_evaluation.zip)"
NOMNIGLOT_SOURCE = "https://figshare.com/articles/dataset/N-Omniglot/16821427 (three rar files)"
GESTURE_SOURCE = "https://research.ibm.com/interactive/dvsgesture (DvsGesture.tar.gz)"

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CEP_CLASSES = (
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
)
GESTURE_CLASSES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)


@RECORDINGS.register("ncaltech101")
def ncaltech101(root: Path | str) -> Recordings:
    """N-Caltech101 from ``root/ncaltech101/Caltech101/<class>/*.bin``, without its background class.

    The object id ``<class>/image_<nnnn>`` is that of the Caltech101 picture recorded. The class `Faces` is
    in Caltech101 alone: `restrict` the pictures to the classes of the recordings.

    Raises:
        DataError: the folder is missing; the message says where it belongs and comes from.
    """
    inside = ("ncaltech101/Caltech101", "ncaltech101/N-Caltech101", "ncaltech101")
    found = require(root, inside, data_set="ncaltech101", source=NCALTECH_SOURCE)
    return recording_folder(found, name="ncaltech101", drop=("BACKGROUND_Google",), sensor_size=(180, 240))


@RECORDINGS.register("cifar10-dvs")
def cifar10_dvs(root: Path | str) -> Recordings:
    """CIFAR10-DVS from ``root/cifar10-dvs/<class>/cifar10_<class>_<k>.aedat``, 128x128.

    The set does not say which CIFAR-10 picture was recorded, so a recording is an object of its own.

    Raises:
        DataError: a class folder is missing; the message says where it belongs and comes from.
    """
    folder = require(root, ("cifar10-dvs", "CIFAR10DVS"), data_set="cifar10-dvs", source=CIFAR_SOURCE)
    for name in CIFAR_CLASSES:
        require(folder, (name,), data_set="cifar10-dvs", source=CIFAR_SOURCE)
    items = [
        Item(f"{name}/{file.name}", target, f"cifar10-dvs/{file.stem}", file)
        for target, name in enumerate(CIFAR_CLASSES)
        for file in sorted_files(folder / name, (".aedat",))
    ]
    return Recordings("cifar10-dvs", CIFAR_CLASSES, items, read_recording)


@RECORDINGS.register("cep-dvs")
def cep_dvs(root: Path | str) -> Recordings:
    """CEP-DVS recordings, ``root/cep-dvs/data/MAT/img/<n>.mat``; labels from ``root/cep-dvs/pathFile.csv``.

    Source: KT's released loader.

    Raises:
        DataError: a missing file, or a row of the label table without a known class.
    """
    items = _cep_items(root, "data/MAT/img", (".mat",))
    return Recordings("cep-dvs", CEP_CLASSES, items, partial(read_recording, time_unit="us"))


@IMAGES.register("cep-dvs")
def cep_dvs_images(root: Path | str) -> Images:
    """CEP-DVS pictures from ``root/cep-dvs/data/img/<n>.jpg``; labels and object ids as for its recordings.

    Raises:
        DataError: as :func:`cep_dvs`.
    """
    return Images("cep-dvs", CEP_CLASSES, _cep_items(root, "data/img", (".jpg", ".png")), read_picture)


def _cep_items(root: Path | str, inside: str, suffixes: tuple[str, ...]) -> Iterator[Item]:
    table = require(root, ("cep-dvs/pathFile.csv",), data_set="cep-dvs", source=CEP_SOURCE)
    folder = require(table.parent, (inside,), data_set="cep-dvs", source=CEP_SOURCE)
    rows = table.read_text("utf-8").splitlines()[1:]
    for file in sorted_files(folder, suffixes):
        if not file.stem.isdecimal() or int(file.stem) >= len(rows):
            raise DataError(f"Expected '{file}' to be named by a row of '{table}' (0 to {len(rows) - 1}).")
        target = _cep_target(rows[int(file.stem)], table)
        yield Item(file.name, target, f"cep-dvs/{int(file.stem):05d}", file)


def _cep_target(row: str, table: Path) -> int:
    """The class is the fifth word of a row's first column."""
    found = re.search(r"(?:\S*\s){4}(\S+)", row.split(",")[0])
    if found is None or found[1] not in CEP_CLASSES:
        raise DataError(
            f"Expected a CEP-DVS class as the fifth word of each row of '{table}', but got '{row}'."
        )
    return CEP_CLASSES.index(found[1])


@RECORDINGS.register("n-omniglot")
def n_omniglot(root: Path | str) -> Recordings:
    """N-Omniglot, ``root/n-omniglot/dvs_{background,evaluation}/<alphabet>/<character>/<nnnn>.aedat4``.

    One file holds 20 drawings of one character; the csv file beside it gives each drawing's first and last
    time in µs. ``dvs_background_1`` and ``_2``, as the archives are called, are read as well. Drawing `k` has
    the object id ``omniglot/<alphabet>/<character>/<nnnn>_<k>``, as the Omniglot picture ``<nnnn>_<k>.png``.

    Raises:
        DataError: a missing file or a csv file of another form.

    Source: the data set's released loader; 1 623 classes, the background set first.
    """
    base = require(root, ("n-omniglot",), data_set="n-omniglot", source=NOMNIGLOT_SOURCE)
    parts = ("dvs_background", "dvs_background_1", "dvs_background_2", "dvs_evaluation")
    found = [(base / part).is_dir() for part in parts]
    if not (found[3] and (found[0] or (found[1] and found[2]))):
        wanted = base / (parts[0] if found[3] else parts[3])
        raise missing(wanted, data_set="n-omniglot", source=NOMNIGLOT_SOURCE)
    folders = _characters([[base / part for part in parts[:3]], [base / parts[3]]])
    items = [
        item
        for target, folder in enumerate(folders)
        for file in sorted_files(folder, (".aedat4",))
        for item in _drawings(file, target)
    ]
    return Recordings("n-omniglot", _character_names(folders), items, read_recording)


@IMAGES.register("omniglot")
def omniglot(root: Path | str) -> Images:
    """Omniglot, ``root/omniglot/images_{background,evaluation}/<alphabet>/<character>/*.png``.

    Classes and object ids are those of N-Omniglot.

    Raises:
        DataError: a missing folder.
    """
    parts = ("omniglot/images_background", "omniglot/images_evaluation")
    sets = [[require(root, (part,), data_set="omniglot", source=OMNIGLOT_SOURCE)] for part in parts]
    folders = _characters(sets)
    items = [
        Item(f"{_character(folder)}/{file.name}", target, f"omniglot/{_character(folder)}/{file.stem}", file)
        for target, folder in enumerate(folders)
        for file in sorted_files(folder, (".png",))
    ]
    return Images("omniglot", _character_names(folders), items, read_picture)


def _characters(sets: Iterable[Sequence[Path]]) -> list[Path]:
    """Character folders of several sets of alphabets: the sets in turn, each by alphabet and character."""
    ordered: list[Path] = []
    for roots in sets:
        alphabets = [alphabet for root in roots if root.is_dir() for alphabet in sorted_folders(root)]
        characters = [character for alphabet in alphabets for character in sorted_folders(alphabet)]
        ordered += sorted(characters, key=_character)
    return ordered


def _character(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _character_names(folders: Iterable[Path]) -> list[str]:
    return [_character(folder) for folder in folders]


def _drawings(file: Path, target: int) -> Iterator[Item]:
    table = file.with_suffix(".csv")
    if not table.is_file():
        raise missing(table, data_set="n-omniglot", source=NOMNIGLOT_SOURCE)
    for k, row in enumerate(_integer_rows(table, columns=3), start=1):
        name = f"{_character(file.parent)}/{file.stem}_{k:02d}"
        yield Item(name, target, f"omniglot/{name}", file, start_us=row[1], stop_us=row[2])


@RECORDINGS.register("dvs128-gesture")
def dvs128_gesture(root: Path | str, split: str = "train") -> Recordings:
    """DVS128 Gesture from ``root/dvs128-gesture/DvsGesture``, by its own `trials_to_<split>.txt`.

    An item is a slice of an AEDAT 3.1 file, from ``<file>_labels.csv``. Its object is the person
    (``dvs128-gesture/user01``), so that a split by object is a split by person.

    Raises:
        DataError: a missing file, a label file of another form, an unknown split.
    """
    if split not in ("train", "test"):
        raise DataError(f"Expected the split of DVS128 Gesture to be 'train' or 'test', but got '{split}'.")
    inside = (f"dvs128-gesture/DvsGesture/trials_to_{split}.txt", f"dvs128-gesture/trials_to_{split}.txt")
    trials = require(root, inside, data_set="dvs128-gesture", source=GESTURE_SOURCE)
    names = sorted({line.strip() for line in trials.read_text("utf-8").splitlines() if line.strip()})
    items = [item for name in names for item in _gestures(trials.parent / name)]
    read = partial(read_recording, sensor_size=(128, 128))
    return Recordings("dvs128-gesture", GESTURE_CLASSES, items, read)


def _gestures(file: Path) -> Iterator[Item]:
    table = file.with_name(f"{file.stem}_labels.csv")
    for path in (file, table):
        if not path.is_file():
            raise missing(path, data_set="dvs128-gesture", source=GESTURE_SOURCE)
    person = file.stem.split("_")[0]
    for k, (label, start, stop) in enumerate(_integer_rows(table, columns=3)):
        if not 1 <= label <= len(GESTURE_CLASSES):
            raise DataError(f"Expected classes 1 to {len(GESTURE_CLASSES)} in '{table}', but got {label}.")
        name = f"{file.stem}/{k:02d}"
        yield Item(name, label - 1, f"dvs128-gesture/{person}", file, start_us=start, stop_us=stop)


def _integer_rows(table: Path, *, columns: int) -> Iterator[tuple[int, ...]]:
    """Rows of a csv file of integers after its header line."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row][1:]
    for row in rows:
        try:
            values = tuple(int(float(value)) if "." in value else int(value) for value in row)
        except ValueError:
            values = ()
        if len(values) != columns:
            raise DataError(f"Expected {columns} integers in each row of '{table}', but got {','.join(row)}.")
        yield values
