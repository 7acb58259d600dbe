"""Sharded data: an index of tar files in webdataset's layout, read item by item from a disk or any URL."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from evlift.datasets.images import read_picture
from evlift.datasets.items import Collection, Images, Item, Recordings
from evlift.datasets.recordings import read_recording
from evlift.errors import DataError

INDEX = "index.json"
FORMAT, VERSION = "evlift-shards", 1
KINDS: dict[str, type[Collection[Any]]] = {"image": Images, "recording": Recordings}
NAME = re.compile(r"[\w@+,=-][\w@+,=. -]*", re.ASCII)
"""Of a shard: a plain file name, so that no index leads out of its folder or to another host."""
SUFFIX = re.compile(r"(\.\w+)?", re.ASCII)

Made = TypeVar("Made")


@dataclass(frozen=True)
class Entry:
    """Where an item lies: a member of a shard, its bytes [offset, offset + size), and their sha256 (hex)."""

    name: str
    target: int
    object_id: str
    shard: str
    member: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """All items of a set of shards, for which no shard is opened.

    Args:
        name: of the data set.
        kind: "image" or "recording".
        classes: class names; an entry's `target` indexes them.
        entries: one an item.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]

    def to_json(self) -> str:
        """Text with one line an item."""
        head = {"format": FORMAT, "version": VERSION, "name": self.name, "kind": self.kind}
        lines = ",\n".join(json.dumps(vars(entry), ensure_ascii=False) for entry in self.entries)
        start = json.dumps({**head, "classes": self.classes}, ensure_ascii=False)[:-1]
        return f'{start}, "items": [\n{lines}\n]}}\n'

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Index:
        """What :meth:`to_json` wrote, with every field checked: an index may come from anywhere.

        Raises:
            DataError: another format, or a value that no index of ours has.
        """
        try:
            read = json.loads(content)
            if (read["format"], read["version"]) != (FORMAT, VERSION):
                raise ValueError(f"format {read['format']!r}, version {read['version']!r}")
            entries = tuple(Entry(**row) for row in read["items"])
            index = cls(read["name"], read["kind"], tuple(read["classes"]), entries)
            _check_index(index)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"Expected '{where}' to be an index of evlift's shards, but: {error}.") from None
        return index


def _check_index(index: Index) -> None:
    if index.kind not in KINDS or not all(isinstance(name, str) for name in (index.name, *index.classes)):
        raise ValueError(f"kind {index.kind!r} of {index.name!r}")
    for entry in index.entries:
        texts, numbers = (entry.name, entry.object_id), (entry.target, entry.offset, entry.size)
        plain = all(isinstance(text, str) for text in texts) and all(type(n) is int for n in numbers)
        if not plain or min(entry.offset, entry.size) < 0 or not re.fullmatch("[0-9a-f]{64}", entry.sha256):
            raise ValueError(f"an item {entry}")
        if not NAME.fullmatch(entry.shard) or not SUFFIX.fullmatch(PurePosixPath(entry.member).suffix):
            raise ValueError(
                f"shard {entry.shard!r} and member {entry.member!r}, which are no plain file names"
            )


def read_index(url: str | Path) -> Index:
    """The index of shards in a folder or below a URL.

    Raises:
        DataError: it cannot be read, or is no index of ours.
    """
    where = f"{str(url).rstrip('/')}/{INDEX}"
    return Index.from_json(_bytes_of(where), where)


def has_index(where: str | Path) -> bool:
    """Whether this is a URL, which can be nothing but shards, or a folder of shards."""
    return "://" in str(where) or (Path(where) / INDEX).is_file()


def _bytes_of(url: str, start: int | None = None, stop: int | None = None) -> bytes:
    """Bytes [start, stop) of a file behind any URL that fsspec opens."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        data: bytes = system.cat_file(path, start=start, end=stop)
    except (Exception, MemoryError) as error:  # every file system has errors of its own
        raise DataError(f"Expected to read '{url}', but: {type(error).__name__}: {error}.") from error
    if start is not None and stop is not None and len(data) > stop - start:
        return data[start:stop]  # a server that knows no byte ranges sent the whole file
    return data


def open_shards(url: str | Path, *, sensor_size: tuple[int, int] | None = None) -> Collection[Any]:
    """Pictures or recordings in shards; an item's bytes are fetched when it is loaded, and compared by sha256.

    Example:
        >>> open_shards("s3://bucket/recordings").load(0)  # doctest: +SKIP

    Items have the names, object ids and content hashes of the files that were packed: splits, manifest and batches
    are those of the folder.

    Args:
        url: folder, or URL that fsspec opens, with ``index.json`` and the shards.
        sensor_size: (H, W) of recordings in formats that do not store it.

    Raises:
        DataError: no index there.
    """
    index = read_index(url)
    rows = {entry.name: entry for entry in index.entries}
    if len(rows) < len(index.entries):
        raise DataError(f"Expected unique names in '{url}', but got some twice.")
    options: dict[str, Any] = {} if sensor_size is None else {"sensor_size": sensor_size}
    read: Callable[[Item], Any] = (
        partial(read_recording, **options) if index.kind == "recording" else read_picture
    )
    items = [Item(entry.name, entry.target, entry.object_id) for entry in index.entries]
    fetch = _Shards(str(url).rstrip("/"), rows)
    return KINDS[index.kind](index.name, index.classes, items, partial(_read, fetch, read), fetch.sha256)


@dataclass(frozen=True)
class _Shards:
    """Fetches items; holds no connection, so that it can be sent to another process."""

    url: str
    rows: dict[str, Entry]

    def sha256(self, item: Item) -> str:
        return self.rows[item.name].sha256

    @contextmanager
    def file(self, item: Item) -> Iterator[IO[bytes]]:
        """The item as a file, whose extension is the item's, for as long as the block lasts."""
        row = self.rows[item.name]
        url = f"{self.url}/{row.shard}"
        data = _bytes_of(url, row.offset, row.offset + row.size)
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise DataError(
                f"Expected '{item.name}' in '{url}' as its index has it, but it is cut or was changed."
            )
        with tempfile.NamedTemporaryFile(suffix=PurePosixPath(row.member).suffix) as file:
            file.write(data)
            file.flush()
            yield file


def _read(shards: _Shards, read: Callable[[Item], Made], item: Item) -> Made:
    with shards.file(item) as file:
        return read(replace(item, path=Path(file.name)))
