"""What a pass over recordings took: windows, events, losses, latency and the time of each stage."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from evlift.events.readers import Problems

STAGES = ("decode", "represent", "network", "write")
SHORTEST_S, RATIO, BINS = 1e-6, 1.01, 2400  # from 1 µs to 23 500 s in steps of 1 %


class Quantiles:
    """Quantiles of any number of durations to within 1 %, in constant memory.

    Example:
        >>> times = Quantiles()
        >>> for milliseconds in range(1, 101):
        ...     times.add(milliseconds / 1000)
        >>> round(times.quantile(0.5), 2)
        0.05
    """

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self.longest = self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        place = np.log(max(seconds, SHORTEST_S) / SHORTEST_S) / np.log(RATIO)
        self._counts[min(int(place), BINS - 1)] += 1
        self.longest = max(self.longest, seconds)
        self.total += seconds

    def __len__(self) -> int:
        return int(self._counts.sum())

    def quantile(self, q: float) -> float:
        """The `q` quantile by rank in seconds; 0 if nothing was counted."""
        if not len(self):
            return 0.0
        rank = max(1, int(np.ceil(q * len(self))))
        found = int(np.searchsorted(self._counts.cumsum(), rank))
        return min(SHORTEST_S * RATIO ** (found + 0.5), self.longest)


@dataclass
class Summary:
    """Counts and times of one call of predict; complete when its iterator has ended.

    Args:
        recordings: that were read to their end.
        failed: (name, reason) of those in a folder that could not be.
        windows: predictions made.
        events: events that were decoded and had a place in time; each counted once, whatever windows it is in.
        problems: what was dropped or was wrong, as the readers count it.
        recorded_us: from the first to the last event, summed over recordings.
        waited_s: time that a pipe or a growing file had nothing to read.
        latency: of each window until its prediction was written: of a file from when opening it, or reading on, began,
            which all stages are part of; of a pipe or a growing file from the arrival of the bytes that completed it,
            which is later than the decoding of those before.
        stages: time of each window in decode, represent, network and write.
        ended: why an endless source ended.
    """

    recordings: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    windows: int = 0
    events: int = 0
    problems: Problems = field(default_factory=Problems)
    recorded_us: int = 0
    waited_s: float = 0.0
    latency: Quantiles = field(default_factory=Quantiles)
    stages: dict[str, Quantiles] = field(default_factory=lambda: {stage: Quantiles() for stage in STAGES})
    ended: str = ""

    @property
    def busy_s(self) -> float:
        """Time spent working: all stages."""
        return sum(times.total for times in self.stages.values())

    @property
    def real_time_factor(self) -> float:
        """Recorded time over working time: above 1, windows are processed faster than they are recorded."""
        return self.recorded_us / 1e6 / self.busy_s if self.busy_s else 0.0

    @property
    def dropped(self) -> dict[str, int]:
        """What was lost, by kind: events late or out of range, records unknown, bytes of a cut end."""
        counts = {item.name: getattr(self.problems, item.name) for item in fields(self.problems)}
        return {name: count for name, count in counts.items() if name != "backward_steps"}

    def add_window(self, times: dict[str, float], latency_s: float) -> None:
        """Count one window."""
        self.windows += 1
        self.latency.add(latency_s)
        for stage, seconds in times.items():
            self.stages[stage].add(seconds)

    def add_recording(self, problems: Problems) -> None:
        """Count one recording."""
        self.recordings += 1
        for item in fields(problems):
            setattr(
                self.problems, item.name, getattr(self.problems, item.name) + getattr(problems, item.name)
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times in milliseconds."""
        return {
            "recordings": self.recordings,
            "failed": [{"recording": name, "reason": reason} for name, reason in self.failed],
            "windows": self.windows,
            "events": self.events,
            "dropped": self.dropped,
            "recorded_s": self.recorded_us / 1e6,
            "busy_s": self.busy_s,
            "waited_s": self.waited_s,
            "real_time_factor": self.real_time_factor,
            "latency_ms": _milliseconds(self.latency),
            "stages_ms": {stage: _milliseconds(times) for stage, times in self.stages.items()},
            "ended": self.ended,
        }

    def rows(self) -> list[tuple[str, str]]:
        """Rows of a table for people."""
        dropped = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in self.dropped.items() if n)
        found = [
            (
                "recordings",
                f"{self.recordings:,}" + (f", {len(self.failed):,} failed" if self.failed else ""),
            ),
            ("windows", f"{self.windows:,}"),
            ("events", f"{self.events:,}"),
            ("dropped", dropped or "nothing"),
            ("latency from last byte" if self.ended else "latency of a window", _text(self.latency)),
            *((f"  {stage}", _text(times)) for stage, times in self.stages.items()),
            ("recorded, worked", f"{self.recorded_us / 1e6:.3f} s, {self.busy_s:.3f} s"),
            ("real-time factor", f"{self.real_time_factor:.1f}"),
        ]
        return found + ([("ended", self.ended)] if self.ended else [])


def _milliseconds(times: Quantiles) -> dict[str, float]:
    found = {"median": times.quantile(0.5), "p99": times.quantile(0.99), "longest": times.longest}
    return {name: round(seconds * 1e3, 4) for name, seconds in found.items()}


def _text(times: Quantiles) -> str:
    found = _milliseconds(times)
    return f"median {found['median']:.2f} ms, p99 {found['p99']:.2f} ms, longest {found['longest']:.2f} ms"
