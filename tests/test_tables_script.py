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
