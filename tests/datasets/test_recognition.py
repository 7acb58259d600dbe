"""The digit suites on the real data: exact sizes, no object in two splits, splits without a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evlift.datasets import check_disjoint, digits, digits6789
from evlift.datasets.images import mnist
from evlift.datasets.recordings import nmnist
from evlift.errors import ConfigError

# The split of fold 0. It may change only together with every published table.
FOLD_0 = "562edece"


def test_folds_are_exact_disjoint_and_cover_every_recording(data_root: Path) -> None:
    everything = nmnist(data_root)
    tested: list[str] = []
    for fold in range(5):
        data = digits(data_root, fold=fold)
        assert (len(data.train), len(data.val), len(data.test)) == (600, 200, 200)
        assert (len(data.source), len(data.source_val)) == (20_000, 1_000)
        check_disjoint(source=data.source, source_val=data.source_val, recordings=everything)
        check_disjoint(train=data.train, val=data.val, test=data.test)
        shares = np.bincount(data.test.targets) - np.bincount(everything.targets) / 5
        assert np.abs(shares).max() < 1
        tested += data.test.object_ids
    assert sorted(tested) == sorted(everything.object_ids)


def test_labels_and_seeds_touch_the_labelled_recordings_alone(data_root: Path) -> None:
    full = digits(data_root)
    assert full.manifest.digest.startswith(FOLD_0)
    few = {(k, seed): digits(data_root, k=k, seed=seed) for k, seed in ((1, 0), (5, 0), (20, 0), (5, 1))}
    for (k, _), data in few.items():
        assert np.bincount(data.train.targets).tolist() == [k] * 10
        assert set(data.train.items) < set(full.train.items)
        assert data.manifest.digest == full.manifest.digest
        assert data.test.items == full.test.items
        assert data.source.items == full.source.items
    assert set(few[1, 0].train.items) < set(few[5, 0].train.items) < set(few[20, 0].train.items)
    assert few[5, 0].train.items != few[5, 1].train.items


def test_unlabelled_recordings_hide_their_labels(data_root: Path) -> None:
    small, large = digits(data_root, n_unlabelled=50), digits(data_root, n_unlabelled=200)
    assert (len(small.unlabelled), len(large.unlabelled)) == (50, 200)
    assert set(small.unlabelled.items) < set(large.unlabelled.items)
    assert (large.unlabelled.targets == -1).all()
    assert set(large.unlabelled.object_ids) <= set(large.train.object_ids)
    assert len(small.unlabelled.load(0)) > 0


@pytest.mark.parametrize(("leak", "leaked"), [(0.0, 0), (0.116, 23), (0.91, 182)])
def test_the_dose_of_the_leak(leak: float, leaked: int, data_root: Path) -> None:
    data = digits(data_root, leak=leak)
    assert len(set(data.source.object_ids) & set(data.test.object_ids)) == leaked
    assert len(data.source) == 20_000
    check_disjoint(source=data.source, val=data.val, train=data.train)
    check_disjoint(source_val=data.source_val, source=data.source)
    check_disjoint(source_val=data.source_val, test=data.test)


def test_digits6789(data_root: Path) -> None:
    data = digits6789(data_root, k=5)
    assert (len(data.unlabelled), len(data.val), len(data.test)) == (600, 200, 800)
    assert np.bincount(data.test.targets).tolist() == [200] * 4
    assert np.bincount(data.train.targets).tolist() == [5] * 4
    assert data.classes == data.test.classes == ("6", "7", "8", "9")
    assert len(data.source) == 20_000
    check_disjoint(source=data.source, train=data.train, val=data.val, test=data.test)
    picture = int(data.source[0].object_id[-5:])
    assert mnist(data_root)[picture].target == data.source[0].target + 6


@pytest.mark.parametrize("wrong", [{"fold": 5}, {"k": 80}, {"n_unlabelled": 601}, {"source": 60_000}])
def test_what_there_is_not_is_refused(wrong: dict[str, int], data_root: Path) -> None:
    with pytest.raises(ConfigError, match="Expected"):
        digits(data_root, **wrong)  # type: ignore[arg-type]
