"""`evlift evaluate`."""

from __future__ import annotations

import argparse
import json

from evlift.verbs.common import print_table

TEXT = "Judge a finished run."
EXAMPLE = "evlift evaluate runs/a --window first300"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--split",
        choices=["val", "test", "source_val"],
        default="val",
        help="test is for final tables, source_val for runs that read pictures (default: %(default)s)",
    )
    parser.add_argument("--window", choices=["full", "saccade", "first300"], help="default: the run's own")
    parser.add_argument(
        "--adapt", action="store_true", help="adapt batch statistics to the unlabelled training recordings"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from dataclasses import asdict

    from evlift.api import cost, evaluate
    from evlift.assembly import open_run

    evaluation = evaluate(options.folder, split=options.split, window=options.window, adapt=options.adapt)
    spent = cost(options.folder, split=options.split, window=options.window)
    summary = evaluation.summary()
    if options.json:
        print(json.dumps({**summary, "cost": asdict(spent)}))
        return
    interval = ""
    if "interval" in summary:
        interval = "  (95 % interval {:.4f} to {:.4f})".format(*summary["interval"])
    shown = [(evaluation.metric, f"{evaluation.score:.4f}{interval}")]
    if evaluation.metric == "mIoU":
        shown.append(("pixel accuracy", f"{evaluation.metrics.accuracy:.4f}"))
    rows = [
        ("samples", str(summary["samples"])),
        *shown,
        ("mean recall of the classes", f"{evaluation.metrics.class_mean:.4f}"),
        ("parameters", f"{spent.parameters:,}"),
        ("MACs a clip, all layers dense", f"{spent.dense_macs:,.0f}"),
        ("MACs of layers with analogue input", f"{spent.macs:,.0f}"),
        ("synaptic operations of the others", f"{spent.synops:,.0f}"),
    ]
    print_table(f"{options.folder} on {options.split}", ("", ""), rows)
    classes = open_run(options.folder).classes
    shares = [
        (name, f"{value:.3f}") for name, value in zip(classes, evaluation.metrics.per_class, strict=True)
    ]
    measured = "IoU" if evaluation.metric == "mIoU" else "recall"
    print_table("per class", ("class", measured), shares)
    steps = [(str(t + 1), f"{value:.3f}") for t, value in enumerate(evaluation.per_step)]
    print_table("per time step", ("steps seen", evaluation.metric), steps)
    rates = [(name, f"{value:.4f}") for name, value in spent.firing_rates.items()]
    if rates:
        print_table("firing rates", ("layer", "spikes per neuron and step"), rates)
