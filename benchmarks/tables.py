"""Write the full tables of the documentation from the records of runs.

    python benchmarks/tables.py [--records results] [--docs docs] [SUITE ...]

SUITE.md has what `evlift bench SUITE --table-only --records results` prints, with the tables of test where it was read,
and without rows that have no run at all, which are named below the tables instead. Other pages may show one of them,
between the lines `<!-- table SUITE: START OF ITS TITLE -->` and `<!-- end -->`: it is kept up to date, too, as is what
stands between `<!-- file NAME.md -->` and `<!-- end -->`, which is NAME.md of the folder of records, and between
`<!-- lead METHOD: SUITE, SUITE -->` and `<!-- end -->`: the method's rows minus the best other row with as few labels.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from evlift.bench.budget import Budget
from evlift.bench.checks import ADAPTED
from evlift.bench.jobs import plan
from evlift.bench.records import Records
from evlift.bench.results import Difference, Results
from evlift.bench.suite import Judge, Row, load_suite
from evlift.bench.tables import NOT_PLANNED, NOT_RUN, Table, difference_text, summary, tables

BUDGETS = {"objects20": "steps=100"}  # of the records, where it is not the suite's own

SHOWN = re.compile(r"(<!-- table (\S+): ([^\n]+?) -->\n)((?:(?!<!--).)*)(<!-- end -->)", re.DOTALL)

FILED = re.compile(r"(<!-- file (\S+) -->\n)((?:(?!<!--).)*)(<!-- end -->)", re.DOTALL)

LEAD = re.compile(r"(<!-- lead (\S+): ([^\n]+?) -->\n)((?:(?!<!--).)*)(<!-- end -->)", re.DOTALL)

READ_LABELS = ("events-only", "fine-tune", "kt", "tmkt")


def pages_of(name: str, records: Path) -> tuple[str, dict[str, str]]:
    """All tables of a suite and how they came about as a page of Markdown, and each table alone by its title."""
    results = results_of(name, records)
    suite, jobs = results.suite, results.jobs
    command = f"evlift bench {name} --records results"
    if name in BUDGETS:
        command += f" --budget {BUDGETS[name]}"
    read = any(key.startswith("test/") for run in results.found.values() for key in run["judged"])
    asked = read and all(judge.split == "val" for judge in suite.judges)
    judged = [replace(job, test=True) for job in jobs] if asked else jobs
    shown = [trimmed(table) for table in tables(replace(results, jobs=judged))]
    said = [line for line in summary(results) if not line.startswith("Not run")]
    active = {entry.row.name for job in jobs if job.folder.name in results.found for entry in job.entries}
    idle = [row.name for row in suite.rows if row.name not in active]
    said += [f"Not run at all: {', '.join(idle)}."] if idle else []
    parts = [
        f"# {suite.title}",
        f"`{command}` goes on from these runs; `python benchmarks/tables.py` wrote the page.",
    ]
    parts += [table.markdown() for table in shown if table.rows]
    alone = {table.title: table.markdown().partition("\n\n")[2] for table in shown}
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in said)]) + "\n", alone


def results_of(name: str, records: Path) -> Results:
    """What the records hold of a suite."""
    suite = load_suite(name)
    if name in BUDGETS:
        suite = replace(suite, budget=Budget.parse(BUDGETS[name]))
    kept = Records(records, name)
    jobs = plan(suite, records / "no folder of runs", records=kept)
    return Results.read(suite, jobs, list(kept.sessions.values()))


def trimmed(table: Table) -> Table:
    """The table without rows that say nothing."""
    silent = {NOT_RUN, NOT_PLANNED, "0"}
    return replace(table, rows=tuple(row for row in table.rows if not silent.issuperset(row[1:])))


def main() -> None:
    """Write every page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", help="default: all that have records")
    parser.add_argument("--records", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    for path, text in written(options.docs, options.records, options.suites).items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
            print(path)


def written(docs: Path, records: Path, suites: Sequence[str] = ()) -> dict[Path, str]:
    """What each page that shows records should say."""
    names = suites or sorted(path.stem for path in records.glob("*.jsonl"))
    pages = {name: pages_of(name, records) for name in names}
    alone = {name: shown for name, (_, shown) in pages.items()}
    texts = {docs / "tables" / f"{name}.md": text for name, (text, _) in pages.items()}
    for path in sorted(docs.glob("*.md")):
        page = SHOWN.sub(lambda match: updated(match, alone), path.read_text("utf-8"))
        page = FILED.sub(lambda match: filed(match, records), page)
        texts[path] = LEAD.sub(lambda match: led(match, records), page)
    return texts


def led(match: re.Match[str], records: Path) -> str:
    """What stands between two marks, with the leads of now."""
    before, method, names, _, after = match.groups()
    header = ("suite", "column", "judged on", method, "best other row", f"{method} minus it", "")
    found = (results_of(name.strip(), records) for name in names.split(","))
    rows = tuple(line for results in found for line in leads(results, method))
    table = Table("", header, rows).markdown().partition("\n\n")[2]
    return f"{before}\n{table}\n\n{after}"


def leads(results: Results, method: str) -> Iterator[tuple[str, ...]]:
    """A line for every column, window and kind of statistics in which the method has runs.

    Its rival is the row of another method with the highest mean over the same places, among those that read events, and
    no event label where the method reads none; rows that lack one of the places are passed over. Adapted lines are
    compared with adapted ones, and with rows that have none.
    """
    methods = {entry.row.name: entry.recipe.method for job in results.jobs for entry in job.entries}
    rows = [row for row in results.suite.rows if methods[row.name]["name"] != "image-model"]
    for own in (row for row in rows if methods[row.name]["name"] == method and "(" not in row.name):
        labels = methods[own.name].get("labels", 0) > 0
        rivals = [
            row
            for row in rows
            if methods[row.name]["name"] != method
            and (labels or methods[row.name]["name"] not in READ_LABELS)
        ]
        for column in results.suite.columns:
            for judge in results.suite.judges:
                for adapted in (False, True) if own.adapt else (False,):
                    yield from _lead(results, own, rivals, (column.name, judge, adapted))


def _lead(
    results: Results, own: Row, rivals: Sequence[Row], where: tuple[str, Judge, bool]
) -> Iterator[tuple[str, ...]]:
    column, judge, adapted = where
    ours = results.value(own.name + (ADAPTED if adapted else ""), column, judge.name)
    found = []
    for rival in rivals:
        name = rival.name + (ADAPTED if adapted and rival.adapt else "")
        gain = results.difference(ours, results.value(name, column, judge.name))
        if ours.runs and len(gain.gains) == len(ours.runs):
            found.append((gain.mean, name, gain))
    if found:
        _, name, gain = min(found, key=lambda one: one[:2])
        kind = judge.name + (", adapted" if adapted else "")
        scores = (f"{ours.mean:.3f}", f"{name} {ours.mean - gain.mean:.3f}")
        yield results.suite.name, column, kind, *scores, difference_text(gain), _verdict(gain)


def _verdict(gain: Difference) -> str:
    """At or above within two standard errors, or behind by more: over runs, and over recordings where there are any."""
    errors = [error for error in (gain.over_runs, gain.over_recordings) if not math.isnan(error)]
    if gain.mean >= 0:
        return "at or above"
    return "behind" if all(gain.mean < -2 * error for error in errors) else "within two"


def filed(match: re.Match[str], records: Path) -> str:
    """What stands between two marks, with the file of now."""
    before, name, _, after = match.groups()
    if not (records / name).is_file():
        raise SystemExit(f"Expected a file {name} in {records}, which a page shows, but there is none.")
    return f"{before}\n{(records / name).read_text('utf-8').strip()}\n\n{after}"


def updated(match: re.Match[str], found: dict[str, dict[str, str]]) -> str:
    """What stands between two marks, with its table of now; as it is for a suite that is not written."""
    before, name, start, _, after = match.groups()
    if name not in found:
        return match.group()
    fitting = [text for title, text in found[name].items() if title.startswith(start)]
    if len(fitting) != 1:
        raise SystemExit(f"Expected one table of {name} to begin with '{start}', among {list(found[name])}.")
    return f"{before}\n{fitting[0]}\n\n{after}"


if __name__ == "__main__":
    main()
