"""What a search leaves: a table of trials, the best recipe of every target, and a suite with the best values in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.bench.checks import section_changes
from evlift.config import read_yaml
from evlift.files import write_json, write_text
from evlift.tuning.space import with_values
from evlift.tuning.study import JOURNAL, best_trial, counted, open_study
from evlift.tuning.targets import Target, folder_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

HEADER = ("target", "trial", "state", "score", "judged on", "seconds", "values")


def rows_of(name: str, folder: Path) -> list[dict[str, Any]]:
    """The trials in the folder of a target that count, in order, as plain values."""
    study = open_study(folder)
    best = best_trial(study)
    return [
        {
            "target": name,
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "score": trial.value if trial.state.name == "COMPLETE" else _last_report(trial),
            "judged_on": trial.user_attrs.get("judged_on"),
            "seconds": trial.user_attrs.get("seconds"),
            "values": trial.params,
            "best": best is not None and trial.number == best.number,
            "failed": trial.user_attrs.get("failed"),
        }
        for trial in counted(study)
    ]


def _last_report(trial: FrozenTrial) -> float | None:
    """The last score that a pruned trial was judged by."""
    steps = trial.intermediate_values
    return steps[max(steps)] if steps else None


def texts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Rows as a table of text; the best of each target is marked."""
    return [
        (
            row["target"],
            str(row["trial"]),
            row["state"]
            + (", best" if row["best"] else "")
            + (f": {row['failed']}" if row["failed"] else ""),
            "–" if row["score"] is None else f"{row['score']:.4f}",
            row["judged_on"] or "–",
            "–" if row["seconds"] is None else f"{row['seconds']:.0f}",
            ", ".join(f"{field} {_short(value)}" for field, value in row["values"].items()),
        )
        for row in rows
    ]


def write_all(targets: Sequence[Target], out: Path, suite: Path | None = None) -> list[Path]:
    """Write trials.md, trials.json, the best recipe of each target, and for a suite tuned.yaml; returns the paths.

    Args:
        targets: what was tuned.
        out: the folder of the search, with a folder for every target. Other rows of the suite that have one, from an
            earlier search, stay in the tables and in tuned.yaml.
        suite: the suite's file, if one was tuned.
    """
    found = {target.name: rows_of(target.name, out / target.folder) for target in targets}
    for name in map(str, read_yaml(suite)["rows"] if suite else ()):
        folder = out / folder_of(name)
        if name not in found and (folder / JOURNAL).is_file():
            found[name] = rows_of(name, folder)
    flat = [row for rows in found.values() for row in rows]
    lines = [HEADER, tuple("---" for _ in HEADER), *texts(flat)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    spaces = "\n".join(f"- {_space(target)}" for target in targets)
    write_text(out / "trials.md", f"# Trials\n\n{spaces}\n\n{text}\n")
    write_json(out / "trials.json", flat)
    written = [out / "trials.md", out / "trials.json"]
    best = {name: next((row for row in rows if row["best"]), None) for name, rows in found.items()}
    for target in targets:
        chosen = best[target.name]
        if chosen is not None:
            path = out / target.folder / "best.yaml"
            head = (
                f"# {target.name}: best of {len(found[target.name])} trials, {chosen['score']:.4f} on "
                f"{chosen['judged_on']}\n"
            )
            write_text(path, head + with_values(target.recipe, chosen["values"]).to_yaml())
            written.append(path)
    if suite is not None:
        write_text(
            out / "tuned.yaml",
            _tuned_suite(suite, best, {name: len(rows) for name, rows in found.items()}, targets[0].plugins),
        )
        written.append(out / "tuned.yaml")
    return written


def _space(target: Target) -> str:
    tried = ", ".join(map(str, target.space))
    left = "".join(f"; not {name}: {reason}" for name, reason in target.left_out.items())
    return f"{target.name}: {tried}{left}"


def _tuned_suite(
    path: Path, best: Mapping[str, Any], trials: Mapping[str, int], plugins: Sequence[Path]
) -> str:
    """The suite with the best values in its rows, which say how many trials they had."""
    import yaml

    content = copy.deepcopy(read_yaml(path))
    content.pop("tune", None)
    content["plugins"] = [str(plugin) for plugin in plugins]
    for name, said in content["rows"].items():
        if not trials.get(str(name)):
            continue
        row = content["rows"][name] = dict(said or {})
        chosen = best[str(name)] or {"values": {}}
        for field, value in chosen["values"].items():
            section, _, last = field.partition(".")
            row[section] = {**section_changes(section, row.get(section)), last: value}
        row["trials"] = trials[str(name)]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
