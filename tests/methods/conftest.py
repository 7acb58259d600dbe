"""Fixtures of the method tests."""

from __future__ import annotations

import pytest
import torch

from evlift.methods import METHODS


@pytest.fixture(params=METHODS.names())
def name(request: pytest.FixtureRequest) -> str:
    """Every registered method."""
    return request.param


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
