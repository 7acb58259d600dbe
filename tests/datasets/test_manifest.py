"""Laws of splits: they partition objects, depend on ids alone, and nothing leaks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.datasets import (
    Images,
    Item,
    Manifest,
    check_disjoint,
    disjoint,
    dose,
    few_shot,
    fold_of_items,
    hide_targets,
    some,
    split_by_fold,
)
from evlift.datasets.synthetic import synthetic_images, synthetic_recordings
from evlift.errors import ConfigError, DataError


def items_of(sizes: list[int]) -> list[Item]:
    return [Item(f"{c}/{i}", c, f"set/{c}/{i}") for c, size in enumerate(sizes) for i in range(size)]


def pictures(n: int) -> Images:
    return synthetic_images(n=n)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(2, 8), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_folds_partition_and_are_balanced_overall_and_by_class(sizes: list[int], n: int, seed: int) -> None:
    items = items_of(sizes)
    if len(items) < n:
        with pytest.raises(DataError, match="an object for each"):
            fold_of_items(items, n, seed=seed)
        return
    folds = fold_of_items(items, n, seed=seed)
    targets = np.array([item.target for item in items])
    total = np.bincount(folds, minlength=n)
    assert total.sum() == len(items)
    assert total.max() - total.min() <= 1
    for target in range(len(sizes)):
        of_class = np.bincount(folds[targets == target], minlength=n)
        assert of_class.max() - of_class.min() <= 1


@given(st.permutations(range(60)), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_choices_depend_on_object_ids_not_on_order(order: list[int], seed: int) -> None:
    items = items_of([20, 25, 15])
    permuted = [items[i] for i in order]
    expected = fold_of_items(items, 5, seed=seed)
    assert np.array_equal(fold_of_items(permuted, 5, seed=seed), expected[order])
    chosen = {items[i].name for i in few_shot(items, 3, seed=seed)}
    assert {permuted[i].name for i in few_shot(permuted, 3, seed=seed)} == chosen


def test_seed_changes_the_folds() -> None:
    items = items_of([50, 50])
    assert not np.array_equal(fold_of_items(items, seed=0), fold_of_items(items, seed=1))


def test_items_of_one_object_share_a_fold() -> None:
    rng = random.Random(0)
    items = [Item(f"{i}", rng.randrange(4), f"person/{i % 12}") for i in range(120)]
    folds = fold_of_items(items, 5)
    for person in range(12):
        assert len({int(folds[i]) for i in range(120) if i % 12 == person}) == 1


@pytest.mark.parametrize(("n", "n_test"), [(5, 1), (8, 4)])
def test_splits_partition_and_tests_of_all_folds_cover_everything(n: int, n_test: int) -> None:
    items = items_of([40, 40, 41])
    folds = fold_of_items(items, n)
    seen = np.zeros(len(items), int)
    for fold in range(n):
        split = split_by_fold(folds, fold, n_test=n_test)
        together = np.concatenate([split.train, split.val, split.test])
        assert np.array_equal(np.sort(together), np.arange(len(items)))
        assert set(folds[split.val]) == {(fold + n_test) % n}
        seen[split.test] += 1
    assert (seen == n_test).all()


@pytest.mark.parametrize(("fold", "n_test", "n_val"), [(-1, 1, 1), (5, 1, 1), (0, 4, 1), (0, -1, 1)])
def test_impossible_splits_are_refused(fold: int, n_test: int, n_val: int) -> None:
    with pytest.raises(ConfigError, match=r"Expected `fold` in \[0, 4\]|Expected `n_test` \+ `n_val` < 5"):
        split_by_fold(np.arange(20) % 5, fold, n_test=n_test, n_val=n_val)


@given(st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_few_labels_are_nested_and_equal_a_class(seed: int) -> None:
    items = items_of([30, 25, 22])
    chosen = [set(few_shot(items, k, seed=seed).tolist()) for k in (1, 5, 20, None)]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3] == set(range(77))
    for k, members in zip((1, 5, 20), chosen, strict=False):
        assert np.bincount([items[i].target for i in members]).tolist() == [k] * 3


@pytest.mark.parametrize("k", [0, 23])
def test_more_labels_than_there_are_is_an_error(k: int) -> None:
    with pytest.raises(ConfigError, match=f"got {k}"):
        few_shot(items_of([30, 22]), k)


def test_hidden_labels_cannot_be_stratified() -> None:
    hidden = hide_targets(pictures(20))
    with pytest.raises(DataError, match="is hidden"):
        few_shot(hidden, 1)
    with pytest.raises(DataError, match="is hidden"):
        fold_of_items(hidden)


def test_some_is_nested_and_refuses_too_many() -> None:
    source = pictures(30)
    assert set(some(source, 5).items) < set(some(source, 12).items)
    with pytest.raises(ConfigError, match="0 to 30 items"):
        some(source, 31)


def test_disjoint_and_its_check() -> None:
    source, recordings = pictures(30), synthetic_recordings(n=10, first=20)
    with pytest.raises(DataError, match=r"'source' and 'test'.*'synthetic/00020'.* and 5 more"):
        check_disjoint(source=source, test=recordings)
    rest = disjoint(source, recordings.object_ids)
    check_disjoint(source=rest, test=recordings)
    assert len(rest) == 20


@given(st.floats(0, 1), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_dose_lets_in_exactly_the_share_and_is_nested(share: float, seed: int) -> None:
    source, test = pictures(60), [f"synthetic/{i:05d}" for i in range(10, 35)]
    dosed = dose(source, test, share, seed=seed)
    leaked = set(dosed.object_ids) & set(test)
    assert len(leaked) == round(share * 25)
    assert len(dosed) == 35 + len(leaked)
    assert set(dosed.object_ids) <= set(dose(source, test, min(1.0, share + 0.1), seed=seed).object_ids)


def test_dose_refuses_a_share_beyond_one() -> None:
    with pytest.raises(ConfigError, match="`leak`, the share of the test objects, in"):
        dose(pictures(4), [], 1.5)


def test_manifest_round_trip_and_selection(tmp_path: Path) -> None:
    images, recordings = pictures(20), synthetic_recordings(n=20)
    parts = split_by_fold(fold_of_items(recordings), 1)
    splits = {
        "source": images,
        "train": recordings.subset(parts.train),
        "test": recordings.subset(parts.test),
    }
    manifest = Manifest.build(splits)
    manifest.save(tmp_path / "splits.jsonl")
    again = Manifest.load(tmp_path / "splits.jsonl")
    assert again == manifest
    assert again.digest == manifest.digest
    assert [row.object_id for row in manifest.rows] == sorted(row.object_id for row in manifest.rows)
    assert again.select("test", recordings, verify=True).items == splits["test"].items
    assert again.select("source", images).items == images.items
    assert manifest.objects("test") == frozenset(splits["test"].object_ids)
    assert len(manifest.select("test", images)) == 0


def test_manifest_digest_follows_content_and_split() -> None:
    images = pictures(8)
    base = Manifest.build({"train": images}).digest
    assert Manifest.build({"val": images}).digest != base
    assert Manifest.build({"train": synthetic_images(n=8, seed=1)}).digest != base
    assert Manifest.build({"train": images.with_items(reversed(images.items))}).digest == base


def test_manifest_finds_missing_and_changed_items() -> None:
    manifest = Manifest.build({"train": pictures(8)})
    with pytest.raises(DataError, match="are missing"):
        manifest.select("train", pictures(7))
    with pytest.raises(DataError, match="differ"):
        manifest.select("train", synthetic_images(n=8, seed=1), verify=True)


def test_damaged_manifests_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    Manifest.build({"train": pictures(4)}).save(path)
    lines = path.read_text().splitlines()
    edited = json.dumps({**json.loads(lines[1]), "split": "test"})
    for text in ("", "no json", "\n".join([lines[0], edited, *lines[2:]]), "\n".join(lines[:-1]), lines[1]):
        path.write_text(text)
        with pytest.raises(DataError, match="manifest"):
            Manifest.load(path)
