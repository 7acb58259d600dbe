"""MVSEC's outdoor drives: grey frames and events of one sensor, 346x260; masks come from the user."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.class_maps import DDD17_6
from evlift.datasets.driving.files import block_id, numbered, path_of, read_mask, window_fingerprint
from evlift.datasets.driving.geometry import from_start, keep_rows
from evlift.datasets.items import Item, missing, require, sorted_files
from evlift.datasets.scenes import EventScene, SceneRecordings
from evlift.errors import DataError
from evlift.events import EventStream

SOURCE = "https://daniilidis-group.github.io/mvsec/ (<sequence>_data.hdf5)"
SEQUENCES = ("outdoor_day1", "outdoor_day2", "outdoor_night1", "outdoor_night2", "outdoor_night3")
SENSOR = (260, 346)
MARGIN_S = 0.1
"""Events are looked for this long before and after a window by the frames' event numbers, then cut by time."""


def mvsec(
    root: Path | str,
    sequences: Sequence[str] = ("outdoor_day2",),
    *,
    labels: Path | str | None = None,
    classes: Sequence[str] = DDD17_6,
    window_ms: int = 50,
    rows: int = SENSOR[0],
    every: int = 1,
) -> SceneRecordings:
    """MVSEC from ``root/mvsec/<sequence>_data.hdf5``: a window before every grey frame of the left camera.

    The set has no classes of pixels. Give a folder ``labels/<sequence>/<frame number>.png`` of what a segmentation
    network said of the grey frames, or none for windows without masks. Times count from a window's start.

    Args:
        root: folder of data sets.
        sequences: names such as outdoor_day1.
        labels: folder of masks; only frames that have one are kept. None for windows without masks.
        classes: names of the classes in the masks.
        window_ms: length of a window in milliseconds.
        rows: rows kept from the top, without the car's own bonnet.
        every: every how manieth frame is used.

    Raises:
        DataError: a missing file, named with where it belongs and comes from, or a mask without a frame.
    """
    items = [
        item
        for name in sequences
        for item in _items(
            _recording(root, name), name, None if labels is None else Path(labels) / name, window_ms
        )[::every]
    ]
    read = partial(_read, Path(root), labelled=labels is not None, rows=rows)
    return SceneRecordings("mvsec", classes, items, read, partial(_fingerprint, Path(root)))


def _recording(root: Path | str, name: str) -> Path:
    if name not in SEQUENCES:
        raise DataError(f"Expected an outdoor sequence of MVSEC ({', '.join(SEQUENCES)}), but got '{name}'.")
    drive = name.rstrip("0123456789")
    places = (f"mvsec/{name}_data.hdf5", f"mvsec/{drive}/{name}_data.hdf5")
    return require(root, places, data_set="mvsec", source=SOURCE)


def _items(recording: Path, name: str, labels: Path | None, window_ms: int) -> list[Item]:
    from evlift.events.readers.hdf5_file import open_hdf5

    with open_hdf5(recording) as file:
        times = _microseconds(_column(file, "image_raw_ts")[()])
        first_event = int(_microseconds(_column(file, "events")[:1, 2])[0])
    masks = {} if labels is None else _masks(labels, len(times))
    chosen = sorted(masks) if labels is not None else range(len(times))
    window = 1000 * window_ms
    return [
        Item(
            f"{name}/{k:06d}",
            -1,
            block_id(f"mvsec/{name}", int(times[k]), int(times[0])),
            masks.get(k, recording),
            k,
            int(times[k]) - window,
            int(times[k]),
        )
        for k in chosen
        if times[k] - window >= first_event
    ]


def _masks(folder: Path, frames: int) -> dict[int, Path]:
    if not folder.is_dir():
        raise missing(
            folder, data_set="mvsec", source="a segmentation network run on the grey frames: MVSEC has none"
        )
    masks = {numbered(file): file for file in sorted_files(folder, (".png",))}
    if not masks or max(masks) >= frames:
        raise DataError(
            f"Expected masks in '{folder}' named by frames 0 to {frames - 1}, but got "
            f"{max(masks) if masks else 'none'}. Name each by its frame's number."
        )
    return masks


def _read(root: Path, item: Item, *, labelled: bool, rows: int) -> EventScene:
    from evlift.events.readers.hdf5_file import open_hdf5

    with open_hdf5(_recording(root, _sequence_of(item))) as file:
        frame = np.asarray(_column(file, "image_raw")[item.index], np.uint8)
        stream = _window(file, item.start_us or 0, item.stop_us or 0)
    mask = read_mask(path_of(item))[:rows] if labelled else None
    return EventScene(keep_rows(from_start(stream, item.start_us or 0), rows), mask, frame[:rows])


def _window(file: Any, start_us: int, stop_us: int) -> EventStream:
    """Events with ``start_us <= t < stop_us``, found by the number of the event at each frame."""
    from evlift.events.readers.hdf5_file import read_rows, require_filters

    events, times = _column(file, "events"), _column(file, "image_raw_ts")[()]
    numbers = _column(file, "image_raw_event_inds")[()]
    require_filters(events, "davis/left/events")
    first = int(np.searchsorted(times, start_us * 1e-6 - MARGIN_S)) - 1
    last = int(np.searchsorted(times, stop_us * 1e-6 + MARGIN_S))
    low = max(int(numbers[first]), 0) if first >= 0 else 0
    high = min(int(numbers[last]), len(events)) if last < len(numbers) else len(events)
    x, y, t, p = read_rows(events, low, max(high, low)).T
    whole = EventStream.from_columns(_microseconds(t), x, y, p, sensor_size=SENSOR)
    return whole.between(start_us, stop_us)


def _column(file: Any, name: str) -> Any:
    try:
        return file[f"davis/left/{name}"]
    except KeyError:
        raise DataError(
            f"Expected davis/left/{name} in '{file.filename}', but it is not there. Fetch it from {SOURCE}."
        ) from None


def _microseconds(seconds: NDArray[Any]) -> NDArray[np.int64]:
    return np.rint(np.asarray(seconds, np.float64) * 1e6).astype(np.int64)


def _sequence_of(item: Item) -> str:
    return item.object_id.split("/")[1]


def _fingerprint(root: Path, item: Item) -> str:
    return window_fingerprint(item, _recording(root, _sequence_of(item)))
