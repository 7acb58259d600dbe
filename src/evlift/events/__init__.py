"""Event streams: the type, readers, writers, filters and the check-up."""

from evlift.events.readers import READERS, Reader, RecordingWarning, open_reader, read_events
from evlift.events.stream import EventStream

__all__ = ["READERS", "EventStream", "Reader", "RecordingWarning", "open_reader", "read_events"]
