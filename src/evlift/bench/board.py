"""What is shown while a suite runs: a live table on a terminal, a line for every finished run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from evlift.bench.checks import ADAPTED
from evlift.bench.jobs import Job
from evlift.bench.results import Results
from evlift.bench.suite import Suite
from evlift.bench.tables import score_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

REFRESH = 1.0  # seconds


class Board:
    """Shows where a suite stands; a context manager around the work."""

    def __init__(self, console: Console, suite: Suite, jobs: Sequence[Job]) -> None:
        from rich.live import Live

        self.console, self.suite, self.jobs = console, suite, jobs
        self.results = Results.read(suite, jobs)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._drawn = 0.0

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def ended(self, job: Job, said: str) -> None:
        """Say what became of a run."""
        self.results = Results.read(self.suite, self.jobs)
        found = job.result().get("judged", {})
        scores = ", ".join(f"{name.removeprefix('val/')} {one['score']:.3f}" for name, one in found.items())
        done = sum(one.done for one in self.jobs)
        line = f"{time.strftime('%H:%M:%S')} {job}: {said}" + (f"; {scores}" if scores else "")
        self.console.print(
            f"{line} [{done} of {len(self.jobs)}]", markup=False, highlight=False, soft_wrap=True
        )

    def draw(self, running: Sequence[Job], waiting: int) -> None:
        """Draw the live table, now and then."""
        if self._live and time.monotonic() - self._drawn > REFRESH:
            self._drawn = time.monotonic()
            self._live.update(self._shown(running, waiting), refresh=True)

    def _shown(self, running: Sequence[Job], waiting: int) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        now = [Text(f"▸ {job}: {job.now}") for job in running]
        return Group(self._table(), *now, Text(f"{waiting} waiting; ctrl-C stops with checkpoints"))

    def _table(self) -> Table:
        from rich.table import Table

        judge = self.suite.judges[0]
        table = Table(title=f"{self.suite.title}: {judge.name}", title_justify="left")
        table.add_column("row")
        for column in self.suite.columns:
            table.add_column(column.name)
        for row, adapted in self.suite.lines:
            line = row.name + (ADAPTED if adapted else "")
            values = [self.results.value(line, column.name, judge.name) for column in self.suite.columns]
            table.add_row(line, *(score_text(value) for value in values))
        return table
