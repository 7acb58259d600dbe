"""Pairing by category, drawing without labels, and few labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from evlift.datasets import CategoryPairs, check_same_classes, draw_unpaired, hide_targets, with_few_labels
from evlift.datasets.synthetic import synthetic_images, synthetic_recordings
from evlift.errors import DataError


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60), st.integers(0, 50))
def test_partners_are_of_the_same_class(targets: list[int], seed: int) -> None:
    source = np.array([*targets, 0, 1, 2, 3, 4])
    pairs = CategoryPairs(source, 5)
    wanted = np.array(targets)
    drawn = pairs.draw(wanted, np.random.default_rng(seed))
    assert np.array_equal(source[drawn], wanted)
    assert np.array_equal(drawn, pairs.draw(wanted, np.random.default_rng(seed)))


def test_partners_are_uniform_within_the_class() -> None:
    source = np.array([0, 1, 0, 1, 1, 0, 0])
    drawn = CategoryPairs(source, 2).draw(np.zeros(8000, int), np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=7)
    assert counts[[1, 3, 4]].sum() == 0
    assert chisquare(counts[[0, 2, 5, 6]]).pvalue > 1e-3


def test_pairing_needs_labels_and_pictures_of_the_class() -> None:
    with pytest.raises(DataError, match="hidden label"):
        CategoryPairs(hide_targets(synthetic_images(n=8)).targets, 4)
    pairs = CategoryPairs([0, 0, 2], 3)
    with pytest.raises(DataError, match=r"classes \[1\] have none"):
        pairs.draw([0, 1], np.random.default_rng(0))
    with pytest.raises(DataError, match="hidden label"):
        pairs.draw([-1], np.random.default_rng(0))


@given(st.integers(1, 20), st.integers(0, 70), st.integers(0, 5))
def test_unpaired_draws_repeat_no_sooner_than_needed(n_source: int, n: int, seed: int) -> None:
    drawn = draw_unpaired(n_source, n, np.random.default_rng(seed))
    assert len(drawn) == n
    counts = np.bincount(drawn, minlength=n_source)
    assert len(counts) == n_source
    assert counts.max() - counts.min() <= 1


def test_unpaired_needs_pictures() -> None:
    with pytest.raises(DataError, match="at least one source picture"):
        draw_unpaired(0, 3, np.random.default_rng(0))


def test_few_labels_and_the_rest_hidden() -> None:
    recordings = synthetic_recordings(n=40)
    labelled, hidden = with_few_labels(recordings, 3, seed=1)
    assert np.bincount(labelled.targets).tolist() == [3] * 4
    assert (hidden.targets == -1).all()
    assert set(labelled.object_ids) | set(hidden.object_ids) == set(recordings.object_ids)
    assert len(labelled) + len(hidden) == 40
    everything, none = with_few_labels(recordings, None)
    assert everything.items == recordings.items
    assert len(none) == 0


def test_classes_must_agree() -> None:
    images, recordings = synthetic_images(n=8), synthetic_recordings(n=8)
    check_same_classes(images, recordings)
    with pytest.raises(DataError, match=r"\['cross'\].*restrict"):
        check_same_classes(images, recordings.restrict(("bar-horizontal", "bar-vertical", "diagonal")))
    with pytest.raises(DataError, match=r"\[\] are in the pictures"):
        check_same_classes(images, recordings.restrict(images.classes[::-1]))
