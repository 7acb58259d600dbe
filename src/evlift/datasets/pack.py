"""Packing class folders into shards: tar files in webdataset's layout, and their index."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from evlift.datasets.images import SUFFIXES as PICTURES
from evlift.datasets.images import image_folder
from evlift.datasets.items import HIDDEN, Collection, Item, hash_of_file
from evlift.datasets.manifest import ranked
from evlift.datasets.recordings import recording_folder
from evlift.datasets.shards import INDEX, Entry, Index, read_index
from evlift.errors import ConfigError, DataError
from evlift.files import atomic_path, files_below, write_text

CLASS_SUFFIX = ".cls"

Report = Callable[[int, int | None], None]


def write_shards(
    items: Collection[Any] | str | Path,
    out: str | Path,
    *,
    shards: int,
    overwrite: bool = False,
    report: Report | None = None,
) -> Index:
    """Pack items into tar files in webdataset's layout, and write their index when all of them are whole.

    Example:
        >>> write_shards("recordings", "shards", shards=8)  # doctest: +SKIP

    Each item is two members, ``<class>/<file>`` with its bytes as they are and ``<class>/<stem>.cls`` with its class
    number. Items are dealt out in an order by hash, so that a reader of whole shards sees the classes mixed. Every
    shard is read again and compared by sha256.

    Args:
        items: a collection whose items are whole files, or a folder of class folders of recordings or of pictures.
        out: folder; created.
        shards: how many, at most one an item.
        overwrite: replace shards of other content that are there already; equal ones are left alone in any case.
        report: called with (done, total) items.

    Raises:
        ConfigError: a number of shards that is not possible.
        DataError: items that are no files, two with one name in the shards, or other shards in `out`.
    """
    folder = Path(out)
    collection = items if isinstance(items, Collection) else _class_folders(Path(items))
    if not 1 <= shards <= len(collection):
        raise ConfigError(f"Expected 1 to {len(collection)} shards for as many items, but got {shards}.")
    members = _member_names(collection)
    if (folder / INDEX).exists():
        there = read_index(folder)
        if _content(there) == _content(_index_of(collection)) and _all_there(folder, there, shards):
            return there
        if not overwrite:
            raise DataError(
                f"Expected no shards in '{folder}', but got others. Give --overwrite to replace them."
            )
        (folder / INDEX).unlink()  # from here on they are no whole set
    order = ranked(collection)
    done = 0
    places: dict[str, tuple[str, str, int, int]] = {}
    for number in range(shards):
        name = f"shard-{number:05d}.tar"
        with atomic_path(folder / name) as part:
            _write_tar(part, [(members[i], collection[i]) for i in order[number::shards]])
            places |= {
                member: (name, member, *place) for member, place in _verified(part, collection, members)
            }
        done += len(order[number::shards])
        if report is not None:
            report(done, len(collection))
    index = _index_of(collection, [places[member] for member in members])
    write_text(folder / INDEX, index.to_json())
    for file in folder.glob("shard-*.tar"):
        if file.name not in {entry.shard for entry in index.entries}:
            file.unlink()
    return index


def _class_folders(folder: Path) -> Collection[Any]:
    """Recordings or pictures by class, whichever the folder holds."""
    if not folder.is_dir():
        raise DataError(f"Expected a folder with one subfolder a class, but there is no folder '{folder}'.")
    build = image_folder if files_below(folder, PICTURES) else recording_folder
    found: Collection[Any] = build(folder)
    return found


def _member_names(collection: Collection[Any]) -> list[str]:
    """Names in the shards: webdataset takes all behind the first dot of a file name for its extension."""
    names: dict[str, str] = {}
    for item in collection:
        if item.path is None or (item.index, item.start_us, item.stop_us) != (0, None, None):
            raise DataError(
                f"Expected items that are whole files, but '{item.name}' of '{collection.name}' is none. Write each "
                "to a file of its own first."
            )
        label = "unlabelled" if item.target == HIDDEN else collection.classes[item.target]
        key = f"{label.replace('/', '-')}/{item.path.stem.replace('.', '-')}"
        if key in names:
            raise DataError(
                f"Expected files whose names differ in more than the extension, but got '{names[key]}' and "
                f"'{item.name}'. Rename one."
            )
        names[key] = item.name
    return [
        f"{key}{item.path.suffix.lower()}" for key, item in zip(names, collection, strict=True) if item.path
    ]


def _index_of(collection: Collection[Any], places: list[tuple[str, str, int, int]] | None = None) -> Index:
    entries = []
    for i, item in enumerate(collection):
        shard, member, offset, size = places[i] if places else ("", "", 0, 0)
        digest = hash_of_file(item.path) if item.path else ""
        entries.append(Entry(item.name, item.target, item.object_id, shard, member, offset, size, digest))
    return Index(collection.name, collection.modality, collection.classes, tuple(entries))


def _content(index: Index) -> tuple[Any, ...]:
    """What makes two sets of shards equal, wherever the items lie in them."""
    entries = [(entry.name, entry.target, entry.object_id, entry.sha256) for entry in index.entries]
    return index.kind, index.classes, sorted(entries)


def _all_there(folder: Path, index: Index, shards: int) -> bool:
    names = {entry.shard for entry in index.entries}
    return len(names) == shards and all((folder / name).is_file() for name in names)


def _write_tar(path: Path, members: list[tuple[str, Item]]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, item in members:
            content = item.path.read_bytes() if item.path else b""
            label = str(item.target).encode()
            for member, data in ((name, content), (f"{name.rpartition('.')[0]}{CLASS_SUFFIX}", label)):
                info = tarfile.TarInfo(
                    member
                )  # owner, times and modes stay 0 and 0644: same files, same bytes
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def _verified(
    path: Path, collection: Collection[Any], members: list[str]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Member and (offset, size) of each item in a tar, each compared with its file."""
    items = dict(zip(members, collection, strict=True))
    for name, offset, size, digest in scan_tar(path):
        if name.endswith(CLASS_SUFFIX) and name not in items:
            continue
        source = items[name].path
        if source is None or digest != hash_of_file(source):
            raise DataError(
                f"Expected '{name}' in the shard to be as '{source}', but it differs. Was it changed?"
            )
        yield name, (offset, size)


def scan_tar(path: str | Path) -> Iterator[tuple[str, int, int, str]]:
    """Name, offset, size and sha256 (hex) of the files in a tar; nothing is unpacked.

    Raises:
        DataError: no tar, a link, a device, a sparse file, or a name that leads out of a folder.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            yield from _files_in(tar, str(path))
    except DataError:
        raise
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        raise DataError(f"Expected '{path}' to be a whole tar, but: {error}.") from None


def _files_in(tar: tarfile.TarFile, where: str) -> Iterator[tuple[str, int, int, str]]:
    for member in tar:
        _refuse(member, where)
        file = tar.extractfile(member)
        if file is not None:
            with file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            yield member.name, member.offset_data, member.size, digest


def _refuse(member: tarfile.TarInfo, where: str) -> None:
    parts = PurePosixPath(member.name).parts
    plain = member.isreg() and not member.issparse()
    if not plain and not member.isdir():
        raise DataError(
            f"Expected nothing but files in '{where}', but '{member.name}' is a link or a device."
        )
    if member.name.startswith("/") or ".." in parts or re.search(r"[\\:\0]", member.name):
        raise DataError(f"Expected names below a folder in '{where}', but got '{member.name}'.")


def index_shards(folder: str | Path, *, kind: Literal["image", "recording"] = "recording") -> Index:
    """Write the index of tar files that came without one; members are called ``<class>/<file>``.

    Args:
        folder: of ``*.tar``.
        kind: what they hold.

    Raises:
        DataError: no tar files, members without a class, or any that :func:`scan_tar` refuses.
    """
    rows = [(tar.name, *row) for tar in sorted(Path(folder).glob("*.tar")) for row in scan_tar(tar)]
    rows = [row for row in rows if not row[1].endswith((CLASS_SUFFIX, ".json", ".txt"))]
    paths = [PurePosixPath(row[1]) for row in rows]
    lost = [path for path in paths if len(path.parts) != 2]
    if not rows or lost:
        raise DataError(
            f"Expected tar files with members <class>/<file> in '{folder}', but got {lost[0] if lost else 'none'}."
        )
    classes = tuple(sorted({path.parts[0] for path in paths}))
    entries = [
        Entry(str(path), classes.index(path.parts[0]), f"{path.parts[0]}/{path.stem}", *row)
        for path, row in zip(paths, rows, strict=True)
    ]
    index = Index(Path(folder).name, kind, classes, tuple(entries))
    write_text(Path(folder) / INDEX, index.to_json())
    return index
