"""`evlift evaluate`."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from evlift.errors import ConfigError
from evlift.verbs.common import add_fit, count, duration_us, print_table, size, threshold

if TYPE_CHECKING:
    from evlift.engine.evaluate import Evaluation, SegmentationEvaluation

TEXT = "Judge a finished run: on its own data, on recordings of any sensor, or on disturbed ones."
EXAMPLE = """evlift evaluate runs/a --window first300
  evlift evaluate runs/a --data recordings:FOLDER --unknown-below auto --out judged
  evlift evaluate runs/a --robustness --out judged"""
OF_RECORDINGS = {  # flag → where it is kept, and its default
    "--class-map": ("class_map", None),
    "--fit": ("fit", "auto"),
    "--duration-ms": ("duration_us", None),
    "--max-windows": ("max_windows", None),
    "--sensor": ("sensor", None),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "folder", metavar="RUN", help="folder of a finished run, or the name of shipped weights"
    )
    parser.add_argument(
        "--split",
        choices=["val", "test", "source_val"],
        help="of the run's own data; test is for final tables, source_val for runs that read pictures where no frames "
        "are aligned (default: val)",
    )
    parser.add_argument(
        "--window",
        choices=["full", "saccade", "first300"],
        help="default: the run's own; with --data windows as long as the recordings of training",
    )
    parser.add_argument(
        "--adapt", action="store_true", help="adapt batch statistics to the unlabelled training recordings"
    )
    parser.add_argument(
        "--unknown-below",
        type=threshold,
        metavar="P",
        help="call an answer unknown if its confidence is below P; auto: the run's own threshold",
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="first fit the confidence and store it in the run's record"
    )
    parser.add_argument("--robustness", action="store_true", help="judge on disturbed recordings instead")
    parser.add_argument(
        "--out", metavar="DIR", help="write report.json, pictures and tables into this folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    group = parser.add_argument_group("recordings that the run does not know")
    group.add_argument(
        "--data", metavar="recordings:FOLDER", help="a folder of class folders with recordings in any format"
    )
    group.add_argument(
        "--class-map", metavar="FILE", help="YAML with lines 'folder: class', null for no class"
    )
    add_fit(group)
    group.add_argument(
        "--duration-ms",
        dest="duration_us",
        type=duration_us,
        help="cut recordings into windows of this length",
    )
    group.add_argument("--max-windows", type=count, metavar="N", help="of one recording (default: 100)")
    group.add_argument("--sensor", type=size, metavar="HxW", help="of files that do not state it")


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    _refuse_contradictions(options)
    if options.calibrate:
        from evlift.judge.calibrate import calibrate_run

        calibrate_run(options.folder)
    if options.data is not None:
        from evlift.verbs.judged import judge_recordings

        judge_recordings(options, options.data.partition(":")[2])
    elif options.robustness:
        from evlift.verbs.judged import judge_disturbed

        judge_disturbed(options)
    else:
        _judge_split(options)


def _refuse_contradictions(options: argparse.Namespace) -> None:
    given = [flag for flag, (name, default) in OF_RECORDINGS.items() if getattr(options, name) != default]
    if options.data is None:
        if given and not (options.robustness and given == ["--fit"]):
            raise ConfigError(f"Expected --data recordings:FOLDER with {given[0]}, but got none.")
    else:
        kind, _, folder = options.data.partition(":")
        if kind != "recordings" or not folder:
            raise ConfigError(f"Expected --data recordings:FOLDER, but got '{options.data}'.")
        for name in ("adapt", "robustness", "split"):
            if getattr(options, name):
                raise ConfigError(
                    f"Expected --data or --{name}, but got both: {name} is of the run's own data."
                )
    if options.robustness and (options.adapt or options.unknown_below is not None):
        raise ConfigError("Expected --robustness alone, but got --adapt or --unknown-below beside it.")


def _judge_split(options: argparse.Namespace) -> None:
    """Judge on a split of the run's own data."""
    from dataclasses import asdict

    from evlift.api import cost, evaluate
    from evlift.assembly import open_run
    from evlift.verbs import judged

    split = options.split or "val"
    trained = open_run(options.folder)
    threshold = judged.threshold_of(options.unknown_below, trained)
    evaluation = evaluate(options.folder, split=split, window=options.window, adapt=options.adapt)
    spent = cost(options.folder, split=split, window=options.window)
    summary: dict[str, Any] = {**evaluation.summary(), "cost": asdict(spent)}
    confidence = judged.confidence_of(evaluation, trained)
    if confidence is not None:
        summary["confidence"] = confidence.summary()
        if threshold is not None:
            summary["rejecting"] = confidence.rejecting(threshold)
    elif threshold is not None:
        raise ConfigError(
            f"Expected --unknown-below for a run that classifies, but {options.folder} segments."
        )
    if options.out:
        judged.write_report(options.out, summary, confidence, trained)
    if options.json:
        print(json.dumps(summary))
        return
    print_evaluation(f"{options.folder} on {split}", evaluation, spent, trained.classes)
    if confidence is not None:
        judged.print_confidence(confidence, trained, threshold, judged_split=split)


def print_evaluation(
    title: str, evaluation: Evaluation | SegmentationEvaluation, spent: Any, classes: tuple[str, ...]
) -> None:
    """The tables of a split."""
    summary = evaluation.summary()
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
    print_table(title, ("", ""), rows)
    print_classes(evaluation, classes)
    rates = [(name, f"{value:.4f}") for name, value in spent.firing_rates.items()]
    if rates:
        print_table("firing rates", ("layer", "spikes per neuron and step"), rates)


def print_classes(evaluation: Evaluation | SegmentationEvaluation, classes: tuple[str, ...]) -> None:
    """The tables per class and per time step."""
    shares = [
        (name, "none judged" if math.isnan(value) else f"{value:.3f}")
        for name, value in zip(classes, evaluation.metrics.per_class, strict=True)
    ]
    measured = "IoU" if evaluation.metric == "mIoU" else "recall"
    print_table("per class", ("class", measured), shares)
    steps = [(str(t + 1), f"{value:.3f}") for t, value in enumerate(evaluation.per_step)]
    print_table("per time step", ("steps seen", evaluation.metric), steps)
