"""Accuracy of a suite's rows on disturbed recordings, beside each other.

    python benchmarks/robustness.py OUT [OUT ...] --cell "mixed windows" [--rows A,B] [--window full] [--out DIR]
        [--name robustness]

OUT is a folder that `evlift bench` trained in. Every finished run of the cell is judged on val as `evlift evaluate RUN
--robustness` judges it, and the table has the mean over the runs of a row. Writes NAME.md and NAME.json to
DIR if it is given, the latter with every run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import evlift

Swept = dict[str, list[dict[str, Any]]]


def runs_of(folders: Sequence[Path], cell: str, rows: Sequence[str]) -> dict[str, list[Path]]:
    """The finished runs of a cell by row, in the order of `rows` if there are any, no place of a row twice."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(file for folder in folders for file in folder.glob("runs/*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["cell"] == cell and (not rows or result["row"] in rows):
            found.setdefault(result["row"], {})[json.dumps(result["place"])] = path.parent
    missing = [row for row in rows if row not in found]
    if missing or not found:
        raise SystemExit(
            f"Expected finished runs of {', '.join(missing) or 'any row'} in the cell '{cell}' of "
            f"{', '.join(map(str, folders))}, but found none. Train them: evlift bench SUITE --out OUT."
        )
    return {row: list(found[row].values()) for row in rows or sorted(found)}


def sweep(runs: Mapping[str, Iterable[Path]], window: str) -> Swept:
    """What :func:`evlift.robustness` says of every run, by row."""
    found: Swept = {}
    for row, folders in runs.items():
        for folder in folders:
            said = evlift.robustness(folder, window=window).summary()
            found.setdefault(row, []).append(said)
            print(f"{row}: {folder.name}: {said['robustness'][0]['accuracy']:.3f} undisturbed", flush=True)
    return found


def table(found: Swept) -> str:
    """Markdown: a line a disturbance and strength, and a quarter of the recordings by rate; a column a row."""
    header = [f"{row} ({len(said)})" for row, said in found.items()]
    lines = [["disturbance", "strength", *header]]
    for i, case in enumerate(next(iter(found.values()))[0]["robustness"]):
        strength = "" if case["strength"] is None else f"{case['strength']:g} {case['unit']}"
        lines.append([case["disturbance"], strength, *_means(found, "robustness", i)])
    for i, quarter in enumerate(next(iter(found.values()))[0]["by_rate"]):
        rates = f"{quarter['from_hz'] / 1000:.0f} to {quarter['to_hz'] / 1000:.0f} kHz"
        lines.append(["quarter by event rate", rates, *_means(found, "by_rate", i)])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _means(found: Swept, part: str, index: int) -> list[str]:
    return [
        f"{statistics.fmean(one[part][index]['accuracy'] for one in said):.3f}" for said in found.values()
    ]


def main() -> None:
    """Sweep, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="OUT")
    parser.add_argument("--cell", required=True)
    parser.add_argument("--rows", default="", help="names with commas between; default: all")
    parser.add_argument("--window", default="full", choices=("full", "saccade", "first300"))
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--name", default="robustness", help="of the files")
    options = parser.parse_args()
    rows = [row.strip() for row in options.rows.split(",") if row.strip()]
    found = sweep(runs_of(options.folders, options.cell, rows), options.window)
    print(table(found))
    if options.out is not None:
        from evlift.files import write_json, write_text

        write_text(options.out / f"{options.name}.md", table(found) + "\n")
        settings = {"cell": options.cell, "window": options.window, "split": "val"}
        write_json(options.out / f"{options.name}.json", {"settings": settings, "rows": found})


if __name__ == "__main__":
    main()
