"""Pictures and one self-contained HTML page of runs: event frames, curves, tables, predictions."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evlift.engine.logs import read_log
from evlift.files import write_text
from evlift.representations.picture import colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from evlift.engine.evaluate import Evaluation

STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --paper: #ffffff; --soft: #6b7280; --line: #d9dde3; --head: #f3f5f8 }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6e8eb; --paper: #14171b; --soft: #9aa3ad; --line: #333a42; --head: #1e2329 } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem }
h2 { font-size: 1.2rem; margin-top: 2.2rem }
p.lead { color: var(--soft); margin-top: 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { padding: .4rem .7rem; border-bottom: 1px solid var(--line); text-align: right }
th { background: var(--head) }
th:first-child, td:first-child { text-align: left }
figure { margin: 1rem 0 }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px }
figcaption { color: var(--soft); font-size: .9rem }
"""


@dataclass
class Page:
    """A page that grows section by section and is written once, without any outside file.

    Example:
        >>> page = Page("Digits", "what was done")
        >>> page.table(("row", "accuracy"), [("TMKT", "0.97")])
        >>> page.write("report.html")  # doctest: +SKIP
    """

    title: str
    lead: str
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A section's heading."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of strings."""
        head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        self.parts.append(
            f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def figure(self, figure: Figure, caption: str) -> None:
        """A picture with its caption, which is also its text for those who cannot see it."""
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=110, bbox_inches="tight", facecolor="white")
        encoded = base64.b64encode(data.getvalue()).decode()
        said = html.escape(caption)
        self.parts.append(
            f"<figure><img alt='{said}' src='data:image/png;base64,{encoded}'><figcaption>{said}</figcaption></figure>"
        )

    def write(self, path: Path | str) -> Path:
        """Write the page atomically."""
        body = "\n".join(self.parts)
        write_text(
            path,
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head><body><main>"
            f"<h1>{html.escape(self.title)}</h1><p class='lead'>{html.escape(self.lead)}</p>\n"
            f"{body}\n</main></body></html>\n",
        )
        return Path(path)


def new_figure(width: float, height: float) -> Figure:
    """A figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


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
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
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
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
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
