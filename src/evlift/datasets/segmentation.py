"""Named tasks with a label for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from evlift.datasets.digit_masks import digit_masks
from evlift.datasets.driving.tasks import ddd17_task, dsec_task
from evlift.datasets.mask_folders import Windows, class_names, mask_folders
from evlift.datasets.simulated import simulated_digit_masks
from evlift.datasets.streets import streets
from evlift.datasets.suites import SUITES, data_root
from evlift.datasets.task import TransferTask


@SUITES.register("digit-masks")
def digit_masks_suite(
    *,
    root: str | None = None,
    fold: int = 0,
    unlabelled: int | None = None,
    source: int = 20_000,
    label_seed: int = 0,
) -> TransferTask:
    """Masks of tiled MNIST pictures → real N-MNIST windows of 50 ms, 2x2 to a scene, split by object as `digits`.

    Args:
        root: folder with `mnist` and `nmnist`, the latter with `registration.npz`; default: EVLIFT_DATA.
        fold: 0 to 4.
        unlabelled: recordings in the unlabelled scenes; null for all 600 of the training part.
        source: source pictures, four to a scene.
        label_seed: which recordings are the unlabelled ones.
    """
    return digit_masks(data_root(root), fold=fold, n_unlabelled=unlabelled, source=source, seed=label_seed)


@SUITES.register("simulated-digit-masks")
def simulated_digit_masks_suite(*, fold: int = 0, recordings: int = 500) -> TransferTask:
    """Masks of scikit-learn's digits → simulated windows of other digits, as `digit-masks` but without a data set.

    Args:
        fold: 0 to 4.
        recordings: how many digits are recorded (60 % train, 20 % val, 20 % test); the others teach.
    """
    return simulated_digit_masks(fold=fold, recordings=recordings)


@SUITES.register("streets")
def streets_suite(
    *, root: str | None = None, unlabelled: int | None = None, label_seed: int = 0
) -> TransferTask:
    """CamVid pictures → simulated events of other CamVid frames, moving crops of 192x144, 11 classes.

    Args:
        root: folder with `camvid`; default: EVLIFT_DATA.
        unlabelled: frames in the unlabelled windows; null for all of the target's training half.
        label_seed: which frames are the unlabelled ones.
    """
    return streets(data_root(root), n_unlabelled=unlabelled, seed=label_seed)


@SUITES.register("ddd17")
def ddd17_suite(
    *,
    root: str | None = None,
    layout: Literal["dirs", "raw"] = "dirs",
    test: str | None = None,
    val: str | None = None,
    window_ms: int = 50,
    picture_size: tuple[int, int] = (256, 512),
    unlabelled: int | None = None,
    label_seed: int = 0,
) -> TransferTask:
    """Cityscapes pictures → DDD17 with Ev-SegNet's labels, 346x200, 6 classes, split by recording.

    Args:
        root: folder with `cityscapes` and `ddd17`; default: EVLIFT_DATA.
        layout: dirs (a folder a recording, with events) or raw (Ev-SegNet's labels and raw recordings).
        test: folder or recording that judges; null for dir1 (rec1487417411 if raw).
        val: folder or recording to choose on; null for dir5 (rec1487356509 if raw).
        window_ms: length of a window in milliseconds.
        picture_size: height and width that Cityscapes' pictures of 1024x2048 are resized to.
        unlabelled: windows without label; null for all of the training part.
        label_seed: which windows are the unlabelled ones.
    """
    return ddd17_task(
        data_root(root),
        layout=layout,
        test=test,
        val=val,
        window_ms=window_ms,
        picture_size=picture_size,
        n_unlabelled=unlabelled,
        seed=label_seed,
    )


@SUITES.register("dsec")
def dsec_suite(
    *,
    root: str | None = None,
    classes: int = 11,
    val: str = "zurich_city_08_a",
    window_ms: int = 50,
    rectified: bool = True,
    frames: bool = False,
    picture_size: tuple[int, int] = (512, 1024),
    unlabelled: int | None = None,
    label_seed: int = 0,
) -> TransferTask:
    """Cityscapes pictures → DSEC-Semantic, 640x440, 11 or 19 classes, its own split by sequence.

    Args:
        root: folder with `cityscapes` and `dsec`; default: EVLIFT_DATA.
        classes: 11 or 19.
        val: training sequence to choose on, kept out of training.
        window_ms: length of a window in milliseconds.
        rectified: move events into the rectified view, in which the labels are.
        frames: pictures aligned with the windows as well, for mutual distillation.
        picture_size: height and width that Cityscapes' pictures of 1024x2048 are resized to.
        unlabelled: windows without label; null for all of the training part.
        label_seed: which windows are the unlabelled ones.
    """
    return dsec_task(
        data_root(root),
        classes=classes,
        val=val,
        window_ms=window_ms,
        rectified=rectified,
        frames=frames,
        picture_size=picture_size,
        n_unlabelled=unlabelled,
        seed=label_seed,
    )


@SUITES.register("mask-folders")
def mask_folders_suite(
    *,
    images: str,
    masks: str,
    recordings: str,
    labels: str | None = None,
    classes: list[str] | None = None,
    duration_ms: float = 50.0,
    sensor_size: tuple[int, int] | None = None,
    windows: int = 200,
    fold: int = 0,
) -> TransferTask:
    """Your own pictures with masks, and your own recordings, with masks for some moments or for none.

    A mask has the name of its picture with `.png`, and the numbers of classes as values, 255 for void. Recordings that
    have masks are split 60 / 20 / 20 by recording; the others, and those of train, are the unlabelled ones. A
    picture and a recording of one name (without suffix) count as one object, and pictures of objects that judge
    are left out.

    Args:
        images: folder of pictures.
        masks: folder of their masks.
        recordings: folder of recordings in any readable format.
        labels: folder with a subfolder a recording, of masks whose names are their times in µs; null for none.
        classes: class names by number; null for the lines of `classes.txt` in `masks`.
        duration_ms: length of a window, which ends where its mask holds.
        sensor_size: height and width; default: what the first recording says.
        windows: unlabelled windows a recording, at most.
        fold: 0 to 4, which labelled recordings judge.
    """
    cut = Windows(
        Path(recordings),
        class_names(masks, classes),
        round(duration_ms * 1000),
        sensor_size,
        None if labels is None else Path(labels),
        windows,
    )
    return mask_folders((images, masks), cut, fold=fold)
