"""The verbs of the command line, a module each.

A verb's module has `TEXT` (what it does, one sentence), `EXAMPLE`, `add_options(parser)` and `run(options)`. One that
takes the fields of a recipe beside its options says `TAKES_FIELDS = True` and finds them in `options.fields`. The
modules import what they call inside `run`, so that `evlift --help` stays quick.
"""

from __future__ import annotations

from types import ModuleType

from evlift.verbs import (
    bench,
    convert,
    demo,
    evaluate,
    export,
    info,
    pack,
    predict,
    report,
    simulate,
    train,
    tune,
    view,
)

VERBS: dict[str, ModuleType] = {
    "demo": demo,
    "info": info,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "pack": pack,
    "simulate": simulate,
    "bench": bench,
    "tune": tune,
    "report": report,
    "view": view,
    "convert": convert,
}
