"""Mutated and cut files: every reader of ours ends with events, a warning or an `EvliftError`, and soon.

EVLIFT_FUZZ sets the number of inputs a reader (default 1 000; 10 000 is the full run).
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from evlift.errors import EvliftError
from evlift.events import READERS, WRITERS, EventStream, open_reader, write_events

INPUTS = int(os.environ.get("EVLIFT_FUZZ", "1000"))
SECONDS_AN_INPUT = 5
GROWTH_KIB = 512 * 1024  # the whole process, over all inputs of a reader
THIRD_PARTY = (
    "aedat4",
    "es",
)  # decoders that are not ours; they may abort, and have their own guard and tests

SAMPLES = {
    "aedat2": "aedat2_dvs128_poker.aedat",
    "atis": "bin_nmnist.bin",
    "dat": "dat_ncars_car.dat",
    "evt2": "evt2_640x480_spinner.raw",
    "evt3": "evt3_1280x720_driving.raw",
    "mat": "mat_dvs128_building.mat",
    "text": "slider_depth/events.txt",
}


def small_stream() -> EventStream:
    rng = np.random.default_rng(1)
    t, x, y = np.sort(rng.integers(0, 50_000, 300)), rng.integers(0, 34, 300), rng.integers(0, 34, 300)
    return EventStream.from_columns(t, x, y, rng.random(300) < 0.5, sensor_size=(34, 34))


def seeds(form: str, folder: Path) -> list[bytes]:
    """Whole files to start from: one that our writer made, the first 6 kB of a real one, a made-up header."""
    found = []
    if form in WRITERS:
        write_events(folder / f"seed.{form}", small_stream(), format=form)
        found.append((folder / f"seed.{form}").read_bytes())
    real = Path(os.environ.get("EVLIFT_DATA", "/nowhere")) / "recordings" / SAMPLES.get(form, "none")
    if real.is_file():
        found.append(real.read_bytes()[:6000])
    if form == "evt21":
        words = np.array([8 << 60 | 5 << 32, 1 << 60 | 3 << 43 | 4 << 32 | 0xF0F] * 40, "<u8")
        found.append(b"% evt 2.1\n% geometry 640x480\n% end\n" + words.tobytes())
    return found or [bytes(range(256)) * 4]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes replaced, bits flipped, pieces doubled, zeroed or cut out, numbers made huge, the end cut."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        if not data:
            break
        at = int(rng.integers(0, len(data)))
        if rng.random() < 0.4:
            at = int(rng.integers(0, min(len(data), 200)))  # headers
        size = int(rng.integers(1, 40))
        match int(rng.integers(0, 7)):
            case 0:
                data[at : at + size] = rng.bytes(size)
            case 1:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 2:
                data[at:at] = data[at : at + size]
            case 3:
                data[at : at + size] = bytes(size)
            case 4:
                del data[at : at + size]
            case 5:
                data[at : at + 4] = b"\xff\xff\xff\x7f"
            case _:
                del data[at:]
    return bytes(data)


def too_slow(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"an input took over {SECONDS_AN_INPUT} s")


def exercise(form: str, path: Path) -> bool:
    """Detect, read raw, and window one input; whether it could be read to the end."""
    try:
        reader = open_reader(path, format=form)
        n = len(reader.columns())
        stream = reader.read()
        assert len(stream) == n
        assert not np.any(stream.t[1:] < stream.t[:-1])
        assert n == 0 or (stream.x.max() < stream.sensor_size[1] and stream.y.max() < stream.sensor_size[0])
        list(itertools.islice(reader.windows(duration_us=1000), 20))
    except EvliftError:
        return False
    return True


@pytest.mark.parametrize("form", sorted(set(READERS) - set(THIRD_PARTY)))
def test_damaged_files_never_crash_hang_or_swallow_memory(form: str, tmp_path: Path) -> None:
    reader: Any = READERS[form]
    starts = seeds(form, tmp_path)
    path = tmp_path / f"input{reader.extensions[0]}"
    rng = np.random.default_rng(20_240_601)
    whole = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, too_slow)
    started = time.perf_counter()
    try:
        for number in range(INPUTS):
            content = mutated(starts[number % len(starts)], rng)
            path.write_bytes(content)
            signal.alarm(SECONDS_AN_INPUT if number else 60)  # the first one compiles
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    whole += exercise(form, path)
                except Exception as error:
                    kept = tmp_path / "failing_input"
                    kept.write_bytes(content)
                    raise AssertionError(f"input {number}, kept as {kept}: {error!r}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    sys.stderr.write(
        f"{form}: {INPUTS} inputs, {whole} read, {time.perf_counter() - started:.1f} s, +{grown >> 10} MiB\n"
    )
    assert grown < GROWTH_KIB
