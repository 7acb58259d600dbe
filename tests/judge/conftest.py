"""One tiny trained network, and its val recordings as files."""

from __future__ import annotations

import pytest

import evlift
from evlift.assembly import create_task, open_run
from helpers import tiny

CONVNET = {"name": "convnet", "width": 0.2}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    recipe = tiny(model=CONVNET, train={"steps": 40, "eval_every": 0}, input={"normalise": "p99.9"})
    return evlift.train(recipe, tmp_path_factory.mktemp("run")).folder


@pytest.fixture(scope="session")
def val(run):
    """Recordings of val, as a collection."""
    return create_task(open_run(run).recipe).val
