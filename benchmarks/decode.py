"""Decode speed of every binary reader as a share of memcpy of the decoded columns: one thread, one run.

    python benchmarks/decode.py [--events 8000000] [--json decode.json]

Generated events (bursts along rows, as a sensor reads them out) are written by our own writers, or by the
loop below where there is none. `chunks` is a pass over the file in bounded pieces, `read` the whole file as
one stream. memcpy copies the decoded columns from end to end; "cached" is the stricter measure: a copy into
targets of 2^17 events that stay in the cache, as those of a pass do. Best of `--repeats` rounds in which all
take turns, in CPU time of the one thread, system calls included, files in the page cache.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evlift.events import READERS, EventStream, open_reader, write_events

GOALS = {
    "evt3": 0.12,
    "evt2": 0.18,
    "dat": 0.18,
    "atis": 0.12,
    "evt21": None,
    "aedat2": 0.06,
    "aedat3": 0.06,
    "dsec": 0.09,
    "npz": None,
}
BLOCK = 2**17


def scene(n: int, height: int, width: int, rate: float) -> EventStream:
    """Events at `rate` per µs as a sensor reads them out: bursts of one row, 3.7 events long on average.

    The mean is that of the words in a driving recording (219 596 events, 59 640 rows, 8 812 times).
    """
    rng = np.random.default_rng(0)
    lengths = rng.geometric(0.27, n)
    burst = np.repeat(np.arange(n), lengths)[:n]
    bursts = int(burst[-1]) + 1
    first = np.cumsum(lengths) - lengths
    gaps = rng.integers(1, 40, n)
    run = np.cumsum(gaps)
    x = run - run[first[burst]] + rng.integers(0, width, bursts)[burst]
    t = np.sort(rng.integers(0, int(n / rate), bursts))[burst]
    y, p = rng.integers(0, height, bursts)[burst], rng.random(bursts)[burst] < 0.5
    return EventStream.from_columns(t, x % width, y, p, sensor_size=(height, width))


def write_evt21(path: Path, stream: EventStream) -> None:
    """One little-endian word an event, one a 64 µs step: the most words that the format can need."""
    high = stream.t >> 6
    new = np.diff(high, prepend=-1) != 0
    words = stream.p.astype(np.uint64) << np.uint64(60) | (
        stream.t.astype(np.uint64) & np.uint64(63)
    ) << np.uint64(54)
    words |= (
        stream.x.astype(np.uint64) << np.uint64(43)
        | stream.y.astype(np.uint64) << np.uint64(32)
        | np.uint64(1)
    )
    at = np.cumsum(new + 1) - 1
    out = np.empty(len(words) + int(new.sum()), "<u8")
    out[at] = words
    out[at[new] - 1] = np.uint64(8 << 60) | high[new].astype(np.uint64) << np.uint64(32)
    height, width = stream.sensor_size
    header = f"% evt 2.1\n% format EVT21;endianness=little;height={height};width={width}\n% end\n"
    path.write_bytes(header.encode() + out.tobytes())


def write_aedat2(path: Path, stream: EventStream) -> None:
    """A DAVIS346's addresses, rows counted from the bottom."""
    rows = 259 - stream.y.astype(np.uint32)
    words = np.empty((len(stream), 2), ">u4")
    words[:, 0] = rows << 22 | stream.x.astype(np.uint32) << 12 | stream.p.astype(np.uint32) << 11
    words[:, 1] = stream.t
    path.write_bytes(b"#!AER-DAT2.0\r\n# AEChip: Davis346red\r\n" + words.tobytes())


def write_aedat3(path: Path, stream: EventStream) -> None:
    """Polarity packets of 4 096 events."""
    words = np.empty((len(stream), 2), "<u4")
    words[:, 0] = (
        stream.x.astype(np.uint32) << 17
        | stream.y.astype(np.uint32) << 2
        | stream.p.astype(np.uint32) << 1
        | 1
    )
    words[:, 1] = stream.t
    with path.open("wb") as file:
        file.write(b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS346\r\n#!END-HEADER\r\n")
        for start in range(0, len(words), 4096):
            part = words[start : start + 4096]
            file.write(
                struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(part), len(part), len(part)) + part.tobytes()
            )


def best_of(tasks: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """CPU seconds of each task's fastest run; they take turns, after a first run each that compiles."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats + 1):
        for name, task in tasks.items():
            start = time.thread_time()
            task()
            times[name].append(time.thread_time() - start)
    return {name: min(taken[1:]) for name, taken in times.items()}


def copier(stream: EventStream, block: int) -> Callable[[], None]:
    """A copy of the columns, `block` events at a time, into memory that is already there."""
    columns = (stream.t, stream.x, stream.y, stream.p)
    targets = [np.ones(min(block, len(stream)), column.dtype) for column in columns]

    def copy() -> None:
        for start in range(0, len(stream), block):
            for column, target in zip(columns, targets, strict=True):
                part = column[start : start + block]
                np.copyto(target[: len(part)], part)

    return copy


def measure(form: str, path: Path, repeats: int) -> dict[str, Any]:
    stream = open_reader(path, format=form).read()
    n = len(stream)
    tasks = {
        "memcpy": copier(stream, n),
        "memcpy_into_cache": copier(stream, BLOCK),
        "chunks": lambda: deque(open_reader(path, format=form).chunks(), maxlen=0),
        "read": lambda: open_reader(path, format=form).read(),
    }
    rate = {name: n / seconds / 1e6 for name, seconds in best_of(tasks, repeats).items()}
    return {
        "format": form,
        "events": n,
        "bytes_per_event": round(path.stat().st_size / n, 2),
        "mev_s": {name: round(value, 1) for name, value in rate.items()},
        "share": round(rate["chunks"] / rate["memcpy"], 3),
        "share_of_cached": round(rate["chunks"] / rate["memcpy_into_cache"], 3),
        "read_share": round(rate["read"] / rate["memcpy"], 3),
        "goal": GOALS[form],
    }


def as_row(row: dict[str, Any]) -> str:
    goal = f"{row['goal']:.0%}" if row["goal"] else "–"
    rate = row["mev_s"]
    cells = [
        row["format"],
        row["bytes_per_event"],
        rate["memcpy"],
        rate["chunks"],
        f"{row['share']:.1%}",
        goal,
    ]
    cells += [f"{row['share_of_cached']:.1%}", rate["read"], f"{row['read_share']:.1%}"]
    return f"| {' | '.join(map(str, cells))} |"


def files(folder: Path, n: int) -> dict[str, Path]:
    large, davis, small = scene(n, 720, 1280, 10.0), scene(n, 260, 346, 10.0), scene(n, 180, 240, 2.0)
    paths = {form: folder / f"bench.{form}" for form in GOALS}
    for form in ("evt3", "evt2", "dat"):
        write_events(paths[form], large, format=form)
    write_evt21(paths["evt21"], large)
    write_events(paths["atis"], small, format="atis")
    write_aedat2(paths["aedat2"], davis)
    write_aedat3(paths["aedat3"], davis)
    for form in ("dsec", "npz"):
        write_events(paths[form], davis, format=form)
    same = {"evt2": large, "evt21": large, "atis": small, "aedat2": davis, "aedat3": davis, "dsec": davis}
    for form, stream in same.items():
        if open_reader(paths[form], format=form).read() != stream:
            raise RuntimeError(f"{form} does not read what was written: its speed means nothing.")
    return {form: path for form, path in paths.items() if form in READERS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=8_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(form, path, args.repeats) for form, path in files(Path(folder), args.events).items()]
    print("| format | bytes/event | memcpy Mev/s | chunks | share | goal | share of cached | read | share |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(as_row(row))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
