"""Recordings in folders and N-MNIST: items, slices, and that a recording shows the picture that it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layouts import nmnist as nmnist_layout
from layouts import nmnist6789 as nmnist6789_layout
from layouts import touch, write_bin
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from evlift.datasets import Images, Item, Recordings
from evlift.datasets.images import mnist
from evlift.datasets.recordings import nmnist, nmnist6789, read_recording, recording_folder
from evlift.errors import DataError
from evlift.events import EventStream


def test_slices_of_a_recording_are_those_of_the_stream(tmp_path: Path) -> None:
    write_bin(tmp_path / "x.bin", n=500)
    whole = read_recording(Item("x", 0, "x", tmp_path / "x.bin"), sensor_size=(34, 34))
    assert len(whole) == 500
    for start, stop in ((None, 100_000), (50_000, None), (50_000, 100_000), (400_000, None)):
        item = Item("x", 0, "x", tmp_path / "x.bin", start_us=start, stop_us=stop)
        expected = whole.between(start or 0, 10**9 if stop is None else stop)
        assert read_recording(item, sensor_size=(34, 34)) == expected
    with pytest.raises(DataError, match="to name a file"):
        read_recording(Item("x", 0, "x"))


def test_folder_reads_what_is_readable_and_keeps_its_size(tmp_path: Path) -> None:
    write_bin(tmp_path / "right/b.bin", n=30)
    write_bin(tmp_path / "left/a.bin", n=20)
    touch(tmp_path / "left/readme.md")
    recordings = recording_folder(tmp_path, sensor_size=(40, 50))
    assert [(item.name, item.target) for item in recordings] == [("left/a.bin", 0), ("right/b.bin", 1)]
    stream = recordings.load(1)
    assert isinstance(stream, EventStream)
    assert (len(stream), stream.sensor_size) == (30, (40, 50))
    with pytest.raises(DataError, match="Expected recordings in subfolders"):
        recording_folder(tmp_path / "left")


def test_nmnist_object_is_the_mnist_image_one_number_lower(tmp_path: Path) -> None:
    nmnist_layout(tmp_path)
    recordings = nmnist(tmp_path)
    assert (recordings[2].name, recordings[2].object_id) == ("2/00003", "mnist/train/00002")
    assert recordings.load(0).sensor_size == (34, 34)
    touch(tmp_path / "nmnist/Train/3/copy.bin")
    with pytest.raises(DataError, match=r"named by a number.*copy\.bin"):
        nmnist(tmp_path)
    with pytest.raises(DataError, match="'train' or 'test'"):
        nmnist(tmp_path, "val")


def test_nmnist6789_numbers_its_four_classes_from_zero(tmp_path: Path) -> None:
    nmnist6789_layout(tmp_path)
    recordings = nmnist6789(tmp_path)
    assert recordings.classes == ("6", "7", "8", "9")
    assert {(item.name[0], item.target) for item in recordings} == {("6", 0), ("7", 1), ("8", 2), ("9", 3)}


@pytest.mark.parametrize(("source", "digits"), [(nmnist, range(10)), (nmnist6789, range(6, 10))])
def test_real_recordings_match_their_registration(source: object, digits: range, data_root: Path) -> None:
    recordings: Recordings = source(data_root)  # type: ignore[operator]
    known = np.load(data_root / recordings.name / "registration.npz")
    label = dict(zip(known["mnist_index"].tolist(), known["label"].tolist(), strict=True))
    ours = {int(item.object_id[-5:]): digits[item.target] for item in recordings}
    assert ours == label
    pictures = mnist(data_root)
    assert all(pictures[index].target == target for index, target in ours.items())


def contours(pictures: Images, index: int) -> NDArray[np.float64]:
    """[34, 34] edge strength of an MNIST picture, laid 3 pixels inside the sensor."""
    smooth = gaussian_filter(np.pad(pictures.load(index).astype(float), 3), 1)
    return np.hypot(*np.gradient(smooth))


def test_real_recordings_show_their_own_picture(data_root: Path) -> None:
    """The events of a recording lie on the contours of its own picture, not of others of the same class."""
    recordings, pictures = nmnist(data_root), mnist(data_root)
    known = np.load(data_root / "nmnist/registration.npz")
    shift = dict(zip(known["mnist_index"].tolist(), known["shift"], strict=True))
    start, stop = known["windows_us"][2]
    rng = np.random.default_rng(0)
    own_first = 0
    chosen = rng.choice(len(recordings), 40, replace=False)
    for i in chosen:
        stream, index = recordings.load(i).between(start, stop), int(recordings[i].object_id[-5:])
        counts = np.zeros((34, 34))
        np.add.at(counts, (stream.y, stream.x), 1)
        others = rng.choice(np.flatnonzero(pictures.targets == recordings[i].target), 9, replace=False)
        dy, dx = -shift[index][2]
        scores = [
            np.corrcoef(np.roll(contours(pictures, j), (dy, dx), (0, 1)).ravel(), counts.ravel())[0, 1]
            for j in (index, *others)
        ]
        own_first += int(np.argmax(scores) == 0)
    assert own_first >= 36, f"only {own_first} of 40 recordings fit their own picture best"
