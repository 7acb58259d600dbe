"""The command line: `evlift VERB ...`. Every verb is a module of `evlift.verbs`, a thin shell over the library."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from evlift.errors import ConfigError, EvliftError
from evlift.verbs import VERBS

EPILOG = """examples:
  evlift demo                                       the main job on embedded data, about two minutes
  evlift info recording.raw --picture out.png       what is in a file, and what is wrong with it
  evlift train tmkt-digits --method.r_m 0.3         train a recipe, any field overridden
  evlift evaluate runs/NAME                         accuracy, per class, per time step
  evlift predict runs/NAME recording.bin            labels of a recording
  evlift pack runs/NAME packs/NAME                  its weights with a model card, to hand on
  evlift report runs/NAME                           one HTML page: tables, curves, examples
  evlift view recording.raw --run runs/NAME         playback in the browser
  evlift bench digits --quick                       a table of methods
  evlift convert in.raw out.h5                      another format; whole folders; shards
  evlift simulate pictures/ recordings/             what an event camera would have recorded

Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted, 143 terminated.
Documentation: docs/ in the source, or evlift VERB --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    if given[:1] == ["train"] and given[1:2] and "." in given[1] and given[1].startswith("--"):
        return _complain(
            "Expected the recipe before its fields: evlift train RECIPE --section.field VALUE.", 2
        )
    options, fields = parser.parse_known_args(given)
    if fields and not options.takes_fields:
        parser.error(f"unrecognized arguments: {' '.join(fields)}")
    options.fields = fields
    warnings.showwarning = _show_warning
    try:
        options.run(options)
    except ConfigError as error:
        return _complain(error, 2)
    except BrokenPipeError:
        return 1
    except (EvliftError, OSError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt as error:
        return _complain(error, getattr(error, "exit_code", 130))
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
    for name, module in VERBS.items():
        takes_fields = getattr(module, "TAKES_FIELDS", False)
        verb = verbs.add_parser(
            name,
            help=module.TEXT,
            description=module.TEXT,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=form,
            add_help=not takes_fields,  # their help depends on the recipe
        )
        module.add_options(verb)
        verb.set_defaults(run=module.run, takes_fields=takes_fields)
    return parser


class _Version(argparse.Action):
    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object, **more: object) -> None:
        from importlib.metadata import version

        print(f"evlift {version('evlift')}")
        parser.exit()


def _show_warning(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _complain(error: object, code: int) -> int:
    if not getattr(error, "said", False):  # by another process
        print(f"evlift: {str(error) or 'interrupted'}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
