"""DSEC-Semantic: driving through Zürich, 640x480, a class for every pixel of the upper 440 rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.class_maps import CITYSCAPES_19, DSEC_11
from evlift.datasets.driving.files import (
    block_id,
    numbered,
    path_of,
    read_frame,
    read_mask,
    window_fingerprint,
)
from evlift.datasets.driving.geometry import from_start, infinity_homography, keep_rows, rectify, warp
from evlift.datasets.items import Item, missing, sorted_files
from evlift.datasets.scenes import EventScene, SceneRecordings
from evlift.errors import ConfigError, DataError
from evlift.files import load_yaml

SOURCE = "https://dsec.ifi.uzh.ch/dsec-semantic/ and https://dsec.ifi.uzh.ch/dsec-datasets/download/"
SENSOR, ROWS = (480, 640), 440
TRAIN = tuple(f"zurich_city_{number:02d}_a" for number in (0, 1, 2, 4, 5, 6, 7, 8))
TEST = ("zurich_city_13_a", "zurich_city_14_c", "zurich_city_15_a")
CLASSES = {11: DSEC_11, 19: CITYSCAPES_19}


@dataclass(frozen=True)
class DsecSequence:
    """The files of one sequence; what was not asked for is None.

    Args:
        events: `events.h5` of the left camera.
        rectify_map: `rectify_map.h5` beside it.
        frames: folder of pictures, aligned ones (`ev_inf`) or rectified ones.
        calibration: `cam_to_cam.yaml`, for rectified pictures.
    """

    events: Path
    rectify_map: Path | None = None
    frames: Path | None = None
    calibration: Path | None = None


def dsec(
    root: Path | str,
    sequences: Sequence[str] = TRAIN,
    *,
    classes: int = 11,
    window_ms: int = 50,
    rectified: bool = True,
    frames: bool = False,
    every: int = 2,
    skip: int = 6,
) -> SceneRecordings:
    """DSEC-Semantic from ``root/dsec/{train,test}/<sequence>/{events/left,semantic,images,calibration}``.

    The folders of the published archives (`train_events`, `train_semantic_segmentation/train`, `train_images`,
    `train_calibration` and those of test) are found as well. A window ends at its label's time; times count from its
    start. The object id is the sequence and which 10 s of it.

    Args:
        root: folder of data sets.
        sequences: names; the 8 of the published training split, unless given.
        classes: 11 or 19.
        window_ms: length of a window in milliseconds.
        rectified: move events into the rectified view, in which the labels are; False keeps the sensor's.
        frames: pictures as well: from ``images/left/ev_inf`` if it is there, else from ``images/left/rectified``
            through the homography of ``calibration/cam_to_cam.yaml``, exact at infinite distance.
        every: of the 20 labels a second every how manieth is used (2 in ESS's released code).
        skip: first labels left out, before which there are too few events (6 in ESS's released code).

    Raises:
        DataError: a missing file, named with where it belongs and comes from, or times that do not fit the labels.
        ConfigError: another number of classes.
    """
    if classes not in CLASSES:
        raise ConfigError(f"Expected 11 or 19 `classes` of DSEC-Semantic, but got {classes}.")
    files: dict[str, DsecSequence] = {}
    items: list[Item] = []
    for name in sequences:
        finder = _Finder(Path(root) / "dsec", name)
        files[name] = finder.files(rectified=rectified, frames=frames)
        labels, times = finder.labels(classes)
        kept = slice(skip, None, every)
        items += [
            Item(
                f"{name}/{file.stem}",
                -1,
                block_id(f"dsec/{name}", int(t), int(times[0])),
                file,
                start_us=int(t) - 1000 * window_ms,
                stop_us=int(t),
            )
            for file, t in zip(labels[kept], times[kept], strict=True)
        ]
    return SceneRecordings(
        "dsec", CLASSES[classes], items, partial(_read, files), partial(_fingerprint, files)
    )


class _Finder:
    """Looks for a sequence's files in one tree, or in the trees of the published archives."""

    def __init__(self, base: Path, name: str) -> None:
        if name not in (*TRAIN, *TEST):
            raise DataError(
                f"Expected a sequence of DSEC-Semantic ({', '.join((*TRAIN, *TEST))}), but got '{name}'."
            )
        split = "train" if name in TRAIN else "test"
        archives = ("events", "semantic_segmentation", "images", "calibration")
        trees = (split, *(f"{split}_{part}" for part in archives), f"{split}_semantic_segmentation/{split}")
        self.name = name
        self.folders = tuple(base / tree / name for tree in trees)

    def find(self, *inside: str) -> Path:
        """The first of these places that is there; the message of the error names the first."""
        places = [folder / place for place in inside for folder in self.folders]
        for place in places:
            if place.exists():
                return place
        raise missing(places[0], data_set="dsec", source=SOURCE)

    def files(self, *, rectified: bool, frames: bool) -> DsecSequence:
        events = self.find("events/left/events.h5")
        mapping = self.find("events/left/rectify_map.h5") if rectified else None
        if not frames:
            return DsecSequence(events, mapping)
        folder = self.find("images/left/ev_inf", "images/left/rectified")
        calibration = None if folder.name == "ev_inf" else self.find("calibration/cam_to_cam.yaml")
        return DsecSequence(events, mapping, folder, calibration)

    def labels(self, classes: int) -> tuple[list[Path], NDArray[np.int64]]:
        """Label pictures in order and their times in µs."""
        kind = f"{classes}classes"
        places = (f"semantic/left/{kind}", f"semantic/{kind}", kind)
        folder = self.find(*(os.path.join(place, "data") for place in places), *places)
        own = f"{self.name}_semantic_timestamps.txt"
        table = self.find("semantic/timestamps.txt", own, f"semantic/{own}", f"semantic/left/{own}")
        labels = sorted(sorted_files(folder, (".png",)), key=numbered)
        times = np.loadtxt(table, dtype=np.int64, ndmin=1)
        if len(labels) != len(times) or not len(times):
            raise DataError(
                f"Expected a time in '{table}' for each label in '{folder}', but got {len(times)} times and "
                f"{len(labels)} labels. Unpack the archive again."
            )
        return labels, times


def _read(files: Mapping[str, DsecSequence], item: Item) -> EventScene:
    from evlift.events import read_events

    label = path_of(item)
    sequence, start = files[_sequence_of(item)], item.start_us or 0
    stream = read_events(sequence.events, start, item.stop_us, format="dsec", sensor_size=SENSOR)
    if sequence.rectify_map is not None:
        stream = rectify(stream, _rectify_map(sequence.rectify_map))
    frame = None if sequence.frames is None else _frame(sequence, label.name)[:ROWS]
    return EventScene(keep_rows(from_start(stream, start), ROWS), read_mask(label), frame)


def _fingerprint(files: Mapping[str, DsecSequence], item: Item) -> str:
    return window_fingerprint(item, files[_sequence_of(item)].events)


def _sequence_of(item: Item) -> str:
    return item.object_id.split("/")[1]


@lru_cache(maxsize=16)
def _rectify_map(path: Path) -> NDArray[np.float32]:
    """[480, 640, 2], kept by each worker: 2.5 MB a sequence."""
    from evlift.events.readers.hdf5_file import open_hdf5

    with open_hdf5(path) as file:
        return np.asarray(file["rectify_map"][()], np.float32)


def _frame(sequence: DsecSequence, name: str) -> NDArray[np.uint8]:
    if sequence.frames is None or not (sequence.frames / name).is_file():
        raise missing((sequence.frames or Path("images")) / name, data_set="dsec", source=SOURCE)
    picture = read_frame(sequence.frames / name)
    return (
        picture if sequence.calibration is None else warp(picture, _homography(sequence.calibration), SENSOR)
    )


@lru_cache(maxsize=16)
def _homography(calibration: Path) -> NDArray[np.float64]:
    return infinity_homography(load_yaml(calibration.read_text("utf-8")))
