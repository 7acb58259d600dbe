"""`benchmarks/tables.py`: what it shows in pages, and what it leaves out."""

from __future__ import annotations

import pytest

from evlift.bench.tables import NOT_PLANNED, NOT_RUN, Table
from helpers import benchmark

SCRIPT = benchmark("tables")
FOUND = {"digits": {"full, val: accuracy": "| a |", "full, val: differences": "| b |"}}


def shown(page: str) -> str:
    return SCRIPT.SHOWN.sub(lambda match: SCRIPT.updated(match, FOUND), page)


def test_a_table_between_marks_is_renewed_and_nothing_else():
    first = "<!-- table digits: full, val: acc -->\n<!-- end -->"
    second = "<!-- table digits: full, val: diff -->\n\nold\n\n<!-- end -->"
    other = "<!-- table streets: x -->\n\nkept\n\n<!-- end -->"
    page = shown(f"a\n{first}\nprose\n{second}\n{other}\n")
    assert page == (
        "a\n<!-- table digits: full, val: acc -->\n\n| a |\n\n<!-- end -->\nprose\n"
        f"<!-- table digits: full, val: diff -->\n\n| b |\n\n<!-- end -->\n{other}\n"
    )
    assert shown(page) == page


@pytest.mark.parametrize("start", ["full", "nothing"])
def test_a_mark_names_one_table(start):
    with pytest.raises(SystemExit, match="Expected one table of digits"):
        shown(f"<!-- table digits: {start} -->\n<!-- end -->")


def test_rows_that_say_nothing_are_left_out():
    rows = (("a", NOT_RUN, NOT_PLANNED), ("b", NOT_RUN, "0.5"))
    assert SCRIPT.trimmed(Table("t", ("row", "x", "y"), rows)).rows == rows[1:]


def test_a_file_between_marks_is_renewed(tmp_path):
    (tmp_path / "sweep.md").write_text("| a |\n", encoding="utf-8")
    page = "x\n<!-- file sweep.md -->\nold\n<!-- end -->\ny\n"
    renewed = SCRIPT.FILED.sub(lambda match: SCRIPT.filed(match, tmp_path), page)
    assert renewed == "x\n<!-- file sweep.md -->\n\n| a |\n\n<!-- end -->\ny\n"
    with pytest.raises(SystemExit, match=r"a file other\.md in"):
        SCRIPT.FILED.sub(lambda match: SCRIPT.filed(match, tmp_path), page.replace("sweep", "other"))


def lead_of(tmp_path, scores: dict[str, list[float]]) -> list[tuple[str, ...]]:
    """What the script says of lift where each row reads so at folds 0, 1, ...; None is not run."""
    from evlift.bench.jobs import plan
    from evlift.bench.results import Results
    from evlift.bench.suite import load_suite

    text = """
title: t
base: {data: {name: simulated-digits}, input: {steps: 2, size: [28, 28]}, model: {name: convnet}}
rows:
  lift: {method: lift}
  near: {method: mean-teacher}
  far: {method: source-only}
  labels: {method: events-only}
  pictures: {method: image-model, split: source_val}
cells: {folds: {vary: {train.seed: [0, 1, 2]}}}
"""
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    suite = load_suite(tmp_path / "s.yaml")
    jobs = plan(suite, tmp_path / "out")
    found = {}
    for job in jobs:
        (entry,) = job.entries
        score = scores[entry.row.name][dict(entry.place)["train.seed"]]
        if score is not None:
            said = {"score": score, "metric": "mIoU", "class_mean": score, "confusion": None}
            key = f"{entry.row.split or 'val'}/own window"
            found[job.folder.name] = {"judged": {key: said}, "names": {"val": [], "source_val": []}}
    return list(SCRIPT.leads(Results(suite, jobs, found), "lift"))


def test_a_lead_is_over_the_best_row_without_labels(tmp_path):
    scores = {
        "lift": [0.5, 0.6, 0.7],
        "near": [0.6, 0.6, 0.6],
        "far": [0.1] * 3,
        "labels": [0.9] * 3,
        "pictures": [0.9] * 3,
    }
    ((_, _, _, own, best, gain, verdict),) = lead_of(tmp_path, scores)
    assert (own, best, verdict) == ("0.600", "near 0.600", "at or above")
    assert gain == "+0.000, s.e. 0.058 over runs (3)"


@pytest.mark.parametrize(
    ("near", "verdict"), [([0.62, 0.71, 0.8], "behind"), ([0.5, 0.6, 0.8], "within two")]
)
def test_a_lead_is_behind_beyond_two_errors(tmp_path, near, verdict):
    rest = {"far": [0.1] * 3, "labels": [0.9] * 3, "pictures": [0.9] * 3}
    ((*_, found),) = lead_of(tmp_path, {"lift": [0.5, 0.6, 0.7], "near": near, **rest})
    assert found == verdict


def test_a_lead_is_over_rows_with_all_its_runs(tmp_path):
    rest = {"far": [0.1] * 3, "labels": [0.9] * 3, "pictures": [0.9] * 3}
    ((*_, best, _, _),) = lead_of(tmp_path, {"lift": [0.5, 0.6, 0.7], "near": [0.9, 0.9, None], **rest})
    assert best == "far 0.100"
