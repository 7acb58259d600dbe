"""Files that are whole or not there: everything is written beside its place and moved into it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evlift.errors import ConfigError, DataError

MAX_NODES = 1_000_000
"""Values of a YAML document, more than any recipe or suite has (decided here)."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path in the same folder; moved onto `path` if the block succeeds, deleted if it fails.

    Example:
        >>> with atomic_path("weights.bin") as part:  # doctest: +SKIP
        ...     part.write_bytes(b"...")
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_ident()}"
    part = final.with_name(f".{final.stem}.{writer}.part{final.suffix}")
    try:
        yield part
        _flush(part)
        os.replace(part, final)
    except OSError as error:
        error.filename = error.filename or str(final)  # a full disk is reported without a name
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def empty_folders_go(path: Path | str) -> Iterator[None]:
    """If the block fails, the folders above a path that were not there before go again as far as they are empty.

    For a path below which nobody else writes meanwhile: another writer may count on the folder that goes.

    Example:
        >>> with empty_folders_go("new/er/out.txt"), atomic_path("new/er/out.txt") as part:  # doctest: +SKIP
        ...     part.write_text(compute())
    """
    above = Path(path).absolute()
    missing = [folder for folder in (above, *above.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # one that is not empty stays, and those above it
            for folder in filter(Path.is_dir, missing):
                folder.rmdir()
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made, against other processes in such a block; a no-op where there are no locks."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def files_below(folder: Path, extensions: tuple[str, ...] = ()) -> list[Path]:
    """Files at any depth in the order of their names, hidden ones left out; `extensions` in lower case, () for all."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (not extensions or path.suffix.lower() in extensions)
    )


def mirrored(
    source: Path, out: Path, extensions: tuple[str, ...], suffix: str, *, what: str
) -> list[tuple[Path, Path]]:
    """(file, target) of the files below a folder: the same tree in another folder, with another suffix.

    Args:
        what: the files in the plural, for messages.

    Raises:
        ConfigError: `out` lies in `source`.
        DataError: no such files, or two with one target.
    """
    if out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"Expected an output outside of '{source}', but got '{out}'. Name another folder.")
    found = files_below(source, extensions)
    if not found:
        raise DataError(f"Expected {what} ({' '.join(extensions)}) below '{source}', but found none.")
    jobs = [(path, (out / path.relative_to(source)).with_suffix(suffix)) for path in found]
    targets: dict[Path, Path] = {}
    for path, target in jobs:
        if targets.setdefault(target, path) != path:
            raise DataError(
                f"Expected {what} whose names differ in more than the extension, but got '{targets[target]}' "
                f"and '{path}'. Rename one."
            )
    return jobs


def load_yaml(text: str) -> Any:
    """The content of a YAML document: plain values alone, and no more of them than text could hold.

    Raises:
        ConfigError: no YAML, a name twice in one mapping, tags that ask for Python objects, or aliases that multiply
            into a flood.
    """
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if _nodes(node, {}) > MAX_NODES:
            raise ConfigError(f"Expected at most {MAX_NODES} values, but got aliases that repeat more.")
        _refuse_twins(node, set())
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(str(error) or "it is nested too deeply") from None
    finally:
        loader.dispose()


def _refuse_twins(node: Any, seen: set[int]) -> None:
    """YAML keeps the last of two entries of one name without a word."""
    if not isinstance(getattr(node, "value", None), list) or id(node) in seen:
        return
    seen.add(id(node))
    names: set[str] = set()
    for part in node.value:
        key, inner = part if isinstance(part, tuple) else (None, part)
        _refuse_twins(inner, seen)
        if key is None or not isinstance(key.value, str):
            continue
        if key.value in names:
            raise ConfigError(
                f"Expected '{key.value}' once, but got it again in {str(key.start_mark).strip()}."
            )
        names.add(key.value)


def _nodes(node: Any, counted: dict[int, int]) -> int:
    """How many values a node holds once every alias is written out; a node inside itself holds too many."""
    if not isinstance(getattr(node, "value", None), list):
        return 1
    if id(node) not in counted:
        counted[id(node)] = MAX_NODES  # as long as it is open
        inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        counted[id(node)] = 1 + sum(_nodes(part, counted) for part in inner)
    return counted[id(node)]


def sweep(folder: Path) -> None:
    """Delete what writers that were killed left beside the files of a folder in which nobody else writes."""
    for part in folder.glob(".*.part*"):
        part.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the file's bytes on disk before its name is, so that a power cut leaves the old file or the new one."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
