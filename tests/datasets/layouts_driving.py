"""Small stand-ins for the driving sets in their published layouts, written from known events."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from evlift.events import EventStream, write_events

DIRS = ("dir0", "dir1", "dir3", "dir4", "dir5", "dir6", "dir7")
RECORDINGS = {
    "rec1487339175": ("run2", "train"),
    "rec1487356509": ("run3", "other"),
    "rec1487417411": ("run3", "test"),
    "rec1487593224": ("run3", "train"),
    "rec1487779465": ("run4", "train"),
    "rec1487842276": ("run5", "train"),
    "rec1487846842": ("run5", "train"),
}
DSEC_START_US = 50_000_000_000
MVSEC_START_S = 1_504_645_177.25


def save(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, compress_level=1)


def events(seed: int, n: int, duration_us: int, size: tuple[int, int]) -> EventStream:
    """n random events at 0 <= t < duration_us."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, duration_us, n))
    x, y = rng.integers(0, size[1], n), rng.integers(0, size[0], n)
    return EventStream.from_columns(t, x, y, rng.random(n) < 0.5, sensor_size=size)


def mask(seed: int, size: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """Blocks of 20x20 of random classes, 255 in the first."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, classes, (size[0] // 20 + 1, size[1] // 20 + 1), dtype=np.uint8)
    small[0, 0] = 255
    return np.kron(small, np.ones((20, 20), np.uint8))[: size[0], : size[1]]


def grey(seed: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def ddd17(root: Path, dirs: tuple[str, ...] = DIRS, labels: int = 3) -> dict[str, EventStream]:
    """Folders of DDD17 with frames every 100 ms from 100 ms on, times in ns; label n belongs to row n - 1."""
    written = {}
    for seed, name in enumerate(dirs):
        stream = events(seed, 4000, 400_000, (260, 346))
        folder = root / "ddd17" / name
        (folder / "index").mkdir(parents=True)
        t_ns = stream.t * 1000 + 7_000_000_000_000
        t_ns.astype("<i8").tofile(folder / "events.dat.t")
        xyp = np.stack([stream.x, stream.y, stream.p], axis=1).astype("<i2")
        xyp.tofile(folder / "events.dat.xyp")
        ends = 7_000_000_000_000 + np.arange(1, labels + 1, dtype=np.int64) * 100_000_000
        last = np.searchsorted(t_ns, ends)
        before = np.searchsorted(t_ns, ends - 50_000_000)
        np.save(folder / "index/index_50ms.npy", np.stack([ends, last, before], axis=1))
        for k in range(1, labels + 1):
            save(folder / f"segmentation_masks/segmentation_{k:08d}.png", mask(10 * seed + k, (200, 346), 6))
            save(folder / f"imgs/img_{k:08d}.png", grey(10 * seed + k, (260, 346)))
        written[name] = stream
    return written


def packet(kind: int, words: NDArray[np.uint32]) -> tuple[bytes, bytes]:
    """Header and body of a packet of 8-byte events."""
    head = struct.pack("<2h6i", kind, 1, 8, 4, 0, len(words), len(words), len(words))
    return head, words.astype("<u4").tobytes()


def raw_rows(stream: EventStream, clock_us: int, camera_us: int) -> list[tuple[int, bytes, bytes]]:
    """Packets of 5 ms; the computer's clock runs some ms behind the camera's."""
    rows = []
    data = (
        (stream.x.astype(np.uint32) << 17)
        | (stream.y.astype(np.uint32) << 2)
        | (stream.p.astype(np.uint32) << 1)
        | 1
    )
    for k, start in enumerate(range(0, int(stream.t[-1]) + 1, 5000)):
        part = slice(*np.searchsorted(stream.t, [start, start + 5000]))
        words = np.stack([data[part], stream.t[part] + camera_us], axis=1)
        invalid = np.array([[data[0] & ~np.uint32(1), camera_us]])  # marked as not valid
        clock = clock_us + start + k % 3 * 1000
        rows.append((clock, *packet(1, np.concatenate([words, invalid]))))
        rows.append((clock, *packet(3, words[:1])))  # of the motion sensor
    return rows


def write_raw(path: Path, rows: list[tuple[int, bytes, bytes]], unused: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(rows) + unused
    with h5py.File(path, "w") as file:
        data = file.create_dataset("dvs/data", (n, 3), dtype=h5py.vlen_dtype(np.uint8))
        times = file.create_dataset("dvs/timestamp", (n,), dtype=np.int64)
        for i, (clock, head, body) in enumerate(rows):
            for column, content in enumerate((str(clock).encode(), head, body)):
                data[i, column] = np.frombuffer(content, np.uint8)
            times[i] = clock


def ddd17_raw(
    root: Path, names: tuple[str, ...] = ("rec1487339175", "rec1487356509", "rec1487417411")
) -> dict[str, EventStream]:
    written = {}
    for seed, name in enumerate(names):
        run, split = RECORDINGS[name]
        stream = events(seed, 1500, 300_000, (260, 346))
        write_raw(root / f"ddd17/{run}/{name}.hdf5", raw_rows(stream, 1_487_339_175_000_000, 90_000_000))
        for k in (1, 3):
            save(root / f"ddd17/labels/{split}/{name}_export_{k}.png", mask(seed + k, (200, 346), 6))
            save(root / f"ddd17/images/{split}/{name}_export_{k}.png", grey(seed + k, (200, 346)))
        written[name] = stream
    return written


CALIBRATION = {
    "intrinsics": {
        "camRect0": {"camera_matrix": [560.0, 560.0, 335.0, 220.0]},
        "camRect1": {"camera_matrix": [1120.0, 1120.0, 670.0, 440.0]},
    },
    "extrinsics": {
        "R_rect0": np.eye(3).tolist(),
        "R_rect1": np.eye(3).tolist(),
        "T_10": [[1.0, 0, 0, 0.05], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]],
    },
}
"""Frames of twice the resolution of the events, the cameras beside each other."""


def rectify_map(shift: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float32]:
    y, x = np.mgrid[:480, :640]
    return np.stack([x + shift[0], y + shift[1]], axis=-1).astype(np.float32)


def dsec(
    root: Path,
    sequences: tuple[str, ...] = ("zurich_city_00_a", "zurich_city_01_a", "zurich_city_13_a"),
    *,
    shift: tuple[float, float] = (0.0, 0.0),
    labels: int = 9,
) -> dict[str, EventStream]:
    """Sequences with a label every 50 ms from 100 ms on; streams carry absolute times."""
    written = {}
    for seed, name in enumerate(sequences):
        folder = root / "dsec" / ("train" if name < "zurich_city_13" else "test") / name
        short = events(seed, 3000, 600_000, (480, 640))
        stream = EventStream(short.t + DSEC_START_US, short.x, short.y, short.p, short.sensor_size)
        (folder / "events/left").mkdir(parents=True)
        write_events(folder / "events/left/events.h5", stream)
        with h5py.File(folder / "events/left/rectify_map.h5", "w") as file:
            file["rectify_map"] = rectify_map(shift)
        for k in range(labels):
            for kind in (11, 19):
                place = folder / f"semantic/left/{kind}classes/data/{k:06d}.png"
                save(place, mask(seed + k, (440, 640), kind))
            save(folder / f"images/left/rectified/{k:06d}.png", doubled(seed + k))
        (folder / "semantic/timestamps.txt").write_text(
            "".join(f"{DSEC_START_US + 100_000 + 50_000 * k}\n" for k in range(labels))
        )
        (folder / "calibration").mkdir()
        (folder / "calibration/cam_to_cam.yaml").write_text(yaml.safe_dump(CALIBRATION))
        written[name] = stream
    return written


def small_frame(seed: int) -> NDArray[np.uint8]:
    return grey(seed, (480, 640))


def doubled(seed: int) -> NDArray[np.uint8]:
    """The small frame with every pixel doubled: position (2x, 2y) shows pixel (x, y)."""
    return np.kron(small_frame(seed), np.ones((2, 2), np.uint8))


def mvsec(
    root: Path, sequences: tuple[str, ...] = ("outdoor_day1", "outdoor_day2")
) -> dict[str, EventStream]:
    """Sequences with a frame every 50 ms, the first before the first event; streams count from MVSEC_START_S."""
    written = {}
    for seed, name in enumerate(sequences):
        stream = events(seed, 3000, 400_000, (260, 346))
        seconds = MVSEC_START_S + stream.t * 1e-6
        frame_s = MVSEC_START_S - 0.01 + 0.05 * np.arange(8)
        path = root / f"mvsec/{name}_data.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            left = file.create_group("davis/left")
            p = np.where(stream.p, 1.0, -1.0)
            columns = np.stack([stream.x, stream.y, seconds, p], axis=1)
            left.create_dataset("events", data=columns, chunks=(256, 4), compression="gzip")
            left["image_raw"] = np.stack([grey(10 * seed + k, (260, 346)) for k in range(8)])
            left["image_raw_ts"] = frame_s
            left["image_raw_event_inds"] = np.searchsorted(seconds, frame_s) - 1
        written[name] = stream
    return written


def mvsec_labels(folder: Path, name: str, frames: tuple[int, ...]) -> None:
    for k in frames:
        save(folder / name / f"{k:06d}.png", mask(k, (260, 346), 6))


def cityscapes(root: Path, size: tuple[int, int] = (64, 128)) -> None:
    """Pictures and labelIds of two cities a split, and files beside them that are neither."""
    for split, cities in (("train", ("aachen", "bochum")), ("val", ("frankfurt", "lindau"))):
        for i, city in enumerate(cities):
            for k in range(2):
                stem = f"{city}_{k:06d}_000019"
                rng = np.random.default_rng(10 * i + k)
                save(
                    root / f"cityscapes/leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png",
                    rng.integers(0, 256, (*size, 3), dtype=np.uint8),
                )
                ids = np.kron(rng.integers(0, 34, (size[0] // 8, size[1] // 8)), np.ones((8, 8))).astype(
                    np.uint8
                )
                save(root / f"cityscapes/gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", ids)
                save(root / f"cityscapes/gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png", ids)
