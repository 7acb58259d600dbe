"""Disturbed recordings, and confidence on the own splits."""

from __future__ import annotations

import json

import numpy as np
import pytest

import evlift
from evlift.assembly import open_run
from evlift.cli import main
from evlift.engine.calibration import calibrate
from evlift.errors import ConfigError
from evlift.judge.robustness import DISTURBANCES


@pytest.fixture(scope="module")
def swept(run):
    return evlift.robustness(run)


def test_the_undisturbed_row_is_the_evaluation(run, swept):
    assert (swept.undisturbed.confusion == evlift.evaluate(run).metrics.confusion).all()


def test_every_strength_judges_every_recording_and_rates_share_them_out(swept, val):
    rows = swept.rows()
    assert len(rows) == 1 + sum(len(d.strengths) for d in DISTURBANCES.values())
    assert {result.samples for *_, result in rows} == {len(val)}
    assert sum(result.samples for *_, result in swept.by_rate) == len(val)
    lows = [low for low, _, _ in swept.by_rate]
    assert lows == sorted(lows)


def test_the_same_disturbances_every_time_and_others_by_seed(run, swept):
    again = evlift.robustness(run)
    assert again.summary() == swept.summary()


def test_strong_disturbances_change_answers(swept):
    strongest = swept.disturbed["background noise"][10].confusion
    assert (strongest != swept.undisturbed.confusion).any()


@pytest.mark.parametrize("name", DISTURBANCES)
def test_every_disturbance_changes_a_recording_more_and_more(name, val):
    stream, disturbance = val.load(0), DISTURBANCES[name]
    disturbed = [
        disturbance.apply(stream, strength, np.random.default_rng(0)) for strength in disturbance.strengths
    ]
    assert all(not same(one, stream) for one in disturbed)
    if name in ("dropped events", "background noise", "hot pixels", "duration"):
        counts = [len(one) for one in disturbed]
        assert sorted(counts, reverse=name in ("dropped events", "duration")) == counts
        assert counts[0] != counts[-1]
    if name == "polarity flipped":
        changed = [float((one.p != stream.p).mean()) for one in disturbed]
        assert changed == pytest.approx(disturbance.strengths, abs=0.1)
    if name == "resolution":
        assert [one.sensor_size for one in disturbed] == [(17, 17), (11, 11)]


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(getattr(one, c), getattr(other, c)) for c in "txyp")


@pytest.mark.parametrize("split", ["tset", "source_val"])
def test_other_splits_are_refused(split, run):
    with pytest.raises(ConfigError, match=f"`split` to be val or test, but got '{split}'"):
        evlift.robustness(run, split=split)


def test_the_command_writes_a_table_and_a_figure(run, tmp_path, capsys, swept):
    assert main(["evaluate", str(run), "--robustness", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "hot pixels" in said
    assert "by event rate" in said
    assert json.loads((tmp_path / "robustness.json").read_text()) == swept.summary()
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "robustness.csv").read_text().splitlines()) == 1 + len(swept.rows())


def test_a_split_without_recordings_is_refused(run):
    with pytest.raises(ConfigError, match="val or test"):
        evlift.robustness(run, split="source_val")


def test_training_leaves_a_calibration_that_calibrate_finds_again(run):
    trained = open_run(run)
    judged = evlift.evaluate(run)
    expected = calibrate(judged.logits.mean(1), judged.target, "val")
    assert trained.temperature == pytest.approx(expected.temperature, rel=1e-3)
    kept, framing = trained.calibration, trained.framing
    assert evlift.calibrate_run(run).unknown_below == pytest.approx(kept.unknown_below, abs=1e-3)
    assert open_run(run).framing == framing


def test_evaluate_shows_confidence_after_its_own_tables(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--calibrate", "--unknown-below", "auto", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.index("per time step") < said.index("confidence")
    assert "the split that is judged here" in " ".join(said.replace("│", " ").split())
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"confidence", "rejecting", "cost", "per_step"} <= set(report)
    assert report["rejecting"]["kept"] >= 0.95


@pytest.mark.parametrize(
    ("options", "fit"), [([], "stretch"), (["--fit", "crop-to-events"], "crop-to-events")]
)
def test_the_command_says_how_disturbed_recordings_are_shown(run, swept, options, fit, monkeypatch, capsys):
    given = {}

    def remember(folder, **options):
        given.update(options)
        return swept

    monkeypatch.setattr("evlift.judge.robustness.robustness", remember)
    assert main(["evaluate", str(run), "--robustness", *options]) == 0
    assert given["fit"] == fit
