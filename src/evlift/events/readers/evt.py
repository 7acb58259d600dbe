"""Prophesee RAW files: EVT2, EVT2.1 in both word layouts, EVT3."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, FormatError
from evlift.events.readers.base import (
    CHUNK_EVENTS,
    READERS,
    RawChunk,
    RecordReader,
    SensorSize,
    Source,
)
from evlift.events.readers.prophesee import header_size, read_header, starts_with_header
from evlift.events.readers.source import buffered

SIZE_OF_PLUGIN = {"gen3": (480, 640), "gen31": (480, 640), "gen4": (720, 1280), "gen41": (720, 1280)}
"""Sensor of a camera's driver ("hal_plugin_gen41_evk3"), for headers that state no size; (H, W)."""


class EvtReader(RecordReader):
    """What the EVT formats share: the header, and the count of words of no known kind.

    The size is the header's; where it states none, that of the camera's driver, else `default_size`.
    Triggers and other non-event words are skipped, as are events before the first time word.
    Source: Prophesee's format pages (published).
    """

    extensions = (".raw",)
    max_side = 2**11
    version: ClassVar[str]
    default_size: ClassVar[SensorSize] = (720, 1280)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """A Prophesee header that names this version of EVT."""
        if not starts_with_header(head):
            return False
        try:
            header = read_header(buffered(io.BytesIO(head)))
        except FormatError:
            return False
        return stated_version(header) == cls.version

    def _read_header(self, file: io.BufferedReader, sensor_size: SensorSize | None) -> SensorSize:
        self.header = read_header(file)
        version = stated_version(self.header)
        if version not in (None, self.version):
            right = f"evt{str(version).replace('.0', '').replace('.', '')}"
            raise FormatError(
                f"Expected EVT {self.version}, but the header of {self.name} says EVT {version}. Open it with "
                f"--format {right} (in Python: format='{right}')."
            )
        self._choose_layout(file)
        return sensor_size or header_size(self.header) or self._usual_size()

    def _choose_layout(self, file: io.BufferedReader) -> None:
        """A chance to look at the first words before they are read."""

    def _usual_size(self) -> SensorSize:
        plugin = self.header.get("plugin_name", "").split("_")
        size = next((size for name, size in SIZE_OF_PLUGIN.items() if name in plugin), self.default_size)
        self.detected = (f"a sensor of (H, W) = {size}, as usual for the camera or the format",)
        return size

    def _decode_words(
        self, blocks: Iterator[NDArray[Any]], kernel: Callable[..., tuple[int, int]], state: NDArray[np.int64]
    ) -> Iterator[RawChunk]:
        """Chunks of at most `CHUNK_EVENTS` events, where one word may hold several."""
        for words in blocks:
            done = 0
            while done < len(words):
                out = RawChunk.allocate(CHUNK_EVENTS)
                done, n = kernel(words, done, state, out.columns)
                yield out.take(slice(n))
            self._count_unknown(state)

    def _count_unknown(self, state: NDArray[np.int64]) -> None:
        self._count("unknown_records", int(state[1]))
        state[1] = 0


@READERS.register("evt2")
class Evt2Reader(EvtReader):
    """Reads EVT2: one event in a 32-bit word, 28 + 6 bits of µs.

    Example:
        >>> len(Evt2Reader("spinner.raw").read())  # doctest: +SKIP
        539481
    """

    format = "evt2"
    version = "2.0"
    record_bytes = 4
    default_size = (480, 640)

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        from evlift.kernels import decode

        state = self._started(-1, 0)
        for block in blocks:
            out = RawChunk.allocate(len(block) // self.record_bytes)
            yield out.take(slice(decode.evt2(block.view("<u4"), state, out.columns)))
            self._count_unknown(state)


@READERS.register("evt3")
class Evt3Reader(EvtReader):
    """Reads EVT3: 16-bit words that change row, column or time, and vectors of up to 12 events.

    Example:
        >>> len(Evt3Reader("driving.raw").read())  # doctest: +SKIP
        219596

    The 24-bit clock wraps every 16.8 s. A time word that repeats its value keeps the low bits of the time.
    """

    format = "evt3"
    version = "3.0"
    record_bytes = 2

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        from evlift.kernels import decode

        state = self._started(-1, 0, 0, -1, -1, 0)
        return self._decode_words((block.view("<u2") for block in blocks), decode.evt3, state)


@READERS.register("evt21")
class Evt21Reader(EvtReader):
    """Reads EVT2.1: up to 32 events of a row in a 64-bit word.

    Example:
        >>> Evt21Reader("recording.raw", layout="legacy").read()  # doctest: +SKIP

    Two layouts of a word exist: `little` (one little-endian word) and `legacy` (its 32-bit halves swapped).
    The first words are tested under both; the one whose words are all plausible is taken, the header's
    `endianness` where both are, and a file where neither is, is refused.

    Args:
        layout: "little" or "legacy"; default: tested.
    """

    format = "evt21"
    version = "2.1"
    record_bytes = 8
    block_records = 2**16

    def __init__(
        self,
        source: Source,
        *,
        sensor_size: SensorSize | None = None,
        strict: bool = False,
        layout: str | None = None,
    ) -> None:
        if layout not in (None, "little", "legacy"):
            raise ConfigError(f"Expected `layout` to be 'little' or 'legacy', but got {layout!r}.")
        self.layout = layout
        super().__init__(source, sensor_size=sensor_size, strict=strict)

    def _choose_layout(self, file: io.BufferedReader) -> None:
        if self.layout is not None:
            return
        head = file.peek(8)
        little = np.frombuffer(head[: len(head) // 8 * 8], "<u8")[:512]
        fits = {"little": _plausible(little), "legacy": _plausible(swap_halves(little))}
        if len(little) and not any(fits.values()):
            raise FormatError(
                f"Expected EVT 2.1 words in {self.name}, but its first {len(little)} words fit neither "
                "layout, 'little' or 'legacy'. It is damaged or of another format: name that with --format, or read "
                "it anyway in Python with layout=."
            )
        preferred = "little" if self.header.get("endianness") == "little" else "legacy"
        other = "legacy" if preferred == "little" else "little"
        self.layout = preferred if fits[preferred] or not len(little) else other

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        from evlift.kernels import decode

        words = (block.view("<u8") for block in blocks)
        if self.layout == "legacy":
            words = (swap_halves(block) for block in words)
        return self._decode_words(words, decode.evt21, self._started(-1, 0))


def stated_version(header: dict[str, str]) -> str | None:
    """ "2.0", "2.1" or "3.0" from "% evt 3.0" or "% format EVT3;…"; None if the header names none."""
    if "evt" in header:
        return header["evt"]
    name = header.get("format", "").split(";")[0].strip().upper()
    return {"EVT2": "2.0", "EVT21": "2.1", "EVT2.1": "2.1", "EVT3": "3.0"}.get(name)


def swap_halves(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Exchange the 32-bit halves of each word: from one layout of EVT2.1 to the other."""
    return words << np.uint64(32) | words >> np.uint64(32)


def _plausible(words: NDArray[np.uint64]) -> bool:
    """Whether all words are of known kinds, event words hold events, and time words an empty half."""
    kind = words >> np.uint64(60)
    low = words & np.uint64(0xFFFFFFFF)
    event, time = kind <= 1, kind == 8
    known = event | time | np.isin(kind, (10, 14, 15))
    return bool(np.all(known) and np.all(low[event] != 0) and np.all(low[time] == 0))
