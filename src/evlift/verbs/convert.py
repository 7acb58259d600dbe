"""`evlift convert`."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.errors import DataError
from evlift.verbs.common import MOST, count, number, open_console, print_table, size
from evlift.wording import counted

if TYPE_CHECKING:
    from evlift.events.convert import Conversions

TEXT = "Convert recordings to another format, or pack class folders into shards."
EXAMPLE = """evlift convert in.raw out.h5 --start-ms 0 --stop-ms 50 --filter refractory:1000
  evlift convert recordings/ as-hdf5/ --to dsec --workers 4
  evlift convert recordings/ shards/ --shards 8"""
AS_THEY_ARE = (
    "to",
    "start_us",
    "stop_us",
    "crop",
    "from_zero",
    "format",
    "sensor_size",
    "strict",
    "overwrite",
)
STOPPED = "stopped; the same command goes on and leaves alone what is finished"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add = parser.add_argument
    add("source", metavar="IN", help="a recording in any readable format, or a folder (its tree is kept)")
    add("out", metavar="OUT", help="recording, whose extension says the format; a folder where IN is one")
    add(
        "--to",
        metavar="FORMAT",
        help="of the output, where OUT does not say (in a folder: dsec, an HDF5 file)",
    )
    add("--shards", type=count, metavar="N", help="pack class folders into N tar files and an index")
    add("--workers", type=count, metavar="N", help="processes for a folder (default: one a core)")
    add("--overwrite", action="store_true", help="replace what is there (default: left alone if it is equal)")
    add("--json", action="store_true", help="print JSON, one object a file, or one of the shards")
    _add_input(parser.add_argument_group("the input"))
    _add_changes(parser.add_argument_group("what is kept"))


def _add_input(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--format", help="where it cannot be told from the content")
    add("--sensor", type=size, metavar="HxW", dest="sensor_size", help="where the format does not store it")
    add("--strict", action="store_true", help="refuse a recording with anything wrong in it")


def _add_changes(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--start-ms",
        dest="start_us",
        type=time_us,
        metavar="MS",
        help="from this time on, as the recording counts it",
    )
    add("--stop-ms", dest="stop_us", type=time_us, metavar="MS", help="up to this time")
    add(
        "--crop",
        type=box,
        metavar="X,Y,W,H",
        help="a box whose corner becomes (0, 0); comes before the filters",
    )
    add(
        "--filter",
        action="append",
        default=[],
        metavar="NAME[:ARGUMENTS]",
        help="such as refractory:2000, hot_pixels:factor=5 or resize:120,160; may be given again",
    )
    add("--from-zero", action="store_true", help="count times from the first event that is left")


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from evlift.events.convert import convert
    from evlift.progress import stoppable, work_bar

    settings = {name: getattr(options, name) for name in AS_THEY_ARE}
    settings["filters"] = tuple(options.filter)
    unit = "files" if Path(options.source).is_dir() else "events"
    console = open_console(stderr=options.json)  # JSON stands alone on standard output
    with stoppable(STOPPED), work_bar(console, "convert", unit) as report:
        if options.shards:
            _pack(options, settings, report)
            return
        found = convert(options.source, options.out, workers=options.workers, report=report, **settings)
    _tell(found, options.json)


def _pack(options: argparse.Namespace, settings: dict[str, Any], report: Any) -> None:
    """Shards of the files as they are, or of what the other options make of them."""
    from evlift.datasets.pack import write_shards
    from evlift.events.convert import Converter, convert

    out = Path(options.out)
    packed = {"shards": options.shards, "overwrite": options.overwrite, "report": report}
    if not Converter(**settings).changes_files:
        index = write_shards(options.source, out, **packed)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            made = convert(options.source, folder, workers=options.workers, report=report, **settings)
            _complain_of(made, "No shards were written.")
            index = write_shards(folder, out, **packed)
    size = sum(entry.size for entry in index.entries)
    if options.json:
        row = {"kind": index.kind, "items": len(index.entries), "bytes": size}
        print(json.dumps({"out": str(out), "shards": options.shards, **row}))
    else:
        items, shards = counted(len(index.entries), index.kind), counted(options.shards, "shard")
        print(f"{items}, {size:,} bytes in {shards} → {out}")


def _tell(found: Conversions, as_json: bool) -> None:
    if as_json:
        for each in found.converted:
            row = {"source": str(each.source), "out": str(each.out), "there_already": each.there_already}
            print(json.dumps({**row, **vars(each.content), "notes": each.notes}))
        for failed in found.failed:
            print(json.dumps({"source": str(failed.source), "error": failed.reason}))
    else:
        _print_what_was_done(found)
    _complain_of(found, "")


def _print_what_was_done(found: Conversions) -> None:
    for each in found.converted:
        for note in each.notes:
            print(f"warning: {note}")
    if len(found.converted) + len(found.failed) == 1 and found.converted:
        (each,) = found.converted
        state = "is there already with" if each.there_already else "written and read again:"
        print(f"{each.out} {state} {each.content}")
        return
    events = sum(each.content.events for each in found.converted)
    there = sum(each.there_already for each in found.converted)
    print(
        f"{counted(len(found.converted), 'recording')}, {counted(events, 'event')}, written and read again; "
        f"already there: {there}"
    )
    if found.failed:
        print_table(
            "not converted", ("file", "why"), [(str(each.source), each.reason) for each in found.failed]
        )


def _complain_of(found: Conversions, more: str) -> None:
    if found.failed:
        total = len(found.converted) + len(found.failed)
        raise DataError(
            f"{len(found.failed)} of {total} files could not be converted, the first '{found.failed[0].source}': "
            f"{found.failed[0].reason} {more}".rstrip()
        )


def time_us(text: str) -> int:
    """Milliseconds, negative ones too, as µs."""
    return round(1000 * number(-MOST, MOST)(text))


def box(text: str) -> tuple[int, int, int, int]:
    """`10,20,320,240` as (x, y, width, height)."""
    sides = text.split(",")
    if len(sides) != 4 or not all(side.strip().isascii() and side.strip().isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"expected X,Y,W,H such as 0,0,320,240, but got {text}")
    x, y, width, height = map(int, sides)
    return x, y, width, height
