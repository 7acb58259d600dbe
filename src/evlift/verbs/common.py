"""What several verbs share: argument types, the console, tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.errors import EvliftError

if TYPE_CHECKING:
    from rich.console import Console

    from evlift.bench.runner import Outcome

MOST = 1e12
"""No number of an option is above it."""


def whole(low: int) -> Callable[[str], int]:
    """A type of arguments: whole numbers of at least `low`."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, but got {text}")
        return int(text)

    return parse


def number(low: float, high: float = MOST) -> Callable[[str], float]:
    """A type of arguments: numbers from `low` to `high`."""
    wanted = f"of at least {low:g}" if high == MOST else f"from {low:g} to {high:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a number {wanted}, but got {text}")
        return value

    return parse


count = whole(1)
share = number(0, 1)


def duration_us(text: str) -> int:
    """Milliseconds as µs."""
    return round(1000 * number(1e-3)(text))


def threshold(text: str) -> float | str:
    """A confidence from 0 to 1, or `auto`."""
    try:
        return text if text == "auto" else share(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(str(error).replace(", but", ", or auto, but", 1)) from None


def names(text: str) -> list[str]:
    """Names with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def size(text: str) -> tuple[int, int]:
    """`180x240` as (180, 240)."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(
        side.isascii() and side.isdecimal() and 0 < int(side) < 2**14 for side in sides
    ):
        raise argparse.ArgumentTypeError(f"expected HxW such as 180x240, but got {text}")
    return (int(sides[0]), int(sides[1]))


def add_fit(parser: argparse._ActionsContainer) -> None:
    """`--fit`, which means the same for every verb that shows recordings of another sensor to a network."""
    parser.add_argument(
        "--fit",
        choices=["auto", "crop-to-events", "cover", "letterbox", "stretch"],
        default="auto",
        help="how another sensor is shown; auto: the network's own as it is, others cropped to their events",
    )


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Where progress and tables go: standard error where programs read standard output, nowhere if `quiet`.

    Brackets are printed as they are, since names of files and classes may hold some.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, quiet=quiet)


def print_table(
    title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]], console: Console | None = None
) -> None:
    """Print a table of strings; no header where all its names are empty."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=any(header), header_style="bold")
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    (console or open_console()).print(table)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder, so that two commands do not write the same runs.

    Raises:
        EvliftError: another command holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EvliftError(
                f"Another command works in {out}. Wait for it, or give another --out."
            ) from None
        yield


def failures(outcome: Outcome[Any]) -> str:
    """A line for each run that failed: what it said last, and where its log lies."""
    return "\n".join(f"  {job}: {said} (whole log: {job.folder / 'log.txt'})" for job, said in outcome.failed)
