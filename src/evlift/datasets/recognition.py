"""The suites `digits` and `digits6789`: MNIST pictures to real N-MNIST recordings, split by object."""

from __future__ import annotations

from pathlib import Path

from evlift.datasets.images import mnist
from evlift.datasets.items import Images, Recordings
from evlift.datasets.manifest import (
    Split,
    disjoint,
    fold_of_items,
    leaking,
    ranked,
    split_by_fold,
)
from evlift.datasets.recordings import nmnist, nmnist6789
from evlift.datasets.task import TransferTask, assemble
from evlift.errors import ConfigError

SPLIT_SEED = 0
SENSOR_SIZE = (34, 34)
N_SOURCE = 20_000
N_SOURCE_VAL = 1_000


def digits(
    root: Path | str,
    *,
    fold: int = 0,
    k: int | None = None,
    n_unlabelled: int | None = None,
    source: int = N_SOURCE,
    leak: float = 0.0,
    seed: int = 0,
) -> TransferTask:
    """MNIST to the 1 000 recordings in ``root/nmnist``: 600 train, 200 val, 200 test in each of 5 folds.

    Example:
        >>> data = digits("data", fold=0, k=5)  # doctest: +SKIP
        >>> len(data.train), len(data.val), len(data.source)  # doctest: +SKIP
        (50, 200, 20000)

    Args:
        root: folder with `mnist` and `nmnist`.
        fold: 0 to 4.
        k: labelled recordings a class; None for all 600.
        n_unlabelled: unlabelled recordings; None for all 600.
        source: number of source pictures; the same for every fold and seed unless `leak` says otherwise.
        leak: share of the test objects whose own pictures are among the source.
        seed: of the choice of labelled and unlabelled recordings (nested in `k` and `n_unlabelled`).

    Raises:
        DataError: missing files.
        ConfigError: a fold or a number that there is not.

    Source: our protocol (decided here).
    """
    recordings = nmnist(root)
    parts = split_by_fold(fold_of_items(recordings, 5, seed=SPLIT_SEED), fold)
    pictures = _source(mnist(root), recordings, parts, source=source, leak=leak)
    return assemble(
        pictures,
        recordings,
        parts,
        sensor_size=SENSOR_SIZE,
        labels_per_class=k,
        unlabelled=n_unlabelled,
        seed=seed,
        leak=leak > 0,
    )


def digits6789(
    root: Path | str,
    *,
    fold: int = 0,
    k: int | None = None,
    n_unlabelled: int | None = None,
    source: int = N_SOURCE,
    leak: float = 0.0,
    seed: int = 0,
) -> TransferTask:
    """The digits 6 to 9 of MNIST to 1 600 recordings in ``root/nmnist6789``: 600 train, 200 val, 800 test.

    Arguments and errors as in :func:`digits`; `fold` is 0 to 7, and neighbouring folds share test recordings.
    """
    recordings = nmnist6789(root)
    parts = split_by_fold(fold_of_items(recordings, 8, seed=SPLIT_SEED), fold, n_test=4)
    images = mnist(root).restrict(recordings.classes)
    pictures = _source(images, recordings, parts, source=source, leak=leak)
    return assemble(
        pictures,
        recordings,
        parts,
        sensor_size=SENSOR_SIZE,
        labels_per_class=k,
        unlabelled=n_unlabelled,
        seed=seed,
        leak=leak > 0,
    )


def _source(
    images: Images, recordings: Recordings, parts: Split, *, source: int, leak: float
) -> tuple[Images, Images]:
    """Source pictures and further ones for validation, equally many whatever the leak."""
    free = disjoint(images, recordings.object_ids)
    if not 0 < source <= len(free) - N_SOURCE_VAL:
        most = len(free) - N_SOURCE_VAL
        raise ConfigError(
            f"Expected `source` in [1, {most}], but got {source}. Ask for a number in that range."
        )
    order = ranked(free, seed=SPLIT_SEED)
    kept, val = free.subset(order[:source]), free.subset(order[source : source + N_SOURCE_VAL])
    if leak == 0:
        return kept, val
    test = recordings.subset(parts.test).object_ids
    return leaking(kept, images, test, leak, size=source, seed=SPLIT_SEED), val
