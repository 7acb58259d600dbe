"""`evlift tune`: search spaces, targets, fair and resumable trials, pruning, and what is left in the end."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from bench_suites import BASE, write_suite
from evlift.bench.suite import load_suite
from evlift.cli import main
from evlift.config import parse_recipe
from evlift.errors import ConfigError, EvliftError
from evlift.tuning import worker
from evlift.tuning.output import rows_of, write_all
from evlift.tuning.space import parse_space, with_values
from evlift.tuning.study import best_trial, counted, open_study, plan
from evlift.tuning.targets import Target, folder_of, is_suite, of_recipe, of_suite
from helpers import tiny

SPACE = {"train.lr": [0.001, 0.1, "log"], "method.tet": [True, False], "train.warmup": [0, 3]}
ROWS = {
    "pictures": {"method": "source-only", "ignores": ["data.labels_per_class", "data.label_seed"]},
    "TMKT": {"method": {"name": "tmkt", "r_m": 0.4}},
}


def target(space=SPACE, **changes):
    recipe = parse_recipe(tiny(**changes))
    return Target("mine", recipe, parse_space(space, "here"))


class Drawn:
    """Plays an Optuna trial that notes what it is asked for."""

    def __init__(self):
        self.asked = {}

    def suggest_float(self, name, low, high, *, log):
        self.asked[name] = ("float", low, high, log)
        return low

    def suggest_int(self, name, low, high, *, log):
        self.asked[name] = ("int", low, high, log)
        return low

    def suggest_categorical(self, name, choices):
        self.asked[name] = ("choice", *choices)
        return choices[0]


def test_a_search_space_says_ranges_logarithms_whole_numbers_and_choices():
    space = parse_space({**SPACE, "train.batch_size": {"choices": [4, 8]}, "model.name2": ["a", "b"]}, "here")
    trial = Drawn()
    assert [d.suggest(trial) for d in space] == [0.001, True, 0, 4, "a"]
    assert trial.asked == {
        "train.lr": ("float", 0.001, 0.1, True),
        "method.tet": ("choice", True, False),
        "train.warmup": ("int", 0, 3, False),
        "train.batch_size": ("choice", 4, 8),
        "model.name2": ("choice", "a", "b"),
    }
    lr, tet = space[0], space[1]
    assert [lr.holds(value) for value in (0.001, 0.1, 0.2, None)] == [True, True, False, False]
    assert tet.holds(False)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "Expected a search space"),
        ([1], "Expected a search space"),
        ({"lr": [0, 1]}, "a field of a recipe such as train.lr"),
        ({"model.name": ["a", "b"]}, "a field of a recipe such as train.lr"),
        ({"train.lr": [1]}, r"Expected \[low, high\]"),
        ({"train.lr": [1, 2, "lin"]}, r"Expected \[low, high\]"),
        ({"train.lr": {"choices": []}}, r"Expected \[low, high\]"),
        ({"train.lr": {"low": 1}}, r"Expected \[low, high\]"),
        ({"train.lr": [0.2, 0.1]}, "Expected low < high"),
        ({"train.lr": [0, 0.1, "log"]}, "low > 0 for a log"),
    ],
)
def test_spaces_that_are_none_are_refused(said, message):
    with pytest.raises(ConfigError, match=message):
        parse_space(said, "here")


def test_values_are_checked_as_a_recipe():
    recipe = parse_recipe(tiny())
    assert with_values(recipe, {"train.lr": 0.5, "method.tet": False}).method["tet"] is False
    with pytest.raises(ConfigError):
        with_values(recipe, {"train.lr": "fast"})


def test_a_recipe_with_its_space_and_a_space_in_a_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**tiny(), "tune": SPACE}))
    (found,) = of_recipe(path, None)
    assert {d.field for d in found.space} == set(SPACE)
    assert found.recipe == parse_recipe(tiny()) == parse_recipe(path)
    (tmp_path / "space.yaml").write_text("train.lr: [0.1, 0.2]")
    assert [str(d) for d in of_recipe(path, tmp_path / "space.yaml")[0].space] == ["train.lr in [0.1, 0.2]"]
    (tmp_path / "space.yaml").write_text("method.r_m: [0.1, 0.2]")
    with pytest.raises(ConfigError, match=r"method.r_m: 'events-only' has no such field"):
        of_recipe(path, tmp_path / "space.yaml")
    with pytest.raises(ConfigError, match=r"search space at .*none.yaml, but there is none"):
        of_recipe(path, tmp_path / "none.yaml")
    path.write_text(yaml.safe_dump(tiny()))
    with pytest.raises(ConfigError, match="Expected a search space: a section `tune:`"):
        of_recipe(path, None)


def tuned_suite(tmp_path, **changes):
    cells = {
        "folds": {"vary": {"data.fold": [0, 1]}},
        "few": {
            "vary": {"data.label_seed + train.seed": [3, 4]},
            "set": {"method": {"r_m": 0.1}},
            "rows": ["TMKT"],
        },
    }
    tune = {"train.lr": [0.001, 0.1, "log"], "method.r_m": [0.1, 0.9]}
    kept = {"rows": ROWS, "cells": cells, "reference": None, "tune": tune, "quick": {}}
    return write_suite(tmp_path / "suite.yaml", **{**kept, **changes})


def test_rows_of_a_suite_get_the_fields_that_mean_something_to_them(tmp_path):
    path = tuned_suite(tmp_path)
    assert is_suite(path)
    assert is_suite("digits")
    assert not is_suite("tmkt-digits")
    pictures, tmkt = of_suite(path, None)
    assert [d.field for d in pictures.space] == ["train.lr"]
    assert pictures.left_out == {"method.r_m": "'source-only' has no such field"}
    assert [d.field for d in tmkt.space] == ["train.lr", "method.r_m"]
    assert (tmkt.recipe.data["fold"], tmkt.recipe.train.seed) == (0, 0)
    (few,) = of_suite(path, None, cell="few")
    assert few.recipe.train.seed == 3
    assert few.left_out == {"method.r_m": "the cell 'few' sets it"}
    with pytest.raises(ConfigError, match=r"Unknown row 'KT'. Known: pictures, TMKT"):
        of_suite(path, None, rows=["KT"])
    with pytest.raises(ConfigError, match=r"Unknown cell 'all'. Known: folds, few"):
        of_suite(path, None, cell="all")
    with pytest.raises(ConfigError, match="run in the cell 'few', but got 'pictures'"):
        of_suite(path, None, cell="few", rows=["pictures"])
    only = tuned_suite(tmp_path, tune={"method.r_m": [0.1, 0.9]})
    with pytest.raises(ConfigError, match="means something to the row 'pictures', but got none"):
        of_suite(only, None)


class Trainings:
    """Plays api.train: the score is the larger, the nearer the rate is to 0.01; what happens is scripted by trial."""

    def __init__(self, monkeypatch):
        self.recipes, self.happens = [], {}
        monkeypatch.setattr("evlift.api.train", self)

    def __call__(self, recipe, folder, report):
        number = len(self.recipes)
        self.recipes.append(recipe)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "last.ckpt").touch()
        score = 1 - abs(np.log10(recipe.train.lr) + 2)
        happens = self.happens.get(number, score)
        if isinstance(happens, Exception | KeyboardInterrupt):
            raise happens
        for step in (2, 4):
            report(step, 6, {"val": happens})
        self.score = score
        return Trained(folder, score)


class Trained:
    def __init__(self, folder, score):
        self.resume, self.score = folder / "last.ckpt", score

    def read_record(self):
        return {"val": self.score, "seconds": 2.0, "judged_on": "source_val"}


def work(jobs):
    """Run trials as their processes would; returns the exit codes."""
    codes = []
    for job in jobs:
        job.prepare()
        codes.append(worker.main(job.folder))
    return codes


def test_the_recipe_itself_is_tried_first_then_others_and_the_best_is_kept(tmp_path, monkeypatch):
    trainings, mine = Trainings(monkeypatch), target(train={"lr": 0.05})
    jobs = plan([mine], tmp_path, 5)
    assert work(jobs) == [0] * 5
    assert all(job.done for job in jobs)
    assert trainings.recipes[0].digest == mine.recipe.digest
    assert len({recipe.digest for recipe in trainings.recipes}) > 3
    rows = rows_of("mine", tmp_path / "mine")
    scores = [row["score"] for row in rows]
    (best,) = [row for row in rows if row["best"]]
    assert best["score"] == max(s for s, r in zip(scores, rows, strict=True) if r["state"] == "complete")
    assert {row["judged_on"] for row in rows if row["state"] == "complete"} == {"source_val"}
    write_all([mine], tmp_path)
    chosen = parse_recipe(tmp_path / "mine" / "best.yaml")
    assert chosen.train.lr == best["values"]["train.lr"]
    assert (tmp_path / "mine" / "best.yaml").read_text().startswith("# mine: best of 5 trials, ")
    assert f"| {best['trial']} | complete, best |" in (tmp_path / "trials.md").read_text()
    assert json.loads((tmp_path / "trials.json").read_text()) == rows
    assert plan([mine], tmp_path, 5) == []
    assert [job.number for job in plan([mine], tmp_path, 7)] == [5, 6]


def test_the_same_seed_draws_the_same_values(tmp_path, monkeypatch):
    drawn = []
    for name in ("one", "two"):
        trainings = Trainings(monkeypatch)
        work(plan([target()], tmp_path / name, 4, seed=3))
        drawn.append([recipe.digest for recipe in trainings.recipes])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 2


def test_bad_trials_are_pruned_and_their_runs_deleted(tmp_path, monkeypatch):
    trainings = Trainings(monkeypatch)
    trainings.happens = {5: -100.0}
    work(plan([target()], tmp_path, 6))
    study = open_study(tmp_path / "mine")
    pruned = study.trials[5]
    assert pruned.state.name == "PRUNED"
    assert rows_of("mine", tmp_path / "mine")[5]["score"] == -100.0
    assert not (tmp_path / "mine" / "runs" / pruned.user_attrs["run"]).exists()
    assert len(counted(study)) == 6


def test_interrupted_trials_are_tried_again_with_their_values_and_count_once(tmp_path, monkeypatch):
    trainings = Trainings(monkeypatch)
    trainings.happens = {1: KeyboardInterrupt()}
    jobs = plan([target()], tmp_path, 2)
    assert work(jobs) == [0, 130]
    assert not jobs[1].done
    (again,) = plan([target()], tmp_path, 2)
    assert work([again]) == [0]
    assert trainings.recipes[2].digest == trainings.recipes[1].digest
    trials = open_study(tmp_path / "mine").trials
    assert trials[2].user_attrs["run"] == trials[1].user_attrs["run"]
    assert len(counted(open_study(tmp_path / "mine"))) == 2
    open_study(tmp_path / "mine").ask()  # a process that was killed leaves a running trial
    (last,) = plan([target()], tmp_path, 3)
    assert work([last]) == [0]
    assert len(counted(open_study(tmp_path / "mine"))) == 3


def test_trials_of_the_same_values_have_folders_of_their_own(tmp_path, monkeypatch):
    Trainings(monkeypatch)
    twice = target(space={"method.tet": {"choices": [True]}})
    work(plan([twice], tmp_path, 2))
    study = open_study(tmp_path / "mine")
    assert study.trials[0].params == study.trials[1].params
    assert len({trial.user_attrs["run"] for trial in study.trials}) == 2


def test_trials_judged_otherwise_are_not_gone_on_with(tmp_path, monkeypatch):
    Trainings(monkeypatch)
    work(plan([target()], tmp_path, 1))
    with pytest.raises(ConfigError, match="search space and criterion, but it holds others"):
        plan([target()], tmp_path, 2, criterion="val")


def test_a_training_that_diverges_is_a_trial_that_failed(tmp_path, monkeypatch):
    trainings = Trainings(monkeypatch)
    trainings.happens = {0: EvliftError("The loss became nan")}
    assert work(plan([target()], tmp_path, 2)) == [0, 0]
    first, second = rows_of("mine", tmp_path / "mine")
    assert (first["state"], first["failed"]) == ("fail", "The loss became nan")
    assert second["best"]
    assert best_trial(open_study(tmp_path / "mine")).number == 1


def test_targets_take_turns_and_another_space_needs_another_folder(tmp_path):
    targets = of_suite(tuned_suite(tmp_path), None)
    jobs = plan(targets, tmp_path / "out", 2)
    assert [str(job) for job in jobs] == [
        "pictures · trial 1",
        "TMKT · trial 1",
        "pictures · trial 2",
        "TMKT · trial 2",
    ]
    with pytest.raises(ConfigError, match="but it holds others"):
        plan([target({"train.lr": [0.1, 0.2]})], tmp_path / "out", 2) and plan(
            [target()], tmp_path / "out", 2
        )


def test_evaluations_on_the_way_are_added_where_they_decide_nothing():
    last = parse_recipe(tiny(train={"eval_every": 0, "keep": "last", "steps": 50}))
    assert worker._evaluated(last).train.eval_every == 10
    best = parse_recipe(tiny(train={"eval_every": 0, "steps": 50}))
    assert worker._evaluated(best) == best


def test_a_tuned_suite_has_the_best_values_and_says_how_many_trials_there_were(tmp_path, monkeypatch):
    Trainings(monkeypatch)
    path = tuned_suite(tmp_path)
    targets = of_suite(path, None)
    work(plan(targets, tmp_path / "out", 3))
    write_all(targets, tmp_path / "out", path)
    tuned = load_suite(tmp_path / "out" / "tuned.yaml")
    assert {row.name: row.trials for row in tuned.rows} == {"pictures": 3, "TMKT": 3}
    rows = [row for each in targets for row in rows_of(each.name, tmp_path / "out" / each.folder)]
    best = {row["target"]: row["values"] for row in rows if row["best"]}
    tmkt = next(e.recipe for e in tuned.entries() if e.row.name == "TMKT" and e.column.name == "folds")
    assert (tmkt.train.lr, tmkt.method["r_m"]) == (best["TMKT"]["train.lr"], best["TMKT"]["method.r_m"])
    assert tmkt.train.steps == BASE["train"]["steps"]
    pictures = next(e.recipe for e in tuned.entries() if e.row.name == "pictures")
    assert pictures.train.lr == best["pictures"]["train.lr"]


def test_rows_tuned_one_after_the_other_are_all_in_the_tuned_suite(tmp_path, monkeypatch):
    Trainings(monkeypatch)
    path = tuned_suite(tmp_path)
    for name in ROWS:
        targets = of_suite(path, None, rows=[name])
        work(plan(targets, tmp_path / "out", 2))
        write_all(targets, tmp_path / "out", path)
    assert {row.trials for row in load_suite(tmp_path / "out" / "tuned.yaml").rows} == {2}
    assert {row["target"] for row in json.loads((tmp_path / "out" / "trials.json").read_text())} == set(ROWS)


def test_rows_have_folders_of_their_own():
    names = ["A B", "A/B", "A-B", "..", "$", "TMKT"]
    folders = [folder_of(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[-1] == "TMKT"
    assert all(folder.strip(".") and "/" not in folder for folder in folders)


def test_numbers_that_yaml_reads_as_words_are_numbers(tmp_path):
    (tmp_path / "space.yaml").write_text("train.lr: [1e-4, 1e-2, log]\ntrain.weight_decay: [1e-4, 1e-3]")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny()))
    (found,) = of_recipe(path, tmp_path / "space.yaml")
    assert [str(d) for d in found.space] == [
        "train.lr in [0.0001, 0.01] (log)",
        "train.weight_decay in [0.0001, 0.001]",
    ]


@pytest.mark.parametrize("said", ["train.batch_size: [4, 8.5]", "train.lr: [-.inf, 1]", "method.tet: [a, b]"])
def test_values_that_no_training_can_take_are_refused_before_the_first_trial(said, tmp_path):
    (tmp_path / "space.yaml").write_text(said)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny()))
    with pytest.raises(ConfigError, match=said.partition(":")[0]):
        of_recipe(path, tmp_path / "space.yaml")


def test_a_search_that_finds_nothing_has_failed(tmp_path, monkeypatch, capsys):
    path = tmp_path / "recipe.yaml"
    space = {"train.lr": [0.001, 0.1, "log"]}
    path.write_text(
        yaml.safe_dump({**tiny(method={"name": "tmkt"}, model={"name": "convnet"}), "tune": space})
    )
    assert main(["tune", str(path), "--trials", "1", "--workers", "1", "--out", str(tmp_path / "out")]) == 1
    assert "None of 1 trial of recipe ran to its end: " in capsys.readouterr().err
    assert "fail: " in (tmp_path / "out" / "trials.md").read_text()


def test_the_command_from_end_to_end(tmp_path, capsys):
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe = tiny(train={"steps": 4, "eval_every": 2})
    path.write_text(yaml.safe_dump({**recipe, "tune": {"train.lr": [0.001, 0.1, "log"]}}))
    command = ["tune", str(path), "--trials", "2", "--workers", "2", "--out", str(out)]
    assert main(command) == 0
    assert "2 trials to go, 2 at a time" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["state"], row["failed"]) for row in rows] == [("complete", None)] * 2
    assert {row["judged_on"] for row in rows} == {"val"}
    from evlift import api

    best = next(row for row in rows if row["best"])
    digest = parse_recipe(out / "recipe" / "best.yaml").digest
    run = out / "recipe" / "runs" / f"{best['trial']:03}-{digest}"
    assert api.evaluate(run).score == pytest.approx(best["score"])


def test_wrong_arguments_exit_with_2(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**tiny(), "tune": SPACE}))
    assert main(["tune", str(path), "--rows", "TMKT"]) == 2
    assert "Expected a suite for --rows" in capsys.readouterr().err
    assert main(["tune", "nothing"]) == 2
    assert "No recipe at nothing" in capsys.readouterr().err
