"""What several verbs share: argument types, the console, tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, but got {text}")
    return int(text)


def milliseconds(text: str) -> int:
    """Milliseconds as µs."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.001 <= value <= 1e12:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0.001, but got {text}")
    return round(value * 1000)


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Where progress and tables go: standard error where programs read standard output, nowhere if `quiet`."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, quiet=quiet)


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
