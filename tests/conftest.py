"""Shared fixtures: where the real recordings are, and small generated streams."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from evlift.events import EventStream

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # of a job in the background, whose children ignore ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data that EVLIFT_DATA names; on CI its absence is a failure, elsewhere a skip."""
    root = Path(os.environ.get("EVLIFT_DATA", ""))
    if os.environ.get("EVLIFT_DATA") and root.is_dir():
        return root
    reason = "EVLIFT_DATA does not name a folder with the real data (see docs/data.md)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def random_stream() -> EventStream:
    """5 000 random events on a 40x30 sensor within 100 ms."""
    rng = np.random.default_rng(0)
    n = 5000
    return EventStream.from_columns(
        np.sort(rng.integers(0, 100_000, n)),
        rng.integers(0, 40, n),
        rng.integers(0, 30, n),
        rng.random(n) < 0.5,
        sensor_size=(30, 40),
    )
