"""MNIST's idx files, picture folders, and how broken ones are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from layouts import caltech101 as caltech_layout
from layouts import mnist as mnist_layout
from layouts import touch, write_idx, write_picture
from PIL import Image

from evlift.datasets.images import IdxFile, caltech101, image_folder, mnist
from evlift.errors import DataError

# Published class sizes of MNIST's training set, digits 0 to 9.
MNIST_SIZES = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 5)])
@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_idx_round_trip(shape: tuple[int, ...], name: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_idx(tmp_path / name, array)
    assert np.array_equal(IdxFile(tmp_path / name).array, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "idx file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "idx file"),
        (b"\x00\x00\x08\x03\x00\x00", "idx file"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abc", "Expected 5 bytes"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12 + b"abc", "bytes in"),
    ],
)
def test_broken_idx_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    touch(tmp_path / "a", content or b"\x00")
    with pytest.raises(DataError, match=message):
        _ = IdxFile(tmp_path / "a").array


def test_cut_gzip_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.gz", gzip.compress(bytes(1000))[:-9])
    with pytest.raises(DataError, match="gzip"):
        _ = IdxFile(tmp_path / "a.gz").array


def test_a_gzip_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    touch(tmp_path / "a.gz", gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05" + bytes(50_000_000)))
    with pytest.raises(DataError, match="Expected 5 bytes"):
        _ = IdxFile(tmp_path / "a.gz").array


def test_mnist_without_gz_and_its_test_split(tmp_path: Path) -> None:
    mnist_layout(tmp_path)
    packed = mnist(tmp_path, "test")
    expected = [packed.load(i) for i in range(10)]
    for file in (tmp_path / "mnist/MNIST/raw").iterdir():
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    plain = mnist(tmp_path, "test")
    assert [item.object_id for item in plain][:2] == ["mnist/test/00000", "mnist/test/00001"]
    assert all(np.array_equal(plain.load(i), expected[i]) for i in range(10))
    with pytest.raises(DataError, match="'train' or 'test', but got 'val'"):
        mnist(tmp_path, "val")


def test_mnist_with_more_labels_than_pictures_is_refused(tmp_path: Path) -> None:
    mnist_layout(tmp_path)
    write_idx(tmp_path / "mnist/MNIST/raw/train-labels-idx1-ubyte.gz", np.zeros(31, np.uint8))
    with pytest.raises(DataError, match=r"pictures \(30, 28, 28\) and labels \(31,\)"):
        mnist(tmp_path)


def test_real_mnist(data_root: Path) -> None:
    train, test = mnist(data_root), mnist(data_root, "test")
    assert np.bincount(train.targets).tolist() == MNIST_SIZES
    assert len(test) == 10_000
    assert train.load(0).shape == (28, 28)
    assert [item.target for item in train[:5]] == [5, 0, 4, 1, 9]
    assert not set(train.object_ids) & set(test.object_ids)
    with pytest.raises(ValueError, match="read-only"):
        train.load(0)[0, 0] = 1


def test_grey_stays_grey_and_the_rest_becomes_rgb(tmp_path: Path) -> None:
    write_picture(tmp_path / "a/grey.png", grey=True)
    write_picture(tmp_path / "a/rgb.png")
    Image.fromarray(np.zeros((4, 3, 4), np.uint8)).save(tmp_path / "a/rgba.png")
    touch(tmp_path / "a/notes.txt")
    touch(tmp_path / "a/.hidden.png")
    images = image_folder(tmp_path)
    assert [item.name for item in images] == ["a/grey.png", "a/rgb.png", "a/rgba.png"]
    assert [images.load(i).shape for i in range(3)] == [(6, 5), (6, 5, 3), (4, 3, 3)]


def test_folders_without_pictures_and_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Expected pictures in subfolders"):
        image_folder(tmp_path)
    touch(tmp_path / "a/x.png", b"no picture")
    with pytest.raises(DataError, match="to be a picture"):
        image_folder(tmp_path).load(0)


def test_caltech101_drops_its_background(tmp_path: Path) -> None:
    caltech_layout(tmp_path)
    images = caltech101(tmp_path)
    assert images.classes == ("Faces_easy", "airplanes")
    assert images[0].object_id == "Faces_easy/image_0001"


def test_real_caltech101(data_root: Path) -> None:
    images = caltech101(data_root, folder="caltech101_20")
    assert len(images.classes) == 20
    assert np.bincount(images.targets).tolist() == [60] * 20
    assert min(images.load(0).shape[:2]) == 72
