"""ATIS .bin: real files, the overflow marker, sensor sizes, round trips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import FormatError
from evlift.events import EventStream, RecordingWarning, open_reader, read_events, write_events


def record(t: int, x: int, y: int, p: int) -> bytes:
    return bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255])


def plain_events(content: bytes) -> list[tuple[int, ...]]:
    """The published reading script's arithmetic, record by record."""
    found, added = [], 0
    for i in range(0, len(content) - 4, 5):
        x, y, high, middle, low = content[i : i + 5]
        if y == 240:
            added += 2**13
        else:
            found.append((((high & 127) << 16 | middle << 8 | low) + added, x, y, high >> 7))
    return found


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [("bin_nmnist.bin", 4325, (34, 34)),
     ("ncaltech101_pair/ncaltech101_faces_easy_image_0001.bin", 67_445, (180, 240))],
)  # fmt: skip
def test_real_files(data_root: Path, name: str, count: int, size: tuple[int, int]) -> None:
    path = data_root / "recordings" / name
    events = read_events(path, strict=True)
    assert (len(events), events.sensor_size) == (count, size)
    found = zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True)
    assert list(found) == plain_events(path.read_bytes())


def test_overflow_adds_8192_us_and_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(record(8000, 1, 2, 1) + record(0, 9, 240, 0) * 2 + record(7, 3, 4, 0))
    events = read_events(path)
    assert events.t.tolist() == [8000, 2 * 8192 + 7]
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist()) == ([1, 3], [2, 4], [True, False])


@pytest.mark.parametrize(
    ("x", "y", "size"),
    [(33, 33, (34, 34)), (34, 0, (180, 240)), (0, 180, (240, 256)), (255, 239, (240, 256))],
)
def test_sensor_size_is_the_smallest_known_that_holds_the_events(
    tmp_path: Path, x: int, y: int, size: tuple[int, int]
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(record(1, x, y, 1))
    assert open_reader(path).sensor_size == size
    assert open_reader(path, sensor_size=(260, 346)).sensor_size == (260, 346)


def test_events_outside_a_given_sensor_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(record(1, 5, 5, 1) + record(2, 50, 5, 1))
    reader = open_reader(path, sensor_size=(34, 34))
    with pytest.warns(RecordingWarning, match="1 event outside"):
        assert len(reader.read()) == 1
    assert reader.problems.out_of_range == 1


def test_a_stream_needs_a_size_and_a_format(data_root: Path) -> None:
    path = data_root / "recordings" / "bin_nmnist.bin"
    with path.open("rb") as file, pytest.raises(FormatError, match="sensor_size"):
        open_reader(file, format="atis")
    with path.open("rb") as file, pytest.raises(FormatError, match="no known format"):
        open_reader(file)
    with path.open("rb") as file:
        assert open_reader(file, format="atis", sensor_size=(34, 34)).read() == read_events(path)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**25), st.integers(0, 255), st.integers(0, 239), st.booleans()), max_size=50
    ),
    st.integers(1, 4),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int, bool]], cuts: int
) -> None:
    t, x, y, p = (np.array([event[i] for event in events]) for i in range(4))
    stream = EventStream.from_columns(t, x, y, p, sensor_size=(240, 256))
    path = tmp_path_factory.getbasetemp() / "round.bin"
    step = len(stream) // cuts + 1
    write_events(path, [stream[i : i + step] for i in range(0, max(len(stream), 1), step)])
    assert read_events(path, sensor_size=(240, 256)) == stream


@pytest.mark.parametrize(
    ("t", "x", "y", "what"), [(0, 0, 240, "y"), (0, 256, 0, "x"), (-1, 0, 0, "t"), (2**33, 0, 0, "t")]
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, t: int, x: int, y: int, what: str) -> None:
    stream = EventStream.from_columns([t], [x], [y], [True], sensor_size=(260, 346))
    with pytest.raises(FormatError, match=f"`{what}`"):
        write_events(tmp_path / "a.bin", stream)
    assert not list(tmp_path.iterdir())
