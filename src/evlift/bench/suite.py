"""A suite: one YAML file that says which rows are compared in which cells, and how they are judged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evlift.bench.budget import Budget
from evlift.bench.checks import (
    FIGURES,
    SECTIONS,
    SPLITS,
    WINDOWS,
    check_keys,
    check_names,
    check_one_of,
    check_share,
    check_whole,
    list_of,
    section_changes,
)
from evlift.bench.extras import add_rows, load_plugins
from evlift.config import Recipe, parse_recipe, read_yaml
from evlift.errors import ConfigError

REPEATS = (
    "data.fold",
    "data.label_seed",
    "train.seed",
)  # varied to repeat a cell; all else makes another column
Place = tuple[tuple[str, Any], ...]
Overrides = dict[str, Any]


@dataclass(frozen=True)
class Judge:
    """One way to judge a run.

    Args:
        name: heading of its table.
        split: where; "val" is read again as "test" where the test split is asked for.
        window: full, saccade or first300; None for the run's own.
    """

    name: str
    split: str = "val"
    window: str | None = None


@dataclass(frozen=True)
class Row:
    """A line of the tables: what of the base recipe it changes.

    Args:
        name: first cell of the line.
        changes: of the base recipe.
        adapt: judged once more, as a line of its own, with batch statistics adapted to the unlabelled recordings.
        ignores: fields that change nothing for it, such as data.unlabelled where no recording is learned from; what a
            cell says of them is dropped, so that its runs are shared among cells.
        split: it is judged on, in place of the judges'; source_val for networks that read pictures where no frames are
            aligned with windows.
        trials: settings that were tried to choose its hyper-parameters, as by `evlift tune`; None if not counted.
    """

    name: str
    changes: Overrides
    adapt: bool = False
    ignores: tuple[str, ...] = ()
    split: str | None = None
    trials: int | None = None


@dataclass(frozen=True)
class Column:
    """A column of the tables: a cell of the suite at one value of what it varies, with its repetitions.

    Args:
        name: heading.
        cell: the cell of the suite.
        changes: of the recipe.
        places: the repetitions, one a fold and seed.
        rows: those that are run in it; None for all.
    """

    name: str
    cell: str
    changes: Overrides
    places: tuple[Place, ...]
    rows: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Entry:
    """One row in one column at one place: a run, which other entries may share."""

    row: Row
    column: Column
    place: Place
    recipe: Recipe

    @property
    def folder(self) -> str:
        """Name of the run's folder: the same for all entries of the same recipe."""
        return f"{self.recipe.method['name']}-{self.recipe.digest}"

    def __str__(self) -> str:
        return " · ".join(filter(None, (self.row.name, self.column.name, place_name(self.place))))


@dataclass(frozen=True)
class Suite:
    """What a suite file says; see docs/bench.md.

    Example:
        >>> suite = load_suite("digits", quick=True)  # doctest: +SKIP
        >>> [row.name for row in suite.rows]  # doctest: +SKIP
    """

    name: str
    title: str
    base: Overrides
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    judges: tuple[Judge, ...]
    reference: str | None = None
    targets: tuple[dict[str, Any], ...] = ()
    plugins: tuple[Path, ...] = ()
    quick: bool = False
    share: float = 1.0
    budget: Budget | None = None
    figure: str = "points"
    reference_cell: str | None = None

    @property
    def lines(self) -> list[tuple[Row, bool]]:
        """Lines of a table: (row, whether with adapted statistics)."""
        return [(row, adapted) for row in self.rows for adapted in (False, True) if row.adapt or not adapted]

    def judges_of(self, row: Row) -> list[Judge]:
        """The suite's judges, on the row's split if it has its own."""
        return [replace(judge, split=row.split or judge.split) for judge in self.judges]

    def entries(self) -> list[Entry]:
        """All runs, one repetition of everything first, so that a table whose time runs out is broad."""
        found = [
            entry for column in self.columns for row in self.rows for entry in self._entries(row, column)
        ]
        return sorted(found, key=lambda entry: entry.column.places.index(entry.place))

    def _entries(self, row: Row, column: Column) -> Iterator[Entry]:
        """One recipe a place; parsed once, since only folds and seeds differ."""
        if column.rows is not None and row.name not in column.rows:
            return
        changes = without(column.changes, row.ignores)
        try:
            recipe = parse_recipe(merge(merge(self.base, row.changes), changes))
            steps = max(1, round(recipe.train.steps * self.share))
            recipe = replace(recipe, train=replace(recipe.train, steps=steps))
            recipe = self.budget(recipe) if self.budget else recipe
            for place in column.places:
                yield Entry(row, column, place, _at(recipe, place, row.ignores))
        except ConfigError as error:
            raise ConfigError(f"{self.name}, row '{row.name}', cell '{column.name}': {error}") from None


def load_suite(
    source: str | Path,
    *,
    quick: bool = False,
    plugins: Sequence[str | Path] = (),
    more_rows: Mapping[str, Any] | None = None,
) -> Suite:
    """Read a suite: a YAML file, or the name of a shipped one.

    Args:
        source: path or name.
        quick: in its quick form.
        plugins: further Python files that register methods, networks or data.
        more_rows: further rows by name, which every cell runs: what a suite's `rows` says, or the name of a method.

    Raises:
        ConfigError: no such suite, an unknown key, or names that do not fit together.
    """
    path = find_suite(source)
    content = read_yaml(path)
    load_plugins([Path(plugin) for plugin in plugins])
    add_rows(content, more_rows or {}, str(path))
    check_keys(content, "suite", str(path))
    for needed in ("base", "rows", "cells"):
        if not isinstance(content.get(needed), dict) or not content[needed]:
            raise ConfigError(
                f"Expected a section `{needed}:` with entries in {path}, but got {content.get(needed)!r}."
            )
    short = content.get("quick") or {}
    check_keys(short, "quick", f"quick of {path}")
    check_share("share", short.get("share", 1), f"quick of {path}")
    base = merge({"input": {}, "train": {"threads": 1}}, content["base"])
    rows = [_row(name, said or {}) for name, said in content["rows"].items()]
    columns = [column for name, said in content["cells"].items() for column in _columns(name, said or {})]
    every = [column.name for column in columns]
    if quick:
        columns = _quick_columns(columns, short)
        kept = list_of(short, "rows", "quick") or content["rows"]
        rows = [row for row in rows if row.name in map(str, kept)]
    suite = Suite(
        name=path.stem,
        title=str(content.get("title", path.stem)),
        base=base,
        rows=tuple(rows),
        columns=tuple(columns),
        judges=tuple(map(_judge, list_of(content, "judge", str(path)) or [{"name": "as trained"}])),
        reference=None if content.get("reference") is None else str(content["reference"]),
        targets=tuple(_target(said) for said in list_of(content, "targets", str(path))),
        plugins=tuple(
            [(path.parent / plugin).resolve() for plugin in list_of(content, "plugins", str(path))]
            + [Path(plugin).resolve() for plugin in plugins]
        ),
        quick=quick,
        share=short.get("share", 1) if quick else 1.0,
        figure=content.get("figure", "points"),
        reference_cell=content.get("reference_cell"),
    )
    check_one_of("figure", suite.figure, FIGURES, str(path))
    check_names(suite, content, every, str(path))
    load_plugins(suite.plugins)
    return suite


def shipped_suites() -> list[Path]:
    """The suites that come with the package."""
    return sorted((Path(__file__).parents[1] / "benches").glob("*.yaml"))


def find_suite(source: str | Path) -> Path:
    """The file of a suite: a path, or the name of a shipped one."""
    path = Path(source)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in shipped_suites()}
    if str(source) in shipped:
        return shipped[str(source)]
    raise ConfigError(
        f"No suite at {path}. Give a YAML file, or the name of a shipped suite: {', '.join(shipped)}."
    )


def place_name(place: Place, between: str = ", ") -> str:
    """A place in words: "fold 0, seed 1"."""
    return between.join(f"{_last(field)} {value}" for field, value in place)


def merge(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> Overrides:
    """A recipe with fields replaced; a section that names another entry than before replaces it as a whole."""
    merged = {section: section_changes(section, content) for section, content in recipe.items()}
    for section, said in changes.items():
        change = section_changes(section, said)
        kept = merged.get(section, {})
        renamed = "name" in change and change["name"] != kept.get("name", change["name"])
        merged[section] = change if renamed else {**kept, **change}
    return merged


def without(changes: Overrides, ignored: Sequence[str]) -> Overrides:
    """The changes less the ignored fields."""
    return {
        section: {name: value for name, value in content.items() if f"{section}.{name}" not in ignored}
        for section, content in merge({}, changes).items()
    }


def _at(recipe: Recipe, place: Place, ignored: Sequence[str]) -> Recipe:
    """The recipe at a fold and seed."""
    for field, value in place:
        section, name = field.split(".")
        if field in ignored:
            continue
        if section == "train":
            recipe = replace(recipe, train=replace(recipe.train, **{name: value}))
        elif name in recipe.data:
            recipe = replace(recipe, data={**recipe.data, name: value})
        else:
            raise ConfigError(f"Expected a field of data '{recipe.data['name']}' to vary, but got '{field}'.")
    return recipe


def _row(name: str, said: Mapping[str, Any]) -> Row:
    place = f"row '{name}'"
    check_keys(said, "row", place)
    changes = {section: said[section] for section in SECTIONS if section in said}
    ignores = list_of(said, "ignores", place)
    check_one_of("split", said.get("split"), SPLITS, place)
    check_one_of("adapt", said.get("adapt"), (True, False), place)
    if said.get("adapt") and "data.unlabelled" in ignores:
        raise ConfigError(
            f"Row '{name}' adapts its statistics to the unlabelled recordings and cannot ignore data.unlabelled. Take "
            "it out of `ignores`."
        )
    if "trials" in said:
        check_whole("trials", said["trials"], 0, place)
    return Row(
        str(name),
        changes,
        bool(said.get("adapt")),
        tuple(ignores),
        said.get("split"),
        said.get("trials"),
    )


def _judge(said: Mapping[str, Any]) -> Judge:
    place = f"judge {said!r}"
    check_keys(said, "judge", place)
    if "name" not in said:
        raise ConfigError(f"Expected a `name` in {place}.")
    check_one_of("split", said.get("split"), SPLITS, place)
    check_one_of("window", said.get("window"), WINDOWS, place)
    return Judge(**{**said, "name": str(said["name"])})


def _target(said: Any) -> Any:
    """A target with the names in it as words; what is none is refused with the other names."""
    names = {"row", "over", "cell", "judge"}
    return {key: str(v) if key in names else v for key, v in said.items()} if isinstance(said, dict) else said


def _columns(cell: str, said: Mapping[str, Any]) -> Iterator[Column]:
    """The cell's columns: the cross product of all that it varies, its repetitions left to the places."""
    place = f"cell '{cell}'"
    check_keys(said, "cell", place)
    varied = _varied(said.get("vary") or {}, place)
    repeats = [pair for pair in varied if set(pair[0]) <= set(REPEATS)]
    for fields, values in repeats:
        for value in values:
            check_whole(" + ".join(fields), value, 0, place)
    others = [pair for pair in varied if pair not in repeats]
    places, rows = tuple(_crossed(repeats)), list_of(said, "rows", place)
    for chosen in _crossed(others):
        changes = merge({}, section_changes("set", said.get("set")))
        for field, value in chosen:
            section, name = field.split(".", 1)
            changes = merge(changes, {section: {name: value}})
        heading = ": ".join(filter(None, (str(cell), place_name(chosen, " and "))))
        yield Column(heading, str(cell), changes, places, tuple(map(str, rows)) if rows else None)


def _varied(said: Any, place: str) -> list[tuple[tuple[str, ...], list[Any]]]:
    """(fields, values) of all that a cell varies."""
    varied = [
        (tuple(str(key).replace(" ", "").split("+")), values)
        for key, values in (said.items() if isinstance(said, Mapping) else [("vary", said)])
    ]
    for fields, values in varied:
        unlike = isinstance(values, list) and all(value not in values[:i] for i, value in enumerate(values))
        if not unlike or not values or any("." not in field for field in fields):
            raise ConfigError(
                f"Expected `vary` of {place} to be section.field: [values], each once, but got "
                f"{' + '.join(fields)}: {values!r}."
            )
    return varied


def _crossed(varied: Sequence[tuple[tuple[str, ...], list[Any]]]) -> Iterator[Place]:
    """Every combination; fields joined by + move together."""
    steps = [[tuple((field, value) for field in fields) for value in values] for fields, values in varied]
    for combination in itertools.product(*steps):
        yield tuple(itertools.chain.from_iterable(combination))


def _quick_columns(columns: list[Column], short: Mapping[str, Any]) -> list[Column]:
    cells, repeats = list_of(short, "cells", "quick"), short.get("repeats", 1)
    check_whole("repeats", repeats, 1, "quick")
    changes = section_changes("set", short.get("set"))
    return [
        replace(column, changes=merge(column.changes, changes), places=column.places[:repeats])
        for column in columns
        if not cells or column.cell in map(str, cells)
    ]


def _last(field: str) -> str:
    return field.rsplit(".", 1)[-1].replace("_", " ")
