"""EvDistill: what trains what, by looking at gradients; phases, resuming, inference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_evdistill import (
    EVERYTHING,
    FIRST,
    LATER,
    TRAINS,
    Linear,
    evdistill,
    gradients,
    members,
    reached,
    snapshot,
    step,
    update,
)
from toy_pairs import build, pairs, scenes, student

from evlift.errors import DataError
from evlift.losses.distill import kd_loss
from evlift.methods import Progress


@pytest.mark.parametrize(
    ("net", "options", "fewer"),
    [
        ("unet", {}, {}),
        ("spiking-unet", {}, {}),
        ("convnet", {"matching": "features"}, {}),
        ("convnet", {"generation": "mixed", "matching": "features"}, {}),
        ("unet", {"generation": "physics"}, {"task": {"S"}, "cycle": {"G_I"}}),
        ("unet", {"kd_to_generator": 0.0}, {"kd": {"S", "G_E"}, "ag": {"S", "G_E"}}),
    ],
)
def test_each_loss_trains_what_the_table_says(net, options, fewer):
    method = evdistill(net, **EVERYTHING, **options)
    if options.get("generation") == "physics":
        fewer = {name: found - {"G_E", "D_E"} for name, found in TRAINS.items()} | fewer
    output = step(method)
    for name, expected in (TRAINS | fewer).items():
        assert reached(output.parts[name], method) == expected, name
    torch.testing.assert_close(output.loss, sum(output.parts[name] for name in TRAINS))


def test_recognition_matches_class_distributions_without_a_critic():
    method = evdistill()
    output = step(method)
    assert method.output_critic is None
    assert reached(output.parts["da"], method) == {"S"}


def test_without_reconstruction_the_student_alone_learns_from_simulated_pairs():
    method = evdistill("unet", bmr=False, generation="physics")
    output = step(method)
    assert set(output.parts) == {"task", "kd", "ag", "da", "output_critic"}
    assert all(reached(output.parts[name], method) == {"S"} for name in ("task", "kd", "ag", "da"))


def test_the_generator_of_pictures_hears_distillation_in_proportion():
    """And the student hears all of it, whatever the factor."""
    felt = {}
    for factor in (0.1, 0.5, 1.0):
        method = evdistill(kd_to_generator=factor)
        parts = step(method).parts
        felt[factor] = [
            gradients(parts[n], members(method)[m]) for n in ("kd", "ag") for m in ("G_I", "S", "G_E")
        ]
    for half, whole, tenth in zip(felt[0.5][::3], felt[1.0][::3], felt[0.1][::3], strict=True):
        torch.testing.assert_close(2 * half, whole)
        torch.testing.assert_close(10 * tenth, whole)
    for index in (1, 2, 4, 5):
        torch.testing.assert_close(felt[0.1][index], felt[1.0][index])


def test_each_phase_moves_its_own_networks_and_the_teacher_stands_still_afterwards():
    moved = {
        "teacher": {"T"},
        "reconstruction": {"G_I", "G_E", "D_I", "D_E"},
        "joint": {"S", "S_a", "G_I", "G_E", "D_I", "D_E", "D_o", "average"},
    }
    method = evdistill("unet", **EVERYTHING)
    assert [phase.name for phase in method.phases] == list(moved)
    for phase, expected in moved.items():
        before = {name: snapshot(module) for name, module in members(method).items()}
        update(method, Progress(phase, 5, 10))
        changed = {
            name
            for name, module in members(method).items()
            if any(not torch.equal(value, before[name][key]) for key, value in module.state_dict().items())
        }
        assert changed == expected  # weights and batch statistics


def test_groups_own_every_network_once():
    method = evdistill("unet", **EVERYTHING)
    owners = {"teacher": "T", "reconstruction": "G_I G_E D_I D_E", "joint": "S G_I G_E D_I D_E D_o S_a"}
    for phase, names in owners.items():
        owned = [id(p) for group in method.parameter_groups(phase) for p in group.parameters]
        expected = [id(p) for name in names.split() for p in members(method)[name].parameters()]
        assert sorted(owned) == sorted(expected)
    groups = {group.name: group for group in method.parameter_groups("joint")}
    assert next(iter(groups)) == "student"  # whose gradient norm the engine logs
    assert all(groups[n].betas == (0.5, 0.999) for n in ("generators", "critics", "output_critic"))
    assert all(groups[n].lr is None and groups[n].betas is None for n in ("student", "frame_student"))


def test_consistency_leaves_the_statistics_of_the_student_alone():
    kept = []
    for weight in (0.0, 1.0):
        method = evdistill(dsc=weight)
        step(method)
        kept.append(dict(method.student.named_buffers()))
    assert kept[0]
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items() if "tracked" not in name)


@pytest.mark.parametrize("confidence", [0.0, 0.34])
def test_logit_distillation_is_the_sum_over_both_pairs(confidence):
    options, batch = {"kd": 3.0, "temperature": 2.0, "confidence": confidence}, pairs()
    parts = step(evdistill(**options), batch=batch).parts
    method = evdistill(**options).train()
    method.teacher.eval()
    crafted = method.reconstruction.craft(batch.picture, batch.events.flatten(1, 2), None)
    first = method.student(crafted.events.view(batch.events.shape)).logits[:, 0]
    second = method.student(batch.events).logits[:, 0]
    seen = method.teacher(crafted.picture).logits
    sure = seen.softmax(1).amax(1)
    each = [kd_loss(s[None], t[None], temperature=2.0) for s, t in zip(second, seen, strict=True)]
    weight = sure * (sure >= confidence) if confidence else torch.ones(12)
    expected = kd_loss(first, method.teacher(batch.picture).logits, temperature=2.0)
    torch.testing.assert_close(parts["kd"], 3 * (expected + (torch.stack(each) * weight).mean()))


def test_the_frame_student_starts_as_the_teacher_and_needs_frames():
    method, batch = evdistill("unet", mutual=2.0), scenes()
    assert method.uses_frames
    assert not evdistill("unet").uses_frames
    update(method, Progress("teacher", 0, 2))
    taught = snapshot(method.teacher)
    assert any(
        not torch.equal(value, taught[key]) for key, value in method.frame_student.state_dict().items()
    )
    step(method, FIRST)
    weights = dict(method.frame_student.named_parameters())
    assert all(torch.equal(weight, taught[key]) for key, weight in weights.items())
    update(method, LATER)
    assert any(not torch.equal(weight, taught[key]) for key, weight in weights.items())
    with pytest.raises(DataError, match="none of frame"):
        step(method, FIRST, replace(batch, frame=None))


def test_event_labels_change_nothing():
    batch = pairs()
    for phase in ("teacher", "reconstruction", "joint"):
        losses = [
            step(evdistill(), Progress(phase, 5, 10), replace(batch, event_target=target)).loss
            for target in (None, batch.event_target, batch.event_target.flip(0))
        ]
        assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(
    ("net", "generation"),
    [
        *[(net, "learned") for net in ("scnn", "vgg-snn", "convnet", "unet", "spiking-unet")],
        *[("scnn", "physics"), ("convnet", "mixed"), ("spiking-unet", "mixed"), ("unet", "physics")],
    ],
)
def test_every_kind_of_student_runs_every_phase(net, generation):
    method = evdistill(net, generation=generation)
    assert method.uses_images == (generation != "learned")
    for phase in method.phases:
        output = step(method, Progress(phase.name, 5, 10))
        assert torch.isfinite(output.loss)
        assert all(torch.isfinite(part) for part in output.parts.values())
        if phase.student:
            output.loss.backward()
            assert all(p.grad is not None for p in method.student.parameters())


def test_a_step_runs_in_half_precision():
    method = evdistill("unet", **EVERYTHING)
    with torch.autocast("cpu", torch.bfloat16):
        output = step(method)
    output.loss.backward()
    torch.testing.assert_close(output.loss, step(evdistill("unet", **EVERYTHING)).loss, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("net", ["convnet", "unet", "vgg-snn"])
def test_inference_costs_what_a_supervised_student_costs(net):
    """Even with statistics of its own for crafted events."""
    teacher = "unet" if net == "unet" else "convnet"
    method = build("evdistill", student(net, image_head=False, separate_bn=True), teacher=teacher)
    supervised = student(net, image_head=False)
    kept = method.student.inference_state_dict()
    assert {name: value.shape for name, value in kept.items()} == {
        name: value.shape for name, value in supervised.state_dict().items()
    }
    count = sum(p.numel() for p in supervised.parameters())
    assert sum(p.numel() for p in method.student.event_parameters()) == count


def test_a_loaded_state_repeats_the_next_step():
    """Pools of crafted samples, averaged student, frame student and critics included."""
    options = EVERYTHING | {"generator_blocks": 1}
    method = evdistill("unet", **options)
    for index in range(3):
        update(method, Progress("joint", index, 10), scenes(seed=index))
    assert method.reconstruction.event_pool.filled == 12
    other = evdistill("unet", **options)
    other.load_state_dict(snapshot(method))
    for each in (method, other):
        update(each, Progress("joint", 3, 10), scenes(seed=3))
    first, second = method.state_dict(), other.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_module_teaches_without_being_taught():
    method = evdistill(teacher=Linear(), ag=0.0)
    before = snapshot(method.teacher)
    for phase in method.phases:
        update(method, Progress(phase.name, 5, 10))
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())


def test_unlabelled_events_are_told_apart_in_the_end():
    """Bars as pictures teach a student bars as events, with crafted pictures of them; no event had a label.

    Simulated partners: on these toys a generator of events may as well learn to exchange the classes.
    """
    torch.manual_seed(0)
    method = build("evdistill", generation="physics")
    for phase, count in (("teacher", 30), ("reconstruction", 10), ("joint", 40)):
        groups = [{"params": g.parameters, "lr": g.lr or 1e-2} for g in method.parameter_groups(phase)]
        optimizer = torch.optim.AdamW(groups)
        for index in range(count):
            update(method, Progress(phase, index, count), pairs(seed=index), optimizer)
    held_out = pairs(count=60, seed=1000)
    with torch.no_grad():
        prediction = method.eval().student(held_out.events).logits.mean(1).argmax(-1)
    assert (prediction == held_out.event_target).float().mean() > 0.9
