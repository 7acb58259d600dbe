"""ATIS 40-bit `.bin` files, as N-MNIST and N-Caltech101 publish them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.readers.base import READERS, RawChunk, RecordReader, SensorSize
from evlift.events.readers.source import GIVE_SENSOR

KNOWN_SIZES = ((34, 34), (180, 240), (240, 256))
"""N-MNIST, N-Caltech101, and all that 8-bit coordinates below the marker row can address; (H, W)."""

OVERFLOW_ROW = 240
RECORD = np.dtype([("x", "u1"), ("y", "u1"), ("pt", "u1"), ("t", ">u2")])


@READERS.register("atis")
class AtisReader(RecordReader):
    """Reads 5-byte records: x, y, then polarity (top bit) and 23 bits of µs, big-endian.

    Example:
        >>> AtisReader("Train/0/00002.bin").sensor_size  # doctest: +SKIP
        (34, 34)

    A record with y = 240 is no event: it adds 2^13 µs to every later time. The file names no sensor size:
    without `sensor_size` the coordinates are scanned once and the smallest of 34x34 (N-MNIST), 240x180
    (N-Caltech101) and 256x240 that holds them is taken. Rows above 240 are out of range.
    Source: the N-MNIST and N-Caltech101 reading scripts (released code).
    """

    format = "atis"
    extensions = (".bin",)
    headerless = True
    record_bytes = 5

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """Plausible if nine in ten time stamps of the first records do not step back."""
        records = np.frombuffer(head[: len(head) // 5 * 5], RECORD)[:1000]
        if len(records) < 2:
            return len(head) % 5 == 0 or path is not None
        t = (records["pt"].astype(np.int64) & 127) << 16 | records["t"]
        t += np.cumsum(records["y"] == OVERFLOW_ROW) * 8192
        return bool(np.mean(np.diff(t) >= 0) > 0.9)

    def _read_header(self, file: io.BufferedReader, sensor_size: SensorSize | None) -> SensorSize:
        if sensor_size is not None:
            return sensor_size
        if not isinstance(self.source, Path):
            raise FormatError(
                f"Expected the sensor's size for ATIS events from a stream, but got none. {GIVE_SENSOR}"
            )
        rows, columns = self._extent(file)
        file.seek(0)
        size = next(size for size in KNOWN_SIZES if rows <= size[0] and columns <= size[1])
        self.detected = (f"a sensor of (H, W) = {size}, the smallest known one that holds every coordinate",)
        return size

    def _extent(self, file: io.BufferedReader) -> tuple[int, int]:
        """Largest y + 1 and x + 1 of the events below the marker row."""
        from evlift.kernels import decode

        rows = columns = 0
        while block := file.read(self.record_bytes * self.block_records):
            found = decode.atis_extent(np.frombuffer(block, np.uint8))
            rows, columns = max(rows, found[0]), max(columns, found[1])
        return rows, columns

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        from evlift.kernels import decode

        state = self._started(0)
        for block in blocks:
            out = RawChunk.allocate(len(block) // self.record_bytes)
            yield out.take(slice(decode.atis(block, state, out.columns)))
