"""AEDAT 2.0, 3.1, 4 and Event Stream: real files, and files written from the formats' descriptions."""

from __future__ import annotations

import importlib.util
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError, FormatError
from evlift.events import EventStream
from evlift.events.readers import RecordingWarning, open_reader, read_events

HEADER2 = "#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# AEChip: {chip}\r\n"
HEADER31 = "#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: {source}\r\n#!END-HEADER\r\n"
DAVIS = "eu.seebetter.ini.chips.davis.Davis346red"


def crc(events: EventStream) -> int:
    """One number for all four columns."""
    return zlib.crc32(b"".join(np.ascontiguousarray(getattr(events, name)).tobytes() for name in "txyp"))


def aedat2(path: Path, chip: str, records: list[tuple[int, int]]) -> Path:
    path.write_bytes(HEADER2.format(chip=chip).encode() + np.array(records, ">u4").tobytes())
    return path


def davis(x: int, y: int, p: int) -> int:
    return y << 22 | x << 12 | p << 11


def rows(events: EventStream) -> list[tuple[int, int, int, bool]]:
    return list(zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True))


def test_aedat2_davis_skips_frames_imu_and_triggers(tmp_path: Path) -> None:
    frame, trigger = davis(1, 1, 1) | 1 << 31, davis(1, 1, 1) | 1 << 10
    records = [(davis(3, 0, 1), 10), (frame, 11), (trigger, 12), (davis(345, 259, 0), 13)]
    events = read_events(aedat2(tmp_path / "a.aedat", DAVIS, records))
    assert events.sensor_size == (260, 346)
    assert rows(events) == [(10, 3, 259, True), (13, 345, 0, False)]  # rows count from the bottom in the file


def test_aedat2_dvs128_layout_and_its_external_events(tmp_path: Path) -> None:
    records = [(5 << 8 | 3 << 1 | 1, 10), (1 << 15 | 7, 11), (127 << 8 | 127 << 1, 12)]
    events = read_events(aedat2(tmp_path / "a.aedat", "ch.unizh.ini.jaer.chip.retina.DVS128", records))
    assert events.sensor_size == (128, 128)
    assert rows(events) == [(10, 3, 122, False), (12, 127, 0, True)]  # a 0 is ON


@pytest.mark.parametrize(
    ("chip", "size"),
    [(DAVIS, (260, 346)), ("DAVIS240C", (180, 240)), ("Davis640", (480, 640)), ("Tmpdiff128", (128, 128))],
)
def test_aedat2_camera_comes_from_the_header_or_the_caller(
    tmp_path: Path, chip: str, size: tuple[int, int]
) -> None:
    path = aedat2(tmp_path / "a.aedat", chip, [])
    assert open_reader(path).sensor_size == size
    assert open_reader(path, camera="davis208").sensor_size == (192, 208)
    with pytest.raises(ConfigError, match="Expected `camera` to be one of"):
        open_reader(path, camera="davis999")


def test_aedat2_counter_wraps_only_on_a_large_fall(tmp_path: Path) -> None:
    address = davis(3, 4, 1)
    times = [2**32 - 20, 2**32 - 30, 2**32 - 1, 5, 2]
    path = aedat2(tmp_path / "a.aedat", DAVIS, [(address, t) for t in times])
    with pytest.warns(RecordingWarning, match="2 backward steps"):
        events = read_events(path, sort=False)
    assert events.t.tolist() == [2**32 - 20, 2**32 - 30, 2**32 - 1, 2**32 + 5, 2**32 + 2]


def test_aedat2_event_that_begins_like_a_header_line(tmp_path: Path) -> None:
    address = davis(3, 0x23 << 2, 1)
    assert address >> 24 == ord("#")
    assert len(read_events(aedat2(tmp_path / "a.aedat", DAVIS, [(address, 5)] * 9))) == 9


def test_aedat2_cut_record_is_counted(tmp_path: Path) -> None:
    path = aedat2(tmp_path / "a.aedat", DAVIS, [(davis(1, 1, 1), 5)] * 3)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(RecordingWarning, match="5 bytes at the end dropped"):
        assert len(read_events(path)) == 2


def packet(
    events: list[tuple[int, int, int, int, int]], overflow: int = 0, kind: int = 1, size: int = 8
) -> bytes:
    """Events as (t, x, y, p, valid)."""
    words = [word for t, x, y, p, valid in events for word in (x << 17 | y << 2 | p << 1 | valid, t)]
    count = len(events)
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, count, count, count) + struct.pack(
        f"<{len(words)}I", *words
    )


def aedat3(path: Path, packets: bytes, source: str = "DVS128") -> Path:
    path.write_bytes(HEADER31.format(source=source).encode() + packets)
    return path


def test_aedat3_skips_invalid_events_and_other_packets(tmp_path: Path) -> None:
    special = struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 2, 2, 2) + bytes(16)
    frames = struct.pack("<hhiiiiii", 2, 1, 1000, 4, 0, 1, 1, 1) + bytes(1000)
    first = packet([(10, 3, 4, 1, 1), (11, 5, 6, 1, 0), (12, 127, 127, 0, 1)])
    path = aedat3(tmp_path / "a.aedat", special + first + frames + packet([(13, 1, 2, 0, 1)]))
    assert rows(read_events(path)) == [(10, 3, 4, True), (12, 127, 127, False), (13, 1, 2, False)]


def test_aedat3_time_is_overflow_times_2_to_31_plus_t(tmp_path: Path) -> None:
    packets = packet([(2**31 - 1, 1, 1, 1, 1)]) + packet([(4, 1, 1, 1, 1)], overflow=3)
    assert read_events(aedat3(tmp_path / "a.aedat", packets)).t.tolist() == [2**31 - 1, 3 * 2**31 + 4]


@given(counts=st.lists(st.integers(0, 70), max_size=6), block=st.integers(8, 400), cut=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_aedat3_in_blocks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], block: int, cut: int
) -> None:
    from evlift.events.readers.aedat import Aedat3Reader

    number = iter(range(10_000))
    parts = [packet([(next(number), 1, 2, 1, 1) for _ in range(count)]) for count in counts]
    content = b"".join(parts)
    content = content[: max(len(content) - cut, 0)]
    path = aedat3(tmp_path_factory.mktemp("a") / "a.aedat", content)
    reader = Aedat3Reader(path)
    reader.block_records = block // 8 * 8  # type: ignore[misc]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        events = reader.read()
    expected, left = 0, len(content)
    for count in counts:
        left -= 28
        expected += min(max(left, 0) // 8, count)
        left -= 8 * count
    assert events.t.tolist() == list(range(expected))


def test_aedat3_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(b"#!AER-DAT3.0\r\n" + packet([(1, 1, 1, 1, 1)]))
    with pytest.raises(FormatError, match=r"Expected .* to be AEDAT 3.1"):
        open_reader(path)
    assert open_reader(aedat3(path, b"", "DAVIS346")).sensor_size == (260, 346)


def test_aedat3_broken_packet_header_ends_the_reading(tmp_path: Path) -> None:
    broken = struct.pack("<hhiiiiii", 1, 1, -8, 4, 0, 5, 5, 5) + bytes(40)
    path = aedat3(tmp_path / "a.aedat", packet([(1, 1, 1, 1, 1)]) + broken)
    with pytest.warns(RecordingWarning, match="40 bytes at the end dropped.*1 record of no known kind"):
        assert len(read_events(path)) == 1


# Checksums of what the package named decodes from the same files.
REAL = {
    "aedat2_dvs128_poker.aedat": (3_136, (128, 128), None),
    "aedat2_header_only.aedat": (0, (260, 346), None),
    "aedat4_davis346_traffic.aedat4": (6_676, (260, 346), "aedat"),
    "aedat4_dvxplorer_320x240.aedat4": (111_954, (240, 320), "aedat"),
    "aedat4_640x480_minimal.aedat4": (255_283, (480, 640), "aedat"),
    "aedat4_frames_only.aedat4": (0, (260, 346), "aedat"),
    "es_dvs.es": (473_225, (240, 320), None),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_files(data_root: Path, name: str) -> None:
    count, size, package = REAL[name]
    path = data_root / "recordings" / name
    events = read_events(path, strict=True)
    assert len(events) == count
    assert events.sensor_size == size
    if package == "aedat":
        import aedat

        packets = [packet["events"] for packet in aedat.Decoder(str(path)) if "events" in packet]
        for ours, theirs in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
            expected = np.concatenate([part[theirs] for part in packets]) if packets else np.empty(0)
            assert np.array_equal(getattr(events, ours), expected), ours


def test_real_aedat2_equals_its_records(data_root: Path) -> None:
    path = data_root / "recordings" / "aedat2_dvs128_poker.aedat"
    content = path.read_bytes()
    start = content.index(b"2008\r\n") + 6
    records = np.frombuffer(content[start:], ">u4").reshape(-1, 2).astype(np.int64)
    address, t = records.T
    events = read_events(path)
    assert np.array_equal(events.t, t)
    assert np.array_equal(events.x, address >> 1 & 127)
    assert np.array_equal(events.y, 127 - (address >> 8 & 127))
    assert np.array_equal(events.p, 1 - (address & 1))


def test_real_aedat2_is_a_published_array_of_poker_dvs(data_root: Path) -> None:
    events = read_events(data_root / "recordings" / "aedat2_dvs128_poker.aedat")
    published = np.load(data_root / "poker_dvs_train" / "cl" / "7.npy")
    assert np.array_equal(events.t - events.t[0], published["t"])
    assert np.array_equal(events.x, published["x"])
    assert np.array_equal(127 - events.y, published["y"])  # its rows count from the bottom
    assert np.array_equal(events.p, published["p"])


def test_real_es_equals_faery(data_root: Path) -> None:
    path = data_root / "recordings" / "es_dvs.es"
    events = read_events(path)
    assert crc(events) == 0x36AADDD5  # of what faery 0.7.1 decodes
    if importlib.util.find_spec("faery") is None:
        return
    import faery

    packets = np.concatenate(list(faery.events_stream_from_file(str(path))))
    for ours, theirs in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        assert np.array_equal(getattr(events, ours), packets[theirs]), ours


def test_es_refuses_other_kinds_and_counts_a_cut_event(tmp_path: Path) -> None:
    path = tmp_path / "a.es"
    head = b"Event Stream\x02\x00\x00"
    path.write_bytes(
        head + b"\x01" + struct.pack("<2H", 40, 30) + bytes([0xFF, 0xFE, 7, 3, 0, 29, 0]) + b"\x05\x01"
    )
    with pytest.warns(RecordingWarning, match="2 bytes at the end dropped"):
        assert rows(read_events(path)) == [(130, 3, 0, True)]
    path.write_bytes(head + b"\x02" + struct.pack("<2H", 40, 30))
    with pytest.raises(FormatError, match=r"version 2 with DVS events .* with ATIS events"):
        read_events(path)


def test_aedat4_keeps_the_packets_before_a_cut(data_root: Path, tmp_path: Path) -> None:
    content = (data_root / "recordings" / "aedat4_640x480_minimal.aedat4").read_bytes()
    whole = read_events(data_root / "recordings" / "aedat4_640x480_minimal.aedat4")
    path = tmp_path / "cut.aedat4"
    path.write_bytes(content[:1_000_000])
    with pytest.warns(RecordingWarning, match="4,100 bytes at the end dropped"):
        events = read_events(path)
    assert 100_000 < len(events) < len(whole)
    assert events == whole[: len(events)]
    with pytest.raises(FormatError, match="bytes at the end dropped"):
        read_events(path, strict=True)
    path.write_bytes(content[:3_000])
    with pytest.raises(FormatError, match="but the first one fails: failed to fill whole buffer"):
        read_events(path)


def test_aedat4_that_kills_its_decoder_becomes_an_error(data_root: Path, tmp_path: Path) -> None:
    """XML nested a hundred thousand deep overflows the decoder's stack, which ends its process."""
    content = (data_root / "recordings" / "aedat4_dvxplorer_320x240.aedat4").read_bytes()
    (size,) = struct.unpack("<I", content[14:18])
    header = content[18 : 18 + size]
    at = header.index(b"<dv")
    deep = b'<dv version="2.0">' + b'<node name="a">' * 100_000 + b"</node>" * 100_000 + b"</dv>"
    header = header[: at - 4] + struct.pack("<I", len(deep)) + deep + b"\0"
    path = tmp_path / "deep.aedat4"
    path.write_bytes(content[:14] + struct.pack("<I", len(header)) + header + content[18 + size :])
    with pytest.raises(FormatError, match="to be an AEDAT4 file, but got: the decoder ended with -"):
        open_reader(path)


def test_aedat4_damaged_files_end_in_words(data_root: Path, tmp_path: Path) -> None:
    content = (data_root / "recordings" / "aedat4_davis346_traffic.aedat4").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.aedat4"
    ends = {"read": 0, "refused": 0}
    for _ in range(25):
        damaged = bytearray(content[: int(rng.integers(20, len(content)))])
        for at in rng.integers(0, min(len(damaged), 6000), 3):
            damaged[at] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordingWarning)
            try:
                read_events(path, format="aedat4")
                ends["read"] += 1
            except FormatError:
                ends["refused"] += 1
    assert ends["refused"] > 0
