"""`evlift tune`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.errors import ConfigError, EvliftError
from evlift.verbs.common import alone, count, failures, names, number, open_console, print_table
from evlift.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from evlift.bench.runner import Outcome
    from evlift.tuning.study import TrialJob
    from evlift.tuning.targets import Target

TEXT = "Choose hyper-parameters on val."
EXAMPLE = """evlift tune recipe.yaml --trials 30
  evlift tune digits-labels --rows KT,TMKT --cell "k = 5" --space space.yaml --trials 20 --workers 2"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "source", metavar="RECIPE|SUITE", help="a YAML file or the name of a shipped recipe or suite"
    )
    parser.add_argument(
        "--space", metavar="FILE", help="search space; default: section `tune` of the recipe or suite"
    )
    parser.add_argument(
        "--trials", type=count, default=20, metavar="N", help="of every row, earlier ones included; 20"
    )
    parser.add_argument("--rows", type=names, metavar="A,B", help="tune these rows of a suite alone")
    parser.add_argument(
        "--cell", metavar="NAME", help="tune rows in this cell; default: the first that has them"
    )
    parser.add_argument(
        "--steps", type=count, metavar="N", help="training steps of a trial; default: the recipe's"
    )
    parser.add_argument(
        "--criterion",
        choices=["own", "val"],
        default="own",
        help="own: val, and for label-free methods source_val; val: event labels choose for all",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the search")
    parser.add_argument("--workers", type=count, metavar="N", help="trials at a time; default: one a core")
    parser.add_argument(
        "--minutes", type=number(0), metavar="M", help="stop after so long; to be gone on with"
    )
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="file that registers methods"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of trials; default: runs/tune/NAME")
    parser.add_argument("--json", action="store_true", help="print the trials as JSON")


def run(options: argparse.Namespace) -> None:
    """Do what the options say.

    Raises:
        ConfigError: no search space, or one that does not fit; EvliftError: trials failed, what there is is written.
    """
    from evlift.bench.suite import find_suite
    from evlift.tuning.output import write_all
    from evlift.tuning.study import plan
    from evlift.tuning.targets import is_suite

    suite = find_suite(options.source) if is_suite(options.source) else None
    targets = [target.shortened(options.steps) for target in _targets(options, suite)]
    out = Path(options.out or Path("runs") / "tune" / Path(options.source).stem)
    console = open_console(quiet=options.json)
    with alone(out):
        jobs = plan(targets, out, options.trials, criterion=options.criterion, seed=options.seed)
        outcome = _work(console, jobs, options, out)
        written = write_all(targets, out, suite)
    _show(targets, out, written, options)
    if outcome.interrupted:
        raise KeyboardInterrupt(
            f"stopped with {len(outcome.left)} trials to go; the same command goes on from there"
        )
    if outcome.failed:
        raise EvliftError(f"{len(outcome.failed)} trials ended without a result.\n{failures(outcome)}")
    _require_best(targets, out)


def _targets(options: argparse.Namespace, suite: Path | None) -> list[Target]:
    from evlift.bench.extras import load_plugins
    from evlift.tuning.targets import of_recipe, of_suite

    if suite is not None:
        return of_suite(suite, options.space, rows=options.rows, cell=options.cell, plugins=options.plugin)
    if options.rows or options.cell:
        raise ConfigError(f"Expected a suite for --rows and --cell, but {options.source} is a recipe.")
    load_plugins([Path(plugin) for plugin in options.plugin])
    return of_recipe(options.source, options.space, plugins=options.plugin)


def _work(
    console: Console, jobs: Sequence[TrialJob], options: argparse.Namespace, out: Path
) -> Outcome[TrialJob]:
    from evlift.bench.runner import Runner, usable_cores

    workers = options.workers or usable_cores()
    console.print(f"{len(jobs)} trials to go, {workers} at a time → {out}", soft_wrap=True)
    seconds = float("inf") if options.minutes is None else 60 * options.minutes
    return Runner(workers, Log(console, len(jobs)), seconds=seconds).run(jobs)


class Log:
    """Says what became of every trial."""

    def __init__(self, console: Console, trials: int) -> None:
        self.console, self.left = console, trials

    def ended(self, job: TrialJob, said: str) -> None:
        """A trial is done, was pruned, has failed or was stopped."""
        self.left -= 1
        found = job.now if said.startswith("done") else said
        self.console.print(f"{job}: {found} [{self.left} to go]", soft_wrap=True)

    def draw(self, running: Sequence[TrialJob], waiting: int) -> None:
        """Nothing to draw: a line for every trial is enough."""


def _require_best(targets: Sequence[Target], out: Path) -> None:
    """Refuse to call a search done that found nothing for a target."""
    from evlift.tuning.output import rows_of

    for target in targets:
        rows = rows_of(target.name, out / target.folder)
        if rows and not any(row["best"] for row in rows):
            why = next((f": {row['failed']}" for row in rows if row["failed"]), "")
            raise EvliftError(f"None of {counted(len(rows), 'trial')} of {target.name} ran to its end{why}")


def _show(targets: Sequence[Target], out: Path, written: Sequence[Path], options: argparse.Namespace) -> None:
    from evlift.tuning.output import HEADER, rows_of, texts

    flat: list[dict[str, Any]] = [
        row for target in targets for row in rows_of(target.name, out / target.folder)
    ]
    if options.json:
        import json

        print(json.dumps(flat))
        return
    print_table("Trials", HEADER, texts(flat))
    open_console().print("Written: " + ", ".join(map(str, written)), soft_wrap=True)
