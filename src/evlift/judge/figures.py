"""Pictures of judgements: reliability, and accuracy under disturbances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evlift.engine.calibration import Confidence, Reliability, calibration_error
from evlift.files import atomic_path
from evlift.report import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evlift.judge.robustness import Robustness

BINS = 10  # wider than those of the ECE, so that a few hundred samples make a readable picture


def reliability_figure(confidence: Confidence, temperature: float) -> Figure:
    """Accuracy against confidence without and with the temperature, and how many samples each bar has."""
    figure = new_figure(8, 4)
    panels = (("as trained", confidence.raw), (f"temperature {temperature:.2f}", confidence.calibrated))
    rows = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1))
    for column, (title, values) in enumerate(panels):
        _reliability(rows[0][column], values, confidence.right, title)
        _histogram(rows[1][column], values, confidence.unknown if column else None)
    rows[0][0].set_ylabel("accuracy")
    rows[1][0].set_ylabel("samples")
    return figure


def _reliability(axis: Axes, values: NDArray[np.float64], right: NDArray[np.bool_], title: str) -> None:
    found = Reliability.of(values, right, BINS)
    confidence, accuracy = found.curve
    axis.bar(found.middles[found.counts > 0], accuracy, 0.92 / BINS, color="#4c78a8", label="accuracy")
    axis.plot(confidence, accuracy, "o", color="#1b1f24", markersize=3)
    axis.plot([0, 1], [0, 1], "--", color="#888888", linewidth=1)
    axis.set_title(f"{title}: ECE {calibration_error(values, right):.3f}", fontsize=10)
    axis.set(xlim=(0, 1), ylim=(0, 1.02))
    plain(axis)


def _histogram(axis: Axes, values: NDArray[np.float64], unknown: NDArray[np.float64] | None) -> None:
    edges = np.linspace(0, 1, BINS + 1).tolist()
    axis.hist(values, edges, color="#4c78a8", rwidth=0.92, label="known classes")
    if unknown is not None and len(unknown):
        axis.hist(unknown, edges, histtype="step", color="#e45756", label="no known class")
        axis.legend(fontsize=8, frameon=False)
    axis.set_xlabel("confidence")
    plain(axis)


def robustness_figure(found: Robustness) -> Figure:
    """Accuracy against the strength of each disturbance, with 95 % intervals."""
    figure = new_figure(10, 5.4)
    axes = figure.subplots(2, 3, sharey=True)
    for axis, (name, results) in zip(axes.ravel(), found.disturbed.items(), strict=True):
        unit = next(unit for other, _, unit, _ in found.rows() if other == name)
        strengths = list(results)
        low, high = zip(*(result.interval for result in results.values()), strict=True)
        axis.fill_between(strengths, low, high, color="#4c78a8", alpha=0.2, linewidth=0)
        axis.plot(strengths, [r.accuracy for r in results.values()], "o-", color="#4c78a8", markersize=4)
        axis.axhline(found.undisturbed.accuracy, color="#888888", linestyle="--", linewidth=1)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(unit, fontsize=8)
        axis.set_ylim(0, 1.02)
        plain(axis)
    for row in axes:
        row[0].set_ylabel("accuracy")
    return figure


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG; the file appears whole or not at all."""
    with atomic_path(path) as part:
        figure.savefig(part, dpi=120, format="png", facecolor="white")
