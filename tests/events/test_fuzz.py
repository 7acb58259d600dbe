"""Mutated and cut files: every reader of ours ends with events, a warning or an `EvliftError`, and soon.

EVLIFT_FUZZ sets the number of inputs a reader (default 300; 10 000 is the full run).
"""

from __future__ import annotations

import io
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
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from evlift.errors import EvliftError
from evlift.events import READERS, EventStream, open_reader, write_events

INPUTS = int(os.environ.get("EVLIFT_FUZZ", "300"))
SECONDS_AN_INPUT = 5  # of the processor: a busy machine is no hang
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


def table(order: str = "txyp", time: float = 1.0) -> np.ndarray:
    """The small stream as float64 [n, 4]."""
    columns = {name: getattr(small_stream(), name).astype(float) for name in "txyp"}
    columns["t"] *= time
    return np.stack([columns[name] for name in order], axis=1)


def made_npy_table(path: Path) -> None:
    np.save(path, table("xytp", 1e-6))


def made_npz(path: Path) -> None:
    write_events(path, small_stream(), format="npz")


def made_npz_table(path: Path) -> None:
    np.savez(path, events=table())


def made_mat(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"events": table("xypt")})


def made_mat_compressed(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"events": table("xypt")}, do_compression=True)


def made_mat73(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("events", data=table("xypt").T, chunks=(4, 64), compression="gzip", shuffle=True)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def made_dsec(path: Path) -> None:
    write_events(path, small_stream(), format="dsec")


def made_dsec_as_published(path: Path) -> None:
    import h5py
    import hdf5plugin

    stream = small_stream()
    with h5py.File(path, "w") as file:
        for name, kind in (("t", "u4"), ("x", "u2"), ("y", "u2"), ("p", "u1")):
            file.create_dataset(
                f"events/{name}",
                data=getattr(stream, name).astype(kind),
                chunks=(64,),
                compression=hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE),
            )
        file["ms_to_idx"] = np.searchsorted(stream.t, np.arange(0, 52_000, 1000)).astype("u8")
        file["t_offset"] = np.int64(10**12)


def made_mvsec(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["davis/left/events"] = table("xytp", 1e-6)


def made_mvsec_in_chunks(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("davis/left/events", data=table("xytp", 1e-6), chunks=(50, 4), compression="lzf")


def made_es(path: Path) -> None:
    events = b"".join(bytes([2 * (i % 120) + i % 2, i % 34, 0, i % 30, 0]) for i in range(300))
    path.write_bytes(b"Event Stream\x02\x00\x00\x01" + struct.pack("<2H", 34, 34) + b"\xff" + events)


MADE = {
    "evt21": (made_evt21,),
    "aedat2": (made_aedat2,),
    "aedat3": (made_aedat3,),
    "dsec": (made_dsec, made_dsec_as_published),
    "es": (made_es,),
    "npy": (made_npy, made_npy_table),
    "npz": (made_npz, made_npz_table),
    "mat": (made_mat, made_mat_compressed, made_mat73),
    "mvsec": (made_mvsec, made_mvsec_in_chunks),
}


def seeds(form: str, path: Path) -> list[bytes]:
    """Files to start from: whole ones that were made, and the first 6 kB of a real one where there is one."""
    found = []
    for make in MADE.get(form, (lambda path: write_events(path, small_stream(), format=form),)):
        make(path)
        assert exercise(form, path), "the unharmed file cannot be read: nothing would be fuzzed"
        found.append(path.read_bytes())
    real = Path(os.environ.get("EVLIFT_DATA", "/nowhere")) / "recordings" / SAMPLES.get(form, "none")
    if real.is_file():
        found.append(real.read_bytes()[:6000])
    return found


def damaged(form: str, content: bytes, rng: np.random.Generator) -> bytes:
    """Mutated content; three npz in four are mutated below their checksums, which would hide nearly all else."""
    return repacked(content, rng) if form == "npz" and rng.random() < 0.75 else mutated(content, rng)


def repacked(content: bytes, rng: np.random.Generator) -> bytes:
    """The archive with one of its members mutated and the right checksums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        chosen = int(rng.integers(0, len(old.namelist())))
        for number, name in enumerate(old.namelist()):
            member = old.read(name)
            new.writestr(name, mutated(member, rng) if number == chosen else member)
    return out.getvalue()


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes replaced, bits flipped, pieces doubled, zeroed or cut out, numbers made huge, the end cut.

    Half of all inputs have a single harm: more of them hide each other behind the first that is refused.
    """
    data = bytearray(content)
    for _ in range(min(int(rng.geometric(0.5)), 6)):
        if not data:
            break
        at = int(rng.integers(0, len(data)))
        if rng.random() < 0.3:
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
        reader.read(5_000, 20_000)
    except EvliftError:
        return False
    return True


def fuzz(form: str, folder: Path) -> None:
    """All inputs of a reader; the end, good or bad, is told in `folder`/result."""
    reader: Any = READERS[form]
    path = folder / f"input{reader.extensions[0]}"
    starts = seeds(form, path)
    rng = np.random.default_rng(20_240_601)
    signal.signal(signal.SIGPROF, too_slow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, whole = time.perf_counter(), 0
    for number in range(INPUTS):
        path.write_bytes(damaged(form, starts[number % len(starts)], rng))
        (folder / "result").write_text(f"died of input {number}, kept as {path}")
        signal.setitimer(signal.ITIMER_PROF, SECONDS_AN_INPUT)
        whole += exercise(form, path)
    signal.setitimer(signal.ITIMER_PROF, 0)
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
    child.join(300 + INPUTS * 0.2)
    if child.is_alive():  # a compiled loop does not hear the alarm
        child.kill()
        child.join()
    assert (tmp_path / "result").read_text() == "good"
    assert child.exitcode == 0
