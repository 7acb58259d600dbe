"""Where recordings come from: paths of any kind, streams, and what the system refuses."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evlift.errors import ConfigError, FormatError
from evlift.events import EventStream, open_reader, read_events, write_events

pytestmark = pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")


@pytest.fixture
def saved(tmp_path: Path, random_stream: EventStream) -> Path:
    path = tmp_path / "größe 事件 🎥.raw"
    write_events(path, random_stream)
    return path


class Named:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("kind", [Path, str, Named])
def test_any_kind_of_path(kind: Any, saved: Path, random_stream: EventStream) -> None:
    assert read_events(kind(saved)) == random_stream


def test_a_pipe_is_read_once(saved: Path, random_stream: EventStream) -> None:
    out, into = os.pipe()
    with os.fdopen(into, "wb") as sender:
        sender.write(saved.read_bytes()[:60_000])
    with os.fdopen(out, "rb") as receiver:
        reader = open_reader(receiver)
        stream = reader.read()
        with pytest.raises(FormatError, match="read once"):
            reader.read()
    assert stream == random_stream[: len(stream)]
    assert len(stream) > 1000


def closed_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda folder: folder, "got the folder"),
        (lambda folder: folder / "none.raw", "there is no such file"),
        (lambda folder: "a" * 5000, "the system says: File name too long"),
        (lambda folder: 3, "a path or a stream of bytes, but got int"),
        (lambda folder: io.StringIO("0 1 2 1"), 'but got StringIO. Open files with "rb"'),
        (lambda folder: io.BytesIO(), "in the stream, but it is empty"),
        pytest.param(
            closed_pipe,
            "is a pipe",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="no such pipes"),
        ),
    ],
)
def test_what_is_no_file_is_refused_in_words(source: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        open_reader(source(tmp_path))


@pytest.mark.parametrize("extension", [".raw", ".dat", ".h5", ".npz", ".mat", ".aedat4"])
def test_an_empty_file_is_called_empty(extension: str, tmp_path: Path) -> None:
    (tmp_path / f"a{extension}").touch()
    with pytest.raises(FormatError, match="but it is empty"):
        open_reader(tmp_path / f"a{extension}")


@pytest.mark.parametrize("name", ["a.raw", "a.txt", "a.npz", "a.h5", "a.bin"])
def test_a_file_that_goes_away_is_named(name: str, tmp_path: Path, random_stream: EventStream) -> None:
    write_events(tmp_path / name, random_stream)
    reader = open_reader(tmp_path / name)
    (tmp_path / name).unlink()
    with pytest.raises(FormatError, match=f"{name}.*No such file"):
        reader.read()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(saved: Path) -> None:
    saved.chmod(0)
    with pytest.raises(FormatError, match="Permission denied"):
        open_reader(saved)


@pytest.mark.parametrize("size", [(5,), (5, 5, 5), 5, "ab", (2.5, 3), (None, 3)])
def test_a_sensor_size_is_a_pair_of_whole_numbers(size: Any, saved: Path) -> None:
    with pytest.raises(ConfigError, match="Expected `sensor_size` to be"):
        open_reader(saved, sensor_size=size)


def test_a_sensor_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    corner = np.array([60_000])
    np.savez(tmp_path / "a.npz", t=[1], x=corner, y=corner, p=[1])
    with pytest.raises(FormatError, match=r"at most 67108864 pixels, but got \(H, W\) = \(60001, 60001\)"):
        open_reader(tmp_path / "a.npz")
    assert len(open_reader(tmp_path / "a.npz", sensor_size=(4, 4)).read()) == 0


@pytest.mark.parametrize(
    "times",
    [
        np.array([-(2**63), 7, 2**63 - 1]),
        np.array([2**64 - 1, 7, 2**62], np.uint64),
        np.array([np.nan, 7, 1e300]),
        np.array([np.inf, 7e-6, -np.inf]),
    ],
)
def test_times_beyond_all_clocks_are_counted(times: np.ndarray, tmp_path: Path) -> None:
    ones = np.ones(3, int)
    np.savez(tmp_path / "a.npz", t=times, x=ones, y=ones, p=ones)
    reader = open_reader(tmp_path / "a.npz")
    assert reader.read().t.tolist() == [7]
    assert reader.problems.unknown_records == 2


def test_the_ends_of_time_do_not_overflow(tmp_path: Path) -> None:
    ends = [1 - 2**62, 0, 2**62 - 1]
    np.savez(tmp_path / "a.npz", t=ends, x=[1] * 3, y=[1] * 3, p=[1] * 3)
    stream = read_events(tmp_path / "a.npz")
    assert stream.t.tolist() == ends
    assert stream.duration_us == 2**63 - 2
    with pytest.raises(FormatError, match="over 1000000 windows"):
        list(open_reader(tmp_path / "a.npz").windows(duration_us=1000))


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", t=[1, 2, 3], x=[1, 2], y=[1, 2, 3], p=[1, 0, 1])
    with pytest.raises(FormatError, match=r"columns of one length in .*'x': 2"):
        open_reader(tmp_path / "a.npz")


def test_a_sensor_size_that_is_assumed_is_told_and_a_stated_one_is_not(
    tmp_path: Path, random_stream: EventStream
) -> None:
    write_events(tmp_path / "a.bin", random_stream)
    assert open_reader(tmp_path / "a.bin").detected[0].startswith("a sensor of (H, W) = (180, 240)")
    assert open_reader(tmp_path / "a.bin", sensor_size=(30, 40)).detected == ()
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n% plugin_name hal_plugin_gen31_fx3\n\x00\x80")
    assert open_reader(tmp_path / "a.raw").detected[0].startswith("a sensor of (H, W) = (480, 640)")
    write_events(tmp_path / "b.raw", random_stream)
    assert open_reader(tmp_path / "b.raw").detected == ()
    (tmp_path / "a.dat").write_bytes(b"% Version 2\n" + bytes([12, 8]))
    assert open_reader(tmp_path / "a.dat").detected[0].startswith("a sensor of (H, W) = (240, 304)")
