"""`TransferTask`: which pictures teach, which recordings train, and which ones judge."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evlift.datasets.items import Collection, Images, Recordings
from evlift.datasets.manifest import Manifest, Split, check_disjoint, few_shot, some
from evlift.datasets.scenes import SceneImages, SceneRecordings, hide_masks
from evlift.datasets.wrappers import check_same_classes, hide_targets
from evlift.wording import counted

PARTS = ("source", "source_val", "train", "unlabelled", "val", "test")


@dataclass(frozen=True)
class TransferTask:
    """The data of one run from labelled images to events.

    Args:
        source: pictures to learn from.
        source_val: further pictures, to choose on without an event label.
        train: the labelled recordings, all or a few a class.
        unlabelled: training recordings with their labels hidden.
        val: recordings to choose on.
        test: recordings to report, read once.
        sensor_size: (H, W) of the recordings.
        manifest: all splits with content hashes; ``train`` holds every training recording.
        duration_us: length of every window of a segmentation task, whose events lie at 0 <= t < duration_us.
        label_at: when masks hold, as a share of that length.

    The parts are `Images` and `Recordings`, or for segmentation `SceneImages` and `SceneRecordings`.
    """

    source: Collection[Any]
    source_val: Collection[Any]
    train: Collection[Any]
    unlabelled: Collection[Any]
    val: Collection[Any]
    test: Collection[Any]
    sensor_size: tuple[int, int]
    manifest: Manifest = field(repr=False)
    duration_us: int | None = None
    label_at: float = 1.0

    @property
    def segments(self) -> bool:
        """Targets are masks, not one class a picture."""
        return isinstance(self.source, SceneImages)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, the same for pictures and recordings; targets index them."""
        return self.source.classes

    @property
    def split(self) -> str:
        """The split hash of a run's record."""
        return self.manifest.digest

    def describe(self) -> dict[str, int]:
        """How many items each part has."""
        return {name: len(getattr(self, name)) for name in PARTS}


def assemble(
    pictures: tuple[Images, Images],
    recordings: Recordings,
    parts: Split,
    *,
    sensor_size: tuple[int, int],
    labels_per_class: int | None = None,
    unlabelled: int | None = None,
    seed: int = 0,
    leak: bool = False,
) -> TransferTask:
    """A task from its pieces, refused if an object is where it must not be.

    Args:
        pictures: source pictures, and further ones to choose on.
        recordings: of all splits.
        parts: positions of train, val and test among them.
        sensor_size: (H, W).
        labels_per_class: labelled recordings a class; None for all.
        unlabelled: number of unlabelled recordings; None for all training recordings.
        seed: of the choice of labelled and unlabelled ones.
        leak: the source may show test objects (the leak experiment).

    Raises:
        DataError: an object in two splits, other classes in pictures than in recordings, or too few of something.
    """
    source, source_val = pictures
    check_same_classes(source, recordings)
    train, val, test = (recordings.subset(part) for part in (parts.train, parts.val, parts.test))
    splits: dict[str, Collection[Any]] = {
        "source": source,
        "source_val": source_val,
        "train": train,
        "val": val,
        "test": test,
    }
    check_splits(splits, leak=leak)
    return TransferTask(
        source=source,
        source_val=source_val,
        train=train.subset(few_shot(train, labels_per_class, seed=seed)),
        unlabelled=hide_targets(some(train, len(train) if unlabelled is None else unlabelled, seed=seed)),
        val=val,
        test=test,
        sensor_size=(int(sensor_size[0]), int(sensor_size[1])),
        manifest=_checked_manifest(splits),
    )


def assemble_scenes(
    pictures: tuple[SceneImages, SceneImages],
    recordings: tuple[SceneRecordings, SceneRecordings, SceneRecordings],
    *,
    sensor_size: tuple[int, int],
    duration_us: int,
    label_at: float = 1.0,
    unlabelled: SceneRecordings | None = None,
) -> TransferTask:
    """A segmentation task from its pieces, refused if an object is where it must not be.

    Args:
        pictures: source pictures with masks, and further ones to choose on.
        recordings: windows of train, val and test.
        sensor_size: (H, W).
        duration_us: length of every window.
        label_at: when masks hold, as a share of that length.
        unlabelled: windows to use without their masks; None for those of train.

    Raises:
        DataError: an object in two splits, or other classes in pictures than in recordings.
    """
    source, source_val = pictures
    train, val, test = recordings
    unlabelled = train if unlabelled is None else unlabelled
    for windows in (*recordings, unlabelled):
        check_same_classes(source, windows)
    splits: dict[str, Collection[Any]] = {
        "source": source,
        "source_val": source_val,
        "train": train,
        "val": val,
        "test": test,
    }
    check_splits(splits)
    check_splits({**splits, "train": unlabelled})
    known = frozenset((item.object_id, item.name) for item in train)
    if any((item.object_id, item.name) not in known for item in unlabelled):
        splits["unlabelled"] = unlabelled
    return TransferTask(
        source=source,
        source_val=source_val,
        train=train,
        unlabelled=hide_masks(unlabelled),
        val=val,
        test=test,
        sensor_size=(int(sensor_size[0]), int(sensor_size[1])),
        manifest=_checked_manifest(splits),
        duration_us=duration_us,
        label_at=label_at,
    )


def _checked_manifest(splits: Mapping[str, Collection[Any]]) -> Manifest:
    """The manifest, with a warning where files were copied under another name: object ids do not see that."""
    manifest = Manifest.build(splits)
    if copies := manifest.copies():
        warnings.warn(
            f"{counted(len(copies), 'item')} of val and test, such as '{copies[0].name}', have the content of items "
            "that teach: their score is not that of unseen objects. Delete the copies.",
            stacklevel=3,
        )
    return manifest


def check_splits(splits: Mapping[str, Collection[Any]], *, leak: bool = False) -> None:
    """Raise DataError if an object of source, source_val, train, val, test is where it must not be.

    Args:
        leak: the source may show test objects (the leak experiment).
    """
    check_disjoint(**{name: splits[name] for name in ("train", "val", "test")})
    check_disjoint(**{name: splits[name] for name in ("source", "source_val", "val")})
    check_disjoint(**{name: splits[name] for name in ("source_val", "test")})
    if not leak:
        check_disjoint(**{name: splits[name] for name in ("source", "test")})
