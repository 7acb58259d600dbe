"""Small stand-ins for the published layouts, one builder a data set, for every test of this folder."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CEP_ROWS = ("trees", "people", "fish", "trees", "vehicles_1", "people")


def seed_of(path: Path) -> int:
    """A seed from the last folders of a path: other content for every file, the same in every run."""
    return zlib.crc32("/".join(path.parts[-4:]).encode())


def write_bin(path: Path, n: int = 20, size: int = 34) -> None:
    """An ATIS .bin file: x, y, then polarity and 23 bits of time, big-endian."""
    rng = np.random.default_rng(seed_of(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.sort(rng.integers(0, 300_000, n))
    words = [
        struct.pack(">BBBH", *rng.integers(0, size, 2), (int(rng.integers(2)) << 7) | (t >> 16), t & 0xFFFF)
        for t in times.tolist()
    ]
    path.write_bytes(b"".join(words))


def write_picture(path: Path, grey: bool = False) -> None:
    shape = (6, 5) if grey else (6, 5, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed_of(path)).integers(0, 256, shape, dtype=np.uint8)).save(path)


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_aedat3(path: Path, times: np.ndarray) -> None:
    """AEDAT 3.1 with one packet of polarity events on a diagonal."""
    n = len(times)
    x = (np.arange(n) + seed_of(path)) % 128
    data = (x << 17 | x << 2 | (np.arange(n) % 2) << 1 | 1).astype("<u4")
    body = np.stack([data, times.astype("<u4")], axis=1).tobytes()
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, n, n, n) + body)


def touch(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or path.name.encode())


def mnist(root: Path) -> None:
    rng = np.random.default_rng(0)
    for stem, n in (("train", 30), ("t10k", 10)):
        folder = root / "mnist/MNIST/raw"
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", (np.arange(n) % 10).astype(np.uint8))


def image_folder(root: Path) -> None:
    for i in range(6):
        write_picture(root / ("cat", "dog")[i % 2] / f"{i}.png")


def caltech101(root: Path) -> None:
    for name in ("BACKGROUND_Google", "Faces_easy", "airplanes"):
        for i in (1, 2):
            write_picture(root / f"caltech101/101_ObjectCategories/{name}/image_{i:04d}.jpg")


def cep_pictures(root: Path) -> None:
    cep_table(root)
    for i in range(len(CEP_ROWS)):
        write_picture(root / f"cep-dvs/data/img/{i}.jpg")


def cep_table(root: Path) -> None:
    lines = ["index path"] + [f"{i} a b c {name} rest,more" for i, name in enumerate(CEP_ROWS)]
    touch(root / "cep-dvs/pathFile.csv", "\n".join(lines).encode())


def omniglot(root: Path) -> None:
    for part, alphabet in (("background", "Latin"), ("background", "Arcadian"), ("evaluation", "Angelic")):
        for character in ("character01", "character02"):
            for k in (1, 2):
                folder = root / f"omniglot/images_{part}/{alphabet}/{character}"
                write_picture(folder / f"0{len(alphabet)}0{character[-1]}_{k:02d}.png", grey=True)


def recording_folder(root: Path) -> None:
    for i in range(6):
        write_bin(root / ("left", "right")[i % 2] / f"{i}.bin")


def nmnist(root: Path, folder: str = "nmnist", digits: range = range(10)) -> None:
    for k in range(1, 31):
        if (k - 1) % 10 in digits:
            write_bin(root / folder / f"Train/{(k - 1) % 10}/{k:05d}.bin")


def nmnist6789(root: Path) -> None:
    nmnist(root, "nmnist6789", range(6, 10))


def ncaltech101(root: Path) -> None:
    for name in ("BACKGROUND_Google", "Faces_easy", "airplanes"):
        for i in (1, 2):
            write_bin(root / f"ncaltech101/Caltech101/{name}/image_{i:04d}.bin", size=100)


def cifar10_dvs(root: Path) -> None:
    for name in ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]:
        for k in (0, 10, 2):
            touch(root / f"cifar10-dvs/{name}/cifar10_{name}_{k}.aedat")


def cep_dvs(root: Path) -> None:
    cep_table(root)
    for i in range(len(CEP_ROWS)):
        touch(root / f"cep-dvs/data/MAT/img/{i}.mat")


def n_omniglot(root: Path) -> None:
    for part, alphabet in (("background", "Latin"), ("background", "Arcadian"), ("evaluation", "Angelic")):
        for character in ("character01", "character02"):
            file = (
                root / f"n-omniglot/dvs_{part}/{alphabet}/{character}/0{len(alphabet)}0{character[-1]}.aedat4"
            )
            touch(file)
            rows = "".join(f"{k},{1000 * k},{1000 * k + 900}\n" for k in range(20))
            touch(file.with_suffix(".csv"), f",start,end\n{rows}".encode())


def dvs128_gesture(root: Path) -> None:
    folder = root / "dvs128-gesture/DvsGesture"
    for name, split in (("user01_led", "train"), ("user01_natural", "train"), ("user24_led", "test")):
        write_aedat3(folder / f"{name}.aedat", np.arange(0, 10_000, 10))
        table = "class,startTime_usec,endTime_usec\n1,0,1000\n11,2000,4000\n"
        touch(folder / f"{name}_labels.csv", table.encode())
        with (folder / f"trials_to_{split}.txt").open("a") as trials:
            trials.write(f"{name}.aedat\n")


def nothing(root: Path) -> None:
    """Generated data need no files."""


IMAGE_LAYOUTS: dict[str, Callable[[Path], None]] = {
    "mnist": mnist,
    "image-folder": image_folder,
    "caltech101": caltech101,
    "cep-dvs": cep_pictures,
    "omniglot": omniglot,
    "synthetic": nothing,
    "sklearn-digits": nothing,
}
RECORDING_LAYOUTS: dict[str, Callable[[Path], None]] = {
    "recording-folder": recording_folder,
    "nmnist": nmnist,
    "nmnist6789": nmnist6789,
    "ncaltech101": ncaltech101,
    "cifar10-dvs": cifar10_dvs,
    "cep-dvs": cep_dvs,
    "n-omniglot": n_omniglot,
    "dvs128-gesture": dvs128_gesture,
    "synthetic": nothing,
}
