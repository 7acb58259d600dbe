"""The suites of the driving sets, from files in their published layouts to a batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import layouts_driving as layouts
import numpy as np
import pytest
import torch
from PIL import Image

from evlift.config import InputOptions
from evlift.datasets.class_maps import DDD17_6, DSEC_11
from evlift.datasets.driving.ddd17 import RAW_TRAIN
from evlift.datasets.driving.dsec import TEST, TRAIN
from evlift.datasets.scene_feeder import SceneFeeder
from evlift.datasets.suites import SUITES
from evlift.datasets.task import TransferTask
from evlift.errors import DataError

METHOD: Any = SimpleNamespace(
    uses_images=True,
    uses_pictures=True,
    uses_events=True,
    uses_event_labels=False,
    pairing="none",
    needs_frames=False,
)


def sequences(task: TransferTask, part: str) -> set[str]:
    return {item.object_id.split("/")[1] for item in getattr(task, part)}


def test_ddd17_is_split_by_folder(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    layouts.ddd17(tmp_path)
    task = SUITES["ddd17"](root=str(tmp_path), picture_size=(64, 128))
    assert task.segments
    assert task.classes == DDD17_6
    assert (task.sensor_size, task.duration_us, task.label_at) == ((200, 346), 50_000, 1.0)
    assert sequences(task, "train") == {"dir0", "dir3", "dir4", "dir6", "dir7"}
    assert (sequences(task, "val"), sequences(task, "test")) == ({"dir5"}, {"dir1"})
    assert task.describe() == {
        "source": 4, "source_val": 4, "train": 15, "unlabelled": 15, "val": 3, "test": 3,
    }  # fmt: skip
    assert all(task.unlabelled.load(i).mask is None for i in range(3))
    assert task.split == SUITES["ddd17"](root=str(tmp_path), picture_size=(64, 128)).split


def test_ddd17_takes_other_folders_to_choose_and_to_judge(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    layouts.ddd17(tmp_path)
    task = SUITES["ddd17"](root=str(tmp_path), test="dir5", val="dir0", unlabelled=4)
    assert (sequences(task, "val"), sequences(task, "test")) == ({"dir0"}, {"dir5"})
    assert sequences(task, "train") == {"dir3", "dir4", "dir6", "dir7"}
    assert len(task.unlabelled) == 4
    assert task.source.load(0).picture.shape == (256, 512, 3)
    with pytest.raises(DataError, match=r"\['dir1'\] as both"):
        SUITES["ddd17"](root=str(tmp_path), val="dir1")


def test_ddd17_from_raw_recordings(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    layouts.ddd17_raw(tmp_path, tuple(layouts.RECORDINGS))
    task = SUITES["ddd17"](root=str(tmp_path), layout="raw", picture_size=(64, 128))
    assert sequences(task, "train") == set(RAW_TRAIN)
    assert (sequences(task, "val"), sequences(task, "test")) == ({"rec1487356509"}, {"rec1487417411"})
    assert task.test.load(0).stream.sensor_size == (200, 346)


def test_dsec_keeps_its_own_test_sequences(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    layouts.dsec(tmp_path, (*TRAIN, *TEST), labels=7)
    task = SUITES["dsec"](root=str(tmp_path), picture_size=(64, 128))
    assert task.classes == DSEC_11
    assert (task.sensor_size, task.duration_us) == ((440, 640), 50_000)
    assert sequences(task, "train") == set(TRAIN) - {"zurich_city_08_a"}
    assert sequences(task, "val") == {"zurich_city_08_a"}
    assert sequences(task, "test") == set(TEST)


@pytest.mark.parametrize("encoding", ["saccade", "constant"])
def test_a_batch_comes_out_of_the_files(encoding: Any, tmp_path: Path) -> None:
    """Two-channel counts of 50 ms, pictures, masks on their grid and aligned frames."""
    layouts.cityscapes(tmp_path, (256, 512))
    layouts.ddd17(tmp_path)
    task = SUITES["ddd17"](root=str(tmp_path))
    options = InputOptions(
        steps=1, size=(64, 96), encoding=encoding, motion="pan", normalise="p99.9", colour=True, shift=0
    )
    batch = SceneFeeder(task, options, METHOD, batch_size=2, seed=0).batch(0)
    shapes = {name: tuple(getattr(batch, name).shape) for name in ("image", "picture", "events")}
    assert shapes == {"image": (2, 1, 2, 64, 96), "picture": (2, 3, 64, 96), "events": (2, 1, 2, 64, 96)}
    assert batch.event_target is None
    assert batch.image_target is not None
    assert batch.image_target.shape == (2, 64, 96)
    assert set(batch.image_target.unique().tolist()) <= {*range(6), 255}
    assert batch.events is not None
    assert torch.isfinite(batch.events).all()
    assert batch.events.abs().sum() > 0


def test_the_picture_of_a_scene_and_its_mask_stay_together(tmp_path: Path) -> None:
    """Pictures whose colour is their label id: after resizing to the half, mask and picture still agree."""
    layouts.cityscapes(tmp_path)
    for file in sorted((tmp_path / "cityscapes/gtFine").rglob("*labelIds.png")):
        ids = np.asarray(Image.open(file))
        name = file.name.replace("gtFine_labelIds", "leftImg8bit")
        layouts.save(
            tmp_path
            / "cityscapes/leftImg8bit"
            / file.parent.relative_to(tmp_path / "cityscapes/gtFine")
            / name,
            np.repeat(ids[..., None], 3, axis=2),
        )
    from evlift.datasets.class_maps import CLASS_MAPS
    from evlift.datasets.driving import cityscapes

    scene = cityscapes(tmp_path, classes=19, size=(32, 64)).load(0)
    inner = np.zeros((32, 64), bool)
    inner[1::4, 1::4] = inner[2::4, 2::4] = True  # inside the blocks of 4, where resizing mixes no neighbours
    shown = CLASS_MAPS["cityscapes-19"](scene.picture[..., 0])
    assert np.array_equal(shown[inner], scene.mask[inner])
