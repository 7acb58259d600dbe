"""`evlift info`."""

from __future__ import annotations

import argparse
import json
import sys

from evlift.errors import ConfigError, DataError, FormatError
from evlift.verbs.common import print_table

TEXT = "Say what is in recordings and what is wrong with them."
EXAMPLE = "evlift info a.raw --picture a.png"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="recordings in any readable format")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a file")
    parser.add_argument("--picture", metavar="PNG", help="write a picture of the events (one file only)")
    parser.add_argument("--format", help="of the files, where it cannot be told from their content")


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from evlift.events.checkup import examine
    from evlift.events.checkup_picture import picture

    if options.picture and len(options.files) != 1:
        raise ConfigError(
            f"--picture takes one file, but got {len(options.files)}. Call evlift info for each."
        )
    failed = 0
    for file in options.files:
        try:
            checkup = examine(file, format=options.format)
        except (DataError, FormatError, OSError) as error:
            if len(options.files) == 1:
                raise
            failed += 1
            print(f"warning: {error}", file=sys.stderr)
            continue
        if options.json:
            print(json.dumps(checkup.to_dict()))
        else:
            print_table(str(file), ("", ""), checkup.rows())
    if options.picture:
        picture(options.files[0], options.picture, format=options.format)
        print(f"Picture: {options.picture}", file=sys.stderr)
    if failed:
        raise DataError(
            f"{failed} of {len(options.files)} recordings could not be read; the others are above. See the warnings."
        )
