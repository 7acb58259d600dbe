"""Collections: order, subsets, classes, hidden labels, hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from evlift.datasets import HIDDEN, Images, Item, hide_targets
from evlift.datasets.items import hash_of_array, hash_of_file, hash_of_file_item
from evlift.datasets.synthetic import synthetic_images
from evlift.errors import DataError


def images_of(*items: Item) -> Images:
    return Images("made", ("a", "b"), items, lambda item: np.full((1, 1), item.index, np.uint8))


def test_items_are_sorted_by_object_then_name() -> None:
    images = images_of(Item("y", 0, "2"), Item("x", 1, "2"), Item("z", 0, "10"))
    assert [item.name for item in images] == ["z", "x", "y"]
    assert images.targets.tolist() == [0, 1, 0]
    assert images.targets.dtype == np.int64


def test_equal_names_and_unknown_classes_are_refused() -> None:
    with pytest.raises(DataError, match="'x' twice"):
        images_of(Item("x", 0, "1"), Item("x", 1, "2"))
    for target in (2, -2):
        with pytest.raises(DataError, match=f"but got {target}"):
            images_of(Item("x", target, "1"))


def test_subset_keeps_order_and_content() -> None:
    images = synthetic_images(n=12)
    part = images.subset([7, 2, 7, 9])
    assert [item.index for item in part] == [2, 7, 9]
    assert np.array_equal(part.load(1), images.load(7))
    assert part.fingerprint(1) == images.fingerprint(7)
    assert len(images) == 12
    assert len(images.subset([])) == 0


def test_restrict_relabels() -> None:
    images = synthetic_images(n=12)
    part = images.restrict(("diagonal", "cross"))
    assert part.classes == ("diagonal", "cross")
    for item in part:
        assert item.name.startswith(part.classes[item.target])
    assert len(part) == 6
    with pytest.raises(DataError, match="but got \\['circle'\\]"):
        images.restrict(("circle",))


def test_hidden_labels_are_gone_from_targets_and_names() -> None:
    images = synthetic_images(n=12)
    hidden = hide_targets(images)
    assert (hidden.targets == HIDDEN).all()
    assert not any(name in item.name for item in hidden for name in images.classes)
    assert len({item.name for item in hidden}) == 12
    assert np.array_equal(hidden.load(3), images.load(3))
    assert images.targets.tolist() == [i % 4 for i in range(12)]


def test_hash_of_a_file_is_its_sha256_and_follows_changes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert hash_of_file(path) == hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"abd")
    os.utime(path, ns=(1, 1))
    assert hash_of_file(path) == hashlib.sha256(b"abd").hexdigest()


def test_slices_and_positions_of_a_file_have_their_own_hash(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    items = [
        Item("x", 0, "1", path),
        Item("x", 0, "1", path, start_us=0),
        Item("x", 0, "1", path, stop_us=5),
        Item("x", 0, "1", path, index=1),
    ]
    assert len({hash_of_file_item(item) for item in items}) == 4
    with pytest.raises(DataError, match="has neither"):
        hash_of_file_item(Item("x", 0, "1"))


def test_hash_of_an_array_sees_type_shape_and_values() -> None:
    base = np.arange(6, dtype=np.int32)
    others = [base.astype(np.uint32), base.reshape(2, 3), base + 1, base.astype(">i4")]
    assert len({hash_of_array(array) for array in [base, *others]}) == 5
    assert hash_of_array(base[::2]) == hash_of_array(base[::2].copy())
