"""AEDAT4, the files of DV, decoded by the package `aedat` in a process of its own."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from evlift.errors import FormatError
from evlift.events.readers.base import READERS, RawChunk, Reader, SensorSize
from evlift.events.readers.columns import to_chunk

EVENT = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
NO_STREAM = "none"
NO_SIZE: SensorSize = (1, 1)
END = 2**64 - 1

CHILD = """
import json, os, sys
path, wanted = sys.argv[1:]
try:
    import resource
    room = 2**32 + 8 * os.path.getsize(path)  # a broken length in the file must not take the machine's memory
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
except (ImportError, ValueError, OSError):
    pass
out = sys.stdout.buffer
try:
    import aedat
    decoder = aedat.Decoder(path)
    out.write(json.dumps({str(k): v for k, v in decoder.id_to_stream().items()}).encode() + b"\\n")
    if wanted != "none":
        for packet in decoder:
            is_wanted = "events" in packet and str(packet["stream_id"]) == wanted
            data = packet["events"].tobytes() if is_wanted else b""
            out.write(len(data).to_bytes(8, "little") + data)
            out.flush()
        out.write(b"\\xff" * 8)
    out.flush()
except BrokenPipeError:
    os._exit(0)  # the reader had enough
except BaseException as error:  # a panic of the decoder is no Exception
    out.flush()
    sys.stderr.write("\\nevlift: " + " ".join(str(error).split())[:300])
    sys.stderr.flush()
    os._exit(3)
"""
"""Writes one line of JSON with the streams, then each packet as its length (8 bytes, little-endian; 0 if it
holds no
event of the wanted stream) and its events, then `END` if the file ended as it should."""


class _Child:
    """The decoder's process, as a context: it is gone at the end."""

    def __init__(self, path: Path, stream: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        command = [sys.executable, "-c", CHILD, str(path), stream]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)
        if self._process.stdout is None:
            raise RuntimeError("Expected a pipe from the decoder, but got none.")
        self._pipe: IO[bytes] = self._process.stdout

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def streams(self) -> dict[str, dict[str, Any]]:
        """The streams that the file states, by number."""
        line = self._pipe.readline()
        return json.loads(line) if line.endswith(b"\n") else {}

    def packet(self) -> bytes | None:
        """The next packet's events, empty for a packet of something else; None where reading ends."""
        head = self._pipe.read(8)
        size = int.from_bytes(head, "little") if len(head) == 8 else END
        self.ended = len(head) == 8 and size == END
        if size == END:
            return None
        data = self._pipe.read(size)
        return data if len(data) == size else None

    def reason(self) -> str:
        """Why it ended early."""
        code = self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        if "evlift: " in text:
            return text.rsplit("evlift: ", 1)[1].strip() or "an unknown error"
        return f"the decoder ended with {code}" + (f" ({text.strip()[-200:]})" if text.strip() else "")


@READERS.register("aedat4")
class Aedat4Reader(Reader):
    """Reads the first event stream of an AEDAT4 file; frames, IMU samples and triggers are left out.

    Example:
        >>> Aedat4Reader("recording.aedat4").read()  # doctest: +SKIP

    A file without an event stream is legal and gives no events, on a sensor as large as its frames. If the
    file is cut or damaged, the packets before that are kept. The decoder runs in a child process, since a
    broken file can take its process down: that becomes a :class:`FormatError`, or a counted loss if packets
    came before it.
    """

    format = "aedat4"
    extensions = (".aedat4",)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """The version line."""
        return head.startswith(b"#!AER-DAT4")

    def _inspect(self, sensor_size: SensorSize | None) -> SensorSize:
        with _Child(self.path, NO_STREAM) as child:
            streams = child.streams()
            if not streams:
                raise FormatError(f"Expected {self.name} to be an AEDAT4 file, but got: {child.reason()}.")
        events = [key for key, stream in streams.items() if stream.get("type") == "events"]
        self._stream_id = min(events, key=int, default=None)
        sized = streams.values() if self._stream_id is None else [streams[self._stream_id]]
        sizes = [(int(stream.get("height", 0)), int(stream.get("width", 0))) for stream in sized]
        return sensor_size or max([size for size in sizes if min(size) > 0], default=NO_SIZE)

    def _decode(self) -> Iterator[RawChunk]:
        if self._stream_id is None:
            return
        packets = 0
        with _Child(self.path, self._stream_id) as child:
            child.streams()
            while (data := child.packet()) is not None:
                packets += 1
                events = np.frombuffer(data, EVENT)
                chunk, unusable = to_chunk(events["t"], events["x"], events["y"], events["on"], "us")
                self._count("unknown_records", unusable)
                yield chunk
            if child.ended:
                return
            if packets == 0:
                raise FormatError(
                    f"Expected packets in {self.name}, but the first one fails: {child.reason()}."
                )
        self._count("dropped_bytes", _bytes_after(self.path, packets))


def _bytes_after(path: Path, packets: int) -> int:
    """Bytes of a file behind its first so many packets: each states its length, as the file's header does."""
    total = path.stat().st_size
    with path.open("rb") as file:
        file.readline(64)
        (size,) = struct.unpack("<I", file.read(4))
        file.seek(size, 1)
        for _ in range(packets):
            head = file.read(8)
            if len(head) < 8:
                break
            file.seek(struct.unpack("<I", head[4:])[0], 1)
        return max(total - file.tell(), 1)
