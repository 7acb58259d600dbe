"""Filters one after another, window by window: the events that come out are those of the whole recording at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from evlift.errors import ConfigError
from evlift.events.filters import FILTERS, Filter, HotPixels, event_counts, hot_pixel_mask
from evlift.events.readers.windowing import join
from evlift.events.stream import EventStream

Pass = Callable[[], Iterator[EventStream]]
"""Starts a pass over a recording: consecutive streams in the order of time."""


def parse_filter(text: str) -> Filter:
    """A filter by name and arguments, as the command line says it.

    Example:
        >>> parse_filter("refractory:2000")
        Refractory(period_us=2000)
        >>> parse_filter("resize:height=120,width=160")
        Resize(height=120, width=160)

    Args:
        text: ``name``, ``name:value,value`` in the order of the filter's fields, or ``name:field=value``.

    Raises:
        ConfigError: an unknown name, with the known ones and the nearest; an argument too many, too few or of another
            type.
    """
    name, _, given = text.partition(":")
    build = FILTERS[name.strip()]
    fields = inspect.signature(build).parameters
    form = f"{name}:{','.join(fields)}" if fields else name
    values: dict[str, Any] = {}
    parts = [part.strip() for part in given.split(",")] if given.strip() else []
    for position, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = (list(fields)[position] if position < len(fields) else ""), part
        if key not in fields or key in values:
            raise ConfigError(f"Expected the filter '{form}', but got '{text}'.")
        values[key] = _number(value, fields[key].annotation, f"{key} in '{text}'")
    missing = [key for key, field in fields.items() if key not in values and field.default is field.empty]
    if missing:
        raise ConfigError(f"Expected the filter '{form}', but got '{text}' without {', '.join(missing)}.")
    found: Filter = build(**values)
    return found


def _number(text: str, kind: Any, what: str) -> float:
    whole = kind in (int, "int")
    try:
        return int(text.replace("_", "")) if whole else float(text)
    except ValueError:
        said = "a whole number" if whole else "a number"
        raise ConfigError(f"Expected {what} to be {said}, but got '{text}'.") from None


def chain(source: Pass, filters: Sequence[Filter]) -> Pass:
    """A pass over what the filters leave of another pass, in memory that does not grow with the recording.

    `refractory` and `isolated_noise` carry over the events that still matter, `hot_pixels` counts in a pass of its
    own first.

    Raises:
        ConfigError: a filter that needs the whole recording at once, such as `reverse_time`.
    """
    for each in filters:
        source = partial(_stage_of(each), source, each)
    return source


def _stage_of(each: Any) -> Callable[[Pass, Any], Iterator[EventStream]]:
    if isinstance(each, HotPixels):
        return _without_hot_pixels
    if hasattr(each, "reach_us"):
        return _with_memory
    if getattr(each, "pointwise", False):
        return _one_by_one
    raise ConfigError(
        f"Expected filters that work window by window, but {each} needs the whole recording. Read it in Python and "
        "call the filter there."
    )


def _one_by_one(source: Pass, each: Filter) -> Iterator[EventStream]:
    return map(each, source())


def _with_memory(source: Pass, each: Any) -> Iterator[EventStream]:
    before: EventStream | None = None
    for window in source():
        joined = window if before is None else join([before, window])
        mask = each.mask(joined)
        yield window[mask[len(joined) - len(window) :]]
        past = joined[mask] if each.remembers_kept else joined
        if len(joined):
            before = past[int(np.searchsorted(past.t, joined.t[-1] - each.reach_us)) :]


def _without_hot_pixels(source: Pass, each: HotPixels) -> Iterator[EventStream]:
    counts = sum(map(event_counts, source()), np.int64(0))  # [H, W]
    hot = hot_pixel_mask(np.atleast_2d(counts), each.factor)
    for window in source():
        yield window if not len(window) else window[~hot[window.y, window.x]]
