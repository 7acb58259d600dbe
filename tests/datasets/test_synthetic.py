"""Generated data: the same everywhere, told apart by class, and shared between the modalities."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from evlift.datasets.synthetic import sklearn_digits, synthetic_images, synthetic_recordings
from evlift.errors import DataError


def test_same_arguments_same_data_and_seeds_differ() -> None:
    for source in (synthetic_images, synthetic_recordings):
        prints = [source(n=6).fingerprint(i) for i in range(6)]
        assert prints == [source(n=9).fingerprint(i) for i in range(6)]
        assert prints[0] != source(n=6, seed=1).fingerprint(0)


def test_objects_do_not_depend_on_how_many_are_made() -> None:
    later = synthetic_images(n=4, first=6)
    assert np.array_equal(later.load(0), synthetic_images(n=10).load(6))
    assert not set(later.object_ids) & set(synthetic_images(n=6).object_ids)


def test_classes_are_learnable_from_pictures_and_from_events() -> None:
    def features(source: object) -> tuple[np.ndarray, np.ndarray]:
        items = source(n=160)  # type: ignore[operator]
        rows = []
        for i in range(160):
            content = items.load(i)
            if not isinstance(content, np.ndarray):
                frame = np.zeros((16, 16))
                np.add.at(frame, (content.y, content.x), 1)
                content = frame
            rows.append(np.abs(np.fft.fft2(content)).ravel())
        return np.log1p(np.array(rows)), items.targets

    for source in (synthetic_images, synthetic_recordings):
        x, y = features(source)
        score = LogisticRegression(max_iter=300).fit(x[:120], y[:120]).score(x[120:], y[120:])
        assert score > 0.8, source.__name__


def test_events_start_at_the_contour_of_the_picture() -> None:
    pictures, recordings = synthetic_images(n=20), synthetic_recordings(n=20)
    assert pictures.object_ids == recordings.object_ids
    for i in range(20):
        shown = pictures.load(i) > 120
        stream = recordings.load(i).between(0, 25_000)
        assert len(stream) > 0
        assert shown[stream.y[~stream.p], stream.x[~stream.p]].all()
        assert not shown[stream.y[stream.p], stream.x[stream.p]].any()
    assert stream.sensor_size == (16, 16)


def test_sklearn_digits_are_real_and_enlarged() -> None:
    images = sklearn_digits()
    known = load_digits()
    assert len(images) == 1797
    assert images.targets.tolist() == known.target.tolist()
    picture = images.load(7)
    assert picture.shape == (28, 28)
    assert picture.dtype == np.uint8
    border = picture.copy()
    border[4:24, 4:24] = 0
    assert not border.any()
    rows, columns = ((np.arange(8) + 0.5) * 20 / 8 + 4).astype(int)[None].repeat(2, axis=0)
    correlation = np.corrcoef(picture[np.ix_(rows, columns)].ravel(), known.images[7].ravel())[0, 1]
    assert correlation > 0.97


def test_without_scikit_learn_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"evlift\[demo\]"):
        sklearn_digits()
