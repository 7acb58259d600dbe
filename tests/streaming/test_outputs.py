"""Files of predictions: what they hold, and that they are whole or not there."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

import evlift
from evlift.engine.pictures import palette
from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.streaming.outputs import open_outputs
from evlift.streaming.predictions import UNKNOWN_PIXEL, mask_of
from evlift.streaming.video import PANEL, draw
from streams import SIZE, events, written


def write(found, *paths, predictions=None, all_probabilities=False):
    made = []
    with open_outputs(paths, found, all_probabilities=all_probabilities) as outputs:
        for one in predictions or found:
            made.append(one)
            for output in outputs:
                output.write(one)
    return made


def test_labels_in_json_lines_csv_and_parquet_are_the_same_rows(run, tmp_path):
    import pyarrow.parquet

    paths = [tmp_path / f"labels.{kind}" for kind in ("jsonl", "csv", "parquet")]
    found = evlift.predict(run, written(tmp_path, events()), duration_us=30_000)
    made = write(found, *paths, all_probabilities=True)
    lines = [json.loads(line) for line in paths[0].read_text().splitlines()]
    assert lines == [one.row(all_probabilities=True) for one in made]
    assert [sum(line["probabilities"].values()) for line in lines] == pytest.approx([1] * len(lines))
    table = pyarrow.parquet.read_table(paths[2]).to_pylist()
    with paths[1].open(newline="") as file:
        texts = list(csv.DictReader(file))
    for line, row, text in zip(lines, table, texts, strict=True):
        flat = {name: value for name, value in line.items() if name != "probabilities"}
        flat |= {f"probability {name}": value for name, value in line["probabilities"].items()}
        assert row == flat
        assert text == {name: str(value) for name, value in flat.items()}


def test_recordings_whose_masks_would_have_the_same_names_are_refused(mask_run, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "masks"
    folder.mkdir()
    recording = written(folder, events(size=(68, 68)))
    (folder / "evt3.bin").write_bytes(recording.read_bytes())
    found = evlift.predict(mask_run, folder, duration_us=50_000)
    with pytest.raises(ConfigError, match=r"evt3\.bin' and 'evt3\.raw'"):
        write(found, out)
    assert not out.exists()
    (folder / "evt3.bin").unlink()
    assert write(evlift.predict(mask_run, folder, duration_us=50_000), out)


def test_masks_in_every_kind_of_file(mask_run, tmp_path):
    import pyarrow.parquet

    (tmp_path / "in").mkdir()
    recording = written(tmp_path / "in", events(size=(68, 68)))
    found = evlift.predict(mask_run, recording, duration_us=50_000, unknown_below=0.1)
    table, lines, shares = (tmp_path / name for name in ("m.parquet", "m.jsonl", "m.csv"))
    made = write(found, tmp_path / "masks", table, lines, shares)
    assert len(made) > 3
    rows = pyarrow.parquet.read_table(table).to_pylist()
    texts = [json.loads(line) for line in lines.read_text().splitlines()]
    pictures = sorted((tmp_path / "masks").glob("*.png"))
    for one, row, text, path in zip(made, rows, texts, pictures, strict=True):
        picture = Image.open(path)
        assert path.name == f"evt3_{one.start_us:012d}.png"
        assert picture.mode == "P"
        assert (np.asarray(picture) == one.mask).all()
        assert (np.asarray(picture.convert("RGB")) == palette()[one.mask]).all()
        assert (mask_of((row["mask_height"], row["mask_width"]), row["mask_runs"]) == one.mask).all()
        assert (mask_of(tuple(text["mask"]["size"]), text["mask"]["runs"]) == one.mask).all()
        assert row["share unknown"] == pytest.approx((one.mask == UNKNOWN_PIXEL).mean())
    legend = json.loads((tmp_path / "masks" / "classes.json").read_text())
    assert [entry["class"] for entry in legend] == [*found.classes, "unknown"]
    assert "mask_runs" not in shares.read_text()
    write(evlift.predict(mask_run, recording.parent, duration_us=200_000), tmp_path / "several")
    assert sorted(p.name for p in (tmp_path / "several").iterdir()) == ["classes.json", pictures[0].name]


def test_a_video_has_a_frame_a_window_with_events_and_text(run, mask_run, tmp_path):
    import imageio_ffmpeg

    for each, size, fps in ((run, SIZE, 25.0), (mask_run, (68, 68), 25.0)):
        found = evlift.predict(each, written(tmp_path, events(size=size)), duration_us=40_000)
        made = write(found, tmp_path / "overlay.mp4")
        frames = imageio_ffmpeg.read_frames(str(tmp_path / "overlay.mp4"))
        meta = next(frames)
        width, height = meta["size"]
        assert meta["fps"] == pytest.approx(fps)
        shown = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames]
        assert len(shown) == len(made)
        for frame, one in zip(shown, made, strict=True):
            drawn = draw(one).astype(int)
            assert frame.shape == drawn.shape
            assert np.abs(frame - drawn).mean() < 12  # what H.264 loses
            assert drawn[-PANEL + 4 :].max() > 200  # text


def test_on_events_are_blue_and_off_events_red_and_confidence_is_a_bar(run, tmp_path):
    stream = EventStream.from_columns([0, 1], [0, 33], [0, 33], [True, False], sensor_size=SIZE)
    (one,) = evlift.predict(run, written(tmp_path, stream, "npz"))
    frame = draw(one)
    scale = (frame.shape[0] - PANEL) // 34
    on, off = frame[0, 0], frame[34 * scale - 1, 34 * scale - 1]
    assert on[2] > on[0]
    assert off[0] > off[2]
    bar = (frame[-PANEL + 1] == frame[-PANEL + 1, 0]).all(1).sum()
    assert bar == pytest.approx(one.confidence * frame.shape[1], abs=2)


def test_nothing_is_left_when_it_breaks_off(run, tmp_path):
    recording = written(tmp_path, events())
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "old.jsonl").write_text("kept")
    found = evlift.predict(run, recording, duration_us=30_000)
    names = ("labels.jsonl", "labels.csv", "labels.parquet", "overlay.mp4", "old.jsonl")

    def interrupted():
        yield next(found)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(found, *(tmp_path / name for name in names), predictions=interrupted())
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "old.jsonl"])
    assert (tmp_path / "old.jsonl").read_text() == "kept"


def test_what_a_file_cannot_hold_is_refused_before_any_work(run, mask_run, tmp_path, monkeypatch):
    recording = written(tmp_path, events())
    whole = evlift.predict(run, recording)
    folder = evlift.predict(run, tmp_path, duration_us=1000)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for found, name, message in (
        (whole, "a.txt", r"ends in \.csv, \.jsonl, \.mp4, \.parquet"),
        (whole, "a.mp4", "a recording is one window"),
        (folder, "a.mp4", "one recording for"),
        (whole, "masks", "gives masks for the folder"),
        (whole, "a.parquet", r"pip install 'evlift\[parquet\]'"),
    ):
        with pytest.raises(ConfigError, match=message), open_outputs([tmp_path / name], found):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [recording.name]
    (tmp_path / "taken").write_text("")
    masks = evlift.predict(mask_run, recording, duration_us=50_000)
    with pytest.raises(ConfigError, match="is a file"), open_outputs([tmp_path / "taken"], masks):
        pass
