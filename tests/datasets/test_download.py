"""Downloads: whole with the right checksum or not at all. No test leaves this machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evlift.datasets import download as module
from evlift.datasets.download import DOWNLOADS, Remote, download, fetch
from evlift.errors import ConfigError, DataError

CONTENT = b"forty-two" * 300_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/x.bin").write_bytes(CONTENT)
    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def test_a_file_arrives_whole_and_is_kept(server: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    remote = Remote("set/x.bin", (server + "x.bin",), sha256=SHA256)
    path = fetch(remote, tmp_path, progress=lambda name, done: seen.append((name, done)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("x.bin", len(CONTENT))
    before = path.stat().st_mtime_ns
    assert fetch(Remote("set/x.bin", ("http://127.0.0.1:1/",), sha256=SHA256), tmp_path) == path
    assert path.stat().st_mtime_ns == before


def test_the_next_mirror_is_tried_and_md5_is_checked(server: str, tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    remote = Remote("x.bin", (server + "absent", server + "x.bin"), md5=md5)
    assert fetch(remote, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_leaves_things_as_they_were(kind: str, server: str, tmp_path: Path) -> None:
    remote = Remote("x.bin", (server + "x.bin",), **{kind: "0" * 32})
    with pytest.raises(DataError, match="expected the checksum 0000"):
        fetch(remote, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    (tmp_path / "x.bin").write_bytes(b"old")
    with pytest.raises(DataError, match="mirrors"):
        fetch(remote, tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == b"old"


def test_a_missing_mirror_is_named(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{server}absent: HTTP Error 404"):
        fetch(Remote("x.bin", (server + "absent",), sha256=SHA256), tmp_path)


def test_a_checksum_is_required() -> None:
    with pytest.raises(DataError, match="Expected a checksum"):
        Remote("x", ("http://127.0.0.1/",))


def test_download_by_name(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote("mnist/x.bin", (server + "x.bin",), sha256=SHA256)
    monkeypatch.setitem(DOWNLOADS._entries, "mnist", lambda: (remote,))
    assert download("mnist", tmp_path) == [tmp_path / "mnist/x.bin"]
    with pytest.raises(ConfigError, match="Did you mean 'mnist'"):
        download("mnits", tmp_path)


def test_registered_checksums_are_those_that_torchvision_publishes() -> None:
    spec = importlib.util.find_spec("torchvision")  # read as text: an import takes seconds
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "datasets"
    published = {name: (folder / f"{name}.py").read_text() for name in ("mnist", "caltech")}
    for remote in module.mnist_files():
        assert f'("{Path(remote.path).name}", "{remote.md5}")' in published["mnist"]
    for remote in module.caltech101_files():
        assert f'"{remote.urls[0]}"' in published["caltech"]
        assert f'"{remote.md5}"' in published["caltech"]


def test_every_registered_file_has_a_place_and_a_mirror() -> None:
    for name in DOWNLOADS:
        for remote in DOWNLOADS[name]():
            assert not Path(remote.path).is_absolute()
            assert all(url.startswith("https://") for url in remote.urls)
