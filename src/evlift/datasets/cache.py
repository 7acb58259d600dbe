"""Arrays kept on disk by content and recipe: a changed file or transform is a changed key."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.items import hash_of_text
from evlift.errors import DataError
from evlift.files import atomic_path

SUFFIX = ".npy"


class CacheWarning(UserWarning):
    """An entry could not be read and was computed again."""


class Cache:
    """Arrays by key in a folder.

    Example:
        >>> cache = Cache("cache")  # doctest: +SKIP
        >>> frames = cache.get(cache_key(content, recipe), lambda: expensive())  # doctest: +SKIP

    Args:
        folder: created when the first entry is written.

    Entries are written whole or not at all. Processes may share a folder: the last writer wins, with equal
    content.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the entry of `key` is or would be."""
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def get(self, key: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of `key`, computed and kept if it is not there. A damaged one is replaced with a warning.

        Raises:
            DataError: `compute` returns an array of Python objects.
        """
        path = self.path(key)
        try:
            return np.load(path, allow_pickle=False)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError) as error:
            message = f"Expected a whole cache entry in '{path}', but: {error}. It is computed again."
            warnings.warn(message, CacheWarning, stacklevel=2)
        array = compute()
        self._write(path, array)
        return array

    def _write(self, path: Path, array: NDArray[Any]) -> None:
        if array.dtype.hasobject:
            raise DataError(f"Expected an array of numbers for the cache, but got the type {array.dtype}.")
        with atomic_path(path) as part, part.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def size(self) -> tuple[int, int]:
        """Number of entries and their bytes on disk."""
        sizes = [path.stat().st_size for path in self._entries()]
        return len(sizes), sum(sizes)

    def clear(self) -> int:
        """Delete all entries; returns how many there were."""
        entries = list(self._entries())
        for path in entries:
            path.unlink(missing_ok=True)
        return len(entries)

    def _entries(self) -> Iterator[Path]:
        return (path for path in self.folder.glob(f"*/*{SUFFIX}") if not path.name.startswith("."))


def cache_key(content: str, recipe: Any, *more: Any) -> str:
    """sha256 (hex) of a content hash and of everything that shapes the result.

    Example:
        >>> cache_key("ab12", {"steps": 10}) == cache_key("ab12", {"steps": 12})
        False

    Args:
        content: hash of the content, such as `Collection.fingerprint(i)`.
        recipe: a dataclass such as a representation, its `cache_key`, or any JSON value.
        more: further things that it depends on.

    Raises:
        DataError: something that has no stable form as text.
    """
    try:
        text = json.dumps([content, *map(_plain, (recipe, *more))], sort_keys=True, allow_nan=True)
    except TypeError as error:
        raise DataError(f"Expected dataclasses or JSON values in a cache key, but: {error}.") from error
    return hash_of_text(text)


def _plain(value: Any) -> Any:
    """A JSON value; a dataclass carries its class name, so that equal fields of different classes differ."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"class": kind, "fields": asdict(value)}
    return os.fspath(value) if isinstance(value, os.PathLike) else value
