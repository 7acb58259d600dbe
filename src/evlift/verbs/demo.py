"""`evlift demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from evlift.verbs.common import count, open_console

TEXT = "Train four small spiking networks on embedded data and show the result."
EXAMPLE = "evlift demo"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "--out", default="demo-report", help="folder for the page and the runs (default: %(default)s)"
    )
    parser.add_argument("--steps", type=count, default=None, help="optimiser steps of each network")
    parser.add_argument(
        "--embedded", action="store_true", help="use the embedded digits even where EVLIFT_DATA has N-MNIST"
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from evlift.demo import run_demo

    page = run_demo(Path(options.out), steps=options.steps, embedded=options.embedded, console=open_console())
    print(f"\nReport: {page}")
