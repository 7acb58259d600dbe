"""The same job for many items in several processes, where one bad item harms no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from evlift.errors import ConfigError, EvliftError

T = TypeVar("T")
R = TypeVar("R")


def for_each(
    job: Callable[[T], R], items: Sequence[T], workers: int | None = None
) -> Iterator[tuple[int, R | EvliftError]]:
    """(position, result or error) of every item, in the order in which they are done.

    Example:
        >>> sorted(for_each(abs, [-1, 2], workers=1))
        [(0, 1), (1, 2)]

    An error of one item is handed out, not raised, and so is the end of a process that an item took down.
    Closing the iterator, as an exception in the loop does, ends the processes; each takes its unfinished file along.

    Args:
        job: picklable, as its items and results are, if there are several workers.
        items: what to call it with.
        workers: processes; default: one a core, at most one an item; 1 works in this process.

    Raises:
        ConfigError: fewer than one worker.
    """
    wanted = (os.cpu_count() or 1) if workers is None else workers
    if wanted < 1:
        raise ConfigError(f"Expected at least 1 worker, but got {wanted}.")
    guarded = partial(_outcome, job)
    if min(wanted, len(items)) < 2:
        yield from ((position, guarded(item)) for position, item in enumerate(items))
        return
    left = dict(enumerate(items))
    try:
        for position, result in _pooled(guarded, left, min(wanted, len(items))):
            del left[position]
            yield position, result
    except BrokenProcessPool:  # one of those at work did it: each gets a process of its own
        for position, item in left.items():
            yield position, _alone(guarded, item)


def _outcome(job: Callable[[T], R], item: T) -> R | EvliftError:
    """The result, or the error as one that can be sent to another process."""
    try:
        return job(item)
    except EvliftError as error:
        return error
    except Exception as error:  # a defect or the system: it concerns this item alone
        return EvliftError(f"{type(error).__name__}: {error}")


def _pooled(job: Callable[[T], R], items: dict[int, T], workers: int) -> Iterator[tuple[int, R]]:
    with _pool(workers) as pool:
        futures: dict[Future[R], int] = {
            pool.submit(_in_worker, job, item): position for position, item in items.items()
        }
        for future in as_completed(futures):
            yield futures[future], future.result()


def _alone(job: Callable[[T], R], item: T) -> R | EvliftError:
    try:
        return next(_pooled(job, {0: item}, 1))[1]
    except BrokenProcessPool:
        return EvliftError("The process that worked on it died. Was its memory full, or is the file broken?")


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that go when the block is left by an exception, and when this process goes."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


class _Stopped(BaseException):
    """SIGTERM came while a job ran: its files are cleaned up on the way out."""


_state: dict[str, Any] = {"busy": False}


def _prepare_worker() -> None:
    """Ctrl-C is the parent's business; the worker ends with it, whatever ended it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _on_sigterm)
    threading.Thread(target=_go_with_parent, daemon=True).start()


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if _state["busy"]:
        raise _Stopped
    os._exit(1)


def _go_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_worker(job: Callable[[T], R], item: T) -> R:
    _state["busy"] = True
    try:
        return job(item)
    except _Stopped:
        os._exit(1)
    finally:
        _state["busy"] = False
