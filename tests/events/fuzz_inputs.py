"""What the fuzz tests of the readers share: files to start from, and what is done with each input."""

from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from evlift.errors import EvliftError
from evlift.events import READERS, EventStream, open_reader, write_events

THIRD_PARTY = ("aedat4",)  # a decoder that is not ours; it may abort, and has its own guard and tests
OWN = sorted(set(READERS) - set(THIRD_PARTY))

SAMPLES = {
    "aedat2": "aedat2_dvs128_poker.aedat",
    "atis": "bin_nmnist.bin",
    "dat": "dat_ncars_car.dat",
    "es": "es_dvs.es",
    "evt2": "evt2_640x480_spinner.raw",
    "evt3": "evt3_1280x720_driving.raw",
    "text": "slider_depth/events.txt",
}


def small_stream() -> EventStream:
    rng = np.random.default_rng(1)
    t, x, y = np.sort(rng.integers(0, 50_000, 300)), rng.integers(0, 34, 300), rng.integers(0, 34, 300)
    return EventStream.from_columns(t, x, y, rng.random(300) < 0.5, sensor_size=(34, 34))


def made_evt21(path: Path) -> None:
    words = np.array([8 << 60 | 5 << 32, 1 << 60 | 3 << 43 | 4 << 32 | 0xF0F] * 40, "<u8")
    path.write_bytes(b"% evt 2.1\n% geometry 640x480\n% end\n" + words.tobytes())


def made_aedat2(path: Path) -> None:
    records = np.array([[(y << 8) | (x << 1), t] for t, (x, y) in enumerate([(3, 4), (5, 6)] * 40)], ">u4")
    path.write_bytes(b"#!AER-DAT2.0\r\n# DVS128\r\n" + records.tobytes())


def made_aedat3(path: Path) -> None:
    header = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    packets = b""
    for overflow in (1, 1, 1):
        events = np.array([[x << 17 | 5 << 2 | 3, 100 * x] for x in range(20)], "<u4")
        packets += struct.pack("<hhiiiiii", 1, 1, 8, 4, overflow, 20, 20, 20) + events.tobytes()
    path.write_bytes(header + packets)


def made_npy(path: Path) -> None:
    stream = small_stream()
    columns = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")]
    records = np.empty(len(stream), columns)
    for name, _ in columns:
        records[name] = getattr(stream, name)
    np.save(path, records)


def table(order: str = "txyp", time: float = 1.0) -> np.ndarray:
    """The small stream as float64 [n, 4]."""
    columns = {name: getattr(small_stream(), name).astype(float) for name in "txyp"}
    columns["t"] *= time
    return np.stack([columns[name] for name in order], axis=1)


def made_npy_table(path: Path) -> None:
    np.save(path, table("xytp", 1e-6))


def made_npz(path: Path) -> None:
    write_events(path, small_stream(), format="npz")


def made_npz_table(path: Path) -> None:
    np.savez(path, events=table())


def made_mat(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"events": table("xypt")})


def made_mat_compressed(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"events": table("xypt")}, do_compression=True)


def made_mat73(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("events", data=table("xypt").T, chunks=(4, 64), compression="gzip", shuffle=True)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def made_dsec(path: Path) -> None:
    write_events(path, small_stream(), format="dsec")


def made_dsec_as_published(path: Path) -> None:
    import h5py
    import hdf5plugin

    stream = small_stream()
    with h5py.File(path, "w") as file:
        for name, kind in (("t", "u4"), ("x", "u2"), ("y", "u2"), ("p", "u1")):
            file.create_dataset(
                f"events/{name}",
                data=getattr(stream, name).astype(kind),
                chunks=(64,),
                compression=hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE),
            )
        file["ms_to_idx"] = np.searchsorted(stream.t, np.arange(0, 52_000, 1000)).astype("u8")
        file["t_offset"] = np.int64(10**12)


def made_mvsec(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["davis/left/events"] = table("xytp", 1e-6)


def made_mvsec_in_chunks(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("davis/left/events", data=table("xytp", 1e-6), chunks=(50, 4), compression="lzf")


def made_es(path: Path) -> None:
    events = b"".join(bytes([2 * (i % 120) + i % 2, i % 34, 0, i % 30, 0]) for i in range(300))
    path.write_bytes(b"Event Stream\x02\x00\x00\x01" + struct.pack("<2H", 34, 34) + b"\xff" + events)


MADE = {
    "evt21": (made_evt21,),
    "aedat2": (made_aedat2,),
    "aedat3": (made_aedat3,),
    "dsec": (made_dsec, made_dsec_as_published),
    "es": (made_es,),
    "npy": (made_npy, made_npy_table),
    "npz": (made_npz, made_npz_table),
    "mat": (made_mat, made_mat_compressed, made_mat73),
    "mvsec": (made_mvsec, made_mvsec_in_chunks),
}


def seeds(form: str, path: Path) -> list[bytes]:
    """Files to start from: whole ones that were made, and the first 6 kB of a real one where there is one."""
    found = []
    for make in MADE.get(form, (lambda path: write_events(path, small_stream(), format=form),)):
        make(path)
        assert exercise(form, path), "the unharmed file cannot be read: nothing would be fuzzed"
        found.append(path.read_bytes())
    real = Path(os.environ.get("EVLIFT_DATA", "/nowhere")) / "recordings" / SAMPLES.get(form, "none")
    if real.is_file():
        found.append(real.read_bytes()[:6000])
    return found


def exercise(form: str, path: Path) -> bool:
    """Detect, read raw, and window one input; whether it could be read to the end."""
    try:
        reader = open_reader(path, format=form)
        n = len(reader.columns())
        stream = reader.read()
        assert len(stream) == n
        assert not np.any(stream.t[1:] < stream.t[:-1])
        assert n == 0 or (stream.x.max() < stream.sensor_size[1] and stream.y.max() < stream.sensor_size[0])
        list(itertools.islice(reader.windows(duration_us=1000), 20))
        reader.read(5_000, 20_000)
    except EvliftError:
        return False
    return True


def input_path(form: str, folder: Path) -> Path:
    """Where an input of a format is put, with an extension of it."""
    reader: Any = READERS[form]
    return folder / f"input{reader.extensions[0]}"
