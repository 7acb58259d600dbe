"""`evlift export`."""

from __future__ import annotations

import argparse
import json

from evlift.verbs.common import open_console, print_table
from evlift.wording import counted

TEXT = "Write a run's network as ONNX, torch.export or NIR, checked against the run."
EXAMPLE = "evlift export runs/a --to onnx"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--to", required=True, choices=["onnx", "pt2", "nir"], help="format")
    parser.add_argument("--out", metavar="FILE", help="default: model.onnx and so on, in the run's folder")
    parser.add_argument(
        "--single-step",
        action="store_true",
        help="one time step of a spiking network, its state passed explicitly",
    )
    parser.add_argument(
        "--target",
        choices=["snntorch", "norse"],
        default="snntorch",
        help="whose importer a NIR file suits (default: %(default)s)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest difference of a logit, as a share of the largest (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from contextlib import nullcontext
    from dataclasses import asdict

    from rich.markup import escape

    from evlift.exporting import export

    console = open_console()
    waiting = (
        nullcontext()
        if options.json
        else console.status(escape(f"converting {options.folder} to {options.to}"))
    )
    with waiting:
        done = export(
            options.folder,
            options.to,
            options.out,
            single_step=options.single_step,
            target=options.target,
            tolerance=options.tolerance,
        )
    found = done.agreement
    if options.json:
        print(json.dumps({"path": str(done.path), "size": done.size, "contract": asdict(done.contract)}))
        return
    rows = [
        ("bytes", f"{done.size:,}"),
        *done.contract.rows().items(),
        ("compared on", f"{counted(found.windows, 'window')} of {found.origin}"),
        ("largest difference of a logit", f"{found.largest_difference:.3g} ({found.allowed:.3g} allowed)"),
        ("equal decisions", f"{found.equal_decisions:.2%}"),
    ]
    if found.jumps:
        said = f"{found.jumps} ({found.allowed_jumps} allowed): a spike on the other side of its threshold"
        rows.append(("windows with a larger one", said))
    print_table(str(done.path), ("", ""), rows)
