"""Recordings of any sensor in class folders, named by whoever recorded them: what is there, and what it is called."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evlift.datasets.recordings import SUFFIXES
from evlift.errors import ConfigError, DataError, FormatError
from evlift.files import files_below, load_yaml

UNKNOWN = -1
"""Target of a recording of no class that the network knows."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True)
class LabelledFile:
    """A file that may be a recording, and the class that its folder says.

    Args:
        path: of the file.
        name: path below the data folder, with "/".
        folder: class folder that it lies in.
        target: class index, or `UNKNOWN`.
    """

    path: Path
    name: str
    folder: str
    target: int


@dataclass(frozen=True)
class LabelledFolder:
    """What a folder of class folders holds.

    Args:
        root: the folder.
        files: by folder and name.
        classes: class folders with the class that each one's name means.
        unmatched: folders of no class; their files have the target `UNKNOWN`.
        without: classes without a folder, or with an empty one.
        loose: files beside the class folders, which have no label.
        passed_over: files in class folders that are no recordings by suffix and content, counted by suffix.
    """

    root: Path
    files: tuple[LabelledFile, ...]
    classes: dict[str, str]
    unmatched: tuple[str, ...]
    without: tuple[str, ...]
    loose: tuple[str, ...]
    passed_over: dict[str, int]


def labelled_folder(
    root: Path | str, classes: Sequence[str], *, class_map: Mapping[str, str | None] | None = None
) -> LabelledFolder:
    """Find the recordings below a folder of class folders, at any depth; hidden files and folders are left out.

    Args:
        root: folder with one subfolder a class.
        classes: that the network knows.
        class_map: folder name → class, or None for "of no known class"; see :func:`read_class_map`. Folders that it
            does not name are matched by :func:`match_class`.

    Raises:
        DataError: no such folder, no subfolders, or none that means a class.
        ConfigError: a class map that names a folder or a class that is not there.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(
            f"Expected the folder '{root}' with one subfolder of recordings a class, but it is not there."
        )
    visible = sorted((entry for entry in os.scandir(root) if _visible(entry.name)), key=lambda e: e.name)
    folders = [entry.name for entry in visible if Path(entry).is_dir()]
    _check_map(class_map or {}, folders, classes)
    meant = {name: _meaning(name, classes, class_map or {}) for name in folders}
    matched = {name: class_name for name, class_name in meant.items() if class_name is not None}
    if not matched:
        raise DataError(_nothing_matches(root, folders, classes))
    files: list[LabelledFile] = []
    strange: Counter[str] = Counter()
    for name in folders:
        target = classes.index(matched[name]) if name in matched else UNKNOWN
        for path in _files_below(root / name):
            if not is_recording(path):
                strange[path.suffix.lower() or "no suffix"] += 1
                continue
            files.append(LabelledFile(path, path.relative_to(root).as_posix(), name, target))
    present = {classes[file.target] for file in files if file.target != UNKNOWN}
    return LabelledFolder(
        root=root,
        files=tuple(files),
        classes=matched,
        unmatched=tuple(name for name in folders if name not in matched),
        without=tuple(name for name in classes if name not in present),
        loose=tuple(entry.name for entry in visible if not Path(entry).is_dir()),
        passed_over=dict(sorted(strange.items())),
    )


def match_class(folder: str, classes: Sequence[str]) -> str | None:
    """The class that a folder's name means: the same name; else the same but for case, spaces, "-" and "_"; else the
    same number, written in digits or as an English word up to ten. None if it means none, or more than one.

    Example:
        >>> match_class("Three", ["2", "3"]), match_class("Sports_Car", ["sports car"]), match_class("x", ["3"])
        ('3', 'sports car', None)
    """
    if folder in classes:
        return folder
    for simplify in (_plain, _number):
        wanted = simplify(folder)
        found = [name for name in classes if wanted is not None and simplify(name) == wanted]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def read_class_map(path: Path | str) -> dict[str, str | None]:
    """A class map from YAML: one line ``folder: class`` each; `null` says that the folder is of no known class.

    Raises:
        ConfigError: no such file, or anything but names.
    """
    try:
        content = load_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(
            f"Expected a class map (YAML, 'folder: class') at {path}, but got: {error}."
        ) from None
    if not isinstance(content, dict) or any(isinstance(name, dict | list) for name in content.values()):
        raise ConfigError(f"Expected {path} to hold lines 'folder: class', but got {type(content).__name__}.")
    return {str(folder): None if name is None else str(name) for folder, name in content.items()}


def is_recording(path: Path) -> bool:
    """Whether a file goes by a recording's suffix, or its content is of a format that needs none."""
    from evlift.events.readers.detect import HEAD_BYTES, detect_format

    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            detect_format(file.read(HEAD_BYTES), path)
    except (FormatError, OSError):
        return False
    return True


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " _-")


def _number(name: str) -> int | None:
    plain = _plain(name)
    if plain in NUMBERS:
        return NUMBERS.index(plain)
    return int(plain) if plain.isascii() and plain.isdecimal() else None


def _meaning(folder: str, classes: Sequence[str], class_map: Mapping[str, str | None]) -> str | None:
    return class_map[folder] if folder in class_map else match_class(folder, classes)


def _check_map(class_map: Mapping[str, str | None], folders: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse a map that names what is not there."""
    wanted = [name for name in class_map.values() if name is not None]
    for kind, names, known in (("folders", class_map, folders), ("classes", wanted, classes)):
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise ConfigError(
                    f"Expected the class map to name {kind} among {', '.join(known)}, but got '{name}'.{hint}"
                )


def _nothing_matches(root: Path, folders: Sequence[str], classes: Sequence[str]) -> str:
    """Why nothing in a folder can be judged, and what to do."""
    known = ", ".join(classes)
    if not folders:
        return f"Expected subfolders of recordings in '{root}', one a class ({known}), but got none."
    deeper = [name for name in folders if any(match_class(n, classes) for n in _folder_names(root / name))]
    hint = (
        f"'{root / deeper[0]}' has such folders: give that one."
        if deeper
        else "Rename them, or say what they mean: --class-map FILE.yaml with lines 'folder: class'."
    )
    return (
        f"Expected subfolders of '{root}' named by the classes {known}, but got {', '.join(folders)}. {hint}"
    )


def _folder_names(root: Path) -> list[str]:
    return [entry.name for entry in os.scandir(root) if _visible(entry.name) and Path(entry).is_dir()]


def _files_below(folder: Path) -> list[Path]:
    """Visible files at any depth, sorted; links to folders further down are not followed."""
    return [file for file in files_below(folder) if all(map(_visible, file.relative_to(folder).parts))]


def _visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in LITTER
