"""Figures of the demo and of suites: event frames, curves, predictions, and the row of a table of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evlift.engine.logs import read_log
from evlift.representations.picture import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from evlift.engine.evaluate import Evaluation


def new_figure(width: float, height: float) -> Figure:
    """A figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(axis: Axes, *, along: Literal["both", "x", "y"] = "both") -> None:
    """A faint grid, no frame above and to the right."""
    axis.grid(axis=along, alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def sequence_figure(clips: Mapping[str, Tensor]) -> Figure:
    """Sequences [T, 2, H, W], one row each, one column a time step."""
    steps = max(len(clip) for clip in clips.values())
    figure = new_figure(1.25 * steps + 1.6, 1.35 * len(clips))
    axes = figure.subplots(len(clips), steps, squeeze=False)
    for row, (name, clip) in zip(axes, clips.items(), strict=True):
        for axis, frame in zip(row, clip, strict=False):
            axis.imshow(colour(frame.numpy(), "light"), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for step, axis in enumerate(axes[-1]):
        axis.set_xlabel(f"t = {step + 1}", fontsize=8)
    return figure


def curves_figure(logs: Mapping[str, Path]) -> Figure:
    """Training loss and val accuracy of runs, from their ``metrics.csv``."""
    figure = new_figure(9, 3)
    left, right = figure.subplots(1, 2)
    for name, path in logs.items():
        rows = read_log(path)
        loss = [
            (r["step"], r["value"]) for r in rows if r["split"] == "train" and r["name"].startswith("label")
        ]
        accuracy = [(r["step"], r["value"]) for r in rows if r["split"] == "val"]
        left.plot(*_columns(loss), label=name)
        right.plot(*_columns(accuracy), marker="o", markersize=3, label=name)
    left.set(xlabel="step", ylabel="label loss")
    right.set(xlabel="step", ylabel="accuracy where weights are chosen", ylim=(0, 1.02))
    for axis in (left, right):
        plain(axis)
    right.legend(fontsize=8, frameon=False)
    return figure


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    averaged: dict[int, list[float]] = {}
    for step, value in points:
        averaged.setdefault(step, []).append(value)
    return list(averaged), [float(np.mean(values)) for values in averaged.values()]


def predictions_figure(
    clips: Tensor, evaluation: Evaluation, classes: Sequence[str], *, columns: int = 10
) -> Figure:
    """The first third of the first recordings [n, T, 2, H, W], with predicted and true class."""
    shown = clips[: 2 * columns]
    figure = new_figure(columns * 0.95, 2.7)
    axes = figure.subplots(2, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, clip, guess, truth in zip(axes, shown, evaluation.predicted, evaluation.target, strict=False):
        axis.imshow(colour(clip[: max(1, len(clip) // 3)].sum(0).numpy(), "light"), interpolation="nearest")
        right = guess == truth
        said = classes[guess] if right else f"{classes[guess]} (is {classes[truth]})"
        axis.set_title(said, fontsize=9, color="#1a7f37" if right else "#cf222e")
    return figure


def per_step_figure(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Accuracy against the number of time steps seen."""
    figure = new_figure(4.6, 3)
    axis = figure.subplots()
    for name, evaluation in evaluations.items():
        axis.plot(
            np.arange(1, evaluation.logits.shape[1] + 1),
            evaluation.per_step,
            marker="o",
            markersize=3,
            label=name,
        )
    axis.set(xlabel="time steps seen", ylabel="accuracy", ylim=(0, 1.02))
    plain(axis)
    axis.legend(fontsize=8, frameon=False)
    return figure


def accuracy_row(name: str, evaluation: Evaluation, record: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of a table of runs."""
    metrics = evaluation.metrics
    low, high = metrics.interval
    return (
        name,
        f"{metrics.accuracy:.3f}",
        f"{low:.3f}–{high:.3f}",
        f"{metrics.class_mean:.3f}",
        f"{record['steps']}",
        f"{record['seconds']:.0f} s",
    )


ROW_HEADER = ("method", "accuracy", "95 % interval", "mean over classes", "steps", "training")
