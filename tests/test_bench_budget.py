"""One budget for all rows, rows and methods of a user's own, paired tests, energy and time steps in the tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from bench_suites import fake_results, write_suite
from evlift.bench import budget as budgets
from evlift.bench.budget import Budget, time_step
from evlift.bench.jobs import plan
from evlift.bench.output import score_figure
from evlift.bench.results import Difference, Results, energy
from evlift.bench.suite import load_suite
from evlift.bench.tables import cell_table, paired_text, records, step_table, tables
from evlift.cli import main
from evlift.config import parse_recipe
from evlift.errors import ConfigError
from helpers import tiny

MINE = """
from evlift.methods.base import METHODS
from evlift.methods.baselines import SourceOnly


@METHODS.register("mine")
class Mine(SourceOnly):
    '''Pictures alone.'''
"""


@pytest.fixture
def path(tmp_path):
    return write_suite(tmp_path / "tiny.yaml")


@pytest.mark.parametrize(
    ("text", "steps"), [("steps=77", 77), ("samples=800", 100), ("samples=801", 100), ("samples=1", 1)]
)
def test_a_budget_gives_every_row_the_same_and_leaves_the_rest(text, steps):
    recipe = parse_recipe(tiny(train={"batch_size": 8}))
    cut = Budget.parse(text)(recipe)
    assert cut.train.steps == steps
    ours, theirs = cut.to_dict(), recipe.to_dict()
    del ours["train"]["steps"], theirs["train"]["steps"]
    assert ours == theirs


def test_seconds_become_steps_by_a_time_that_is_measured_once(tmp_path):
    asked = []

    def measure(recipe):
        asked.append(recipe.digest)
        return 0.25 if recipe.method["name"] == "kt" else 0.1

    def budget():
        return Budget("seconds", 10.0, tmp_path, measure)

    kt, events = (parse_recipe(tiny(method={"name": name})) for name in ("kt", "events-only"))
    assert [budget()(recipe).train.steps for recipe in (kt, events, kt)] == [40, 100, 40]
    assert asked == [kt.digest, events.digest]
    assert json.loads((tmp_path / "seconds-a-step.json").read_text()) == {kt.digest: 0.25, events.digest: 0.1}


def test_the_time_of_a_step_is_the_slope_between_two_trainings(monkeypatch):
    trained = []

    class Trained:
        def __init__(self, steps):
            self.steps = steps

        def read_record(self):
            return {"seconds": 3.0 + 0.2 * self.steps}

    def train(recipe, folder):
        trained.append(recipe.train)
        return Trained(recipe.train.steps)

    monkeypatch.setattr("evlift.api.train", train)
    assert time_step(parse_recipe(tiny())) == pytest.approx(0.2)
    assert [options.steps for options in trained] == list(budgets.TRIAL_STEPS)
    assert {options.eval_every for options in trained} == {0}


@pytest.mark.parametrize(
    "text", ["500", "steps", "steps=0", "steps=1.5", "hours=2", "seconds=-1", "seconds=x"]
)
def test_other_budgets_are_refused(text):
    with pytest.raises(ConfigError, match="steps=500, samples=20000 or seconds=60"):
        Budget.parse(text)


def test_the_command_cuts_all_runs_and_the_tables_say_so(path, tmp_path, capsys):
    command = ["bench", str(path), "--out", str(tmp_path / "out"), "--budget", "steps=9"]
    assert main([*command, "--table-only"]) == 0
    assert "- Budget of every run: 9 steps." in (tmp_path / "out" / "table.md").read_text()
    capsys.readouterr()
    assert main(["bench", str(path), "--budget", "hours=1"]) == 2
    assert "Expected a budget such as" in capsys.readouterr().err


def test_a_users_method_is_a_row_of_every_cell_of_any_suite(tmp_path, capsys):
    from evlift.methods import METHODS

    (tmp_path / "mine.py").write_text(MINE)
    plugin = ["--plugin", str(tmp_path / "mine.py")]
    try:
        command = ["bench", "digits-labels", *plugin, "--add-row", "ours=mine", "--rows", "ours", "--list"]
        assert main(command) == 0
        said = capsys.readouterr().out
        assert all(f"ours · {column}" in said for column in ("k = 1", "k = 5", "k = 20", "all labels"))
        row = "slow={method: mine, train: {lr: 0.001}}"
        assert main(["bench", "digits-ablation", *plugin, "--add-row", row, "--rows", "slow", "--list"]) == 0
        assert capsys.readouterr().out.count("mine-") == 3
        suite = load_suite("digits-labels", more_rows={"again": "tmkt"})
        again = [entry.recipe.method for entry in suite.entries() if entry.row.name == "again"]
        assert {method["r_m"] for method in again} == {0.1, 0.2, 0.5}
    finally:
        METHODS._entries.pop("mine", None)


def test_an_added_row_is_in_cells_and_quick_forms_that_name_their_rows(tmp_path):
    cells = {"few": {"rows": ["events"]}}
    path = write_suite(
        tmp_path / "t.yaml", cells=cells, quick={"rows": ["events"]}, rows={"events": {"method": "kt"}}
    )
    for quick in (False, True):
        suite = load_suite(path, quick=quick, more_rows={"more": "tmkt"})
        assert {entry.row.name for entry in suite.entries()} == {"events", "more"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("events=kt", "a new name for a further row"),
        ("kt", "--add-row NAME=METHOD"),
        ("=kt", "--add-row NAME=METHOD"),
        ("x=[1]", "--add-row NAME=METHOD"),
        ("x={a", "YAML behind the name"),
        ("x={metod: kt}", "Did you mean 'method'"),
        ("x=nothing", "Unknown method"),
    ],
)
def test_rows_that_are_none_are_refused(row, said, path, capsys):
    assert main(["bench", str(path), "--add-row", row, "--list"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("idle", ["--list", "--table-only"])
def test_a_budget_of_seconds_measures_nothing_where_nothing_is_run(idle, tmp_path, capsys):
    path = write_suite(tmp_path / "tiny.yaml")
    command = ["bench", str(path), "--budget", "seconds=5", "--out", str(tmp_path / "out"), idle]
    assert main(command) == 2
    assert "--list and --table-only run nothing" in capsys.readouterr().err
    assert not (tmp_path / "out" / "seconds-a-step.json").exists()


@pytest.mark.parametrize("code", ["1 / 0", "import no_such_module", "def"])
def test_a_plugin_that_does_not_run_is_refused_each_time(code, tmp_path, capsys):
    (tmp_path / "broken.py").write_text(code)
    path = write_suite(tmp_path / "tiny.yaml")
    for _ in range(2):
        assert main(["bench", str(path), "--plugin", str(tmp_path / "broken.py"), "--list"]) == 2
        assert "broken.py to run as a plugin, but: " in capsys.readouterr().err


def test_paired_tests_agree_with_scipy_on_the_raw_values():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(5) + 0.2, rng.random(5)
    each = rng.choice([-1 / 3, 0.0, 0.5, 1.0], 18)
    gain = Difference(list(ours - theirs), list(each))
    assert gain.p_over_runs == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    flipped = stats.permutation_test(
        (each[each != 0],), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert gain.p_over_recordings == pytest.approx(flipped.pvalue)
    differ = int((each != 0).sum())
    assert paired_text(gain) == (
        f"{gain.p_over_runs:.3f} over 5 runs, {gain.p_over_recordings:.3f} over {differ} of 18 recordings"
    )


def test_gains_that_are_equal_but_for_rounding_are_not_tested():
    gain = Difference([0.975 - 0.97, 0.98 - 0.975, 0.965 - 0.96], [0, 1, 0])
    assert np.isnan(gain.p_over_runs)


def test_one_run_is_tested_by_mcnemar():
    gain = Difference([0.1], [1] * 8 + [-1] * 2 + [0] * 40)
    assert gain.p_over_recordings == pytest.approx(2 * sum(stats.binom.pmf(k, 10, 0.5) for k in (0, 1, 2)))
    assert np.isnan(gain.p_over_runs)
    assert paired_text(gain) == "0.109 over 10 of 50 recordings"


def test_folds_that_judge_each_recording_once_are_tested_by_mcnemar():
    gain = Difference([0.1, 0.2, 0.0, 0.1, 0.1], [1] * 7 + [-1] + [0] * 40)
    assert gain.p_over_recordings == pytest.approx(stats.binomtest(1, 8).pvalue)


def test_nothing_to_test_says_so():
    assert paired_text(Difference([])) == "not run"
    assert paired_text(Difference([0.0, 0.0, 0.0], [0.0] * 5)) == "–"


def test_energy_trials_tests_and_steps_are_in_the_tables(tmp_path):
    rows = {"pictures": {"method": "source-only"}, "events": {"method": "events-only", "trials": 12}}
    suite = load_suite(write_suite(tmp_path / "tiny.yaml", rows=rows))
    jobs = plan(suite, tmp_path)
    fake_results(jobs, np.random.default_rng(0))
    results = Results.read(suite, jobs)
    text = "\n".join(table.markdown() for table in tables(results))
    assert "| events | 6 | 48 | 2 | 10 | 20 | 0 | 0 | 12 |" in text
    assert "paired tests against events, two-sided p" in text
    assert energy({"macs": 1e6, "synops": 2e6})["energy_nj"] == pytest.approx(4600 + 1800)
    assert energy({"error": "x"}) == {"error": "x"}
    steps = step_table(results, suite.judges[0])
    assert steps.header == ("row", "in", "t = 1", "t = 2")
    assert steps.rows[0] == ("pictures", "all", "0.250", "0.500")
    flat = next(one for one in records(results) if one["row"] == "pictures")
    assert flat["trials"] is None
    assert 0 < flat["p_over_recordings"] <= 1
    assert flat["p_over_runs"] is None


def test_what_a_column_adds_to_the_reference_cell(tmp_path):
    path = write_suite(tmp_path / "tiny.yaml", reference_cell="few: labels per class 1")
    suite = load_suite(path)
    jobs = plan(suite, tmp_path)
    fake_results(jobs, np.random.default_rng(0))
    results = Results.read(suite, jobs)
    table = cell_table(results, suite.judges[0], "val")
    assert table.header == ("row", "all", "few: labels per class 2")
    one, two = (results.value("events", f"few: labels per class {k}", "whole").scores for k in (1, 2))
    row = next(row for row in table.rows if row[0] == "events")
    assert row[1] == "not run"  # no place in common
    assert row[2].startswith(f"{np.mean(two) - np.mean(one):+.3f}, s.e. ")
    assert f"; p {stats.ttest_rel(two, one).pvalue:.3f} over 3 runs" in row[2]
    assert table in tables(results)
    with pytest.raises(ConfigError, match="reference_cell"):
        load_suite(write_suite(tmp_path / "tiny.yaml", reference_cell="most"))


def test_a_figure_of_curves_has_a_line_for_every_row(tmp_path):
    suite = load_suite(write_suite(tmp_path / "tiny.yaml", figure="lines"))
    jobs = plan(suite, tmp_path)
    fake_results(jobs, np.random.default_rng(0))
    results = Results.read(suite, jobs)
    axes = score_figure(results).axes
    assert [axis.get_title() for axis in axes] == ["whole", "short"]
    shown = {box.get_label(): box.lines[0].get_ydata() for box in axes[1].containers}
    assert list(shown) == ["pictures", "pictures + adapted statistics", "events"]
    means = [results.value("events", column.name, "short").mean for column in suite.columns]
    assert list(shown["events"]) == means
    with pytest.raises(ConfigError, match="one of points, lines, but got 'bars'"):
        load_suite(write_suite(tmp_path / "tiny.yaml", figure="bars"))


def test_trials_are_whole_numbers(tmp_path):
    path = write_suite(tmp_path / "t.yaml", rows={"a": {"method": "kt", "trials": -1}}, reference=None)
    with pytest.raises(ConfigError, match="`trials` of row 'a' to be a whole number"):
        load_suite(path)
