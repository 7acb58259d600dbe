"""What `evlift evaluate` prints and writes of recordings, disturbances and confidence."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.files import write_json, write_text
from evlift.verbs.common import open_console, print_table

if TYPE_CHECKING:
    from evlift.assembly import Trained
    from evlift.engine.calibration import Confidence
    from evlift.engine.evaluate import Evaluation, SegmentationEvaluation
    from evlift.judge.recordings import RecordingsEvaluation
    from evlift.judge.robustness import Robustness


def threshold_of(given: float | str | None, trained: Trained) -> float | None:
    """The threshold that was asked for, if one was."""
    return None if given is None else trained.threshold(given)


def confidence_of(evaluation: Evaluation | SegmentationEvaluation, trained: Trained) -> Confidence | None:
    """Of classes; None for masks."""
    from evlift.engine.calibration import Confidence
    from evlift.engine.evaluate import Evaluation

    if not isinstance(evaluation, Evaluation):
        return None
    return Confidence.of(evaluation.logits.mean(axis=1), evaluation.target, trained.temperature)


def judge_recordings(options: argparse.Namespace, folder: str) -> None:
    """`--data recordings:FOLDER`."""
    from evlift.assembly import open_run
    from evlift.judge.recordings import evaluate_recordings
    from evlift.judge.windows import MAX_WINDOWS
    from evlift.progress import work_bar

    trained = open_run(options.folder)
    threshold = threshold_of(options.unknown_below, trained)
    console = open_console(quiet=options.json)
    with work_bar(console, folder, "recordings") as report:
        found = evaluate_recordings(
            options.folder,
            Path(folder).expanduser(),  # a shell expands no ~ behind a colon
            class_map=options.class_map,
            fit=options.fit,
            window=options.window,
            duration_us=options.duration_us,
            max_windows=options.max_windows or MAX_WINDOWS,
            sensor_size=options.sensor,
            report=report,
        )
    summary = found.summary(threshold)
    if options.out:
        write_report(options.out, summary, found.confidence, trained)
        write_csv(Path(options.out, "recordings.csv"), summary["recordings"])
    if options.json:
        print(json.dumps(summary))
        return
    _print_recordings(f"{options.folder} on {folder}", found, trained)
    print_confidence(found.confidence, trained, threshold)
    for remark in found.remarks:
        console.print(f"- {remark}", soft_wrap=True)


def _print_recordings(title: str, found: RecordingsEvaluation, trained: Trained) -> None:
    from evlift.verbs.evaluate import print_classes

    metrics = found.evaluation.metrics
    low, high = metrics.interval
    lost = found.count("unreadable") + found.count("no events")
    rows = [
        ("recordings of known classes", str(metrics.samples)),
        ("accuracy", f"{metrics.accuracy:.4f}  (95 % interval {low:.4f} to {high:.4f})"),
        ("mean recall of the classes", f"{metrics.class_mean:.4f}"),
    ]
    if lost:
        rows.append(("files that could not be judged", str(lost)))
        rows.append(("accuracy if those count as wrong", f"{found.accuracy_of_all:.4f}"))
    if found.data.unmatched:
        rows.append(("recordings of no known class", str(len(found.confidence.unknown))))
    print_table(title, ("", ""), [*rows, *found.settings.items()])
    print_classes(found.evaluation, trained.classes)
    _print_confusions(metrics.confusion.tolist(), trained.classes)


def _print_confusions(confusion: Sequence[Sequence[int]], classes: tuple[str, ...], most: int = 5) -> None:
    pairs = [
        (number, classes[true], classes[said])
        for true, row in enumerate(confusion)
        for said, number in enumerate(row)
        if number and true != said
    ]
    rows = [(true, said, str(number)) for number, true, said in sorted(pairs, reverse=True)[:most]]
    if rows:
        print_table("most frequent mistakes", ("is", "was called", "times"), rows)


def print_confidence(
    confidence: Confidence, trained: Trained, threshold: float | None, *, judged_split: str = ""
) -> None:
    """The table of confidence, and of what a threshold makes of it."""
    calibration, summary = trained.calibration, confidence.summary()
    temperature = "1 (not fitted; --calibrate fits it)"
    if calibration is not None:
        temperature = f"{calibration.temperature:.3f}, fitted on {calibration.fitted_on}"
        if calibration.fitted_on == judged_split:
            temperature += ", the split that is judged here: test tells more"
    rows = [
        ("temperature", temperature),
        ("ECE without it", shown(summary["ece_before"])),
        ("ECE with it", shown(summary["ece_after"])),
        ("mean confidence", shown(summary["mean_confidence"])),
    ]
    if len(confidence.unknown):
        rows.append(("known above unknown (AUROC)", shown(summary["separation"])))
    if threshold is not None:
        rows += _of_threshold(confidence, threshold)
    elif calibration is not None:
        kept = f"{calibration.unknown_below:.3f} keeps {calibration.keeps:.0%} of {calibration.fitted_on}"
        rows.append(("threshold to call unknown", f"{kept} (--unknown-below auto)"))
    print_table("confidence", ("", ""), rows)


def _of_threshold(confidence: Confidence, threshold: float) -> list[tuple[str, str]]:
    found = confidence.rejecting(threshold)
    rows = [
        ("unknown below", f"{threshold:.3f}"),
        ("kept", shown(found["kept"])),
        ("accuracy of the kept", shown(found["accuracy_kept"])),
        ("called unknown", shown(found["called_unknown"])),
        ("of the wrong answers called unknown", shown(found["wrong_called_unknown"])),
    ]
    if found["open_set"]:
        said = f"{shown(found['open_set_called_unknown'])} of {found['open_set']}"
        rows.append(("of no known class, called unknown", said))
    return rows


def shown(value: float | int | None) -> str:
    """Four decimals; a dash for nothing."""
    return "–" if value is None else f"{value:.4f}"


def judge_disturbed(options: argparse.Namespace) -> None:
    """`--robustness`."""
    from evlift.judge.figures import robustness_figure, save_figure
    from evlift.judge.robustness import robustness
    from evlift.progress import work_bar

    console = open_console(quiet=options.json)
    with work_bar(console, "disturbed", "recordings") as report:
        found = robustness(
            options.folder,
            split=options.split or "val",
            window=options.window,
            fit="stretch" if options.fit == "auto" else options.fit,
            report=report,
        )
    summary = found.summary()
    if options.out:
        write_json(Path(options.out, "robustness.json"), summary)
        write_csv(Path(options.out, "robustness.csv"), summary["robustness"])
        save_figure(robustness_figure(found), Path(options.out, "robustness.png"))
    if options.json:
        print(json.dumps(summary))
        return
    _print_robustness(f"{options.folder} on disturbed recordings of {found.split}", found)


def _print_robustness(title: str, found: Robustness) -> None:
    rows = []
    for name, strength, unit, result in found.rows():
        low, high = result.interval
        strong = "" if strength is None else f"{strength:g} {unit}"
        rows.append((name, strong, f"{result.accuracy:.4f}", f"{low:.3f} to {high:.3f}"))
    print_table(title, ("disturbance", "strength", "accuracy", "95 % interval"), rows)
    rates = [
        (f"{low:,.0f} to {high:,.0f}", str(result.samples), f"{result.accuracy:.4f}")
        for low, high, result in found.by_rate
    ]
    print_table("by event rate, undisturbed", ("events a second", "recordings", "accuracy"), rates)


def write_report(
    folder: str, summary: Mapping[str, Any], confidence: Confidence | None, trained: Trained
) -> None:
    """report.json, and for classes reliability.png."""
    write_json(Path(folder, "report.json"), summary)
    if confidence is not None:
        from evlift.judge.figures import reliability_figure, save_figure

        save_figure(reliability_figure(confidence, trained.temperature), Path(folder, "reliability.png"))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of one set of keys as CSV; sizes as HxW, intervals as two numbers with a space between."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(name, value) for name, value in row.items()})
    write_text(path, text.getvalue())


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return ("x" if name == "sensor_size" else " ").join(str(part) for part in value)
    return value
