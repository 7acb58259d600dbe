"""`evlift predict`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from evlift.errors import DataError, EvliftError, FormatError
from evlift.verbs.common import (
    add_fit,
    count,
    duration_us,
    number,
    open_console,
    print_table,
    share,
    size,
    threshold,
)
from evlift.wording import counted

if TYPE_CHECKING:
    from evlift.streaming import MaskPrediction, Prediction, Predictions
    from evlift.streaming.outputs import Output
    from evlift.streaming.summary import Summary

TEXT = "Label recordings, or segment them: files, folders, pipes and files that are still being written."
EXAMPLE = "evlift predict runs/a recording.raw --duration-ms 100 --out labels.jsonl --out overlay.mp4"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "folder",
        metavar="RUN",
        help="folder of a finished run, the name of shipped weights, or an exported .onnx, .pt2 or .nir",
    )
    parser.add_argument(
        "recording", help="a file in any readable format, a folder of them, or - for standard input"
    )
    _add_windows(parser)
    parser.add_argument("--format", help="of the recordings, where it cannot be told from their content")
    parser.add_argument(
        "--sensor", type=size, metavar="HxW", help="of the recordings; default: what they state"
    )
    parser.add_argument(
        "--follow", action="store_true", help="the file is still being written: wait for more"
    )
    parser.add_argument(
        "--idle-s",
        type=number(1e-3),
        default=10.0,
        help="seconds without growth that end --follow (default: %(default)s)",
    )
    parser.add_argument(
        "--unknown-below",
        type=threshold,
        default=0.0,
        metavar="P",
        help="say `unknown` for less probable classes; auto: below the run's own threshold",
    )
    add_fit(parser)
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="PATH",
        help="write .jsonl, .csv, .parquet or an overlay .mp4, or PNG masks to a folder; may be given again",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines; the summary goes to standard error"
    )
    parser.add_argument(
        "--probabilities", action="store_true", help="those of every class, in JSON and files"
    )


def _add_windows(parser: argparse.ArgumentParser) -> None:
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--duration-ms",
        dest="duration_us",
        metavar="MS",
        type=duration_us,
        help="window length; default: the whole recording, 100 ms of an endless one, and for masks as in training",
    )
    length.add_argument("--events", type=count, help="events a window")
    parser.add_argument(
        "--overlap",
        type=share,
        default=0.0,
        help="share of a window that the next one sees again, such as 0.5",
    )
    parser.add_argument(
        "--keep-state",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="potentials of spiking neurons go on from window to window (default: what the recipe says)",
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from evlift.streaming import predict
    from evlift.streaming.outputs import open_outputs

    found = predict(
        options.folder,
        options.recording,
        duration_us=options.duration_us,
        n_events=options.events,
        overlap=options.overlap,
        format=options.format,
        sensor_size=options.sensor,
        follow=options.follow,
        idle_s=options.idle_s,
        keep_state=options.keep_state,
        unknown_below=options.unknown_below,
        fit=options.fit,
    )
    with (
        open_outputs(options.out, found, all_probabilities=options.probabilities) as outputs,
        _first_interrupt_ends(found),
        _printer(options, found) as say,
    ):
        broken = _write_all(found, outputs, say)
    _report(found.summary, options)
    if broken is not None:
        raise broken


def _write_all(
    found: Predictions, outputs: list[Output], say: Callable[[Prediction | MaskPrediction], None]
) -> EvliftError | None:
    """Write and say every prediction; the error that broke an endless source off, whose windows cannot be had again."""
    try:
        for prediction in found:
            for output in outputs:
                output.write(prediction)
            say(prediction)
    except (DataError, FormatError) as error:
        if not found.endless or not found.summary.windows:
            raise
        return error
    return None


def _report(summary: Summary, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({"summary": summary.to_dict()}), file=sys.stderr)
    else:
        print_table("summary", ("", ""), summary.rows(), open_console(stderr=True))
        for path in options.out:
            print(f"Written: {path}", file=sys.stderr)
    if summary.failed:
        names = ", ".join(name for name, _ in summary.failed[:5])
        raise DataError(
            f"{counted(len(summary.failed), 'recording')} could not be read ({names}); the others are done. See the "
            "warnings."
        )


@contextmanager
def _printer(
    options: argparse.Namespace, found: Predictions
) -> Iterator[Callable[[Prediction | MaskPrediction], None]]:
    """What shows each prediction: JSON lines, lines of a table, or a progress bar where files are written."""
    from evlift.progress import work_bar

    with _quiet_pipe():
        if options.json:
            yield lambda one: print(
                json.dumps(one.row(all_probabilities=options.probabilities), ensure_ascii=False), flush=True
            )
            return
        if not options.out:
            yield partial(_print_line, found)
            return
        with work_bar(open_console(stderr=True), "predict", "windows") as report:
            yield lambda one: report(found.summary.windows + 1, None)


def _print_line(found: Predictions, one: Prediction | MaskPrediction) -> None:
    """A line of the table; the first one, which a recording that cannot be read does not reach, under the header."""
    if not found.summary.windows:
        names = f"{'recording, ' * found.several}label"
        print(f"{'from':>12} {'to':>12} ms {'events':>10}  {'conf.':>5}  {names}")
    print((_line_of_folder if found.several else _line)(one), flush=True)


def _line(found: Prediction | MaskPrediction) -> str:
    span = f"{found.start_us / 1e3:12.1f} {found.stop_us / 1e3:12.1f}   "
    return f"{span} {found.events:10d}  {found.confidence:5.3f}  {found.said}"


def _line_of_folder(found: Prediction | MaskPrediction) -> str:
    return _line(found).removesuffix(found.said) + f"{found.recording}, {found.said}"


@contextmanager
def _quiet_pipe() -> Iterator[Any]:
    """When nobody reads what is printed any more, leave nothing that Python would try to print at its end."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextmanager
def _first_interrupt_ends(found: Predictions) -> Iterator[None]:
    """Ctrl-C and SIGTERM end an endless source, whose predictions so far are whole; a second one breaks off."""
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers nowhere else
        yield
        return
    asked = threading.Event()

    def handle(number: int, frame: object) -> None:
        if asked.is_set() or not found.endless:
            raise KeyboardInterrupt
        asked.set()
        found.stop()

    kept = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
