"""Event streams: the type, readers, writers, filters and the check-up."""

from evlift.events.stream import EventStream

__all__ = ["EventStream"]
