"""Own data in folders: what is missing is named, and pictures of any depth keep their contrast."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import evlift
from evlift.datasets.images import image_folder
from evlift.datasets.suites import folders_suite
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream


@pytest.fixture
def make(tmp_path):
    """Class folders of `n` pictures and of `m` recordings: ``make({"a": (6, 6)})``."""

    def build(classes, suffix="npz"):
        for name, (pictures, recordings) in classes.items():
            (tmp_path / "images" / name).mkdir(parents=True)
            (tmp_path / "events" / name).mkdir(parents=True)
            for i in range(pictures):
                Image.new("L", (20, 20), i).save(tmp_path / "images" / name / f"p{i}.png")
            for i in range(recordings):
                t = np.arange(4) * 100 + i
                stream = EventStream.from_columns(t, t % 20, t % 20, t % 2, sensor_size=(20, 20))
                evlift.write_events(tmp_path / "events" / name / f"r{i}.{suffix}", stream)
        return {"images": str(tmp_path / "images"), "recordings": str(tmp_path / "events")}

    return build


@pytest.mark.parametrize(
    ("classes", "options", "said"),
    [
        ({"a": (3, 6), "b": (3, 0)}, {}, "none in b"),
        ({"a": (3, 6), "b": (0, 6)}, {}, "none in b"),
        ({"a": (3, 4)}, {}, "5 folds of 4 objects"),
        ({"a": (1, 6)}, {}, "at least 2 source pictures"),
        ({"a": (3, 9), "b": (3, 9)}, {"labels_per_class": 50}, "class a"),
        ({"a": (3, 6), "b": (3, 6)}, {"fold": 5}, "fold"),
    ],
)
def test_what_is_missing_is_named(make, classes, options, said):
    with pytest.raises(
        ConfigError if options else DataError, match=said
    ):  # the options, or the data, are wrong
        folders_suite(**make(classes), **options)


def test_classes_of_one_side_alone_are_named(make, tmp_path):
    folders = make({"a": (3, 6), "b": (3, 6)})
    (tmp_path / "events" / "b").rename(tmp_path / "events" / "c")
    with pytest.raises(DataError, match=r"\['b'\] are in the pictures alone, \['c'\]"):
        folders_suite(**folders)


@pytest.mark.parametrize("suffix", ["npz", "raw", "txt", "dat", "h5"])
def test_recordings_of_every_written_format_are_found(make, suffix):
    task = folders_suite(**make({"a": (3, 6), "b": (3, 6)}, suffix), sensor_size=(20, 20))
    assert len(task.train) + len(task.val) + len(task.test) == 12
    assert len(task.train.load(0)) == 4


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "I;16"])
def test_pictures_of_any_mode_keep_their_contrast(tmp_path, mode):
    (tmp_path / "a").mkdir()
    ramp = np.linspace(0, 255, 16 * 16).reshape(16, 16)
    if mode == "I;16":
        picture = Image.fromarray((ramp * 257).astype(np.uint16))
    else:
        picture = Image.fromarray(ramp.astype(np.uint8)).convert("RGB").convert("L").convert(mode)
    picture.save(tmp_path / "a" / "p.png")
    value = image_folder(tmp_path).load(0).reshape(16, 16, -1).max(2).astype(float)
    assert value.dtype.kind == "f"
    assert np.corrcoef(value.ravel(), ramp.ravel())[0, 1] > (0.4 if mode == "1" else 0.99)
