"""Write the full tables of the documentation from the records of runs.

    python benchmarks/tables.py [--records results] [--out docs/tables] [SUITE ...]

SUITE.md has what `evlift bench SUITE --table-only --records results` prints, with the tables of test where it was read,
and without rows that have no run at all, which are named below the tables instead.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from evlift.bench.budget import Budget
from evlift.bench.jobs import plan
from evlift.bench.records import Records
from evlift.bench.results import Results
from evlift.bench.suite import load_suite
from evlift.bench.tables import NOT_PLANNED, NOT_RUN, Table, summary, tables

BUDGETS = {"objects20": "steps=100"}  # of the records, where it is not the suite's own


def page(name: str, records: Path) -> str:
    """The tables of a suite and how they came about, as Markdown."""
    suite = load_suite(name)
    command = f"evlift bench {name} --records results"
    if name in BUDGETS:
        suite = replace(suite, budget=Budget.parse(BUDGETS[name]))
        command += f" --budget {BUDGETS[name]}"
    kept = Records(records, name)
    jobs = plan(suite, Path("runs") / "bench" / name, records=kept)
    results = Results.read(suite, jobs, list(kept.sessions.values()))
    read = any(key.startswith("test/") for run in results.found.values() for key in run["judged"])
    judged = [replace(job, test=True) for job in jobs] if read else jobs
    shown = [trimmed(table) for table in tables(replace(results, jobs=judged))]
    said = [line for line in summary(results) if not line.startswith("Not run")]
    active = {entry.row.name for job in jobs if job.done for entry in job.entries}
    idle = [row.name for row in suite.rows if row.name not in active]
    said += [f"Not run at all: {', '.join(idle)}."] if idle else []
    parts = [
        f"# {suite.title}",
        f"`{command}` goes on from these runs; `python benchmarks/tables.py` wrote the page.",
    ]
    parts += [table.markdown() for table in shown if table.rows]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in said)]) + "\n"


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
    parser.add_argument("--out", type=Path, default=Path("docs/tables"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.suites or sorted(path.stem for path in options.records.glob("*.jsonl")):
        (options.out / f"{name}.md").write_text(page(name, options.records))
        print(options.out / f"{name}.md")


if __name__ == "__main__":
    main()
