"""The soak says when its kills came, and sees what a command breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import benchmark


@pytest.fixture(scope="module")
def soak():
    return benchmark("soak")


def work_of(soak, **changes):
    """A work whose files are texts; `abc` is what the undisturbed command leaves."""

    def digest(out: Path) -> str:
        return "".join(path.read_text() for path in sorted(out.glob("[!.]*")))

    return soak.Work(lambda out: [], lambda out: None, digest, **changes)


@pytest.mark.parametrize(
    ("left", "moment", "parts"),
    [
        ({}, "before", 0),
        ({".b.1.part": "x"}, "before", 1),
        ({"b": "b"}, "amid", 0),
        ({"b": "b", ".c.1.part": "x", ".d.1.part": "x"}, "amid", 2),
        ({"b": "b", "c": "c"}, "after", 0),
    ],
)
def test_kills_are_counted_by_what_they_left(soak, tmp_path, left, moment, parts):
    (tmp_path / "a").write_text("a")
    (tmp_path / ".old.part").write_text("of an earlier kill")
    before, tally = soak.names(tmp_path), soak.Tally()
    for name, text in left.items():
        (tmp_path / name).write_text(text)
    assert soak._look_at(work_of(soak), tmp_path, before, "abc", tally) == moment
    assert (tally.kills, tally.moments[moment], tally.leftovers, tally.writing) == (1, 1, parts, parts > 0)
    met = 0 if moment == "after" else 1
    assert f"1 kills in 0 s, {met} met unfinished work" in str(tally)


def test_a_file_that_replaces_another_is_seen(soak, tmp_path):
    (tmp_path / "a").write_text("older")
    before = soak.names(tmp_path)
    (tmp_path / "new").write_text("a")
    (tmp_path / "new").replace(tmp_path / "a")
    tally = soak.Tally()
    assert soak._look_at(work_of(soak), tmp_path, before, "a", tally) == "after"


def test_a_damaged_older_file_fails(soak, tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "digest_answers", lambda out: (out / "model.pt2").read_text())
    for name, text in (("older", "old"), ("whole", "new"), ("killed", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pt2").write_text(text)
    for text in ("old", "new"):
        (tmp_path / "killed" / "model.pt2").write_text(text)
        soak.older_or_new(tmp_path / "killed")
    (tmp_path / "killed" / "model.pt2").write_text("ol")
    with pytest.raises(SystemExit, match="neither the older nor the new"):
        soak.older_or_new(tmp_path / "killed")


def test_what_is_there_from_the_start_is_there_again_after_a_round(soak, tmp_path):
    work = work_of(soak, prepare=lambda out: (out.mkdir(), (out / "a").write_text("older")))
    for _ in range(2):
        soak._fresh(work, tmp_path / "out")
        assert soak.final(soak.names(tmp_path / "out")).keys() == {"a"}
        (tmp_path / "out" / "b").write_text("b")
    assert soak.complete(work, tmp_path / "out", "olderb")
    assert not soak.complete(work, tmp_path / "out", "olderbc")
