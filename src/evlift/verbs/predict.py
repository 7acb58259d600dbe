"""`evlift predict`."""

from __future__ import annotations

import argparse
import json

from evlift.verbs.common import count, milliseconds

TEXT = "Label a recording."
EXAMPLE = "evlift predict runs/a recording.bin --duration-ms 100"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run")
    parser.add_argument("recording", help="a file in any readable format")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--duration-ms", type=milliseconds, help="window length; default: the whole recording"
    )
    length.add_argument("--events", type=count, help="events a window")
    parser.add_argument("--format", help="of the file, where it cannot be told from its content")
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from dataclasses import asdict

    from evlift.api import predict

    for found in predict(
        options.folder,
        options.recording,
        duration_us=options.duration_ms,
        n_events=options.events,
        format=options.format,
    ):
        if options.json:
            print(json.dumps(asdict(found)), flush=True)
        else:
            span = f"{found.start_us / 1e3:10.1f} to {found.stop_us / 1e3:.1f} ms"
            print(f"{span}  {found.events:8d} events  {found.label}  {found.confidence:.3f}", flush=True)
