"""Class maps: every class has an image, void stays void, and merged logits are summed probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evlift.datasets.class_maps import CITYSCAPES_19, CLASS_MAPS, DDD17_6, DSEC_11, ClassMap, class_map
from evlift.errors import ConfigError, DataError
from evlift.masks import VOID

MERGING = ("19-to-11", "19-to-6", "11-to-6")

# The released tables, position by position: Cityscapes' trainId of each of its 34 ids; Ev-SegNet's
# class_to_category; ESS's trainIds of its 11 classes for Cityscapes' 19 in order.
CITYSCAPES_TRAIN_IDS = [
    *[255] * 7, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10,
    11, 12, 13, 14, 15, 255, 255, 16, 17, 18,
]  # fmt: skip
EV_SEGNET = [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 1, 4, 4, 5, 5, 5, 5, 5, 5]
ESS = [5, 6, 1, 9, 2, 4, 10, 10, 7, 7, 0, 3, 3, 8, 8, 8, 8, 8, 8]


@pytest.mark.parametrize("name", sorted(CLASS_MAPS))
def test_every_target_class_is_reached_and_void_stays_void(name):
    found = CLASS_MAPS[name]
    assert set(found.table) - {VOID} == set(range(len(found.target)))
    assert found.lookup[VOID] == VOID
    assert set(found.lookup[len(found.source) :]) == {VOID}


@pytest.mark.parametrize("name", MERGING)
def test_every_source_class_has_an_image(name):
    assert VOID not in CLASS_MAPS[name].table


def test_tables_are_the_released_ones():
    assert list(CLASS_MAPS["cityscapes-19"].table) == CITYSCAPES_TRAIN_IDS
    assert list(CLASS_MAPS["19-to-6"].table) == EV_SEGNET
    assert list(CLASS_MAPS["19-to-11"].table) == ESS
    assert (len(CITYSCAPES_19), len(DSEC_11), len(DDD17_6)) == (19, 11, 6)


def test_two_ways_from_19_to_6_agree():
    through = CLASS_MAPS["19-to-11"].then(CLASS_MAPS["11-to-6"])
    assert through.table == CLASS_MAPS["19-to-6"].table
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    once = CLASS_MAPS["cityscapes-19"].then(through)(ids)
    assert np.array_equal(once, through(CLASS_MAPS["cityscapes-19"](ids)))


@pytest.mark.parametrize("name", MERGING)
def test_merged_logits_are_summed_probabilities(name):
    found = CLASS_MAPS[name]
    logits = torch.randn(2, len(found.source), 3, 4, dtype=torch.float64) * 5
    merged = found.merge(logits)
    summed = torch.einsum("bk...,kj->bj...", logits.softmax(1), torch.from_numpy(found.matrix).double())
    assert merged.shape == (2, len(found.target), 3, 4)
    torch.testing.assert_close(merged.exp(), summed)
    torch.testing.assert_close(merged.softmax(1), summed)


def test_void_classes_are_left_out_of_merged_logits():
    partial = ClassMap("partial", ("a", "b", "c"), ("x", "y"), (0, VOID, 1))
    p = torch.tensor([[0.2, 0.5, 0.3]])
    torch.testing.assert_close(partial.merge(p.log()).softmax(1), torch.tensor([[0.4, 0.6]]))


def test_wrong_maps_and_names_are_refused():
    with pytest.raises(ConfigError, match=r"Did you mean '19-to-6'.*cityscapes-19"):
        class_map("19-to-66")
    with pytest.raises(ConfigError, match=r"logits \[B, 19, ...\].*\[2, 6\]"):
        class_map("19-to-6").merge(torch.zeros(2, 6))
    with pytest.raises(DataError, match="'19-to-11' to take the classes that '19-to-6' gives"):
        class_map("19-to-6").then(class_map("19-to-11"))
    with pytest.raises(DataError, match=r"'bad'.*3 entries and \[7\]"):
        ClassMap("bad", ("a", "b"), ("x",), (0, 7, 0))
