"""Bytes of a recording that is still being made: a pipe, or a file that grows."""

from __future__ import annotations

import contextlib
import io
import os
import select
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

from evlift.errors import FormatError

POLL_S = 0.05  # between two looks at whether to stop, and at a file that has not grown
PIPE_BYTES = 2**20  # asked of the system for a pipe: fewer, larger reads; it holds what is not read yet


class LiveBytes(io.RawIOBase):
    """Bytes as they come, and when they came.

    Attributes:
        waited_s: time spent waiting for bytes that were not there.
        arrived: `time.perf_counter()` when the latest bytes were there.
        ended: why there are no more, empty before the end.
    """

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.arrived = time.perf_counter()
        self.ended = ""
        self._stopped = False

    def stop(self) -> None:
        """End the stream at the next read; safe in a signal handler."""
        self._stopped = True

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for bytes and take as many as fit; 0 at the end."""
        if self.ended:
            return 0
        asked = time.perf_counter()
        reason = self._wait()
        self.arrived = time.perf_counter()
        self.waited_s += self.arrived - asked
        got = 0 if reason else self._take(buffer)
        if not got:
            self.ended = reason or "the stream ended"
        return got

    @abstractmethod
    def _wait(self) -> str:
        """Wait until bytes, or the end, can be read; or the reason why there will be none."""

    @abstractmethod
    def _take(self, buffer: Any) -> int:
        """Read once without waiting; 0 at the end."""


class PipeBytes(LiveBytes):
    """Standard input, a named pipe or any binary stream.

    Whoever writes faster than windows are processed waits in its own write: nothing is dropped here, and no more is
    held than the pipe's buffer and one window.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._fd: int | None = None
        with contextlib.suppress(OSError, AttributeError, ValueError):  # streams in memory have none
            self._fd = stream.fileno()
        if self._fd is not None:
            _widen(self._fd)
            with contextlib.suppress(OSError, ValueError):  # what Python read ahead in a file is read again
                os.lseek(self._fd, stream.tell(), os.SEEK_SET)
        self._poll = None
        if self._fd is not None and hasattr(select, "poll"):  # not on Windows, where ctrl-C interrupts a read
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLIN)

    def _wait(self) -> str:
        while not self._stopped:
            if self._poll is None or self._poll.poll(POLL_S * 1000):
                return "stopped" if self._stopped else ""
        return "stopped"

    def _take(self, buffer: Any) -> int:
        if self._fd is not None and hasattr(os, "readv"):
            return os.readv(self._fd, [buffer])
        read = getattr(self._stream, "read1", self._stream.read)
        data = read(len(buffer)) or b""
        buffer[: len(data)] = data
        return len(data)


class FollowedFile(LiveBytes):
    """A file that someone appends to; it ends when it has not grown for `idle_s`, when it is replaced, or on stop.

    Args:
        path: need not exist yet.
        idle_s: longest wait for growth, and for the file to appear.

    Raises:
        FormatError: while reading, if the file gets shorter, or if it never appears.
    """

    def __init__(self, path: Path, idle_s: float) -> None:
        super().__init__()
        self.path, self.idle_s = path, idle_s
        self._file: io.FileIO | None = None
        self._inode = 0

    def _wait(self) -> str:
        began = time.monotonic()
        while not self._has_more():
            if self._stopped:
                return "stopped"
            if time.monotonic() - began >= self.idle_s:
                return self._idle()
            if self._is_replaced():
                return f"{self.path} was removed or replaced"
            time.sleep(min(POLL_S, self.idle_s))
        return "stopped" if self._stopped else ""

    def _has_more(self) -> bool:
        if self._file is None:
            with contextlib.suppress(FileNotFoundError):
                self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 (closed in close)
                self._inode = os.fstat(self._file.fileno()).st_ino
        if self._file is None:
            return False
        size, position = os.fstat(self._file.fileno()).st_size, self._file.tell()
        if size < position:
            raise FormatError(
                f"Expected {self.path} to grow, but it was cut from {position} to {size} bytes while it was "
                "followed. Follow the new recording with a new command."
            )
        return size > position

    def _is_replaced(self) -> bool:
        if self._file is None:
            return False
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def _idle(self) -> str:
        if self._file is None:
            raise FormatError(
                f"Expected a recording at '{self.path}', but no such file appeared within {self.idle_s:g} s."
            )
        return f"{self.path} has not grown for {self.idle_s:g} s"

    def _take(self, buffer: Any) -> int:
        return 0 if self._file is None else self._file.readinto(buffer)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        super().close()


def _widen(fd: int) -> None:
    """Ask for a larger pipe buffer where the system has such a call."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
