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
    values = {tmkt: (0.9, 0.92, 0.97), rival: (0.9, 0.9, 0.9)}
    for row, found in values.items():
        for seed, accuracy in enumerate(found):
            cell = {"model": "scnn", "row": row, "labels": 1, "fold": 0, "seed": seed}
            folder = tmp_path / row.replace(" ", "") / str(seed)
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps({**cell, "val": {"full": accuracy}, "seconds": 1}))
    shown = digits.table(tmp_path, ["scnn"], "val")
    assert (
        f"| {tmkt} | {np.mean(values[tmkt]):.3f} ± {np.std(values[tmkt], ddof=1):.3f} (3) | not run |"
        in shown
    )
    error = np.std([0, 0.02, 0.07], ddof=1) / np.sqrt(3)
    assert f"| *{tmkt} − {rival}* | +0.030, s.e. {error:.3f} (3) | not run |" in shown
    assert digits.table(tmp_path, ["scnn"], "test").count("(3)") == 0
