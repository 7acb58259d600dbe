"""Event streams: the type, readers, writers, filters and the check-up."""

from evlift.events.readers import READERS, Reader, RecordingWarning, open_reader, read_events
from evlift.events.stream import EventStream
from evlift.events.writers import WRITERS, Writer, write_events

__all__ = [
    "READERS",
    "WRITERS",
    "EventStream",
    "Reader",
    "RecordingWarning",
    "Writer",
    "open_reader",
    "read_events",
    "write_events",
]
