"""EVT2, EVT2.1, EVT3 and DAT: real files, a plain loop over the words, traps of the formats, round trips."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError, FormatError
from evlift.events import EventStream, RecordingWarning, open_reader, read_events, write_events
from evlift.events.readers import base, evt

HEAD3 = b"% evt 3.0\n% geometry 1280x720\n% end\n"
HEAD2 = b"% evt 2.0\n% geometry 640x480\n% end\n"
HEAD21 = b"% format EVT21;height=480;width=640\n% end\n"


def checksum(events: EventStream) -> int:
    """CRC-32 over t, x, y, p as little-endian int64, uint16, uint16, uint8."""
    crc = 0
    for column, kind in ((events.t, "<i8"), (events.x, "<u2"), (events.y, "<u2"), (events.p, "u1")):
        crc = zlib.crc32(column.astype(kind).tobytes(), crc)
    return crc


def rows(events: EventStream) -> list[tuple[int, ...]]:
    return list(
        zip(
            events.t.tolist(),
            events.x.tolist(),
            events.y.tolist(),
            events.p.astype(int).tolist(),
            strict=True,
        )
    )


def save(path: Path, head: bytes, words: list[int], kind: str) -> Path:
    path.write_bytes(head + np.array(words, kind).tobytes())
    return path


# Checksums of the events that evlib 0.13.2 (MIT) decodes from the same files.
ORACLE = {
    "evt3_1280x720_driving.raw": (219_596, (11_718_656, 874, 200, 0), (11_727_457, 1218, 572, 1), 0x776D9123),
    "evt2_640x480_spinner.raw": (539_481, (1_317_888, 237, 121, 1), (1_367_888, 210, 142, 1), 0x339F57A9),
}


@pytest.mark.parametrize("name", sorted(ORACLE))
def test_real_raw_files_equal_evlib(data_root: Path, name: str) -> None:
    count, first, last, crc = ORACLE[name]
    events = read_events(data_root / "recordings" / name, strict=True)
    assert len(events) == count
    assert (rows(events[:1])[0], rows(events[-1:])[0]) == (first, last)
    assert checksum(events) == crc


def test_real_dat_equals_its_records(data_root: Path) -> None:
    path = data_root / "recordings" / "dat_ncars_car.dat"
    events = read_events(path, strict=True)
    body = path.read_bytes()[-8 * 2009 :]
    words = [struct.unpack_from("<II", body, 8 * i) for i in range(2009)]
    assert rows(events) == [(t, w & 0x3FFF, w >> 14 & 0x3FFF, w >> 28 & 1) for t, w in words]


@pytest.mark.parametrize(
    "name", ["evt3_1280x720_driving.raw", "evt2_640x480_spinner.raw", "dat_ncars_car.dat"]
)
def test_real_files_survive_every_writer(data_root: Path, tmp_path: Path, name: str) -> None:
    events = read_events(data_root / "recordings" / name)
    for form in ("evt2", "evt3", "dat"):
        write_events(tmp_path / "copy", events, format=form)
        assert read_events(tmp_path / "copy") == events


def plain_evt3(words: list[int]) -> list[tuple[int, ...]]:
    """The format's description as a plain loop."""
    found: list[tuple[int, ...]] = []
    loops, high, low, row, base_x, polarity = 0, None, 0, None, None, 0
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 0x8:
            loops = 0 if high is None else loops + (high - value > 2048) - (value - high > 2048 and loops > 0)
            low = low if value == high else 0
            high = value
        elif kind == 0x6:
            low = value
        elif kind == 0x0:
            row = value & 0x7FF
        elif kind == 0x3:
            base_x, polarity = value & 0x7FF, value >> 11
        elif kind in (0x2, 0x4, 0x5):
            time = (loops << 24) + ((high or 0) << 12) + low
            ready = high is not None and row is not None
            if kind == 0x2 and ready:
                found.append((time, value & 0x7FF, row, value >> 11))
            elif kind != 0x2 and base_x is not None:
                width = 12 if kind == 0x4 else 8
                bits = [b for b in range(width) if value >> b & 1]
                found += [(time, base_x + b, row, polarity) for b in bits if ready]
                base_x += width
    return found


@pytest.mark.filterwarnings("ignore::evlift.events.readers.RecordingWarning")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 0xFFFF), max_size=400), st.integers(1, 40))
def test_evt3_equals_a_plain_loop_in_blocks_of_any_size(words: list[int], cut: int) -> None:
    """Any words at all; blocks of `cut` words and output that fills up in the middle of them."""
    body = HEAD3 + np.array(words, "<u2").tobytes()
    expected = [row for row in plain_evt3(words) if row[1] < 1280 and row[2] < 720]
    for block, room in ((base.CHUNK_EVENTS, base.CHUNK_EVENTS), (cut, 13 + cut)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evt.Evt3Reader, "block_records", block)
            patch.setattr(evt, "CHUNK_EVENTS", room)
            found = open_reader(io.BytesIO(body), format="evt3").columns()
        assert [tuple(map(int, row)) for row in zip(*found.columns, strict=True)] == expected


def test_evt3_repeated_time_high_keeps_time_low(tmp_path: Path) -> None:
    words = [0x8005, 0x6007, 0x0003, 0x2001, 0x8005, 0x2002, 0x8006, 0x2003]
    found = read_events(save(tmp_path / "a.raw", HEAD3, words, "<u2"))
    assert found.t.tolist() == [(5 << 12) + 7, (5 << 12) + 7, 6 << 12]


def test_evt3_counter_wraps_every_16_8_seconds(tmp_path: Path) -> None:
    words = [0x8000 | 0xFFF, 0x6FFF, 0x0003, 0x2001, 0x8000, 0x2002, 0x8001, 0x2003]
    found = read_events(save(tmp_path / "a.raw", HEAD3, words, "<u2"))
    assert found.t.tolist() == [2**24 - 1, 2**24, 2**24 + 4096]


def test_evt3_small_fall_of_time_high_is_no_wrap(tmp_path: Path) -> None:
    path = save(tmp_path / "a.raw", HEAD3, [0x8010, 0x0003, 0x2001, 0x800F, 0x2002], "<u2")
    with pytest.warns(RecordingWarning, match="1 backward step"):
        found = read_events(path)
    assert found.t.tolist() == [0xF000, 0x10000]
    assert found.x.tolist() == [2, 1]


def test_evt3_vectors_move_the_base_and_skip_triggers(tmp_path: Path) -> None:
    words = [0x8000, 0x6001, 0x0009, 0x3800 | 100, 0x4801, 0xA001, 0xF123, 0x7001, 0xE000, 0x5081, 0x4001]
    found = read_events(save(tmp_path / "a.raw", HEAD3, words, "<u2"), strict=True)
    assert rows(found) == [(1, x, 9, 1) for x in (100, 111, 112, 119, 120)]


def test_events_without_a_time_and_unknown_words_are_counted_not_invented(tmp_path: Path) -> None:
    path = save(tmp_path / "a.raw", HEAD3, [0x0003, 0x2001, 0x1000, 0x9000, 0x8001, 0x2004], "<u2")
    reader = open_reader(path)
    with pytest.warns(RecordingWarning, match="2 records of no known kind"):
        assert rows(reader.read()) == [(4096, 4, 3, 0)]
    with pytest.raises(FormatError, match="2 records of no known kind"):
        read_events(path, strict=True)


def test_evt2_words_and_wrap(tmp_path: Path) -> None:
    def event(low: int, x: int, y: int, p: int) -> int:
        return p << 28 | low << 22 | x << 11 | y

    words = [
        event(1, 1, 1, 1),
        0x8FFFFFFF,
        event(63, 5, 6, 1),
        0x80000000,
        event(2, 7, 8, 0),
        0xA0000000,
        0xE0000000,
    ]
    found = read_events(save(tmp_path / "a.raw", HEAD2, words, "<u4"), strict=True)
    assert rows(found) == [(2**34 - 1, 5, 6, 1), (2**34 + 2, 7, 8, 0)]


def evt21_words(events: EventStream) -> np.ndarray:
    """Little-endian EVT2.1 of a stream, by the format's description: a vector where x allows, a word else."""
    words: list[int] = []
    high = -1
    for t, x, y, p in rows(events):
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 60 | high << 32)
        head = p << 60 | (t & 63) << 54 | y << 32
        at = x // 32 * 32
        previous = words[-1]
        if (
            previous >> 60 < 2
            and previous >> 32 == (head | at << 43) >> 32
            and previous & 0xFFFFFFFF < 1 << x % 32
        ):
            words[-1] |= 1 << x % 32
        else:
            words.append(head | at << 43 | 1 << x % 32)
    return np.array(words, np.uint64)


@pytest.fixture(scope="module")
def real_slice(data_root: Path) -> EventStream:
    return read_events(data_root / "recordings" / "evt2_640x480_spinner.raw")[:60_000]


@pytest.mark.parametrize("stated", [b"", b";endianness=little", b";endianness=legacy"])
@pytest.mark.parametrize("layout", ["little", "legacy"])
def test_evt21_layout_is_found_whatever_the_header_says(
    real_slice: EventStream, tmp_path: Path, layout: str, stated: bytes
) -> None:
    words = evt21_words(real_slice)
    stored = evt.swap_halves(words) if layout == "legacy" else words
    path = tmp_path / "a.raw"
    path.write_bytes(HEAD21.replace(b"640", b"640" + stated) + stored.astype("<u8").tobytes())
    reader = open_reader(path)
    assert (reader.format, reader.layout) == ("evt21", layout)
    assert reader.read() == real_slice


def test_evt21_of_neither_layout_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.raw", HEAD21, [0x5555_5555_5555_5555] * 100, "<u8")
    with pytest.raises(FormatError, match="neither layout"):
        read_events(path)
    with pytest.raises(ConfigError, match="'little' or 'legacy'"):
        open_reader(path, layout="middle")


HEAD_DAT = b"% Data file containing CD events.\n% Version 2\n% Height 480\n% Width 640\n" + bytes([12, 8])


def test_dat_wraps_only_on_a_fall_of_more_than_half_the_counter(tmp_path: Path) -> None:
    times = [2**32 - 10, 2**32 - 20, 5, 2**32 - 1, 9]
    path = save(tmp_path / "a.dat", HEAD_DAT, [w for t in times for w in (t, 3 << 14 | 2)], "<u4")
    with pytest.warns(RecordingWarning, match="2 backward steps"):
        found = read_events(path, sort=False)
    assert found.t.tolist() == [2**32 - 10, 2**32 - 20, 2**32 + 5, 2**32 - 1, 2**32 + 9]


def test_dat_of_another_record_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(HEAD_DAT[:-2] + bytes([14, 16]) + bytes(64))
    with pytest.raises(FormatError, match="kind"):
        read_events(path, format="dat")


@pytest.mark.parametrize("side", [b"999999999999", b"4096", b"0", b"-5", b"x", b""])
def test_impossible_sizes_in_a_header_are_refused(tmp_path: Path, side: bytes) -> None:
    for line in (b"% geometry " + side + b"x480\n", b"% format EVT3;height=" + side + b";width=640\n"):
        path = tmp_path / "a.raw"
        path.write_bytes(b"% evt 3.0\n" + line + b"% end\n" + bytes(8))
        with pytest.raises(FormatError, match="Give"):
            open_reader(path)
        assert open_reader(path, sensor_size=(480, 640)).sensor_size == (480, 640)


def test_header_without_end_stops_at_the_data(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.raw",
        b"% plugin_name hal_plugin_gen31_fx3\n% evt 3.0\n",
        [0x8001, 0x0002, 0x2003],
        "<u2",
    )
    reader = open_reader(path)
    assert reader.sensor_size == (480, 640)
    assert rows(reader.read()) == [(4096, 3, 2, 0)]


def test_endless_header_and_wrong_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 3.0\n" + b"% a b\n" * 2000)
    with pytest.raises(FormatError, match="goes on"):
        open_reader(path, format="evt3")
    path.write_bytes(HEAD3)
    with pytest.raises(FormatError, match="format='evt3'"):
        open_reader(path, format="evt2")


@st.composite
def streams(draw: st.DrawFn, side: int, span: int) -> EventStream:
    """Streams whose runs of neighbours make vectors, with gaps of any length up to `span` µs in all."""
    n = draw(st.integers(0, 60))
    gaps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 63, 5000, span // 100]), min_size=n, max_size=n))
    start = draw(st.sampled_from([0, 1, 2**24 - 3, span // 4]))
    x = draw(st.integers(0, side - 14))
    steps = draw(st.lists(st.integers(0, 13), min_size=n, max_size=n))
    y = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    p = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    t = start + np.cumsum(gaps, dtype=np.int64)
    return EventStream.from_columns(
        t, x + np.array(steps, int), np.array(y) * (side - 1), p, sensor_size=(side, side)
    )


@settings(max_examples=80, deadline=None)
@given(data=st.data(), form=st.sampled_from(["evt2", "evt3", "dat"]), cuts=st.integers(1, 5))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, form: str, cuts: int
) -> None:
    side, span = (8191, 2**33) if form == "dat" else (2048, 2**40)
    stream = data.draw(streams(side, span))
    path = tmp_path_factory.getbasetemp() / f"round.{form}"
    step = len(stream) // cuts + 1
    write_events(path, [stream[i : i + step] for i in range(0, max(len(stream), 1), step)], format=form)
    assert read_events(path) == stream
    assert read_events(path, strict=True, sort=False).t.tolist() == stream.t.tolist()


@pytest.mark.parametrize(
    ("form", "t", "x", "remedy"),
    [("evt2", [-1], [0], "`t`"), ("evt3", [2**42], [0], "`t`"), ("dat", [2**32], [0], "32-bit clock"),
     ("dat", [2**32 - 5, 2**32 + 2**31], [0, 0], "32-bit clock"),
     ("dat", [2**32 - 5, 2**32, 2**32 + 2**31 + 8], [0, 0, 0], "32-bit clock")],
)  # fmt: skip
def test_writers_refuse_what_the_format_cannot_hold(
    tmp_path: Path, form: str, t: list[int], x: list[int], remedy: str
) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"as it was")
    stream = EventStream.from_columns(t, x, x, [True] * len(t), sensor_size=(480, 640))
    with pytest.raises(FormatError, match=remedy):
        write_events(path, stream, format=form)
    assert path.read_bytes() == b"as it was"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_evt_writers_refuse_large_sensors_and_disorder(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="2048x2048"):
        write_events(tmp_path / "a.raw", EventStream.empty((2049, 4)))
    late, early = (EventStream.from_columns([t], [0], [0], [1], sensor_size=(4, 4)) for t in (5, 4))
    with pytest.raises(FormatError, match="order of time"):
        write_events(tmp_path / "a.raw", [late, early])
    with pytest.raises(FormatError, match="one sensor"):
        write_events(tmp_path / "a.raw", [late, EventStream.empty((5, 4))])
