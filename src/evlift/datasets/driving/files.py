"""What the driving sets share: masks and grey frames from pictures, hashes of files too large to read, time blocks."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.images import read_picture
from evlift.datasets.items import Item, hash_of_text
from evlift.errors import DataError

BLOCK_US = 10_000_000
SAMPLES, SAMPLE_BYTES = 16, 16_384


def block_id(sequence: str, t_us: int, first_us: int) -> str:
    """Object id of a moment: its sequence and which 10 s of it, so that neighbouring windows are one object.

    Example:
        >>> block_id("ddd17/dir0", 25_000_000, 0)
        'ddd17/dir0/0002'
    """
    return f"{sequence}/{(t_us - first_us) // BLOCK_US:04d}"


def read_mask(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W], the numbers in a picture of classes: grey, of a palette, or RGB with three equal channels.

    Raises:
        DataError: no picture, or colours instead of numbers.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            values = np.array(picture)  # of our own: torch warns of memory that cannot be written
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"Expected '{path}' to be a picture of classes, but: {error}.") from error
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.dtype != np.uint8:
        raise DataError(
            f"Expected class numbers of 8 bits in '{path}', but got {values.dtype} {list(values.shape)}. Turn colours "
            "into class numbers first."
        )
    return values


def read_frame(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W] or [H, W, 3], a picture; RGB with three equal channels comes back grey.

    Raises:
        DataError: no such file, or no picture.
    """
    frame = read_picture(Item(path.name, -1, path.name, path))
    return frame[..., 0] if frame.ndim == 3 and (frame[..., :1] == frame).all() else frame


def path_of(item: Item) -> Path:
    """The item's file.

    Raises:
        DataError: it has none.
    """
    if item.path is None:
        raise DataError(f"Expected '{item.name}' to name a file, but it has none.")
    return item.path


def numbered(file: Path) -> int:
    """The number at the end of a file's name.

    Raises:
        DataError: there is none.
    """
    last = file.stem.rsplit("_", 1)[-1]
    if not (last.isascii() and last.isdecimal()):
        raise DataError(f"Expected the name of '{file}' to end in a number, but got '{last}'.")
    return int(last)


def window_fingerprint(item: Item, recording: Path) -> str:
    """sha256 of a window: its mask's file, its recording (sampled) and its times."""
    hashes = "/".join(sampled_hash(file) for file in (recording, path_of(item)))
    return hash_of_text(f"{hashes}/{item.index}/{item.start_us}/{item.stop_us}")


def sampled_hash(path: Path) -> str:
    """sha256 of a file's size and of 16 pieces of 16 KiB spread over it; of the whole of a small file.

    Recordings of these sets have gigabytes: their full hash would take longer than many a training.
    """
    state = path.stat()
    return _sampled_hash(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=200_000)
def _sampled_hash(path: Path, size: int, mtime_ns: int) -> str:
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= SAMPLES * SAMPLE_BYTES:
            found.update(file.read())
            return found.hexdigest()
        for k in range(SAMPLES):
            file.seek(k * (size - SAMPLE_BYTES) // (SAMPLES - 1))
            found.update(file.read(SAMPLE_BYTES))
    return found.hexdigest()
