"""A recording that is looked at: windows anywhere in it, in memory that does not grow with the file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, EvliftError
from evlift.events import EventStream, Reader, open_reader
from evlift.events.readers import RawChunk
from evlift.events.readers.chunk import SLACK_US
from evlift.viewer.timeline import Timeline

MOST_HELD = 2**23
"""Events of a window that are held in memory, at most: 109 MB."""


class Cursor:
    """Windows of a recording by time; going on from the last one costs nothing but the new events.

    A jump begins at the nearest mark of the timeline, where the format has marks, or where the file itself looks the
    time up; other formats are read from their start, or onwards from where the cursor is.

    Args:
        reader: nobody else may use it.
        timeline: knows the marks.
    """

    def __init__(self, reader: Reader, timeline: Timeline) -> None:
        self._reader, self._timeline = reader, timeline
        self._pass: Iterator[RawChunk] = iter(())
        self._held: list[RawChunk] = []
        self._from_us: int | None = None  # what is held is complete from here
        self._read_us = 0  # oldest time of the last chunk that was read
        self._lock = threading.Lock()

    def window(self, start_us: int, stop_us: int) -> EventStream:
        """The events with ``start_us <= t < stop_us``, sorted.

        Raises:
            ConfigError: more of them than memory should hold.
        """
        with self._lock:
            if self._from_us is None or start_us < self._from_us or self._is_far_behind(start_us):
                self._restart(start_us)
            self._advance(start_us, stop_us)
            parts = [chunk.take(_within(chunk, start_us, stop_us)) for chunk in self._held]
        found = RawChunk.concatenate(parts)
        order = np.argsort(found.t, kind="stable")
        return EventStream(*found.take(order).columns, self._reader.sensor_size)

    def _is_far_behind(self, start_us: int) -> bool:
        """Whether a jump is quicker than reading on."""
        if self._reader.seeks:
            return start_us > self._read_us + SLACK_US
        mark, here = self._timeline.find(start_us), self._reader.mark
        return mark is not None and here is not None and mark.offset > here.offset

    def _restart(self, start_us: int) -> None:
        self.close()
        mark = self._timeline.find(start_us)
        self._pass = self._reader.chunks_between(start_us, None, mark=mark)
        self._held, self._from_us, self._read_us = [], start_us, start_us

    def _advance(self, start_us: int, stop_us: int) -> None:
        """Drop what lies before the window, read what it still lacks."""
        self._held = [chunk for chunk in self._held if len(chunk) and chunk.t.max() >= start_us]
        self._from_us = start_us
        inside = sum(int(_within(chunk, start_us, stop_us).sum()) for chunk in self._held)
        while self._read_us < stop_us + SLACK_US and (chunk := next(self._pass, None)) is not None:
            if not len(chunk):
                continue
            self._read_us = int(chunk.t.min())
            if chunk.t.max() >= start_us:
                self._held.append(chunk)
            inside += int(_within(chunk, start_us, stop_us).sum())
            if inside > MOST_HELD:
                self.close()
                raise ConfigError(
                    f"Expected a window of at most {MOST_HELD} events, but it has more. Choose a shorter window."
                )

    def close(self) -> None:
        """Close the file; the next window opens it again."""
        if hasattr(self._pass, "close"):
            self._pass.close()
        self._pass, self._held, self._from_us = iter(()), [], None


class Recording:
    """A recording with its timeline, which a thread fills, and a cursor.

    Args:
        path: a file in any readable format.
        format: where it cannot be told from the content.

    Raises:
        FormatError: a file that cannot be read.
    """

    def __init__(self, path: str | Path, format: str | None = None) -> None:
        self.path = Path(path)
        self.reader = open_reader(path, format=format)
        self.sensor_size = self.reader.sensor_size
        self.timeline = Timeline()
        self._cursor = Cursor(self.reader, self.timeline)
        self._indexed = open_reader(path, format=format)
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._index, name="evlift-index", daemon=True)
        self._thread.start()

    def window(self, start_us: int, stop_us: int) -> EventStream:
        """The events with ``start_us <= t < stop_us`` [µs], sorted."""
        return self._cursor.window(start_us, stop_us)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the timeline is whole."""
        self._thread.join(seconds)

    def close(self) -> None:
        """Stop indexing and close the file."""
        self._leave.set()
        self._thread.join()
        self._cursor.close()

    def _index(self) -> None:
        chunks = self._indexed.chunks()
        try:
            for chunk in chunks:
                self.timeline.add(chunk, self._indexed.mark)
                if self._leave.is_set():
                    break
            self.timeline.finish()
        except (EvliftError, OSError, MemoryError) as error:
            self.timeline.finish(str(error))


def _within(chunk: RawChunk, start_us: int, stop_us: int) -> NDArray[np.bool_]:
    return (chunk.t >= start_us) & (chunk.t < stop_us)


def packed(stream: EventStream) -> NDArray[np.uint8]:
    """uint8 [H, W]: off events of a pixel in the low half of its byte, on events in the high one, up to 15 each."""
    height, width = stream.sensor_size
    place = stream.y.astype(np.int64) * width + stream.x
    counts = [
        np.bincount(place[stream.p == polarity], minlength=height * width).clip(max=15).astype(np.uint8)
        for polarity in (0, 1)
    ]
    return (counts[0] + 16 * counts[1]).astype(np.uint8).reshape(height, width)
