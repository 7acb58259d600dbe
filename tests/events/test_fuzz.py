"""Mutated and cut files: every reader of ours ends with events, a warning or an `EvliftError`, and soon.

EVLIFT_FUZZ sets the number of inputs a reader (default 300; 10 000 is the full run).
"""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
import warnings
import zipfile
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from fuzz_inputs import OWN, exercise, input_path, seeds

INPUTS = int(os.environ.get("EVLIFT_FUZZ", "300"))
SECONDS_AN_INPUT = 5  # of the processor: a busy machine is no hang
GROWTH_KIB = 512 * 1024  # the whole process, over all inputs of a reader


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


def fuzz(form: str, folder: Path) -> None:
    """All inputs of a reader; the end, good or bad, is told in `folder`/result."""
    path = input_path(form, folder)
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


@pytest.mark.parametrize("form", OWN)
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
