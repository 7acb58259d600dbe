"""Packs open without the data that their networks were trained on, and say what they are."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import evlift
import evlift.judge.calibrate
import evlift.judge.robustness
from evlift import assembly
from evlift.cli import main
from evlift.engine import run as runs
from evlift.engine.run import Run
from evlift.errors import ConfigError, DataError
from evlift.events import write_events
from helpers import tiny


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    return evlift.pack(run, tmp_path_factory.mktemp("packs") / "digits-tiny", test=True, note="A test.")


@pytest.fixture
def recordings(val, tmp_path):
    for i in (0, 1):
        folder = tmp_path / val.classes[val[i].target]
        folder.mkdir(exist_ok=True)
        write_events(folder / f"{i}.npz", val.load(i))
    return tmp_path


@pytest.fixture
def no_data(monkeypatch):
    def missing(recipe):
        raise DataError("no data here")

    for module in (assembly, evlift.api, evlift.judge.calibrate, evlift.judge.robustness):
        monkeypatch.setattr(module, "create_task", missing)


def test_a_pack_is_small_whole_and_says_the_same(run, packed):
    assert {file.name for file in packed.folder.iterdir()} == {
        "README.md",
        "best.safetensors",
        "config.yaml",
        "record.json",
    }
    clip = torch.rand(2, 3, 2, 28, 28)
    with torch.no_grad():
        expected = evlift.open_run(run).network(clip).logits
        torch.testing.assert_close(evlift.open_run(packed.folder).network(clip).logits, expected)


def test_a_pack_judges_and_predicts_without_its_data(run, packed, recordings, no_data, capsys):
    there = evlift.evaluate_recordings(packed.folder, recordings)
    here = evlift.evaluate_recordings(run, recordings)
    np.testing.assert_array_equal(there.evaluation.logits, here.evaluation.logits)
    assert main(["predict", str(packed.folder), str(next(recordings.glob("*/*.npz")))]) == 0
    assert main(["evaluate", str(packed.folder)]) == 1
    assert "no data here" in capsys.readouterr().err


def test_a_pack_judges_its_own_split_where_the_data_are(run, packed):
    assert evlift.evaluate(packed.folder).score == evlift.evaluate(run).score


def test_the_card_says_what_was_measured(run, packed):
    card = (packed.folder / "README.md").read_text()
    judged = evlift.evaluate(run, split="test")
    low, high = judged.metrics.interval
    assert f"| {judged.score:.4f} | {low:.3f} to {high:.3f} |" in card
    record = evlift.open_run(run).record
    for text in (
        record["split"],
        "A test.",
        "scikit-learn (UCI, CC BY 4.0)",
        "labels of recordings were seen",
    ):
        assert text in card
    assert f"Temperature {record['temperature']:.3f}, fitted on 20 samples of val" in card


def test_a_pack_of_a_run_of_the_first_format_calibrates_it_and_leaves_it_alone(run, tmp_path):
    old = shutil.copytree(run, tmp_path / "old")
    record = Run(old).read_record()
    known = {name: record.pop(name) for name in ("temperature", "calibration", "framing")}
    (old / "record.json").write_text(json.dumps(record))
    made = evlift.open_run(evlift.pack(old, tmp_path / "pack").folder)
    assert made.temperature == pytest.approx(known["temperature"], rel=1e-3)
    assert made.calibration.fitted_on == known["calibration"]["fitted_on"]
    assert made.framing.to_dict() == known["framing"]
    assert Run(old).read_record() == record


def test_without_data_a_pack_says_so(run, tmp_path, no_data):
    said = []
    made = evlift.pack(run, tmp_path / "pack", say=said.append)
    assert "no data here" in said[0]
    card = (made.folder / "README.md").read_text()
    assert "it was not judged again" in card


def test_a_pack_of_a_pack_keeps_its_figures_where_the_data_are_not(packed, tmp_path, no_data):
    again = evlift.pack(packed.folder, tmp_path / "again")
    assert again.read_record()["figures"] == packed.read_record()["figures"]
    assert "test" in again.read_record()["figures"]


@pytest.mark.parametrize("asked", ["test", "robustness"])
def test_what_was_asked_for_and_cannot_be_judged_is_refused(asked, packed, tmp_path, no_data):
    with pytest.raises(DataError, match="no data here"):
        evlift.pack(packed.folder, tmp_path / "again", **{asked: True})
    assert not list(tmp_path.iterdir())


def test_no_place_of_this_machine_is_handed_on(run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "run")
    text = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(text.replace("cache: null", f"cache: {tmp_path / 'cache'}"))
    made = evlift.pack(moved, tmp_path / "pack")
    for name in ("config.yaml", "record.json", "README.md"):
        assert str(tmp_path) not in (made.folder / name).read_text()


def test_packing_again_replaces_a_pack_and_nothing_else(run, tmp_path):
    out = tmp_path / "pack"
    evlift.pack(run, out, note="first")
    evlift.pack(run, out, note="second")
    assert "second" in (out / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for place in (tmp_path / "mine", run, tmp_path / "mine" / "thesis.tex"):
        with pytest.raises(ConfigError, match="something else"):
            evlift.pack(run, place)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_shipped_weights_open_by_their_name(packed, recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "weights_home", lambda: packed.folder.parent)
    monkeypatch.chdir(tmp_path)
    assert evlift.open_run("digits-tiny").classes == tuple("0123456789")
    assert main(["evaluate", "digits-tiny", "--data", f"recordings:{recordings}"]) == 0
    assert main(["pack", "--list"]) == 0
    said = capsys.readouterr().out
    assert "digits-tiny" in said
    assert "simulated-digits" in said
    with pytest.raises(DataError, match="Shipped weights: digits-tiny"):
        evlift.open_run("digits-tine")


def test_what_is_shipped_opens_and_stays_small(capsys):
    records = evlift.shipped_packs()
    assert set(records) == {"digits-evdistill", "digits-lift", "digits-tmkt-scnn"}
    for name, record in records.items():
        assert evlift.open_run(name).classes == tuple(record["classes"])
    assert sum(record["bytes"] for record in records.values()) < 5_000_000
    assert main(["pack", "--list"]) == 0
    assert main(["pack"]) == 2
    assert "Expected RUN and OUT" in capsys.readouterr().err


def test_a_network_for_pictures_is_described_as_one(tmp_path):
    recipe = tiny(model={"name": "convnet", "width": 0.2}, method={"name": "image-model"}, train={"steps": 2})
    made = evlift.pack(evlift.train(recipe, tmp_path / "run").folder, tmp_path / "pack")
    card = (made.folder / "README.md").read_text()
    assert "that reads pictures and gives one of 10 classes" in card
    assert "evlift evaluate pack" not in card
    assert "| source_val:" in card
    assert "| val:" not in card


@pytest.mark.parametrize("name", ["digits-evdistill", "digits-lift", "digits-tmkt-scnn"])
def test_shipped_packs_read_real_recordings(name, data_root, tmp_path):
    trained = evlift.open_run(name)
    task = assembly.create_task(trained.recipe)
    assert task.split == trained.record["split"]
    for index in range(0, len(task.val), 4):
        target = tmp_path / task.classes[task.val.targets[index]] / f"{index}.bin"
        target.parent.mkdir(exist_ok=True)
        evlift.write_events(target, task.val.load(index))
    judged = evlift.evaluate_recordings(name, tmp_path)
    assert judged.evaluation.metrics.samples == 50
    assert judged.evaluation.metrics.accuracy > 0.85
