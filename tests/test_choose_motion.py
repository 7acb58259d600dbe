"""The benchmark that chooses a motion without labels finds the one that the recordings were made with."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import benchmark, tiny


@pytest.fixture(scope="module")
def bench():
    return benchmark("choose_motion")


def test_the_energy_distance_is_nought_for_equals_and_grows_with_the_shift(bench):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 400, 3))
    assert bench.energy_distance(a, a) == pytest.approx(0, abs=1e-12)
    found = [bench.energy_distance(a, b + shift) for shift in (0.0, 0.5, 1.0)]
    assert found[0] < 0.05 < found[1] < found[2]


def test_the_motion_of_the_recordings_is_the_nearest(bench):
    recipe = tiny(
        data={"name": "simulated-digit-masks", "recordings": 60},
        input={"encoding": "saccade", "size": [68, 68], "steps": 2, "amplitude": [1, 5.5]},
        model={"name": "unet", "width": 0.1},
    )
    found = {}
    for motion in ("pan", "shake", "affine"):
        real, simulated = bench.clouds(recipe, ["--input.motion", motion], 20)
        found[motion] = bench.energy_distance(real / real.std(axis=0), simulated / real.std(axis=0))
    assert min(found, key=found.get) == "pan"
