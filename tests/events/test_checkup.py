"""The check-up: planted faults are found and counted, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError, FormatError
from evlift.events import EventStream
from evlift.events.checkup import RATE_BINS, RateCurve, advise_window, examine
from evlift.events.checkup_picture import colour, picture
from evlift.events.readers.base import CHUNK_EVENTS
from evlift.events.writers import write_events

SIZE = (30, 40)


def scene(n: int = 300_000, seconds: float = 2.0) -> EventStream:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, int(seconds * 1e6), n)) + 7_000_000
    t[0], t[-1] = 7_000_000, 7_000_000 + int(seconds * 1e6)
    x, y = rng.integers(0, SIZE[1], n), rng.integers(0, SIZE[0], n)
    return EventStream.from_columns(t, x, y, rng.random(n) < 0.3, sensor_size=SIZE)


def save(path: Path, stream: EventStream, **changes: np.ndarray) -> Path:
    columns = {name: getattr(stream, name) for name in "txyp"} | changes
    np.savez(path, **columns, sensor_size=np.array(SIZE))
    return path


def test_a_picture_of_no_known_kind_is_refused_before_the_recording_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.png.*out\.txt"):
        picture(tmp_path / "nothing.raw", tmp_path / "out.txt")


def test_figures_of_a_clean_recording(tmp_path: Path) -> None:
    stream = scene()
    found = examine(save(tmp_path / "clean.npz", stream))
    assert (found.format, found.height, found.width, found.events) == ("npz", *SIZE, len(stream))
    assert (found.first_us, found.last_us, found.duration_ms) == (7_000_000, 9_000_000, 2000.0)
    assert found.mean_rate == pytest.approx(len(stream) / 2.0)
    counts = np.histogram(stream.t, np.arange(7_000_000, 9_001_001, found.peak_bin_us))[0]
    assert found.peak_rate == pytest.approx(counts.max() / found.peak_bin_us * 1e6)
    assert found.on_share == pytest.approx(float(stream.p.mean()))
    assert found.active_share == len(np.unique(stream.y * SIZE[1] + stream.x)) / 1200
    columns = np.stack([stream.t, stream.x, stream.y, stream.p])
    assert found.duplicates == len(stream) - np.unique(columns, axis=1).shape[1]
    assert found.counts.sum() == len(stream)
    assert found.hot_pixels == found.gaps == found.advice == ()
    assert found.backward_steps == found.out_of_range == found.dropped_bytes == found.unknown_records == 0


def test_planted_faults_are_counted(tmp_path: Path) -> None:
    stream = scene()
    t, x, y = (np.array(getattr(stream, name)) for name in "txy")
    t[t > 8_000_000] += 500_000  # half a second of nothing
    x[1000:61_000:2], y[1000:61_000:2] = 11, 12  # a hot pixel
    outside = np.arange(100_000, 100_050)
    x[outside] = SIZE[1] + 5
    backwards = CHUNK_EVENTS + np.arange(0, 600, 3)  # the first one at the seam of two chunks
    t[backwards] -= 2_000
    found = examine(save(tmp_path / "faulty.npz", stream, t=t, x=x, y=y))
    kept = np.delete(t, outside)
    assert found.out_of_range == 50
    assert found.backward_steps == np.count_nonzero(np.diff(kept) < 0) == 200
    assert found.hot_pixel_count == 1
    assert (found.hot_pixels[0].x, found.hot_pixels[0].y) == (11, 12)
    assert found.hot_pixels[0].events == np.count_nonzero((x == 11) & (y == 12))
    assert found.hot_pixels[0].rate_hz == pytest.approx(found.hot_pixels[0].events / 2.5, rel=1e-3)
    (gap,) = found.gaps
    assert gap.duration_us == int(np.diff(np.maximum.accumulate(kept)).max())
    assert [word in " ".join(found.advice) for word in ("sensor_size", "Time steps back", "hot_pixels")] == [
        True
    ] * 3


def test_duplicates_and_one_sided_polarity(tmp_path: Path) -> None:
    stream = scene(1000)
    twice = EventStream.from_columns(
        *(np.repeat(getattr(stream, name), 2) for name in "txy"), np.ones(2000, bool), sensor_size=SIZE
    )
    found = examine(save(tmp_path / "twice.npz", twice))
    assert found.duplicates == 1000
    assert found.on_share == 1.0
    assert any("one polarity" in line for line in found.advice)
    assert any("`refractory`" in line for line in found.advice)


def test_a_cut_file_is_reported_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.dat"
    write_events(path, EventStream.from_columns([1, 2, 3], [1, 2, 3], [1, 2, 3], [0, 1, 0], sensor_size=SIZE))
    path.write_bytes(path.read_bytes()[:-3])
    found = examine(path)
    assert (found.events, found.dropped_bytes) == (2, 5)
    assert "cut or damaged" in found.advice[0]


def test_an_empty_recording(tmp_path: Path) -> None:
    path = save(tmp_path / "empty.npz", EventStream.empty(SIZE))
    found = picture(path, tmp_path / "empty.png")
    assert (found.events, found.first_us, found.peak_rate, found.window_ms) == (0, None, 0.0, 0.0)
    assert found.advice == ("There are no events in it.",)
    assert (tmp_path / "empty.png").stat().st_size > 1000


def test_the_report_goes_to_json_and_to_a_table(tmp_path: Path) -> None:
    found = examine(save(tmp_path / "clean.npz", scene(5000)))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["events"] == 5000
    assert "counts" not in plain
    rows = dict(found.rows())
    assert rows["sensor"] == "40 × 30 pixels (width × height)"
    assert rows["window to start from"] == f"{found.window_ms:.4g} ms, or {found.window_events:,} events"


def test_what_was_detected_is_in_the_report(tmp_path: Path) -> None:
    table = np.array([[10, 3, 4, 1], [20, 5, 6, 0], [30, 7, 1, 1]])
    np.save(tmp_path / "table.npy", table)
    facts = [text for name, text in examine(tmp_path / "table.npy").rows() if name == "detected"]
    assert facts == ["column order t x y p", "a sensor of (H, W) = (7, 8) from the largest coordinates"]


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ([5], "0 ms, from 0.000005 s to 0.000005 s"),
        ([0, 7_200_000_000], "7,200.0 s, from 0.000000 s to 7200.000000 s"),
        (
            [1_700_000_000_000_000, 1_700_000_000_001_500],
            "1.5 ms from 2023-11-14 22:13:20 UTC on (1700000000.000000 s since 1970)",
        ),
    ],
)
def test_times_are_told_in_words(times: list[int], text: str, tmp_path: Path) -> None:
    stream = EventStream.from_columns(times, [0] * len(times), [0] * len(times), times, sensor_size=(2, 2))
    rows = dict(examine(save(tmp_path / "a.npz", stream)).rows())
    assert rows["time"] == text
    assert rows["window to start from"].endswith("1 event")


def test_a_gap_is_told_from_the_start(tmp_path: Path) -> None:
    times = [10**15 + t for t in (*range(0, 1000, 5), *range(3_000_000_000, 3_000_001_000, 5))]
    stream = EventStream.from_columns(times, [0] * 400, [0] * 400, [1] * 400, sensor_size=(2, 2))
    assert (
        dict(examine(save(tmp_path / "a.npz", stream)).rows())["gaps"]
        == "3,000.0 s, 0.995 ms after the start"
    )


def test_a_sensor_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "huge.npz", t=[1], x=[1], y=[1], p=[1], sensor_size=np.array([16_000, 16_000]))
    with pytest.raises(FormatError, match="Expected a sensor of at most"):
        examine(tmp_path / "huge.npz")


@given(
    times=st.lists(st.integers(0, 10**8), min_size=1, max_size=60),
    cuts=st.integers(1, 5),
    bin_us=st.integers(1, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_rate_curve_equals_a_histogram_made_at_once(times: list[int], cuts: int, bin_us: int) -> None:
    t = np.sort(np.array(times))
    curve = RateCurve()
    for part in np.array_split(t, cuts):
        curve.add(part)
    counts, width = curve.binned(bin_us)
    expected = np.bincount((t - t[0]) // width)
    assert counts.tolist() == expected.tolist()
    assert len(curve.binned(0)[0]) <= RATE_BINS


def test_window_advice_fills_a_third_of_the_active_pixels() -> None:
    assert advise_window(events=100_000, duration_us=1_000_000, active_pixels=10_000) == (35.0, 3500)
    assert advise_window(events=100, duration_us=1_000, active_pixels=10_000) == (1.0, 100)
    assert advise_window(events=0, duration_us=0, active_pixels=0) == (0.0, 0)


def test_picture_shows_polarity_by_colour(tmp_path: Path) -> None:
    counts = np.zeros((2, 2, 3), np.int64)
    counts[0, 0, 0] = counts[1, 0, 1] = counts[0, 1, 1] = counts[1, 1, 1] = 4
    image = colour(counts)
    assert image.shape == (2, 3, 3)
    assert image.min() >= 0
    assert image.max() <= 1
    assert image[0, 0, 0] > image[0, 0, 2]  # OFF is orange
    assert image[0, 1, 2] > image[0, 1, 0]  # ON is blue
    assert np.array_equal(image[0, 2], image[1, 0])  # pixels without events share the background
    assert image[1, 1].min() > image[0, 2].max()  # both together are bright


def test_picture_of_a_recording(tmp_path: Path) -> None:
    import matplotlib.image

    path = save(tmp_path / "clean.npz", scene(20_000))
    assert picture(path, tmp_path / "out.png") == examine(path)
    image = matplotlib.image.imread(tmp_path / "out.png")
    assert image.shape[0] == 960
    assert image[..., :3].std() > 0.05


REAL = {
    "evt2_640x480_spinner.raw": (539_481, 50.0),
    "dat_ncars_car.dat": (2_009, 99.952),
    "bin_nmnist.bin": (4_325, 310.521),
    "aedat4_dvxplorer_320x240.aedat4": (111_954, 589.917),
    "slider_depth/events.txt": (50_000, 170.345),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_recordings(data_root: Path, name: str) -> None:
    found = examine(data_root / "recordings" / name)
    assert (found.events, found.duration_ms) == REAL[name]
    assert found.out_of_range == found.backward_steps == found.dropped_bytes == 0
    assert 0.05 < found.window_ms < found.duration_ms
