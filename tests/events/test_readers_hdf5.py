"""DSEC's and MVSEC's HDF5 and MATLAB files, against h5py, SciPy and the stream they were written from."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError, FormatError
from evlift.events import EventStream
from evlift.events.readers import RecordingWarning, open_reader, read_events
from evlift.events.readers.hdf5 import DsecReader
from evlift.events.writers import write_events
from evlift.kernels.decode import lzf_length

SIZE = (30, 40)


@pytest.fixture(scope="module")
def stream() -> EventStream:
    """Three chunks, with a quiet stretch of 0.4 s in the middle."""
    rng = np.random.default_rng(0)
    n = 280_000
    t = np.sort(rng.integers(0, 2_000_000, n))
    t = 5_000_123 + t + np.where(t > 1_000_000, 400_000, 0)
    return EventStream.from_columns(
        t, rng.integers(0, SIZE[1], n), rng.integers(0, SIZE[0], n), rng.random(n) < 0.5, sensor_size=SIZE
    )


@pytest.fixture(scope="module")
def written(stream: EventStream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hdf5") / "events.h5"
    write_events(path, stream.windows(duration_us=300_000))
    return path


def test_layout_is_dsecs(stream: EventStream, written: Path) -> None:
    with h5py.File(written) as file:
        t = file["events/t"][:]
        assert np.array_equal(t + file["t_offset"][()], stream.t)
        for name in "xyp":
            assert np.array_equal(file[f"events/{name}"][:], getattr(stream, name)), name
            assert file[f"events/{name}"].chunks == (2**17,)
        index = file["ms_to_idx"][:].astype(np.int64)
    expected = [np.searchsorted(t, 1000 * k) for k in range(int(t[-1]) // 1000 + 1)]
    assert index.tolist() == [*expected, len(t)]


@given(start=st.integers(-1_000, 2_500_000), length=st.integers(1, 1_500_000), open_end=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_range_of_time_equals_the_whole_cut(
    stream: EventStream, written: Path, start: int, length: int, open_end: bool
) -> None:
    start += int(stream.t[0])
    reader = open_reader(written)
    stop = None if open_end else start + length
    assert reader.read(start, stop) == stream.between(start, 2**60 if open_end else start + length)
    assert reader.read(None, start) == stream.between(0, start)


def test_the_index_spares_reading_the_file(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = pickle.loads(pickle.dumps(open_reader(written)))
    rows = []
    whole = DsecReader._read_rows

    def counted(self: DsecReader, start: int | None = None, stop: int | None = None):
        for block in whole(self, start, stop):
            rows.append(len(block[0]))
            yield block

    monkeypatch.setattr(DsecReader, "_read_rows", counted)
    found = reader.read(7_000_000, 7_010_000)
    assert len(found) > 0
    assert sum(rows) <= len(found) + 500  # the rest of the first and last millisecond


def test_a_wrong_index_is_not_trusted(stream: EventStream, written: Path, tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    path.write_bytes(written.read_bytes())
    with h5py.File(path, "a") as file:
        file["ms_to_idx"][:] = np.roll(file["ms_to_idx"][:], 100)
    assert read_events(path, 6_000_000, 6_050_000) == stream.between(6_000_000, 6_050_000)


def test_a_single_value_in_the_place_of_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = 3
    with pytest.raises(FormatError, match="to be an array, but got a single value"):
        read_events(path)


def test_files_as_published_without_our_attributes(stream: EventStream, tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    with h5py.File(path, "w") as file:
        packing = hdf5plugin.Blosc(cname="zstd")
        file.create_dataset("events/t", data=(stream.t - 5_000_000).astype("u4"), compression=packing)
        for name in "xyp":
            file.create_dataset(f"events/{name}", data=getattr(stream, name), compression=packing)
        file["t_offset"] = 5_000_000
    events = read_events(path)
    assert events.sensor_size == (480, 640)
    assert np.array_equal(events.t, stream.t)
    assert read_events(path, sensor_size=SIZE) == stream


def test_a_missing_plugin_is_named(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(FormatError, match=r"Expected an HDF5 plugin for the filter .*pip install hdf5plugin"):
        open_reader(written)


def test_rows_that_are_not_stored_are_not_invented(tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            made = file.create_dataset(f"events/{name}", (2**50,), "u2", chunks=(1000,))
            made[:500] = 1
    with pytest.warns(RecordingWarning, match="bytes at the end dropped"):
        assert len(read_events(path)) == 1000  # the one chunk that is there


@pytest.mark.parametrize("keep", [100, 5_000, 400_000])
def test_cut_and_foreign_files_are_refused(written: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "events.h5"
    path.write_bytes(written.read_bytes()[:keep])
    with pytest.raises(FormatError):
        read_events(path)
    with h5py.File(path, "w") as file:
        file["something/else"] = np.arange(3)
    with pytest.raises(FormatError, match="fits no known format"):
        read_events(path)


def test_mvsec(stream: EventStream, tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    start = 1_504_645_177.0
    with h5py.File(path, "w") as file:
        signs = 2.0 * stream.p - 1
        file["davis/left/events"] = np.stack([stream.x, stream.y, start + stream.t / 1e6, signs], 1)
        file["davis/right/events"] = np.stack([stream.x, stream.y, start + stream.t / 1e6, -signs], 1)[:1000]
    left = read_events(path)
    assert left.sensor_size == (260, 346)
    assert np.array_equal(left.t, stream.t + int(start) * 1_000_000)
    assert np.array_equal(left.x, stream.x)
    assert np.array_equal(left.p, stream.p)
    right = read_events(path, camera="right")
    assert np.array_equal(right.p, ~stream.p[:1000])
    with pytest.raises(ConfigError, match="'left' or 'right', but got 'top'"):
        open_reader(path, camera="top")


def test_an_impossible_span_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    events = EventStream.from_columns([0, 10**13], [1, 1], [1, 1], [0, 1], sensor_size=SIZE)
    with pytest.raises(FormatError, match="Is a time stamp broken"):
        write_events(tmp_path / "events.h5", events)
    assert list(tmp_path.iterdir()) == []


def matlab_files(stream: EventStream, folder: Path) -> list[Path]:
    from scipy.io import savemat

    table = np.stack([stream.x, stream.y, 2 * stream.p.astype(int) - 1, stream.t], axis=1)
    columns = {name: getattr(stream, name).astype(float) for name in "txyp"}
    savemat(folder / "matrix.mat", {"events": table, "note": "text", "scale": 3.0})
    savemat(folder / "packed.mat", {"events": table.astype(float)}, do_compression=True)
    savemat(folder / "vectors.mat", {**columns, "unused": {"a": 1}})
    with h5py.File(folder / "hdf5.mat", "w", userblock_size=512) as file:
        file["events"] = table.T.astype(float)
    with (folder / "hdf5.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return sorted(folder.iterdir())


def test_matlab_in_every_layout(stream: EventStream, tmp_path: Path) -> None:
    paths = matlab_files(stream, tmp_path)
    assert len(paths) == 4
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordingWarning)
            assert read_events(path) == stream, path.name
            if "vectors" not in path.name:
                assert read_events(path, variable="events", columns="xypt") == stream


def test_matlab_arrays_equal_scipys(tmp_path: Path) -> None:
    from scipy.io import loadmat, savemat

    from evlift.events.readers.mat5 import read_arrays

    rng = np.random.default_rng(0)
    kinds = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">f8", "?"]
    made = {f"a{i}": rng.integers(0, 2, (i, 3)).astype(kind) for i, kind in enumerate(kinds)}
    savemat(tmp_path / "kinds.mat", made | {"s": "text", "c": np.array([1j]), "d": np.zeros((2, 3, 4))})
    found = read_arrays(tmp_path / "kinds.mat")
    expected = loadmat(tmp_path / "kinds.mat")
    assert set(found) == {*made, "d"}
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def test_matlab_errors_name_what_is_there(stream: EventStream, tmp_path: Path) -> None:
    path, *_ = matlab_files(stream, tmp_path)
    with pytest.raises(FormatError, match="numbers in a variable 'other'"):
        read_events(tmp_path / "matrix.mat", variable="other")
    (tmp_path / "cut.mat").write_bytes((tmp_path / "matrix.mat").read_bytes()[:2000])
    with pytest.raises(FormatError, match="to be whole, but at byte"):
        read_events(tmp_path / "cut.mat")
    assert path.exists()


def test_real_matlab(data_root: Path) -> None:
    from scipy.io import loadmat

    path = data_root / "recordings" / "mat_dvs128_building.mat"
    with pytest.warns(RecordingWarning, match="detected column order x y p t"):
        events = read_events(path)
    table = loadmat(path)["events"]
    assert len(events) == len(table) == 115_839
    assert events.sensor_size == (128, 128)
    columns = (events.x, events.y, 2 * events.p.astype(int) - 1, events.t)
    assert all(np.array_equal(column, table[:, i]) for i, column in enumerate(columns))


BLOSC_START = b"\x02\x01!"  # version of the format, version of LZ4, flags: LZ4 and shuffled


@pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")
@pytest.mark.parametrize("field", [4, 8, 12], ids=["size", "block", "packed"])
@pytest.mark.parametrize("value", [b"\0\0\0\0", b"\xff\xff\xff\x7f"], ids=["zero", "huge"])
def test_a_damaged_blosc_chunk_is_counted_and_does_not_end_the_process(
    field: int, value: bytes, tmp_path: Path, random_stream: EventStream
) -> None:
    write_events(tmp_path / "a.h5", random_stream)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    start = content.index(BLOSC_START + b"\x02")  # the chunk of x, of two bytes an item
    content[start + field : start + field + 4] = value
    (tmp_path / "a.h5").write_bytes(content)
    reader = open_reader(tmp_path / "a.h5")
    assert len(reader.read()) == 0
    assert reader.problems.dropped_bytes == 13 * len(random_stream)  # t, x, y, p of 8 + 2 + 2 + 1 bytes


def test_a_filter_without_its_settings_is_refused(tmp_path: Path, random_stream: EventStream) -> None:
    write_events(tmp_path / "a.h5", random_stream)
    parts = (tmp_path / "a.h5").read_bytes().split((32001).to_bytes(2, "little"))
    # behind the filter's number: length of its name, flags, number of settings
    content = b"\x01\x7d".join([parts[0], *(part[:4] + b"\0\0" + part[6:] for part in parts[1:])])
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(FormatError, match="whole settings of the filter 32001"):
        open_reader(tmp_path / "a.h5")


def lzf_table(path: Path, seed: int) -> np.ndarray:
    """An MVSEC file of 200 events in four LZF chunks; its table [200, 4]."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 10**6, 200)) / 1e6
    table = np.stack(
        [rng.integers(0, 30, 200), rng.integers(0, 30, 200), t, rng.choice([-1, 1], 200)], axis=1
    )
    with h5py.File(path, "w") as file:
        file.create_dataset("davis/left/events", data=table, chunks=(50, 4), compression="lzf")
    return table


@pytest.mark.parametrize("seed", range(5))
def test_the_length_of_an_lzf_chunk_is_what_it_unpacks_to(seed: int, tmp_path: Path) -> None:
    table = lzf_table(tmp_path / "a.h5", seed)
    with h5py.File(tmp_path / "a.h5") as file:
        dataset = file["davis/left/events"]
        for row in range(0, 200, 50):
            _, content = dataset.id.read_direct_chunk((row, 0))
            assert lzf_length(np.frombuffer(content, np.uint8)) == table[row : row + 50].nbytes
    assert len(read_events(tmp_path / "a.h5")) == 200


@pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")
def test_an_lzf_chunk_that_is_too_short_is_not_filled_with_what_lies_in_memory(tmp_path: Path) -> None:
    lzf_table(tmp_path / "a.h5", 0)
    with h5py.File(tmp_path / "a.h5") as file:
        start = file["davis/left/events"].id.get_chunk_info(2).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[start] = 0  # a first run of one literal in place of more
    (tmp_path / "a.h5").write_bytes(content)
    reader = open_reader(tmp_path / "a.h5")
    assert len(reader.read()) == 0  # all rows are one block of ours
    assert reader.problems.dropped_bytes == 200 * 4 * 8
