"""Tasks of the driving sets: Cityscapes pictures teach, one set's windows train and judge."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from evlift.datasets.driving import ddd17 as dirs
from evlift.datasets.driving import ddd17_raw as raw
from evlift.datasets.driving import dsec
from evlift.datasets.driving.cityscapes import cityscapes
from evlift.datasets.driving.ddd17 import RAW_OTHER, RAW_TEST, RAW_TRAIN
from evlift.datasets.driving.ddd17 import ROWS as DDD17_ROWS
from evlift.datasets.driving.ddd17 import SENSOR as DDD17_SENSOR
from evlift.datasets.driving.ddd17 import TRAIN as DDD17_TRAIN
from evlift.datasets.driving.dsec import ROWS as DSEC_ROWS
from evlift.datasets.driving.dsec import SENSOR as DSEC_SENSOR
from evlift.datasets.driving.dsec import TEST as DSEC_TEST
from evlift.datasets.driving.dsec import TRAIN as DSEC_TRAIN
from evlift.datasets.manifest import some
from evlift.datasets.scenes import SceneImages, SceneRecordings
from evlift.datasets.task import TransferTask, assemble_scenes
from evlift.errors import DataError

Layout = Literal["dirs", "raw"]


def ddd17_task(
    root: Path | str,
    *,
    layout: Layout = "dirs",
    test: str | None = None,
    val: str | None = None,
    window_ms: int = 50,
    picture_size: tuple[int, int] = (256, 512),
    n_unlabelled: int | None = None,
    seed: int = 0,
) -> TransferTask:
    """Cityscapes in 6 classes to DDD17: train dir0, dir3, dir4, dir6, dir7; test dir1; val dir5.

    Args:
        root: folder with `cityscapes` and `ddd17`.
        layout: dirs (folders with events, see :func:`ddd17`) or raw (Ev-SegNet's labels and raw recordings).
        test: folder or recording that judges; None for dir1, in the raw layout rec1487417411.
        val: folder or recording to choose on; None for dir5, in the raw layout rec1487356509.
        window_ms: length of a window in milliseconds.
        picture_size: what Cityscapes' pictures of 1024x2048 are resized to.
        n_unlabelled: windows without label; None for all of the training part.
        seed: of the choice of unlabelled windows.

    Raises:
        DataError: missing files, one folder both to choose on and to judge.

    Source: Ev-SegNet's split. Which of the other two folders judges differs between public loaders; decided here.
    """
    read, train, judge, choice = dirs, DDD17_TRAIN, "dir1", "dir5"
    if layout == "raw":
        read, train, judge, choice = raw, RAW_TRAIN, RAW_TEST, RAW_OTHER
    names = _apart(train, (val or choice,), (test or judge,))
    parts = [read(root, part, window_ms=window_ms) for part in names]
    return assemble_scenes(
        _cityscapes(root, 6, picture_size),
        (parts[0], parts[1], parts[2]),
        sensor_size=(DDD17_ROWS, DDD17_SENSOR[1]),
        duration_us=1000 * window_ms,
        unlabelled=_fewer(parts[0], n_unlabelled, seed),
    )


def dsec_task(
    root: Path | str,
    *,
    classes: int = 11,
    val: str = DSEC_TRAIN[-1],
    window_ms: int = 50,
    rectified: bool = True,
    frames: bool = False,
    picture_size: tuple[int, int] = (512, 1024),
    n_unlabelled: int | None = None,
    seed: int = 0,
) -> TransferTask:
    """Cityscapes in 11 or 19 classes to DSEC-Semantic: its 3 test sequences judge, one of its 8 others is val.

    Args:
        root: folder with `cityscapes` and `dsec`.
        classes: 11 or 19.
        val: sequence to choose on, kept out of training.
        window_ms: length of a window in milliseconds.
        rectified: see :func:`dsec`.
        frames: pictures aligned with the windows as well, for mutual distillation.
        picture_size: what Cityscapes' pictures of 1024x2048 are resized to.
        n_unlabelled: windows without label; None for all of the training part.
        seed: of the choice of unlabelled windows.

    Raises:
        DataError: missing files, or a sequence both to choose on and to judge.

    Source: DSEC-Semantic's split; it has no val, decided here.
    """
    parts = [
        dsec(root, names, classes=classes, window_ms=window_ms, rectified=rectified, frames=frames)
        for names in _apart(DSEC_TRAIN, (val,), DSEC_TEST)
    ]
    return assemble_scenes(
        _cityscapes(root, classes, picture_size),
        (parts[0], parts[1], parts[2]),
        sensor_size=(DSEC_ROWS, DSEC_SENSOR[1]),
        duration_us=1000 * window_ms,
        unlabelled=_fewer(parts[0], n_unlabelled, seed),
    )


def _apart(
    train: tuple[str, ...], val: tuple[str, ...], test: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """The three parts, with what chooses or judges taken out of training."""
    if shared := sorted(set(val) & set(test)):
        raise DataError(
            f"Expected different recordings to choose on (val) and to judge, but got {shared} as both."
        )
    return tuple(name for name in train if name not in (*val, *test)), val, test


def _cityscapes(
    root: Path | str, classes: int, size: tuple[int, int] | None
) -> tuple[SceneImages, SceneImages]:
    train, val = (cityscapes(root, split, classes=classes, size=size) for split in ("train", "val"))
    return train, val


def _fewer(train: SceneRecordings, n: int | None, seed: int) -> SceneRecordings | None:
    return None if n is None else some(train, n, seed=seed)
