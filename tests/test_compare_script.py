"""`benchmarks/compare.py`: the difference of any two rows, at some seeds alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import benchmark

RESULTS = Path(__file__).parents[1] / "results"
COLUMN = "still pictures and k = 5"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(RESULTS.parent / "benchmarks"))
    return benchmark("compare")


def test_two_rows_are_compared_at_the_seeds_that_are_asked_for(script):
    results = benchmark("tables").results_of("digits6789", RESULTS)
    rows = ("tuned KT", "tuned events-only")
    every = script.compared(results, COLUMN, rows, "full window", "test", None)
    some = script.compared(results, COLUMN, rows, "full window", "test", {1, 2})
    assert every.startswith(
        "tuned KT minus tuned events-only: +0.042, s.e. 0.012 over runs, 0.005 over recordings (3); p "
    )
    assert "+0.030, s.e. 0.005 over runs, 0.006 over recordings (2)" in some
    with pytest.raises(SystemExit, match="Expected rows and a column of digits6789, but got"):
        script.compared(results, COLUMN, ("KT", "nobody"), "full window", "val", None)
