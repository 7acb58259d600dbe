"""Speed of the representations on one core, beside memcpy and the libraries that are installed.

    python benchmarks/represent.py [--events 5000000] [--runs 5] [--rows evlift,tonic] [--json FILE]

One process, one thread, synthetic events at random pixels over one second (the worst case for the caches). Every
figure is the best of `runs` in millions of events a second of processor time, so that a busy machine disturbs it
little. Results of peers are compared with ours before they are timed. The libraries live in an environment of
their own: see benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before any library that would start threads

import numpy as np  # noqa: E402
import torch  # noqa: E402

from evlift.events import EventStream  # noqa: E402
from evlift.representations import (  # noqa: E402
    EvSegNet,
    Frames,
    Histogram,
    Representation,
    TimeSurface,
    Voxel,
    warm_up,
)

SENSORS = {"346x260": (260, 346), "1280x720": (720, 1280)}
KINDS: dict[str, Representation] = {
    "2-ch histogram": Histogram(),
    "voxel 5": Voxel(bins=5),
    "voxel 10": Voxel(bins=10),
    "voxel 5 tonic": Voxel(bins=5, convention="tonic"),
    "voxel 10 tonic": Voxel(bins=10, convention="tonic"),
    "time surface": TimeSurface(tau_us=50_000),
    "Ev-SegNet 6 ch": EvSegNet(),
    "T=10 frames": Frames(steps=10),
}
Cases = dict[tuple[str, str], Callable[[], Any]]


def random_events(n: int, sensor_size: tuple[int, int]) -> EventStream:
    """`n` events at random pixels, sorted by time, within one second."""
    rng = np.random.default_rng(0)
    return EventStream(
        np.sort(rng.integers(0, 1_000_000, n)),
        rng.integers(0, sensor_size[1], n).astype(np.uint16),
        rng.integers(0, sensor_size[0], n).astype(np.uint16),
        rng.random(n) < 0.5,
        sensor_size,
    )


def our_cases(stream: EventStream) -> Cases:
    """Both routes of every kind; the compiled one writes to a grid that is zeroed within the time."""
    t, x, y, p = (torch.from_numpy(np.array(column)) for column in (stream.t, stream.x, stream.y, stream.p))
    columns = [t, x.int(), y.int(), p]
    copies = [np.empty_like(column) for column in (stream.t, stream.x, stream.y, stream.p)]

    def memcpy() -> None:
        for copy, column in zip(copies, (stream.t, stream.x, stream.y, stream.p), strict=True):
            np.copyto(copy, column)

    cases: Cases = {("memcpy", "t, x, y, p"): memcpy}
    for name, rep in KINDS.items():
        out = torch.empty(rep.shape(stream.sensor_size))
        cases["evlift", name] = lambda rep=rep, out=out: rep(stream, out=out)
        cases["torch", name] = lambda rep=rep: rep.from_tensors(*columns, sensor_size=stream.sensor_size)
    return cases


def tonic_cases(stream: EventStream) -> Cases:
    """Tonic on its structured arrays; its time surface makes one surface of the whole second."""
    from tonic import functional

    height, width = stream.sensor_size
    size = (width, height, 2)
    fields = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)]
    events = np.empty(len(stream), dtype=fields)
    for name, _ in fields:
        events[name] = getattr(stream, name)
    signed = events.copy()  # to_voxel_grid overwrites the polarities
    return {
        ("tonic", "2-ch histogram"): lambda: functional.to_frame_numpy(events, size, n_time_bins=1),
        ("tonic", "T=10 frames"): lambda: functional.to_frame_numpy(events, size, n_time_bins=10),
        ("tonic", "voxel 10 tonic"): lambda: functional.to_voxel_grid_numpy(signed, size, 10),
        ("tonic", "voxel 5 tonic"): lambda: functional.to_voxel_grid_numpy(signed, size, 5),
        ("tonic", "time surface"): lambda: functional.to_timesurface_numpy(
            events, size, dt=stream.duration_us + 1, tau=50_000, include_incomplete=True
        ),
    }


def spikingjelly_cases(stream: EventStream) -> Cases:
    """SpikingJelly's frames of equal duration, and one frame of everything."""
    from spikingjelly.datasets import utils

    events = {name: np.array(getattr(stream, name)) for name in "txyp"}
    size = stream.sensor_size

    def frames(steps: int) -> Any:
        return utils.integrate_events_by_fixed_frames_number(events, "time", steps, *size)

    return {
        ("spikingjelly", "2-ch histogram"): lambda: frames(1),
        ("spikingjelly", "T=10 frames"): lambda: frames(10),
    }


def best_rate(case: Callable[[], Any], n: int, runs: int) -> float:
    """Millions of events a second in the fastest of `runs`, after one run that is not counted."""
    case()
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        case()
        seconds.append(time.process_time() - start)
    return n / min(seconds) / 1e6


def largest_difference(cases: Cases, key: tuple[str, str]) -> float:
    """Largest difference of a peer's result from ours, relative to our largest value."""
    ours = np.asarray(cases["evlift", key[1]]()).ravel()
    theirs = np.asarray(cases[key]()).ravel()
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def measure(sensor: str, n: int, runs: int, rows: list[str]) -> dict[str, dict[str, float]]:
    """Rates {row: {column: Mev/s}} of one sensor size; peers run at most twice after their first run."""
    stream = random_events(n, SENSORS[sensor])
    cases = our_cases(stream)
    if "tonic" in rows and find_spec("tonic"):
        cases |= tonic_cases(stream)
    if "spikingjelly" in rows and find_spec("spikingjelly"):
        cases |= spikingjelly_cases(stream)
    rates: dict[str, dict[str, float]] = {}
    for key, case in cases.items():
        row, column = key
        if row not in (*rows, "memcpy"):
            continue
        if row in ("torch", "tonic", "spikingjelly"):
            # peers' frames may lay the edge of a bin one microsecond elsewhere, or drop the last event
            print(f"  {sensor} {row:13} {column:15} difference {largest_difference(cases, key):.1e}")
        slow = row in ("tonic", "spikingjelly")
        rates.setdefault(row, {})[column] = best_rate(case, n, min(runs, 2) if slow else runs)
    return rates


def show(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print rates, their ratios to memcpy, and how much faster the compiled route is than each peer."""
    for sensor, rates in results.items():
        memcpy = rates["memcpy"]["t, x, y, p"]
        print(f"\n{sensor}: memcpy of t, x, y, p {memcpy:.0f} Mev/s")
        peers = [row for row in rates if row not in ("memcpy", "evlift")]
        titles = ["evlift", "of memcpy", *(f"{row} (ours is)" for row in peers)]
        print(f"{'':16}" + "".join(f"{title:>26}" for title in titles))
        for column, ours in rates["evlift"].items():
            cells = [f"{ours:.0f}", f"{ours / memcpy:.0%}"]
            for row in peers:
                rate = rates[row].get(column)
                cells.append(f"{rate:.0f} ({ours / rate:.1f}x)" if rate else "-")
            print(f"{column:16}" + "".join(f"{cell:>26}" for cell in cells))


def main() -> None:
    """Measure both sensors and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", default="evlift,torch,tonic,spikingjelly")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    warm_up()
    print(f"kernels compiled or loaded in {time.perf_counter() - start:.2f} s")
    rows = arguments.rows.split(",")
    results = {sensor: measure(sensor, arguments.events, arguments.runs, rows) for sensor in SENSORS}
    show(results)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
