"""Labelled still images in their published layouts."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.items import (
    Images,
    Item,
    hash_of_array,
    missing,
    require,
    sorted_files,
    sorted_folders,
)
from evlift.errors import DataError
from evlift.registry import Registry

IMAGES = Registry("image data set")

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MNIST_SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/ (or `evlift.datasets.download`)"
CALTECH_SOURCE = "https://data.caltech.edu/records/mzrjq-6wc02 (101_ObjectCategories.tar.gz)"
MNIST_CLASSES = tuple("0123456789")


class IdxFile:
    """One idx file of unsigned bytes (the format of MNIST), gzipped or not, read when first asked for.

    Raises:
        DataError: another format, or a size that its header does not announce.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[type[IdxFile], tuple[Path]]:
        """Another process reads the file itself instead of getting 47 MB through a pipe."""
        return IdxFile, (self.path,)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape in the header, for which nothing else is read."""
        with self._opened() as file:
            return self._read_shape(file)

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """uint8, of the shape in the header; read-only."""
        with self._opened() as file:
            shape = self._read_shape(file)
            announced = math.prod(shape)
            size = self.path.stat().st_size
            # Deflate shrinks at most about 1032 times: a header that announces more is not believed.
            data = file.read(announced + 1) if announced <= 1100 * size else b""
        if len(data) != announced:
            got = "more" if len(data) > announced else f"{len(data)}"
            raise DataError(f"Expected {announced} bytes in '{self.path}', but got {got}. Fetch it again.")
        return np.frombuffer(data, np.uint8).reshape(shape)

    def _read_shape(self, file: io.BufferedIOBase) -> tuple[int, ...]:
        head = file.read(4)
        axes = head[3] if len(head) == 4 else 0
        sides = file.read(4 * axes)
        if head[:3] != b"\x00\x00\x08" or not 1 <= axes <= 4 or len(sides) < 4 * axes:
            raise DataError(
                f"Expected '{self.path}' to be an idx file of bytes, but it starts with {head!r}."
            )
        return struct.unpack(f">{axes}I", sides)

    @contextmanager
    def _opened(self) -> Iterator[io.BufferedIOBase]:
        try:
            with gzip.open(self.path) if self.path.suffix == ".gz" else self.path.open("rb") as file:
                yield file
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"Expected '{self.path}' to be gzip, but: {error}. Fetch it again.") from error


@IMAGES.register("mnist")
def mnist(root: Path | str, split: str = "train") -> Images:
    """MNIST from ``root/mnist/MNIST/raw/*-ubyte.gz`` (or without `.gz`); pictures are uint8 [28, 28].

    The object id of train image 2 is ``mnist/train/00002``: N-MNIST recordings of it carry the same.

    Example:
        >>> mnist("data").load(0).shape  # doctest: +SKIP
        (28, 28)

    Raises:
        DataError: a missing file, named with where it belongs and where it comes from, or a broken one.
    """
    stem = {"train": "train", "test": "t10k"}.get(split)
    if stem is None:
        raise DataError(f"Expected the split of MNIST to be 'train' or 'test', but got '{split}'.")
    folder = require(root, ("mnist/MNIST/raw", "MNIST/raw"), data_set="mnist", source=MNIST_SOURCE)
    pictures = _idx_file(folder / f"{stem}-images-idx3-ubyte")
    return _mnist(split, pictures, _idx_file(folder / f"{stem}-labels-idx1-ubyte"))


@lru_cache(maxsize=4)
def _mnist(split: str, pictures: IdxFile, label_file: IdxFile) -> Images:
    labels = label_file.array
    if pictures.shape[1:] != (28, 28) or labels.shape != pictures.shape[:1]:
        raise DataError(
            f"Expected a label for each picture of 28x28 in '{pictures.path.parent}', but got pictures "
            f"{pictures.shape} and labels {labels.shape}."
        )
    items = (
        Item(f"{split}/{i:05d}", int(label), f"mnist/{split}/{i:05d}", pictures.path, i)
        for i, label in enumerate(labels)
    )
    return Images("mnist", MNIST_CLASSES, items, partial(_read_row, pictures), partial(_hash_row, pictures))


def _idx_file(path: Path) -> IdxFile:
    for candidate in (path.with_name(f"{path.name}.gz"), path):
        if candidate.is_file():
            state = candidate.stat()
            return _kept_idx_file(candidate, state.st_size, state.st_mtime_ns)
    raise missing(path.with_name(f"{path.name}.gz"), data_set="mnist", source=MNIST_SOURCE)


@lru_cache(maxsize=4)
def _kept_idx_file(path: Path, size: int, mtime_ns: int) -> IdxFile:
    """One object a file and state of it: the folds of a suite unpack MNIST once."""
    return IdxFile(path)


def _read_row(pictures: IdxFile, item: Item) -> NDArray[np.uint8]:
    return pictures.array[item.index]


def _hash_row(pictures: IdxFile, item: Item) -> str:
    return hash_of_array(pictures.array[item.index])


@IMAGES.register("image-folder")
def image_folder(root: Path | str, *, name: str = "image-folder", drop: tuple[str, ...] = ()) -> Images:
    """Pictures in one subfolder a class; the object id is ``<class>/<file stem>``.

    Args:
        root: folder of class folders.
        name: what messages call the data set.
        drop: class folders to leave out.

    Raises:
        DataError: no such folder, or no pictures in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(
            f"Expected the folder '{root}' with one subfolder of pictures a class, but it is not there. "
            "Create it or give its right name."
        )
    folders = [folder for folder in sorted_folders(root) if folder.name not in drop]
    items = [
        Item(f"{folder.name}/{file.name}", target, f"{folder.name}/{file.stem}", file)
        for target, folder in enumerate(folders)
        for file in sorted_files(folder, SUFFIXES)
    ]
    if not items:
        raise DataError(f"Expected pictures in subfolders of '{root}', one a class, but found none.")
    return Images(name, [folder.name for folder in folders], items, read_picture)


@IMAGES.register("caltech101")
def caltech101(root: Path | str, *, folder: str = "caltech101") -> Images:
    """Caltech101 from ``root/<folder>/101_ObjectCategories``, without its background class.

    The object id is ``<class>/image_<nnnn>``, as in N-Caltech101, which was recorded from these pictures.

    Raises:
        DataError: the folder is missing; the message says where it belongs and comes from.
    """
    inside = (
        f"{folder}/101_ObjectCategories",
        f"{folder}/caltech-101/101_ObjectCategories",
        "101_ObjectCategories",
    )
    found = require(root, inside, data_set="caltech101", source=CALTECH_SOURCE)
    return image_folder(found, name="caltech101", drop=("BACKGROUND_Google",))


def read_picture(item: Item) -> NDArray[np.uint8]:
    """uint8 [H, W] of a grey picture, [H, W, 3] of any other.

    Raises:
        DataError: the file is no picture that Pillow reads.
    """
    from PIL import Image

    try:
        with Image.open(item.path) as picture:  # type: ignore[arg-type]
            if picture.mode.startswith("I;16"):  # Pillow's conversion would cut at 255 instead of scaling
                return (np.asarray(picture) >> 8).astype(np.uint8)
            return np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"Expected '{item.path}' to be a picture, but: {error}.") from error
