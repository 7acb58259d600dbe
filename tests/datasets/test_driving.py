"""The driving sets on stand-ins in their published layouts: windows, masks, frames, geometry, missing files."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import layouts_driving as layouts
import numpy as np
import pytest

from evlift.datasets.class_maps import CITYSCAPES_19, CLASS_MAPS, DDD17_6, DSEC_11
from evlift.datasets.driving import cityscapes, ddd17, ddd17_raw, dsec, mvsec
from evlift.datasets.driving.files import read_mask
from evlift.datasets.driving.raw import RawDavis
from evlift.datasets.items import Collection
from evlift.datasets.scenes import SceneImages, SceneRecordings
from evlift.errors import ConfigError, DataError, FormatError
from evlift.events import EventStream

Make = Callable[[Path], Collection[Any]]
TWO = ("zurich_city_00_a", "zurich_city_13_a")
RAW = ("rec1487339175", "rec1487417411")
SETS: dict[str, tuple[Callable[[Path], Any], Make]] = {
    "cityscapes": (layouts.cityscapes, cityscapes),
    "ddd17": (layouts.ddd17, partial(ddd17, sequences=("dir0", "dir1"))),
    "ddd17-raw": (layouts.ddd17_raw, partial(ddd17_raw, sequences=RAW)),
    "dsec": (layouts.dsec, partial(dsec, sequences=TWO, skip=1, every=3)),
    "mvsec": (layouts.mvsec, mvsec),
}


@pytest.fixture(params=sorted(SETS))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Make]:
    write, make = SETS[request.param]
    write(tmp_path)
    return tmp_path, make


def window_of(stream: EventStream, start_us: int, stop_us: int, rows: int) -> EventStream:
    """What a window must hold: a slice of the known stream, its times from its start, without the lower rows."""
    cut = stream.between(start_us, stop_us)
    kept = cut.y < rows
    return EventStream(
        cut.t[kept] - start_us, cut.x[kept], cut.y[kept], cut.p[kept], (rows, stream.sensor_size[1])
    )


def test_items_are_sorted_unique_and_split_by_sequence(made: tuple[Path, Make]) -> None:
    items = made[1](made[0])
    assert isinstance(items, SceneImages | SceneRecordings)
    assert len(items) > 1
    keys = [(item.object_id, item.name) for item in items]
    assert keys == sorted(keys)
    assert set(items.targets) == {-1}
    assert all(item.object_id.count("/") == 2 for item in items)


def test_order_of_listings_changes_nothing(made: tuple[Path, Make], monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    root, make = made
    before, scandir, shuffle = make(root), os.scandir, random.Random(3)
    monkeypatch.setattr(
        os, "scandir", lambda *p: iter(shuffle.sample(entries := list(scandir(*p)), len(entries)))
    )
    for _ in range(3):
        assert make(root).items == before.items


def test_fingerprints_tell_items_apart_and_repeat(made: tuple[Path, Make]) -> None:
    root, make = made
    first, again = make(root), make(root)
    prints = [first.fingerprint(i) for i in range(len(first))]
    assert prints == [again.fingerprint(i) for i in range(len(first))]
    assert len(set(prints)) == len(prints)


def test_a_collection_travels_to_a_worker_and_reads_there(made: tuple[Path, Make]) -> None:
    items = made[1](made[0])
    here = items.load(0)
    there = pickle.loads(pickle.dumps(items)).load(0)
    for name in ("mask", "picture", "frame"):
        one, other = getattr(here, name, None), getattr(there, name, None)
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)
    assert getattr(here, "stream", None) == getattr(there, "stream", None)


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_missing_set_says_where_it_belongs_and_comes_from(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        SETS[name][1](tmp_path)
    message = str(caught.value)
    assert str(tmp_path / name.split("-")[0]) in message
    assert f"data set '{name.split('-')[0]}'" in message
    assert "but it is not there. It comes from https://" in message


# --- DDD17


@pytest.mark.parametrize("window_ms", [10, 50, 150])
def test_ddd17_windows_end_at_their_label(window_ms: int, tmp_path: Path) -> None:
    streams = layouts.ddd17(tmp_path, ("dir0", "dir4"))
    items = ddd17(tmp_path, ("dir0", "dir4"), window_ms=window_ms)
    assert items.classes == DDD17_6
    assert [item.name for item in items[:2]] == ["dir0/segmentation_00000001", "dir0/segmentation_00000002"]
    for i, item in enumerate(items):
        folder, k = item.name.split("/")[0], int(item.name[-1])
        scene = items.load(i)
        start = 100_000 * k - 1000 * window_ms
        assert scene.stream == window_of(streams[folder], start, 100_000 * k, 200)
        seed = {"dir0": 0, "dir4": 1}[folder] * 10 + k
        assert np.array_equal(scene.mask, layouts.mask(seed, (200, 346), 6))
        assert np.array_equal(scene.frame, layouts.grey(seed, (260, 346))[:200])


def test_ddd17_agrees_with_the_event_numbers_of_its_own_index(tmp_path: Path) -> None:
    layouts.ddd17(tmp_path, ("dir3",))
    folder = tmp_path / "ddd17/dir3"
    xyp = np.fromfile(folder / "events.dat.xyp", "<i2").reshape(-1, 3)
    items = ddd17(tmp_path, ("dir3",))
    for i, (_, last, before) in enumerate(np.load(folder / "index/index_50ms.npy")):
        rows = xyp[before:last]
        rows = rows[rows[:, 1] < 200]
        stream = items.load(i).stream
        assert np.array_equal(np.stack([stream.x, stream.y, stream.p], axis=1), rows)


def test_ddd17_names_its_missing_and_damaged_files(tmp_path: Path) -> None:
    layouts.ddd17(tmp_path, ("dir0",))
    folder = tmp_path / "ddd17/dir0"
    (folder / "imgs/img_00000002.png").unlink()
    items = ddd17(tmp_path, ("dir0",))
    with pytest.raises(DataError, match="img_00000002"):
        items.load(1)
    shutil.rmtree(folder / "imgs")
    assert items.load(1).frame is None
    with pytest.raises(DataError, match="dir7"):
        ddd17(tmp_path, ("dir7",))
    layouts.save(folder / "segmentation_masks/segmentation_00000009.png", np.zeros((200, 346), np.uint8))
    with pytest.raises(DataError, match=r"segmentation_00000009.*numbered 1 to 3"):
        ddd17(tmp_path, ("dir0",))
    (folder / "events.dat.xyp").write_bytes(b"123456")
    with pytest.raises(DataError, match="8 bytes an event"):
        ddd17(tmp_path, ("dir0",))
    (folder / "index/index_50ms.npy").unlink()
    with pytest.raises(DataError, match="index_50ms"):
        ddd17(tmp_path, ("dir0",))


def test_raw_ddd17_windows_end_after_the_numbered_50_ms(tmp_path: Path) -> None:
    streams = layouts.ddd17_raw(tmp_path)
    items = ddd17_raw(tmp_path, RAW)
    assert [item.name for item in items] == [f"{name}_export_{k}" for name in RAW for k in (1, 3)]
    for i, item in enumerate(items):
        name, k = item.name.split("_")[0], int(item.name[-1])
        stream = streams[name]
        first = int(stream.t[0])
        scene = items.load(i)
        assert scene.stream == window_of(stream, first + 50_000 * k, first + 50_000 * (k + 1), 200)
        assert scene.mask is not None
        assert scene.frame is not None


def test_raw_ddd17_lies_in_the_archive_s_own_folder_as_well(tmp_path: Path) -> None:
    layouts.ddd17_raw(tmp_path)
    before = ddd17_raw(tmp_path, RAW).load(0)
    own = tmp_path / "ddd17/dataset_our_codification"
    own.mkdir()
    for part in ("labels", "images"):
        (tmp_path / "ddd17" / part).rename(own / part)
    after = ddd17_raw(tmp_path, RAW).load(0)
    assert after.stream == before.stream
    assert np.array_equal(after.frame, before.frame)


def test_raw_ddd17_names_the_published_place_of_a_recording(tmp_path: Path) -> None:
    layouts.ddd17_raw(tmp_path)
    with pytest.raises(DataError, match=r"run3/rec1487593224\.hdf5"):
        ddd17_raw(tmp_path)
    with pytest.raises(DataError, match="labelled"):
        ddd17_raw(tmp_path, ("rec1",))


def test_a_camera_clock_set_to_zero_on_the_way_is_put_back(tmp_path: Path) -> None:
    """The camera restarts its clock after 150 ms of 5 s each; packets carry the computer's time as well."""
    stream = layouts.events(0, 2000, 300_000, (260, 346))
    first, second = stream.between(0, 150_000), stream.between(150_000, 300_000)
    rows = layouts.raw_rows(first, 1_487_000_000_000_000, 90_000_000)
    later = EventStream(second.t - 150_000, second.x, second.y, second.p, second.sensor_size)
    rows += layouts.raw_rows(later, 1_487_000_000_000_000 + 150_000, 0)
    layouts.write_raw(tmp_path / "rec.hdf5", rows)
    seen = RawDavis(tmp_path / "rec.hdf5", (260, 346)).window(200_000, 250_000)
    expected = window_of(stream, int(stream.t[0]) + 200_000, int(stream.t[0]) + 250_000, 260)
    assert abs(len(seen) - len(expected)) < 0.1 * len(
        expected
    )  # within the packets' delay of 2 ms at both ends
    before = RawDavis(tmp_path / "rec.hdf5", (260, 346)).window(0, 100_000)
    assert before == window_of(stream, int(stream.t[0]), int(stream.t[0]) + 100_000, 260)


def test_raw_recordings_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    layouts.write_raw(tmp_path / "empty.hdf5", [])
    with pytest.raises(DataError, match="holds none"):
        RawDavis(tmp_path / "empty.hdf5", (260, 346))
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["something"] = [1]
    with pytest.raises(DataError, match=r"dvs/data.*something"):
        RawDavis(tmp_path / "other.hdf5", (260, 346))
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(FormatError):
        RawDavis(tmp_path / "text.hdf5", (260, 346))


# --- DSEC-Semantic


@pytest.mark.parametrize("classes", [11, 19])
def test_dsec_windows_end_at_their_label(classes: int, tmp_path: Path) -> None:
    streams = layouts.dsec(tmp_path, TWO)
    items = dsec(tmp_path, TWO, classes=classes, skip=1, every=3)
    assert items.classes == {11: DSEC_11, 19: CITYSCAPES_19}[classes]
    assert [item.name for item in items] == [f"{name}/{k:06d}" for name in TWO for k in (1, 4, 7)]
    for i, item in enumerate(items):
        name, k = item.name.split("/")[0], int(item.name[-6:])
        end = layouts.DSEC_START_US + 100_000 + 50_000 * k
        scene = items.load(i)
        assert scene.stream == window_of(streams[name], end - 50_000, end, 440)
        assert np.array_equal(scene.mask, layouts.mask(TWO.index(name) + k, (440, 640), classes))
        assert scene.frame is None


def test_dsec_rectifies_by_its_map(tmp_path: Path) -> None:
    """A map that shifts by (3, -2) moves every event so; without rectification nothing moves."""
    stream = layouts.dsec(tmp_path, TWO[:1], shift=(3.0, -2.0))[TWO[0]]
    end = layouts.DSEC_START_US + 150_000
    cut = stream.between(end - 50_000, end)
    plain = dsec(tmp_path, TWO[:1], skip=1, rectified=False).load(0).stream
    assert plain == window_of(stream, end - 50_000, end, 440)
    moved = dsec(tmp_path, TWO[:1], skip=1).load(0).stream
    x, y = cut.x.astype(int) + 3, cut.y.astype(int) - 2
    kept = (x < 640) & (y >= 0) & (y < 440)
    assert np.array_equal(moved.x, x[kept])
    assert np.array_equal(moved.y, y[kept])


def test_dsec_frames_are_warped_into_the_event_view(tmp_path: Path) -> None:
    """Frames of twice the resolution and cameras of one view: the small frame comes back. Aligned ones win."""
    layouts.dsec(tmp_path, TWO[:1])
    items = dsec(tmp_path, TWO[:1], skip=1, frames=True)
    assert np.array_equal(items.load(0).frame, layouts.small_frame(1)[:440])
    folder = tmp_path / "dsec/train" / TWO[0] / "images/left"
    for k in range(9):
        layouts.save(folder / f"ev_inf/{k:06d}.png", layouts.small_frame(100 + k))
    shutil.rmtree(tmp_path / "dsec/train" / TWO[0] / "calibration")
    aligned = dsec(tmp_path, TWO[:1], skip=1, frames=True)
    assert np.array_equal(aligned.load(0).frame, layouts.small_frame(101)[:440])


def test_dsec_reads_the_folders_of_its_archives(tmp_path: Path) -> None:
    layouts.dsec(tmp_path, TWO)
    items = dsec(tmp_path, TWO, skip=1)
    before = [items.load(i) for i in range(len(items))]
    for split, name in (("train", TWO[0]), ("test", TWO[1])):
        old = tmp_path / "dsec" / split / name
        labels = tmp_path / f"dsec/{split}_semantic_segmentation/{split}/{name}"
        labels.mkdir(parents=True)
        (old / "semantic/left/11classes/data").rename(labels / "11classes")
        (old / "semantic/timestamps.txt").rename(labels / f"{name}_semantic_timestamps.txt")
        events = tmp_path / f"dsec/{split}_events/{name}/events"
        events.parent.mkdir(parents=True)
        (old / "events").rename(events)
        shutil.rmtree(old)
    after = dsec(tmp_path, TWO, skip=1)
    assert [item.name for item in after] == [item.name for item in items]
    for i, scene in enumerate(before):
        assert after.load(i).stream == scene.stream
        assert np.array_equal(after.load(i).mask, scene.mask)


def test_dsec_names_its_missing_files(tmp_path: Path) -> None:
    layouts.dsec(tmp_path, TWO[:1])
    base = tmp_path / "dsec/train" / TWO[0]
    (base / "events/left/rectify_map.h5").unlink()
    with pytest.raises(DataError, match=r"rectify_map\.h5.*dsec\.ifi\.uzh\.ch"):
        dsec(tmp_path, TWO[:1])
    assert len(dsec(tmp_path, TWO[:1], rectified=False)) > 0
    with pytest.raises(DataError, match="13_a"):
        dsec(tmp_path, ("zurich_city_13_a",))
    with pytest.raises(DataError, match="Expected a sequence of DSEC-Semantic"):
        dsec(tmp_path, ("interlaken_00_c",))
    with pytest.raises(ConfigError, match="11 or 19"):
        dsec(tmp_path, TWO[:1], classes=6)
    (base / "semantic/timestamps.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match="2 times and 9 labels"):
        dsec(tmp_path, TWO[:1], rectified=False)


# --- MVSEC


def test_mvsec_windows_end_at_their_frame(tmp_path: Path) -> None:
    streams = layouts.mvsec(tmp_path)
    items = mvsec(tmp_path, ("outdoor_day1", "outdoor_day2"), rows=200)
    assert [item.index for item in items[:6]] == [2, 3, 4, 5, 6, 7]  # the first has less than 50 ms before it
    for i, item in enumerate(items):
        name = item.name.split("/")[0]
        end = 50_000 * item.index - 10_000
        scene = items.load(i)
        assert scene.mask is None
        assert scene.stream == window_of(streams[name], end - 50_000, end, 200)
        seed = {"outdoor_day1": 0, "outdoor_day2": 10}[name] + item.index
        assert np.array_equal(scene.frame, layouts.grey(seed, (260, 346))[:200])


def test_mvsec_takes_the_masks_that_the_user_made(tmp_path: Path) -> None:
    layouts.mvsec(tmp_path)
    layouts.mvsec_labels(tmp_path / "labels", "outdoor_day2", (3, 5))
    items = mvsec(tmp_path, labels=tmp_path / "labels")
    assert [item.index for item in items] == [3, 5]
    assert np.array_equal(items.load(1).mask, layouts.mask(5, (260, 346), 6))
    assert np.array_equal(items.load(1).frame, layouts.grey(15, (260, 346)))
    with pytest.raises(DataError, match=r"outdoor_day1.*segmentation network"):
        mvsec(tmp_path, ("outdoor_day1",), labels=tmp_path / "labels")
    layouts.mvsec_labels(tmp_path / "labels", "outdoor_day2", (8,))
    with pytest.raises(DataError, match="frames 0 to 7, but got 8"):
        mvsec(tmp_path, labels=tmp_path / "labels")


def test_mvsec_names_what_is_missing(tmp_path: Path) -> None:
    layouts.mvsec(tmp_path)
    with pytest.raises(DataError, match="outdoor_night3_data"):
        mvsec(tmp_path, ("outdoor_night3",))
    with pytest.raises(DataError, match="Expected an outdoor sequence"):
        mvsec(tmp_path, ("indoor_flying1",))
    with h5py.File(tmp_path / "mvsec/outdoor_day2_data.hdf5", "a") as file:
        del file["davis/left/image_raw_ts"]
    with pytest.raises(DataError, match="image_raw_ts"):
        mvsec(tmp_path)


# --- Cityscapes


def test_cityscapes_masks_follow_the_class_maps(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    raw = read_mask(tmp_path / "cityscapes/gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png")
    whole = cityscapes(tmp_path)
    assert [item.name for item in whole][1] == "aachen_000001_000019"
    assert np.array_equal(whole.load(1).mask, CLASS_MAPS["cityscapes-19"](raw))
    for classes in (6, 11):
        merged = cityscapes(tmp_path, classes=classes)
        assert merged.classes == {6: DDD17_6, 11: DSEC_11}[classes]
        expected = CLASS_MAPS[f"19-to-{classes}"](CLASS_MAPS["cityscapes-19"](raw))
        assert np.array_equal(merged.load(1).mask, expected)
    assert whole.load(1).picture.shape == (64, 128, 3)


def test_cityscapes_resizes_and_cuts(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    scene = cityscapes(tmp_path, "val", size=(32, 64), rows=20).load(0)
    assert scene.picture.shape == (20, 64, 3)
    whole = cityscapes(tmp_path, "val").load(0)
    assert np.array_equal(
        scene.mask, whole.mask[1::2, 1::2][:20]
    )  # blocks of 8: nearest picks within a block
    assert cityscapes(tmp_path, "val").fingerprint(0) != cityscapes(tmp_path, "val", rows=20).fingerprint(0)


def test_cityscapes_names_a_missing_label(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    (tmp_path / "cityscapes/gtFine/train/bochum/bochum_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"gtFine/train/bochum/bochum_000001_000019_gtFine_labelIds\.png"):
        cityscapes(tmp_path)
    with pytest.raises(DataError, match="'test'"):
        cityscapes(tmp_path, "test")
    with pytest.raises(ConfigError, match="19, 11 or 6"):
        cityscapes(tmp_path, classes=7)
