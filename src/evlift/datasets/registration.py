"""Where MNIST's pictures lie on the events of N-MNIST, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.images import mnist
from evlift.datasets.items import Images, Recordings, require
from evlift.datasets.recordings import nmnist
from evlift.errors import DataError
from evlift.events import EventStream
from evlift.files import atomic_path

WINDOWS_US = np.arange(20_000, 320_000, 50_000)[:, None] + np.array([0, 50_000])  # [6, 2]
REACH = 6  # largest shift that is tried, in pixels
BORDER = 3  # a picture of 28x28 at rest lies this far inside the sensor of 34x34
FILE = "nmnist/registration.npz"
MIN_R2 = 0.3


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the picture of each recording lies in windows of equal length.

    Args:
        place: object id → row of `shift` and `r2`.
        shift: int [n, W, 2], (dy, dx): picture pixel (r, c) lies at event (y, x) = (r + 3 - dy, c + 3 - dx).
        r2: float [n, W], how well the shifted picture explains the window's events.
        windows_us: int64 [W, 2], start and end of each window.
    """

    place: dict[str, int]
    shift: NDArray[np.int64]
    r2: NDArray[np.float64]
    windows_us: NDArray[np.int64]

    @classmethod
    def load(cls, root: Path | str) -> Registration:
        """From ``root/nmnist/registration.npz``, which :func:`register` writes.

        Raises:
            DataError: no such file, other keys, or windows of unequal length.
        """
        source = f"evlift.datasets.registration.register({str(root)!r}), which takes about 20 ms a recording"
        path = require(root, (FILE,), data_set="digit-masks", source=source)
        try:
            with np.load(path, allow_pickle=False) as content:
                numbers, windows = content["mnist_index"], content["windows_us"].astype(np.int64)
                shift, r2 = content["shift"].astype(np.int64), content["r2"].astype(np.float64)
        except (ValueError, KeyError, OSError) as error:
            raise DataError(
                f"Expected '{path}' with mnist_index, shift, r2, windows_us, but: {error}."
            ) from None
        if len(set((windows[:, 1] - windows[:, 0]).tolist())) != 1:
            raise DataError(f"Expected windows of one length in '{path}', but got {windows.tolist()}.")
        place = {f"mnist/train/{int(number):05d}": row for row, number in enumerate(numbers)}
        return cls(place, shift, r2, windows)

    @property
    def duration_us(self) -> int:
        """Length of every window."""
        return int(self.windows_us[0, 1] - self.windows_us[0, 0])

    def fits(self, object_id: str, window: int) -> bool:
        """Whether the mask of this recording can be trusted in this window: r² of 0.3 or more."""
        row = self.place.get(object_id)
        return row is not None and bool(self.r2[row, window] >= MIN_R2)

    def shift_of(self, object_id: str, window: int) -> tuple[int, int]:
        """(dy, dx) of a recording in a window."""
        dy, dx = self.shift[self.place[object_id], window]
        return int(dy), int(dx)


def register(root: Path | str) -> Path:
    """Register every recording of ``root/nmnist/Train`` and write ``root/nmnist/registration.npz``.

    Example:
        >>> register("data")  # doctest: +SKIP

    Raises:
        DataError: missing recordings or pictures.
    """
    recordings, pictures = nmnist(root), mnist(root)
    fits = list(shifts(recordings, pictures))
    path = Path(root) / FILE
    with atomic_path(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            mnist_index=np.array([int(item.object_id[-5:]) for item in recordings], np.int32),
            label=recordings.targets.astype(np.uint8),
            shift=np.array([shift for shift, _ in fits], np.int8),
            r2=np.array([r2 for _, r2 in fits], np.float16),
            windows_us=WINDOWS_US,
        )
    return path


def shifts(
    recordings: Recordings, pictures: Images
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Shift int [6, 2] and r² float [6] of each recording, in order."""
    place = {item.object_id: position for position, item in enumerate(pictures)}
    for position, item in enumerate(recordings):
        yield best_shifts(recordings.load(position), pictures.load(place[item.object_id]))


def best_shifts(
    stream: EventStream, picture: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The shift (dy, dx) [6, 2] of `picture` [28, 28] that explains each window's events best, and its r² [6].

    A picture that moves by (vy, vx) changes a pixel by its gradient times that. So the signed event counts of a
    window are regressed on the two components of the picture's gradient, at every shift of up to 6 pixels.

    Source: decided here.
    """
    height, width = stream.sensor_size
    room = np.zeros((height + 2 * REACH, width + 2 * REACH))
    top = REACH + BORDER
    room[top : top + picture.shape[0], top : top + picture.shape[1]] = picture / 255.0
    tried = 2 * REACH + 1
    down, right = (
        np.lib.stride_tricks.sliding_window_view(part, (height, width)).reshape(tried * tried, -1)
        for part in np.gradient(room)
    )  # [169, H·W] each: one row a shift
    signed = np.stack(
        [_signed(stream.between(*window)) for window in WINDOWS_US.tolist()], axis=1
    )  # [H·W, 6]
    a, b, c = (
        (one * other).sum(axis=1)[:, None] for one, other in ((down, down), (down, right), (right, right))
    )
    p, q = down @ signed, right @ signed  # [169, 6]
    explained = (c * p * p - 2 * b * p * q + a * q * q) / np.maximum(a * c - b * b, 1e-12)
    r2 = explained / np.maximum((signed * signed).sum(axis=0), 1e-12)
    best = r2.argmax(axis=0)
    return np.stack(divmod(best, tried), axis=1) - REACH, r2[best, np.arange(r2.shape[1])]


def _signed(stream: EventStream) -> NDArray[np.float64]:
    """ON less OFF events of every pixel [H·W]."""
    height, width = stream.sensor_size
    pixel = stream.y.astype(np.int64) * width + stream.x
    signs = np.where(stream.p, 1.0, -1.0)
    return np.bincount(pixel, weights=signs, minlength=height * width).astype(np.float64)
