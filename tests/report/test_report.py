"""`evlift report`: what stands on the page is what evaluation says, whatever the run."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import evlift
from evlift.assembly import create_task, open_run
from evlift.cli import main
from evlift.errors import ConfigError, DataError
from evlift.models import create_model
from evlift.models.cost import measure_cost
from evlift.report import write
from evlift.report.judge import judge
from evlift.report.sections import flattened, interval
from evlift.report.watch import method_views, play, raster, rasters
from helpers import tiny

MASKS = {
    "data": {"name": "simulated-digit-masks", "recordings": 100},
    "input": {"size": [32, 32], "encoding": "saccade"},
    "model": {"name": "unet", "width": 0.25},
    "method": {"name": "source-only"},
    "train": {"steps": 2, "eval_every": 0},
}
CONV = {"name": "convnet", "width": 0.25}
SACCADE = {"encoding": "saccade"}
METHODS = {
    "kt": {"method": {"name": "kt"}},
    "tmkt": {"method": {"name": "tmkt"}},
    "image-model": {"method": {"name": "image-model"}, "model": CONV},
    "mean-teacher": {"method": {"name": "mean-teacher"}, "model": CONV, "input": SACCADE},
    "plain-kd": {"method": {"name": "plain-kd"}, "model": CONV, "input": SACCADE},
    "evdistill": {"method": {"name": "evdistill"}, "model": CONV, "input": SACCADE},
    "reconstruct": {
        "input": SACCADE,
        "method": {"name": "reconstruct-then-run"},
        "model": {"name": "reconstruct-then-run", "image_model": "convnet"},
    },
}
SHOWN = {
    "kt": ["mixed"],
    "tmkt": ["mixed"],
    "mean-teacher": ["real events", "student", "label"],
    "plain-kd": ["picture", "crafted events"],
    "evdistill": ["real events", "from events", "picture", "crafted events", "teacher", "student", "label"],
    "reconstruct": ["picture", "from events", "crafted events"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return evlift.train(tiny(), tmp_path_factory.mktemp("runs") / "tiny").folder


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return evlift.train(tiny(**MASKS), tmp_path_factory.mktemp("runs") / "masks").folder


def judged(folder, split="val"):
    trained = open_run(folder)
    task = create_task(trained.recipe)
    return trained, task, judge(trained, task, split)


def test_the_page_says_what_evaluate_says(run, tmp_path):
    page = evlift.write_report(run, tmp_path / "a.html", split="test").read_text("utf-8")
    expected = evlift.evaluate(run, split="test")
    assert f"<td>{expected.score:.4f}</td>" in page
    assert "{:.4f} to {:.4f}".format(*expected.metrics.interval) in page
    for value in (*expected.metrics.per_class, *expected.per_step):
        assert f"<td>{value:.3f}</td>" in page
    assert "test figures" in page
    assert len(page.encode()) < write.MOST_BYTES


def test_nothing_on_the_page_comes_from_elsewhere(run, masks, tmp_path):
    page = evlift.write_report([run, masks], tmp_path / "a.html").read_text("utf-8")
    assert not re.search(r"(src|href)\s*=\s*['\"](?!data:|#)", page)
    assert "://" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_rate_groups_hold_every_sample_once_by_rate(run):
    _, task, found = judged(run)
    groups = found.rate_groups()
    assert sorted(np.concatenate([rows for _, _, rows in groups]).tolist()) == list(range(len(task.val)))
    streams = [task.val.load(i) for i in range(len(task.val))]
    rates = np.array([1e6 * len(stream) / stream.duration_us for stream in streams])
    for low, high, rows in groups:
        assert (low, high) == (rates[rows].min(), rates[rows].max())
    assert all(one[1] <= other[0] for one, other in pairwise(groups))
    hits = sum(found.metrics_of(rows).accuracy * len(rows) for _, _, rows in groups)
    assert hits / len(task.val) == pytest.approx(found.evaluation.score)


def test_masks_are_judged_as_evaluate_judges_them(masks):
    trained, task, found = judged(masks)
    expected = evlift.evaluate(masks)
    assert (found.evaluation.confusions == expected.confusions).all()
    assert found.evaluation.names == expected.names
    everything = np.concatenate([rows for _, _, rows in found.rate_groups()])
    assert found.metrics_of(everything).mean_iou == pytest.approx(expected.score)
    low, high = interval(found)
    assert low <= high
    assert interval(found) == (low, high)  # seeded
    assert found.reliability.counts.sum() == expected.metrics.pixels
    assert found.mistakes[0].confidence == max(one.confidence for one in found.mistakes)
    frames = play(trained, task, "val", 32)
    assert len(frames[0].images) == 3


def test_mistakes_are_the_most_confident_wrong_answers(run):
    trained, _, found = judged(run)
    assert trained.temperature != 1
    logits = found.evaluation.logits.mean(1) / trained.temperature
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = found.evaluation.predicted != found.evaluation.target
    expected = np.sort(chances.max(1)[wrong])[::-1][:8]
    assert [one.confidence for one in found.mistakes] == pytest.approx(expected.tolist(), abs=1e-5)
    assert all(one.answer != one.target for one in found.mistakes)
    assert len(found.examples) == 8


def test_rasters_count_the_spikes_of_every_layer():
    net = create_model("scnn", classes=4)
    clip = torch.rand(5, 2, 28, 28)
    found = rasters(net, clip)
    rates = measure_cost(net, clip[None]).firing_rates
    assert list(found) == list(rates)
    for name, layer in found.items():
        assert layer.rates.mean() == pytest.approx(rates[name], abs=1e-6)
        assert layer.spikes.shape == (5, min(64, layer.fired))
        assert layer.spikes.any(0).all()
    assert rasters(create_model("convnet", classes=4, input_size=28, steps=5), clip) == {}


def test_a_silent_layer_has_an_empty_raster():
    found = raster(np.zeros((3, 10), bool))
    assert (found.fired, found.neurons, found.spikes.shape) == (0, 10, (3, 0))


def test_the_player_ends_with_the_whole_recording(run):
    trained, task, found = judged(run)
    frames = play(trained, task, "val", 32)
    assert len(frames) == 30
    said = frames[-1].said
    assert trained.classes[found.evaluation.predicted[0]] in said
    stream = task.val.load(0)
    assert sum(int(re.search(r"(\d+) events;", frame.said)[1]) for frame in frames) == len(stream)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_report(name, tmp_path):
    run = evlift.train(tiny(**METHODS[name], train={"steps": 2, "eval_every": 0}), tmp_path / "run").folder
    trained = open_run(run)
    page = evlift.write_report(run, tmp_path / "a.html").read_text("utf-8")
    assert "Most confident mistakes" in page
    shows = method_views(trained, create_task(trained.recipe), "val") if name in SHOWN else {}
    assert set(SHOWN.get(name, ())) <= set(shows)
    assert bool(shows) == ("<p>Held-out data</p>" in page)


def test_a_comparison_marks_what_differs(run, masks, tmp_path):
    page = evlift.write_report([run, masks], tmp_path / "a.html").read_text("utf-8")
    assert "≠ model.name" in page
    assert "≠ train.seed" not in page
    assert "judged on different samples" in page


def test_a_run_without_its_data_is_reported_from_its_folder(tmp_path, random_stream):
    for name in ("a", "b"):
        for i in range(6):
            from PIL import Image

            (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (20, 20), 40 * i).save(tmp_path / "pictures" / name / f"{i}p.png")
            evlift.write_events(tmp_path / "recordings" / name / f"{i}r.npz", random_stream[: 4000 + i])
    data = {
        "name": "folders",
        "images": str(tmp_path / "pictures"),
        "recordings": str(tmp_path / "recordings"),
    }
    run = evlift.train(tiny(data=data, train={"steps": 2}), tmp_path / "run").folder
    (tmp_path / "recordings").rename(tmp_path / "moved")
    page = evlift.write_report(run, tmp_path / "a.html").read_text("utf-8")
    assert "Not judged: " in page
    assert str(tmp_path / "recordings") in page
    assert "Configuration" in page
    assert "Confusion matrix" not in page


def test_an_empty_split_is_said_on_the_page(run, tmp_path, monkeypatch):
    task = create_task(open_run(run).recipe)
    empty = replace(task, test=task.test.subset([]))
    monkeypatch.setattr("evlift.assembly.create_task", lambda recipe: empty)
    page = evlift.write_report(run, tmp_path / "a.html", split="test").read_text("utf-8")
    assert re.search("Not judged: .* is empty", page)
    assert "Configuration" in page


def test_why_a_method_cannot_be_built_again_is_said(run, tmp_path, monkeypatch):
    def without_its_teacher(*given):
        raise DataError("Expected a run in runs/teacher, but there is none.")

    monkeypatch.setattr("evlift.report.watch.build_method", without_its_teacher)
    page = evlift.write_report(run, tmp_path / "a.html").read_text("utf-8")
    assert "Held-out data are not shown: Expected a run in runs/teacher" in page


def test_what_cannot_be_reported_is_refused(run, tmp_path, capsys):
    with pytest.raises(DataError, match="Expected a run"):
        evlift.write_report(tmp_path, tmp_path / "a.html")
    with pytest.raises(ConfigError, match=r"1 to 6 runs on a page, but got 7\. Write several"):
        evlift.write_report([tmp_path / str(k) for k in range(7)], tmp_path / "a.html")
    with pytest.raises(ConfigError, match=f"^Expected different runs, but got {run} twice"):
        evlift.write_report([run, str(run)], tmp_path / "a.html")
    with pytest.raises(ConfigError, match="is a folder"):
        evlift.write_report(run, tmp_path)
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "Expected a run" in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()


def test_the_command_says_how_large_the_page_is(run, tmp_path, capsys):
    assert main(["report", str(run), "--out", str(tmp_path / "a.html")]) == 0
    size = (tmp_path / "a.html").stat().st_size
    assert f"{size / 1e3:.0f} kB" in capsys.readouterr().out


def test_a_page_that_would_be_too_large_gets_smaller_pictures(run):
    subject = write.look_at(run, "run", "val")
    whole = write.fitted([subject], "val")
    smaller = write.fitted([subject], "val", most=len(whole.encode()) - 1)
    assert len(smaller.encode()) < len(whole.encode())
    with pytest.raises(ConfigError, match="Report fewer runs"):
        write.fitted([subject], "val", most=1000)


def test_configurations_become_flat():
    assert flattened({"a": {"b": 1, "c": [1, 2]}, "d": "x"}) == {"a.b": "1", "a.c": "[1, 2]", "d": "x"}
