"""What is tuned: a recipe, or the rows of a suite, each with what of the search space means something to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evlift.bench.suite import Column, Entry, Suite, find_suite, load_suite, shipped_suites
from evlift.config import Recipe, find_recipe, parse_recipe, read_yaml
from evlift.errors import ConfigError
from evlift.tuning.space import Dimension, check_space, parse_space, value_of


@dataclass(frozen=True)
class Target:
    """A recipe whose fields are tried.

    Args:
        name: of the recipe or of the suite's row.
        recipe: what is changed.
        space: fields that mean something to it.
        left_out: fields that do not, with the reason.
        plugins: files that register what it names.
    """

    name: str
    recipe: Recipe
    space: tuple[Dimension, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[Path, ...] = ()

    @property
    def folder(self) -> str:
        """Its name as a name of a folder."""
        return folder_of(self.name)

    def shortened(self, steps: int | None) -> Target:
        """With trainings of so many steps."""
        if steps is None:
            return self
        return replace(self, recipe=replace(self.recipe, train=replace(self.recipe.train, steps=steps)))


def folder_of(name: str) -> str:
    """The folder of a row's trials: its name, where that can be one, else what is left of it and a hash of it."""
    plain = re.sub(r"[^\w.=-]+", "-", name).strip("-.")
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".strip("-")


def is_suite(source: str | Path) -> bool:
    """Whether a name or file is of a suite, not of a recipe."""
    path = Path(source)
    if path.is_file():
        return "rows" in read_yaml(path)
    return str(source) in {file.stem for file in shipped_suites()}


def of_recipe(
    source: str | Path, space: str | Path | None, *, plugins: Sequence[str | Path] = ()
) -> list[Target]:
    """The one target of a recipe: a file or a shipped name.

    Args:
        source: of the recipe, which may have the search space under `tune`.
        space: a file with the search space, before that of the recipe.
        plugins: Python files that register what it names, loaded already.

    Raises:
        ConfigError: no search space, or a field that the recipe does not have.
    """
    path = find_recipe(source)
    content = read_yaml(path)
    dimensions = _space(content.pop("tune", None), space, path)
    recipe = parse_recipe(content)
    for dimension in dimensions:
        reason = _no_field(recipe, dimension)
        if reason:
            raise ConfigError(
                f"Expected fields of {path} in the search space, but got {dimension.field}: {reason}."
            )
    check_space(recipe, dimensions, path.stem)
    return [
        Target(path.stem, recipe, dimensions, plugins=tuple(Path(plugin).resolve() for plugin in plugins))
    ]


def of_suite(
    source: str | Path,
    space: str | Path | None,
    *,
    rows: Sequence[str] | None = None,
    cell: str | None = None,
    plugins: Sequence[str | Path] = (),
) -> list[Target]:
    """A target for every row of a suite, at the first repetition of the first column that has it.

    Args:
        source: of the suite, which may have the search space under `tune`.
        space: a file with the search space, before that of the suite.
        rows: names of those that are tuned; all if not given.
        cell: name of the column or cell, in place of the first that has the row.
        plugins: further Python files that register methods, networks or data.

    Raises:
        ConfigError: no search space, an unknown row or cell, or a row to which no field of the space means anything.
    """
    path = find_suite(source)
    dimensions = _space(read_yaml(path).get("tune"), space, path)
    suite = load_suite(path, plugins=plugins)
    entries = _first_entries(suite, rows, cell)
    return [_of_entry(entry, dimensions, suite) for entry in entries]


def _first_entries(suite: Suite, rows: Sequence[str] | None, cell: str | None) -> list[Entry]:
    known = [row.name for row in suite.rows]
    wanted = list(rows or known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"Unknown row '{unknown[0]}'. Known: {', '.join(known)}.")
    columns = [column for column in suite.columns if cell in (None, column.name, column.cell)]
    if not columns:
        raise ConfigError(
            f"Unknown cell '{cell}'. Known: {', '.join(column.name for column in suite.columns)}."
        )
    kept = replace(suite, columns=tuple(columns))
    first: dict[str, Entry] = {}
    for entry in sorted(kept.entries(), key=lambda entry: columns.index(entry.column)):
        first.setdefault(entry.row.name, entry)
    missing = [name for name in wanted if name not in first]
    if rows and missing:
        raise ConfigError(f"Expected rows that are run in the cell '{cell}', but got '{missing[0]}'.")
    return [first[name] for name in wanted if name in first]


def _of_entry(entry: Entry, dimensions: Sequence[Dimension], suite: Suite) -> Target:
    reasons = {d.field: _not_tuned(entry, d) for d in dimensions}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    kept = tuple(d for d in dimensions if d.field not in left_out)
    if not kept:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ConfigError(
            f"Expected a field in the search space that means something to the row '{entry.row.name}', but got "
            f"none ({why}). Name the other rows with --rows."
        )
    check_space(entry.recipe, kept, f"the row '{entry.row.name}'")
    return Target(entry.row.name, entry.recipe, kept, left_out, suite.plugins)


def _not_tuned(entry: Entry, dimension: Dimension) -> str:
    """Why a field is not tuned for a row; empty if it is."""
    if dimension.field in entry.row.ignores:
        return "the row ignores it"
    if _sets(entry.column, dimension.field):
        return f"the cell '{entry.column.cell}' sets it"
    return _no_field(entry.recipe, dimension)


def _sets(column: Column, name: str) -> bool:
    section, _, last = name.partition(".")
    content: Any = column.changes.get(section, {})
    return last in content or any(name == varied for place in column.places for varied, _ in place)


def _no_field(recipe: Recipe, dimension: Dimension) -> str:
    """Why a recipe cannot have a field changed; empty if it can."""
    try:
        value_of(recipe, dimension.field)
    except KeyError:
        section = dimension.field.partition(".")[0]
        entry = recipe.to_dict()[section].get("name", section)
        return f"'{entry}' has no such field"
    return ""


def _space(said: object, file: str | Path | None, path: Path) -> tuple[Dimension, ...]:
    if file is not None:
        content = read_yaml(Path(file)) if Path(file).is_file() else None
        if content is None:
            raise ConfigError(f"Expected a YAML file with the search space at {file}, but there is none.")
        return parse_space(content.get("tune", content), str(file))
    if said is None:
        raise ConfigError(
            f"Expected a search space: a section `tune:` in {path}, or --space FILE, such as "
            "`train.lr: [0.001, 0.1, log]`."
        )
    return parse_space(said, f"tune of {path}")
