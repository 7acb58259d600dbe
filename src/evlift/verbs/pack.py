"""`evlift pack`."""

from __future__ import annotations

import argparse

from evlift.errors import ConfigError
from evlift.verbs.common import open_console, print_table

TEXT = "Make a small folder of a finished run that can be handed on, or list the packs that come with evlift."
EXAMPLE = "evlift pack runs/a packs/digits-convnet --test"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("folder", metavar="RUN", nargs="?", help="folder of a finished run")
    parser.add_argument("out", metavar="OUT", nargs="?", help="folder of the pack; its name is the pack's")
    parser.add_argument(
        "--test", action="store_true", help="judge on test too: once, when everything is chosen"
    )
    parser.add_argument("--robustness", action="store_true", help="judge on disturbed recordings too")
    parser.add_argument("--note", default="", metavar="TEXT", help="a sentence on limits for the model card")
    parser.add_argument("--list", action="store_true", help="list the packs that come with evlift")


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    if options.list:
        _list_shipped()
        return
    if options.folder is None or options.out is None:
        raise ConfigError("Expected RUN and OUT, or --list.")
    from evlift.judge.packs import CARD, pack, size_of

    console = open_console()
    made = pack(
        options.folder,
        options.out,
        test=options.test,
        robustness=options.robustness,
        note=options.note,
        say=lambda text: console.print(text, soft_wrap=True),
    )
    size = size_of(made.folder)
    console.print(
        f"{made.folder}, {size / 1e3:,.0f} kB, described in {CARD}. Next: evlift evaluate {made.folder} --data "
        "recordings:FOLDER",
        soft_wrap=True,
    )


def _list_shipped() -> None:
    from evlift.judge.packs import shipped_packs

    rows = [
        (
            name,
            record["recipe"]["data"]["name"],
            record["recipe"]["method"]["name"],
            record["recipe"]["model"]["name"],
            f"{record['figures'].get('val', {}).get(record['metric'], record['val']):.4f}",
            f"{record['bytes'] / 1e3:,.0f} kB",
        )
        for name, record in shipped_packs().items()
    ]
    if rows:
        print_table("packs that come with evlift", ("name", "data", "method", "network", "val", "size"), rows)
    else:
        open_console().print("No packs come with this installation of evlift.")
