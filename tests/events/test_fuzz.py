"""Mutated and cut files: every reader of ours ends with events, a warning or an `EvliftError`, and soon.

EVLIFT_FUZZ sets the number of inputs a reader (default 1 000; 10 000 is the full run).
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from evlift.errors import EvliftError
from evlift.events import READERS, EventStream, open_reader, write_events

INPUTS = int(os.environ.get("EVLIFT_FUZZ", "1000"))
SECONDS_AN_INPUT = 5
GROWTH_KIB = 512 * 1024  # the whole process, over all inputs of a reader
THIRD_PARTY = ("aedat4",)  # a decoder that is not ours; it may abort, and has its own guard and tests

SAMPLES = {
    "aedat2": "aedat2_dvs128_poker.aedat",
    "atis": "bin_nmnist.bin",
    "dat": "dat_ncars_car.dat",
    "es": "es_dvs.es",
    "evt2": "evt2_640x480_spinner.raw",
    "evt3": "evt3_1280x720_driving.raw",
    "text": "slider_depth/events.txt",
}


def small_stream() -> EventStream:
    rng = np.random.default_rng(1)
    t, x, y = np.sort(rng.integers(0, 50_000, 300)), rng.integers(0, 34, 300), rng.integers(0, 34, 300)
    return EventStream.from_columns(t, x, y, rng.random(300) < 0.5, sensor_size=(34, 34))


def made_evt21(path: Path) -> None:
    words = np.array([8 << 60 | 5 << 32, 1 << 60 | 3 << 43 | 4 << 32 | 0xF0F] * 40, "<u8")
    path.write_bytes(b"% evt 2.1\n% geometry 640x480\n% end\n" + words.tobytes())


def made_aedat2(path: Path) -> None:
    records = np.array([[(y << 8) | (x << 1), t] for t, (x, y) in enumerate([(3, 4), (5, 6)] * 40)], ">u4")
    path.write_bytes(b"#!AER-DAT2.0\r\n# DVS128\r\n" + records.tobytes())


def made_aedat3(path: Path) -> None:
    header = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    packets = b""
    for overflow in (1, 1, 1):
        events = np.array([[x << 17 | 5 << 2 | 3, 100 * x] for x in range(20)], "<u4")
        packets += struct.pack("<hhiiiiii", 1, 1, 8, 4, overflow, 20, 20, 20) + events.tobytes()
    path.write_bytes(header + packets)


def made_npy(path: Path) -> None:
    stream = small_stream()
    columns = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")]
    records = np.empty(len(stream), columns)
    for name, _ in columns:
        records[name] = getattr(stream, name)
    np.save(path, records)


def made_mat(path: Path) -> None:
    from scipy.io import savemat

    stream = small_stream()
    savemat(path, {"events": np.stack([stream.x, stream.y, 2 * stream.p - 1, stream.t], 1).astype(float)})


def made_mvsec(path: Path) -> None:
    import h5py

    stream = small_stream()
    with h5py.File(path, "w") as file:
        table = np.stack([stream.x, stream.y, stream.t / 1e6, 2.0 * stream.p - 1], 1)
        file["davis/left/events"] = table


def made_es(path: Path) -> None:
    events = b"".join(bytes([2 * (i % 120) + i % 2, i % 34, 0, i % 30, 0]) for i in range(300))
    path.write_bytes(b"Event Stream\x02\x00\x00\x01" + struct.pack("<2H", 34, 34) + b"\xff" + events)


MADE = {
    "evt21": made_evt21,
    "aedat2": made_aedat2,
    "aedat3": made_aedat3,
    "es": made_es,
    "npy": made_npy,
    "mat": made_mat,
    "mvsec": made_mvsec,
}


def seeds(form: str, path: Path) -> list[bytes]:
    """Files to start from: a whole one of ours, and the first 6 kB of a real one where there is one."""
    if form in MADE:
        MADE[form](path)
    else:
        write_events(path, small_stream(), format=form)
    assert exercise(form, path), "the unharmed file cannot be read: nothing would be fuzzed"
    found = [path.read_bytes()]
    real = Path(os.environ.get("EVLIFT_DATA", "/nowhere")) / "recordings" / SAMPLES.get(form, "none")
    if real.is_file():
        found.append(real.read_bytes()[:6000])
    return found


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


def fuzz(form: str, folder: Path) -> None:
    """All inputs of a reader; the end, good or bad, is told in `folder`/result."""
    reader: Any = READERS[form]
    path = folder / f"input{reader.extensions[0]}"
    starts = seeds(form, path)
    rng = np.random.default_rng(20_240_601)
    signal.signal(signal.SIGALRM, too_slow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, whole = time.perf_counter(), 0
    for number in range(INPUTS):
        path.write_bytes(mutated(starts[number % len(starts)], rng))
        (folder / "result").write_text(f"died of input {number}, kept as {path}")
        signal.alarm(SECONDS_AN_INPUT)
        whole += exercise(form, path)
    signal.alarm(0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < GROWTH_KIB, f"the process grew by {grown >> 10} MiB"
    taken = time.perf_counter() - started
    sys.stderr.write(f"{form}: {INPUTS} inputs, {whole} read, {taken:.1f} s, +{grown >> 10} MiB\n")
    (folder / "result").write_text("good")


def fuzz_and_tell(form: str, folder: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fuzz(form, folder)
    except BaseException:
        told = (folder / "result").read_text() if (folder / "result").exists() else "before the first input"
        (folder / "result").write_text(f"{told}\n{traceback.format_exc()}")


@pytest.mark.parametrize("form", sorted(set(READERS) - set(THIRD_PARTY)))
def test_damaged_files_never_crash_hang_or_swallow_memory(form: str, tmp_path: Path) -> None:
    """In a process of its own, so that a crash inside a library fails one test and not the run."""
    child = multiprocessing.get_context("fork").Process(target=fuzz_and_tell, args=(form, tmp_path))
    child.start()
    child.join()
    assert (tmp_path / "result").read_text() == "good"
    assert child.exitcode == 0
