"""No file that evlift opens runs code, leads to other files, or takes the machine: a malicious sample of each kind."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

import evlift
from evlift.bench.suite import load_suite
from evlift.config import parse_recipe, read_yaml
from evlift.datasets.cache import Cache, CacheWarning
from evlift.datasets.manifest import Manifest
from evlift.engine.checkpoint import load_resume, load_weights
from evlift.errors import ConfigError, DataError, EvliftError, FormatError
from evlift.events import open_reader
from evlift.events.readers import hdf5_guard, source
from evlift.files import load_yaml
from helpers import TINY, tiny

CALLED: list[str] = []


pytestmark = pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")


def called(word: str) -> str:
    """What the samples below want to be run."""
    CALLED.append(word)
    return word


class Payload:
    """An object whose pickle calls :func:`called` when it is loaded."""

    def __reduce__(self):
        return called, ("pickle",)


@pytest.fixture(autouse=True)
def nothing_runs():
    CALLED.clear()
    yield
    assert CALLED == []


def test_the_payload_works():
    """Else the other tests would prove nothing."""
    pickle.loads(pickle.dumps(Payload()))
    assert CALLED == ["pickle"]
    CALLED.clear()


# weights and resume state


@pytest.mark.parametrize("write", [lambda path: torch.save({"w": Payload()}, path), None])
def test_weights_that_are_a_pickle(tmp_path, write):
    path = tmp_path / "best.safetensors"
    torch.save(Payload(), path) if write is None else write(path)
    with pytest.raises(DataError, match=r"best\.safetensors"):
        load_weights(torch.nn.Linear(1, 1), path)


def test_resume_state_that_holds_an_object(tmp_path):
    for legacy in (True, False):
        torch.save({"state": Payload()}, tmp_path / "last.ckpt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(DataError, match="cannot be resumed from"):
            load_resume(tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DataError, match="cannot be resumed from"):
        load_resume(tmp_path / "last.ckpt")


def test_safetensors_with_a_header_of_any_length(tmp_path):
    path = tmp_path / "best.safetensors"
    for head in (struct.pack("<Q", 2**62), struct.pack("<Q", 8) + b'{"a": 1}', b""):
        path.write_bytes(head)
        with pytest.raises(DataError):
            load_weights(torch.nn.Linear(1, 1), path)


# YAML: recipes, the config.yaml of a run, suites


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:test_security.called [yaml]",
        "a: !!python/name:test_security.called",
        "a: !!python/object/new:test_security.Payload {}",
        "a: &a [*a]",
        "[" * 700,
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n"
            for old, new in zip("abcdefghi", "bcdefghij", strict=True)
        ),
    ],
    ids=["apply", "name", "new", "itself", "deep", "flood"],
)
def test_yaml_that_asks_for_more_than_values(tmp_path, text):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    for read in (read_yaml, load_suite, parse_recipe):
        with pytest.raises(ConfigError):
            read(path)


def test_aliases_as_people_write_them_are_read():
    assert load_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}] * 2,
    }
    assert load_yaml("") is None


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "train: {lr: 1}\ndata: x\ntrain: {steps: 2}", "a: [{b: 1, b: 2}]"]
)
def test_yaml_with_a_name_twice_is_refused(text):
    with pytest.raises(ConfigError, match=r"once, but got it again in .*line"):
        load_yaml(text)


@pytest.mark.parametrize("field", [("method", "teacher"), ("model", "width"), ("data", "fold")])
def test_a_recipe_never_has_a_class_imported(tmp_path, monkeypatch, field):
    """The recipe of a run that somebody sends along is a recipe too."""
    (tmp_path / "payload_module.py").write_text("import test_security\ntest_security.called('import')")
    monkeypatch.syspath_prepend(tmp_path)
    section, name = field
    recipe = tiny(method={"name": "evdistill"}) if section == "method" else tiny()
    evil = {"class_path": "payload_module.Network", "init_args": {}}
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({**recipe, section: {**recipe[section], name: evil}})
    )
    with pytest.raises(ConfigError, match="class_path"):
        parse_recipe(tmp_path / "config.yaml")
    with pytest.raises(EvliftError):
        evlift.open_run(tmp_path)
    with pytest.raises(ConfigError, match="class_path"):
        parse_recipe(recipe, [f"--{section}.{name}.class_path", "payload_module.Network"])
    with pytest.raises(ConfigError):
        parse_recipe({**TINY, "model": {"name": "payload_module.Network"}})
    if section == "method":
        recipe["method"]["teacher"] = "payload_module.Network"  # a text stays one
        assert parse_recipe(recipe).method["teacher"] == "payload_module.Network"


def test_plugins_are_files_beside_the_suite_that_the_user_started(tmp_path):
    """They do run: that is what they are for, and docs/security.md says so. Nothing but `plugins` names any."""
    (tmp_path / "own.py").write_text("import test_security\ntest_security.called('plugin')")
    (tmp_path / "suite.yaml").write_text("plugins: [own.py]\n")
    with pytest.raises(ConfigError):
        load_suite(tmp_path / "suite.yaml")  # refused for want of rows, before the plugin is run


# arrays


def npz(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def as_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_arrays_of_objects(tmp_path):
    content = as_npy(np.array([Payload()], object))
    (tmp_path / "a.npy").write_bytes(content)
    npz(tmp_path / "a.npz", t=content, x=content, y=content, p=content)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(FormatError, match="never loaded"):
            open_reader(tmp_path / name)
    cache = Cache(tmp_path)
    (tmp_path / "ab").mkdir()
    cache.path("abcd").write_bytes(content)
    with pytest.warns(CacheWarning):
        assert cache.get("abcd", lambda: np.ones(1)) == 1


def test_members_that_lie_outside_are_read_but_never_unpacked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    npz(
        tmp_path / "a.npz",
        **{"../../evil": as_npy(np.arange(5))},
        **{c: as_npy(np.arange(5) % 2) for c in "txyp"},
    )
    assert len(open_reader(tmp_path / "a.npz", sensor_size=(9, 9)).read()) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


def test_archives_that_unpack_to_a_flood(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "FREE_BYTES", 2**16)
    zeros = as_npy(np.zeros(2**16, np.int64))
    npz(tmp_path / "a.npz", t=zeros, x=zeros, y=zeros, p=zeros)
    with pytest.raises(FormatError, match="over 200 times"):
        open_reader(tmp_path / "a.npz")
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"events": np.zeros((2**14, 4))}, do_compression=True)
    with pytest.raises(FormatError, match="over 200 times"):
        open_reader(tmp_path / "a.mat")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "txyp":
            file.create_dataset(
                f"events/{name}", data=np.zeros(2**17, np.int64), compression="gzip", chunks=(2**16,)
            )
    with pytest.raises(FormatError, match="over 200 times"):
        open_reader(tmp_path / "a.h5")


def test_a_mat_file_that_claims_more_than_it_has(tmp_path):
    element = struct.pack("<2I", 14, 2**31 - 1) + struct.pack("<4I", 6, 8, 6, 0)
    shape = struct.pack("<2I2i", 5, 8, 2**15, 2**12) + struct.pack("<2I", 1, 1) + b"x".ljust(8, b"\0")
    numbers = struct.pack("<2I", 9, 2**30)
    packed = zlib.compress(element + shape + numbers)
    head = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<2I", 15, len(packed)) + packed)
    with pytest.raises(FormatError):
        open_reader(tmp_path / "a.mat")


# HDF5


def dsec(path: Path, **replaced) -> Path:
    """A whole recording, some of whose columns are made by functions of (file, name)."""
    with h5py.File(path, "w") as file:
        for name in "txyp":
            make = replaced.get(name, lambda file, name: file.create_dataset(name, data=np.arange(50) % 2))
            make(file, f"events/{name}")
    return path


@pytest.fixture
def secret(tmp_path):
    """Another file of the same user, as HDF5 and as bytes."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["numbers"] = np.arange(50)
    (tmp_path / "secret.bin").write_bytes(np.arange(50).tobytes())
    return tmp_path


def external_link(file, name):
    file[name] = h5py.ExternalLink("secret.h5", "/numbers")


def soft_link_to_an_external_one(file, name):
    file["hop"] = h5py.ExternalLink("secret.h5", "/")
    file[name] = h5py.SoftLink("/hop/numbers")


def external_storage(file, name):
    file.create_dataset(name, (50,), np.int64, external=[("secret.bin", 0, h5py.h5f.UNLIMITED)])


def virtual(file, name):
    layout = h5py.VirtualLayout((50,), np.int64)
    layout[:] = h5py.VirtualSource("secret.h5", "numbers", (50,))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    "elsewhere", [external_link, soft_link_to_an_external_one, external_storage, virtual]
)
@pytest.mark.parametrize("format", ["dsec", "mat"])
def test_hdf5_whose_values_lie_in_other_files(secret, monkeypatch, elsewhere, format):
    monkeypatch.chdir(secret)
    if format == "dsec":
        path = dsec(secret / "a.h5", x=elsewhere)
    else:
        path = secret / "a.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            elsewhere(file, "events")
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    for named in (format, None):
        with pytest.raises(FormatError, match=r"Links are not followed|lie in other files"):
            open_reader(path, format=named)


def test_a_group_that_is_a_link(secret, monkeypatch):
    monkeypatch.chdir(secret)
    dsec(secret / "other.h5")
    with h5py.File(secret / "a.h5", "w") as file:
        file["events"] = h5py.ExternalLink("other.h5", "/events")
    with pytest.raises(FormatError, match="Links are not followed"):
        open_reader(secret / "a.h5", format="dsec")


def test_hdf5_that_sends_its_library_in_circles(tmp_path, monkeypatch):
    """One changed byte in the free list of a group's heap: without the guard libhdf5 fills the memory for ever."""
    with h5py.File(tmp_path / "a.h5", "w", libver="earliest") as file:
        for name in "txyp":
            file[f"events/{name}"] = np.arange(50) % 2
    content = bytearray((tmp_path / "a.h5").read_bytes())
    at, found = -1, 0
    while (at := content.find(b"HEAP", at + 1)) >= 0:
        _, free, segment = struct.unpack_from("<3Q", content, at + 8)
        struct.pack_into("<Q", content, at + 16, free + 8)  # its "next" is now what was a size
        struct.pack_into("<2Q", content, segment + free + 8, free + 8, 16)  # which leads back to itself
        found += 1
    assert found
    (tmp_path / "a.h5").write_bytes(content)
    monkeypatch.setattr(hdf5_guard, "SECONDS", 5)
    monkeypatch.setattr(hdf5_guard, "_GUARD", hdf5_guard._Guard())
    large = np.ones(2**27)  # 1 GiB: a process that is larger than what the guard lets a file take
    hdf5_guard._GUARD._start()
    del large
    with pytest.raises(FormatError, match="looking at its structure"):
        open_reader(tmp_path / "a.h5", format="dsec")
    assert (
        len(open_reader(dsec(tmp_path / "good.h5"), format="dsec").read()) == 50
    )  # a new process looks at it


# other files


def test_a_manifest_is_read_as_plain_values(tmp_path):
    for content in (pickle.dumps(Payload()), b"{}", b"[" * 100_000):
        (tmp_path / "manifest.jsonl").write_bytes(content)
        with pytest.raises(DataError):
            Manifest.load(tmp_path / "manifest.jsonl")


def test_the_source_uses_nothing_that_runs_what_it_reads():
    """`eval`, `exec`, pickles and unsafe YAML appear nowhere; Python files are imported in one place."""
    text = {path.name: path.read_text("utf-8") for path in Path(evlift.__file__).parent.rglob("*.py")}
    for word in (
        "pickle.load",
        "allow_pickle=True",
        "weights_only=False",
        "yaml.load(",
        "yaml.unsafe",
        "extractall",
    ):
        assert [name for name, content in text.items() if word in content] == [], word
    loads = [
        name
        for name, content in text.items()
        if "torch.load(" in content and "weights_only=True" not in content
    ]
    assert loads == []
    assert [name for name, content in text.items() if "exec_module(" in content] == ["extras.py"]
