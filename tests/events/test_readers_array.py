"""npz, npy and text: every layout of the same events is read as the same events."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError, FormatError
from evlift.events import EventStream
from evlift.events.readers import RecordingWarning, open_reader, read_events
from evlift.events.readers.columns import detect_order, detect_unit, match_names
from evlift.events.writers import write_events

SIZE = (30, 40)


@pytest.fixture(scope="module")
def stream() -> EventStream:
    """Long enough for three chunks; the last row and column fire, so that the size can be seen."""
    rng = np.random.default_rng(0)
    n = 280_000
    x, y = rng.integers(0, SIZE[1], n), rng.integers(0, SIZE[0], n)
    x[7], y[9] = SIZE[1] - 1, SIZE[0] - 1
    t = np.sort(rng.integers(5_000_123, 8_000_000, n))
    return EventStream.from_columns(t, x, y, rng.random(n) < 0.5, sensor_size=SIZE)


def columns(stream: EventStream, order: str) -> list[np.ndarray]:
    """Columns as int64, polarity as -1 and 1."""
    values = {"t": stream.t, "x": stream.x, "y": stream.y, "p": 2 * stream.p.astype(int) - 1}
    return [values[letter].astype(np.int64) for letter in order]


def structured(stream: EventStream) -> np.ndarray:
    records = np.zeros(
        len(stream), [("extra", "f8"), ("ts", "<u4"), ("y", ">u2"), ("x", "u1"), ("polarity", "?")]
    )
    records["ts"], records["y"], records["x"], records["polarity"] = stream.t, stream.y, stream.x, stream.p
    return records


def test_arrays_in_every_layout_are_the_same_events(stream: EventStream, tmp_path: Path) -> None:
    t, x, y, p = columns(stream, "txyp")
    np.savez(tmp_path / "plain.npz", t=t, x=x, y=y, p=p)
    np.savez_compressed(tmp_path / "packed.npz", TimeStamp=t, X=x.astype("u2"), y=y, pol=p > 0)
    np.savez(tmp_path / "one.npz", events=structured(stream), other=np.arange(3))
    np.save(tmp_path / "structured.npy", structured(stream))
    np.save(tmp_path / "rows.npy", np.stack([x, y, t, p], axis=1))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.stack([x, y, p, t], axis=1)))
    np.save(tmp_path / "wide.npy", np.stack([t / 1e6, x, y, p]))
    np.save(tmp_path / "float.npy", np.stack([t, x, y, p], axis=1).astype(float))
    for path in sorted(tmp_path.iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordingWarning)
            assert read_events(path) == stream, path.name
            reader = pickle.loads(pickle.dumps(open_reader(path)))
        assert reader.read(6_000_000, 6_100_000) == stream.between(6_000_000, 6_100_000), path.name


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt", "ptxy", "xtyp"])
def test_detected_order_is_announced_and_can_be_overridden(
    stream: EventStream, tmp_path: Path, order: str
) -> None:
    path = tmp_path / "events.npy"
    np.save(path, np.stack(columns(stream[:5000], order), axis=1))
    with pytest.warns(RecordingWarning, match=f"detected column order {' '.join(order)}"):
        assert read_events(path, sensor_size=SIZE) == stream[:5000]
    swapped = order.replace("x", "_").replace("y", "x").replace("_", "y")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = read_events(path, sensor_size=(40, 40), columns=swapped)
    assert np.array_equal(other.x, stream.y[:5000])


def test_the_largest_coordinates_decide_without_a_size_and_it_is_said(
    stream: EventStream, tmp_path: Path
) -> None:
    np.save(tmp_path / "events.npy", structured(stream))
    with pytest.warns(RecordingWarning, match=r"a sensor of \(H, W\) = \(30, 40\) from the largest coord"):
        assert open_reader(tmp_path / "events.npy").sensor_size == SIZE


@given(seed=st.integers(0, 2**32 - 1), order=st.permutations("txyp"))
@settings(max_examples=50, deadline=None)
def test_order_is_found_wherever_x_is_before_y(seed: int, order: list[str]) -> None:
    rng = np.random.default_rng(seed)
    n = 300
    values = {
        "t": np.sort(rng.integers(0, 10**6, n)),
        "x": rng.integers(0, 346, n),
        "y": rng.integers(0, 260, n),
        "p": rng.choice([(0, 1), (-1, 1)])[rng.integers(0, 2, n)],
    }
    found = detect_order([values[letter] for letter in order], "file")
    names = "".join(order)
    expected = names if names.index("x") < names.index("y") else names.translate(str.maketrans("xy", "yx"))
    assert found == expected


def test_names_and_units() -> None:
    assert match_names(["Polarity", "ts", " x ", "y", "z"]) == {
        "t": "ts",
        "x": " x ",
        "y": "y",
        "p": "Polarity",
    }
    assert match_names(["time", "t", "x"]) == {"t": "t", "x": "x"}
    assert detect_unit(np.array([1, 2])) == detect_unit(np.array([1.0, 2.0])) == "us"
    assert detect_unit(np.array([1.0, 2.5])) == "s"


def test_no_polarity_column_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "events.npy", np.arange(40).reshape(10, 4))
    with pytest.raises(FormatError, match=r"Expected one column of .* to hold polarities"):
        read_events(tmp_path / "events.npy")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    bomb = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "events.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "events.npz", t=bomb, x=bomb, y=bomb, p=bomb)
    for path in tmp_path.iterdir():
        with pytest.raises(FormatError, match="Pickled objects are never loaded"):
            read_events(path)


def test_a_cut_array_keeps_its_whole_rows(stream: EventStream, tmp_path: Path) -> None:
    path = tmp_path / "events.npy"
    np.save(path, structured(stream))
    row = structured(stream).dtype.itemsize
    path.write_bytes(path.read_bytes()[: -(row * 1000 + 5)])
    with pytest.warns(RecordingWarning, match=f"{row - 5} bytes at the end dropped"):
        assert read_events(path, sensor_size=SIZE) == stream[:-1001]
    with pytest.raises(FormatError, match="bytes at the end dropped"):
        read_events(path, sensor_size=SIZE, strict=True)


def test_a_structure_of_anything_but_numbers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(5, [("t", "i8"), ("x", "U2"), ("y", "u2"), ("p", "?")]))
    with pytest.raises(FormatError, match="to hold t, x, y and p, a structured array"):
        read_events(tmp_path / "a.npy")


@pytest.mark.parametrize("rows", [2**40, 2**62])
def test_a_claimed_size_is_not_allocated(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "events.npy"
    header = {"descr": [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "|b1")], "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (rows,)})
        file.write(bytes(13 * 3))
    with pytest.warns(RecordingWarning):
        assert len(read_events(path, sensor_size=SIZE)) == 3


def test_a_cut_archive_is_refused_in_plain_words(stream: EventStream, tmp_path: Path) -> None:
    path = tmp_path / "events.npz"
    write_events(path, stream[:1000])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FormatError, match="directory of an archive is at its end"):
        read_events(path)


def test_npz_states_its_size_and_is_what_numpy_reads(stream: EventStream, tmp_path: Path) -> None:
    path = tmp_path / "events.npz"
    write_events(path, stream.windows(duration_us=500_000))
    with np.load(path, allow_pickle=False) as saved:
        assert all(np.array_equal(saved[name], getattr(stream, name)) for name in "txyp")
        assert saved["sensor_size"].tolist() == list(SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_events(path) == stream
    assert zipfile.ZipFile(path).testzip() is None


TEXTS = {
    "spaces, seconds": "0.000010 3 4 1\n0.000020 5 6 0\n",
    "commas, header": "x,y,polarity,timestamp\n3,4,1,10\n5,6,0,20\n",
    "tabs, comment": "# some camera\n# t_us x y p\n10\t3\t4\t1\n20\t5\t6\t-1\n",
    "size line": "40 30\n10 3 4 1\n20 5 6 0\n",
    "semicolons, CRLF": "10;3;4;1\r\n20;5;6;0\r\n",
    "more columns": "t,x,y,p,label\n10,3,4,1,car\n20,5,6,0,tree\n",
    "blank lines, no newline at the end": "\n10 3 4 1\n\n20 5 6 0",
    "exponents": "1e-5 3.0 4.0 1.0\n2e-5 5.0 6.0 0.0\n",
}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_text_in_every_layout(tmp_path: Path, name: str) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(TEXTS[name].encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        events = read_events(path, sensor_size=SIZE)
    assert events == EventStream.from_columns([10, 20], [3, 5], [4, 6], [1, 0], sensor_size=SIZE)


def test_text_says_what_it_detected_and_takes_what_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    path.write_text("3 4 0.001 1\n5 6 0.002 0\n")
    found = r"detected column order x y t p; times in s; a sensor of \(H, W\) = \(7, 6\)"
    with pytest.warns(RecordingWarning, match=found):
        read_events(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        events = read_events(path, sensor_size=SIZE, columns="yxtp", time_unit="ms")
    assert events.t.tolist() == [1, 2]
    assert events.x.tolist() == [4, 6]


def test_broken_lines_are_counted_and_a_cut_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    path.write_text("10 3 4 1\nnonsense\n20 5 6\n30 1 nan 0\n40 1 2 1x\n50 5 6 0\n60 1 2")
    reader = open_reader(path, sensor_size=SIZE, columns="txyp", time_unit="us")
    with pytest.warns(RecordingWarning, match="6 bytes at the end dropped.*4 records of no known kind"):
        assert reader.read().t.tolist() == [10, 50]


@given(
    number=st.one_of(
        st.decimals(min_value=-(10**9), max_value=10**9, allow_nan=False, allow_infinity=False, places=9),
        st.integers(-(10**14), 10**14),
    ),
    shift=st.sampled_from([0, 3, 6]),
    cut=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_numbers_equal_decimal_arithmetic(number, shift: int, cut: bool) -> None:
    from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

    from evlift.kernels.text import parse_number

    written = format(Decimal(number), "f").encode()
    value, end = parse_number(np.frombuffer(written, np.uint8), 0, len(written), shift, cut)
    assert end == len(written)
    if abs(Decimal(number).scaleb(shift)) < 10**17 and len(written.lstrip(b"-0.")) <= 17:
        rounding = ROUND_FLOOR if cut else ROUND_HALF_UP
        assert value == int(Decimal(number).scaleb(shift).quantize(Decimal(1), rounding))


def test_fractions_of_coordinates_are_cut_off_whatever_the_format(tmp_path: Path) -> None:
    t, x, y, p = np.array([10.0, 20, 30]), np.array([0.7, 1.2, -0.5]), np.array([2.999, 0, 1]), np.ones(3)
    np.savez(tmp_path / "a.npz", t=t, x=x, y=y, p=p)
    np.savetxt(tmp_path / "a.csv", np.stack([t, x, y, p], 1), delimiter=",", header="t,x,y,p", comments="")
    for name in ("a.npz", "a.csv"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the pixel left of the sensor is dropped with a warning
            events = read_events(tmp_path / name, sensor_size=SIZE, time_unit="us")
        assert (events.x.tolist(), events.y.tolist()) == ([0, 1], [2, 0]), name


@pytest.mark.parametrize(
    ("written", "below", "nearest"), [(b"9223372036854775787e-18", 9, 9), (b"-9.9e18", -(2**62), -(2**62))]
)
def test_numbers_at_the_end_of_what_they_hold(written: bytes, below: int, nearest: int) -> None:
    from evlift.kernels.text import parse_number

    text = np.frombuffer(written, np.uint8)
    assert [parse_number(text, 0, len(text), 0, cut)[0] for cut in (True, False)] == [below, nearest]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "written", [b"0.03848002", b"-131.5e-12", b"610081100", b"00e382", b"7e999", b"9223372036854775787e-18"]
)
def test_numbers_are_the_same_where_kernels_run_uncompiled(written: bytes) -> None:
    from evlift.kernels.text import parse_exponent, parse_number

    text = np.frombuffer(written, np.uint8)
    assert parse_number.py_func(text, 0, len(text), 3, True) == parse_number(text, 0, len(text), 3, True)
    behind = written.find(b"e") + 1
    assert parse_exponent.py_func(text, behind, len(text)) == parse_exponent(text, behind, len(text))


@pytest.mark.parametrize(
    ("rows", "count"), [("", 0), ("5,1,2,1\n", 1), ("5,1,2,1", 1), ("5,1,2,1\n6,1,2,0\n", 2)]
)
def test_a_table_with_names_may_be_as_short_as_it_likes(tmp_path: Path, rows: str, count: int) -> None:
    (tmp_path / "events.csv").write_text(f"t,x,y,p\n{rows}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(read_events(tmp_path / "events.csv", sensor_size=SIZE)) == count


def test_decimal_commas_are_refused(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("t;x;y;p\n0,5;1;2;1\n1,5;1;2;0\n")
    with pytest.raises(FormatError, match=r"4 numbers a line .* but got 5\. Are these decimal commas"):
        read_events(tmp_path / "events.csv", sensor_size=SIZE)


def test_text_holds_the_latest_times(tmp_path: Path) -> None:
    times = [-(2**62) + 1, 10**18, 2**60, 2**62 - 1]
    stream = EventStream.from_columns(times, [1] * 4, [2] * 4, [True] * 4, sensor_size=SIZE)
    write_events(tmp_path / "events.txt", stream)
    assert read_events(tmp_path / "events.txt").t.tolist() == sorted(times)


def test_a_sensor_that_no_reader_accepts_is_not_written(tmp_path: Path) -> None:
    stream = EventStream.empty((2**14, 2**14))
    with pytest.raises(FormatError, match="at most 67108864 pixels"):
        write_events(tmp_path / "events.npz", stream)
    assert not list(tmp_path.iterdir())


def test_text_round_trip_and_its_windows(stream: EventStream, tmp_path: Path) -> None:
    for name in ("events.txt", "events.csv"):
        write_events(tmp_path / name, stream.windows(duration_us=700_000))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader = open_reader(tmp_path / name)
            assert reader.read() == stream
        lengths = [len(window) for window in reader.windows(duration_us=90_000)]
        assert lengths == [len(window) for window in stream.windows(duration_us=90_000)]


def test_real_text(data_root: Path) -> None:
    path = data_root / "recordings" / "slider_depth" / "events.txt"
    with pytest.warns(RecordingWarning, match="column order t x y p; times in s"):
        events = read_events(path)
    table = np.loadtxt(path)
    assert len(events) == 50_000
    assert events.sensor_size == (180, 240)
    for i, name in enumerate("txyp"):
        expected = np.rint(table[:, i] * (1e6 if name == "t" else 1)).astype(np.int64)
        assert np.array_equal(getattr(events, name), expected), name


def test_real_npy(data_root: Path) -> None:
    path = data_root / "poker_dvs_train" / "cl" / "0.npy"
    events = read_events(path, sensor_size=(35, 35))
    saved = np.load(path)
    assert len(events) == len(saved) == 2549
    assert all(np.array_equal(getattr(events, name), saved[name]) for name in "txyp")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("columns", "txy", "order the letters t, x, y, p"), ("time_unit", "ns", "one of")],
)
def test_bad_options_are_refused(tmp_path: Path, option: str, value: str, message: str) -> None:
    for name in ("events.npy", "events.txt"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ConfigError, match=message):
            open_reader(tmp_path / name, format=name.split(".")[1].replace("txt", "text"), **{option: value})
