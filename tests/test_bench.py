"""Suites: what they expand to, how their runs are run and shared, and that the tables say what was found."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from bench_suites import BASE, SUITE, fake_results, write_suite
from evlift.bench import runner as running
from evlift.bench import worker
from evlift.bench.board import Board
from evlift.bench.checks import ADAPTED
from evlift.bench.jobs import Filter, plan
from evlift.bench.output import write_all
from evlift.bench.results import Difference, Results, Said, Value, wilson
from evlift.bench.runner import Runner
from evlift.bench.suite import load_suite, merge, shipped_suites
from evlift.bench.tables import cost_table, difference_text, pooled_text, score_text, target_row
from evlift.cli import main
from evlift.errors import ConfigError, EvliftError
from evlift.verbs.common import alone


@pytest.fixture
def written(tmp_path):
    """Writes a suite with some sections replaced; returns its path."""

    def write(**changes):
        return write_suite(tmp_path / "tiny.yaml", **changes)

    return write


def test_folds_and_seeds_repeat_a_cell_and_all_else_makes_columns(written):
    suite = load_suite(written())
    assert [column.name for column in suite.columns] == [
        "all",
        "few: labels per class 1",
        "few: labels per class 2",
    ]
    assert [len(column.places) for column in suite.columns] == [2, 3, 3]
    together = suite.columns[1].places[2]
    assert together == (("data.label_seed", 2), ("train.seed", 2))
    assert len(suite.entries()) == 2 * (2 + 3 + 3)
    entry = next(e for e in suite.entries() if e.row.name == "events" and e.place == together)
    assert (entry.recipe.data["label_seed"], entry.recipe.train.seed) == (2, 2)
    assert entry.recipe.data["labels_per_class"] == 1


def test_one_repetition_of_everything_comes_first(written):
    entries = load_suite(written()).entries()
    order = [entry.column.places.index(entry.place) for entry in entries]
    assert order == sorted(order)
    assert len({(e.row.name, e.column.name) for e in entries[:6]}) == 6


def test_runs_of_the_same_recipe_are_shared(written, tmp_path):
    jobs = plan(load_suite(written()), tmp_path)
    assert len({job.folder for job in jobs}) == len(jobs)
    pictures = [job for job in jobs if job.entries[0].row.name == "pictures"]
    assert len(pictures) == 2 + 2  # folds 0 and 1; seeds 1 and 2 of fold 0, whatever the labels
    first = next(job for job in pictures if len(job.entries) == 3)
    assert {entry.column.name for entry in first.entries} == {
        "all",
        "few: labels per class 1",
        "few: labels per class 2",
    }
    assert sum(len(job.entries) for job in jobs) == 16


def test_the_quick_form(written):
    quick = load_suite(written(), quick=True)
    assert [str(entry) for entry in quick.entries()] == ["pictures · all · fold 0", "events · all · fold 0"]
    assert {entry.recipe.train.steps for entry in quick.entries()} == {4}
    assert {entry.recipe.train.steps for entry in load_suite(written()).entries()} == {6}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rowz": {}}, "Did you mean 'rows'"),
        ({"rows": {"a": {"metod": "source-only"}}}, "Did you mean 'method'"),
        ({"rows": {"a": {"method": "sorce-only"}}, "reference": None}, "row 'a', cell 'all': Unknown method"),
        ({"reference": "event"}, "got 'event'. Known: pictures, events"),
        ({"cells": {"all": {"vary": {"fold": [0]}}}}, "section.field"),
        ({"cells": {"all": {"vary": {"data.fold": 0}}}}, "section.field"),
        ({"cells": {"all": {"vary": {"data.folds": [0]}}}}, "data.fold"),
        ({"cells": {"all": {"rows": ["x"]}}}, "got 'x'"),
        ({"judge": [{"name": "a"}, {"name": "a", "window": "full"}]}, "a name of its own"),
        ({"rows": {"a, b": {"method": "source-only"}}, "reference": None}, "without commas"),
        ({"plugins": ["none.py"]}, "none.py, but there is none"),
        ({"base": {}}, "section `base:`"),
        ({"rows": {"a": {"adapt": True, "ignores": ["data.unlabelled"]}}}, "cannot ignore"),
        ({"rows": {"a": {"method": "kt", "ignores": "data.fold"}}}, "`ignores` of row 'a' to be a list"),
        ({"rows": {"a": {"method": "kt", "split": "vall"}}}, "got 'vall'"),
        ({"rows": {"a": {"method": "kt", "adapt": "no"}}}, "one of True, False, but got 'no'"),
        ({"base": {"data": [1]}}, "Expected `data` to be fields, or the name of an entry"),
        ({"judge": [{"window": "full"}]}, "Expected a `name`"),
        ({"judge": [{"name": "a", "window": "300"}]}, "one of full, saccade, first300, but got '300'"),
        ({"judge": [{"name": "a", "split": "foo"}]}, "got 'foo'"),
        ({"judge": {"name": "a"}}, "to be a list"),
        ({"cells": {"all": {"vary": ["data.fold"]}}}, "section.field"),
        ({"cells": {"all": {"vary": {"train.seed": ["a"]}}}}, "whole number from 0 up, but got 'a'"),
        ({"cells": {"all": {"vary": {"data.fold": [0, 0]}}}}, "each once, but got data.fold: [0, 0]"),
        ({"cells": {"all": {"set": 5}}}, "Expected `set` to be fields"),
        ({"cells": {"all": {"rows": "events"}}}, "`rows` of cell 'all' to be a list"),
        ({"quick": {"cells": ["most"]}}, "one of all, few, but got 'most'"),
        ({"quick": {"rows": ["most"]}}, "in quick, but got 'most'"),
        ({"targets": [{"row": "events"}]}, "`at_least` or `over`"),
        ({"targets": [{"at_least": 0.5}]}, "Expected a `row`"),
        ({"targets": [{"row": "events", "at_least": 0.5, "cell": "few"}]}, "few: labels per class 1"),
        ({"targets": [{"row": "events", "at_least": 0.5, "judge": "x"}]}, "one of whole, short, but got 'x'"),
        ({"targets": [{"row": "events", "at_least": "high"}]}, "a number, but got 'high'"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, said, written):
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        load_suite(written(**changes)).entries()


def test_the_quick_form_has_the_same_share_of_every_rows_steps(written):
    rows = {"short": {"method": "source-only"}, "long": {"method": "events-only", "train": {"steps": 90}}}
    path = written(rows=rows, reference=None, quick={"share": 0.1})
    steps = [
        {e.row.name: e.recipe.train.steps for e in load_suite(path, quick=q).entries()} for q in (False, True)
    ]
    assert (steps[0]["long"], steps[1]["long"]) == (90, 9)
    assert steps[1]["short"] == max(1, round(steps[0]["short"] * 0.1))
    with pytest.raises(ConfigError, match=r"`share` of quick of .* to be above 0 and at most 1, but got 2"):
        load_suite(written(quick={"share": 2}))


@pytest.mark.parametrize("path", shipped_suites(), ids=lambda path: path.stem)
def test_a_shipped_quick_form_is_short_and_of_equal_shares(path):
    full, quick = load_suite(path), load_suite(path, quick=True)
    whole = {(e.row.name, e.column.name, e.place): e.recipe.train.steps for e in full.entries()}
    shares = {e.recipe.train.steps / whole[e.row.name, e.column.name, e.place] for e in quick.entries()}
    assert max(shares) - min(shares) < 0.01
    assert sum({e.folder: e.recipe.train.steps for e in quick.entries()}.values()) < 5000


def test_runs_that_places_share_count_once(written, tmp_path):
    cells = {"labels": {"set": {"data": {"labels_per_class": 1}}, "vary": {"data.label_seed": [0, 1, 2]}}}
    suite = load_suite(written(cells=cells, quick={}))
    jobs = plan(suite, tmp_path / "out")
    fake_results(jobs, np.random.default_rng(0))
    results = Results.read(suite, jobs)
    shared, own = (results.value(row, "labels", "whole") for row in ("pictures", "events"))
    assert (len(shared.scores), shared.planned, len(own.scores)) == (1, 1, 3)
    assert score_text(shared) == f"{shared.mean:.3f} (1)"
    assert len(results.difference(own, shared).gains) == 3
    assert len(results.difference(shared, shared).gains) == 1


def test_names_of_any_kind_are_shown_as_they_are(written, tmp_path):
    rows = {0.5: {"method": "source-only"}, "_a $x^$ | b": {"method": "events-only"}}
    cells, targets = {"all": {"vary": {"train.seed": [0]}}}, [{"row": 0.5, "over": "_a $x^$ | b"}]
    for figure in ("points", "lines"):
        suite = load_suite(
            written(
                title=2024, rows=rows, cells=cells, targets=targets, reference=0.5, figure=figure, quick={}
            )
        )
        jobs = plan(suite, tmp_path / figure)
        fake_results(jobs, np.random.default_rng(0))
        write_all(Results.read(suite, jobs), tmp_path / figure)
        text = (tmp_path / figure / "table.md").read_text()
        assert text.startswith("# 2024\n")
        assert "| _a $x^$ \\| b | " in text
        assert "| 0.5 minus |" in text
        assert "(1) |\n| 0.5 |" not in text.partition("paired differences")[2].partition("##")[0]


def test_test_is_not_read_again_where_a_judge_reads_it(written, tmp_path):
    judges = [{"name": "val objects"}, {"name": "test objects", "split": "test"}]
    suite = load_suite(written(judge=judges))
    results = Results.read(suite, plan(suite, tmp_path, test=True))
    assert [results.splits(judge) for judge in suite.judges] == [["val"], ["test"]]


@pytest.mark.parametrize("repeats", [0, "x", 1.5])
def test_the_quick_form_repeats_at_least_once(repeats, written):
    with pytest.raises(ConfigError, match="`repeats` of quick to be a whole number from 1 up"):
        load_suite(written(quick={"repeats": repeats}), quick=True)


def test_an_unknown_suite_names_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"shipped suite: .*digits"):
        load_suite("digitz")


def test_another_name_replaces_a_section_and_the_same_name_does_not():
    base = {"model": {"name": "convnet", "separate_bn": True}, "train": {"steps": 5}}
    assert merge(base, {"model": "scnn"})["model"] == {"name": "scnn"}
    assert merge(base, {"model": {"name": "convnet", "width": 2}})["model"] == {
        "name": "convnet",
        "separate_bn": True,
        "width": 2,
    }
    assert merge(base, {"train": {"lr": 1}})["train"] == {"steps": 5, "lr": 1}
    assert base == {"model": {"name": "convnet", "separate_bn": True}, "train": {"steps": 5}}


def steps_of_student(recipe):
    """Optimiser steps less those of teacher and generators."""
    shares = [recipe.method.get("teacher_share", 0.0)]
    if recipe.method.get("bmr", True):
        shares.append(recipe.method.get("reconstruction_share", 0.0))
    return round(recipe.train.steps * np.prod(1 - np.array(shares)))


@pytest.mark.parametrize("path", shipped_suites(), ids=lambda path: path.stem)
def test_shipped_suites_hold_together_and_rows_share_the_budget(path):
    suite = load_suite(path)
    recipes = [entry.recipe for entry in suite.entries()]
    assert {recipe.train.threads for recipe in recipes} == {1}
    assert len({recipe.train.batch_size for recipe in recipes}) == 1
    of_all = {recipe.train.steps for recipe in recipes}
    of_students = {
        steps_of_student(recipe) for recipe in recipes if recipe.method["name"] != "reconstruct-then-run"
    }
    assert 1 in (len(of_all), len(of_students))
    assert load_suite(path, quick=True).entries()


def test_a_method_of_a_users_file_is_a_row(written, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from evlift.methods.base import METHODS\n"
        "from evlift.methods.baselines import SourceOnly\n\n\n"
        "@METHODS.register('mine')\n"
        "class Mine(SourceOnly):\n"
        "    '''Pictures alone.'''\n"
    )
    path = written(plugins=["mine.py"], rows={"mine": {"method": "mine"}}, reference=None)
    try:
        for _ in range(2):
            assert {e.recipe.method["name"] for e in load_suite(path).entries()} == {"mine"}
    finally:
        from evlift.methods import METHODS

        METHODS._entries.pop("mine", None)


def test_filters_choose_runs_and_refuse_unknown_names(written, tmp_path):
    jobs = plan(load_suite(written()), tmp_path)
    assert Filter()(jobs) == jobs
    assert {e.row.name for job in Filter(rows=["events"])(jobs) for e in job.entries} == {"events"}
    assert {j.entries[0].recipe.train.seed for j in Filter(seeds=[2])(jobs)} == {2}
    assert {
        j.entries[0].recipe.data["labels_per_class"]
        for j in Filter(labels=[0], methods=["events-only"])(jobs)
    } == {None}
    assert len(Filter(cells=["few"], rows=["events"])(jobs)) == 6
    with pytest.raises(ConfigError, match=r"Unknown row 'event'\. Known: events, pictures"):
        Filter(rows=["event"])(jobs)


# What was found


def test_means_deviations_and_paired_errors_agree_with_numpy_and_scipy(written, tmp_path):
    suite = load_suite(written())
    jobs = plan(suite, tmp_path)
    fake_results(jobs, np.random.default_rng(0))
    results = Results.read(suite, jobs)
    ours, theirs = (
        results.value(row, "few: labels per class 1", "short") for row in ("events", "pictures" + ADAPTED)
    )
    assert ours.mean == pytest.approx(np.mean(ours.scores))
    assert ours.deviation == pytest.approx(np.std(ours.scores, ddof=1))
    gain = results.difference(ours, theirs)
    expected = stats.ttest_rel(ours.scores, theirs.scores)
    assert gain.mean / gain.over_runs == pytest.approx(expected.statistic)
    a, b = (
        np.array([[said.right[f"val{i}"] for i in range(30)] for said in value.runs.values()])
        for value in (ours, theirs)
    )
    assert gain.over_recordings == pytest.approx(stats.sem((a - b).mean(axis=0)))
    assert difference_text(gain).endswith("(3)")
    assert score_text(ours) == f"{np.mean(ours.scores):.3f} ± {np.std(ours.scores, ddof=1):.3f} (3)"


def test_adapted_lines_are_compared_with_the_adapted_reference(written, tmp_path):
    adapts = {**SUITE["rows"]["events"], "adapt": True}
    suite = load_suite(written(rows={**SUITE["rows"], "events": adapts}))
    jobs = plan(suite, tmp_path)
    fake_results(jobs, np.random.default_rng(0))
    results, column = Results.read(suite, jobs), "few: labels per class 1"

    def minus(ours: str, theirs: str) -> float:
        found = (results.value(line, column, "short") for line in (ours, theirs))
        return results.difference(*found).mean

    for line, reference in (
        ("pictures", "events"),
        ("pictures" + ADAPTED, "events" + ADAPTED),
        ("events" + ADAPTED, "events"),
    ):
        assert results.reference_minus(line, column, "short").mean == minus(reference, line)
    assert minus("events", "pictures" + ADAPTED) != minus("events" + ADAPTED, "pictures" + ADAPTED)


def test_costs_of_networks_of_different_sizes_stand_apart(written, tmp_path):
    suite = load_suite(written())
    jobs = plan(suite, tmp_path)
    fake_results(jobs, np.random.default_rng(0))
    for job in jobs:
        if any(entry.column.name == "all" for entry in job.entries):
            path = job.folder / "result.json"
            result = json.loads(path.read_text())
            path.write_text(
                json.dumps({**result, "seconds": 8.0, "cost": {**result["cost"], "parameters": 30}})
            )
    results = Results.read(suite, jobs)
    assert [(one["parameters"], one["seconds"]) for one in results.spent("events")] == [(10, 2), (30, 8)]
    assert [one["parameters"] for one in results.spent("events", "all")] == [30]
    assert [row[:1] + row[4:5] for row in cost_table(results).rows if row[0] == "events"] == [
        ("events", "10"),
        ("events", "30"),
    ]


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(case):
    right, n = case
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_recordings_are_pooled_once_over_folds_and_seeds():
    runs = {
        (("data.fold", 0),): Said(0.5, "accuracy", {"a": 1, "b": 0}),
        (("data.fold", 1),): Said(1.0, "accuracy", {"c": 1, "d": 1}),
        (("data.fold", 0), ("train.seed", 1)): Said(0.0, "accuracy", {"a": 0, "b": 0}),
    }
    share, n, interval = Value(runs, 3).pooled
    assert (share, n) == (2.5 / 4, 4)
    assert interval == wilson(2.5, 4)
    assert pooled_text(Value(runs, 5)).endswith("(4 recordings, 3 of 5 runs)")


def test_masks_are_pooled_in_one_confusion_matrix():
    counts = [[[5, 1], [2, 4]], [[1, 0], [3, 9]]]
    masks = {(("data.fold", i),): Said(0.5, "mIoU", confusion=count) for i, count in enumerate(counts)}
    value = Value(masks, 2)
    assert value.pooled is None
    assert value.pooled_iou == pytest.approx((6 / 12 + 13 / 19) / 2)
    assert pooled_text(value) == "0.592 (2 runs)"
    assert pooled_text(Value({}, 2)) == "not run"


def test_what_was_not_run_is_said_not_to_have_been_run(written, tmp_path):
    suite = load_suite(
        written(cells={**SUITE["cells"], "more": {"rows": ["events"], "set": {"train": {"lr": 0.5}}}})
    )
    jobs = plan(suite, tmp_path)
    fake_results(jobs, np.random.default_rng(0), only=lambda e: e.column.name == "all" and e.place[0][1] == 1)
    failed = next(job for job in jobs if job.entries[0].column.name == "more")
    failed.folder.mkdir()
    (failed.folder / "log.txt").write_text("12:00:00 ValueError: what went wrong\n\n")
    failed.fail(1)
    results = Results.read(suite, jobs)
    paths = write_all(results, tmp_path)
    assert all(path.stat().st_size > 100 for path in paths)
    text = (tmp_path / "table.md").read_text()
    (value,) = results.value("events", "all", "whole").scores
    assert f"| events | {value:.3f} (1 of 2) | not run | not run | failed |" in text
    assert "| pictures | " in text
    assert text.count("| not run | not run | – |") >= 2
    assert "Failed: events · more: ValueError: what went wrong" in text
    assert "Not run: events · few: labels per class 1 · label seed 0, seed 0" in text
    assert f"{sum(job.done for job in jobs)} of {len(jobs)} runs are done." in text
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    found = json.loads((tmp_path / "table.json").read_text())
    assert len(rows) == len(found["cells"]) == 3 * 4 * 2
    assert [row["mean"] for row in rows] == [
        "" if c["mean"] is None else str(c["mean"]) for c in found["cells"]
    ]
    assert {run["state"] for run in found["runs"]} == {"done", "failed", "not run"}
    page = (tmp_path / "table.html").read_text()
    assert "data:image/png;base64," in page
    assert "what went wrong" in page
    assert "://" not in page


def test_results_of_another_recipe_do_not_count(written, tmp_path):
    jobs = plan(load_suite(written()), tmp_path)
    fake_results(jobs, np.random.default_rng(0))
    assert all(job.done for job in jobs)
    changed = plan(load_suite(written(base={**BASE, "train": {**BASE["train"], "lr": 0.5}})), tmp_path)
    assert not any(job.done for job in changed)
    (jobs[0].folder / "result.json").write_text('{"digest": "another"}')
    assert not jobs[0].done
    further = load_suite(written(judge=[*SUITE["judge"], {"name": "saccade", "window": "saccade"}]))
    assert not any(job.done for job in plan(further, tmp_path))


def test_targets_are_met_or_not_or_not_run(written, tmp_path):
    suite = load_suite(written())
    jobs = plan(suite, tmp_path)
    fake_results(jobs, np.random.default_rng(1), only=lambda entry: entry.column.name == "all")
    results = Results.read(suite, jobs)
    mean = results.value("events", "all", "whole").mean
    assert target_row(results, {"row": "events", "at_least": mean - 1e-9})[2] == "yes"
    assert target_row(results, {"row": "events", "at_least": mean + 1e-9})[2] == "no"
    gain = results.difference(*(results.value(row, "all", "whole") for row in ("events", "pictures")))
    over = {"row": "events", "over": "pictures"}
    assert target_row(results, {**over, "by": gain.mean + 1.5 * gain.over_runs})[2] == "no"
    assert target_row(results, {**over, "by": gain.mean + 1.5 * gain.over_runs, "errors": 2})[2] == "yes"
    assert target_row(results, {**over, "cell": "few: labels per class 2"})[2] == "not run"


def test_one_pair_has_no_error_over_runs():
    assert difference_text(Difference([0.1])) == "+0.100 (1)"
    assert difference_text(Difference([])) == "not run"


# Processes


class Watcher:
    """Notes what it is told."""

    def __init__(self):
        self.said, self.most = [], 0

    def ended(self, job, said):
        self.said.append((str(job), said))

    def draw(self, running, waiting):
        self.most = max(self.most, len(running))


@pytest.fixture
def scripted(written, tmp_path, monkeypatch):
    """Jobs whose processes run a line of Python with the job's folder as argument in place of a training."""
    jobs = plan(load_suite(written()), tmp_path)[:4]

    def set_line(line):
        def start(command, **options):
            return popen([sys.executable, "-c", line, command[-1]], **options)

        monkeypatch.setattr(running.subprocess, "Popen", start)
        return jobs

    popen = subprocess.Popen
    return set_line


def test_failed_runs_are_reported_and_the_others_go_on(scripted):
    jobs = scripted("import sys; print('12:34:56 no such thing', file=sys.stderr); sys.exit(3)")
    watcher = Watcher()
    outcome = Runner(2, watcher, pause=0.01).run(jobs)
    assert [said for _, said in outcome.failed] == ["no such thing"] * 4
    assert watcher.most == 2
    assert {job.failure for job in jobs} == {"no such thing"}
    assert outcome.done == outcome.left == []
    jobs[0].prepare()
    assert jobs[0].failure == ""


def test_a_process_that_leaves_no_result_has_failed(scripted):
    outcome = Runner(4, Watcher(), pause=0.01).run(scripted("pass"))
    assert len(outcome.failed) == 4
    assert outcome.failed[0][1] == "its process ended with 0"


STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGINT, {}); print('up', flush=True); time.sleep(60)"
)


@pytest.mark.parametrize("polite", [True, False])
def test_the_deadline_stops_processes_politely_then_firmly(scripted, monkeypatch, polite):
    monkeypatch.setattr(running, "PATIENCE", 1.0)
    jobs = scripted(STUBBORN.format("lambda *_: sys.exit(130)" if polite else "signal.SIG_IGN"))
    watcher = Watcher()
    start = time.monotonic()
    outcome = Runner(2, watcher, seconds=1.5, pause=0.01).run(jobs)
    assert time.monotonic() - start < 20
    assert not outcome.interrupted
    assert {*outcome.left} == {*jobs}
    assert outcome.failed == []
    assert all(said == "stopped" for _, said in watcher.said)


def test_a_training_whose_starter_is_gone_stops_itself(monkeypatch):
    reported, sent = [], []
    monkeypatch.setattr(worker.os, "kill", lambda *given: sent.append(given))
    tell = worker.watched(lambda *given: reported.append(given))
    tell(1, 10, {})
    assert sent == []
    monkeypatch.setattr(worker.os, "getppid", lambda: -1)
    tell(2, 10, {"loss": 1.0})
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert reported == [(1, 10, {}), (2, 10, {"loss": 1.0})]


def test_two_commands_do_not_share_a_folder(tmp_path):
    with alone(tmp_path), pytest.raises(EvliftError, match="Another command works in"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_the_live_table(written, tmp_path):
    suite = load_suite(written())
    jobs = plan(suite, tmp_path)
    fake_results(jobs[:1], np.random.default_rng(0))
    screen = io.StringIO()
    with Board(Console(file=screen, force_terminal=True, width=140), suite, jobs) as board:
        board.ended(jobs[0], "done in 3 s")
        board.draw([jobs[1]], 7)
    text = screen.getvalue()
    assert f"{jobs[0]}: done in 3 s; full 0." in text
    assert f"▸ {jobs[1]}" in text
    assert "7 waiting" in text
    assert "(1 of 2)" in text


# The command, from end to end


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the quick form of the suite was run by the command."""
    folder = tmp_path_factory.mktemp("bench")
    rows = {**SUITE["rows"], "image": {"method": "image-model", "split": "source_val"}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**SUITE, "rows": rows}, sort_keys=False))
    code = main(
        ["bench", str(folder / "tiny.yaml"), "--quick", "--out", str(folder / "out"), "--workers", "2"]
    )
    assert code == 0
    return folder


def test_the_command_trains_judges_and_writes_tables(finished):
    text = (finished / "out" / "table.md").read_text()
    assert "3 of 3 runs are done." in text
    assert "image: judged on source_val." in text
    assert "| image | – |" in text
    assert "not run" not in text
    (events,) = (finished / "out" / "runs").glob("events-only-*")
    result = json.loads((events / "result.json").read_text())
    assert set(result["judged"]) == {"val/full", "val/first300"}
    said = result["judged"]["val/full"]
    assert said["score"] == pytest.approx(np.mean(said["right"]))
    assert np.trace(said["confusion"]) == sum(said["right"])
    assert len(said["right"]) == len(result["names"]["val"]) == 20
    assert (result["row"], result["cell"], result["place"]) == ("events", "all", {"data.fold": 0})
    assert result["steps"] == 4
    assert result["cost"]["parameters"] > 1000
    assert not (events / "last.ckpt").exists()
    (image,) = (finished / "out" / "runs").glob("image-model-*")
    seen = json.loads((image / "result.json").read_text())
    assert set(seen["judged"]) == {"source_val/full", "source_val/first300"}
    assert seen["cost"]["macs"] > 0
    (pictures,) = (finished / "out" / "runs").glob("source-only-*")
    judged = json.loads((pictures / "result.json").read_text())["judged"]
    assert {"val/full, adapted", "val/first300, adapted"} < set(judged)
    from evlift import api

    found = api.evaluate(pictures, window="first300", adapt=True)
    assert found.score == judged["val/first300, adapted"]["score"]


def test_a_second_call_starts_nothing_and_test_is_judged_from_saved_weights(finished, monkeypatch, capsys):
    out = finished / "out"
    command = ["bench", str(finished / "tiny.yaml"), "--quick", "--out", str(out), "--workers", "2"]

    def refuse(job):
        raise AssertionError(f"{job} was started")

    with monkeypatch.context() as patch:
        patch.setattr(running, "launch", refuse)
        assert main(command) == 0
        assert "0 of 3 runs to go" in capsys.readouterr().out
        assert main([*command, "--table-only"]) == 0
        assert main([*command, "--test", "--table-only"]) == 0
        assert "test: score, pooled" in (out / "table.md").read_text()
        assert main([*command, "--list"]) == 0
        assert capsys.readouterr().out.count("done    ") == 3
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")}
    assert len(weights) == 3
    assert main([*command, "--test", "--rows", "events"]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")} == weights
    text = (out / "table.md").read_text()
    assert "(20 recordings)" in text
    assert "Not run: pictures" in text


def test_wrong_arguments_exit_with_2(written, capsys):
    path = str(written())
    assert main(["bench"]) == 2
    assert "evlift bench digits --quick" in capsys.readouterr().err
    assert main(["bench", path, "--rows", "nothing"]) == 2
    assert "Known: events, pictures" in capsys.readouterr().err
    for wrong in (["--workers", "0"], ["--minutes", "x"], ["--seeds", "a"]):
        with pytest.raises(SystemExit) as left:
            main(["bench", path, *wrong])
        assert left.value.code == 2
    assert main(["bench", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(shipped_suites())
    assert any(line.startswith("digits ") for line in listed)


def test_ctrl_c_stops_the_trainings_with_their_checkpoints(written, tmp_path):
    quick = {
        "rows": ["events"],
        "set": {"train": {"steps": 100_000, "eval_every": 0, "checkpoint_every": 100_000}},
    }
    command = [
        sys.executable,
        "-m",
        "evlift",
        "bench",
        str(written(quick=quick)),
        "--quick",
        "--cells",
        "all",
    ]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    logs = tmp_path / "out" / "runs"
    while process.poll() is None and not any("step" in log.read_text() for log in logs.glob("*/log.txt")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert said.strip() == "evlift: stopped with 1 run to go; the same command goes on from there"
    (folder,) = logs.iterdir()
    assert (folder / "last.ckpt").exists()
    assert "goes on from its checkpoint" in (folder / "log.txt").read_text()
    assert not (folder / "failed.txt").exists()
