"""Writer for text: one event a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evlift.events.stream import EventStream
from evlift.events.writers.base import WRITERS, Writer


@WRITERS.register("text")
class TextWriter(Writer):
    """Writes lines "t x y p", t in µs and p as 0 or 1, below a comment that names columns and sensor size.

    A path that ends in .csv gets a line of names and commas instead.
    """

    format = "text"
    extensions = (".txt", ".csv")

    def __init__(self, path: Path, sensor_size: tuple[int, int]) -> None:
        super().__init__(path, sensor_size)
        height, width = sensor_size
        self._gap = "," if ".csv" in path.suffixes else " "
        self._file = path.open("w", encoding="ascii", newline="\n")
        self._file.write(f"# width={width} height={height}\n")
        self._file.write(
            self._gap.join(("t_us", "x", "y", "p")) + "\n" if self._gap == "," else "# t_us x y p\n"
        )

    def _write(self, block: EventStream) -> None:
        rows = np.stack([block.t, block.x, block.y, block.p], axis=1).astype(np.int64)  # [n, 4]
        line = self._gap.join(["%d"] * 4) + "\n"
        self._file.write(line * len(rows) % tuple(rows.ravel().tolist()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
