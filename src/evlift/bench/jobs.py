"""The runs of a suite: which entries share one, what it has to do, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from evlift.bench.records import Records
from evlift.bench.suite import Entry, Suite
from evlift.bench.worker import JOB, LOG, judgements, key_of, last_said, read_result
from evlift.errors import ConfigError
from evlift.files import write_json, write_text

FAILED = "failed.txt"


@dataclass(frozen=True, eq=False)
class Job:
    """A run in its folder.

    Args:
        folder: where it trains.
        entries: of the suite that share it.
        suite: of the entries.
        test: judged on the test split, too.
        records: where its figures may be without its folder, such as those of another machine.
    """

    module: ClassVar[str] = "evlift.bench.worker"

    folder: Path
    entries: tuple[Entry, ...]
    suite: Suite
    test: bool = False
    records: Records | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """What its process is told."""
        first = self.entries[0]
        wanted: dict[str, dict[str, Any]] = {}
        for row in {entry.row.name: entry.row for entry in self.entries}.values():
            judges = [asdict(judge) for judge in self.suite.judges_of(row)]
            wanted |= {key_of(one): one for one in judgements(judges, row.adapt, test=self.test)}
        return {
            "row": first.row.name,
            "cell": first.column.name,
            "place": dict(first.place),
            "digest": first.recipe.digest,
            "recipe": first.recipe.to_dict(),
            "judgements": list(wanted.values()),
            "plugins": [str(plugin) for plugin in self.suite.plugins],
        }

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        judged = self.result().get("judged", {})
        return all(key_of(judgement) in judged for judgement in self.content["judgements"])

    def prepare(self) -> None:
        """Write what its process reads."""
        write_json(self.folder / JOB, self.content)
        (self.folder / FAILED).unlink(missing_ok=True)

    def fail(self, code: int) -> str:
        """Note that its process failed; returns what it said last."""
        said = self.now or f"its process ended with {code}"
        write_text(self.folder / FAILED, said + "\n")
        return said

    @property
    def failure(self) -> str:
        """What a failed run said last; empty otherwise."""
        marker = self.folder / FAILED
        return "" if self.done or not marker.is_file() else marker.read_text(encoding="utf-8").strip()

    @property
    def now(self) -> str:
        """What its process said last."""
        return last_said(self.folder / LOG)

    def result(self) -> dict[str, Any]:
        """What was found so far, in the run's folder and in the records: the folder's word is the later one."""
        digest = self.content["digest"]
        here = read_result(self.folder, digest)
        recorded = self.records.result(digest) if self.records else {}
        if not here or not recorded:
            return here or recorded
        return {**recorded, **here, **{part: recorded[part] | here[part] for part in ("names", "judged")}}

    def __str__(self) -> str:
        more = f" (and {len(self.entries) - 1} more)" if len(self.entries) > 1 else ""
        return f"{self.entries[0]}{more}"


def plan(suite: Suite, out: Path, *, test: bool = False, records: Records | None = None) -> list[Job]:
    """All runs of a suite, in the order of its entries."""
    grouped: dict[str, list[Entry]] = {}
    for entry in suite.entries():
        grouped.setdefault(entry.folder, []).append(entry)
    return [
        Job(out / "runs" / name, tuple(entries), suite, test, records) for name, entries in grouped.items()
    ]


@dataclass(frozen=True)
class Filter:
    """Which runs are wanted; None wants all.

    Args:
        rows: names of rows.
        cells: names of cells or columns.
        methods: registered names.
        seeds: values of train.seed.
        labels: values of data.labels_per_class; 0 for all labels.
    """

    rows: Sequence[str] | None = None
    cells: Sequence[str] | None = None
    methods: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    labels: Sequence[int] | None = None

    def __call__(self, jobs: Sequence[Job]) -> list[Job]:
        """The wanted ones.

        Raises:
            ConfigError: a row, cell or method that no job has.
        """
        entries = [entry for job in jobs for entry in job.entries]
        known = {
            "row": {entry.row.name for entry in entries},
            "cell": {name for entry in entries for name in (entry.column.cell, entry.column.name)},
            "method": {entry.recipe.method["name"] for entry in entries},
        }
        for (kind, names), wanted in zip(known.items(), (self.rows, self.cells, self.methods), strict=True):
            unknown = sorted(set(wanted or ()) - names)
            if unknown:
                raise ConfigError(f"Unknown {kind} '{unknown[0]}'. Known: {', '.join(sorted(names))}.")
        return [job for job in jobs if any(self._wants(entry) for entry in job.entries)]

    def _wants(self, entry: Entry) -> bool:
        recipe, column = entry.recipe, entry.column
        asked: list[tuple[Sequence[Any] | None, set[Any]]] = [
            (self.rows, {entry.row.name}),
            (self.cells, {column.cell, column.name}),
            (self.methods, {recipe.method["name"]}),
            (self.seeds, {recipe.train.seed}),
            (self.labels, {recipe.data.get("labels_per_class") or 0}),
        ]
        return all(wanted is None or set(wanted) & has for wanted, has in asked)
