"""Who is in which split: decided by object ids alone, written down with a hash of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.items import HIDDEN, Collection, Item, hash_of_text
from evlift.errors import ConfigError, DataError
from evlift.files import write_text
from evlift.wording import counted

Source = TypeVar("Source", bound=Collection[Any])
FORMAT = "evlift-manifest"
VERSION = 1
JUDGING = ("val", "test")


@dataclass(frozen=True, order=True)
class Row:
    """One file or picture of a manifest.

    Args:
        object_id: the object that it shows.
        modality: ``image`` or ``recording``.
        name: of the item.
        split: for instance ``train``, ``val``, ``test``, ``source``.
        class_name: its class; empty where the label is hidden.
        sha256: hash of its content (hex).
    """

    object_id: str
    modality: str
    name: str
    split: str
    class_name: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The splits of an experiment as rows sorted by object id; images and recordings both follow it.

    Example:
        >>> manifest = Manifest.build({"train": train, "test": test})  # doctest: +SKIP
        >>> manifest.save("splits.jsonl")  # doctest: +SKIP

    Source: our protocol (decided here).
    """

    rows: tuple[Row, ...]

    @classmethod
    def build(cls, splits: Mapping[str, Collection[Any]]) -> Manifest:
        """The rows of named splits; a content hash is taken of every item."""
        rows = []
        for split, items in splits.items():
            for i, item in enumerate(items):
                label = "" if item.target == HIDDEN else items.classes[item.target]
                rows.append(
                    Row(item.object_id, items.modality, item.name, split, label, items.fingerprint(i))
                )
        return cls(tuple(sorted(rows)))

    @property
    def digest(self) -> str:
        """sha256 (hex) over all rows: the split hash of a run's record."""
        return hash_of_text(self._text())

    def objects(self, split: str) -> frozenset[str]:
        """Object ids in `split`."""
        return frozenset(row.object_id for row in self.rows if row.split == split)

    def copies(self) -> tuple[Row, ...]:
        """Rows of val and test whose content another split has too, as an object of another name."""
        taught: dict[str, set[str]] = {}
        for row in self.rows:
            if row.split not in JUDGING:
                taught.setdefault(row.sha256, set()).add(row.object_id)
        judged = (row for row in self.rows if row.split in JUDGING)
        return tuple(row for row in judged if taught.get(row.sha256, set()) - {row.object_id})

    def select(self, split: str, items: Source, *, verify: bool = False) -> Source:
        """The items of `split` out of a collection of images or recordings.

        Args:
            split: a split of this manifest.
            items: collection that holds at least the manifest's items.
            verify: hash the content again and compare.

        Raises:
            DataError: an item of the split is missing, or its content differs from the manifest's.
        """
        wanted = {r.name: r for r in self.rows if r.split == split and r.modality == items.modality}
        kept = [i for i, item in enumerate(items) if item.name in wanted]
        lost = sorted(set(wanted) - {items[i].name for i in kept})
        if lost:
            raise DataError(
                f"Expected all of split '{split}' in '{items.name}', but {_some(lost)} are missing."
            )
        changed = [
            items[i].name for i in kept if verify and items.fingerprint(i) != wanted[items[i].name].sha256
        ]
        if changed:
            raise DataError(
                f"Expected the content that the manifest has hashes of, but {_some(changed)} differ."
            )
        return items.subset(kept)

    def save(self, path: Path | str) -> None:
        """Write JSON lines, a header and one line a row; the file appears whole or not at all."""
        header = json.dumps({"format": FORMAT, "version": VERSION, "digest": self.digest})
        write_text(path, f"{header}\n{self._text()}")

    @classmethod
    def load(cls, path: Path | str) -> Manifest:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: another format, or rows that do not match the digest in the header.
        """
        try:
            head, *lines = Path(path).read_text("utf-8").splitlines()
            header = json.loads(head)
            rows = tuple(Row(**json.loads(line)) for line in lines)
            known = (header["format"], header["version"]) == (FORMAT, VERSION)
            digest = header["digest"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"Expected '{path}' to be an evlift manifest, but: {error}.") from error
        manifest = cls(rows)
        if not known or manifest.digest != digest:
            raise DataError(f"Expected '{path}' to be an unchanged manifest, but its rows or header differ.")
        return manifest

    def _text(self) -> str:
        return "".join(json.dumps(vars(row), ensure_ascii=False) + "\n" for row in self.rows)


@dataclass(frozen=True)
class Split:
    """Positions (int64, increasing) of the items of each part."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def fold_of_items(items: Sequence[Item], n: int = 5, *, seed: int = 0) -> NDArray[np.int64]:
    """Fold number of every item, int64 [len(items)], stratified by class.

    Objects are ordered by class and, within a class, by a hash of seed and object id; they are then dealt
    out in turn. So every class differs by at most one object between folds, and so do the folds as wholes.
    The order of `items` does not matter. Items of one object share a fold; it counts for their lowest class.

    Raises:
        DataError: fewer objects than folds, or hidden labels.
    """
    objects = _class_of_objects(items)
    if n < 2 or len(objects) < n:
        raise DataError(
            f"Expected 2 folds or more and an object for each, but got {n} folds of {counted(len(objects), 'object')}. "
            "Add recordings of other objects."
        )
    dealt = sorted(objects, key=lambda object_id: (objects[object_id], _order(object_id, "fold", seed)))
    fold = {object_id: position % n for position, object_id in enumerate(dealt)}
    return np.array([fold[item.object_id] for item in items], dtype=np.int64)


def split_by_fold(folds: NDArray[np.int64], fold: int, *, n_test: int = 1, n_val: int = 1) -> Split:
    """Test = `n_test` folds from `fold` on (cyclic), val = the `n_val` after them, train = the rest.

    Args:
        folds: int64 [n], from :func:`fold_of_items`.
        fold: which of the cyclic choices, from 0.

    Raises:
        ConfigError: no such fold, or none left for training.
    """
    n = int(folds.max()) + 1
    if not 0 <= fold < n:
        raise ConfigError(f"Expected `fold` in [0, {n - 1}], but got {fold}. Name one of the {n} folds.")
    if n_test + n_val >= n or min(n_test, n_val) < 0:
        raise ConfigError(
            f"Expected `n_test` + `n_val` < {n}, the number of folds, but got {n_test} + {n_val}. Give fewer."
        )
    turn = (folds - fold) % n
    val = (turn >= n_test) & (turn < n_test + n_val)
    test = turn < n_test
    return Split(*(np.flatnonzero(mask) for mask in (~(val | test), val, test)))


def few_shot(items: Sequence[Item], k: int | None, *, seed: int = 0) -> NDArray[np.int64]:
    """Positions (int64) of `k` items a class, nested: the choice for k = 1 is part of that for k = 5.

    Args:
        items: labelled.
        k: items a class; None for all.
        seed: another seed draws other items; the order of `items` does not matter.

    Raises:
        ConfigError: a class with fewer than `k` items.
    """
    if k is None:
        return np.arange(len(items), dtype=np.int64)
    by_class: dict[int, list[int]] = {}
    for i, item in enumerate(items):
        by_class.setdefault(_visible_target(item), []).append(i)
    for target, members in by_class.items():
        if k < 1 or len(members) < k:
            name = items.classes[target] if isinstance(items, Collection) else target
            raise ConfigError(
                f"Expected `labels_per_class` (`k` in Python) in [1, {len(members)}], the items of class {name}, but "
                f"got {k}. Ask for fewer, or leave it out for all."
            )
        members.sort(key=lambda i: _order(f"{items[i].object_id}/{items[i].name}", "few", seed))
    return np.sort(np.array([i for members in by_class.values() for i in members[:k]], dtype=np.int64))


def some(items: Source, n: int, *, seed: int = 0) -> Source:
    """`n` items in an order that depends on seed and object ids alone; nested in `n`.

    Raises:
        ConfigError: fewer than `n` items.
    """
    if not 0 <= n <= len(items):
        raise ConfigError(
            f"Expected 0 to {len(items)} items from '{items.name}', but got {n}. Ask for fewer."
        )
    return items.subset(ranked(items, seed=seed)[:n])


def ranked(items: Sequence[Item], *, seed: int = 0) -> list[int]:
    """Positions of all items in an order that depends on seed and object ids alone."""
    keys = [_order(item.object_id, "some", seed) for item in items]
    return sorted(range(len(keys)), key=keys.__getitem__)


def disjoint(source: Source, objects: Iterable[str]) -> Source:
    """`source` without the items whose object is among `objects`."""
    taken = frozenset(objects)
    return source.subset([i for i, item in enumerate(source) if item.object_id not in taken])


def dose(source: Source, test_objects: Iterable[str], share: float, *, seed: int = 0) -> Source:
    """`source` with exactly `share` of the test objects in it: the leak experiment.

    Args:
        source: pool with all objects.
        test_objects: objects of the test recordings.
        share: 0 for none; .116 and .91 are what KT's loader leaks (sorted and hashed listing).
        seed: which ones; nested in `share`.

    Source: our protocol (decided here).
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"Expected `leak`, the share of the test objects, in [0, 1], but got {share}.")
    test = sorted(set(test_objects), key=lambda object_id: _order(object_id, "dose", seed))
    return disjoint(source, test[round(share * len(test)) :])


def leaking(
    pool: Source, everything: Source, test_objects: Sequence[str], share: float, *, size: int, seed: int = 0
) -> Source:
    """`size` items: those of `share` of the test objects (:func:`dose` of `everything`), and the rest from `pool`."""
    test = set(test_objects)
    leaked = [item for item in dose(everything, test_objects, share, seed=seed) if item.object_id in test]
    fewer = some(pool, size - len(leaked), seed=seed)
    return fewer.with_items([*fewer, *leaked])


def check_disjoint(**splits: Collection[Any]) -> None:
    """Raise if an object is in two of the named splits: the leak test.

    Example:
        >>> check_disjoint(source=images, train=train, test=test)  # doctest: +SKIP

    Raises:
        DataError: with both names and the offending object ids.
    """
    seen: dict[str, frozenset[str]] = {}
    for name, items in splits.items():
        objects = items.objects
        for other, theirs in seen.items():
            if shared := sorted(objects & theirs):
                raise DataError(
                    f"Expected '{other}' and '{name}' to share no object, but got {_some(shared)}."
                )
        seen[name] = objects


def _class_of_objects(items: Sequence[Item]) -> dict[str, int]:
    objects: dict[str, int] = {}
    for item in items:
        target = _visible_target(item)
        objects[item.object_id] = min(target, objects.get(item.object_id, target))
    return objects


def _visible_target(item: Item) -> int:
    if item.target == HIDDEN:
        raise DataError(f"Expected labelled items, but the label of '{item.name}' is hidden.")
    return item.target


def _order(object_id: str, purpose: str, seed: int) -> bytes:
    return hashlib.sha256(f"{purpose}/{seed}/{object_id}".encode()).digest()


def _some(names: Sequence[str], limit: int = 5) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + rest
