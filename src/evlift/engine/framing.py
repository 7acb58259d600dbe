"""How the recordings that a network learns from lie on their sensor."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from evlift.datasets.draws import generator
from evlift.events.framing import Framing

if TYPE_CHECKING:
    from evlift.datasets.transfer import Feeder
    from evlift.events import EventStream

FRAMED = 200
"""Recordings, at most, that are looked at."""


def framing_of(feeder: Feeder) -> Framing:
    """The framing of the training recordings, or, where the method sees none and pictures are set in motion, of
    simulated recordings of the held-out pictures. Labels are not looked at.
    """
    task, recordings = feeder.task, feeder.recordings
    if feeder.method.uses_events or feeder.options.encoding != "saccade":
        streams: Iterator[EventStream] = (recordings.load(i) for i in range(len(recordings)))
        return Framing.of(islice(streams, FRAMED), task.sensor_size, "training recordings")
    pictures = task.source_val
    streams = (feeder.encoder.simulate(pictures.load(i), generator(0, 0, i, 4)) for i in range(len(pictures)))
    return Framing.of(islice(streams, FRAMED), task.sensor_size, "simulated recordings")
