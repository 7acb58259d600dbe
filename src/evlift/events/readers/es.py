"""Event Stream files (.es) with DVS events."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.readers.base import READERS, RawChunk, RecordReader, SensorSize

MAGIC = b"Event Stream"
TYPES = {0: "generic", 1: "DVS", 2: "ATIS", 3: "asynchronous ATIS", 4: "color"}


@READERS.register("es")
class EsReader(RecordReader):
    """Reads version 2 Event Stream files of DVS events; y is turned to count from the top.

    Example:
        >>> EsReader("recording.es").sensor_size  # doctest: +SKIP
        (240, 320)

    The header states the sensor size. Source: the Event Stream format, version 2 (published), checked against
    faery, an independent reader.
    """

    format = "es"
    extensions = (".es",)
    max_side = 65_535
    record_bytes = 1
    block_records = 2**19

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """The words "Event Stream"."""
        return head.startswith(MAGIC)

    def _read_header(self, file: io.BufferedReader, sensor_size: SensorSize | None) -> SensorSize:
        header = file.read(len(MAGIC) + 8)
        if len(header) < len(MAGIC) + 8:
            raise FormatError(f"Expected a header of 20 bytes in {self.name}, but got {len(header)}.")
        major, _, _, kind, width, height = struct.unpack("<4B2H", header[len(MAGIC) :])
        if major != 2 or kind != 1:
            raise FormatError(
                f"Expected Event Stream version 2 with DVS events in {self.name}, but got version {major} "
                f"with {TYPES.get(kind, f'type {kind}')} events. Convert it to version 2 DVS first."
            )
        self._file_height = height  # y counts from the bottom of the sensor that the file states
        return sensor_size or (height, width)

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        from evlift.kernels.aedat import es_dvs

        state = np.zeros(1, np.int64)
        rest = b""
        for block in blocks:
            data = np.frombuffer(rest + block.tobytes(), np.uint8)
            out = RawChunk.allocate(len(data) // 5)
            count, used = es_dvs(data, state, self._file_height, out.t, out.x, out.y, out.p)
            rest = data[used:].tobytes()
            yield out.take(slice(count))
        self._count("dropped_bytes", len(rest))
