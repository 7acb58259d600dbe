"""Files that are whole or not there: everything is written beside its place and moved into it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def sweep(folder: Path) -> None:
    """Delete what writers that were killed left beside the files of a folder in which nobody else writes."""
    for part in folder.glob(".*.part*"):
        part.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the file's bytes on disk before its name is, so that a power cut leaves the old file or the new one."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
