"""The model card of a pack, in Markdown, from its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LICENCES = {
    "digits": "MNIST and N-MNIST, both Creative Commons share-alike (BY-SA); cite LeCun et al., 1998, and Orchard "
    "et al., 2015",
    "simulated-digits": "the digits of scikit-learn (UCI, CC BY 4.0)",
    "simulated-digit-masks": "the digits of scikit-learn (UCI, CC BY 4.0)",
    "streets": "CamVid, for research use; cite Brostow et al., 2009",
}
LICENCES["digits6789"] = LICENCES["digit-masks"] = LICENCES["digits"]
OWN = "not known to evlift: whoever made these weights must say under which terms their data may be used"

SPLITS = {
    "source_val": "held-out pictures, encoded as in training",
    "val": "recordings to choose on",
    "test": "recordings that nothing was chosen on",
}
Row = Sequence[str]


def model_card(record: Mapping[str, Any], size: int) -> str:
    """The card of a pack.

    Args:
        record: of the pack: that of the run, with `pack`, `figures` and what else was judged.
        size: of the pack without its card, in bytes.
    """
    recipe, name = record["recipe"], record["pack"]["name"]
    parts = [
        f"# {name}",
        _intro(record, size),
        "## Use",
        _use(name, record),
        "## Data",
        "\n".join(_data(record)),
        "## Figures",
        "\n".join(_figures(record)),
        "## Confidence",
        "\n".join(_confidence(record)),
        "## Limits",
        "\n".join(f"- {text}" for text in _limits(record)),
        "## Licence",
        f"The weights come under the licence of evlift, Apache-2.0. They were learned from: "
        f"{LICENCES.get(recipe['data']['name'], OWN)}. No data are part of this pack.",
    ]
    return "\n\n".join(parts) + "\n"


def _intro(record: Mapping[str, Any], size: int) -> str:
    recipe = record["recipe"]
    height, width = record["sensor_size"]
    cost = record.get("cost")
    costs = (
        f", {cost['parameters']:,} parameters, {cost['dense_macs']:,.0f} MACs a clip if dense" if cost else ""
    )
    frames = f"{recipe['input']['steps']} frames of events of a sensor of {width}x{height} pixels"
    reads = "pictures" if _reads_pictures(record) else frames
    gives = "gives every pixel" if record["metric"] == "mIoU" else "gives"
    return (
        f"A `{recipe['model']['name']}` that reads {reads} and {gives} one of {len(record['classes'])} classes "
        f"({', '.join(record['classes'])}). Trained by `{recipe['method']['name']}` for {record['steps']:,} steps "
        f"({record['samples']:,} samples of each kind, seed {record['seed']}, {record['seconds']:.0f} s on "
        f"{record['environment']['device']}){costs}. {size / 1e3:,.0f} kB."
    )


def _reads_pictures(record: Mapping[str, Any]) -> bool:
    return bool(record["pack"]["reads"] == "pictures")


def _use(name: str, record: Mapping[str, Any]) -> str:
    lines = [] if _reads_pictures(record) else [f"evlift predict {name} recording.raw"]
    if lines and record["metric"] == "accuracy":
        lines.append(f"evlift evaluate {name} --data recordings:FOLDER --unknown-below auto")
    commands = "```text\n" + "\n".join(lines) + "\n```\n\n" if lines else ""
    return (
        f"{commands}`{name}` is this folder, or the bare name where the pack comes with evlift (`evlift pack --list`). "
        f'In Python: `evlift.open_run("{name}").network`.'
    )


def _data(record: Mapping[str, Any]) -> Iterator[str]:
    data = record["recipe"]["data"]
    options = ", ".join(f"{k}={v}" for k, v in data.items() if k != "name" and v is not None)
    yield f"- suite `{data['name']}`" + (f" ({options})" if options else "")
    yield "- items: " + ", ".join(f"{count} {part}" for part, count in record["data"].items())
    yield f"- split hash `{record['split']}`, recipe digest `{record['digest']}`"
    yield f"- weights chosen on: {record['selected_on']}, at step {record['kept_step']}"
    seen = (
        "were seen" if record["judged_on"] == "val" else "were never seen in training, nor to choose weights"
    )
    yield f"- labels of recordings {seen}"


def _figures(record: Mapping[str, Any]) -> Iterator[str]:
    figures = record.get("figures") or {}
    if not figures:
        yield (
            f"{record['metric']} {record['val']:.4f} on {record['judged_on']} at the end of training; it was not "
            "judged again, for its data were not there when it was packed."
        )
        return
    yield from _table(
        ("split", "samples", record["metric"], "95 % interval", "mean over classes"),
        [_row(split, found, record["metric"]) for split, found in figures.items()],
    )
    if "test" not in figures:
        yield "\nTest was not read."
    if "robustness" in record:
        yield f"\nDisturbed recordings of {record['robustness']['split']}:\n"
        rows = record["robustness"]["robustness"]
        yield from _table(
            ("disturbance", "strength", "accuracy"),
            [
                (
                    r["disturbance"],
                    "" if r["strength"] is None else f"{r['strength']:g} {r['unit']}",
                    f"{r['accuracy']:.3f}",
                )
                for r in rows
            ],
        )


def _row(split: str, found: Mapping[str, Any], metric: str) -> Row:
    interval = "–"
    if "interval" in found:
        interval = "{:.3f} to {:.3f}".format(*found["interval"])
    place = f"{split}: {SPLITS[split]}"
    score, mean = ("–" if found[n] is None else f"{found[n]:.4f}" for n in (metric, "class_mean"))
    return place, str(found["samples"]), score, interval, mean


def _confidence(record: Mapping[str, Any]) -> Iterator[str]:
    found = record.get("calibration")
    if not found:
        yield "Not calibrated: the confidence that is printed is the plain softmax."
        return
    yield (
        f"Temperature {record['temperature']:.3f}, fitted on {found['samples']} samples of {found['fitted_on']}. "
        f"Suggested threshold to call something unknown: {found['unknown_below']:.3f}, which keeps "
        f"{found['keeps']:.0%} of that split.\n"
    )
    rows = []
    for split, figures in (record.get("figures") or {}).items():
        if "ece_before" not in figures:
            continue
        kept = figures.get("rejecting", {})
        said = [figures["ece_before"], figures["ece_after"], kept.get("kept"), kept.get("accuracy_kept")]
        rows.append((split, *("–" if value is None else f"{value:.4f}" for value in said)))
    if rows:
        yield from _table(
            ("split", "ECE without", "ECE with temperature", "kept by the threshold", "accuracy of the kept"),
            rows,
        )


def _limits(record: Mapping[str, Any]) -> Iterator[str]:
    height, width = record["sensor_size"]
    if record["pack"]["note"]:
        yield record["pack"]["note"]
    yield "One run of one seed: another seed or fold gives other figures."
    yield (
        f"It knows its {len(record['classes'])} classes and nothing else; a threshold helps, and does not find every "
        "stranger."
    )
    framing = record.get("framing")
    if framing:
        length = f"{framing['duration_us'] / 1e3:.0f} ms" if framing["duration_us"] else "unknown length"
        yield (
            f"Trained on recordings of {length} on {width}x{height} pixels, where what moves is about "
            f"{framing['longer']:.0f} pixels long. Recordings of other sensors are cropped to their events; several "
            "things at once, or one that moves across the sensor, are not what it was trained for."
        )
    yield "Figures are of the sensor that it was trained for, unless another one is named."


def _table(header: Row, rows: Sequence[Row]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
