"""AEDAT 2.0 and 3.1, the files of jAER and cAER."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, FormatError
from evlift.events.readers.base import CHUNK_EVENTS, READERS, RawChunk, RecordReader, SensorSize, Source

# bits that must be clear, shift and mask of x, shift and mask of y, shift of polarity, its bit for ON
LAYOUTS = {
    "dvs128": (0x8000, 1, 0x7F, 8, 0x7F, 0, 0),  # bit 15: external event
    "davis": (
        0x8000_0400,
        12,
        0x3FF,
        22,
        0x1FF,
        11,
        1,
    ),  # bit 31: frame or IMU sample, bit 10: external event
}
SIZES = {
    "dvs128": (128, 128),
    "davis128": (128, 128),
    "davis208": (192, 208),
    "davis240": (180, 240),
    "davis346": (260, 346),
    "davis640": (480, 640),
}
"""(H, W) by the start of a camera's name in the header."""

MAX_HEADER = 2**22
END_OF_HEADER = (b"#End Of ASCII Header", b"# End of ASCII Header", b"#!END-HEADER")


def read_header_lines(file: io.BufferedReader) -> list[str]:
    """Consume the lines that start with # and return them.

    A binary event may start with # as well: a line with control characters is not consumed.
    """
    lines: list[str] = []
    size = 0
    while file.peek(1)[:1] == b"#":
        if re.search(rb"[^\t -~\x80-\xff]", file.peek(80)[:80].split(b"\n")[0].rstrip(b"\r")):
            break
        line = file.readline(MAX_HEADER)
        size += len(line)
        if size > MAX_HEADER:
            raise FormatError(f"Expected an AEDAT header of at most {MAX_HEADER} bytes, but got more.")
        lines.append(line.decode("latin-1").strip())
        if line.strip().startswith(END_OF_HEADER):
            break
    return lines


def named_camera(lines: list[str], keys: str) -> str | None:
    """The camera that a header line "# KEY: ..." names, as a key of `SIZES`; the last such line counts."""
    found = None
    for line in lines:
        if not re.match(rf"#\s*({keys})", line, re.IGNORECASE):
            continue
        text = line.lower()
        found = next((camera for camera in SIZES if camera in text), found)
        if found is None and "davis" in text:
            found = "davis240"  # the first DAVIS, and the only one that went without a number
    return found


@READERS.register("aedat2")
class Aedat2Reader(RecordReader):
    """Reads AEDAT 2.0: big-endian 32-bit address and 32-bit µs of a DVS128 or a DAVIS; frames and IMU are
    skipped.

    Example:
        >>> Aedat2Reader("recording.aedat", camera="davis346").sensor_size  # doctest: +SKIP
        (260, 346)

    Rows count from the bottom in the file and from the top here. A DVS128 writes 0 for ON, a DAVIS 1; True is ON
    here. Columns are those of the address; jAER shows a DVS128's mirrored. The camera is taken from the header lines
    AEChip or HardwareInterface; without them it is a DVS128. A file of nothing but a header is legal.
    Source: iniVation's description of the format and AedatTools (published); the DVS128's polarity agrees with a
    recording of POKER-DVS and its published array.

    Args:
        camera: "dvs128", "davis128", "davis208", "davis240", "davis346" or "davis640"; default: from the
        header.
    """

    format = "aedat2"
    extensions = (".aedat", ".aedat2")
    max_side = 1024
    record_bytes = 8
    version: ClassVar[bytes] = b"#!AER-DAT2"

    def __init__(
        self,
        source: Source,
        *,
        sensor_size: SensorSize | None = None,
        strict: bool = False,
        camera: str | None = None,
    ) -> None:
        if camera is not None and camera not in SIZES:
            raise ConfigError(f"Expected `camera` to be one of {sorted(SIZES)}, but got '{camera}'.")
        self.camera = camera or ""
        super().__init__(source, sensor_size=sensor_size, strict=strict)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """The version line."""
        return head.startswith(cls.version)

    def _read_header(self, file: io.BufferedReader, sensor_size: SensorSize | None) -> SensorSize:
        lines = read_header_lines(file)
        if not lines or not lines[0].startswith(self.version.decode()):
            raise FormatError(f"Expected {self.name} to start with {self.version.decode()}, but it does not.")
        self.camera = self.camera or named_camera(lines, "AEChip|HardwareInterface") or "dvs128"
        return sensor_size or SIZES[self.camera]

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        from evlift.kernels.aedat import aedat2

        family = "dvs128" if self.camera == "dvs128" else "davis"
        layout = np.array([*LAYOUTS[family], SIZES[self.camera][0]], np.int64)
        state = self._started(-1, 0)
        for block in blocks:
            words = block.view("<u4")
            out = RawChunk.allocate(len(words) // 2)
            yield out.take(slice(aedat2(words, layout, state, out.t, out.x, out.y, out.p)))


PACKET_HEADER = struct.Struct("<hhiiiiii")
POLARITY = 1


@READERS.register("aedat3")
class Aedat3Reader(RecordReader):
    """Reads the polarity packets of AEDAT 3.1: 28-byte packet headers, little-endian events; others are
    skipped.

    Example:
        >>> Aedat3Reader("user01_fluorescent.aedat").sensor_size  # doctest: +SKIP
        (128, 128)

    Time is packet overflow · 2³¹ + t. Events marked invalid are left out. The sensor size goes by the
    header's Source line; without a known one it is a DVS128's. Rows count from the top.
    Source: iniVation's description of the format (published).
    """

    format = "aedat3"
    extensions = (".aedat", ".aedat31")
    max_side = 32_768
    record_bytes = 1
    block_records = CHUNK_EVENTS * 8

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """The version line."""
        return head.startswith(b"#!AER-DAT3")

    def _read_header(self, file: io.BufferedReader, sensor_size: SensorSize | None) -> SensorSize:
        lines = read_header_lines(file)
        first = lines[0] if lines else ""
        if not first.startswith("#!AER-DAT3.1"):
            raise FormatError(
                f"Expected {self.name} to be AEDAT 3.1, but its first line is '{first[:40]}'. "
                "AEDAT 3.0 counts rows from the bottom and ends its header otherwise: convert it to 3.1."
            )
        form = next((line for line in lines if line.startswith("#Format:")), "#Format: RAW")
        if "RAW" not in form:
            raise FormatError(f"Expected the RAW format of AEDAT 3.1 in {self.name}, but got '{form}'.")
        return sensor_size or SIZES[named_camera(lines, "Source") or "dvs128"]

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        from evlift.kernels.aedat import aedat3

        packets = _Packets(blocks)
        while header := packets.take(PACKET_HEADER.size, exactly=True):
            kind, _, size, _, overflow, _, number, _ = PACKET_HEADER.unpack(header)
            if size < 0 or number < 0 or overflow < 0 or kind < 0:
                self._count("unknown_records", 1)
                self._count("dropped_bytes", packets.drain())
                return
            if kind != POLARITY or size != 8:
                if packets.skip(size * number):
                    break
                continue
            left = size * number
            while left and (data := packets.take(min(left, self.block_records), multiple=8)):
                left -= len(data)
                words = np.frombuffer(data, "<u4")
                out = RawChunk.allocate(len(words) // 2)
                yield out.take(slice(aedat3(words, overflow, out.t, out.x, out.y, out.p)))
            if left:
                break
        self._count("dropped_bytes", packets.drain())


class _Packets:
    """Blocks of bytes as one sequence from which packets are taken; holds a block and what was asked."""

    def __init__(self, blocks: Iterator[NDArray[np.uint8]]) -> None:
        self._blocks = blocks
        self._held = b""
        self._at = 0

    def take(self, size: int, *, exactly: bool = False, multiple: int = 1) -> bytes:
        """Up to `size` bytes, in a multiple; none at the end, nor if `exactly` that many are not left."""
        while len(self._held) - self._at < size and (block := next(self._blocks, None)) is not None:
            self._held = self._held[self._at :] + block.tobytes()
            self._at = 0
        got = min(size, len(self._held) - self._at) // multiple * multiple
        if exactly and got < size:
            return b""
        self._at += got
        return self._held[self._at - got : self._at]

    def skip(self, size: int) -> int:
        """Leave out `size` bytes; return how many of them were not there."""
        while size and (got := len(self.take(min(size, 2**20)))):
            size -= got
        return size

    def drain(self) -> int:
        """Count and leave out all that is left."""
        left = len(self._held) - self._at
        self._held, self._at = b"", 0
        return left + sum(len(block) for block in self._blocks)
