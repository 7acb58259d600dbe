"""The fit of a path to recordings finds the path that made them, and its search improves it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from evlift.simulate import MOTIONS, Saccades


@pytest.fixture(scope="module")
def fitting():
    file = Path(__file__).parents[1] / "benchmarks" / "fit_nmnist.py"
    spec = importlib.util.spec_from_file_location("fit_nmnist", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_nmnist"] = module
    spec.loader.exec_module(module)
    return module


def strokes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Blobs with sharp edges inside the border, uint8 [n, 28, 28]."""
    smooth = gaussian_filter(rng.standard_normal((n, 28, 28)), (0, 2.5, 2.5))
    smooth[:, :4] = smooth[:, -4:] = smooth[:, :, :4] = smooth[:, :, -4:] = 0
    return ((smooth > 0.05) * 255).astype(np.uint8)


def test_the_path_that_made_the_recordings_is_found(fitting):
    rng = np.random.default_rng(0)
    pictures = strokes(60, rng)
    camera = Saccades(motion="random3", rotation_deg=0, scale=(1, 1), shear=0, amplitude_px=(6, 6))
    streams = [camera(picture, np.random.default_rng(5)) for picture in pictures]  # one path for all
    times_us = fitting.KNOTS_MS * 1000
    true = MOTIONS["random3"](times_us, 300_000, np.random.default_rng(5)) * 6
    counts = np.stack([fitting.counts(stream) for stream in streams])
    velocities, places, r2 = fitting.regress(fitting.Pairs(pictures, streams, counts))
    fit = fitting.first_fit(velocities, places, r2)
    found = fit.path(velocities, fitting.KNOTS_MS)
    assert r2.max() > 0.5
    assert fitting.rms(found - true) < 0.5  # of an extent of 6 pixels, before the search
    assert min(np.corrcoef(found[:, axis], true[:, axis])[0, 1] for axis in (0, 1)) > 0.99


def test_the_search_comes_nearer(fitting):
    rng = np.random.default_rng(1)
    pictures = strokes(3, rng)
    velocities = rng.normal(0, 0.2, (fitting.BINS, 2))
    made = fitting.Fit(0.0, 0.0, 1.0, 1.0)
    counts = fitting.simulate(made, pictures, made.path(velocities, fitting.FRAMES_MS))
    assert fitting.judge(counts, counts) == pytest.approx((1.0, 1.0))
    start = fitting.move(made, "down", 3.0)
    found = fitting.search(start, velocities, fitting.Pairs(pictures, [], counts))
    assert abs(found.down) < abs(start.down)
    before, after = (
        fitting.judge(fitting.simulate(fit, pictures, fit.path(velocities, fitting.FRAMES_MS)), counts)[0]
        for fit in (start, found)
    )
    assert after > before
