"""What looking anywhere in a long recording costs `evlift view`: indexing, jumps, playing on, memory.

    python benchmarks/view.py [--events 54000000] [--format evt2]

Generated events of 640x480 at 10 million a second are written by our own writer. Figures are CPU time of all threads;
memory is what the process grew by from just before the recording was opened.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from evlift.events import EventStream, open_reader, write_events
from evlift.viewer.recording import Recording, packed

RATE = 10_000_000
WINDOW_US = 10_000


def resident_mb() -> float:
    """Memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=54_000_000)
    parser.add_argument("--format", default="evt2", choices=["evt2", "evt3", "dat", "dsec"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.h5" if options.format == "dsec" else "long.raw")
        write_events(path, generated(options.events), format=options.format)
        for _ in open_reader(path).chunks_between(0, 1):  # compiles
            pass
        measure(path, options.events)


def generated(n: int) -> EventStream:
    """Events all over the sensor, at a constant rate."""
    rng = np.random.default_rng(0)
    t = np.arange(n, dtype=np.int64) * 1_000_000 // RATE
    x, y = (np.resize(rng.integers(0, side, 2**20, dtype=np.uint16), n) for side in (640, 480))
    return EventStream(t, x, y, np.resize(rng.random(2**20) < 0.5, n), (480, 640))


def measure(path: Path, n: int) -> None:
    """Print one line a figure."""
    before, start = resident_mb(), time.process_time()
    recording = Recording(path)
    recording.wait()
    print(f"{n / 1e6:.0f} million events, {path.stat().st_size / 1e6:.0f} MB")
    print(f"index          {time.process_time() - start:8.2f} s")
    rng, last = np.random.default_rng(1), recording.timeline.newest_us
    jumps, draws = [], []
    for at in rng.integers(0, last - WINDOW_US, 60).tolist():
        start = time.process_time()
        window = recording.window(at, at + WINDOW_US)
        jumps.append(time.process_time() - start)
        start = time.process_time()
        packed(window)
        draws.append(time.process_time() - start)
    print(f"jump           {1e3 * np.median(jumps):8.2f} ms, at most {1e3 * max(jumps):.2f}")
    print(f"frame          {1e3 * np.median(draws):8.2f} ms")
    steps = []
    for at in range(0, 1_000_000, WINDOW_US // 2):
        start = time.process_time()
        recording.window(at, at + WINDOW_US)
        steps.append(time.process_time() - start)
    print(f"playing on     {1e3 * np.median(steps):8.2f} ms a window")
    print(f"memory         {resident_mb() - before:8.1f} MB more")
    start = time.process_time()
    open_reader(path).read(last - WINDOW_US, last)
    print(
        f"plain read     {1e3 * (time.process_time() - start):8.2f} ms, of the last window from the file's start"
    )
    recording.close()


if __name__ == "__main__":
    main()
