"""Write the full tables of the documentation from the records of runs.

    python benchmarks/tables.py [--records results] [--docs docs] [SUITE ...]

SUITE.md has what `evlift bench SUITE --table-only --records results` prints, with the tables of test where it was read,
and without rows that have no run at all, which are named below the tables instead. Other pages may show one of them,
between the lines `<!-- table SUITE: START OF ITS TITLE -->` and `<!-- end -->`: it is kept up to date, too, as is what
stands between `<!-- file NAME.md -->` and `<!-- end -->`, which is NAME.md of the folder of records.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evlift.bench.budget import Budget
from evlift.bench.jobs import plan
from evlift.bench.records import Records
from evlift.bench.results import Results
from evlift.bench.suite import load_suite
from evlift.bench.tables import NOT_PLANNED, NOT_RUN, Table, summary, tables

BUDGETS = {"objects20": "steps=100"}  # of the records, where it is not the suite's own


SHOWN = re.compile(r"(<!-- table (\S+): ([^\n]+?) -->\n)((?:(?!<!--).)*)(<!-- end -->)", re.DOTALL)

FILED = re.compile(r"(<!-- file (\S+) -->\n)((?:(?!<!--).)*)(<!-- end -->)", re.DOTALL)


def pages_of(name: str, records: Path) -> tuple[str, dict[str, str]]:
    """All tables of a suite and how they came about as a page of Markdown, and each table alone by its title."""
    suite = load_suite(name)
    command = f"evlift bench {name} --records results"
    if name in BUDGETS:
        suite = replace(suite, budget=Budget.parse(BUDGETS[name]))
        command += f" --budget {BUDGETS[name]}"
    kept = Records(records, name)
    jobs = plan(suite, records / "no folder of runs", records=kept)
    results = Results.read(suite, jobs, list(kept.sessions.values()))
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
        texts[path] = FILED.sub(lambda match: filed(match, records), page)
    return texts


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
