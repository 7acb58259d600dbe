"""Several processes on one machine for a test: forked from it, so that nothing is imported again."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

from evlift.engine.distributed import join

PATIENCE = 600.0  # seconds; a crew that takes longer hangs, however busy the machine is


def fork(work: Callable[..., Any], *given: Any, size: int = 2) -> list[Any]:
    """What `work(*given)` returns in each of `size` processes that torchrun might have started.

    A process that raises gives its exception's text, one that dies gives its exit code, negative for a signal.
    """
    context = multiprocessing.get_context("fork")
    port, pipes, processes = free_port(), [], []
    for rank in range(size):
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_member, args=(rank, size, port, send, work, given))
        process.start()
        send.close()
        pipes.append(receive)
        processes.append(process)
    found = []
    for pipe, process in zip(pipes, processes, strict=True):
        try:
            found.append(pipe.recv() if pipe.poll(PATIENCE) else "hangs")
        except EOFError:
            process.join(PATIENCE)
            found.append(process.exitcode)
    for process in processes:
        process.kill()
        process.join()
    return found


def _member(rank: int, size: int, port: int, send: Any, work: Callable[..., Any], given: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    join.cache_clear()  # the parent may have found itself alone
    try:
        send.send(work(*given))
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        send.send(f"{type(error).__name__}: {error}")
    send.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
