"""`TransferTask`: which pictures teach, which recordings train, and which ones judge."""

from __future__ import annotations

from dataclasses import dataclass, field

from evlift.datasets.items import Images, Recordings
from evlift.datasets.manifest import Manifest, Split, check_disjoint, few_shot, some
from evlift.datasets.wrappers import check_same_classes, hide_targets

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
    """

    source: Images
    source_val: Images
    train: Recordings
    unlabelled: Recordings
    val: Recordings
    test: Recordings
    sensor_size: tuple[int, int]
    manifest: Manifest = field(repr=False)

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
    check_disjoint(train=train, val=val, test=test)
    check_disjoint(source=source, source_val=source_val, val=val)
    check_disjoint(source_val=source_val, test=test)
    if not leak:
        check_disjoint(source=source, test=test)
    splits: dict[str, Images | Recordings] = {
        "source": source,
        "source_val": source_val,
        "train": train,
        "val": val,
        "test": test,
    }
    return TransferTask(
        source=source,
        source_val=source_val,
        train=train.subset(few_shot(train, labels_per_class, seed=seed)),
        unlabelled=hide_targets(some(train, len(train) if unlabelled is None else unlabelled, seed=seed)),
        val=val,
        test=test,
        sensor_size=(int(sensor_size[0]), int(sensor_size[1])),
        manifest=Manifest.build(splits),
    )
