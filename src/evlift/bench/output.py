"""The files that a suite leaves: table.md, table.csv, table.json, table.html and figure.png."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from evlift.bench.results import Results
from evlift.bench.suite import place_name
from evlift.bench.tables import as_csv, columns, lines, records, summary, tables
from evlift.files import atomic_path, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_all(results: Results, out: Path) -> list[Path]:
    """Write all files of the results into the folder; returns their paths."""
    shown, said, flat = tables(results), summary(results), records(results)
    title = results.suite.title + (", quick form" if results.suite.quick else "")
    text = [f"# {title}", *(table.markdown() for table in shown), "\n".join(f"- {line}" for line in said)]
    write_text(out / "table.md", "\n\n".join(text) + "\n")
    write_text(out / "table.csv", as_csv(flat))
    write_json(
        out / "table.json",
        {"suite": results.suite.name, "title": title, "cells": flat, "runs": _runs(results)},
    )
    figure = score_figure(results)
    with atomic_path(out / "figure.png") as part:
        figure.savefig(part, dpi=130, facecolor="white", bbox_inches="tight")
    _write_page(results, figure, title, out / "table.html")
    return [out / name for name in ("table.md", "table.csv", "table.json", "table.html", "figure.png")]


def _write_page(results: Results, figure: Figure, title: str, path: Path) -> None:
    from evlift.report import Page

    said = summary(results)
    page = Page(title, said[0])
    page.figure(figure, "Scores: points are means over the runs, bars standard deviations.")
    for table in tables(results):
        page.heading(table.title)
        page.table(table.header, table.rows)
    for line in said[1:]:
        page.text(line)
    page.write(path)


def _runs(results: Results) -> list[dict[str, Any]]:
    """Every run with its folder and the entries that share it."""
    return [
        {
            "folder": f"runs/{job.folder.name}",
            "digest": job.content["digest"],
            "state": "done" if job.done else "failed" if job.failure else "not run",
            "entries": [
                {"row": e.row.name, "column": e.column.name, "place": place_name(e.place)}
                for e in job.entries
            ],
        }
        for job in results.jobs
    ]


def score_figure(results: Results) -> Figure:
    """A panel a judge: one line a row, one colour a column, means with standard deviations."""
    from evlift.report import new_figure, plain

    if results.suite.figure == "lines":
        return line_figure(results)
    judges, names, shown = results.suite.judges, lines(results), columns(results)
    figure = new_figure(3.2 + 3.2 * len(judges), 1.2 + 0.3 * len(names))
    axes = figure.subplots(1, len(judges), sharey=True, squeeze=False)[0]
    for axis, judge in zip(axes, judges, strict=True):
        for number, column in enumerate(shown):
            shift = 0.5 * ((number + 0.5) / len(shown) - 0.5)
            values = [results.value(name, column, judge.name) for name in names]
            points = [(place + shift, v.mean, v.deviation) for place, v in enumerate(values) if v.runs]
            errors = [0.0 if deviation != deviation else deviation for _, _, deviation in points]
            heights, means = [p[0] for p in points], [p[1] for p in points]
            axis.errorbar(
                means, heights, xerr=errors, fmt="o", markersize=4, capsize=2, label=label_of(column)
            )
        axis.set(title=label_of(judge.name), xlabel="score")
        plain(axis, along="x")
    axes[0].set_yticks(range(len(names)), [label_of(name) for name in names])
    axes[0].invert_yaxis()
    axes[-1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def label_of(name: str) -> str:
    """A name as Matplotlib shows it unchanged: `$` opens a formula there, and a label from `_` on is left out."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def line_figure(results: Results) -> Figure:
    """A panel a judge: columns from left to right, a line a row, means with standard deviations; for doses."""
    from evlift.report import new_figure, plain

    judges, shown = results.suite.judges, columns(results)
    figure = new_figure(2.6 + 3.6 * len(judges), 4.2)
    axes = figure.subplots(1, len(judges), sharey=True, squeeze=False)[0]
    for axis, judge in zip(axes, judges, strict=True):
        for number, name in enumerate(lines(results)):
            values = [results.value(name, column, judge.name) for column in shown]
            there = [place for place, value in enumerate(values) if value.runs]
            if not there:
                continue  # the tables say that it was not run
            means = [values[place].mean for place in there]
            errors = [0.0 if (d := values[place].deviation) != d else d for place in there]
            shift = 0.3 * ((number + 0.5) / len(lines(results)) - 0.5)
            shifted = [place + shift for place in there]
            style = ("-", "--", ":")[number // 10 % 3]
            axis.errorbar(
                shifted,
                means,
                yerr=errors,
                fmt="o",
                linestyle=style,
                markersize=4,
                capsize=2,
                label=label_of(name),
            )
        axis.set(title=label_of(judge.name), ylabel="score" if axis is axes[0] else "")
        width = max(8, 42 // len(shown))
        names = [fill(label_of(column), width, break_long_words=False) for column in shown]
        axis.set_xticks(range(len(shown)), names, fontsize=7)
        plain(axis, along="y")
    axes[-1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
