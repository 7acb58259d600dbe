"""DDD17 with Ev-SegNet's labels: 346x260 cut to 346x200, 6 classes, made from the grey frames by a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.class_maps import DDD17_6
from evlift.datasets.driving.files import (
    block_id,
    numbered,
    path_of,
    read_frame,
    read_mask,
    window_fingerprint,
)
from evlift.datasets.driving.geometry import keep_rows
from evlift.datasets.driving.raw import RawDavis
from evlift.datasets.items import Item, missing, require, sorted_files
from evlift.datasets.scenes import EventScene, SceneRecordings
from evlift.errors import DataError
from evlift.events import EventStream

DIRS_SOURCE = "https://github.com/uzh-rpg/ess (DDD17 with events and Ev-SegNet's masks, a folder a recording)"
LABEL_SOURCE = "https://github.com/Shathe/Ev-SegNet (dataset_our_codification)"
RAW_SOURCE = "https://sensors.ini.ch/databases (DDD17, the raw recordings)"

SENSOR, ROWS = (260, 346), 200
TRAIN: tuple[str, ...] = ("dir0", "dir3", "dir4", "dir6", "dir7")
RUNS = {  # recording → the folder that DDD17 publishes it in
    "rec1487339175": "run2",
    "rec1487356509": "run3",
    "rec1487417411": "run3",
    "rec1487593224": "run3",
    "rec1487779465": "run4",
    "rec1487842276": "run5",
    "rec1487846842": "run5",
}
ARCHIVE = "dataset_our_codification"
RAW_TEST, RAW_OTHER = "rec1487417411", "rec1487356509"
RAW_TRAIN = tuple(name for name in RUNS if name not in (RAW_TEST, RAW_OTHER))
EXPORT_US = 50_000
"""Ev-SegNet exported a row of 50 ms each; a label's number is its row's (from its released code; inferred)."""


def ddd17(
    root: Path | str, sequences: Sequence[str] = TRAIN, *, window_ms: int = 50, frames: bool = True
) -> SceneRecordings:
    """DDD17 from ``root/ddd17/dir<k>/``: `events.dat.t`, `events.dat.xyp`, `index/`, `segmentation_masks/`, `imgs/`.

    A window ends at its label's time; times count from its start. The object id is the folder and which 10 s of it.

    Args:
        root: folder of data sets.
        sequences: names of folders; the 5 of the published training split, unless given.
        window_ms: length of a window in milliseconds.
        frames: grey frames as well, where the folder `imgs` is there (unpack `video.mp4` into it).

    Raises:
        DataError: a missing file, named with where it belongs and comes from, or a label without a time.
    """
    base = require(root, ("ddd17",), data_set="ddd17", source=DIRS_SOURCE)
    items = [item for name in sequences for item in _dir_items(base / name, window_ms)]
    return SceneRecordings("ddd17", DDD17_6, items, partial(_read_dir, frames=frames), _fingerprint_dir)


def _dir_items(folder: Path, window_ms: int) -> list[Item]:
    table = _of_dir(folder, "index/index_50ms.npy", "index/index_10ms.npy", "index/index_250ms.npy")
    labels = sorted_files(_of_dir(folder, "segmentation_masks"), (".png",))
    _events_of(folder)
    times = np.load(table)[:, 0] // 1000  # ns → µs
    items = []
    for file in sorted(labels, key=numbered):
        row = numbered(file) - 1
        if not 0 <= row < len(times):
            raise DataError(f"Expected '{file}' to be numbered 1 to {len(times)}, the rows of '{table}'.")
        t = int(times[row])
        object_id = block_id(f"ddd17/{folder.name}", t, int(times[0]))
        items.append(Item(f"{folder.name}/{file.stem}", -1, object_id, file, row, t - 1000 * window_ms, t))
    return items


def _of_dir(folder: Path, *inside: str) -> Path:
    return require(folder, inside, data_set="ddd17", source=DIRS_SOURCE)


def _read_dir(item: Item, *, frames: bool) -> EventScene:
    label = path_of(item)
    folder, start = label.parent.parent, item.start_us or 0
    t, xyp = _events_of(folder)
    first, last = np.searchsorted(t, [1000 * start, 1000 * (item.stop_us or 0)])
    x, y, p = np.asarray(xyp[first:last]).T
    try:
        stream = EventStream.from_columns(t[first:last] // 1000 - start, x, y, p, sensor_size=SENSOR)
    except ValueError as error:
        raise DataError(f"'{folder / 'events.dat.xyp'}' is damaged: {error}") from error
    frame = _frame_of(label) if frames else None
    return EventScene(keep_rows(stream, ROWS), read_mask(label)[:ROWS], frame)


def _frame_of(label: Path) -> NDArray[np.uint8] | None:
    """The grey frame of a mask; None where no frames were unpacked."""
    folder = label.parent.parent / "imgs"
    if not folder.is_dir():
        return None
    number = label.stem.rsplit("_", 1)[-1]
    return read_frame(_of_dir(folder, f"img_{number}.png", f"{int(number):010d}.png"))[:ROWS]


def _events_of(folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Times int64 [n] in ns and (x, y, p) int16 [n, 3], mapped from the files: a window costs what it holds."""
    t, xyp = _of_dir(folder, "events.dat.t"), _of_dir(folder, "events.dat.xyp")
    sizes = t.stat().st_size, xyp.stat().st_size
    if sizes[0] % 8 or sizes[1] != sizes[0] // 8 * 6 or not sizes[0]:
        raise DataError(
            f"Expected 8 bytes an event in '{t}' and 6 in '{xyp}', but got {sizes[0]} and {sizes[1]} bytes. Fetch both "
            f"again from {DIRS_SOURCE}."
        )
    return _mapped(t, "<i8", ()), _mapped(xyp, "<i2", (3,))


@lru_cache(maxsize=32)
def _mapped(path: Path, kind: str, row: tuple[int, ...]) -> NDArray[Any]:
    return np.memmap(path, dtype=kind, mode="r").reshape(-1, *row)


def _fingerprint_dir(item: Item) -> str:
    return window_fingerprint(item, path_of(item).parent.parent / "events.dat.xyp")


def ddd17_raw(
    root: Path | str, sequences: Sequence[str] = RAW_TRAIN, *, window_ms: int = 50, frames: bool = True
) -> SceneRecordings:
    """DDD17 from Ev-SegNet's labels and the raw recordings.

    They lie in ``root/ddd17/{labels,images}/{train,test,other}/`` (or in Ev-SegNet's own folder there,
    `dataset_our_codification`) and ``root/ddd17/run<k>/<recording>.hdf5``. Ev-SegNet's event pictures, `events/*.npy`,
    are not read: the events are those of the raw recordings. A label ``<recording>_export_<k>.png`` belongs to the end
    of the recording's 50 ms number k from 0, counted from its first event (inferred from the released export script).

    Args:
        root: folder of data sets.
        sequences: names of recordings; the 5 of the published training split, unless given.
        window_ms: length of a window in milliseconds.
        frames: grey frames as well, where the folder `images` is there.

    Raises:
        DataError: a missing file, named with where it belongs and comes from.
    """
    base = require(root, ("ddd17",), data_set="ddd17", source=LABEL_SOURCE)
    labels = require(base, ("labels", f"{ARCHIVE}/labels"), data_set="ddd17", source=LABEL_SOURCE)
    items = [item for name in sequences for item in _raw_items(base, labels, name, window_ms)]
    return SceneRecordings(
        "ddd17", DDD17_6, items, partial(_read_raw, base, frames=frames), partial(_fingerprint_raw, base)
    )


def _raw_items(base: Path, labels: Path, name: str, window_ms: int) -> list[Item]:
    if name not in RUNS:
        raise DataError(
            f"Expected a recording that Ev-SegNet labelled ({', '.join(RUNS)}), but got '{name}'."
        )
    _raw_recording(base, name)
    split = {RAW_TEST: "test", RAW_OTHER: "other"}.get(name, "train")
    folder = require(labels, (split,), data_set="ddd17", source=LABEL_SOURCE)
    files = [file for file in sorted_files(folder, (".png",)) if file.stem.startswith(f"{name}_")]
    if not files:
        raise missing(folder / f"{name}_export_<k>.png", data_set="ddd17", source=LABEL_SOURCE)
    ends = [(numbered(file) + 1) * EXPORT_US for file in files]
    return [
        Item(file.stem, -1, block_id(f"ddd17/{name}", end, 0), file, 0, end - 1000 * window_ms, end)
        for file, end in zip(files, ends, strict=True)
    ]


def _raw_recording(base: Path, name: str) -> Path:
    return require(base, (f"{RUNS[name]}/{name}.hdf5", f"{name}.hdf5"), data_set="ddd17", source=RAW_SOURCE)


def _recording_of(base: Path, item: Item) -> Path:
    return _raw_recording(base, path_of(item).stem.split("_")[0])


def _read_raw(base: Path, item: Item, *, frames: bool) -> EventScene:
    label = path_of(item)
    stream = RawDavis(_recording_of(base, item), SENSOR).window(item.start_us or 0, item.stop_us or 0)
    picture = label.parent.parent.parent / "images" / label.parent.name / label.name
    frame = read_frame(picture)[:ROWS] if frames and picture.parent.is_dir() else None
    return EventScene(keep_rows(stream, ROWS), read_mask(label)[:ROWS], frame)


def _fingerprint_raw(base: Path, item: Item) -> str:
    return window_fingerprint(item, _recording_of(base, item))
