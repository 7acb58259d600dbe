"""`evlift bench`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.errors import ConfigError, EvliftError
from evlift.verbs.common import alone, count, failures, names, number, open_console, print_table
from evlift.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from evlift.bench.jobs import Job
    from evlift.bench.runner import Outcome
    from evlift.bench.suite import Suite
    from evlift.config import Recipe

TEXT = "Compare methods in a table."
EXAMPLE = """evlift bench digits --quick
  evlift bench digits --out runs/table --workers 2 --minutes 600
  evlift bench mine.yaml --rows TMKT,KT --seeds 0,1
  evlift bench digits --table-only
  evlift bench --list"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "suite", nargs="?", metavar="SUITE", help="a YAML file or the name of a shipped suite"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the suite's quick form: minutes instead of hours"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of runs and tables; default: runs/bench/SUITE")
    parser.add_argument(
        "--budget",
        metavar="KIND=N",
        help="every run's budget, for all rows alike: steps=N, samples=N or seconds=N (steps fitted to this machine)",
    )
    _add_extras(parser)
    parser.add_argument(
        "--records",
        metavar="DIR",
        help="keep figures of finished runs in DIR/SUITE.jsonl, small enough to commit; what is there is done",
    )
    parser.add_argument("--workers", type=count, metavar="N", help="runs at a time; default: one a core")
    parser.add_argument(
        "--minutes",
        type=number(0),
        metavar="M",
        help="stop after so long; the same command goes on",
    )
    _add_filters(parser)
    parser.add_argument(
        "--test",
        action="store_true",
        help="judge on the test split, too, from saved weights: for final tables",
    )
    parser.add_argument(
        "--table-only", action="store_true", help="write the tables of what is there, run nothing"
    )
    parser.add_argument("--list", action="store_true", help="list the shipped suites, or the runs of SUITE")


def _add_extras(parser: argparse.ArgumentParser) -> None:
    """Options for methods of a user's own."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a file that registers methods or networks",
    )
    parser.add_argument(
        "--add-row",
        action="append",
        default=[],
        metavar="NAME=METHOD",
        help="a further row of every cell: the name of a method, or a row as in a suite's YAML",
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    """Options that choose a part of the runs."""
    parser.add_argument("--rows", type=names, metavar="A,B", help="run these rows alone")
    parser.add_argument("--cells", type=names, metavar="A,B", help="run these cells alone")
    parser.add_argument("--methods", type=names, metavar="A,B", help="run rows of these methods alone")
    parser.add_argument("--seeds", type=_numbers, metavar="N,N", help="run these values of train.seed alone")
    parser.add_argument(
        "--labels-per-class",
        type=_numbers,
        metavar="N,N",
        help="run these label counts alone; 0 for all labels",
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say.

    Raises:
        ConfigError: no suite, or one that does not hold together; EvliftError: runs failed, the tables are written.
    """
    from evlift.bench.budget import Budget
    from evlift.bench.jobs import Filter, plan
    from evlift.bench.records import Records, read_sessions
    from evlift.bench.suite import load_suite

    console = open_console()
    if options.suite is None:
        if not options.list:
            raise ConfigError(f"Expected a SUITE, such as:\n  {EXAMPLE}")
        return _list_suites(console)
    suite = load_suite(
        options.suite, quick=options.quick, plugins=options.plugin, more_rows=_added_rows(options.add_row)
    )
    name = suite.name + ("-quick" if options.quick else "")
    out = Path(options.out or Path("runs") / "bench" / name)
    if options.budget:
        idle = _refuse_to_measure if options.list or options.table_only else None
        suite = replace(suite, budget=replace(Budget.parse(options.budget), folder=out, time_step=idle))
    records = Records(options.records, name) if options.records else None
    jobs = plan(suite, out, test=options.test, records=records)
    wanted = Filter(options.rows, options.cells, options.methods, options.seeds, options.labels_per_class)(
        jobs
    )
    if not wanted:
        raise ConfigError(
            f"No run of {suite.name} is left by the filters. See evlift bench {options.suite} --list."
        )
    if options.list:
        return _list_runs(console, wanted)
    outcome = None if options.table_only else _work(console, suite, (jobs, wanted), out, options)
    if records:
        records.add([job.result() for job in jobs], read_sessions(out))
    _write(console, suite, jobs, out, list(records.sessions.values()) if records else read_sessions(out))
    if outcome and outcome.interrupted:
        raise KeyboardInterrupt(
            f"stopped with {counted(len(outcome.left), 'run')} to go; the same command goes on from there"
        )
    if outcome and outcome.failed:
        raise EvliftError(
            f"{counted(len(outcome.failed), 'run')} failed; the same command tries again.\n{failures(outcome)}"
        )
    return None


def _refuse_to_measure(recipe: Recipe) -> float:
    """In place of the measurement of a step where nothing is to be run."""
    raise ConfigError(
        "Expected a budget of seconds whose steps are measured already, since --list and --table-only run nothing, but "
        f"got none for {recipe.method['name']} yet. Run the same command without them first."
    )


def _work(
    console: Console,
    suite: Suite,
    jobs: tuple[Sequence[Job], Sequence[Job]],
    out: Path,
    options: argparse.Namespace,
) -> Outcome[Job]:
    """Run what is not done of the wanted jobs."""
    from evlift.bench.board import Board
    from evlift.bench.records import note_session
    from evlift.bench.runner import Runner, usable_cores

    every, wanted = jobs
    todo = [job for job in wanted if not job.done]
    workers = options.workers or usable_cores()
    console.print(
        f"{suite.title}: {len(todo)} of {len(wanted)} runs to go, {workers} at a time → {out}", soft_wrap=True
    )
    seconds = float("inf") if options.minutes is None else 60 * options.minutes
    started, clock = time.gmtime(), time.monotonic()
    with alone(out), Board(console, suite, every) as board:
        outcome = Runner(workers, board, seconds=seconds, keep=_keep_in_records).run(todo)
        if todo:
            note_session(out, started, time.monotonic() - clock, workers=workers, runs=len(outcome.done))
    if outcome.left and not outcome.interrupted:
        console.print(
            f"Time is up with {counted(len(outcome.left), 'run')} to go; the same command goes on from there."
        )
    return outcome


def _keep_in_records(job: Job) -> None:
    """A finished run's figures are kept at once: the machine may not live to see the last one."""
    if job.records:
        job.records.add([job.result()])


def _write(
    console: Console, suite: Suite, jobs: Sequence[Job], out: Path, sessions: Sequence[dict[str, Any]]
) -> None:
    from evlift.bench.output import write_all
    from evlift.bench.results import Results
    from evlift.bench.tables import tables

    results = Results.read(suite, jobs, sessions)
    written = write_all(results, out)
    for found in tables(results):
        print_table(found.title, found.header, found.rows, console)
    console.print("Written: " + ", ".join(str(path) for path in written), soft_wrap=True)


def _list_suites(console: Console) -> None:
    from evlift.bench.suite import load_suite, shipped_suites

    for path in shipped_suites():
        suite = load_suite(path)
        runs = sum(len(column.places) * len(column.rows or suite.rows) for column in suite.columns)
        console.print(
            f"{suite.name:17} {suite.title} ({counted(len(suite.rows), 'row')}, {counted(runs, 'entry', 'entries')})",
            soft_wrap=True,
        )


def _list_runs(console: Console, jobs: Sequence[Job]) -> None:
    for job in jobs:
        state = "done" if job.done else "failed" if job.failure else "open"
        console.print(f"{state:7} {job.folder.name}  " + "; ".join(map(str, job.entries)), soft_wrap=True)


def _added_rows(said: Sequence[str]) -> dict[str, Any]:
    """Rows by name from NAME=METHOD or NAME=YAML."""
    from evlift.files import load_yaml

    rows: dict[str, Any] = {}
    for text in said:
        name, equals, content = text.partition("=")
        try:
            row = load_yaml(content)
        except ConfigError as error:
            raise ConfigError(f"Expected YAML behind the name in --add-row {text}, but: {error}") from None
        if not equals or not name.strip() or not isinstance(row, str | dict):
            raise ConfigError(
                f"Expected --add-row NAME=METHOD, or NAME={{method: {{name: METHOD, ...}}}}, but got '{text}'."
            )
        rows[name.strip()] = row
    return rows


def _numbers(text: str) -> list[int]:
    try:
        return [int(name) for name in names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers with commas between, but got {text}"
        ) from None
