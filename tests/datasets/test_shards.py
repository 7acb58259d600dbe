"""Shards: the items, splits and batches of the folders they were packed from, on a disk or behind a URL."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import pickle
import tarfile
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

import evlift
from evlift.assembly import build_feeder, build_method, create_task
from evlift.cli import main
from evlift.config import parse_recipe
from evlift.datasets.images import image_folder
from evlift.datasets.pack import index_shards, scan_tar, write_shards
from evlift.datasets.recordings import nmnist, recording_folder
from evlift.datasets.shards import Index, open_shards, read_index
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream
from helpers import tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Class folders of pictures and recordings, and shards of both."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("mug", "phone"):
        (root / "images" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 255, (20, 24), np.uint8)).save(root / f"images/{name}/p{i}.png")
        for i in range(6):
            t = np.sort(rng.integers(0, 50_000, 300))
            x, y, p = rng.integers(0, 24, 300), rng.integers(0, 20, 300), rng.random(300) < 0.5
            stream = EventStream.from_columns(t, x, y, p, sensor_size=(20, 24))
            evlift.write_events(root / f"events/{name}/r{i}.{('raw', 'h5')[i % 2]}", stream)
    write_shards(root / "images", root / "image-shards", shards=2)
    write_shards(root / "events", root / "event-shards", shards=3)
    return root


@pytest.fixture
def in_memory(folders):
    """The shards of recordings at a `memory://` URL."""
    system = fsspec.filesystem("memory")
    for file in (folders / "event-shards").iterdir():
        system.pipe_file(f"/shards/{file.name}", file.read_bytes())
    yield "memory://shards"
    system.rm("/shards", recursive=True)


class Server(http.server.SimpleHTTPRequestHandler):
    """Files on the loopback, with byte ranges, and a count of the bytes that were sent."""

    ranges = True
    sent = 0

    def log_message(self, *words):
        pass

    def do_GET(self):
        data = (Path(self.directory) / self.path.lstrip("/")).read_bytes()
        asked = self.headers.get("Range", "")
        if asked and self.ranges:
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            data = data[first : last + 1]
        type(self).sent += len(data)
        self.send_response(206 if asked and self.ranges else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def serve():
    """A loopback server of a folder: ``serve(folder)`` gives its URL and the server's class."""
    servers = []

    def start(folder, *, ranges=True):
        kind = type("Own", (Server,), {"ranges": ranges, "sent": 0})
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *given: kind(*given, directory=str(folder))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", kind

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_items_are_those_of_the_folder(folders):
    for kind, build in (("event", recording_folder), ("image", image_folder)):
        whole = build(folders / f"{kind}s")
        shards = pickle.loads(pickle.dumps(open_shards(folders / f"{kind}-shards")))
        assert type(shards) is type(whole)
        assert shards.classes == whole.classes
        assert [(i.name, i.target, i.object_id) for i in shards] == [
            (i.name, i.target, i.object_id) for i in whole
        ]
        for k in range(len(whole)):
            assert shards.fingerprint(k) == whole.fingerprint(k)
            assert np.array_equal(shards.load(k), whole.load(k)) or shards.load(k) == whole.load(k)


def recipe(data, **changes):
    return parse_recipe(tiny(data={**data, "labels_per_class": 2}, **changes))


def batches(data, method="fine-tune", steps=2):
    found = recipe(data, method={"name": method}, input={"encoding": "saccade"})
    task = create_task(found)
    feeder = build_feeder(found, task, build_method(found, task))
    return task, [feeder.batch(step) for step in range(steps)]


def test_batches_from_a_disk_from_memory_and_from_a_server_are_those_from_folders(folders, in_memory, serve):
    task, expected = batches(
        {"name": "folders", "images": str(folders / "images"), "recordings": str(folders / "events")}
    )
    url, _ = serve(folders)
    for images, recordings in (
        (folders / "images", folders / "event-shards"),
        (folders / "image-shards", in_memory),
        (f"{url}/image-shards", f"{url}/event-shards"),
    ):
        other, found = batches({"name": "shards", "images": str(images), "recordings": str(recordings)})
        assert other.split == task.split
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.names == theirs.names
            for name in ("image", "events", "image_target", "event_target"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_a_run_from_shards_is_the_run_from_folders(folders, in_memory, tmp_path):
    plain = {"name": "folders", "images": str(folders / "images"), "recordings": str(folders / "events")}
    sharded = {"name": "shards", "images": str(folders / "image-shards"), "recordings": in_memory}
    for name, data in (("plain", plain), ("sharded", sharded)):
        found = recipe(data, method={"name": "events-only"}, train={"steps": 4})
        evlift.train(found, tmp_path / name)
    for file in ("best.safetensors", "metrics.csv"):
        rows = [(tmp_path / name / file).read_bytes() for name in ("plain", "sharded")]
        if file.endswith(".csv"):  # speeds and times differ from run to run
            rows = [[line for line in text.decode().splitlines() if ",loss," in line] for text in rows]
            assert rows[0]
        assert rows[0] == rows[1]


def test_a_training_from_shards_goes_on_where_it_stopped(folders, tmp_path):
    def stop_at_2(done, total, values):
        if done == 2:
            raise KeyboardInterrupt

    sharded = {"images": str(folders / "image-shards"), "recordings": str(folders / "event-shards")}
    found = recipe({"name": "shards", **sharded}, method={"name": "fine-tune"}, train={"steps": 4})
    with pytest.raises(KeyboardInterrupt):
        evlift.train(found, tmp_path / "stopped", report=stop_at_2)
    evlift.train(found, tmp_path / "stopped")
    evlift.train(found, tmp_path / "whole")
    weights = [(tmp_path / name / "best.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]


def test_a_server_sends_an_item_and_no_more_unless_it_knows_no_ranges(folders, serve):
    index = read_index(folders / "event-shards")
    url, counted = serve(folders / "event-shards")
    shards = open_shards(url)
    counted.sent = 0
    assert shards.load(0) == recording_folder(folders / "events").load(0)
    assert counted.sent == next(e for e in index.entries if e.name == shards[0].name).size
    url, counted = serve(folders / "event-shards", ranges=False)
    assert open_shards(url).load(5) == recording_folder(folders / "events").load(5)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # its reader leaves the shards open
def test_webdataset_reads_the_shards(folders):
    import webdataset

    names = sorted(str(path) for path in (folders / "event-shards").glob("*.tar"))
    samples = list(webdataset.WebDataset(names, shardshuffle=False, empty_check=False))
    read = {
        s["__key__"]: (int(s["cls"]), hashlib.sha256(s.get("raw") or s.get("h5")).hexdigest())
        for s in samples
    }
    whole = recording_folder(folders / "events")
    assert read == {item.object_id: (item.target, whole.fingerprint(k)) for k, item in enumerate(whole)}


def test_object_ids_of_a_published_set_are_kept(data_root, tmp_path):
    whole = nmnist(data_root).subset(range(0, 200, 10))
    write_shards(whole, tmp_path, shards=2)
    found = open_shards(tmp_path, sensor_size=(34, 34))
    assert found.object_ids == whole.object_ids
    assert found.load(3) == whole.load(3)


def test_packing_again(folders, tmp_path, capsys):
    source, out = folders / "images", tmp_path / "out"
    index = write_shards(source, out, shards=4)
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.iterdir()}
    assert write_shards(source, out, shards=4) == index
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.iterdir()} == before
    with pytest.raises(DataError, match="--overwrite"):
        write_shards(folders / "events", out, shards=4)
    assert main(["convert", str(source), str(out), "--shards", "2", "--overwrite"]) == 0
    assert "12 images" in capsys.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == [
        "index.json",
        "shard-00000.tar",
        "shard-00001.tar",
    ]
    for shards in (0, 13):
        with pytest.raises(ConfigError, match="1 to 12 shards"):
            write_shards(source, tmp_path / "other", shards=shards)


def test_packing_what_was_converted_on_the_way(folders, tmp_path, capsys):
    command = ["convert", str(folders / "events"), str(tmp_path / "out"), "--shards", "2", "--workers", "1"]
    assert main([*command, "--to", "dat", "--crop", "2,3,10,12", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["kind"], said["items"], said["shards"]) == (
        "recording",
        len(recording_folder(folders / "events")),
        2,
    )
    found = open_shards(tmp_path / "out")
    whole = recording_folder(folders / "events")
    assert found.object_ids == whole.object_ids
    assert found.load(0) == evlift.events.filters.crop(whole.load(0), 3, 2, 12, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_names_that_cannot_be_told_apart(tmp_path, random_stream):
    evlift.write_events(tmp_path / "in/a/one.raw", random_stream)
    evlift.write_events(tmp_path / "in/a/one.npz", random_stream)
    with pytest.raises(DataError, match="Rename one"):
        write_shards(tmp_path / "in", tmp_path / "out", shards=1)
    (tmp_path / "in/a/one.npz").rename(tmp_path / "in/a/two.parts.npz")
    write_shards(tmp_path / "in", tmp_path / "out", shards=1)
    assert [i.name for i in open_shards(tmp_path / "out")] == ["a/one.raw", "a/two.parts.npz"]
    assert open_shards(tmp_path / "out").load(1) == random_stream


def test_shards_that_came_without_an_index(folders, tmp_path):
    for file in (folders / "event-shards").glob("*.tar"):
        os.link(file, tmp_path / file.name)
    assert {(e.name, e.sha256) for e in index_shards(tmp_path).entries} == {
        (e.name, e.sha256) for e in read_index(folders / "event-shards").entries
    }
    assert len(open_shards(tmp_path)) == 12


def test_a_changed_shard_is_noticed(folders, tmp_path):
    for file in (folders / "event-shards").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    entry = read_index(tmp_path).entries[0]
    with (tmp_path / entry.shard).open("r+b") as file:
        file.seek(entry.offset + 100)
        file.write(b"\xff\xfe")
    shards = open_shards(tmp_path)
    with pytest.raises(DataError, match="was changed"):
        shards.load(0)
    (tmp_path / entry.shard).unlink()
    with pytest.raises(DataError, match="FileNotFoundError"):
        shards.load(0)


@pytest.mark.parametrize(
    "change",
    [
        {"shard": "../outside.tar"},
        {"shard": "/etc/passwd"},
        {"shard": "http://elsewhere/x.tar"},
        {"shard": "x::y"},
        {"shard": ".."},
        {"member": "a/x.r;w"},
        {"offset": -1},
        {"size": 1.5},
        {"sha256": "0"},
        {"target": True},
        {"object_id": None},
        {"more": 1},
    ],
)
def test_an_index_that_leads_elsewhere_or_makes_no_sense(folders, change):
    content = json.loads((folders / "event-shards/index.json").read_text())
    content["items"][0] |= change
    with pytest.raises(DataError, match="index of evlift's shards"):
        Index.from_json(json.dumps(content).encode(), "here")


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10_000, b'{"format": "x", "version": 1}', b"\xff"])
def test_what_is_no_index(content):
    with pytest.raises(DataError, match="index of evlift's shards"):
        Index.from_json(content, "here")


def test_a_size_that_no_memory_holds(folders, tmp_path):
    for file in (folders / "event-shards").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "index.json").read_text())
    content["items"][0]["size"] = 2**50
    (tmp_path / "index.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"MemoryError|cut or was changed"):
        open_shards(tmp_path).load(0)


def malicious(path, name="a/x.raw", **fields):
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        tar.addfile(info, io.BytesIO(b""))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("../../evil.raw", {}),
        ("/etc/evil.raw", {}),
        ("a\\..\\evil.raw", {}),
        ("C:/evil.raw", {}),
        ("a/x.raw", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("a/x.raw", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"}),
        ("a/x.raw", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ("a/x.raw", {"type": tarfile.FIFOTYPE}),
    ],
)
def test_a_tar_with_more_than_files_below_it(tmp_path, name, fields):
    malicious(tmp_path / "bad.tar", name, **fields)
    with pytest.raises(DataError, match=r"link or a device|names below a folder"):
        index_shards(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


def test_what_is_no_tar(tmp_path):
    for content in (b"", b"no tar" * 400, b"\0" * 512 + b"x" * 5000):
        (tmp_path / "bad.tar").write_bytes(content)
        with pytest.raises(DataError):
            index_shards(tmp_path)
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 400)
    with pytest.raises(DataError, match="whole tar"):
        list(scan_tar(tmp_path / "bad.tar"))


def test_what_the_suite_cannot_use(folders, tmp_path):
    shards = {"images": str(folders / "event-shards"), "recordings": str(folders / "event-shards")}
    with pytest.raises(DataError, match=r"data\.images to hold pictures"):
        create_task(recipe({"name": "shards", **shards}))
    with pytest.raises(DataError, match=r"index\.json"):
        create_task(recipe({"name": "shards", **shards, "recordings": str(tmp_path)}))
