"""The progress bar of a training, for terminals and logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class TrainingBar:
    """A progress bar with rate, time left and the latest scalars; gives the function to report to."""

    def __init__(self, console: Console, name: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
        )
        self._task = self._bar.add_task(name, total=None, rate="", said="")
        self._said: dict[str, float] = {}

    def __enter__(self) -> Callable[[int, int, dict[str, float]], None]:
        self._bar.start()
        return self._report

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def _report(self, done: int, total: int, values: dict[str, float]) -> None:
        self._said |= {name: value for name, value in values.items() if name in ("loss", "val")}
        said = " ".join(f"{name} {value:.3f}" for name, value in self._said.items())
        speed = self._bar.tasks[0].speed
        rate = f"{speed:.1f} steps/s" if speed else ""
        self._bar.update(self._task, completed=done, total=total, said=said, rate=rate)
