"""The cache: keys follow content and recipe, damage is repaired, nothing is half written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from evlift.datasets.cache import Cache, CacheWarning, cache_key
from evlift.datasets.synthetic import synthetic_images
from evlift.errors import DataError


@dataclass(frozen=True)
class Recipe:
    steps: int = 10
    size: tuple[int, int] = (28, 28)


@dataclass(frozen=True)
class Other:
    steps: int = 10
    size: tuple[int, int] = (28, 28)


def never() -> np.ndarray:
    raise AssertionError("computed again")


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64, np.bool_, np.float16])
def test_an_entry_comes_back_bit_for_bit_without_a_second_computation(dtype: type, tmp_path: Path) -> None:
    array = (np.random.default_rng(0).random((3, 4, 5)) * 9).astype(dtype)
    cache = Cache(tmp_path / "cache")
    assert np.array_equal(cache.get("ab12", lambda: array), array)
    again = Cache(tmp_path / "cache").get("ab12", never)
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)
    assert "ab12" in cache
    assert "ab13" not in cache


def test_every_change_of_content_or_recipe_changes_the_key() -> None:
    images, other = synthetic_images(n=2), synthetic_images(n=2, seed=1)
    keys = [
        cache_key(images.fingerprint(0), Recipe()),
        cache_key(images.fingerprint(1), Recipe()),
        cache_key(other.fingerprint(0), Recipe()),
        cache_key(images.fingerprint(0), replace(Recipe(), steps=11)),
        cache_key(images.fingerprint(0), Other()),
        cache_key(images.fingerprint(0), Recipe(), "v2"),
        cache_key(images.fingerprint(0), {"steps": 10}),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(images.fingerprint(0), Recipe()) == keys[0]
    assert cache_key("x", {"a": 1, "b": 2}) == cache_key("x", {"b": 2, "a": 1})


def test_things_without_a_stable_text_are_refused() -> None:
    with pytest.raises(DataError, match="dataclasses or JSON values"):
        cache_key("x", object())


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_damaged_entry_is_computed_again_with_a_warning(damage: bytes | None, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    array = np.arange(1000.0)
    cache.get("ab", lambda: array)
    path = cache.path("ab")
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.warns(CacheWarning, match="computed again"):
        assert np.array_equal(cache.get("ab", lambda: array), array)
    assert np.array_equal(cache.get("ab", never), array)


def test_pickles_are_neither_written_nor_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(DataError, match="array of numbers"):
        cache.get("ab", lambda: np.array([{}], dtype=object))
    cache.path("ab").parent.mkdir(parents=True, exist_ok=True)
    np.save(cache.path("ab"), np.array([{}], dtype=object), allow_pickle=True)
    with pytest.warns(CacheWarning):
        assert cache.get("ab", lambda: np.zeros(1)).tolist() == [0.0]


def test_a_failed_computation_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with pytest.raises(AssertionError):
        cache.get("ab", never)
    assert list(tmp_path.rglob("*.npy")) == []
    assert cache.size() == (0, 0)


def test_size_and_clear(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key in ("aa1", "aa2", "bb1"):
        cache.get(key, lambda: np.zeros(10, np.uint8))
    entries, total = cache.size()
    assert entries == 3
    assert total == sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    assert cache.clear() == 3
    assert cache.size() == (0, 0)


def test_threads_may_fill_one_entry_at_the_same_time(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    start = threading.Barrier(8)

    def compute() -> np.ndarray:
        start.wait()
        return np.arange(100_000)

    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(lambda _: cache.get("ab", compute), range(8)))
    assert all(np.array_equal(array, np.arange(100_000)) for array in arrays)
    assert cache.size()[0] == 1
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["ab.npy"]
