"""A first look at HDF5 files in a process of its own: on some damaged ones libhdf5 takes all memory or never ends.

One process looks at all files of this one, so that a file costs a millisecond and not a start of Python. What it
survives is then opened here.
"""

from __future__ import annotations

import atexit
import os
import select
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from evlift.errors import FormatError

SECONDS, SECONDS_TO_START = 10, 120
GUARD = '''
import resource, sys
import h5py
try:
    import hdf5plugin
except ImportError:
    pass
try:
    with open("/proc/self/statm") as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
except (OSError, ValueError):
    pass  # no Linux: the time is the only limit
print("ready", flush=True)

def peak():
    """KiB. What getrusage calls the peak begins with the size of the process that started this one."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def look(name, thing):
    try:
        dict(thing.attrs)
        if hasattr(thing, "shape"):
            thing.shape, thing.dtype, thing.chunks, thing.external, thing.is_virtual
            thing.id.get_storage_size(), thing.chunks and thing.id.get_num_chunks()
    except Exception:
        pass  # what is needed of it is met again, and told, by the reader

for line in sys.stdin:
    before = peak()
    try:
        with h5py.File(bytes.fromhex(line.strip()), "r") as file:
            look("", file)
            file.visititems(look)
    except Exception:
        pass
    if peak() - before > 2**19:
        sys.exit(1)
    print("seen", flush=True)
'''


class _Guard:
    """The process, started when it is first needed and again after a file ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # a forked process must not talk through its parent's pipes

    def survives(self, path: Path) -> bool:
        with self._lock:
            if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
                self._start()
            if self._ask(path):
                return True
            self._stop()
            return False

    def close(self) -> None:
        """Let the process go, if it is this one's."""
        if self._owner == os.getpid():
            self._stop()

    def _start(self) -> None:
        self._owner = os.getpid()
        command = [sys.executable, "-c", GUARD]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if not self._says(b"ready\n", SECONDS_TO_START):
            raise FormatError("Expected h5py to start in a process of its own, but it does not. Is it whole?")

    def _ask(self, path: Path) -> bool:
        asked: Any = self._process.stdin if self._process else None
        try:
            asked.write(os.fsencode(path).hex().encode() + b"\n")
            asked.flush()
        except BrokenPipeError:
            return False
        return self._says(b"seen\n", SECONDS)

    def _says(self, line: bytes, seconds: int) -> bool:
        answers: Any = self._process.stdout if self._process else None
        ready, _, _ = select.select([answers], [], [], seconds)
        return bool(ready) and answers.readline() == line

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


_GUARD = _Guard()
atexit.register(_GUARD.close)


def look_first(path: Path) -> None:
    """Refuse a file whose structure alone ends a process, or takes it too much memory or time.

    Raises:
        FormatError: it does.
    """
    state = path.stat()
    if sys.platform != "win32" and not _survives(path.resolve(), state.st_size, state.st_mtime_ns):
        raise FormatError(
            f"Expected {path} to be a whole HDF5 file, but looking at its structure ended a process, or took over "
            f"{SECONDS} s or 1 GiB. It is damaged: fetch or record it again."
        )


@lru_cache(maxsize=10_000)
def _survives(path: Path, size: int, mtime_ns: int) -> bool:
    return _GUARD.survives(path)
