"""Timeline and cursor: windows anywhere in a recording, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from evlift.errors import ConfigError
from evlift.events import EventStream, read_events, write_events
from evlift.events.readers import Mark, RawChunk
from evlift.viewer import recording as module
from evlift.viewer.recording import Recording, packed
from evlift.viewer.timeline import Timeline

pytestmark = pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")


def chunk_of(t: list[int]) -> RawChunk:
    n = len(t)
    return RawChunk(np.array(t), np.zeros(n, np.uint16), np.zeros(n, np.uint16), np.arange(n) % 2 == 0)


def mark_at(offset: int) -> Mark:
    return Mark(offset, np.zeros(1, np.int64))


def long_stream(seconds: int = 4, rate: int = 200_000) -> EventStream:
    rng = np.random.default_rng(1)
    n = seconds * rate
    t = np.sort(rng.integers(0, seconds * 1_000_000, n))
    x, y = rng.integers(0, 64, n), rng.integers(0, 48, n)
    return EventStream.from_columns(t, x, y, rng.random(n) < 0.5, sensor_size=(48, 64))


def test_a_timeline_counts_every_event_once_however_often_its_bins_double():
    timeline = Timeline(bins=8, marks=4)
    times = np.random.default_rng(0).integers(0, 10_000_000, 500)
    for part in np.split(times, 50):
        timeline.add(chunk_of(sorted(part.tolist())), None)
    assert timeline.counts.sum() == timeline.events == 500
    assert timeline.counts.shape[1] <= 8
    assert timeline.newest_us == times.max()


def test_a_timeline_keeps_few_marks_and_finds_one_before_any_time():
    timeline = Timeline(marks=8)
    for k in range(1000):
        timeline.add(chunk_of([10 * k, 10 * k + 9]), mark_at(100 * k))
    assert len(timeline._marks) <= 9
    for start in (0, 5, 4711, 9999, 10**9):
        mark = timeline.find(start)
        if mark is not None:
            before = 10 * (mark.offset // 100 - 1) + 9  # newest time before that mark
            assert before < start
    assert timeline.find(0) is None
    assert timeline.find(9_999).offset > 50_000


def test_a_late_event_is_not_lost_behind_a_mark():
    timeline = Timeline()
    timeline.add(chunk_of([0, 10]), mark_at(0))
    timeline.add(chunk_of([500, 90]), mark_at(100))
    timeline.add(chunk_of([95, 600]), mark_at(200))
    assert timeline.find(100).offset == 100  # 500 lies before the third mark


@pytest.mark.parametrize("name", ["a.raw", "b.h5", "c.npz", "d.txt", "e.dat"])
def test_windows_anywhere_equal_a_whole_read(tmp_path, name):
    stream = long_stream(1, 400_000)
    options = {"format": "evt3"} if name == "a.raw" else {}
    write_events(tmp_path / name, stream, **options)
    whole = read_events(tmp_path / name)
    opened = Recording(tmp_path / name)
    opened.wait()
    assert opened.timeline.events == len(whole)
    for start in (0, 20_000, 30_000, 900_000, 905_000, 100, 450_000, 2_000_000, 0):
        found = opened.window(start, start + 15_000)
        expected = whole.between(start, start + 15_000)
        assert len(found) == len(expected), start
        assert sorted(zip(*map(list, (found.t, found.x, found.y, found.p)), strict=True)) == sorted(
            zip(*map(list, (expected.t, expected.x, expected.y, expected.p)), strict=True)
        )
    opened.close()


def test_a_jump_decodes_a_part_of_the_file_alone(tmp_path):
    write_events(tmp_path / "a.raw", long_stream(), format="evt2")
    opened = Recording(tmp_path / "a.raw")
    opened.wait()
    opened.window(0, 10_000)
    offsets = []
    decode = opened.reader._decode_blocks
    opened.reader._decode_blocks = lambda blocks: decode(noted(blocks, opened.reader, offsets))
    opened.window(3_500_000, 3_510_000)
    assert offsets[0] > 2_000_000  # of 3.2 MB
    assert len(offsets) < 3
    opened.close()


def noted(blocks, reader, offsets):
    for block in blocks:
        offsets.append(reader.mark.offset)
        yield block


def test_memory_does_not_grow_with_the_recording(tmp_path):
    stream = long_stream(8)
    write_events(tmp_path / "a.raw", stream, format="evt2")
    opened = Recording(tmp_path / "a.raw")
    opened.wait()
    opened.window(0, 20_000)
    tracemalloc.start()
    for start in range(0, 8_000_000, 100_000):
        opened.window(start, start + 20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    opened.close()
    assert peak < 13 * len(stream) / 2


def test_a_window_of_too_many_events_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_HELD", 150_000)
    write_events(tmp_path / "a.raw", long_stream(1), format="evt2")
    opened = Recording(tmp_path / "a.raw")
    with pytest.raises(ConfigError, match="shorter window"):
        opened.window(0, 900_000)
    assert len(opened.window(0, 1000)) > 0
    opened.close()


def test_a_damaged_recording_says_so_in_its_timeline(tmp_path):
    lines = "8 8\n" + "".join(f"{t} 2 3 1\n" for t in range(100))
    (tmp_path / "whole.txt").write_text(lines)
    (tmp_path / "damaged.txt").write_text(lines + "x" * 100_000)
    for name, error in (("whole.txt", "None"), ("damaged.txt", "Expected lines of text")):
        opened = Recording(tmp_path / name)
        opened.wait()
        assert opened.timeline.done
        assert error in str(opened.timeline.error)
        opened.close()


def test_pixels_are_packed_by_polarity():
    stream = EventStream.from_columns(
        range(20), [1] * 20, [0] * 20, [True] * 18 + [False] * 2, sensor_size=(2, 3)
    )
    pixels = packed(stream)
    assert pixels.shape == (2, 3)
    assert pixels[0, 1] == 15 << 4 | 2
    assert pixels.sum() == pixels[0, 1]
