"""Self-training: the moving average, the perturbation, and what counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_pairs import build, pairs, student

from evlift.errors import ConfigError, DataError
from evlift.losses.distill import kd_loss
from evlift.methods import Progress, method_options
from evlift.methods.self_training import AveragedTeacher, distil_own, perturbed


def test_the_average_follows_quickly_at_first_and_then_slowly():
    net = student("convnet", width=0.25)
    average = AveragedTeacher(net, 0.5)
    mean = [p.detach().clone() for p in net.parameters()]
    for count in range(1, 15):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        net(pairs().events)  # moves batch statistics
        average.update(net)
        decay = min(0.5, count / (count + 9))
        mean = [decay * m + (1 - decay) * p for m, p in zip(mean, net.parameters(), strict=True)]
    for m, p in zip(mean, average.network.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), m.detach())
    assert all(torch.equal(a, b) for a, b in zip(average.network.buffers(), net.buffers(), strict=True))
    assert not any(p.requires_grad for p in average.network.parameters())


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_a_decay_lies_between(decay):
    with pytest.raises(ConfigError, match="`decay` in"):
        AveragedTeacher(student("convnet"), decay)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_perturbed_clips_lose_events_and_move_none(steps, height, width, seed):
    torch.manual_seed(seed)
    clips = torch.rand(3, steps, 2, height, width) + 1
    seen = perturbed(clips)
    assert seen.shape == clips.shape
    assert torch.equal(seen, torch.where(seen == 0, 0.0, clips))


def test_a_perturbation_drops_pixels_and_a_box():
    seen = perturbed(torch.ones(400, 6, 2, 16, 16))
    kept = seen.mean((1, 2, 3, 4))
    assert 0.75 < kept.mean() < 0.9  # half of 30 % of the pixels, and a small box
    assert kept.std() > 0.05
    blank = (seen.sum((1, 2)) == 0).float().mean((1, 2))  # pixels without an event in any step
    assert 0.005 < blank.mean() < 0.05
    assert blank.max() < 0.1
    assert (seen.sum((2, 3, 4)) > 0).all()  # no step is lost


def test_only_confident_answers_teach():
    net = student("convnet", width=0.25)
    average, events = AveragedTeacher(net, 0.9), pairs().events
    sure = average.logits(events).softmax(1).amax(1)
    threshold = float(sure.median())
    torch.manual_seed(1)
    loss, share = distil_own(average.logits(events), net, events, threshold)
    torch.manual_seed(1)
    answer = net(perturbed(events)).logits[:, 0]
    confident = sure >= threshold
    assert share == confident.float().mean()
    assert 0 < share < 1
    each = [kd_loss(a[None], t[None]) for a, t in zip(answer, average.logits(events), strict=True)]
    torch.testing.assert_close(loss, (torch.stack(each) * sure * confident).mean())
    loss, share = distil_own(average.logits(events), net, events, 0.999)
    (20 * loss).backward()
    assert loss == share == 0
    assert all((p.grad == 0).all() for p in net.parameters())


def test_events_give_statistics_from_the_start_and_targets_later():
    method, batch = build("mean-teacher", threshold=0.0, start=0.5), pairs()
    early, late = (method.step(batch, Progress("train", index, 10)) for index in (4, 5))
    assert set(early.parts) == {"label"}
    assert set(late.parts) == {"label", "self_training", "confident"}
    torch.testing.assert_close(late.loss, late.parts["label"] + late.parts["self_training"])
    late.loss.backward()
    assert all(p.grad is None for p in method.average.parameters())
    statistics = []
    for events in (batch.events, 1 - batch.events):
        torch.manual_seed(2)
        method = build("mean-teacher", start=0.5)
        method.step(replace(batch, events=events), Progress("train", 0, 10))
        statistics.append(dict(method.student.named_buffers()))
    assert any(not torch.equal(value, statistics[1][name]) for name, value in statistics[0].items())


@pytest.mark.parametrize(("method", "more"), [("mean-teacher", {}), ("lift", {"mixup": 0.0, "ag": 0.0})])
def test_whole_recordings_answer_for_their_windows(method, more):
    """The average reads the whole recordings, the student their windows."""
    phase, part = {"mean-teacher": ("train", "self_training"), "lift": ("joint", "averaged")}[method]
    batch = replace(pairs(), whole=1 - pairs().events)

    def said(batch, **options):
        torch.manual_seed(2)
        found = build(method, student("convnet", width=0.25), **options)
        torch.manual_seed(3)
        return found.step(batch, Progress(phase, 5, 10)).parts[part]

    any_answer = dict.fromkeys(("threshold", "averaged_threshold"), 0.0)
    options = more | {name: value for name, value in any_answer.items() if name in method_options(method)}
    plain = said(batch, **options)
    whole = said(batch, **options, whole_targets=True)
    assert whole != plain
    assert said(replace(batch, whole=batch.events), **options, whole_targets=True) == plain
    with pytest.raises(DataError, match="whole"):
        said(pairs(), **options, whole_targets=True)


@pytest.mark.parametrize("method", ["mean-teacher", "lift", "evdistill"])
def test_whole_recordings_are_refused_for_masks(method):
    teacher = {} if method == "mean-teacher" else {"teacher": "unet"}
    with pytest.raises(ConfigError, match="whole_targets=False for segmentation"):
        build(method, student("unet", width=0.25), **teacher, whole_targets=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.0}, "`threshold` in"),
        ({"start": -0.1}, "`start` in"),
        ({"weight": -1.0}, "`weight` to be at least 0"),
        ({"weight": float("nan")}, "`weight` to be at least 0"),
        ({"decay": 1.0}, "`decay` in"),
        ({"whole_targets": True, "weight": 0.0}, "whole_targets=False with weight=0"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build("mean-teacher", **options)
