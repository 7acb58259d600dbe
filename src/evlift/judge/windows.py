"""Which stretches of a recording a network reads: all of it, or windows as long as those it was trained on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evlift.assembly import Trained
from evlift.checks import check_range
from evlift.datasets.transfer import FIRST_EVENTS
from evlift.errors import ConfigError

if TYPE_CHECKING:
    from evlift.events import EventStream, Reader

MAX_WINDOWS = 100
"""Of one recording."""

LONGER = 1.5
"""A recording up to so many training lengths is read as one window."""

FULLEST = 0.25
"""A window with less than this share of the events of the recording's fullest one has no vote."""


@dataclass(frozen=True)
class WindowRule:
    """How a recording is cut.

    Args:
        duration_us: length of windows of equal duration; None for other rules.
        n_events: events of windows of equal count; None for other rules.
        inside: what is read of a window: full, saccade or first300, as `select_window` says.
        at_most: windows of one recording.
        longer: a recording up to so many durations is one window.
        text: the rule in words.
    """

    duration_us: int | None
    n_events: int | None
    inside: str
    at_most: int
    longer: float
    text: str

    def cut(self, reader: Reader) -> Iterator[EventStream]:
        """The windows of a recording that hold events, in the order of time; not held to `at_most`."""
        return (stream for stream in self._all(reader) if len(stream))

    def _all(self, reader: Reader) -> Iterator[EventStream]:
        if self.n_events is not None:
            return reader.windows(n_events=self.n_events)
        if self.duration_us is None:
            return iter([reader.read()])
        once = list(itertools.islice(reader.windows(duration_us=int(self.longer * self.duration_us)), 2))
        return iter(once) if len(once) < 2 else reader.windows(duration_us=self.duration_us)


def window_rule(
    trained: Trained, window: str | None = None, duration_us: int | None = None, at_most: int = MAX_WINDOWS
) -> WindowRule:
    """The rule that a user asks for, or the one that fits how the network was trained.

    Args:
        trained: the network.
        window: full (each recording whole), saccade or first300 (as in the run's own splits); None for windows as in
            training: of the median duration of its recordings (a third of it if it was trained on saccades), or of 300
            events if it was trained on those. Where that duration is not known, each recording is read whole.
        duration_us: windows of this length instead.
        at_most: windows of one recording.

    Raises:
        ConfigError: both, or a length or number under 1.
    """
    check_range("max_windows", at_most, 1)
    if duration_us is not None:
        check_range("duration_us", duration_us, 1)
        if window is not None:
            raise ConfigError(
                f"Expected a window or a duration, but got '{window}' and {duration_us} µs. Leave --window or "
                "--duration-ms out."
            )
        text = f"windows of {duration_us / 1e3:g} ms"
        return WindowRule(duration_us, None, "full", at_most, 1, text)
    if window is not None:
        return WindowRule(None, None, window, 1, 1, f"each recording as one window ({window})")
    trained_on, length = trained.recipe.input.window, trained.framing.duration_us
    if trained_on == "first300":
        text = f"windows of {FIRST_EVENTS} events, as in training"
        return WindowRule(None, FIRST_EVENTS, "full", at_most, 1, text)
    if length is None:
        text = "each recording whole: how long those of training were is not known (evlift evaluate RUN --calibrate)"
        return WindowRule(None, None, "full", 1, 1, text)
    length = max(1, length // 3 if trained_on == "saccade" else length)
    text = f"windows of {length / 1e3:.0f} ms, as in training; one if up to {LONGER:g} times as long"
    return WindowRule(length, None, "full", at_most, LONGER, text)


def reader_of(path: Path, trained: Trained, sensor_size: tuple[int, int] | None = None) -> Reader:
    """A reader whose sensor, where the file does not state it, is `sensor_size`, else the network's own if its events
    fit on that, else the smallest that holds them or the usual one of the format.
    """
    from evlift.events import open_reader

    reader = open_reader(path)
    if sensor_size is not None and reader.guesses_sensor:
        return open_reader(path, sensor_size=sensor_size)
    reader.assume_sensor(trained.sensor_size)
    return reader
