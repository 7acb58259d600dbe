"""Scenes to batches: draws that depend on the step alone, one pixel grid for all, and labels that stay hidden."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from evlift.config import InputOptions
from evlift.datasets.items import HIDDEN, Item
from evlift.datasets.scene_encoder import SceneEncoder, cut, nearest, window_corner
from evlift.datasets.scene_feeder import Kept, SceneFeeder
from evlift.datasets.scenes import EventScene, Scene, SceneImages, SceneRecordings
from evlift.datasets.suites import SUITES
from evlift.datasets.task import TransferTask, assemble_scenes
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream
from evlift.masks import VOID

SIDE, DURATION_US = 24, 50_000


def method(**changes: Any) -> Any:
    """What a feeder asks a method for."""
    said = {
        "uses_images": True,
        "uses_pictures": True,
        "uses_events": True,
        "uses_event_labels": True,
        "pairing": "none",
    }
    return SimpleNamespace(**{**said, **changes})


def scene_of(item: Item) -> Scene:
    """A bright box of class 1 on dark background, at a place of its own, with a void column."""
    rng = np.random.default_rng([7, item.index])
    top, left = rng.integers(4, SIDE - 12, 2)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : top + 8, left : left + 8] = 1
    picture = np.where(mask == 1, 220, 40).astype(np.uint8)
    mask[:, 0] = VOID
    return Scene(np.repeat(picture[..., None], 3, axis=2), mask)


def window_of(item: Item) -> EventScene:
    """One event at every pixel of the box."""
    scene = scene_of(item)
    y, x = np.nonzero(scene.mask == 1)
    t = np.random.default_rng(item.index).integers(0, DURATION_US, len(y))
    stream = EventStream.from_columns(t, x, y, y % 2, sensor_size=(SIDE, SIDE))
    return EventScene(stream, scene.mask, scene.picture)


def items(n: int, first: int) -> list[Item]:
    return [Item(f"{i:03}", HIDDEN, f"box/{i:03}", index=i) for i in range(first, first + n)]


def collection(kind: type, read: Any, n: int, first: int, *, backwards: bool = False) -> Any:
    found = items(n, first)
    return kind("boxes", ("ground", "box"), found[::-1] if backwards else found, read, lambda item: item.name)


def generated(*, backwards: bool = False, **changes: Any) -> TransferTask:
    def images(n: int, first: int) -> SceneImages:
        return collection(SceneImages, scene_of, n, first, backwards=backwards)

    def windows(n: int, first: int) -> SceneRecordings:
        return collection(SceneRecordings, window_of, n, first, backwards=backwards)

    pieces: dict[str, Any] = {
        "pictures": (images(10, 0), images(4, 10)),
        "recordings": (windows(12, 20), windows(5, 40), windows(5, 50)),
        "sensor_size": (SIDE, SIDE),
        "duration_us": DURATION_US,
        **changes,
    }
    return assemble_scenes(pieces.pop("pictures"), pieces.pop("recordings"), **pieces)


@pytest.fixture(scope="module")
def task() -> TransferTask:
    return generated()


def feeder(task: TransferTask, wanted: Any = None, **options: Any) -> SceneFeeder:
    given: dict[str, Any] = {"steps": 3, "size": (SIDE, SIDE), "shift": 0, "amplitude": (1.0, 3.0), **options}
    return SceneFeeder(task, InputOptions(**given), wanted or method(), batch_size=4, seed=1)


MOVED = {"shift": 3, "flip": True, "rotation": 20.0, "zoom": 0.3, "drop": 0.2}


@pytest.mark.parametrize("encoding", ["constant", "saccade"])
@pytest.mark.parametrize("takes", [0, 2])
def test_a_batch_depends_on_seed_and_step_alone(task, encoding, takes):
    options = {"encoding": encoding, "motion": "pan", "takes": takes, **MOVED}
    one, other = feeder(task, **options), feeder(task, **options)
    for step in range(8):
        one.batch(step)  # what came before does not matter
    a, b = one.batch(9), other.batch(9)
    for name in ("image", "picture", "image_target", "events", "event_target"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert not torch.equal(a.events, one.batch(10).events)
    assert not torch.equal(a.image, one.batch(10).image)


def test_the_order_of_a_listing_changes_nothing(task):
    other = generated(backwards=True)
    assert other.split == task.split
    a, b = feeder(task, **MOVED).batch(3), feeder(other, **MOVED).batch(3)
    assert torch.equal(a.events, b.events)
    assert torch.equal(a.image_target, b.image_target)


@pytest.mark.parametrize("colour", [False, True])
def test_shapes_and_types(task, colour):
    batch = feeder(task, method(uses_frames=True), colour=colour, size=(16, 20)).batch(0)
    planes = 3 if colour else 1
    assert batch.image.shape == batch.events.shape == (4, 3, 2, 16, 20)
    assert batch.picture.shape == batch.frame.shape == (4, planes, 16, 20)
    assert batch.image_target.shape == batch.event_target.shape == (4, 16, 20)
    assert batch.image_target.dtype == batch.event_target.dtype == torch.int64
    assert batch.picture.amin() >= 0
    assert batch.picture.amax() <= 1
    assert set(batch.image_target.unique().tolist()) == {0, 1, VOID}


def test_sequence_picture_and_mask_move_as_one(task):
    """Under any augmentation the box is bright in the picture, and holds the events, where the mask says box."""
    found = feeder(task, method(uses_frames=True), **{**MOVED, "drop": 0.0})
    for step in range(6):
        batch = found.batch(step)
        for picture, mask in ((batch.picture, batch.image_target), (batch.frame, batch.event_target)):
            assert (mask == VOID).any()
            assert iou(picture[:, 0] > 130 / 255, mask == 1) > 0.84  # a pixel beside would give 0.78
        assert iou(batch.events.sum(dim=(1, 2)) > 0.5, batch.event_target == 1) > 0.84
        torch.testing.assert_close(batch.image[:, 0, 0], batch.picture[:, 0], atol=0.01, rtol=0)


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_without_augmentation_everything_lies_as_it_was_given(task):
    batch = next(feeder(task, **MOVED).evaluation("val", batch_size=3))
    for row in range(3):
        scene = task.val.load(row)
        assert np.array_equal(batch.event_target[row], scene.mask)
        assert np.array_equal(batch.frame[row, 0] * 255 > 130, scene.mask == 1)
        counted = np.zeros((SIDE, SIDE))
        np.add.at(counted, (scene.stream.y, scene.stream.x), 1)
        assert np.array_equal(batch.events[row].sum(dim=(0, 1)) > 0, counted > 0)


def test_time_bins_belong_to_the_window_not_to_its_events(task):
    """Events of the last third alone fill the last of three bins."""
    encoder = SceneEncoder.of(task, InputOptions(steps=3, size=(SIDE, SIDE), normalise="none"))
    stream = EventStream.from_columns([40_000, 41_000], [1, 2], [3, 4], [1, 0], sensor_size=(SIDE, SIDE))
    clip = encoder.events(EventScene(stream), np.random.default_rng(0), augment=False)
    assert clip.sequence.sum(dim=(1, 2, 3)).tolist() == [0, 0, 2]
    assert clip.mask is None
    empty = encoder.events(
        EventScene(EventStream.empty((SIDE, SIDE))), np.random.default_rng(0), augment=True
    )
    assert empty.sequence.sum() == 0


def test_hidden_labels_never_leak(task):
    assert all(task.unlabelled.load(i).mask is None for i in range(len(task.unlabelled)))
    assert not {item.name for item in task.unlabelled} & {item.name for item in task.train}
    blind = feeder(task, method(uses_event_labels=False))
    assert blind.batch(0).event_target is None
    assert all(batch.event_target is None for batch in blind.evaluation("unlabelled"))
    assert all(batch.event_target is not None for batch in blind.evaluation("val"))


def test_a_label_free_method_reads_the_unlabelled_windows_alone(task, monkeypatch):
    without_train = replace(task, train=task.train.subset([]))
    assert feeder(without_train, method(uses_event_labels=False)).batch(0).events is not None
    with pytest.raises(DataError, match="training windows"):
        feeder(without_train)


def test_a_method_gets_only_what_it_uses(task):
    teacher = feeder(task, method(uses_images=False, uses_events=False)).batch(0)
    assert (teacher.image, teacher.events, teacher.event_target) == (None, None, None)
    assert teacher.picture is not None
    events = feeder(task, method(uses_images=False, uses_pictures=False)).batch(0)
    assert (events.image, events.picture, events.image_target, events.frame) == (None, None, None, None)
    assert events.event_target is not None


def test_an_epoch_shows_every_window_once(task):
    found = feeder(task, normalise="none")
    shown = torch.cat([found.batch(step).events for step in range(3)]).sum(dim=(1, 2))
    all_windows = torch.cat([batch.events for batch in found.evaluation("train")]).sum(dim=(1, 2))
    assert sorted(map(repr, shown.int().tolist())) == sorted(map(repr, all_windows.int().tolist()))


def test_takes_are_watched_once(task, monkeypatch):
    found = feeder(task, encoding="saccade", motion="pan", takes=2)
    kept = [found.batch(step).image.amax() for step in range(5)]  # 20 rows: both takes of 10 pictures
    monkeypatch.setattr(SceneEncoder, "watch", lambda *given: pytest.fail("simulated again"))
    assert [found.batch(step).image.amax() for step in range(5, 10)]
    assert max(kept) > 0


def test_source_val_is_simulated_once_and_the_same(task):
    one = feeder(task, encoding="saccade", motion="pan")
    again = torch.cat([batch.image for batch in one.evaluation("source_val", batch_size=3)])
    assert torch.equal(again, torch.cat([batch.image for batch in one.evaluation("source_val")]))
    other = next(feeder(task, encoding="saccade", motion="pan").evaluation("source_val"))
    assert torch.equal(again, other.image)
    assert other.names == tuple(item.name for item in task.source_val)
    assert other.events is None
    assert other.picture is not None


def test_the_count_scale_is_fitted_and_can_be_given(task):
    found = feeder(task, quantile=1.0)
    assert found.encoder.scale == 1.0
    given = SceneEncoder.of(task, found.options, 5.0)
    again = SceneFeeder(task, found.options, method(), batch_size=4, seed=1, encoder=given)
    assert again.encoder.scale == 5.0
    assert torch.allclose(again.batch(0).events * 5, found.batch(0).events)


def test_windows_without_frames_are_refused_where_frames_are_needed(task):
    bare = task.unlabelled.with_items(task.unlabelled)
    bare._read = lambda item: replace(task.unlabelled._read(item), frame=None)
    with pytest.raises(DataError, match="needs frames aligned with the windows"):
        feeder(replace(task, unlabelled=bare), method(uses_frames=True, uses_event_labels=False))


@pytest.mark.parametrize(
    ("wanted", "options", "said"),
    [
        (method(pairing="category"), {}, "pair"),
        (method(), {"window": "saccade"}, "window"),
        (method(), {"crop_to_events": True}, "crop_to_events"),
    ],
)
def test_what_does_not_fit_scenes_is_refused(task, wanted, options, said):
    with pytest.raises(ConfigError, match=said):
        feeder(task, wanted, **options)


def test_unknown_splits_and_windows_are_refused(task):
    with pytest.raises(ConfigError, match="split"):
        next(feeder(task).evaluation("all"))
    with pytest.raises(ConfigError, match="window"):
        next(feeder(task).evaluation("val", window="saccade"))


def test_a_task_without_masks_is_refused():
    with pytest.raises(ConfigError, match="masks"):
        SceneEncoder.of(SUITES["simulated-digits"](recordings=50), InputOptions())


def test_objects_in_two_places_are_refused(task):
    with pytest.raises(DataError, match="share no object"):
        generated(pictures=(task.source, collection(SceneImages, scene_of, 2, 40)))
    with pytest.raises(DataError, match="share no object"):
        generated(unlabelled=collection(SceneRecordings, window_of, 3, 49))


def test_composed_items_count_for_each_of_their_objects(task):
    parts = (Item("both", HIDDEN, "x+y", parts=("box/041", "box/099")),)
    joined = SceneRecordings("boxes", task.classes, parts, window_of, lambda item: item.name)
    assert joined.objects == {"box/041", "box/099"}
    with pytest.raises(DataError, match="box/041"):
        generated(recordings=(joined, task.val, task.test))


def test_fewer_unlabelled_windows_of_their_own_are_in_the_manifest(task):
    subset = generated(unlabelled=task.train.subset([0, 1]))
    assert (len(subset.unlabelled), subset.split) == (2, task.split)
    more = generated(unlabelled=collection(SceneRecordings, window_of, 3, 90))
    assert {row.split for row in more.manifest.rows} == {
        "source",
        "source_val",
        "train",
        "unlabelled",
        "val",
        "test",
    }


def test_kept_results_are_limited():
    kept = Kept(limit_bytes=100)
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.zeros(60, np.uint8)

    for key in ("a", "b", "a", "b"):
        kept.get(key, compute)
    assert len(calls) == 3  # b never fits beside a
    assert kept.room == 40


def test_windows_of_pictures():
    picture = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert window_corner((4, 5), (2, 3), None) == (1, 1)
    assert cut(picture, (1, 1), (2, 3), None).tolist() == [[6, 7, 8], [11, 12, 13]]
    assert cut(picture, (-1, 3), (2, 3), VOID).tolist() == [[255] * 3, [3, 4, 255]]
    assert cut(picture, (-1, 3), (2, 3), None).tolist() == [[3, 4, 4], [3, 4, 4]]
    assert nearest(torch.from_numpy(picture), (2, 5))[0].tolist() == [5, 6, 7, 8, 9]
