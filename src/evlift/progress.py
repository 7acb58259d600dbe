"""Progress bars for terminals and logs, and how a training is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from evlift.errors import Stopped

if TYPE_CHECKING:
    from rich.console import Console

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingBar:
    """A progress bar with rate, time left and the latest scalars; gives the function to report to.

    Ctrl-C and SIGTERM stop a training after the running step, which leaves a checkpoint; a second one at once.

    Args:
        console: where the bar goes.
        name: before it.
        alone: started by hand; torchrun passes each signal on a second time, which then means no more than the first.
    """

    def __init__(self, console: Console, name: str, *, alone: bool = True) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
        )
        self._task = self._bar.add_task(name, total=None, rate="", said="")
        self._said: dict[str, float] = {}
        self._training, self._stop, self._alone = False, 0, alone
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Callable[[int, int, dict[str, float]], None]:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._handlers = {number: signal.signal(number, self._ask_to_stop) for number in SIGNALS}
        self._bar.start()
        return self._report

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if not self._training or (self._stop and self._alone):
            raise Stopped("interrupted", number)
        self._stop = number

    def _report(self, done: int, total: int, values: dict[str, float]) -> None:
        self._training = True
        self._said |= {name: value for name, value in values.items() if name in ("loss", "val")}
        said = " ".join(f"{name} {value:.3f}" for name, value in self._said.items())
        speed = self._bar.tasks[0].speed
        rate = f"{speed:.1f} steps/s" if speed else ""
        self._bar.update(self._task, completed=done, total=total, said=said, rate=rate)
        if self._stop and done < total:
            raise Stopped(
                f"stopped after step {done} of {total}; the same command goes on from there", self._stop
            )


@contextmanager
def stoppable(said: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block as a KeyboardInterrupt that says so: unfinished files go on the way out."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(said)

    here = threading.current_thread() is threading.main_thread()  # Python allows handlers nowhere else
    former = {number: signal.signal(number, stop) for number in SIGNALS} if here else {}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def work_bar(console: Console, name: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar with rate and time left for `(done, total)` of some unit; the total may be unknown."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=None, said="")

        def report(done: int, total: int | None) -> None:
            speed = bar.tasks[0].speed
            rate = f", {speed:.1f} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total, said=f"{done}/{total or '?'}{rate}")

        yield report
