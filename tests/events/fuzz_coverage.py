"""Coverage-guided fuzzing of our own readers with atheris: `make fuzz-coverage`, SECONDS=600 for each reader.

The parent gives each reader a process in which the compiled kernels are plain Python, so that libFuzzer sees their
branches; libFuzzer keeps what reaches new code in `build/fuzz/READER`. What it finds (an exception that is no
`EvliftError`, a hang, memory beyond the limit) and all that it kept is then replayed with the kernels compiled.

    python tests/events/fuzz_coverage.py evt3 dsec --seconds 60
    python tests/events/fuzz_coverage.py --keep            # small inputs that cover most, for tests/data/fuzz
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
WORK = ROOT / "build" / "fuzz"
KEPT = ROOT / "tests" / "data" / "fuzz"
SECONDS_AN_INPUT, MEGABYTES = 20, 3000
RECORDS = ("aedat2", "aedat3", "atis", "dat", "es", "evt2", "evt21", "evt3", "text")  # may be cut anywhere
SEED_BYTES = 1200
KEPT_BYTES, KEPT_INPUTS, KEPT_A_READER = 3000, 12, 45_000
LARGE = {
    "dsec": 25_000,
    "mvsec": 25_000,
}  # the smallest whole HDF5 files are of this size: two of each are kept


def main() -> int:
    """Fuzz every reader that is named, all by default; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--seconds", type=int, default=600, help="for each reader (default: %(default)s)")
    parser.add_argument("--child", choices=("fuzz", "replay"), help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="choose inputs for tests/data/fuzz; fuzz nothing")
    options = parser.parse_args()
    if options.child == "fuzz":
        return fuzz(options.readers[0], options.seconds)
    if options.child == "replay":
        return replay(options.readers[0])
    from fuzz_inputs import OWN

    found = 0
    for form in options.readers or OWN:
        if options.keep:
            keep(form)
            continue
        found += guarded(form, options.seconds)
    return 1 if found else 0


def guarded(form: str, seconds: int) -> int:
    """Fuzz a reader and replay its corpus, both in processes of their own; how many of the two went wrong."""
    from fuzz_inputs import seeds

    corpus = WORK / form
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fuzz_inputs import input_path

        for number, content in enumerate(seeds(form, input_path(form, Path(folder)))):
            (corpus / f"seed-{number}").write_bytes(content[:SEED_BYTES] if form in RECORDS else content)
    started = time.perf_counter()
    log = WORK / f"{form}.log"
    with log.open("wb") as out:
        command = [sys.executable, str(HERE), form, "--seconds", str(seconds), "--child"]
        plain = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
        fuzzed = subprocess.run([*command, "fuzz"], env=plain, stdout=out, stderr=out).returncode
        replayed = subprocess.run([*command, "replay"], stdout=out, stderr=out).returncode
    said = log.read_text(errors="replace")
    covered = re.findall(r"cov: (\d+)", said)[-1:] or ["?"]
    inputs = re.findall(r"^#(\d+)\s", said, re.MULTILINE)[-1:] or ["?"]
    state = "ok" if fuzzed == replayed == 0 else f"FOUND (fuzz {fuzzed}, replay {replayed}): {log}"
    taken = time.perf_counter() - started
    sys.stdout.write(
        f"{form:8} {inputs[0]:>8} inputs  {covered[0]:>5} edges  {len(list(corpus.iterdir())):>5} kept  "
        f"{taken:6.0f} s  {state}\n"
    )
    sys.stdout.flush()
    return (fuzzed != 0) + (replayed != 0)


def fuzz(form: str, seconds: int) -> int:
    """Run libFuzzer on one reader; does not come back from a find."""
    import atheris

    with atheris.instrument_imports(include=["evlift.events", "evlift.kernels"]):
        import evlift.events.readers
        import evlift.kernels.aedat
        import evlift.kernels.decode
        import evlift.kernels.text  # noqa: F401
    from fuzz_inputs import exercise, input_path

    warnings.simplefilter("ignore")
    folder = tempfile.mkdtemp(prefix="evlift-fuzz-")
    path = input_path(form, Path(folder))

    def one_input(data: bytes) -> None:
        path.write_bytes(data)
        exercise(form, path)

    corpus = WORK / form
    longest = max(file.stat().st_size for file in corpus.glob("seed-*"))
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={seconds}",
        f"-timeout={SECONDS_AN_INPUT}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-max_len={max(4096, longest)}",
        f"-artifact_prefix={WORK / form}-",
        "-print_final_stats=1",
    ]
    more = {"custom_mutator": mutate_member} if form == "npz" else {}
    atheris.Setup(arguments, one_input, **more)
    atheris.Fuzz()
    return 0


def mutate_member(data: bytes, size: int, seed: int) -> bytes:
    """Below the checksums of a zip archive, three times in four: they would hide nearly everything."""
    import atheris

    try:
        with zipfile.ZipFile(BytesIO(data)) as old:
            members = {name: old.read(name) for name in old.namelist()}
    except Exception:  # whatever a broken archive leads the module to
        members = {}
    if not members or seed % 4 == 0:
        return atheris.Mutate(data, size)
    chosen = list(members)[seed % len(members)]
    members[chosen] = atheris.Mutate(members[chosen], max(len(members[chosen]), 64))
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return out.getvalue()[:size]


def replay(form: str) -> int:
    """All inputs of a reader, finds included, with compiled kernels."""
    from fuzz_inputs import exercise, input_path

    warnings.simplefilter("ignore")
    finds = [path for path in WORK.glob(f"{form}-*") if path.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        path = input_path(form, Path(folder))
        for file in [*sorted((WORK / form).iterdir()), *finds]:
            path.write_bytes(file.read_bytes())
            sys.stderr.write(f"replay {file}\n")
            exercise(form, path)
    return 0


def keep(form: str) -> None:
    """Copy inputs that reached new code to tests/data/fuzz: finds first, then the latest of the small ones."""
    folder = KEPT / form
    folder.mkdir(parents=True, exist_ok=True)
    most, inputs, room = LARGE.get(form, KEPT_BYTES), 2 if form in LARGE else KEPT_INPUTS, KEPT_A_READER
    finds = [file for file in WORK.glob(f"{form}-*") if file.is_file()]
    found = sorted((WORK / form).iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in [*finds, *(file for file in found if not file.name.startswith("seed"))]:
        size = file.stat().st_size
        if inputs and size <= most and size <= room:
            (folder / file.name.rpartition("-")[2][:12]).write_bytes(file.read_bytes())
            inputs, room = inputs - 1, room - size


if __name__ == "__main__":
    sys.exit(main())
