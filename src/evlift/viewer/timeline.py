"""When a recording has events, and where in the file: filled by one pass over the file, in constant memory."""

from __future__ import annotations

import threading
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from evlift.events.readers import Mark, RawChunk

BINS = 2048
FIRST_BIN_US = 100
MARKS = 4096


class Timeline:
    """Event counts over time, and marks to decode from.

    Both stay bounded: where the bins are too few they double in length, where the marks are too many every second one
    goes. Safe to fill in one thread and to read in others.

    Args:
        bins: how many bins of time, even.
        marks: how many marks at most.
    """

    def __init__(self, bins: int = BINS, marks: int = MARKS) -> None:
        self.first_us: int | None = None
        self.newest_us = 0
        self.bin_us = FIRST_BIN_US
        self.events = 0
        self.done = False
        self.error: str | None = None
        self._counts = np.zeros((2, bins), np.int64)
        self._before: list[int] = []  # newest time before each mark
        self._marks: list[Mark] = []
        self._most, self._apart = marks, 1
        self._lock = threading.Lock()

    def add(self, chunk: RawChunk, mark: Mark | None) -> None:
        """Count a chunk; `mark` is where it can be decoded from."""
        with self._lock:
            if mark is not None:
                self._keep(mark)
            if self.first_us is None:
                self.first_us = self.newest_us = int(chunk.t[0])
            self._stretch(int(chunk.t.max()))
            place = ((chunk.t - self.first_us) // self.bin_us).clip(
                0
            )  # late ones at the very start count there
            for polarity in (0, 1):
                self._counts[polarity] += np.bincount(
                    place[chunk.p == polarity], minlength=self._counts.shape[1]
                )
            self.newest_us = max(self.newest_us, int(chunk.t.max()))
            self.events += len(chunk)

    def finish(self, error: str | None = None) -> None:
        """The pass is over."""
        with self._lock:
            self.done, self.error = True, error

    def find(self, start_us: int) -> Mark | None:
        """The last known mark before which every event is older than `start_us`; None for the file's start."""
        with self._lock:
            place = bisect_left(self._before, start_us) - 1
            return self._marks[place] if place >= 0 else None

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [2, n], off and on events of each bin so far."""
        with self._lock:
            if self.first_us is None:
                return self._counts[:, :0].copy()
            return self._counts[:, : (self.newest_us - self.first_us) // self.bin_us + 1].copy()

    def _keep(self, mark: Mark) -> None:
        if self.first_us is None or (self._marks and mark.offset < self._marks[-1].offset + self._apart):
            return
        self._before.append(self.newest_us)
        self._marks.append(mark)
        if len(self._marks) > self._most:
            self._marks, self._before = self._marks[::2], self._before[::2]
            self._apart = 2 * max(self._apart, self._marks[1].offset - self._marks[0].offset)

    def _stretch(self, latest_us: int) -> None:
        bins = self._counts.shape[1]
        while latest_us - (self.first_us or 0) >= self.bin_us * bins:
            pairs = self._counts.reshape(2, bins // 2, 2).sum(-1)  # [2, n] → [2, n / 2]
            self._counts[:, : bins // 2], self._counts[:, bins // 2 :] = pairs, 0
            self.bin_us *= 2
