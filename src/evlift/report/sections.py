"""The sections of a report, in the order of reading."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.engine.logs import read_log
from evlift.engine.metrics import Recognition, Segmentation
from evlift.report.charts import line_chart
from evlift.report.examples import add_examples, add_players
from evlift.report.judge import Judged, shared_data
from evlift.report.page import Page, scrolled, table
from evlift.report.pictures import image_tag, raster_png
from evlift.report.write import Subject
from evlift.wording import counted

MOST_CLASSES = 24  # of a confusion matrix that is shown whole


def compose(subjects: Sequence[Subject], split: str, side: int) -> Page:
    """The whole page.

    Args:
        subjects: the runs.
        split: what they were judged on.
        side: of a picture, in pixels at most.
    """
    names = [subject.name for subject in subjects]
    title = f"Run {names[0]}" if len(names) == 1 else f"{len(names)} runs compared"
    recipe = subjects[0].trained.recipe
    lead = f"{recipe.method['name']} with {recipe.model['name']} on {recipe.data['name']}"
    page = Page(title, lead if len(names) == 1 else ", ".join(names), script=True)
    for subject in subjects:
        if subject.problem:
            page.text(f"{subject.name}: {subject.problem}")
    judged = [subject for subject in subjects if subject.judged is not None]
    add_summary(page, subjects, split)
    if judged:
        add_tables(page, judged)
        add_confusion(page, judged)
        add_calibration(page, judged)
        add_cost(page, judged)
        add_spikes(page, judged)
    add_examples(page, subjects, side)
    add_players(page, judged)
    add_curves(page, subjects)
    add_configuration(page, subjects)
    return page


def add_summary(page: Page, subjects: Sequence[Subject], split: str) -> None:
    """Who they are and how good: one line a run."""
    page.heading("Result")
    rows = []
    for subject in subjects:
        record, found = subject.trained.record, subject.judged
        score = low_high = classes = "–"
        if found is not None:
            score, classes = f"{found.evaluation.score:.4f}", f"{found.evaluation.metrics.class_mean:.4f}"
            low, high = interval(found)
            low_high = f"{low:.4f} to {high:.4f}"
        rows.append(
            (
                subject.name,
                found.split if found else "–",
                str(len(found.evaluation.names)) if found else "–",
                record.get("metric", "accuracy"),
                score,
                low_high,
                classes,
                f"{record.get('val', float('nan')):.4f} ({record.get('judged_on', '?')})",
                str(record.get("steps", "?")),
                f"{record.get('seconds', float('nan')):.0f} s",
            )
        )
    header = (
        "run", "split", "samples", "metric", "score", "95 % interval", "mean recall", "in training", "steps", "time",
    )  # fmt: skip
    page.table(header, rows)
    page.text(
        "The interval is Wilson's for accuracy and a bootstrap over the samples for mIoU; it says how far chance in "
        "the choice of samples reaches, not in the training. The column in training is the score that the run's "
        "weights were kept by."
    )
    judged = [subject.judged for subject in subjects if subject.judged is not None]
    if not shared_data(judged):
        page.text("These runs were judged on different samples: their scores do not compare.")
    if split == "test":
        page.text("These are test figures: nothing may be chosen by them any more.")


def interval(judged: Judged, *, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of the score: Wilson for accuracy, percentiles of a seeded bootstrap over samples for mIoU."""
    metrics = judged.evaluation.metrics
    if isinstance(metrics, Recognition):
        return metrics.interval
    single = np.stack(judged.confusions)  # [n, K, K]
    chosen = np.random.default_rng(0).multinomial(len(single), np.full(len(single), 1 / len(single)), draws)
    sums = np.einsum("dn,nij->dij", chosen, single)  # [draws, K, K]
    low, high = np.nanpercentile([Segmentation(one).mean_iou for one in sums], [2.5, 97.5])
    return float(low), float(high)


def add_tables(page: Page, subjects: Sequence[Subject]) -> None:
    """Per class, per time step, per event rate."""
    found = [(s.name, s.judged, s.trained.classes) for s in subjects if s.judged is not None]
    names = [name for name, _, _ in found]
    measured = "IoU" if subjects[0].trained.record.get("metric") == "mIoU" else "recall"
    page.heading("Per class")
    everything = list(dict.fromkeys(c for _, _, classes in found for c in classes))
    columns = [dict(zip(classes, one.evaluation.metrics.per_class, strict=True)) for _, one, classes in found]
    rows = [(c, *(shown(column.get(c, float("nan"))) for column in columns)) for c in everything]
    page.table(("class", *(f"{measured}, {name}" for name in names)), rows)
    page.heading("Per time step")
    lines = {
        name: (list(range(1, len(one.evaluation.per_step) + 1)), one.evaluation.per_step.tolist())
        for name, one, _ in found
    }
    if max(len(steps) for steps, _ in lines.values()) == 1:
        page.text("The network reads all frames at once and answers once.")
    else:
        page.html(
            line_chart(
                lines, title="Score of the mean answer so far.", x="time steps seen", y="score", dots=True
            )
        )
        most = max(len(values) for _, values in lines.values())
        rows = [
            (str(t + 1), *(shown(v[t]) if t < len(v) else "–" for _, v in lines.values()))
            for t in range(most)
        ]
        page.html(f"<details><summary>As a table</summary>{table(('steps', *names), rows)}</details>")
    _add_rates(page, [(name, one) for name, one, _ in found])


def _add_rates(page: Page, found: Sequence[tuple[str, Judged]]) -> None:
    rated = [(name, one) for name, one in found if len(one.rates)]
    if not rated:
        return
    page.heading("Per event rate")
    page.text("The recordings sorted by their events a second and cut into equally large groups.")
    tables = [rated] if shared_data([one for _, one in rated]) else [[pair] for pair in rated]
    for together in tables:
        rows = [
            (
                f"{rate(low)} to {rate(high)}",
                str(len(samples)),
                *(_score(one, samples) for _, one in together),
            )
            for low, high, samples in together[0][1].rate_groups()
        ]
        scores = (f"{one.evaluation.metric}, {name}" for name, one in together)
        page.table(("events a second", "samples", *scores), rows)


def _score(judged: Judged, samples: NDArray[np.int64]) -> str:
    """The score of some samples, with its interval where one is known."""
    metrics = judged.metrics_of(samples)
    if isinstance(metrics, Segmentation):
        return shown(metrics.mean_iou)
    low, high = metrics.interval
    return f"{metrics.accuracy:.3f} ({low:.3f} to {high:.3f})"


def rate(value: float) -> str:
    """Events a second, in thousands or millions."""
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.1f} k"


def shown(value: float) -> str:
    """Three decimals, a dash for what does not exist."""
    return "–" if np.isnan(value) else f"{value:.3f}"


def add_confusion(page: Page, subjects: Sequence[Subject]) -> None:
    """Rows are true classes, columns answers."""
    page.heading("Confusion matrix")
    page.text(
        "Rows are labels, columns answers; shares of a row in per cent, of samples or, for masks, of pixels."
    )
    for subject in subjects:
        if subject.judged is None:
            continue
        if len(subjects) > 1:
            page.subheading(subject.name)
        counts, classes = subject.judged.evaluation.metrics.confusion, subject.trained.classes
        if len(classes) <= MOST_CLASSES:
            page.html(_matrix(counts, classes))
        page.html(_confused(counts, classes))


def _matrix(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in ("label \\ answer", *classes))
    body = ""
    for i, name in enumerate(classes):
        body += f"<tr><th scope='row'>{html.escape(name)}</th>"
        for j, share in enumerate(shares[i]):
            kind = " class='hit'" if i == j else ""
            text = f"{100 * share:.0f}" if share >= 0.005 else ("0" if counts[i, j] else "")
            body += f"<td{kind} style='--share:{share:.2f}' title='{counts[i, j]}'>{text}</td>"
        body += "</tr>"
    return scrolled(
        f"<table class='confusion'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        "Confusion matrix",
    )


def _confused(counts: NDArray[np.int64], classes: Sequence[str], most: int = 8) -> str:
    """The pairs that are confused most."""
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    order = np.argsort(wrong, axis=None)[::-1][:most]
    pairs = [divmod(int(place), len(counts)) for place in order]
    rows = [
        (classes[i], classes[j], f"{wrong[i, j]:,}", f"{100 * wrong[i, j] / max(1, counts[i].sum()):.1f} %")
        for i, j in pairs
        if wrong[i, j]
    ]
    if not rows:
        return "<p>Nothing was confused.</p>"
    shown_table = table(("label", "taken for", "count", "of its label"), rows)
    return f"<details><summary>Most frequent confusions</summary>{shown_table}</details>"


def add_calibration(page: Page, subjects: Sequence[Subject]) -> None:
    """Reliability curve and expected calibration error."""
    page.heading("Calibration")
    found = {s.name: s.judged.reliability for s in subjects if s.judged is not None}
    page.html(
        line_chart(
            {name: one.curve for name, one in found.items()},
            title="Share of right answers over confidence; on the dotted line they are equal, below it the network "
            "is too sure.",
            x="confidence",
            y="right",
            limits=(0.0, 1.0),
            dots=True,
            even=True,
        )
    )
    page.table(
        ("run", "answers", "ECE, 15 bins"),
        [(n, f"{one.counts.sum():,}", f"{one.error:.4f}") for n, one in found.items()],
    )


def add_cost(page: Page, subjects: Sequence[Subject]) -> None:
    """Parameters, multiplications, synaptic operations."""
    page.heading("Cost of one clip")
    costs = [(s.name, s.judged.cost) for s in subjects if s.judged is not None]
    lines = (
        ("parameters", "parameters"),
        ("MACs, all layers dense", "dense_macs"),
        ("MACs of layers with analogue input", "macs"),
        ("synaptic operations of the others", "synops"),
    )
    rows = [(text, *(f"{getattr(cost, name):,.0f}" for _, cost in costs)) for text, name in lines]
    page.table(("", *(name for name, _ in costs)), rows)
    page.text("All time steps together, averaged over the first 32 clips at most.")


def add_spikes(page: Page, subjects: Sequence[Subject]) -> None:
    """Firing rates and rasters of the spiking networks."""
    spiking = [s for s in subjects if s.judged is not None and s.rasters]
    if not spiking:
        return
    page.heading("Spikes")
    page.text(
        "Firing rates are spikes per neuron and step over the first 32 clips. A raster shows the first clip: time to "
        "the right, a row a neuron, up to 64 of those that fired."
    )
    for subject in spiking:
        if len(subjects) > 1:
            page.subheading(subject.name)
        rates = subject.judged.cost.firing_rates if subject.judged else {}
        rows, cards = [], ""
        for layer, found in subject.rasters.items():
            rows.append(
                (layer, f"{found.neurons:,}", f"{found.fired:,}", f"{rates.get(layer, float('nan')):.4f}")
            )
            said = f"{layer}: {found.fired:,} of {found.neurons:,} neurons fired in "
            said += counted(len(found.spikes), "step")
            if found.fired:
                image = image_tag(raster_png(found.spikes), f"Spike raster of {said}", "raster")
                cards += f"<li><figure>{image}<figcaption>{html.escape(said)}</figcaption></figure></li>"
        page.table(("layer", "neurons", "fired in the first clip", "firing rate"), rows)
        page.html(f"<ul class='cards'>{cards}</ul>")
        steps = {
            layer: (list(range(1, len(found.rates) + 1)), found.rates.tolist())
            for layer, found in list(subject.rasters.items())[:6]
        }
        page.html(
            line_chart(
                steps,
                title="Share of the neurons that fire, first clip.",
                x="time step",
                y="share",
                dots=True,
            )
        )


def add_curves(page: Page, subjects: Sequence[Subject]) -> None:
    """Loss, score and everything else that was logged."""
    page.heading("Training")
    logs = {subject.name: read_log(subject.trained.run.log) for subject in subjects}
    kinds = dict.fromkeys((row["split"], row["name"]) for rows in logs.values() for row in rows)
    charts: dict[bool, list[str]] = {True: [], False: []}
    for split, name in sorted(kinds, key=lambda kind: (kind != ("train", "loss"), kind[0] == "train")):
        lines = {run: _points(rows, split, name) for run, rows in logs.items()}
        where = "training" if split == "train" else split
        chart = line_chart(
            lines,
            title=f"{name}, {where}",
            x="step",
            y=name,
            dots=max(len(p[0]) for p in lines.values()) < 40,
        )
        charts[split != "train" or name == "loss"].append(chart)
    page.html(f"<div class='pair'>{''.join(charts[True])}</div>")
    if charts[False]:
        page.html(
            f"<details><summary>Parts of the loss, and what else was logged ({len(charts[False])})</summary>"
            f"<div class='pair'>{''.join(charts[False])}</div></details>"
        )


def _points(rows: Sequence[dict[str, Any]], split: str, name: str) -> tuple[list[float], list[float]]:
    kept = [(row["step"], row["value"]) for row in rows if (row["split"], row["name"]) == (split, name)]
    return [float(step) for step, _ in kept], [float(value) for _, value in kept]


def add_configuration(page: Page, subjects: Sequence[Subject]) -> None:
    """Every field of the recipes; those that differ between runs are marked."""
    page.heading("Configuration")
    flat = [flattened(subject.trained.recipe.to_dict()) for subject in subjects]
    for fields, subject in zip(flat, subjects, strict=True):
        record = subject.trained.record
        fields["run: device"] = json.dumps(record.get("environment", {}).get("device", "?"))
        fields["run: digest"] = record.get("digest", "?")
        fields["run: split"] = str(record.get("split", "?"))[:12]
        fields["run: folder"] = str(subject.trained.run.folder)
    names = list(dict.fromkeys(name for fields in flat for name in fields))
    rows = []
    for name in names:
        values = [fields.get(name, "–") for fields in flat]
        rows.append((f"≠ {name}" if len(set(values)) > 1 else name, *values))
    if len(subjects) > 1:
        page.html(
            "<p><label hidden><input type='checkbox' data-only checked> Only what differs (marked ≠)</label></p>"
        )
    page.html(table(("field", *(subject.name for subject in subjects)), rows, kind="config"))


def flattened(content: dict[str, Any], above: str = "") -> dict[str, str]:
    """Nested dictionaries as one: "train.lr" → "0.01"."""
    flat: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{above}{name}.")
        else:
            flat[above + name] = value if isinstance(value, str) else json.dumps(value)
    return flat
