"""`benchmarks/phases.py`: what a step of a phase or of a suite's row costs."""

from __future__ import annotations

import pytest

from bench_suites import write_suite
from evlift.config import parse_recipe
from helpers import benchmark, tiny

SCRIPT = benchmark("phases")


@pytest.mark.parametrize("phase", ["teacher", "reconstruction", "joint", None])
def test_every_phase_is_measured(phase):
    method = {"name": "evdistill", "generation": "physics", "generator_width": 4}
    recipe = parse_recipe(tiny(method=method, model={"name": "convnet"}, input={"encoding": "saccade"}))
    found = SCRIPT.measure(recipe, phase, 1)
    assert found["batch"] > 0
    assert found["update"] > 0
    assert found["peak_mb"] > 10


def test_rows_of_a_suite_are_named(tmp_path):
    path = str(write_suite(tmp_path / "s.yaml"))
    assert list(SCRIPT.rows_of(path, "all", [])) == ["pictures", "events"]
    assert SCRIPT.rows_of(path, None, ["events"])["events"].method["name"] == "events-only"
    with pytest.raises(SystemExit, match=r"Expected rows of .* in the cell 'all', but got none"):
        SCRIPT.rows_of(path, "all", ["none"])
