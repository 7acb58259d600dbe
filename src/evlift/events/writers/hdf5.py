"""Writer for HDF5 in DSEC's layout, which is also the layout of our cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.stream import EventStream
from evlift.events.writers.base import BLOCK_EVENTS, WRITERS, Writer

COLUMNS = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
INDEX_BLOCK = 2**20
MAX_INDEX_MS = 10**9
"""Milliseconds that ms_to_idx may cover (11 days): a broken time stamp must not fill the disk."""


@WRITERS.register("dsec")
class DsecWriter(Writer):
    """Writes events/t, x, y, p, t_offset and ms_to_idx, Blosc-LZ4 compressed in chunks of 2^17 events.

    t_offset is the first event's time, so that ms_to_idx starts at it: ms_to_idx[k] is the first event with
    t >= 1000·k, and it ends with the millisecond after the last event. The sensor size goes to the attributes
    `height` and `width`. Source: DSEC (released code), chunk and filter measured and decided here.
    """

    format = "dsec"
    extensions = (".h5", ".hdf5")

    def __init__(self, path: Path, sensor_size: tuple[int, int]) -> None:
        super().__init__(path, sensor_size)
        import h5py
        import hdf5plugin

        self._file = h5py.File(path, "w")
        self._file.attrs["height"], self._file.attrs["width"] = sensor_size
        compression = hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)
        group = self._file.create_group("events")
        self._sets: dict[str, Any] = {
            name: group.create_dataset(
                name, (0,), dtype, maxshape=(None,), chunks=(BLOCK_EVENTS,), compression=compression
            )
            for name, dtype in COLUMNS.items()
        }
        self._index = self._file.create_dataset(
            "ms_to_idx", (0,), np.uint64, maxshape=(None,), chunks=(2**14,), compression=compression
        )
        self._held: list[EventStream] = []
        self._rows = 0
        self._t_offset: int | None = None

    def _check(self, block: EventStream) -> None:
        first = int(block.t[0]) if self._t_offset is None else self._t_offset
        if int(block.t[-1]) - first > MAX_INDEX_MS * 1000:
            raise FormatError(
                f"Expected a recording of at most {MAX_INDEX_MS} ms for an index by millisecond, but got "
                f"{(int(block.t[-1]) - first) // 1000} ms. Is a time stamp broken?"
            )

    def _write(self, block: EventStream) -> None:
        if self._t_offset is None:
            self._t_offset = int(block.t[0])
        self._held.append(block)
        if sum(map(len, self._held)) >= BLOCK_EVENTS:
            self._flush(BLOCK_EVENTS)

    def _flush(self, count: int) -> None:
        """Write the first `count` of the events held back, which makes each chunk full but the last."""
        columns = {name: np.concatenate([getattr(part, name) for part in self._held]) for name in COLUMNS}
        rest = {name: column[count:] for name, column in columns.items()}
        self._held = [EventStream(**rest, sensor_size=self.sensor_size)]
        t = columns["t"][:count] - (self._t_offset or 0)
        self._extend_index(t)
        for name, column in (columns | {"t": t}).items():
            dataset = self._sets[name]
            dataset.resize((self._rows + len(t),))
            dataset[self._rows :] = column[:count]
        self._rows += len(t)

    def _extend_index(self, t: NDArray[np.int64]) -> None:
        """Entries for the milliseconds that begin no later than the last of `t`."""
        for start in range(self._index.shape[0], int(t[-1]) // 1000 + 1, INDEX_BLOCK):
            steps = np.arange(start, min(start + INDEX_BLOCK, int(t[-1]) // 1000 + 1))
            self._append_index(self._rows + np.searchsorted(t, steps * 1000))

    def _append_index(self, entries: NDArray[np.int64]) -> None:
        done = self._index.shape[0]
        self._index.resize((done + len(entries),))
        self._index[done:] = entries

    def close(self) -> None:
        """Write what is held back, the end of the index and t_offset."""
        if not self._file:
            return
        if held := sum(map(len, self._held)):
            self._flush(held)
        self._append_index(np.array([self._rows]))
        self._file["t_offset"] = np.int64(self._t_offset or 0)
        self._file.close()
