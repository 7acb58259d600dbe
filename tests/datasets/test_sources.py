"""What every registered source of pictures or recordings keeps, on stand-ins of its published layout."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import IMAGE_LAYOUTS, RECORDING_LAYOUTS

from evlift.datasets import IMAGES, RECORDINGS, Collection, Images, Recordings
from evlift.errors import DataError

SOURCES = [(IMAGES, IMAGE_LAYOUTS, name) for name in IMAGE_LAYOUTS]
SOURCES += [(RECORDINGS, RECORDING_LAYOUTS, name) for name in RECORDING_LAYOUTS]


@pytest.fixture(
    params=SOURCES, ids=[f"{registry.kind}:{name}".replace(" ", "-") for registry, _, name in SOURCES]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Collection[Any]]:
    registry, layouts, name = request.param
    layouts[name](tmp_path)
    return lambda: registry[name](tmp_path)


def test_every_registered_source_has_a_stand_in() -> None:
    assert set(IMAGES) == set(IMAGE_LAYOUTS)
    assert set(RECORDINGS) == set(RECORDING_LAYOUTS)


def test_items_are_sorted_labelled_and_unique(make: Callable[[], Collection[Any]]) -> None:
    items = make()
    assert isinstance(items, Images | Recordings)
    assert len(items) > 1
    keys = [(item.object_id, item.name) for item in items]
    assert keys == sorted(keys)
    assert len({item.name for item in items}) == len(items)
    assert items.targets.min() >= 0
    assert items.targets.max() < len(items.classes)
    assert len(set(items.classes)) == len(items.classes)


def test_order_of_directory_listings_changes_nothing(
    make: Callable[[], Collection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make()
    listdir, scandir = os.listdir, os.scandir
    shuffle = random.Random(3)
    shuffled: list[int] = []

    def permuted(entries: list[Any]) -> list[Any]:
        shuffled.append(len(entries))
        return shuffle.sample(entries, len(entries))[::-1]

    monkeypatch.setattr(os, "listdir", lambda *path: permuted(listdir(*path)))
    monkeypatch.setattr(os, "scandir", lambda *path: iter(permuted(list(scandir(*path)))))
    for _ in range(5):
        after = make()
        assert after.items == before.items
        assert after.classes == before.classes
    folders = before.items[0].path is not None and before.name not in ("mnist", "dvs128-gesture")
    assert bool(shuffled) == folders


def test_fingerprints_tell_items_apart_and_repeat(make: Callable[[], Collection[Any]]) -> None:
    first, again = make(), make()
    prints = [first.fingerprint(i) for i in range(min(len(first), 40))]
    assert prints == [again.fingerprint(i) for i in range(len(prints))]
    assert all(len(text) == 64 for text in prints)
    assert len(set(prints)) == len(prints)


def test_travels_to_worker_processes(make: Callable[[], Collection[Any]]) -> None:
    items = make()
    assert pickle.loads(pickle.dumps(items)).items == items.items


@pytest.mark.parametrize("name", sorted(IMAGE_LAYOUTS))
def test_pictures_are_bytes_of_declared_shape(name: str, tmp_path: Path) -> None:
    IMAGE_LAYOUTS[name](tmp_path)
    images = IMAGES[name](tmp_path)
    picture = images.load(0)
    assert picture.dtype == np.uint8
    assert picture.ndim == 2 or picture.shape[2:] == (3,)


@pytest.mark.parametrize(
    ("registry", "name"),
    [*itertools.product([IMAGES], IMAGE_LAYOUTS), *itertools.product([RECORDINGS], RECORDING_LAYOUTS)],
)
def test_missing_data_are_named_with_their_place_and_origin(registry: Any, name: str, tmp_path: Path) -> None:
    if name in ("synthetic", "sklearn-digits"):
        assert len(registry[name](tmp_path)) > 0
        return
    with pytest.raises(DataError) as caught:
        registry[name](tmp_path / "nowhere")
    message = str(caught.value)
    assert str(tmp_path / "nowhere") in message
    assert "but it is not there. " in message
    assert "folder" in name or (f"data set '{name}'" in message and "It comes from https://" in message)


def test_importing_the_data_sets_loads_nothing_heavy() -> None:
    heavy = ("torch", "numba", "scipy", "sklearn", "PIL", "h5py", "urllib.request")
    code = f"import sys, evlift.datasets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
