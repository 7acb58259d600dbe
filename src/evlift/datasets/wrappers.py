"""Who meets whom: pictures and recordings paired by category or not at all, and labels taken away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evlift.datasets.items import HIDDEN, Collection, Images, Recordings, hash_of_text
from evlift.datasets.manifest import few_shot
from evlift.errors import DataError

Source = TypeVar("Source", Images, Recordings)


class CategoryPairs:
    """Draws source pictures by category, not by instance.

    Example:
        >>> pairs = CategoryPairs(np.array([0, 1, 1]), n_classes=2)
        >>> pairs.draw(np.array([0, 0]), np.random.default_rng(0))
        array([0, 0])

    Args:
        source_targets: int [n], class of every source picture.
        n_classes: classes of the task.

    Raises:
        DataError: hidden labels, or a class without a picture once one is asked for.

    Source: KT's code and TMKT's summary pair by category.
    """

    def __init__(self, source_targets: ArrayLike, n_classes: int) -> None:
        targets = np.asarray(source_targets, dtype=np.int64)
        _check_labels(targets, n_classes)
        self.members = tuple(np.flatnonzero(targets == c) for c in range(n_classes))
        self._order = np.argsort(targets, kind="stable")
        self._sizes = np.bincount(targets, minlength=n_classes)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def draw(self, targets: ArrayLike, rng: np.random.Generator) -> NDArray[np.int64]:
        """int64 [b], the position of a uniformly drawn picture for each class in `targets` [b]."""
        wanted = np.asarray(targets, dtype=np.int64)
        _check_labels(wanted, len(self.members))
        sizes = self._sizes[wanted]
        if (sizes == 0).any():
            empty = sorted(set(wanted[sizes == 0].tolist()))
            raise DataError(f"Expected source pictures of every class drawn, but classes {empty} have none.")
        return self._order[self._starts[wanted] + rng.integers(0, sizes)]


def _check_labels(targets: NDArray[np.int64], n_classes: int) -> None:
    if len(targets) and not (targets.min() >= 0 and targets.max() < n_classes):
        raise DataError(
            f"Expected labels in [0, {n_classes - 1}], but got [{targets.min()}, {targets.max()}]; "
            "-1 is a hidden label, and pairing by category needs labels. Use draw_unpaired instead."
        )


def draw_unpaired(n_source: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 [n], positions of source pictures drawn without a look at labels; none twice if there are enough.

    Raises:
        DataError: no source pictures.
    """
    if n_source < 1:
        raise DataError(f"Expected at least one source picture, but got {n_source}.")
    rounds = [rng.permutation(n_source)[: n - start] for start in range(0, n, n_source)]
    return np.concatenate(rounds).astype(np.int64) if rounds else np.empty(0, np.int64)


def hide_targets(items: Source) -> Source:
    """The same items without labels: targets are -1, and names no longer contain the class folder."""
    return items.with_items(
        replace(item, target=HIDDEN, name=f"unlabelled/{hash_of_text(item.name)[:12]}") for item in items
    )


def with_few_labels(items: Source, k: int | None, *, seed: int = 0) -> tuple[Source, Source]:
    """Items with labels, `k` a class (None: all), and all the others with their labels hidden."""
    chosen = few_shot(items, k, seed=seed)
    rest = np.setdiff1d(np.arange(len(items)), chosen)
    return items.subset(chosen), hide_targets(items.subset(rest))


def check_same_classes(images: Collection[Any], recordings: Collection[Any]) -> None:
    """Raise unless both collections have the same classes in the same order.

    Raises:
        DataError: with the classes that only one of them has.
    """
    if images.classes == recordings.classes:
        return
    only_images = [name for name in images.classes if name not in recordings.classes]
    only_recordings = [name for name in recordings.classes if name not in images.classes]
    raise DataError(
        f"Expected '{images.name}' and '{recordings.name}' to have the same classes in one order, "
        f"but {only_images} are in the pictures alone, {only_recordings} in the recordings. "
        "Give both the same subfolders (in Python: restrict)."
    )
