"""The command line: `evlift VERB ...`. Every verb is a thin shell over a function of the library."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.bench import command as bench_verb
from evlift.errors import ConfigError, EvliftError
from evlift.verbs import simulate as simulate_verb

if TYPE_CHECKING:
    from rich.console import Console

    from evlift.datasets.task import TransferTask

EPILOG = """examples:
  evlift demo                                       the main job on embedded data, about two minutes
  evlift info recording.raw --picture out.png       what is in a file, and what is wrong with it
  evlift train tmkt-digits --method.r_m 0.3         train a recipe, any field overridden
  evlift evaluate runs/NAME                         accuracy, per class, per time step
  evlift predict runs/NAME recording.bin            labels of a recording
  evlift bench digits --quick                       a table of methods
  evlift simulate pictures/ recordings/             what an event camera would have recorded

Exit codes: 0 done, 1 failed, 2 wrong arguments. Documentation: docs/ in the source, or evlift VERB --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    if given[:1] == ["train"] and given[1:2] and "." in given[1] and given[1].startswith("--"):
        return _complain(
            "Expected the recipe before its fields: evlift train RECIPE --section.field VALUE.", 2
        )
    options, rest = parser.parse_known_args(given)
    if rest and options.verb != "train":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    warnings.showwarning = _show_warning
    try:
        options.run(options, rest)
    except ConfigError as error:
        return _complain(error, 2)
    except BrokenPipeError:
        return 1
    except (EvliftError, OSError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt as error:
        return _complain(str(error) or "interrupted", 130)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="evlift",
        description="Teach event cameras what labelled images already know.",
        epilog=EPILOG,
        formatter_class=form,
    )
    parser.add_argument("--version", action=_Version, help="print the version and leave")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (add_options, run, text, example) in VERBS.items():
        verb = verbs.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=form,
            add_help=name != "train",  # whose help depends on the recipe
        )
        add_options(verb)
        verb.set_defaults(run=run)
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default="demo-report", help="folder for the page and the runs (default: %(default)s)"
    )
    parser.add_argument("--steps", type=_count, default=None, help="optimiser steps of each network")
    parser.add_argument(
        "--embedded", action="store_true", help="use the embedded digits even where EVLIFT_DATA has N-MNIST"
    )


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="recordings in any readable format")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a file")
    parser.add_argument("--picture", metavar="PNG", help="write a picture of the events (one file only)")
    parser.add_argument("--format", help="of the files, where it cannot be told from their content")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="a YAML file or the name of a shipped recipe")
    parser.add_argument("--out", help="folder of the run; an unfinished run in it is resumed")
    parser.add_argument(
        "-h", "--help", action="store_true", help="show this help; with a recipe, every field of it"
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
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


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run")
    parser.add_argument("recording", help="a file in any readable format")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--duration-ms", type=_milliseconds, help="window length; default: the whole recording"
    )
    length.add_argument("--events", type=_count, help="events a window")
    parser.add_argument("--format", help="of the file, where it cannot be told from its content")
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, but got {text}")
    return int(text)


def _milliseconds(text: str) -> int:
    """Milliseconds as µs."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.001 <= value <= 1e12:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0.001, but got {text}")
    return round(value * 1000)


def _demo(options: argparse.Namespace, rest: list[str]) -> None:
    from evlift.demo import run_demo

    page = run_demo(Path(options.out), steps=options.steps, embedded=options.embedded, console=_console())
    print(f"\nReport: {page}")


def _info(options: argparse.Namespace, rest: list[str]) -> None:
    from evlift.events.checkup import examine
    from evlift.events.checkup_picture import picture

    if options.picture and len(options.files) != 1:
        raise ConfigError(
            f"--picture takes one file, but got {len(options.files)}. Call evlift info for each."
        )
    for file in options.files:
        checkup = examine(file, format=options.format)
        if options.json:
            print(json.dumps(checkup.to_dict()))
        else:
            _print_table(str(file), ("", ""), checkup.rows())
    if options.picture:
        picture(options.files[0], options.picture, format=options.format)
        print(f"Picture: {options.picture}", file=sys.stderr)


def _train(options: argparse.Namespace, rest: list[str]) -> None:
    from evlift.config import entry_names, find_recipe, parse_recipe, read_yaml, recipe_parser

    if options.help or options.recipe is None:
        if options.recipe is None:
            print(TRAIN_HELP)
            if not options.help:
                raise ConfigError("Expected a RECIPE.")
            return
        recipe_parser(entry_names(read_yaml(find_recipe(options.recipe)), rest)).print_help()
        return
    from evlift.api import default_folder, reads_pictures, train
    from evlift.progress import TrainingBar

    recipe = parse_recipe(options.recipe, rest)
    folder = Path(options.out) if options.out else default_folder(recipe)
    console = _console()
    console.print(
        f"[bold]{recipe.method['name']}[/] on {recipe.data['name']} with {recipe.model['name']}, "
        f"{recipe.train.steps} steps of {recipe.train.batch_size} → {folder}",
        soft_wrap=True,
    )
    with TrainingBar(console, recipe.method["name"]) as report:
        run = train(
            recipe, folder, report=report, found=lambda task: console.print(_found(task), soft_wrap=True)
        )
    record = run.read_record()
    split = " --split source_val" if reads_pictures(recipe) else ""
    console.print(
        f"{record['judged_on']} {record['metric']} [bold]{record['val']:.3f}[/] at step {record['kept_step']}, "
        f"{record['seconds']:.0f} s. Next: evlift evaluate {folder}{split}",
        soft_wrap=True,
    )


def _found(task: TransferTask) -> str:
    """What a task holds, in two lines."""
    parts = task.describe()
    kind = "classes of pixels" if task.segments else "classes"
    height, width = task.sensor_size
    return (
        f"source: {parts['source']} pictures ({parts['source_val']} held out), {len(task.classes)} {kind}: "
        f"{', '.join(task.classes[:12])}{', …' if len(task.classes) > 12 else ''}\n"
        f"events: {parts['train']} with label, {parts['unlabelled']} without, {parts['val']} val, "
        f"{parts['test']} test, {width}x{height} pixels"
    )


TRAIN_HELP = """usage: evlift train RECIPE [--out DIR] [--section.field VALUE ...]

Train a recipe: a YAML file, or the name of a shipped one. Any field may be overridden. An unfinished run in the same
folder is resumed, with the result of an unbroken one.

  --out DIR             folder of the run; default runs/METHOD-MODEL-DIGEST
  --section.field VALUE for instance --method.r_m 0.3 --train.steps 500 --data.fold 2
  RECIPE --help         every field of that recipe with its meaning

examples:
  evlift train tmkt-digits
  evlift train recipes/tmkt-digits.yaml --method.r_m 0.3 --train.steps 500
  evlift train tmkt-digits --help"""


def _evaluate(options: argparse.Namespace, rest: list[str]) -> None:
    from dataclasses import asdict

    from evlift.api import cost, evaluate, open_run

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
    _print_table(f"{options.folder} on {options.split}", ("", ""), rows)
    classes = open_run(options.folder).classes
    shares = [
        (name, f"{value:.3f}") for name, value in zip(classes, evaluation.metrics.per_class, strict=True)
    ]
    measured = "IoU" if evaluation.metric == "mIoU" else "recall"
    _print_table("per class", ("class", measured), shares)
    steps = [(str(t + 1), f"{value:.3f}") for t, value in enumerate(evaluation.per_step)]
    _print_table("per time step", ("steps seen", evaluation.metric), steps)
    rates = [(name, f"{value:.4f}") for name, value in spent.firing_rates.items()]
    if rates:
        _print_table("firing rates", ("layer", "spikes per neuron and step"), rates)


def _predict(options: argparse.Namespace, rest: list[str]) -> None:
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


def _simulate(options: argparse.Namespace, rest: list[str]) -> None:
    from evlift.progress import work_bar

    with work_bar(
        _console(), "simulate", "pictures" if Path(options.source).is_dir() else "frames"
    ) as report:
        made = simulate_verb.run(options, report)
    if made.fit:
        _print_table("fit", ("", ""), made.fit.rows())
    print(f"{made.recordings} recordings, {made.events:,} events → {options.out}")


def _bench(options: argparse.Namespace, rest: list[str]) -> None:
    bench_verb.run(options, _console())


VERBS: dict[str, tuple[Callable[..., None], Callable[..., None], str, str]] = {
    "demo": (
        _add_demo,
        _demo,
        "Train four small spiking networks on embedded data and show the result.",
        "evlift demo",
    ),
    "info": (
        _add_info,
        _info,
        "Say what is in recordings and what is wrong with them.",
        "evlift info a.raw --picture a.png",
    ),
    "train": (
        _add_train,
        _train,
        "Train a recipe.",
        "evlift train tmkt-digits --train.steps 500 --out runs/a",
    ),
    "evaluate": (
        _add_evaluate,
        _evaluate,
        "Judge a finished run.",
        "evlift evaluate runs/a --window first300",
    ),
    "predict": (
        _add_predict,
        _predict,
        "Label a recording.",
        "evlift predict runs/a recording.bin --duration-ms 100",
    ),
    "simulate": (
        simulate_verb.add_options,
        _simulate,
        "Turn pictures or a video into recordings of an event camera.",
        "evlift simulate pictures/ recordings/ --motion pan --sensor 180x240",
    ),
    "bench": (bench_verb.add_options, _bench, "Compare methods in a table.", bench_verb.EXAMPLES),
}


class _Version(argparse.Action):
    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object, **more: object) -> None:
        from importlib.metadata import version

        print(f"evlift {version('evlift')}")
        parser.exit()


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=False, highlight=False)


def _print_table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=any(header), header_style="bold")
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _show_warning(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _complain(error: object, code: int) -> int:
    print(f"evlift: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
