"""`evlift train`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from evlift.errors import ConfigError
from evlift.verbs.common import open_console
from evlift.wording import counted

if TYPE_CHECKING:
    from evlift.config import Recipe
    from evlift.datasets.task import TransferTask
    from evlift.engine.distributed import Crew

TEXT = "Train a recipe."
EXAMPLE = "evlift train tmkt-digits --train.steps 500 --out runs/a"
TAKES_FIELDS = True


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("recipe", nargs="?", help="a YAML file or the name of a shipped recipe")
    parser.add_argument("--out", help="folder of the run; an unfinished run in it is resumed")
    parser.add_argument(
        "-h", "--help", action="store_true", help="show this help; with a recipe, every field of it"
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from evlift.config import entry_names, find_recipe, parse_recipe, read_yaml, recipe_parser

    if options.help or options.recipe is None:
        if options.recipe is None:
            print(TRAIN_HELP)
            if not options.help:
                raise ConfigError("Expected a RECIPE.")
            return
        recipe_parser(entry_names(read_yaml(find_recipe(options.recipe)), options.fields)).print_help()
        return
    from evlift.api import processes

    crew = processes()
    with crew.one_voice():
        _train(crew, crew.together(parse_recipe, options.recipe, options.fields), options)


def _train(crew: Crew, recipe: Recipe, options: argparse.Namespace) -> None:
    """Train; the process that leads says how it goes."""
    from evlift.api import default_folder, train
    from evlift.assembly import reads_pictures
    from evlift.progress import TrainingBar

    if not crew.leads:
        warnings.simplefilter("ignore")
    folder = Path(options.out) if options.out else default_folder(recipe)
    console = open_console(quiet=not crew.leads)
    shared = f" on {crew.size} processes" if crew.size > 1 else ""
    console.print(
        f"{recipe.method['name']} on {recipe.data['name']} with {recipe.model['name']}, "
        f"{counted(recipe.train.steps, 'step')} of {recipe.train.batch_size}{shared} → {folder}",
        soft_wrap=True,
    )
    with TrainingBar(console, recipe.method["name"], alone=crew.size == 1) as report:
        run = train(
            recipe, folder, report=report, found=lambda task: console.print(_found(task), soft_wrap=True)
        )
    if not crew.leads:
        return
    record = run.read_record()
    split = " --split source_val" if reads_pictures(recipe) else ""
    console.print(
        f"{record['judged_on']} {record['metric']} {record['val']:.3f} at step {record['kept_step']}, "
        f"{record['seconds']:.0f} s. Next: evlift evaluate {folder}{split}",
        soft_wrap=True,
    )


def _found(task: TransferTask) -> str:
    """What a task holds, in two lines."""
    parts = task.describe()
    kind = "classes of pixels" if task.segments else "classes"
    height, width = task.sensor_size
    return (
        f"source: {counted(parts['source'], 'picture')} ({parts['source_val']} held out), {len(task.classes)} {kind}: "
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
  evlift train tmkt-digits --help
  torchrun --nproc-per-node 2 -m evlift train tmkt-digits       the same on two processes, or two GPUs"""
