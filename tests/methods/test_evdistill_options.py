"""EvDistill's options: what each switches, and which are refused before any training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_evdistill import FIRST, LATER, TRAINS, Linear, evdistill, reached, snapshot, step
from toy_pairs import build, pairs, scenes, student, suitable

from evlift.errors import ConfigError
from evlift.methods import Progress


@pytest.mark.parametrize("name", ["task", "kd", "ag", "da", "dsc"])
def test_every_loss_can_be_switched_off(name):
    whole, less = step(evdistill("unet")), step(evdistill("unet", **{name: 0.0}))
    gone = less.parts.get(name, torch.zeros(()))
    assert gone == 0
    assert whole.parts[name] != 0
    kept = [part for part in TRAINS if part in less.parts and part != name]
    assert len(kept) >= 7
    for part in kept:
        torch.testing.assert_close(less.parts[part], whole.parts[part])


@pytest.mark.parametrize(
    ("kind", "part"), [("scores", True), ("classes", False), ("features", True), ("off", False)]
)
def test_distributions_are_matched_in_several_ways(kind, part):
    method = evdistill("unet", matching=kind, matching_start=0.5)
    early, late = step(method, Progress("joint", 4, 10)), step(method, Progress("joint", 5, 10))
    assert not {"da", "output_critic"} & set(early.parts)
    assert ("da" in late.parts, "output_critic" in late.parts) == (kind != "off", part)


def test_easy_locations_can_be_left_to_the_hard_ones():
    every, hard = (step(evdistill("unet", tet=False, ohem=ohem)) for ohem in (0.0, 0.3))
    assert hard.parts["task"] > every.parts["task"] > 0
    for refused in ({"ohem": 1.5}, {"ohem": -0.1}):
        with pytest.raises(ConfigError, match=r"`ohem` in \[0, 1\]"):
            evdistill("unet", **refused)
    with pytest.raises(ConfigError, match=r"for recognition 0, but got 0\.7"):
        evdistill(ohem=0.7)


def test_the_teacher_has_to_be_sure_of_crafted_pictures():
    """A fresh teacher is sure of nothing: at a high threshold P2 says nothing, and its gradient is finite."""
    for threshold, expected in ((0.2, {"S", "G_E", "G_I"}), (0.99, {"S", "G_E"})):
        method = evdistill(confidence=threshold)
        assert reached(step(method).parts["kd"], method) == expected


def test_silent_pixels_can_be_left_out():
    batch = scenes()
    silent = replace(batch, events=torch.zeros_like(batch.events))
    for active_only, expected in ((False, {"S", "G_E", "G_I"}), (True, {"S", "G_E"})):
        method = evdistill("unet", active_only=active_only)
        assert reached(step(method, batch=silent).parts["kd"], method) == expected


def test_the_averaged_student_sets_in_late_and_moves_in_the_joint_phase_alone():
    method = evdistill(averaged=1.0, averaged_threshold=0.0, averaged_start=0.5)
    assert "averaged" not in step(method, Progress("joint", 4, 10)).parts
    assert "averaged" in step(method, Progress("joint", 5, 10)).parts
    for progress, updates in (
        (Progress("teacher", 0, 2), 0),
        (Progress("reconstruction", 0, 2), 0),
        (FIRST, 1),
    ):
        method.after_update(progress)
        assert method.average.updates == updates


def test_the_averaged_student_alone_reads_whole_recordings():
    batch = replace(pairs(), whole=1 - pairs().events)
    options = {"averaged": 1.0, "averaged_threshold": 0.0}
    plain = step(evdistill(**options), batch=batch).parts
    whole = step(evdistill(**options, whole_targets=True), batch=batch).parts
    changed = {name for name in plain if not torch.equal(plain[name], whole[name])}
    assert changed == {"averaged"}


def test_phases_and_their_shares():
    def shares(**options) -> dict[str, float]:
        return {phase.name: round(phase.share, 6) for phase in evdistill(**options).phases}

    half = {"teacher_share": 0.5, "reconstruction_share": 0.5}
    assert shares(**half) == {"teacher": 0.5, "reconstruction": 0.25, "joint": 0.25}
    assert shares(**half, bmr=False, generation="physics") == {"teacher": 0.5, "joint": 0.5}
    assert shares(teacher_share=0.5, reconstruction_share=0.0) == {"teacher": 0.5, "joint": 0.5}
    trained = {"teacher": Linear(), "ag": 0.0, "teacher_share": 0.5}
    assert shares(**trained, reconstruction_share=0.2) == {"reconstruction": 0.2, "joint": 0.8}
    judged = {phase.name: (phase.student, phase.needs) for phase in evdistill().phases}
    assert judged == {
        "teacher": (False, "pictures"),
        "reconstruction": (False, "all"),
        "joint": (True, "all"),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bmr": False}, "generation='physics' with bmr=False"),
        ({"bmr": False, "generation": "mixed"}, "generation='physics' with bmr=False"),
        ({"whole_targets": True}, "whole_targets=False with averaged=0"),
        ({"generation": "magic"}, "`generation` learned, physics or mixed"),
        ({"matching": "scores"}, "matching='classes' or 'features' for recognition"),
        ({"matching": "all"}, "`matching` scores, classes, features or off"),
        ({"matching": "all", "da": 0.0}, "`matching` scores, classes, features or off"),
        ({"active_only": True}, "active_only=False for recognition"),
        ({"affinity": "pixels"}, "one of locations, samples"),
        ({"nodes": 0}, "`nodes` to be at least 1"),
        ({"temperature": 0.0}, "`temperature` to be above 0"),
        ({"confidence": 1.0}, "`confidence` in"),
        ({"averaged_threshold": 1.5}, "`averaged_threshold` in"),
        ({"averaged_start": -0.1}, "`averaged_start` in"),
        ({"matching_start": 1.0}, "`matching_start` in"),
        ({"reconstruction_share": 1.0}, "`reconstruction_share` in"),
        ({"teacher_share": 1.0}, "`teacher_share` in"),
        ({"teacher_share": 0.0}, "`teacher_share` above 0 for a teacher that has not been trained"),
        ({"teacher_pretrained": True}, "published weights, but 'convnet' has none"),
        ({"teacher": "unet"}, "a teacher for recognition"),
        ({"teacher": Linear()}, "a teacher with a feature map"),
        ({"teacher": Linear(4), "ag": 0.0}, r"logits \[1, 3\], but got \[1, 4\]. Give `teacher_map`"),
        *[
            ({name: -1.0}, f"weight `{name}`")
            for name in ("task", "kd", "ag", "da", "dsc", "mutual", "averaged")
        ],
        *[
            ({name: -1.0}, f"weight `{name}`")
            for name in ("adversarial", "cycle", "kd_to_generator", "generator_lr")
        ],
    ],
)
def test_contradictions_are_refused_before_training(options, message):
    with pytest.raises(ConfigError, match=message):
        evdistill(**options)


def test_a_student_without_a_feature_map_is_refused():
    net = student("convnet")
    net.features += 1  # as of a transformer, whose last layer is no map
    for options in ({}, {"ag": 0.0, "matching": "features"}):
        with pytest.raises(ConfigError, match="a student with a feature map"):
            build("evdistill", net, **options)
    assert build("evdistill", net, ag=0.0).step(pairs(), LATER).loss.isfinite()


def test_looking_at_the_networks_leaves_them_as_they_were():
    net = suitable("evdistill")
    before = snapshot(net)
    method = build("evdistill", net)
    assert net.training
    assert method.teacher.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
