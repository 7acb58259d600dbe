"""Prophesee DAT files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.readers.base import READERS, RawChunk, RecordReader, SensorSize
from evlift.events.readers.prophesee import header_size, read_header, starts_with_header
from evlift.events.readers.source import buffered

EVENT_TYPES = (0, 12)
"""Kinds of record with x, y and p: "Event2d" and "CD"."""


@READERS.register("dat")
class DatReader(RecordReader):
    """Reads 8-byte records: 32-bit µs, then 14-bit x, 14-bit y and 4-bit polarity, little-endian.

    Example:
        >>> len(DatReader("car.dat").read())  # doctest: +SKIP
        2009

    A header without a size means the sensor that wrote such files, 304x240. The 32-bit clock wraps every 71.6
    minutes; a backward step of less than half of that is none. Source: Prophesee's format pages (published).
    """

    format = "dat"
    extensions = (".dat",)
    max_side = 2**14
    record_bytes = 8
    default_size = (240, 304)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """A Prophesee header without an EVT version, then a kind of 0 or 12 and a record size of 8."""
        if not starts_with_header(head):
            return False
        file = buffered(io.BytesIO(head))
        try:
            header = read_header(file)
        except FormatError:
            return False
        kind = file.read(2)
        return "evt" not in header and "format" not in header and len(kind) == 2 and _is_event_kind(kind)

    def _read_header(self, file: io.BufferedReader, sensor_size: SensorSize | None) -> SensorSize:
        header = read_header(file)
        kind = file.read(2)
        if len(kind) < 2 or not _is_event_kind(kind):
            raise FormatError(
                f"Expected DAT records of kind {EVENT_TYPES} and 8 bytes, but got {list(kind)} (kind, bytes) "
                f"in {self.name}. Only events with x, y and polarity can be read."
            )
        size = sensor_size or header_size(header)
        if size is None:
            size = self.default_size
            self.detected = (f"a sensor of (H, W) = {size}, as usual for the format",)
        return size

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        from evlift.kernels import decode

        state = self._started(0, 0)
        for block in blocks:
            out = RawChunk.allocate(len(block) // self.record_bytes)
            decode.dat(block.view("<u4"), state, out.columns)
            yield out


def _is_event_kind(kind: bytes) -> bool:
    return kind[0] in EVENT_TYPES and kind[1] == 8
