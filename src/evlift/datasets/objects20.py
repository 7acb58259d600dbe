"""The suite `objects20`: photographs of 20 classes to simulated recordings, and what a leak between them does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.images import caltech101
from evlift.datasets.items import Images
from evlift.datasets.manifest import Split, disjoint, fold_of_items, leaking, ranked
from evlift.datasets.suites import SUITES, data_root, simulated_recordings
from evlift.datasets.task import TransferTask, assemble
from evlift.errors import ConfigError

if TYPE_CHECKING:
    from evlift.simulate import Saccades

SENSOR_SIZE = (60, 80)
TENTHS = {"test": 2, "val": 1, "train": 3}  # of the objects; the other four are never recorded
HELD_OUT = 2  # of the photographs never recorded, a class: source_val
SPLIT_SEED = 0


@SUITES.register("objects20")
def objects20_suite(
    *,
    root: str | None = None,
    fold: int = 0,
    labels_per_class: int | None = None,
    unlabelled: int | None = None,
    shared: bool = False,
    leak: float = 0.0,
    label_seed: int = 0,
) -> TransferTask:
    """20 classes of Caltech101 → saccades simulated from other photographs of them; the source may leak test objects.

    Args:
        root: folder with `caltech101_20`; default: EVLIFT_DATA.
        fold: 0 to 4; the test parts of the five share no object.
        labels_per_class: labelled recordings a class; null for all.
        unlabelled: recordings without label; null for all of the training part.
        shared: the source is drawn from the photographs behind the training recordings, too; otherwise from those
            that were never recorded alone.
        leak: share of the test objects whose own photographs are among the source (an experiment on leaks).
        label_seed: which recordings are the labelled and the unlabelled ones.
    """
    return objects20(
        data_root(root),
        fold=fold,
        k=labels_per_class,
        n_unlabelled=unlabelled,
        shared=shared,
        leak=leak,
        seed=label_seed,
    )


def objects20(
    root: Path | str,
    *,
    fold: int = 0,
    k: int | None = None,
    n_unlabelled: int | None = None,
    shared: bool = False,
    leak: float = 0.0,
    seed: int = 0,
) -> TransferTask:
    """The photographs in ``root/caltech101_20``, 60 a class: 18 recorded for train, 6 for val, 12 for test, 24 never.

    The source has equally many photographs, 440, whatever `shared` and `leak` say, so that a larger pool cannot be
    taken for a leak: leaked ones replace others.

    Example:
        >>> data = objects20("data", leak=0.91)  # doctest: +SKIP
        >>> len(data.source), len(data.train), len(data.test)  # doctest: +SKIP
        (440, 360, 240)

    Args:
        root: folder with `caltech101_20`.
        fold: 0 to 4.
        k: labelled recordings a class; None for all.
        n_unlabelled: unlabelled recordings; None for all.
        shared: the source may show objects of the training recordings.
        leak: share of the test objects whose own photographs are among the source.
        seed: of the choice of labelled and unlabelled recordings.

    Raises:
        DataError: missing files.
        ConfigError: a fold or a number that there is not.

    Source: our protocol (decided here). The recordings are simulated.
    """
    if not 0 <= fold < 5:
        raise ConfigError(f"Expected `fold` in [0, 4], but got {fold}. Name one of the folds.")
    photographs = caltech101(root, folder="caltech101_20")
    parts, free = _split(photographs, fold)
    return assemble(
        _source(photographs, parts, photographs.subset(free), shared=shared, leak=leak),
        simulated_recordings(photographs, _camera()),
        parts,
        sensor_size=SENSOR_SIZE,
        labels_per_class=k,
        unlabelled=n_unlabelled,
        seed=seed,
        leak=leak > 0,
    )


def _camera() -> Saccades:
    """N-MNIST's path on a small sensor; N-Caltech101 showed its photographs as they are, not as negatives."""
    from evlift.simulate import Saccades

    return Saccades(motion="nmnist", sensor_size=SENSOR_SIZE, negative=False)


def _split(photographs: Images, fold: int) -> tuple[Split, NDArray[np.int64]]:
    """Positions of test, val and train by tenths of every class, and of those that are never recorded."""
    turn = (fold_of_items(photographs, 10, seed=SPLIT_SEED) - TENTHS["test"] * fold) % 10
    ends = np.cumsum(list(TENTHS.values()))
    test, val, train, free = (np.flatnonzero(np.digitize(turn, ends) == part) for part in range(4))
    return Split(train, val, test), free


def _source(
    photographs: Images, parts: Split, free: Images, *, shared: bool, leak: float
) -> tuple[Images, Images]:
    """Source photographs, and further ones for validation, equally many whatever is shared or leaked."""
    order = ranked(free, seed=SPLIT_SEED)
    held_out = free.subset(_first_of_each_class(free, order))
    size = len(free) - len(held_out)
    pool = disjoint(free, held_out.object_ids)
    if shared:
        pool = pool.with_items([*pool, *photographs.subset(parts.train)])
    test = photographs.subset(parts.test).object_ids
    return leaking(pool, photographs, test, leak, size=size, seed=SPLIT_SEED), held_out


def _first_of_each_class(items: Images, order: list[int]) -> list[int]:
    """Positions of the first `HELD_OUT` items of each class in `order`."""
    targets = items.targets
    return [i for c in range(len(items.classes)) for i in [j for j in order if targets[j] == c][:HELD_OUT]]
