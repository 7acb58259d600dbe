"""Several processes at one training, as torchrun starts them: who does what, and how all of them end together.

Every process runs the same program on the same batch; :mod:`evlift.engine.sharing` has each compute its rows alone.
Process 0 writes and judges for all.
"""

from __future__ import annotations

import atexit
import copy
import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from evlift.errors import ConfigError, EvliftError

Result = TypeVar("Result")
PATIENCE = timedelta(minutes=30)  # one that waits so long for another gives up
CPU = torch.device("cpu")


class LostProcessError(EvliftError):
    """Another process of the training is gone, or cannot be reached."""


class Crew:
    """The processes of one training; alone, it exchanges nothing.

    Example:
        >>> crew = Crew()  # alone
        >>> crew.rows(8), crew.first(lambda: "written"), crew.together(lambda: "made")
        (range(0, 8), 'written', 'made')

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        store: what they share beside their messages; None where there is one process.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        self.rank, self.size, self._store = rank, size, store
        self.device = CPU if size == 1 or not torch.cuda.is_available() else _own_gpu()
        self._wish: BaseException | None = None
        self._lost = False

    @property
    def leads(self) -> bool:
        """This is the process that writes, judges and speaks for all."""
        return self.rank == 0

    def rows(self, count: int, rank: int | None = None) -> range:
        """Which of `count` rows are this process's, or those of process `rank`."""
        rank = self.rank if rank is None else rank
        each, more = divmod(count, self.size)
        start = rank * each + min(rank, more)
        return range(start, start + each + (rank < more))

    def first(self, work: Callable[..., Result], *given: Any) -> Result:
        """What process 0 does for all: its result, or its error, becomes everyone's."""
        if self.size == 1:
            return work(*given)
        result, error = _tried(work, *given) if self.leads else (None, None)
        result, said = self._told((result, _portable(error)), 0)
        if said is not None:
            raise error or said
        return result

    def together(self, work: Callable[..., Result], *given: Any) -> Result:
        """What every process does its own part of: where one fails or was asked to stop, all do, for its reason."""
        if self.size == 1:
            return work(*given)
        result, error = (None, self._wish) if self._wish else _tried(work, *given)
        failing = torch.tensor(self.size if error is None else self.rank)
        with self._link():
            dist.all_reduce(failing, dist.ReduceOp.MIN)
        if int(failing) == self.size:
            return result  # type: ignore[return-value]
        said = self._told(_portable(error), int(failing))
        raise error if error is not None and int(failing) == self.rank else said

    def ask_to_stop(self, wish: KeyboardInterrupt) -> None:
        """Stop: alone at once, else all at the next :meth:`together`."""
        if self.size == 1:
            raise wish
        self._wish = wish

    def check_same(self, what: str, mine: object) -> None:
        """Raise ConfigError in all processes unless they agree with process 0."""

        def compare() -> None:
            if mine != theirs:
                raise ConfigError(
                    f"Expected {what} to be the same in all processes, but process {self.rank} has {mine} and "
                    f"process 0 {theirs}. Give all machines the same files and versions."
                )

        theirs = self.first(lambda: mine)
        self.together(compare)

    def gather(self, own: Tensor, count: int) -> Tensor:
        """The rows of all processes: [own rows, ...] → [count, ...]; no gradient."""
        most = len(self.rows(count, 0))
        if len(own) < most:
            own = torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])
        found = own.new_empty(self.size * most, *own.shape[1:])
        with self._link():
            dist.all_gather_single(found, own.contiguous())
        if count == len(found):
            return found
        parts = zip(found.split(most), range(self.size), strict=True)
        return torch.cat([part[: len(self.rows(count, rank))] for part, rank in parts])

    def sum(self, own: Tensor) -> Tensor:
        """`own` becomes the sum over all processes, in place."""
        with self._link():
            dist.all_reduce(own)
        return own

    @contextmanager
    def one_voice(self) -> Iterator[None]:
        """What ends the block is said by one process: the others mark it as said, by its attribute `said`."""
        try:
            yield
        except (EvliftError, OSError, KeyboardInterrupt) as error:
            error.said = not self._speaks(error)  # type: ignore[union-attr]
            raise

    def _speaks(self, error: BaseException) -> bool:
        """Process 0; of those that are left where one was lost, whichever comes first."""
        if not isinstance(error, LostProcessError) or self._store is None:
            return self.leads
        try:
            return self._store.add("evlift/said", 1) == 1
        except RuntimeError:  # it was kept by the process that was lost
            return True

    def _told(self, content: Any, source: int) -> Any:
        """What process `source` says."""
        said = [content]
        with self._link():
            dist.broadcast_object_list(said, src=source, device=CPU)
        return said[0]

    @contextmanager
    def _link(self) -> Iterator[None]:
        """Say in our words that another process does not answer."""
        try:
            yield
        except RuntimeError as error:
            self._lost = True
            reason = re.sub(r"^\[\S+\] ", "", str(error).strip()).partition(". ")[0][
                :200
            ]  # less torch's source file
            raise LostProcessError(
                f"Another process of this training is gone ({reason}). Give the same command again: it goes on from "
                "the last checkpoint."
            ) from error

    def leave(self) -> None:
        """Close the connections, in good order only if all were there to the end."""
        if not self._lost and dist.is_initialized():
            dist.destroy_process_group()


@functools.cache
def join() -> Crew:
    """This process among those that torchrun started; alone where it did not.

    Raises:
        ConfigError: more processes on this machine than GPUs, where it has any.
        LostProcessError: the others cannot be reached.
    """
    if not several():
        return Crew()
    try:
        store, rank, size = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        crew = Crew(rank, size, store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise LostProcessError(
            f"Expected {os.environ['WORLD_SIZE']} processes that reach each other, but: {error}. Start them with "
            "torchrun."
        ) from error
    atexit.register(crew.leave)
    return crew


def several() -> bool:
    """Whether torchrun started this process among others."""
    needed = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return all(name in os.environ for name in needed) and int(os.environ["WORLD_SIZE"]) > 1


def _own_gpu() -> torch.device:
    """The GPU of this process among those of its machine."""
    local, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= found:
        raise ConfigError(
            f"Expected a GPU for each process, but this machine has {found} and process {local} came. Give torchrun "
            f"--nproc-per-node {found}, or hide the GPUs: CUDA_VISIBLE_DEVICES=''."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _tried(work: Callable[..., Any], *given: Any) -> tuple[Any, BaseException | None]:
    """Result and error of some work, one of them None."""
    try:
        return work(*given), None
    except LostProcessError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        return None, error


def _portable(error: BaseException | None) -> BaseException | None:
    """An error that can be sent to another process."""
    try:
        return copy.deepcopy(error)  # fails where sending it would
    except Exception:  # errors of libraries may hold anything
        return EvliftError(f"{type(error).__name__}: {error}")
