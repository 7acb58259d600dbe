"""Class folders as people name them: what they mean, what is in them, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from evlift.datasets.labelled_folder import UNKNOWN, labelled_folder, match_class, read_class_map
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream, write_events

DIGITS = tuple("0123456789")
THINGS = ("sports car", "Cup", "cup_holder")


@pytest.mark.parametrize(
    ("folder", "classes", "meant"),
    [
        ("3", DIGITS, "3"),
        ("03", DIGITS, "3"),
        ("Three", DIGITS, "3"),
        ("zero", DIGITS, "0"),
        ("3a", DIGITS, None),
        ("²", DIGITS, None),
        ("Sports_Car", THINGS, "sports car"),
        ("CUP", THINGS, "Cup"),
        ("cup-holder", THINGS, "cup_holder"),
        ("cups", THINGS, None),
        ("3", ("zero", "three"), "three"),
        ("A", ("a", "A"), "A"),
        ("AB", ("ab", "a_b"), None),
    ],
)
def test_what_a_folder_is_called(folder, classes, meant):
    assert match_class(folder, classes) == meant


@pytest.fixture
def root(tmp_path):
    """Folders 0 and Two, one of no class, an empty one, litter, junk and files without a label."""
    stream = EventStream.from_columns([0, 5], [1, 2], [3, 4], [1, 0], sensor_size=(34, 34))
    for name in ("0/a.npz", "0/deeper/b.raw", "Two/c.dat", "bird/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_events(tmp_path / name, stream)
    (tmp_path / "empty").mkdir()
    (tmp_path / "0" / "no-suffix").write_bytes((tmp_path / "0" / "deeper" / "b.raw").read_bytes())
    (tmp_path / "0" / "notes.md").write_text("notes")
    (tmp_path / "0" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "0" / "broken.bin").write_bytes(np.random.default_rng(0).bytes(7))
    (tmp_path / "readme.txt").write_text("hello")
    for hidden in (".git/a.npz", "__MACOSX/b.npz", "0/.c.npz", "0/.cache/d.npz", "0/Thumbs.db"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"x")
    return tmp_path


def test_everything_is_found_or_counted(root):
    found = labelled_folder(root, DIGITS)
    assert {(file.name, file.target) for file in found.files} == {
        ("0/a.npz", 0),
        ("0/broken.bin", 0),
        ("0/deeper/b.raw", 0),
        ("0/no-suffix", 0),
        ("Two/c.dat", 2),
        ("bird/d.txt", UNKNOWN),
    }
    assert found.classes == {"0": "0", "Two": "2"}
    assert found.unmatched == ("bird", "empty")
    assert found.without == ("1", *"3456789")
    assert found.loose == ("readme.txt",)
    assert found.passed_over == {".md": 1, ".png": 1}


def test_a_class_map_goes_before_names(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.yaml"
    path.write_text("bird: 7\n0: null\n")
    found = labelled_folder(root, DIGITS, class_map=read_class_map(path))
    assert found.classes == {"Two": "2", "bird": "7"}
    assert found.unmatched == ("0", "empty")
    for content, message in (("birds: 7", "Did you mean 'bird'"), ("bird: 17", "classes among 0, 1")):
        path.write_text(content)
        with pytest.raises(ConfigError, match=message):
            labelled_folder(root, DIGITS, class_map=read_class_map(path))
    for content in ("- a\n", "a: [b]", "a: {", ""):
        path.write_text(content)
        with pytest.raises(ConfigError, match="folder: class"):
            read_class_map(path)
    with pytest.raises(ConfigError, match="folder: class"):
        read_class_map(path.with_name("nothing.yaml"))


def test_a_link_to_itself_lies_beside_the_folders(root):
    (root / "loop").symlink_to("loop")
    assert "loop" in labelled_folder(root, ["2", "3"]).loose


def test_a_class_map_that_unfolds_into_a_flood_is_refused(tmp_path):
    rungs = "".join(f"k{i + 1}: &k{i + 1} [{', '.join([f'*k{i}'] * 10)}]\n" for i in range(9))
    (tmp_path / "map.yaml").write_text("k0: &k0 [a]\n" + rungs)
    with pytest.raises(ConfigError, match="aliases that repeat"):
        read_class_map(tmp_path / "map.yaml")


def test_folders_that_mean_nothing_are_refused_with_a_remedy(root, tmp_path):
    with pytest.raises(DataError, match=r"named by the classes dog, cat, but got 0, .*--class-map"):
        labelled_folder(root, ("dog", "cat"))
    with pytest.raises(DataError, match=r"subfolders of recordings in .* but got none"):
        labelled_folder(root / "bird", DIGITS)
    with pytest.raises(DataError, match="it is not there"):
        labelled_folder(root / "nowhere", DIGITS)
    (root / "outer").mkdir()
    (root / "0").rename(root / "outer" / "0")
    (root / "Two").rename(root / "outer" / "Two")
    with pytest.raises(DataError, match="outer' has such folders: give that one"):
        labelled_folder(root, DIGITS)
