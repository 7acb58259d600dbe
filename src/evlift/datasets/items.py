"""`Item` and `Collection`: labelled things on disk, in an order that no file system decides."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evlift.errors import DataError
from evlift.events import EventStream
from evlift.wording import counted

Content = TypeVar("Content")
HIDDEN = -1


@dataclass(frozen=True)
class Item:
    """One picture or recording, not loaded yet.

    Example:
        >>> Item(name="4/00003", target=4, object_id="mnist/train/00002").target
        4

    Args:
        name: what logs and tables call it, unique within its collection.
        target: class index, or `HIDDEN` (-1) where the label must not be seen.
        object_id: the unit of a split, equal for the picture and the recording of one object.
        path: file that holds it; None for generated data.
        index: position in a file or array that holds many.
        start_us: first time of a slice of a recording, in µs; None from the beginning.
        stop_us: end (excluded) of a slice of a recording, in µs; None to the end.
        parts: object ids of all objects that it shows, where it is composed of several; empty: `object_id` alone.
    """

    name: str
    target: int
    object_id: str
    path: Path | None = None
    index: int = 0
    start_us: int | None = None
    stop_us: int | None = None
    parts: tuple[str, ...] = ()


class Collection(Sequence[Item], Generic[Content]):
    """Items of one kind with their classes, sorted by object id and name, loaded one at a time.

    Args:
        name: of the data set.
        classes: class names; an item's `target` indexes them.
        items: in any order.
        read: loads one item's content.
        fingerprint: sha256 of one item's content; default: of its file and slice.

    Raises:
        DataError: two items with one name, or a target without a class.
    """

    modality: ClassVar[str] = "image"

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        items: Iterable[Item],
        read: Callable[[Item], Content],
        fingerprint: Callable[[Item], str] | None = None,
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.items = tuple(sorted(items, key=lambda item: (item.object_id, item.name)))
        self._read = read
        self._fingerprint = fingerprint or hash_of_file_item
        self._check()

    def _check(self) -> None:
        names = [item.name for item in self.items]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"Expected unique item names in '{self.name}', but got '{twice}' twice.")
        for item in self.items:
            if not HIDDEN <= item.target < len(self.classes):
                raise DataError(
                    f"Expected '{item.name}' of class 0 to {len(self.classes) - 1}, but got {item.target}."
                )

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        return self.items[index]

    def __repr__(self) -> str:
        classes = counted(len(self.classes), "class", "classes")
        return f"{type(self).__name__}({self.name!r}, {counted(len(self), 'item')}, {classes})"

    @property
    def targets(self) -> NDArray[np.int64]:
        """int64 [n], class of every item; -1 where it is hidden."""
        return np.fromiter((item.target for item in self.items), dtype=np.int64, count=len(self))

    @property
    def object_ids(self) -> tuple[str, ...]:
        """Object id of every item, in order."""
        return tuple(item.object_id for item in self.items)

    @property
    def objects(self) -> frozenset[str]:
        """Ids of all objects that any item shows, the parts of composed items one by one."""
        return frozenset(part for item in self.items for part in item.parts or (item.object_id,))

    def load(self, index: int) -> Content:
        """The content of item `index`, read from its file now."""
        return self._read(self.items[index])

    def fingerprint(self, index: int) -> str:
        """sha256 (hex) of the content of item `index`."""
        return self._fingerprint(self.items[index])

    def subset(self, indices: ArrayLike) -> Self:
        """The items at `indices` (int [m]), in the collection's own order."""
        kept = np.unique(np.asarray(indices, dtype=np.int64))
        other = copy.copy(self)
        other.items = tuple(self.items[i] for i in kept)
        return other

    def with_items(self, items: Iterable[Item]) -> Self:
        """The same source with other items, sorted again."""
        other = copy.copy(self)
        other.items = tuple(sorted(items, key=lambda item: (item.object_id, item.name)))
        return other

    def restrict(self, classes: Sequence[str]) -> Self:
        """Only the items of `classes`, relabelled to the positions in `classes`.

        Raises:
            DataError: a class that the collection does not have.
        """
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise DataError(
                f"Expected classes of '{self.name}' ({', '.join(self.classes)}), but got {unknown}."
            )
        position = {self.classes.index(name): new for new, name in enumerate(classes)}
        other = self.with_items(
            replace(item, target=position[item.target]) for item in self.items if item.target in position
        )
        other.classes = tuple(classes)
        return other


class Images(Collection[NDArray[np.uint8]]):
    """Labelled pictures; `load(i)` gives uint8 [H, W] (grey) or [H, W, 3] (RGB)."""


class Recordings(Collection[EventStream]):
    """Event recordings, labelled or not; `load(i)` gives an `EventStream`."""

    modality = "recording"


def sorted_folders(root: Path) -> list[Path]:
    """Subfolders of `root` by name, hidden ones left out."""
    return sorted((Path(entry) for entry in os.scandir(root) if _visible(entry) and entry.is_dir()), key=str)


def sorted_files(root: Path, suffixes: Iterable[str] | None = None) -> list[Path]:
    """Files right under `root` by name, hidden ones left out; `suffixes` in lower case with their dot."""
    wanted = None if suffixes is None else frozenset(suffixes)
    files = (Path(entry) for entry in os.scandir(root) if _visible(entry) and entry.is_file())
    return sorted((file for file in files if wanted is None or file.suffix.lower() in wanted), key=str)


def _visible(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".")


def require(root: Path | str, candidates: Sequence[str], *, data_set: str, source: str) -> Path:
    """The first of `candidates` that exists under `root`.

    Raises:
        DataError: none exists; the message says where it belongs and where it comes from.
    """
    for candidate in candidates:
        if (Path(root) / candidate).exists():
            return Path(root) / candidate
    raise missing(Path(root) / candidates[0], data_set=data_set, source=source)


def missing(path: Path, *, data_set: str, source: str) -> DataError:
    """The error for a file or folder that is not there."""
    return DataError(
        f"Expected '{path}' for the data set '{data_set}', but it is not there. It comes from {source}."
    )


def hash_of_file_item(item: Item) -> str:
    """sha256 of the item's file; of the file's hash, position and slice where an item is a part of a file."""
    if item.path is None:
        raise DataError(
            f"Expected '{item.name}' to have a file or a fingerprint of its own, but it has neither."
        )
    whole = hash_of_file(item.path)
    part = (item.index, item.start_us, item.stop_us)
    return whole if part == (0, None, None) else hash_of_text(f"{whole}/{part}")


def hash_of_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes; read again only if size or modification time changed."""
    state = path.stat()
    return _hash_of_file(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=200_000)
def _hash_of_file(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of_text(text: str) -> str:
    """sha256 (hex) of UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of_array(array: NDArray[np.generic]) -> str:
    """sha256 (hex) of an array's type, shape and values."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
