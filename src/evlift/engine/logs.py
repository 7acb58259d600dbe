"""The run's log: one CSV always, TensorBoard on demand. A resumed run continues both where its checkpoint stood."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from evlift.errors import DataError
from evlift.extras import extra
from evlift.files import write_text
from evlift.representations.picture import colour

COLUMNS = ("step", "phase", "split", "name", "value")


class RunLog:
    """Rows (step, phase, split, name, value) in ``metrics.csv``: one scalar a row, since methods log different ones.

    Args:
        folder: the run's folder.
        step: rows of later steps are dropped first; they will be computed again.
        tensorboard: write TensorBoard events to ``folder/tensorboard`` as well.
    """

    def __init__(self, folder: Path, *, step: int = 0, tensorboard: bool = False) -> None:
        self.path = folder / "metrics.csv"
        kept = [row for row in read_log(self.path) if row["step"] <= step] if step else []
        text = io.StringIO(newline="")
        csv.writer(text).writerows([COLUMNS, *([row[name] for name in COLUMNS] for row in kept)])
        write_text(self.path, text.getvalue())
        self._file = open(self.path, "a", newline="", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._writer = csv.writer(self._file)
        self._board = _summary_writer(folder / "tensorboard", step) if tensorboard else None

    def scalars(self, step: int, phase: str, split: str, values: dict[str, float]) -> None:
        """Add one row for every value; `step` counts finished optimiser steps of the whole run."""
        try:
            for name, value in values.items():
                self._writer.writerow([step, phase, split, name, repr(float(value))])
                if self._board:
                    self._board.add_scalar(f"{split}/{name}", value, step)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"{self.path} could not be written ({error}). Make room, then give the same command again."
            ) from error

    def clips(self, step: int, name: str, clips: Tensor) -> None:
        """Show the first 8 sequences [B, T, 2, H, W] in TensorBoard, if it is on: one row each, time to the right."""
        if self._board:
            rows = [np.hstack([colour(frame, "light") for frame in clip]) for clip in clips[:8].cpu().numpy()]
            self._board.add_image(name, np.vstack(rows), step, dataformats="HWC")  # [8·H, T·W, 3]

    def close(self) -> None:
        """Flush and close the files."""
        with contextlib.suppress(OSError):  # of a full disk, which has been reported by then
            self._file.close()
        if self._board:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.csv``; lines that were cut or damaged are left out."""
    if not path.is_file():
        return []
    rows = []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            try:
                known = {name: row[name] for name in COLUMNS}
                rows.append({**known, "step": int(row["step"]), "value": float(row["value"])})
            except (KeyError, TypeError, ValueError):
                continue
    return rows


def _summary_writer(folder: Path, step: int) -> Any:
    (writers,) = extra("tensorboard", "torch.utils.tensorboard")
    return writers.SummaryWriter(str(folder), purge_step=step + 1)
