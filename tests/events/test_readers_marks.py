"""Marks: a pass that begins at one decodes what the whole pass decodes from there on."""

from __future__ import annotations

import numpy as np
import pytest

from evlift.events import EventStream, open_reader, write_events
from evlift.events.readers import RawChunk

MARKED = {
    "evt2": "evt2_640x480_spinner.raw",
    "evt3": "evt3_1280x720_driving.raw",
    "dat": "dat_ncars_car.dat",
    "atis": "bin_nmnist.bin",
    "aedat2": "aedat2_dvs128_poker.aedat",
}


def equal(one: RawChunk, other: RawChunk) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.columns, other.columns, strict=True))


@pytest.mark.parametrize("format", MARKED)
def test_a_pass_may_begin_at_every_mark(format, data_root):
    reader = open_reader(data_root / "recordings" / MARKED[format])
    reader.block_records = 700  # a mark every few hundred events
    passed = [(chunk, reader.mark) for chunk in reader.chunks()]
    assert all(mark is not None for _, mark in passed)
    assert len({mark.offset for _, mark in passed}) > 1
    for place in (0, 1, len(passed) // 2, len(passed) - 1):
        mark = passed[place][1]
        first = next(i for i, (_, other) in enumerate(passed) if other.offset == mark.offset)
        rest = RawChunk.concatenate([chunk for chunk, _ in passed[first:]])
        assert equal(RawChunk.concatenate(list(reader.chunks_between(mark=mark))), rest)
    whole = RawChunk.concatenate([chunk for chunk, _ in passed])
    assert equal(reader.columns(), whole)  # and the next pass begins at the start again


def test_a_range_of_time_from_a_mark(data_root):
    reader = open_reader(data_root / "recordings" / MARKED["evt2"])
    passed = [(int(chunk.t.min()), reader.mark) for chunk in reader.chunks()]
    start, mark = passed[2][0] + 1, passed[2][1]  # the block before ends at its own last time
    found = list(reader.chunks_between(start, start + 1000, mark=mark))
    assert equal(RawChunk.concatenate(found), reader.columns(start, start + 1000))


def test_formats_without_a_state_of_their_own_give_no_mark(tmp_path, random_stream: EventStream):
    write_events(tmp_path / "a.npz", random_stream)
    reader = open_reader(tmp_path / "a.npz")
    assert [reader.mark for _ in reader.chunks()] == [None]
