"""Conversion: the same events in every format, cut and filtered as the whole would be, and never half a file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evlift
from evlift.cli import main
from evlift.errors import ConfigError, DataError, FormatError
from evlift.events import WRITERS, EventStream, write_events
from evlift.events.convert import ContentSum, Converter, content_of, convert, suffix_of
from evlift.events.filter_chain import chain, parse_filter
from evlift.events.filters import FILTERS
from evlift.events.readers import base
from evlift.parallel import for_each
from helpers import die_of_two
from stream_strategies import streams


@pytest.fixture
def source(tmp_path, random_stream):
    write_events(tmp_path / "in.npz", random_stream)
    return tmp_path / "in.npz"


@pytest.mark.parametrize("to", sorted(WRITERS))
def test_every_format_holds_the_same_events(source, tmp_path, random_stream, to):
    out = tmp_path / f"out{suffix_of(to)}"
    (done,) = evlift.convert(source, out, to=to).converted
    read = evlift.read_events(out, format=to, sensor_size=(30, 40))
    assert read == random_stream
    assert (done.content.events, done.content.first_us, done.content.last_us) == (
        5000,
        int(random_stream.t[0]),
        int(random_stream.t[-1]),
    )
    assert content_of(source, "npz", (30, 40)) == done.content


@pytest.mark.parametrize(
    "name",
    [
        "aedat2_dvs128_poker.aedat",
        "aedat4_davis346_traffic.aedat4",
        "dat_ncars_car.dat",
        "bin_nmnist.bin",
        "slider_depth/events.txt",
        "aedat2_header_only.aedat",
    ],
)
@pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")
def test_real_recordings(data_root, tmp_path, name):
    path = data_root / "recordings" / name
    (done,) = convert(path, tmp_path / "out.raw", from_zero=True).converted
    events = evlift.read_events(path)
    assert done.content.events == len(events)
    assert done.content.first_us in (0, None)
    assert np.array_equal(evlift.read_events(tmp_path / "out.raw").x, events.x)


def test_times_box_and_filters_come_in_their_order(source, tmp_path, random_stream):
    out = tmp_path / "out.h5"
    convert(
        source,
        out,
        start_us=20_000,
        stop_us=60_000,
        crop=(5, 3, 20, 25),
        filters=("refractory:2000", "flip_horizontal"),
        from_zero=True,
    )
    part = random_stream.between(20_000, 60_000)
    for name, values in (("crop", (3, 5, 25, 20)), ("refractory", (2000,)), ("flip_horizontal", ())):
        part = FILTERS[name](*values)(part)
    read = evlift.read_events(out)
    assert read.sensor_size == (25, 20)
    assert np.array_equal(read.t, part.t - part.t[0])
    assert np.array_equal(read.x, part.x)
    assert np.array_equal(read.p, part.p)


@settings(deadline=None, max_examples=40)
@given(streams(), st.integers(1, 7), st.integers(1, 300))
def test_filters_window_by_window_are_filters_of_the_whole(stream, length, period):
    for each in (
        parse_filter(f"refractory:{period}"),
        parse_filter(f"isolated_noise:window_us={period}"),
        parse_filter("hot_pixels:1.5"),
        parse_filter("flip_polarity"),
    ):
        windows = chain(lambda: iter([stream[:0], *stream.windows(n_events=length)]), [each])
        pieces = list(windows())
        whole = each(stream)
        for name in "txyp":
            assert np.array_equal(np.concatenate([getattr(p, name) for p in pieces]), getattr(whole, name))


def test_the_sum_does_not_depend_on_how_a_recording_is_cut(random_stream):
    def content(streams):
        found = ContentSum()
        assert sum(map(len, found.watch(streams))) == 5000
        return found.result

    whole = content([random_stream])
    assert content(list(random_stream.windows(n_events=77))) == whole
    other = EventStream(random_stream.t, random_stream.y, random_stream.x, random_stream.p, (30, 40))
    assert content([other]) != whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("refactory:3", "Did you mean 'refractory'"),
        ("refractory:a", "whole number"),
        ("refractory:1,2", "refractory:period_us"),
        ("refractory:time=2", "refractory:period_us"),
        ("crop:1,2", "without height, width"),
        ("refractory:-1", "positive"),
        ("reverse_time", "whole recording"),
    ],
)
def test_filters_that_make_no_sense(text, said):
    with pytest.raises(ConfigError, match=said):
        Converter(filters=(text,))


def test_what_a_format_cannot_hold_leaves_no_file(tmp_path, random_stream):
    late = EventStream(random_stream.t + 2**45, random_stream.x, random_stream.y, random_stream.p, (30, 40))
    write_events(tmp_path / "late.npz", late)
    with pytest.raises(FormatError, match="--from-zero"):
        convert(tmp_path / "late.npz", tmp_path / "out.raw")
    assert [path.name for path in tmp_path.iterdir()] == ["late.npz"]
    convert(tmp_path / "late.npz", tmp_path / "out.raw", from_zero=True)


def test_a_file_that_reads_otherwise_than_written_never_gets_its_name(source, tmp_path, monkeypatch):
    inside = base.Reader._inside

    def one_column_off(reader, chunk):
        found = inside(reader, chunk)
        return type(found)(found.t, found.x ^ 1, found.y, found.p) if reader.format == "dat" else found

    monkeypatch.setattr(base.Reader, "_inside", one_column_off)
    with pytest.raises(FormatError, match="hold what was written"):
        convert(source, tmp_path / "out.dat")
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


def written(path: Path) -> tuple[int, int]:
    """The file itself and when it was written."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_what_is_there_already(source, tmp_path):
    out = tmp_path / "out.h5"
    assert not convert(source, out).converted[0].there_already
    before = written(out)
    assert convert(source, out).converted[0].there_already
    assert written(out) == before
    with pytest.raises(DataError, match="--overwrite"):
        convert(source, out, filters=("refractory:5000",))
    assert written(out) == before
    assert not convert(source, out, filters=("refractory:5000",), overwrite=True).converted[0].there_already
    out.write_bytes(out.read_bytes()[:-3000])
    with pytest.raises(DataError, match="--overwrite"):
        convert(source, out, filters=("refractory:5000",))
    with pytest.raises(ConfigError, match="another file than the input"):
        convert(source, source, overwrite=True)


def test_what_leaves_no_events_is_said_so(source, tmp_path, capsys):
    assert main(["convert", str(source), str(tmp_path / "out.npz"), "--start-ms", "99999999"]) == 0
    said = capsys.readouterr().out
    assert "no events" in said
    assert "None" not in said


def test_a_folder_in_processes_with_a_bad_file(tmp_path, random_stream, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    for name in ("a/1.npz", "a/2.raw", "b/deep/3.dat"):
        write_events(tmp_path / "in" / name, random_stream)
    (tmp_path / "in/b/bad.raw").write_bytes(b"not a recording")
    command = ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--workers", "2"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "1 of 4 files could not be converted" in said.err
    assert "bad.raw" in said.out
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*"))
    assert written == ["a/1.h5", "a/2.h5", "b/deep/3.h5"]
    assert all(evlift.read_events(tmp_path / "out" / name) == random_stream for name in written)
    (tmp_path / "in/b/bad.raw").unlink()
    assert main([*command, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["there_already"] for row in rows] == [True] * 3
    (tmp_path / "in/a/1.raw").touch()
    assert main(command) == 1
    assert "differ in more than the extension" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "in/a/out")]) == 2


def test_an_item_that_takes_its_process_down_harms_no_other():
    found = dict(for_each(die_of_two, [0, 1, 2, 3], workers=2))
    assert "died" in str(found.pop(2))
    assert found == {0: 0, 1: 1, 3: 9}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_conversion_leaves_whole_files_and_goes_on(tmp_path, random_stream, number):
    for i in range(40):
        write_events(tmp_path / "in" / f"{i:02}.raw", random_stream)
    command = [
        sys.executable,
        "-m",
        "evlift",
        "convert",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--to",
        "text",
    ]
    process = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and len(list((tmp_path / "out").glob("[0-9]*.txt"))) < 2:
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].decode()
    if number == signal.SIGTERM and process.returncode:
        assert process.returncode == 130
        assert "the same command goes on" in said
        assert list((tmp_path / "out").glob(".*")) == []
    there = list((tmp_path / "out").glob("[0-9]*.txt"))
    assert all(content_of(path, "text", (30, 40)).events == 5000 for path in there)
    found = convert(tmp_path / "in", tmp_path / "out", to="text", workers=1)
    assert len(found.converted) == 40
    assert sum(each.there_already for each in found.converted) >= len(there)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    def peak(windows: int) -> int:
        rng = np.random.default_rng(0)
        t = np.sort(rng.integers(0, 100_000, 200_000))
        x, y, p = rng.integers(0, 200, 200_000), rng.integers(0, 200, 200_000), rng.random(200_000) < 0.5
        part = EventStream.from_columns(t, x, y, p, sensor_size=(200, 200))
        shifted = (
            EventStream(part.t + k * 100_000, part.x, part.y, part.p, (200, 200)) for k in range(windows)
        )
        write_events(tmp_path / f"{windows}.dat", shifted)
        convert(tmp_path / f"{windows}.dat", tmp_path / "warm.raw", overwrite=True, stop_us=10)
        tracemalloc.start()
        convert(tmp_path / f"{windows}.dat", tmp_path / f"{windows}.raw", filters=("refractory:100",))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(20) < 1.3 * peak(4)


def test_arguments_that_make_no_sense(source, tmp_path, capsys):
    out = str(tmp_path / "out.h5")
    for options in (["--start-ms", "5", "--stop-ms", "5"], ["--to", "evt4"], ["--filter", "crop:1"]):
        assert main(["convert", str(source), out, *options]) == 2
    assert main(["convert", str(source), out, "--crop", "0,0,500,10"]) == 2
    assert "inside the sensor" in capsys.readouterr().err
    assert main(["convert", str(source), out, "--to", "npz"]) == 2
    assert "ending in .npz for npz" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "nothing.raw"), out]) == 1
    assert main(["convert", str(source), str(tmp_path / "out.xyz")]) == 1
    assert "--to" in capsys.readouterr().err
    for options in (["--crop", "1,2,3"], ["--workers", "0"], ["--start-ms", "x"], ["--sensor", "3"]):
        with pytest.raises(SystemExit) as left:
            main(["convert", str(source), out, *options])
        assert left.value.code == 2
    assert not Path(out).exists()
