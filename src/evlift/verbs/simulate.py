"""`evlift simulate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from evlift.verbs.common import number, open_console, print_table, size, whole
from evlift.wording import counted

TEXT = "Turn pictures or a video into recordings of an event camera."
EXAMPLE = "evlift simulate pictures/ recordings/ --motion pan --sensor 180x240"
AS_THEY_ARE = ("motion", "amplitude_px", "margin", "negative", "fps", "format", "overwrite", "seed")
OF_THE_CAMERA = ("threshold", "noise_hz", "leak_hz", "shot_hz")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    add = parser.add_argument
    add("source", metavar="IN", help="a picture, a folder of pictures (its subfolders are kept), or a video")
    add("out", metavar="OUT", help="recording, whose extension says the format; a folder where IN is one")
    add("--sensor", type=size, metavar="HxW", help="default: 180x240 for pictures, a video's own size")
    add(
        "--fps",
        type=number(1e-3),
        metavar="N",
        help="frames a second of a video (default: what the file says)",
    )
    add(
        "--format", help="of the recordings, where OUT does not say (default in a folder: dsec, an HDF5 file)"
    )
    add("--overwrite", action="store_true", help="replace what is there (default: refused)")
    add("--seed", type=whole(0), default=0, metavar="N", help="same seed, same events (default: %(default)s)")
    _add_motion(parser.add_argument_group("how pictures move"))
    _add_camera(parser.add_argument_group("camera"))


def _add_motion(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--motion",
        default="random3",
        help="random3, pan, shake, affine, nmnist or varied (default: %(default)s)",
    )
    add("--duration-ms", type=number(1e-3), default=300.0, metavar="MS", help="default: %(default)g")
    add(
        "--step-ms",
        type=number(1e-3),
        default=5.0,
        metavar="MS",
        help="from frame to frame (default: %(default)g)",
    )
    add("--amplitude-px", type=number(1e-3), metavar="PX", help="extent of the motion (default: 4.5 to 6.7)")
    add(
        "--margin",
        type=whole(0),
        default=0,
        metavar="PX",
        help="left free around a picture (default: %(default)s)",
    )
    add("--negative", action="store_true", help="show negatives")


def _add_camera(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--threshold",
        type=number(1e-3),
        metavar="LOG",
        help="contrast threshold in log units (default: a range)",
    )
    add(
        "--noise-hz",
        type=number(0),
        metavar="HZ",
        help="background events a second and pixel (default: 0 to 0.3)",
    )
    add(
        "--leak-hz",
        type=number(0),
        metavar="HZ",
        help="ON events a second of a pixel that sees no change (default: 0)",
    )
    add(
        "--shot-hz",
        type=number(0),
        metavar="HZ",
        help="shot noise events a second of a dark pixel (default: 0)",
    )
    add(
        "--fit",
        metavar="RECORDING",
        help="file or folder whose noise, ON/OFF ratio and event rate are matched",
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from evlift.progress import work_bar
    from evlift.simulate.command import FileSimulator

    simulator = FileSimulator(
        sensor_size=options.sensor,
        duration_us=round(options.duration_ms * 1e3),
        step_us=round(options.step_ms * 1e3),
        camera={name: getattr(options, name) for name in OF_THE_CAMERA},
        fit_to=options.fit,
        **{name: getattr(options, name) for name in AS_THEY_ARE},
    )
    unit = "pictures" if Path(options.source).is_dir() else "frames"
    with work_bar(open_console(), "simulate", unit) as report:
        made = simulator(options.source, options.out, report)
    if made.fit:
        print_table("fit", ("", ""), made.fit.rows())
    print(f"{counted(made.recordings, 'recording')}, {counted(made.events, 'event')} → {options.out}")
