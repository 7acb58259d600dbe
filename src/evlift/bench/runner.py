"""Runs in processes of their own, some at a time, until all are done or the time is spent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Generic, Protocol, TypeVar

from evlift.bench.worker import LOG, STOPPED

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
PATIENCE = 60.0  # seconds in which a stopped process must have written its checkpoint


class Work(Protocol):
    """A piece of work for a process of its own: `python -m MODULE FOLDER`."""

    @property
    def module(self) -> str:
        """What the process runs."""

    @property
    def folder(self) -> Path:
        """What it is told, and where its log lies."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""

    def prepare(self) -> None:
        """Write what the process reads."""

    def fail(self, code: int) -> str:
        """Note that the process failed; returns what it said last."""


J = TypeVar("J", bound=Work)


J_watched = TypeVar("J_watched", bound=Work, contravariant=True)


class Board(Protocol[J_watched]):
    """Who watches: told of every run that ends, and asked to draw now and then."""

    def ended(self, job: J_watched, said: str) -> None:
        """A run is done, has failed or was stopped."""

    def draw(self, running: Sequence[J_watched], waiting: int) -> None:
        """Time passes."""


@dataclass
class Outcome(Generic[J]):
    """What a session of work came to."""

    done: list[J] = field(default_factory=list)
    failed: list[tuple[J, str]] = field(default_factory=list)
    left: list[J] = field(default_factory=list)
    interrupted: bool = False


@dataclass
class Running(Generic[J]):
    """A process, and the log that it writes."""

    job: J
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    started: float = field(default_factory=time.monotonic)


class Runner(Generic[J]):
    """Works through jobs with some processes at a time, each with one thread.

    Args:
        workers: processes at a time.
        seconds: after which no run is started any more and those that run are stopped, with a checkpoint.
        board: who watches.
        pause: seconds between two looks at the processes.
        keep: called with every job that is done, to keep its figures.
    """

    def __init__(
        self,
        workers: int,
        board: Board[J],
        *,
        seconds: float = float("inf"),
        pause: float = 0.2,
        keep: Callable[[J], None] | None = None,
    ) -> None:
        self.workers, self.board, self.pause, self.keep = workers, board, pause, keep
        self.deadline = time.monotonic() + seconds
        self.running: list[Running[J]] = []
        self.stopping = False

    def run(self, jobs: Sequence[J]) -> Outcome[J]:
        """Run the jobs; ctrl-C and the deadline stop all processes, which leave checkpoints."""
        outcome: Outcome[J] = Outcome(left=list(jobs))
        try:
            while (outcome.left or self.running) and time.monotonic() < self.deadline:
                self._reap(outcome)
                while outcome.left and len(self.running) < self.workers:
                    self.running.append(launch(outcome.left.pop(0)))
                self.board.draw([one.job for one in self.running], len(outcome.left))
                time.sleep(self.pause)
        except KeyboardInterrupt:
            outcome.interrupted = True
        finally:
            self._stop(outcome)
        return outcome

    def _reap(self, outcome: Outcome[J]) -> None:
        """Take leave of the processes that have ended."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(one)
            one.log.close()
            code = one.process.returncode
            if code == 0 and one.job.done:
                outcome.done.append(one.job)
                if self.keep:
                    self.keep(one.job)
                self.board.ended(one.job, f"done in {time.monotonic() - one.started:.0f} s")
            elif code == STOPPED or self.stopping:
                outcome.left.append(one.job)
                self.board.ended(one.job, "stopped")
            else:
                outcome.failed.append((one.job, one.job.fail(code)))
                self.board.ended(one.job, f"failed: {outcome.failed[-1][1]}")

    def _stop(self, outcome: Outcome[J]) -> None:
        """Ask the processes to write their checkpoints and leave; end those that do not."""
        self.stopping, limit = True, time.monotonic() + PATIENCE
        for send in (signal.SIGINT, signal.SIGKILL):
            for one in self.running:
                one.process.send_signal(send)
            try:
                self._wait(outcome, limit)
            except KeyboardInterrupt:
                outcome.interrupted = True
        for one in self.running:
            one.process.wait()
        self._reap(outcome)

    def _wait(self, outcome: Outcome[J], limit: float) -> None:
        while self.running and time.monotonic() < limit:
            self._reap(outcome)
            time.sleep(self.pause)


def launch(job: J) -> Running[J]:
    """Start the process of a job, in a session of its own: ctrl-C reaches it through the runner alone."""
    job.prepare()
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    log = open(job.folder / LOG, "ab")  # noqa: SIM115 (closed when the process has ended)
    command = [sys.executable, "-m", job.module, str(job.folder)]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    return Running(job, process, log)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
