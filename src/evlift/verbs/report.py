"""`evlift report`."""

from __future__ import annotations

import argparse

from evlift.verbs.common import open_console

TEXT = "Write one HTML page about a run, or one that compares several."
EXAMPLE = "evlift report runs/a runs/b --out report.html"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("folders", nargs="+", metavar="RUN", help="folders of finished runs, at most six")
    parser.add_argument("--out", default="report.html", help="the page (default: %(default)s)")
    parser.add_argument(
        "--split",
        choices=["val", "test"],
        default="val",
        help="test is for final tables; runs that read pictures are judged on source_val (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from evlift.progress import work_bar
    from evlift.report import write_report

    console = open_console()
    with work_bar(console, "report", "runs") as tell:
        page = write_report(options.folders, options.out, split=options.split, tell=tell)
    console.print(
        f"{page}: {page.stat().st_size / 1e3:.0f} kB, one file, nothing from outside", soft_wrap=True
    )
