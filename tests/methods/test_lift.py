"""Lift: what it reads, what trains what, labelled recordings beside unlabelled ones, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import evlift
from evlift import assembly
from evlift.config import parse_recipe
from evlift.engine.logs import read_log
from evlift.errors import ConfigError
from evlift.methods.base import Progress
from evlift.methods.lift import scrambled
from helpers import tiny

INPUT = {"encoding": "saccade", "steps": 3}
CONVNET = {"name": "convnet", "width": 0.2, "shared_time": True, "separate_bn": True}


def recipe(labels=0.0, model=None, **method):
    return tiny(
        method={"name": "lift", "labels": labels, "averaged_start": 0, "averaged_threshold": 0.0, **method},
        input=INPUT,
        model=model or CONVNET,
    )


def built(said):
    parsed = parse_recipe(said)
    torch.manual_seed(0)
    task = assembly.create_task(parsed)
    method = assembly.build_method(parsed, task)
    return task, method, assembly.build_feeder(parsed, task, method)


def test_without_labels_it_reads_none():
    _, method, feeder = built(recipe())
    batch = feeder.batch(0)
    assert not method.uses_event_labels
    assert batch.event_target is None
    assert batch.labelled is None


def test_with_labels_unlabelled_and_labelled_recordings_come_beside_each_other():
    task, _, feeder = built(recipe(labels=1.0))
    batch = feeder.batch(0)
    assert batch.events.shape == (8, 3, 2, 28, 28)
    assert batch.labelled.shape == batch.events.shape
    assert batch.event_target.shape == (8,)
    seen = {int(t) for step in range(40) for t in feeder.batch(step).event_target}
    assert seen == set(np.unique(task.train.targets).tolist())


def test_a_labelled_row_has_the_label_of_its_recording():
    task, _, feeder = built(recipe(labels=1.0))
    clips = {}
    for i, target in enumerate(task.train.targets):
        stream = task.train.load(i)
        clips.setdefault(int(target), []).append(len(stream))
    feeder.encoder.events = lambda stream, *_, **__: torch.full((3, 2, 28, 28), float(len(stream)))
    for step in range(5):
        batch = feeder.batch(step)
        for clip, target in zip(batch.labelled, batch.event_target, strict=True):
            assert float(clip[0, 0, 0, 0]) in clips[int(target)]


def test_the_parts_of_its_loss():
    _, method, feeder = built(recipe(labels=2.0))
    batch = feeder.batch(0)
    output = method.step(batch, Progress("joint", 5, 10))
    assert {"task", "kd", "ag", "averaged", "mixup", "labels"} <= set(output.parts)
    named = ("task", "kd", "ag", "averaged", "mixup", "labels")
    total = sum(float(output.parts[name].detach()) for name in named)
    assert float(output.loss.detach()) == pytest.approx(total, rel=1e-5)
    with torch.no_grad():
        torch.manual_seed(0)
        once = method.student(batch.labelled, head="event").logits
        assert float(output.parts["labels"].detach()) == pytest.approx(
            2 * float(method.label_loss(once, batch.event_target)), rel=1e-3
        )


def test_the_teacher_stands_still_while_the_student_learns():
    _, method, feeder = built(recipe(labels=1.0))
    method.step(feeder.batch(0), Progress("joint", 5, 10)).loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.student.parameters())


def test_labelled_recordings_do_not_move_the_statistics(monkeypatch):
    _, method, feeder = built(recipe(labels=1.0))
    batch, moved = feeder.batch(0), []
    for labels in (0.0, 1.0):
        _, method, _ = built(recipe(labels=1.0))
        method.labels = labels
        torch.manual_seed(1)
        method.step(batch, Progress("joint", 5, 10))
        moved.append(method.student.body[1].running_mean.clone())
    torch.testing.assert_close(*moved)


@pytest.mark.parametrize(
    ("labels", "chosen"), [(0.0, "source_val"), (1.0, "val")], ids=["label-free", "labels"]
)
@pytest.mark.parametrize("model", [CONVNET, {"name": "scnn", "width": 0.4}], ids=["convnet", "scnn"])
def test_it_trains_and_says_where_weights_were_chosen(tmp_path, labels, chosen, model):
    run = evlift.train(recipe(labels=labels, model=model), tmp_path)
    assert run.read_record()["selected_on"] == chosen
    names = {row["name"] for row in read_log(run.log)}
    assert ("labels" in names) is bool(labels)
    assert 0 <= evlift.evaluate(tmp_path).metrics.accuracy <= 1


def test_mixup_is_left_out_where_nothing_can_be_mixed():
    student = evlift.create_model("unet", classes=3, input_size=32, width=0.5, steps=2)
    method = evlift.create_method("lift", student, steps=2, teacher="unet")
    assert method.mixup is None
    one = evlift.create_model("convnet", classes=3, input_size=32, width=0.2)
    assert evlift.create_method("lift", one, steps=1).mixup is None


def test_labels_are_refused_for_masks():
    student = evlift.create_model("unet", classes=3, input_size=32, width=0.5, steps=2)
    with pytest.raises(ConfigError, match=r"labels=0 for segmentation.*got 1"):
        evlift.create_method("lift", student, steps=2, teacher="unet", labels=1)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_scrambled_recordings_hold_the_same_events_elsewhere(size):
    torch.manual_seed(0)
    height, width = (side // 2 * 2 for side in size)
    clips = torch.zeros(64, 3, 2, *size)
    clips[..., :height, :width] = torch.rand(64, 3, 2, height, width)
    moved = scrambled(clips)
    assert moved.shape == clips.shape
    torch.testing.assert_close(moved.flatten(3).sort().values, clips.flatten(3).sort().values)
    quarters = [
        np.s_[..., a : a + height // 2, b : b + width // 2] for a in (0, height // 2) for b in (0, width // 2)
    ]
    for quarter in quarters:
        kept = moved[quarter].flatten(3).sort().values == clips[quarter].flatten(3).sort().values
        assert not kept.all((1, 2, 3)).any()


def test_scrambling_is_the_same_at_every_time_step():
    torch.manual_seed(0)
    clips = torch.rand(8, 1, 2, 8, 8).expand(-1, 3, -1, -1, -1)
    moved = scrambled(clips)
    torch.testing.assert_close(moved[:, 0], moved[:, 2])
    assert len({tuple(clip.flatten().tolist()) for clip in moved}) == 8


def test_strangers_pull_the_answers_to_scrambled_recordings_together():
    """A few steps against this part alone: from sure answers to nearly uniform ones, never below log K."""
    _, method, feeder = built(recipe(strangers=2.0))
    batch, classes = feeder.batch(0), 10
    with torch.no_grad():
        [layer for layer in method.student.modules() if isinstance(layer, torch.nn.Linear)][-1].weight.mul_(
            50
        )
    optimizer, parts = torch.optim.Adam(method.student.parameters(), 0.01), []
    for step in range(15):
        output = method.step(batch, Progress("joint", step, 100))
        parts.append(float(output.parts["strangers"].detach()))
        optimizer.zero_grad()
        output.parts["strangers"].backward()
        optimizer.step()
    floor = 2 * float(np.log(classes))
    assert min(parts) >= floor - 1e-4
    assert parts[0] > floor + 0.5
    assert parts[-1] - floor < 0.3 * (parts[0] - floor)


def test_strangers_are_refused_for_masks():
    student = evlift.create_model("unet", classes=3, input_size=32, width=0.5, steps=2)
    with pytest.raises(ConfigError, match=r"strangers=0 for segmentation.*got 1"):
        evlift.create_method("lift", student, steps=2, teacher="unet", strangers=1.0)
