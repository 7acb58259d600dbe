"""Two small runs that all tests of predictions share."""

from __future__ import annotations

import pytest

import evlift
from streams import MASKS, SPIKING


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A spiking network for classes."""
    return evlift.train(SPIKING, tmp_path_factory.mktemp("run")).folder


@pytest.fixture(scope="session")
def mask_run(tmp_path_factory):
    """A network for masks."""
    return evlift.train(MASKS, tmp_path_factory.mktemp("masks")).folder
