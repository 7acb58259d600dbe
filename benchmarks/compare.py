"""The paired difference of two rows of a suite, from the records: what tables against one reference do not show.

    python benchmarks/compare.py digits6789 "still pictures and k = 5" "tuned KT" KT [--judge "full window"]
        [--split val] [--seeds 1,2] [--records results]

Prints the first row minus the second over the places that both have, with standard errors and tests as in the tables.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tables import results_of

from evlift.bench.results import Results, Value
from evlift.bench.tables import difference_text, paired_text


def at_seeds(value: Value, seeds: set[int] | None) -> Value:
    """The value with the runs of these values of train.seed alone; None keeps all."""
    runs = {
        place: said
        for place, said in value.runs.items()
        if seeds is None or dict(place)["train.seed"] in seeds
    }
    return replace(value, runs=runs)


def compared(
    results: Results, column: str, rows: tuple[str, str], judge: str, split: str, seeds: set[int] | None
) -> str:
    """A line of what the first row reads more than the second."""
    known = [row.name for row in results.suite.rows]
    missing = [row for row in rows if row not in known]
    if missing or column not in [one.name for one in results.suite.columns]:
        raise SystemExit(f"Expected rows and a column of {results.suite.name}, but got {missing or column}.")
    ours, theirs = (at_seeds(results.value(row, column, judge, split), seeds) for row in rows)
    gain = results.difference(ours, theirs)
    return f"{rows[0]} minus {rows[1]}: {difference_text(gain)}; p {paired_text(gain)}"


def main() -> None:
    """Print the difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("suite", "column", "row", "other"):
        parser.add_argument(name)
    parser.add_argument("--judge", help="default: the suite's first")
    parser.add_argument("--split", default="val")
    parser.add_argument("--seeds", type=lambda text: {int(seed) for seed in text.split(",")})
    parser.add_argument("--records", type=Path, default=Path("results"))
    options = parser.parse_args()
    results = results_of(options.suite, options.records)
    judge = options.judge or results.suite.judges[0].name
    rows = (options.row, options.other)
    print(compared(results, options.column, rows, judge, options.split, options.seeds))


if __name__ == "__main__":
    main()
