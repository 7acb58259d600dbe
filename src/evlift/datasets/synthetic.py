"""Generated pictures and recordings with known classes, and scikit-learn's real digits for the demo."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.images import IMAGES
from evlift.datasets.items import Images, Item, Recordings, hash_of_array, hash_of_text
from evlift.datasets.recordings import RECORDINGS
from evlift.errors import DataError
from evlift.events import EventStream

SHAPES = ("bar-horizontal", "bar-vertical", "cross", "diagonal")
DURATION_US = 100_000


@IMAGES.register("synthetic")
def synthetic_images(
    root: Path | str | None = None, *, n: int = 40, size: int = 16, seed: int = 0, first: int = 0
) -> Images:
    """Noisy grey pictures uint8 [size, size] of four shapes, the same for the same arguments everywhere.

    Args:
        root: not used; every source takes it.
        n: pictures, dealt to the classes in turn.
        size: height and width in pixels.
        seed: of positions and noise.
        first: number of the first object, to generate disjoint sets.
    """
    read = partial(_synthetic_picture, size=size, seed=seed)
    return Images("synthetic", SHAPES, _items(n, first), read, partial(_hash_picture, read))


@RECORDINGS.register("synthetic")
def synthetic_recordings(
    root: Path | str | None = None, *, n: int = 40, size: int = 16, seed: int = 0, first: int = 0
) -> Recordings:
    """Recordings of 100 ms in which the shapes of :func:`synthetic_images` move to the right.

    Equal object ids show the same shape at the same place as the picture. Arguments as there.
    """
    read = partial(_synthetic_recording, size=size, seed=seed)
    return Recordings("synthetic", SHAPES, _items(n, first), read, partial(_hash_recording, read))


def _items(n: int, first: int) -> list[Item]:
    return [
        Item(f"{SHAPES[i % len(SHAPES)]}/{i:05d}", i % len(SHAPES), f"synthetic/{i:05d}", index=i)
        for i in range(first, first + n)
    ]


def _hash_picture(read: Callable[[Item], NDArray[np.uint8]], item: Item) -> str:
    return hash_of_array(read(item))


def _hash_recording(read: Callable[[Item], EventStream], item: Item) -> str:
    stream = read(item)
    return hash_of_text("".join(hash_of_array(column) for column in (stream.t, stream.x, stream.y, stream.p)))


def _mask(item: Item, size: int, seed: int) -> NDArray[np.bool_]:
    """bool [size, size], the shape of an object at its place."""
    rng = np.random.default_rng([seed, item.index])
    row, column = rng.integers(size // 4, size - size // 4, 2)
    y, x = np.indices((size, size))
    dy, dx = y - row, x - column
    near = np.maximum(abs(dy), abs(dx)) <= size // 4
    drawn = {
        "bar-horizontal": abs(dy) <= 1,
        "bar-vertical": abs(dx) <= 1,
        "cross": (abs(dy) <= 1) | (abs(dx) <= 1),
        "diagonal": abs(dy - dx) <= 1,
    }
    return near & drawn[SHAPES[item.index % len(SHAPES)]]


def _synthetic_picture(item: Item, *, size: int, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([seed, item.index, 1])
    level = np.where(_mask(item, size, seed), 200.0, 40.0) + rng.normal(0, 10, (size, size))
    return np.clip(level, 0, 255).astype(np.uint8)


def _synthetic_recording(item: Item, *, size: int, seed: int) -> EventStream:
    """Steps of one pixel to the right; each pixel whose state changes gives one event within the step."""
    rng = np.random.default_rng([seed, item.index, 2])
    steps = size // 4
    shown = [_shifted(_mask(item, size, seed), step) for step in range(steps + 1)]
    columns: list[NDArray[np.int64]] = []
    for step, (before, after) in enumerate(pairwise(shown)):
        y, x = np.nonzero(before != after)
        times = rng.integers(step * DURATION_US // steps, (step + 1) * DURATION_US // steps, len(y))
        columns.append(np.stack([times, x, y, after[y, x].astype(np.int64)]))
    t, x, y, p = np.concatenate(columns, axis=1)
    return EventStream.from_columns(t, x, y, p, sensor_size=(size, size))


def _shifted(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    moved = np.zeros_like(mask)
    moved[:, pixels:] = mask[:, : mask.shape[1] - pixels]
    return moved


@IMAGES.register("sklearn-digits")
def sklearn_digits(root: Path | str | None = None, *, size: int = 28) -> Images:
    """The 1 797 real 8x8 digits that scikit-learn carries, enlarged to uint8 [size, size], white on black.

    Args:
        root: not used; every source takes it.
        size: height and width in pixels.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "Expected scikit-learn for the digits it carries: pip install 'evlift[demo]'."
        ) from error
    digits = load_digits()
    small = (digits.images * (255 / 16)).round().astype(np.uint8)  # [1797, 8, 8], 0..16 → 0..255
    items = [
        Item(f"{label}/{i:04d}", int(label), f"sklearn-digits/{i:04d}", index=i)
        for i, label in enumerate(digits.target)
    ]
    read = partial(_enlarged, small, size=size)
    return Images("sklearn-digits", tuple("0123456789"), items, read, partial(_hash_picture, read))


def _enlarged(small: NDArray[np.uint8], item: Item, *, size: int) -> NDArray[np.uint8]:
    """Bicubic to three quarters of the side, in a black border as wide as MNIST's."""
    from PIL import Image

    inner = max(1, size * 20 // 28)
    picture = np.zeros((size, size), np.uint8)
    start = (size - inner) // 2
    drawn = Image.fromarray(small[item.index]).resize((inner, inner), Image.Resampling.BICUBIC)
    picture[start : start + inner, start : start + inner] = np.asarray(drawn)
    return picture
