"""Your own pictures with masks and your own recordings: windows, splits, and refusals that say what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evlift.config import InputOptions
from evlift.datasets import mask_folders
from evlift.datasets.mask_folders import Windows, deal
from evlift.datasets.scene_feeder import SceneFeeder
from evlift.datasets.suites import SUITES
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream, write_events

SENSOR = (30, 40)


def scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 5 * index : 5 * index + 20] = 1
    mask[:3] = 255
    return np.where(mask == 1, 200, 50).astype(np.uint8), mask


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Ten pictures, six recordings of 0.23 s, masks at 100 and 200 ms for the first five of them."""
    for name in ("images", "masks", "events", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "masks" / "classes.txt").write_text("ground\nbox\n")
    for i in range(10):
        picture, mask = scene(i)
        Image.fromarray(np.repeat(picture[..., None], 3, axis=2)).save(tmp_path / "images" / f"p{i}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"p{i}.png")
    rng = np.random.default_rng(0)
    for name in "abcdef":
        t = np.sort(rng.integers(1000, 231_000, 2000))
        columns = t, rng.integers(0, 40, 2000), rng.integers(0, 30, 2000), rng.random(2000) < 0.5
        write_events(
            tmp_path / "events" / f"{name}.npz", EventStream.from_columns(*columns, sensor_size=SENSOR)
        )
    for name in "abcde":
        (tmp_path / "labels" / name).mkdir()
        for t in (100_000, 200_000):
            Image.fromarray(np.full(SENSOR, t // 100_000 - 1, np.uint8)).save(
                tmp_path / "labels" / name / f"{t}.png"
            )
    return tmp_path


def build(root: Path, **changes: Any) -> Any:
    given = {"images": "images", "masks": "masks", "recordings": "events", "labels": "labels"}
    paths = {name: str(root / folder) for name, folder in given.items()}
    return SUITES["mask-folders"](**{**paths, **changes})


def test_recordings_with_masks_are_split_by_recording(folders: Path) -> None:
    task = build(folders)
    assert task.classes == ("ground", "box")
    assert (task.sensor_size, task.duration_us, task.label_at) == (SENSOR, 50_000, 1.0)
    assert (len(task.train), len(task.val), len(task.test)) == (6, 2, 2)
    assert (len(task.source), len(task.source_val)) == (9, 1)
    assert task.unlabelled.objects == task.train.objects | {"f"}
    assert len(task.unlabelled) == 4 * 4  # whole windows of 50 ms in 230 ms
    tested = {object_id for fold in range(5) for object_id in build(folders, fold=fold).test.objects}
    assert tested == set("abcde")


def test_a_window_ends_at_its_label(folders: Path) -> None:
    task = build(folders)
    windows = {item.name: task.train.load(i) for i, item in enumerate(task.train)}
    for name, found in windows.items():
        file, _, stop = name.partition("/")
        whole = np.load(folders / "events" / file)
        inside = (whole["t"] >= int(stop) - 50_000) & (whole["t"] < int(stop))
        assert np.array_equal(found.stream.t, whole["t"][inside] - (int(stop) - 50_000))
        assert np.array_equal(found.stream.x, whole["x"][inside])
        assert (found.mask == int(stop) // 100_000 - 1).all()
        assert found.mask.flags.writeable  # torch warns of others
    assert all(task.unlabelled.load(i).mask is None for i in range(len(task.unlabelled)))


def test_pictures_cover_the_sensor_and_keep_their_proportions(folders: Path) -> None:
    task = build(folders)
    for i, item in enumerate(task.source):
        found = task.source.load(i)
        assert found.mask.shape == (38, 56)  # 60x90, as high as 30 and a quarter more: the narrower fit
        assert found.picture.shape == (38, 56, 3)
        inner = (found.mask == 1) & (found.picture[..., 0] > 125)
        assert inner.sum() > 0.9 * (found.mask == 1).sum(), item.name
        assert set(np.unique(found.mask)) == {0, 1, 255}


def test_pictures_and_masks_are_memory_of_their_own(folders: Path) -> None:
    seen = build(folders).source.load(0)
    assert seen.picture.flags.writeable
    assert seen.mask.flags.writeable


def test_without_any_mask_all_recordings_are_unlabelled(folders: Path) -> None:
    task = build(folders, labels=None, windows=3)
    assert task.describe() == {
        "source": 9,
        "source_val": 1,
        "train": 0,
        "unlabelled": 18,
        "val": 0,
        "test": 0,
    }
    method = SimpleNamespace(
        uses_images=True, uses_pictures=True, uses_events=True, uses_event_labels=False, pairing="none"
    )
    options = InputOptions(steps=2, size=SENSOR, encoding="saccade", motion="pan")
    batch = SceneFeeder(task, options, method, batch_size=3, seed=0).batch(0)
    assert batch.events.shape == batch.image.shape == (3, 2, 2, *SENSOR)
    assert batch.events.amax() > 0


def test_large_recordings_are_read_by_window(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = build(folders)
    monkeypatch.setattr(mask_folders, "SMALL_FILE", 0)
    large = build(folders)
    assert all(small.train.load(i).stream == large.train.load(i).stream for i in range(len(small.train)))


def test_a_changed_mask_changes_the_split_hash(folders: Path) -> None:
    before = build(folders).split
    assert build(folders).split == before
    Image.fromarray(np.ones(SENSOR, np.uint8)).save(folders / "labels" / "a" / "100000.png")
    assert build(folders).split != before


def test_a_picture_of_an_object_that_judges_is_left_out(folders: Path) -> None:
    task = build(folders)
    judge = min(task.test.objects)
    picture, mask = scene(3)
    Image.fromarray(picture).save(folders / "images" / f"{judge}.png")
    Image.fromarray(mask).save(folders / "masks" / f"{judge}.png")
    again = build(folders)
    assert judge not in again.source.objects | again.source_val.objects
    assert len(again.source) + len(again.source_val) == 10


def test_an_empty_recording_has_one_empty_window(folders: Path) -> None:
    write_events(folders / "events" / "g.npz", EventStream.empty(SENSOR))
    task = build(folders)
    (place,) = [i for i, item in enumerate(task.unlabelled) if item.object_id == "g"]
    assert len(task.unlabelled.load(place).stream) == 0


def spoil(root: Path, kind: str) -> None:
    if kind == "mask missing":
        (root / "masks" / "p3.png").unlink()
    if kind == "mask size":
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "masks" / "p0.png")
    if kind == "class unknown":
        Image.fromarray(np.full((60, 90), 2, np.uint8)).save(root / "masks" / "p0.png")
    if kind == "time":
        Image.fromarray(np.zeros(SENSOR, np.uint8)).save(root / "labels" / "a" / "first.png")
    if kind == "classes":
        (root / "masks" / "classes.txt").write_text("one\n")
    if kind == "twice":
        Image.fromarray(np.zeros((60, 90), np.uint8)).save(root / "images" / "p0.png")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("mask missing", "p3"),
        ("mask size", "p0"),
        ("class unknown", r"got \[2\]"),
        ("time", "first"),
        ("classes", "two class names"),
        ("twice", "several of 'p0'"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(folders: Path, kind: str, said: str) -> None:
    spoil(folders, kind)
    with pytest.raises(DataError, match=said):
        build(folders)


@pytest.mark.parametrize("name", ["images", "recordings"])
def test_missing_and_empty_folders_are_named(folders: Path, name: str) -> None:
    with pytest.raises(DataError, match="nowhere"):
        build(folders, **{name: str(folders / "nowhere")})
    (folders / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        build(folders, **{name: str(folders / "empty")})


def test_labels_for_no_recording_are_refused(folders: Path) -> None:
    (folders / "empty").mkdir()
    with pytest.raises(DataError, match=r"data\.labels"):
        build(folders, labels=str(folders / "empty"))


def test_a_mask_of_another_size_than_the_sensor_is_named(folders: Path) -> None:
    windows = Windows(folders / "events", ("ground", "box"), 50_000, labels=folders / "labels").labelled()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folders / "labels" / "a" / "100000.png")
    with pytest.raises(DataError, match=r"a.100000\.png"):
        windows.load(0)


def test_few_labelled_recordings_serve_test_then_val() -> None:
    assert deal(["a"], 0) == {"a": "test"}
    assert sorted(deal(["a", "b"], 0).values()) == ["test", "val"]
    assert sorted(deal(list("abcdefghij"), 3).values()) == ["test"] * 2 + ["train"] * 6 + ["val"] * 2
    with pytest.raises(ConfigError, match="fold"):
        deal(["a"], 5)
