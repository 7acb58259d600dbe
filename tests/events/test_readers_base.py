"""What all readers share: detection, ranges, order, windows, streams, cut tails."""

from __future__ import annotations

import io
import os
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError, FormatError
from evlift.events import (
    READERS,
    WRITERS,
    EventStream,
    Reader,
    RecordingWarning,
    open_reader,
    read_events,
    write_events,
)
from evlift.events.readers.base import SLACK_US, RawChunk
from evlift.wording import counted

Chunks = list[list[int]]


class Listed(Reader):
    """Chunks of times from memory; x counts the events."""

    format = "listed"

    def __init__(self, chunks: Chunks, **options: Any) -> None:
        self.listed = chunks
        super().__init__(io.BytesIO(), **options)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        return False

    def _inspect(self, sensor_size: tuple[int, int] | None) -> tuple[int, int]:
        return sensor_size or (10, 10_000)

    def _decode(self) -> Iterator[RawChunk]:
        done = 0
        for times in self.listed:
            n = len(times)
            yield RawChunk(
                np.array(times, np.int64), np.arange(done, done + n), np.zeros(n, int), np.zeros(n, np.bool_)
            )
            done += n


jittered = st.lists(st.lists(st.integers(0, SLACK_US), max_size=12), max_size=8)


@settings(max_examples=100, deadline=None)
@given(jittered, st.integers(1, 9000), st.integers(1, 9000), st.booleans(), st.booleans())
@pytest.mark.filterwarnings("ignore::evlift.events.readers.RecordingWarning")
def test_windows_of_a_reader_equal_windows_of_the_whole(
    chunks: Chunks, length: int, stride: int, by_count: bool, drop_last: bool
) -> None:
    """Any disorder within the slack: chunk k starts k · 3 ms later, so that the stream moves on."""
    reader = Listed([[t + 3000 * k for t in times] for k, times in enumerate(chunks)])
    cut = {"n_events": length % 20 + 1, "stride": stride % 30 + 1} if by_count else {
        "duration_us": length, "stride": max(stride, 20)}  # fmt: skip
    if reader.read().duration_us > SLACK_US + 24_000:
        return
    assert list(reader.windows(**cut, drop_last=drop_last)) == list(
        reader.read().windows(**cut, drop_last=drop_last)
    )


def test_backward_steps_are_sorted_stably_and_counted() -> None:
    reader = Listed([[5, 3, 5], [4, 5]])
    with pytest.warns(RecordingWarning, match="2 backward steps"):
        events = reader.read()
    assert (events.t.tolist(), events.x.tolist()) == ([3, 4, 5, 5, 5], [1, 3, 0, 2, 4])
    with pytest.warns(RecordingWarning):
        assert reader.columns().t.tolist() == [5, 3, 5, 4, 5]
    with pytest.raises(FormatError, match="1 backward step"):
        Listed([[5, 3]], strict=True).read()


def test_an_event_later_than_the_slack_is_dropped_from_windows_only() -> None:
    chunks = [[0, 10], [50_000, 100_000], [20, 100_001]]
    reader = Listed(chunks)
    with pytest.warns(RecordingWarning, match="1 event dropped for coming more than"):
        windows = list(reader.windows(duration_us=1000))
    assert sum(map(len, windows)) == 5
    with pytest.warns(RecordingWarning):
        assert len(Listed(chunks).read()) == 6


def test_time_range_reads_no_further_than_it_must() -> None:
    reader = Listed([[0, 10], [20, 30], [30 + SLACK_US, 31 + SLACK_US], [-1]])
    assert reader.read(10, 30).t.tolist() == [10, 20]
    assert not reader.problems  # the backward step of the last chunk was never met
    assert reader.read(stop_us=20).t.tolist() == [0, 10]
    whole = Listed([[0, 10], [20, 30]])
    assert [w.t.tolist() for w in whole.windows(n_events=2, start_us=10)] == [[10, 20], [30]]


def test_coordinates_outside_the_sensor_are_dropped_with_a_count() -> None:
    reader = Listed([[1, 2, 3]], sensor_size=(4, 2))
    with pytest.warns(RecordingWarning, match=r"1 event outside the sensor"):
        assert reader.read().x.tolist() == [0, 1]
    with pytest.raises(FormatError, match="outside the sensor"):
        Listed([[1, 2, 3]], sensor_size=(4, 2), strict=True).read()
    with pytest.raises(FormatError, match="sensor size"):
        Listed([], sensor_size=(0, 4))


def test_a_gap_of_a_million_windows_is_refused() -> None:
    reader = Listed([[0, 1], [2**40]])
    with pytest.raises(FormatError, match="gap"):
        list(reader.windows(duration_us=1000))
    assert len(list(reader.windows(n_events=2))) == 2


@pytest.mark.parametrize("cut", [{}, {"duration_us": 5, "n_events": 5}, {"duration_us": 0}, {"n_events": -1}])
def test_windows_want_one_positive_length(cut: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        list(Listed([[1]]).windows(**cut))


BINARY = ("atis", "dat", "evt2", "evt3")


@pytest.fixture
def files(tmp_path: Path, random_stream: EventStream) -> dict[str, Path]:
    """The same events in every format of this family."""
    for form in BINARY:
        write_events(tmp_path / f"{form}.bin", random_stream, format=form)
    return {form: tmp_path / f"{form}.bin" for form in BINARY}


def test_content_decides_before_the_extension(files: dict[str, Path], random_stream: EventStream) -> None:
    for form, path in files.items():
        reader = open_reader(path, sensor_size=(30, 40))
        assert (reader.format, reader.read()) == (form, random_stream)


def test_a_cut_tail_is_dropped_with_its_bytes_counted(files: dict[str, Path]) -> None:
    for form, path in files.items():
        path.write_bytes(path.read_bytes()[:-1])
        reader = open_reader(path, format=form, sensor_size=(30, 40))
        lost = READERS[form].record_bytes - 1
        with pytest.warns(RecordingWarning, match=f"{counted(lost, 'byte')} at the end dropped"):
            assert len(reader.read()) == 4999
        assert reader.problems.dropped_bytes == lost
        with pytest.raises(FormatError, match="at the end"):
            read_events(path, format=form, sensor_size=(30, 40), strict=True)


def test_a_pipe_in_small_pieces_gives_the_same_events(
    files: dict[str, Path], random_stream: EventStream
) -> None:
    for form, path in files.items():
        content = path.read_bytes()
        inlet, outlet = os.pipe()

        def feed(outlet: int = outlet, content: bytes = content) -> None:
            with os.fdopen(outlet, "wb", buffering=0) as file:
                for i in range(0, len(content), 777):
                    file.write(content[i : i + 777])

        thread = threading.Thread(target=feed)
        thread.start()
        with os.fdopen(inlet, "rb") as file:
            reader = open_reader(file, format="atis" if form == "atis" else None, sensor_size=(30, 40))
            assert reader.read() == random_stream
            with pytest.raises(FormatError, match="second pass"):
                reader.read()
        thread.join()


def test_windowed_pass_keeps_its_memory(tmp_path: Path) -> None:
    peaks = []
    for millions in (1, 4):
        n = millions * 1_000_000
        zeros = np.zeros(n, np.uint16)
        stream = EventStream(np.arange(n), zeros, zeros, zeros > 0, (480, 640))
        write_events(tmp_path / "long.raw", stream)
        tracemalloc.start()
        assert sum(len(w) for w in open_reader(tmp_path / "long.raw").windows(duration_us=10_000)) == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_unknown_missing_and_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such file"):
        read_events(tmp_path / "missing.raw")
    with pytest.raises(FormatError, match="folder"):
        read_events(tmp_path)
    (tmp_path / "note.xyz").write_bytes(b"\x00\x01 hello")
    with pytest.raises(FormatError, match=r"Can be read: .*evt3 \(\.raw\)"):
        read_events(tmp_path / "note.xyz")
    with pytest.raises(ConfigError, match="Did you mean 'evt3'"):
        read_events(tmp_path / "note.xyz", format="evt33")
    with pytest.raises(ConfigError, match="Unknown option"):
        read_events(tmp_path / "note.xyz", format="evt3", colour=1)


def test_writers_name_what_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="Can be written"):
        write_events(tmp_path / "a.xyz", EventStream.empty((4, 4)))
    with pytest.raises(FormatError, match="at least one stream"):
        write_events(tmp_path / "a.raw", [])


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_every_writer_keeps_an_empty_stream_and_a_small_one(tmp_path: Path, form: str) -> None:
    suffix = WRITERS[form].extensions[0] if WRITERS[form].extensions else ".raw"  # type: ignore[attr-defined]
    small = EventStream.from_columns([7, 7, 9], [0, 3, 2], [1, 2, 0], [1, 0, 1], sensor_size=(4, 5))
    for stream in (EventStream.empty((4, 5)), small):
        path = tmp_path / f"a{suffix}"
        write_events(path, stream, format=form)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert read_events(path, sensor_size=(4, 5)) == stream


@pytest.mark.parametrize("form", sorted(READERS))
def test_every_reader_states_what_it_is(form: str) -> None:
    reader: Any = READERS[form]
    assert issubclass(reader, Reader)
    assert reader.format == form
    assert all(suffix.startswith(".") and suffix.islower() for suffix in reader.extensions)
    assert reader.extensions
