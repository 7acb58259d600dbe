"""`objects20`: exact pools of equal size, no object where it must not be, recordings alike at every call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evlift.datasets import check_disjoint
from evlift.datasets.objects20 import SENSOR_SIZE, objects20
from evlift.errors import ConfigError


def test_every_photograph_is_tested_once_and_every_class_alike(data_root: Path) -> None:
    tested: list[str] = []
    for fold in range(5):
        data = objects20(data_root, fold=fold)
        for part, share in (("train", 18), ("val", 6), ("test", 12), ("source", 22), ("source_val", 2)):
            assert np.bincount(getattr(data, part).targets).tolist() == [share] * 20
        parts = ("source", "source_val", "train", "val", "test")
        check_disjoint(**{part: getattr(data, part) for part in parts})
        tested += data.test.object_ids
    assert len(set(tested)) == len(tested) == 1200


@pytest.mark.parametrize(("leak", "leaked"), [(0.0, 0), (0.116, 28), (0.91, 218)])
def test_pools_with_a_leak_are_as_large_as_those_without(leak: float, leaked: int, data_root: Path) -> None:
    data = objects20(data_root, shared=True, leak=leak)
    clean = objects20(data_root)
    assert len(data.source) == len(clean.source) == 440
    assert len(data.source.objects & data.test.objects) == leaked
    assert data.source.objects & data.train.objects
    check_disjoint(source=data.source, source_val=data.source_val, val=data.val)
    assert data.test.items == clean.test.items
    assert data.source_val.items == clean.source_val.items


def test_doses_and_labels_are_nested(data_root: Path) -> None:
    little, much = (objects20(data_root, leak=leak) for leak in (0.116, 0.91))
    assert little.source.objects & little.test.objects < much.source.objects & much.test.objects
    few = objects20(data_root, k=2, n_unlabelled=30)
    assert np.bincount(few.train.targets).tolist() == [2] * 20
    assert (len(few.unlabelled), set(few.unlabelled.targets)) == (30, {-1})


def test_recordings_are_simulated_alike_at_every_call(data_root: Path) -> None:
    first, again = (objects20(data_root, fold=2).test for _ in range(2))
    one, two = first.load(7), again.load(7)
    assert one.sensor_size == SENSOR_SIZE
    assert len(one) > 500
    np.testing.assert_array_equal(one.t, two.t)
    np.testing.assert_array_equal(one.x, two.x)
    assert first.fingerprint(7) == again.fingerprint(7)
    assert first.fingerprint(7) != first.fingerprint(8)


@pytest.mark.parametrize(("wrong", "said"), [({"fold": 5}, r"\[0, 4\]"), ({"leak": 1.5}, r"\[0, 1\]")])
def test_what_there_is_not_is_refused(wrong: dict, said: str, data_root: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        objects20(data_root, **wrong)
