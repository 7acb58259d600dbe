"""What a suite file may say: its keys, kinds of values, and names that exist. Wrong ones are refused before any run."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evlift.errors import ConfigError

if TYPE_CHECKING:
    from evlift.bench.suite import Suite

SECTIONS = ("data", "input", "model", "method", "train")
KNOWN = {
    "suite": (
        "title",
        "plugins",
        "base",
        "rows",
        "cells",
        "judge",
        "quick",
        "reference",
        "targets",
        "tune",
        "figure",
        "reference_cell",
    ),
    "row": (*SECTIONS, "adapt", "ignores", "split", "trials"),
    "cell": ("vary", "rows", "set"),
    "judge": ("name", "split", "window"),
    "quick": ("share", "set", "cells", "rows", "repeats"),
    "target": ("row", "over", "by", "at_least", "errors", "cell", "judge"),
}
SPLITS = ("val", "test", "source_val")
WINDOWS = ("full", "saccade", "first300")
FIGURES = ("points", "lines")
ADAPTED = " + adapted statistics"


def check_keys(said: object, kind: str, place: str) -> None:
    """Raise ConfigError unless `said` is a mapping with the keys of its kind."""
    if not isinstance(said, Mapping):
        raise ConfigError(f"Expected a {kind} as a mapping at {place}, but got {said!r}.")
    for key in said:
        if key not in KNOWN[kind]:
            near = difflib.get_close_matches(str(key), KNOWN[kind], n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ConfigError(f"Unknown key '{key}' in {place}.{hint} Known: {', '.join(KNOWN[kind])}.")


def list_of(said: Mapping[str, Any], key: str, place: str) -> list[Any]:
    """The list under a key, empty if there is none.

    Raises:
        ConfigError: something else is there, such as one name without brackets.
    """
    found = said.get(key)
    if found is not None and not isinstance(found, list):
        raise ConfigError(f"Expected `{key}` of {place} to be a list [...], but got {found!r}.")
    return found or []


def section_changes(section: str, said: object) -> dict[str, Any]:
    """The fields of a recipe's section; a bare word is the name of an entry.

    Example:
        >>> section_changes("method", "tmkt")
        {'name': 'tmkt'}
    """
    if isinstance(said, str):
        return {"name": said}
    if said is not None and not isinstance(said, Mapping):
        raise ConfigError(f"Expected `{section}` to be fields, or the name of an entry, but got {said!r}.")
    return dict(said or {})


def check_one_of(name: str, value: object, known: Collection[Any], place: str) -> None:
    """Raise ConfigError unless `value` is None or one of the names."""
    if value is not None and value not in known:
        raise ConfigError(
            f"Expected `{name}` of {place} to be one of {', '.join(map(str, known))}, but got {value!r}."
        )


def check_whole(name: str, value: object, low: int, place: str) -> None:
    """Raise ConfigError unless `value` is a whole number of at least `low`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(
            f"Expected `{name}` of {place} to be a whole number from {low} up, but got {value!r}."
        )


def check_share(name: str, value: object, place: str) -> None:
    """Raise ConfigError unless `value` is a number in (0, 1]."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise ConfigError(f"Expected `{name}` of {place} to be above 0 and at most 1, but got {value!r}.")


def check_names(suite: Suite, content: Mapping[str, Any], columns: Sequence[str], path: str) -> None:
    """Whatever is named exists; no column or judge stands twice.

    Args:
        suite: as it was read.
        content: of its file.
        columns: names of all columns, those that the quick form leaves out too.
        path: of the file.
    """
    rows = [str(name) for name in content["rows"]]
    short = content.get("quick") or {}
    named = {"reference": [suite.reference] if suite.reference else [], "quick": short.get("rows") or ()}
    for column in suite.columns:
        named[f"cell '{column.cell}'"] = list(column.rows or ())
    for target in suite.targets:
        _check_target(target, suite, columns, path)
        named[f"target {dict(target)}"] = [target[key] for key in ("row", "over") if key in target]
    for place, names in named.items():
        unknown = [name for name in names if str(name).removesuffix(ADAPTED) not in rows]
        if unknown:
            raise ConfigError(
                f"Expected the rows of {path} in {place}, but got '{unknown[0]}'. Known: {', '.join(rows)}."
            )
    check_one_of("reference_cell", suite.reference_cell, columns, path)
    for cell in short.get("cells") or ():
        check_one_of("cells", str(cell), [str(name) for name in content["cells"]], f"quick of {path}")
    for name in (*rows, *map(str, content["cells"])):
        if "," in name:
            raise ConfigError(f"Expected names of rows and cells without commas in {path}, but got '{name}'.")
    for kind, given in (("judge", suite.judges), ("column", suite.columns)):
        found = [item.name for item in given]
        if len(set(found)) < len(found):
            raise ConfigError(
                f"Expected every {kind} of {path} to have a name of its own, but got {', '.join(found)}."
            )


def _check_target(target: Mapping[str, Any], suite: Suite, columns: Sequence[str], path: str) -> None:
    place = f"targets of {path}"
    check_keys(target, "target", place)
    if "row" not in target or not {"at_least", "over"} & set(target):
        raise ConfigError(f"Expected a `row`, and `at_least` or `over`, in {place}, but got {dict(target)}.")
    check_one_of("cell", target.get("cell"), columns, place)
    check_one_of("judge", target.get("judge"), [judge.name for judge in suite.judges], place)
    for name in ("at_least", "by", "errors"):
        if not isinstance(target.get(name, 0), int | float):
            raise ConfigError(f"Expected `{name}` of {place} to be a number, but got {target[name]!r}.")
