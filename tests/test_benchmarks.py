"""The digits table: its runs are valid recipes, and it says what was measured and what was not."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from evlift.config import parse_recipe

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def digits():
    spec = importlib.util.spec_from_file_location("digits_table", FOLDER / "digits.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["digits_table"] = module
    spec.loader.exec_module(module)
    return module


def test_every_run_is_a_recipe_of_its_own(digits):
    cells = digits.cells(list(digits.MODELS))
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({parse_recipe(cell.recipe()).digest for cell in cells}) == len(cells)


def test_rows_share_the_budget(digits):
    recipes = [cell.recipe() for cell in digits.cells(["scnn"])]
    assert len({(r["train"]["steps"], r["train"]["batch_size"], r["train"]["lr"]) for r in recipes}) == 1


def test_the_protocol_of_folds_and_seeds(digits):
    cells = digits.cells(["scnn"])
    few = {(c.fold, c.seed) for c in cells if c.labels is not None}
    assert few == {(0, 0), (0, 1), (0, 2)}
    assert {(c.fold, c.seed) for c in cells if c.labels is None} == {(fold, 0) for fold in range(5)}


def test_the_table_shows_means_differences_and_gaps(digits, tmp_path):
    tmkt, rival = digits.MAIN[2], digits.MAIN[1]
    rng = np.random.default_rng(0)
    right = {
        row: [(rng.random(50) < share).astype(int) for _ in range(3)]
        for row, share in ((tmkt, 0.9), (rival, 0.7))
    }
    for row, found in right.items():
        for seed, said in enumerate(found):
            folder = tmp_path / row.replace(" ", "") / str(seed)
            folder.mkdir(parents=True)
            run = {
                "model": "scnn",
                "row": row,
                "labels": 1,
                "fold": 0,
                "seed": seed,
                "val": {"full": said.mean()},
            }
            (folder / "result.json").write_text(json.dumps(run))
            judged = {"full": {"accuracy": said.mean(), "right": said.tolist()}}
            (folder / "judged.json").write_text(json.dumps({"val": judged, "test": {}}))
    shown = digits.table(tmp_path, ["scnn"], "val")
    means = [said.mean() for said in right[tmkt]]
    assert f"| {tmkt} | {np.mean(means):.3f} ± {np.std(means, ddof=1):.3f} (3) | not run |" in shown
    gains = [a.mean() - b.mean() for a, b in zip(right[tmkt], right[rival], strict=True)]
    each = np.mean([a - b for a, b in zip(right[tmkt], right[rival], strict=True)], axis=0)
    spread = np.std(gains, ddof=1) / 3**0.5, np.std(each, ddof=1) / 50**0.5
    errors = f"s.e. {spread[0]:.3f} over runs, {spread[1]:.3f} over recordings"
    assert f"| *{tmkt} − {rival}* | {np.mean(gains):+.3f}, {errors} (3) | not run |" in shown
    assert "(3)" not in digits.table(tmp_path, ["scnn"], "test")
