"""Prediction on streams: real-time factor and latency a stage, and a soak that looks for leaks and lost events.

    python benchmarks/stream.py speed [--run RUN ...] [--loops 200] [--json FILE]
    python benchmarks/stream.py soak [--run RUN] [--minutes 30] [--pipe-mevs 10] [--file-mevs 1] [--json FILE]

Both repeat the real recording evt3_1280x720_driving.raw of EVLIFT_DATA with its clock going on, so that the decoder
sees one long recording. Without --run, networks are built untrained: their speed does not depend on their weights.

`speed` predicts on the repeated recording and on all N-MNIST recordings in this process and sets each stage beside the
limits on this machine: memcpy, the decoder alone, the representation alone. All in processor time, of one thread, so
that a busy machine disturbs it little; latencies in wall-clock time stand beside them.

`soak` starts `evlift predict` as a process: once on a pipe, once with --follow on a file that grows. It feeds events at
a fixed rate, as a camera would, and checks from outside that memory stays flat, that predictions come within a bound
after the end of their window in the camera's time, that the rate was reached, and that fed events = predicted +
reported as dropped. The clock starts with the first prediction, when the process has loaded its libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before any library that would start threads

import numpy as np  # noqa: E402

import evlift  # noqa: E402
from evlift.events import EventStream, open_reader  # noqa: E402
from evlift.events.filters import resize  # noqa: E402
from evlift.streaming import running  # noqa: E402

DRIVING = Path("recordings", "evt3_1280x720_driving.raw")
HIGH_US = 4096  # what one step of EVT3's TIME_HIGH word stands for
NETWORKS = ("convnet", "scnn")
WARM_UP_S = 20.0  # of a soak, before memory and latency are judged
FLAT = 1.05  # largest growth of memory from the first to the last third of a soak
IDLE_S = 3.0


class Loop:
    """A recording without an end: EVT3 words that repeat with a clock that goes on.

    Args:
        events: one round.
        period_us: of a round, a multiple of 4096; events are stretched or squeezed to fill it if `fill`.
    """

    def __init__(self, events: EventStream, period_us: int, *, fill: bool) -> None:
        t = events.t - events.t[0]
        if fill:
            t = t * period_us // (events.duration_us + 1)
        moved = EventStream(t, events.x, events.y, events.p, events.sensor_size)
        with tempfile.TemporaryDirectory() as folder:
            evlift.write_events(path := Path(folder, "round.raw"), moved)
            data = path.read_bytes()
        start = data.index(b"% end\n") + len(b"% end\n")
        self.header, self.events, self.period_us = data[:start], len(events), period_us
        self._words = np.frombuffer(data[start:], "<u2").copy()
        self._places = np.flatnonzero(self._words >> 12 == 8)
        self._high = (self._words[self._places] & 0xFFF).astype(np.int64)

    def __getitem__(self, number: int) -> bytes:
        """The words of one round, from 0 on."""
        high = (self._high + number * (self.period_us // HIGH_US)) & 0xFFF
        self._words[self._places] = 0x8000 | high
        return self._words.tobytes()


def driving() -> EventStream:
    """The recording that is repeated."""
    return evlift.read_events(Path(os.environ["EVLIFT_DATA"]) / DRIVING)


def loop_at(rate_hz: float) -> Loop:
    """The recording at no less than a rate: the period is rounded down."""
    events = driving()
    return Loop(events, max(1, int(len(events) / rate_hz * 1e6) // HIGH_US) * HIGH_US, fill=True)


def untrained(folder: Path, model: str) -> Path:
    """A run of a network with first weights for N-MNIST's sensor."""
    recipe = {
        "data": {"name": "simulated-digits", "recordings": 100},
        "input": {"steps": 6, "size": [28, 28], "encoding": "constant", "normalise": "p99.9"},
        "model": {"name": model},
        "method": {"name": "events-only"},
        "train": {"steps": 1, "batch_size": 2, "threads": 1, "precision": "32-true"},
    }
    return evlift.train(recipe, folder / model).folder


# speed


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Stages and limits, for every run."""
    running.clock = time.process_time
    with tempfile.TemporaryDirectory() as folder:
        runs = options.run or [untrained(Path(folder), model) for model in NETWORKS]
        loop = Loop(driving(), 3 * HIGH_US, fill=False)
        path = Path(folder, "driving.raw")
        with path.open("wb") as file:
            file.write(loop.header)
            for number in range(options.loops):
                file.write(loop[number])
        found: dict[str, Any] = {"limits": limits(path, runs[0])}
        nmnist = Path(os.environ["EVLIFT_DATA"], "nmnist", "Train")
        for run in runs:
            name = evlift.open_run(run).recipe.model["name"]
            cases = {f"{name}, driving, 50 ms": (path, 50_000), f"{name}, driving, 10 ms": (path, 10_000)}
            cases |= {f"{name}, N-MNIST, whole": (nmnist, None), f"{name}, N-MNIST, 50 ms": (nmnist, 50_000)}
            for title, (source, duration_us) in cases.items():
                predictions = evlift.predict(run, source, duration_us=duration_us)
                for one in predictions:
                    json.dumps(one.row())
                found[title] = predictions.summary.to_dict()
                found[title]["mevs"] = {
                    stage: predictions.summary.events / max(times.total, 1e-9) / 1e6
                    for stage, times in predictions.summary.stages.items()
                }
                show(title, found[title])
    return found


def show(title: str, found: dict[str, Any]) -> None:
    """One case."""
    print(f"\n{title}: {found['windows']} windows, {found['events']:,} events in {found['recorded_s']:.2f} s")
    latency = found["latency_ms"]
    print(
        f"  real-time factor {found['real_time_factor']:.2f}, latency median {latency['median']:.2f}, ",
        end="",
    )
    print(f"p99 {latency['p99']:.2f}, longest {latency['longest']:.2f} ms")
    for stage, times in found["stages_ms"].items():
        rate = found["mevs"][stage]
        print(f"  {stage:10} median {times['median']:8.3f}  p99 {times['p99']:8.3f} ms   {rate:8.1f} Mev/s")


def limits(path: Path, run: str | Path) -> dict[str, float]:
    """What this machine could do: Mev/s of memcpy, of the decoder alone, of ordered windows, of frames alone."""
    recipe = evlift.open_run(run).recipe
    window = next(open_reader(path).windows(duration_us=50_000))
    small = resize(window, 34, 34)
    frames = evlift.create_representation("frames", steps=recipe.input.steps)
    copies = [np.empty_like(getattr(window, name)) for name in "txyp"]

    def memcpy() -> int:
        for copy, name in zip(copies, "txyp", strict=True):
            np.copyto(copy, getattr(window, name))
        return len(window)

    def decode() -> int:
        return sum(len(chunk) for chunk in open_reader(path).chunks())

    def cut() -> int:
        return sum(len(one) for one in open_reader(path).windows(duration_us=50_000))

    def represent(stream: EventStream) -> Callable[[], int]:
        return lambda: frames(stream) is not None and len(stream)

    cases = {
        "memcpy of t, x, y, p": memcpy,
        "decoder alone (EVT3)": decode,
        "decoder, order and windows": cut,
        "scaling to 34x34": lambda: len(resize(window, 34, 34)),
        f"frames T={recipe.input.steps}, 34x34": represent(small),
        f"frames T={recipe.input.steps}, 1280x720": represent(window),
    }
    print("limits on this machine, Mev/s of processor time, best of 5")
    found = {}
    for name, case in cases.items():
        found[name] = best_rate(case)
        print(f"  {name:28} {found[name]:8.1f}")
    print(f"  {'goal of the decoder, 12 %':28} {0.12 * found['memcpy of t, x, y, p']:8.1f}")
    return found


def best_rate(case: Callable[[], int]) -> float:
    """Mev/s of the best of five calls."""
    rates = []
    for _ in range(5):
        began = time.process_time()
        n = case()
        rates.append(n / max(time.process_time() - began, 1e-9) / 1e6)
    return max(rates)


# soak


class Watched:
    """`evlift predict` as a process: its lines, when they came, and its memory."""

    def __init__(self, arguments: list[str], **options: Any) -> None:
        command = [sys.executable, "-m", "evlift", "predict", *arguments, "--json"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.lines: list[tuple[float, int, int]] = []  # when it came, end of the window, events
        self.weighed: list[tuple[float, float, float]] = []  # when, resident MiB, processor time in seconds
        self.said = ""
        self._threads = [
            threading.Thread(target=t, daemon=True) for t in (self._read, self._hear, self._weigh)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            row = json.loads(line)
            self.lines.append((time.monotonic(), row["stop_us"], row["events"]))

    def _hear(self) -> None:
        self.said = self.process.stderr.read()

    def _weigh(self) -> None:
        while self.process.poll() is None:
            with open(f"/proc/{self.process.pid}/status") as file:
                kib = [int(line.split()[1]) for line in file if line.startswith("VmRSS")]
            with open(f"/proc/{self.process.pid}/stat") as file:
                user, system = file.read().rsplit(")", 1)[1].split()[11:13]
            spent = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
            self.weighed += [(time.monotonic(), one / 1024, spent) for one in kib]
            time.sleep(0.5)

    def finish(self) -> dict[str, Any]:
        """Wait for it; the summary that it printed."""
        self.process.wait(timeout=120)
        for thread in self._threads:
            thread.join(timeout=10)
        if self.process.returncode:
            raise RuntimeError(f"predict ended with {self.process.returncode}: {self.said[-2000:]}")
        return json.loads(self.said.strip().splitlines()[-1])["summary"]


@dataclass
class Fed:
    """What a feeder did.

    Args:
        began: when event time 0 was, or would have been.
        rounds: that were written.
        lag_s: largest distance behind the pace.
        paced: rounds that were written at the pace, and how long that took in seconds.
    """

    began: float
    rounds: int
    lag_s: float
    paced: tuple[int, float]


def feed(write: Callable[[bytes], Any], loop: Loop, watched: Watched, options: argparse.Namespace) -> Fed:
    """Write rounds: as many as the first prediction needs, and once that is there, further ones at their pace."""
    first = int(2 * options.window_ms * 1000 + 50_000) // loop.period_us + 1
    write(loop.header)
    for number in range(first):
        write(loop[number])
    while not watched.lines and watched.process.poll() is None:
        time.sleep(0.01)  # the process loads its libraries
    start = time.monotonic()
    began, number, lag = start - first * loop.period_us / 1e6, first, 0.0
    parts = max(1, loop.period_us // 10_000)  # a camera hands out events about every 10 ms
    while time.monotonic() - start < options.minutes * 60:
        data = loop[number]
        step = -(-len(data) // parts)
        for part in range(parts):
            due = began + (number + (part + 1) / parts) * loop.period_us / 1e6
            time.sleep(max(0.0, due - time.monotonic()))
            write(data[part * step : (part + 1) * step])
            lag = max(lag, time.monotonic() - due)
        number += 1
    return Fed(began, number, lag, (number - first, time.monotonic() - start))


def judge(watched: Watched, fed: Fed, loop: Loop, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a soak and what is wrong with them."""
    summary = watched.finish()
    rounds, seconds = fed.paced
    settled = fed.began + (fed.rounds - rounds) * loop.period_us / 1e6 + min(WARM_UP_S, seconds / 3)
    end = fed.began + fed.rounds * loop.period_us / 1e6
    late = [
        (at - fed.began - stop / 1e6) * 1e3
        for at, stop, _ in watched.lines
        if at > settled
        and fed.began + stop / 1e6 < end - 0.1  # the last windows wait for the end of the stream
    ]
    weighed = [one for one in watched.weighed if settled < one[0]]
    weights = [mib for _, mib, _ in weighed]
    third = max(1, len(weights) // 3)
    first, last = statistics.median(weights[:third]), statistics.median(weights[-third:])
    events = fed.rounds * loop.events
    lost = summary["dropped"]["late_events"] + summary["dropped"]["out_of_range"]
    found = {
        "minutes": seconds / 60,
        "asked_mevs": loop.events / loop.period_us,
        "reached_mevs": rounds * loop.events / seconds / 1e6,
        "events_fed": events,
        "events_predicted": sum(n for _, _, n in watched.lines),
        "events_in_summary": summary["events"],
        "reported_dropped": lost,
        "windows": summary["windows"],
        "feeder_lag_ms": fed.lag_s * 1e3,
        "to_prediction_ms": {
            "median": float(np.median(late)),
            "p99": float(np.quantile(late, 0.99)),
            "longest": max(late),
        },
        "memory_mib": {"first_third": first, "last_third": last, "highest": max(weights)},
        "cores": (weighed[-1][2] - weighed[0][2]) / (weighed[-1][0] - weighed[0][0]),
        "summary": summary,
    }
    counts = {found["events_predicted"] + lost, summary["events"] + lost}
    checks = {
        "events are missing": counts != {events},
        "memory grows": last > first * FLAT,
        "latency is not bounded": found["to_prediction_ms"]["p99"] > options.bound_ms,
        "the rate was not reached": found["reached_mevs"] < 0.99 * found["asked_mevs"],
    }
    return {**found, "wrong": [text for text, wrong in checks.items() if wrong]}


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """A pipe, then a growing file."""
    found = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run = str(options.run[0] if options.run else untrained(Path(folder), "convnet"))
        window = ["--duration-ms", str(options.window_ms)]
        loop = loop_at(options.pipe_mevs * 1e6)
        watched = Watched([run, "-", *window], stdin=subprocess.PIPE)
        pipe = watched.process.stdin.buffer  # type: ignore[union-attr]
        fed = feed(pipe.write, loop, watched, options)
        pipe.close()
        found["pipe"] = judge(watched, fed, loop, options)
        tell("pipe", found["pipe"])
        loop = loop_at(options.file_mevs * 1e6)
        path = Path(folder, "growing.raw")
        watched = Watched([run, str(path), "--follow", "--idle-s", str(IDLE_S), *window])
        with path.open("wb", buffering=0) as file:
            fed = feed(file.write, loop, watched, options)
        found["growing file"] = judge(watched, fed, loop, options)
        tell("growing file", found["growing file"])
    return found


def tell(title: str, found: dict[str, Any]) -> None:
    """One soak."""
    late, memory = found["to_prediction_ms"], found["memory_mib"]
    print(f"\n{title}: {found['minutes']:.1f} min, {found['asked_mevs']:.2f} Mev/s asked, ", end="")
    print(f"{found['reached_mevs']:.2f} reached, {found['windows']} windows, ", end="")
    print(f"{found['cores']:.0%} of a core")
    print(f"  events fed {found['events_fed']:,}, predicted {found['events_predicted']:,}, ", end="")
    print(f"dropped and reported {found['reported_dropped']:,}")
    print(
        f"  from a window's end to its prediction: median {late['median']:.1f}, p99 {late['p99']:.1f}, ",
        end="",
    )
    print(f"longest {late['longest']:.1f} ms; the feeder was at most {found['feeder_lag_ms']:.1f} ms behind")
    print(
        f"  memory: first third {memory['first_third']:.1f}, last third {memory['last_third']:.1f}, ", end=""
    )
    print(f"highest {memory['highest']:.1f} MiB")
    print(f"  real-time factor {found['summary']['real_time_factor']:.2f}, {found['summary']['latency_ms']}")
    print(f"  {'WRONG: ' + ', '.join(found['wrong']) if found['wrong'] else 'all checks hold'}")


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "soak"])
    parser.add_argument(
        "--run", action="append", default=[], help="folder of a run; default: untrained networks"
    )
    parser.add_argument("--loops", type=int, default=200, help="rounds of the recording in `speed`")
    parser.add_argument("--minutes", type=float, default=30.0, help="of each soak")
    parser.add_argument("--window-ms", type=float, default=50.0, help="of a soak")
    parser.add_argument(
        "--pipe-mevs", type=float, default=10.0, help="millions of events a second into the pipe"
    )
    parser.add_argument("--file-mevs", type=float, default=1.0, help="and into the growing file")
    parser.add_argument(
        "--bound-ms", type=float, default=250.0, help="largest p99 from a window's end to its prediction"
    )
    parser.add_argument("--folder", help="for the growing file: 3 bytes an event")
    parser.add_argument("--json", help="file for all figures")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore", evlift.events.RecordingWarning)
    options = arguments()
    results = {"speed": speed, "soak": soak}[options.what](options)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))
    sys.exit(any(case.get("wrong") for case in results.values()))
