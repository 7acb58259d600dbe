"""The image teacher: class maps, preparation, gradients through it; and the methods that lean on it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from toy_evdistill import Linear, snapshot
from toy_pairs import CLASSES, SIZE, build, pairs, scenes, student

from evlift.errors import ConfigError
from evlift.losses import mean_logit_loss
from evlift.losses.distill import kd_loss
from evlift.methods import Progress
from evlift.methods.teacher import Teacher, build_teacher, frozen

TEACHER = Progress("teacher", 0, 2)


@pytest.mark.parametrize("shape", [(4,), (4, 6, 5)])
@pytest.mark.parametrize(
    ("class_map", "groups"), [((0, 1, 0, 1), ([0, 2], [1, 3])), ((255, 1, 0, 1), ([2], [1, 3]))]
)
def test_a_class_map_sums_probabilities(shape, class_map, groups):
    logits = 3 * torch.randn(2, *shape)
    seen = Teacher(torch.nn.Identity(), class_map=class_map)._merged(logits)
    p = logits.softmax(1)
    expected = torch.stack([p[:, group].sum(1) for group in groups], 1)
    torch.testing.assert_close(seen.softmax(1), expected / expected.sum(1, keepdim=True))


@pytest.mark.parametrize("class_map", [(0, 2), (255, 255), (1, 1)])
def test_a_class_map_names_every_class(class_map):
    with pytest.raises(ConfigError, match="`teacher_map` to name every class"):
        Teacher(Linear(2), class_map=class_map)


def test_a_map_too_small_for_the_student_is_refused():
    with pytest.raises(ConfigError, match=r"logits \[1, 3\], but got \[1, 2\]"):
        build("plain-kd", teacher=Linear(4), teacher_map=(0, 1, 1, 255))
    assert build("plain-kd", teacher=Linear(4), teacher_map=(0, 1, 2, 255)).teacher_share == 0


@pytest.mark.parametrize(("classes", "trained"), [(1000, True), (4, False)])
def test_a_pretrained_teacher_is_ready_only_with_its_published_head(monkeypatch, classes, trained):
    import timm

    made = partial(timm.create_model, pretrained=False)
    monkeypatch.setattr(timm, "create_model", lambda name, weights, **options: made(name, **options))
    class_map = [k % CLASSES for k in range(classes)]
    teacher = build_teacher("timm:resnet18", student("convnet"), 1, pretrained=True, class_map=class_map)
    assert teacher.trained == trained


def test_pictures_are_prepared_and_maps_come_back_at_their_size():
    shown = []

    class Spy(torch.nn.Module):
        def forward(self, x):
            shown.append(x)
            return x.repeat(1, 2, 1, 1)

    picture = torch.rand(2, 1, 8, 12)
    seen = Teacher(Spy(), mean=(0.5,), std=(0.25,), size=(16, 24))(picture)
    expected = F.interpolate((picture - 0.5) / 0.25, (16, 24), mode="bilinear")
    torch.testing.assert_close(shown[0], expected)
    assert seen.logits.shape == (2, 2, 8, 12)
    assert seen.features is None


@pytest.mark.parametrize(("name", "cells"), [("convnet", 4), ("unet", 8)])
def test_networks_of_evlift_show_their_features(name, cells):
    net = student(name)
    seen = build_teacher(name, net, 1)(pairs().picture)
    assert seen.logits.shape == (12, CLASSES, *([SIZE, SIZE] if name == "unet" else []))
    assert seen.features.shape[0] == 12
    assert seen.features.shape[2:] == (cells, cells)


def test_unknown_teachers_are_named():
    with pytest.raises(
        ConfigError, match=r"Unknown model 'convnot'. Did you mean 'convnet'.*Nor is 'convnot' the folder"
    ):
        build_teacher("convnot", student("convnet"), 1)


def test_frozen_networks_pass_gradients_on_and_stay_as_they_are():
    net = student("convnet", channels=1, steps=1)
    first = next(net.parameters()).requires_grad_(False)  # by somebody else
    before, x = snapshot(net), pairs().picture[:, None].requires_grad_()
    with pytest.raises(ValueError, match="Expected `x`"), frozen(net):
        net(net(x).logits.square().sum().backward() or x[0])
    assert x.grad.any()
    assert all(p.grad is None for p in net.parameters())
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert all("tracked" in name for name in moved)
    assert [p.requires_grad for p in net.parameters()] == [p is not first for p in net.parameters()]
    net(x)
    assert any(
        not torch.equal(value, before[name]) for name, value in net.state_dict().items() if "mean" in name
    )


@pytest.mark.parametrize("name", ["plain-kd", "evdistill"])
def test_the_teacher_learns_pictures_and_tells_its_accuracy(name):
    method, batch = build(name), pairs()
    output = method.step(batch, TEACHER)
    logits = method.teacher(batch.picture).logits
    torch.testing.assert_close(output.loss, F.cross_entropy(logits, batch.image_target))
    assert output.parts["teacher_accuracy"] == (logits.argmax(1) == batch.image_target).float().mean()


def test_void_counts_nowhere():
    batch = scenes()
    net = student("unet", width=0.25)
    method = build("plain-kd", net, teacher="unet")
    output, logits = method.step(batch, TEACHER), method.teacher(batch.picture).logits
    known = batch.image_target != 255
    assert not known.all()
    torch.testing.assert_close(output.loss, F.cross_entropy(logits, batch.image_target, ignore_index=255))
    assert output.parts["teacher_accuracy"] == (logits.argmax(1) == batch.image_target)[known].float().mean()


def test_plain_distillation_is_the_label_loss_and_the_teachers_answer():
    batch = pairs()
    method = build("plain-kd", task=2.0, kd=3.0, temperature=2.0, tet=False)
    parts = method.step(batch, Progress("student", 0, 2)).parts
    assert not method.teacher.training
    logits = method.student(batch.image).logits
    torch.testing.assert_close(parts["task"], 2 * mean_logit_loss(logits, batch.image_target))
    expected = kd_loss(logits[:, 0], method.teacher(batch.picture).logits, temperature=2.0)
    torch.testing.assert_close(parts["kd"], 3 * expected)
    assert [
        build("plain-kd").temperature,
        build("plain-kd", student("unet"), teacher="unet").temperature,
    ] == [4, 1]


def test_reconstruct_then_run_refuses_other_students_and_shares():
    with pytest.raises(ConfigError, match="the model 'reconstruct-then-run', but got ConvNet"):
        build("reconstruct-then-run", student("convnet"))
    for share in (0.0, 1.0):
        with pytest.raises(ConfigError, match="`teacher_share` in"):
            build("reconstruct-then-run", teacher_share=share)
    with pytest.raises(ConfigError, match="a network that reads pictures"):
        student("reconstruct-then-run", image_model="reconstruct-then-run")


@pytest.mark.parametrize(("image_model", "task"), [("convnet", "recognition"), ("unet", "segmentation")])
def test_reconstruct_then_run_is_its_two_networks_in_a_row(image_model, task):
    net = student("reconstruct-then-run", image_model=image_model, generator_width=4).eval()
    events = pairs().events
    again = net.reconstruction(events.flatten(1, 2))
    torch.testing.assert_close(net(events).logits, net.image_model(again[:, None]).logits)
    assert net.task == task
    assert net.features == net.image_model.features
    assert net.strip() is net
    method, batch = build("reconstruct-then-run", net), scenes() if task == "segmentation" else pairs()
    before = snapshot(method.student.image_model)
    output = method.train().step(batch, Progress("reconstruction", 0, 2))
    torch.testing.assert_close(output.loss, (net.picture(batch.image) - batch.picture).abs().mean())
    assert all(torch.equal(value, before[name]) for name, value in net.image_model.state_dict().items())
