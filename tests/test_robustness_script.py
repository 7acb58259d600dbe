"""The table of disturbed recordings: which runs it takes, and their means."""

from __future__ import annotations

import json

import pytest

from helpers import benchmark

bench = benchmark("robustness")


def result(folder, name, row, seed, cell="mixed windows"):
    run = folder / "runs" / name
    run.mkdir(parents=True)
    said = {"row": row, "cell": cell, "place": {"train.seed": seed}}
    (run / "result.json").write_text(json.dumps(said), encoding="utf-8")
    return run


def test_runs_of_a_cell_are_found_in_all_folders_once(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    first = result(one, "a", "lift", 0)
    result(one, "b", "lift", 0, cell="full windows")
    again, second = result(two, "a", "lift", 0), result(two, "c", "lift", 1)
    other = result(two, "d", "events-only", 0)
    found = bench.runs_of([one, two], "mixed windows", [])
    assert found == {"events-only": [other], "lift": [again, second]}
    assert bench.runs_of([one], "mixed windows", ["lift"]) == {"lift": [first]}
    with pytest.raises(SystemExit, match="finished runs of kt in the cell"):
        bench.runs_of([one, two], "mixed windows", ["lift", "kt"])


def test_the_table_has_means_over_the_runs_of_a_row():
    def said(plain, noisy):
        return {
            "robustness": [
                {"disturbance": "none", "strength": None, "unit": "", "accuracy": plain},
                {"disturbance": "noise", "strength": 2.0, "unit": "Hz", "accuracy": noisy},
            ],
            "by_rate": [{"from_hz": 1000.0, "to_hz": 2000.0, "accuracy": plain}],
        }

    shown = bench.table({"lift": [said(0.9, 0.5), said(0.8, 0.7)], "KT": [said(0.5, 0.25)]})
    assert shown.splitlines() == [
        "| disturbance | strength | lift (2) | KT (1) |",
        "| --- | --- | --- | --- |",
        "| none |  | 0.850 | 0.500 |",
        "| noise | 2 Hz | 0.600 | 0.250 |",
        "| quarter by event rate | 1 to 2 kHz | 0.850 | 0.500 |",
    ]
