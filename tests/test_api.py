"""Prediction on recordings, networks that read pictures, and what is refused before any training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import evlift
from evlift.api import split_batches
from evlift.assembly import (
    build_feeder,
    build_method,
    build_network,
    create_task,
    evaluation_feeder,
    open_run,
    trained_teacher,
)
from evlift.config import parse_recipe
from evlift.datasets.manifest import Manifest
from evlift.engine.train import Trainer
from evlift.errors import ConfigError, DataError, EvliftError
from evlift.events import EventStream
from helpers import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return evlift.train(tiny(), tmp_path_factory.mktemp("run")).folder


@pytest.fixture(scope="module")
def recording(run):
    return create_task(open_run(run).recipe).val.load(0)


@pytest.mark.parametrize("suffix", ["npz", "txt", "raw", "dat", "h5"])
def test_a_recording_is_predicted_as_evaluation_does_in_any_format(run, recording, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    evlift.write_events(path, recording)
    judged = evlift.evaluate(run)
    temperature = evlift.open_run(run).record["temperature"]
    scores = np.exp(judged.logits[0].mean(0) / temperature)
    (found,) = evlift.predict(run, path)
    assert found.index == judged.predicted[0]
    assert found.confidence == pytest.approx(scores.max() / scores.sum(), abs=1e-5)


def test_windows_of_equal_length_tile_the_recording_even_where_it_is_silent(run, tmp_path):
    t = np.array([500, 700, 10_000, 50_400])
    zeros = np.zeros(4, np.int64)
    evlift.write_events(
        tmp_path / "a.npz", EventStream.from_columns(t, zeros, zeros, zeros, sensor_size=(34, 34))
    )
    found = list(evlift.predict(run, tmp_path / "a.npz", duration_us=10_000))
    assert [one.start_us for one in found] == [500, 10_500, 20_500, 30_500, 40_500]
    assert [one.stop_us - one.start_us for one in found] == [10_000] * 5
    assert [one.events for one in found] == [3, 0, 0, 0, 1]


def test_a_recording_without_events_has_no_label(run, tmp_path):
    evlift.write_events(tmp_path / "a.npz", EventStream.empty((34, 34)))
    for options in ({}, {"duration_us": 1000}, {"n_events": 10}):
        with pytest.raises(DataError, match="has none"):
            list(evlift.predict(run, tmp_path / "a.npz", **options))


def test_windows_need_a_length(run, tmp_path):
    for options in ({"duration_us": 0}, {"n_events": -1}):
        with pytest.raises(ConfigError, match="at least 1"):
            list(evlift.predict(run, tmp_path / "a.npz", **options))


CONVNET = {"name": "convnet", "width": 0.25}
PHYSICS = {"name": "evdistill", "generation": "physics", "generator_width": 2, "generator_blocks": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "unet"}}, "a network for recognition"),
        ({"model": CONVNET, "method": PHYSICS}, "input.encoding='saccade' for evdistill"),
        *[
            ({"model": CONVNET, "method": {"name": name}}, f"input.encoding='saccade' for {name}")
            for name in ("plain-kd", "mean-teacher")
        ],
        (
            {"model": {"name": "reconstruct-then-run"}, "method": {"name": "reconstruct-then-run"}},
            "input.encoding='saccade' for reconstruct-then-run",
        ),
        (
            {"model": CONVNET, "method": {"name": "evdistill", "mutual": 1.0}},
            "Expected data with aligned frames for EvDistill",
        ),
        (
            {
                "model": CONVNET,
                "method": {"name": "plain-kd"},
                "input": {"crop_to_events": True, "encoding": "saccade"},
            },
            "input.crop_to_events to be false for PlainKD",
        ),
        (
            {"data": {"name": "simulated-digit-masks", "recordings": 60}, "model": CONVNET},
            "a network for segmentation",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_before_training(tmp_path, changes, message):
    with pytest.raises(EvliftError, match=message):
        evlift.train(tiny(**changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_training_without_anything_to_judge_on_is_refused(tmp_path):
    recipe = parse_recipe(tiny())
    task = create_task(recipe)
    task = replace(task, val=task.val.subset([]))
    method = build_method(recipe, task)
    with pytest.raises(DataError, match="items in val to judge"):
        Trainer(recipe, method, build_feeder(recipe, task, method), tmp_path).train()


@pytest.fixture(scope="module")
def picture_run(tmp_path_factory):
    recipe = tiny(model=CONVNET, method={"name": "image-model"}, train={"steps": 2})
    return evlift.train(recipe, tmp_path_factory.mktemp("pictures")).folder


def test_a_network_that_reads_pictures_is_judged_on_pictures_alone(picture_run, tmp_path):
    assert len(evlift.evaluate(picture_run, split="source_val").names) > 0
    with pytest.raises(ConfigError, match="--split source_val"):
        evlift.evaluate(picture_run)
    with pytest.raises(ConfigError, match="Leave --adapt out"):
        evlift.evaluate(picture_run, split="source_val", adapt=True)
    with pytest.raises(ConfigError, match=r"reads events, but .* reads pictures"):
        next(evlift.predict(picture_run, tmp_path / "a.npz"))


def test_a_network_that_reads_pictures_is_judged_on_aligned_frames_where_there_are_any(tmp_path):
    scenes = {"data": {"name": "simulated-digit-masks", "recordings": 40}, "input": {"size": [34, 34]}}
    model, method = {"name": "unet", "width": 0.1}, {"name": "image-model"}
    folder = evlift.train(tiny(model=model, method=method, train={"steps": 2}, **scenes), tmp_path).folder
    trained = open_run(folder)
    feeder = evaluation_feeder(trained, create_task(trained.recipe))
    frames = next(split_batches(trained, feeder, "val"))
    window = next(feeder.evaluation("val"))
    assert torch.equal(frames.image[:, 0], window.frame)
    assert torch.equal(frames.image_target, window.event_target)
    assert evlift.evaluate(folder).names == window.names


def test_a_run_that_began_with_published_weights_opens_without_a_network(tmp_path, monkeypatch):
    import timm

    def offline(encoder, pretrained, **options):
        if pretrained:
            raise OSError("no network")
        return create(encoder, False, **options)

    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda encoder, pretrained, **options: create(encoder, False, **options)
    )
    model = {"name": "timm", "encoder": "mobilenetv3_small_050", "pretrained": True}
    folder = evlift.train(tiny(model=model, train={"steps": 1}), tmp_path).folder
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(DataError, match="published weights"):
        build_network(open_run(folder).recipe, 10)
    assert 0 <= evlift.evaluate(folder).score <= 1


def test_a_split_without_recordings_judges_nothing_and_says_what_does(run):
    trained = open_run(run)
    task = create_task(trained.recipe)
    feeder = evaluation_feeder(trained, task)
    feeder.task = replace(task, val=task.val.subset([]))
    with pytest.raises(ConfigError, match=r"it is empty.*--split source_val"):
        split_batches(trained, feeder, "val", None)


def test_a_teacher_that_saw_what_judges_is_refused(picture_run):
    recipe = open_run(picture_run).recipe
    task = create_task(recipe)
    assert trained_teacher(picture_run, recipe, task).trained
    path = picture_run / "manifest.jsonl"
    kept = Manifest.load(path)
    try:
        Manifest(tuple(replace(row, split="source") for row in kept.rows)).save(path)
        with pytest.raises(DataError, match="has not seen what judges here"):
            trained_teacher(picture_run, recipe, task)
    finally:
        kept.save(path)
