"""Writer for NumPy's npz archives."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from evlift.events.stream import EventStream
from evlift.events.writers.base import WRITERS, Writer

COLUMNS = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "|b1"}


@WRITERS.register("npz")
class NpzWriter(Writer):
    """Writes arrays t (int64 µs), x, y (uint16), p (bool), each [n], and sensor_size (H, W); deflated.

    Columns wait in temporary files until the number of events is known, so that memory stays constant.
    """

    format = "npz"
    extensions = (".npz",)

    def __init__(self, path: Path, sensor_size: tuple[int, int]) -> None:
        super().__init__(path, sensor_size)
        # no context manager: they live until `close`
        self._columns: dict[str, IO[bytes]] = {name: tempfile.TemporaryFile() for name in COLUMNS}  # noqa: SIM115
        self._count = 0

    def _write(self, block: EventStream) -> None:
        for name, dtype in COLUMNS.items():
            self._columns[name].write(getattr(block, name).astype(dtype, copy=False).tobytes())
        self._count += len(block)

    def close(self) -> None:
        """Move the columns into the archive."""
        if not self._columns:
            return
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            for name, column in self._columns.items():
                header = {"descr": COLUMNS[name], "fortran_order": False, "shape": (self._count,)}
                column.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member, column:
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(column, member, 2**20)
            with archive.open("sensor_size.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self.sensor_size, np.int64))
        self._columns = {}
