"""KT: its total loss against a loop, sliding training, and where the learnt step weights go."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy_pairs import STEPS, build, pairs, student

from evlift.errors import ConfigError, DataError
from evlift.losses import linear_cka, tet_per_step
from evlift.methods import Progress
from evlift.methods.base import StepOutput

START, END = Progress("train", 0, 10), Progress("train", 10, 10)


class Conventional(nn.Module):
    """A network without time, potentials or spikes."""

    channels, input_size = 2, (16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2 * 16 * 16, 3)

    def forward(self, x, *, head="event", state=None, taps=False):
        logits = self.layer(x.mean(1).flatten(1))[:, None]
        return type("Output", (), {"logits": logits, "potential": None, "spikes": None, "state": None})


@pytest.mark.parametrize("net", ["scnn", "vgg-snn"])
def test_with_every_clip_replaced_both_streams_are_equal(net):
    method = build("kt", student(net, width=0.5))
    for _ in range(5):
        method.step(pairs(), START)  # batch statistics, so that the network fires in evaluation mode
    method.eval()
    assert method.student(pairs().events, taps=True).spikes[:, 1:].sum(dim=(0, 2, 3, 4)).all()
    output = method.step(pairs(), END)
    assert output.parts["ratio"] == 1
    assert output.parts["alignment"].abs() < 1e-5
    assert method.step(pairs(), START).parts["alignment"] > 1e-3


def test_sliding_follows_the_cube_of_the_progress():
    method, batch = build("kt", student("scnn")), pairs(count=300)
    shares = {k: float(method.step(batch, Progress("train", k, 10)).parts["ratio"]) for k in (0, 5, 8)}
    assert shares[0] == 0
    assert shares[5] == pytest.approx(0.125, abs=0.06)
    assert shares[8] == pytest.approx(0.512, abs=0.09)
    assert build("kt", sliding=False).step(batch, END).parts["ratio"] == 0


def test_the_total_equals_a_loop_over_time():
    method, batch = build("kt", sliding=False, alpha=0.7, tet_lambda=0.01), pairs()
    with torch.no_grad():
        method.step_logit.copy_(torch.tensor([1.0, -1.0, 0.5, 2.0]))
    static = method.student(batch.image, head="image", taps=True)
    events = method.student(batch.events, head="event", taps=True)
    expected = tet_per_step(static.logits, batch.image_target, lam=0.01).mean()
    label = tet_per_step(events.logits, batch.event_target, lam=0.01)
    for t, logit in enumerate((1.0, -1.0, 0.5, 2.0)):
        s = torch.sigmoid(torch.tensor(logit))
        distance = 1 - abs(linear_cka(static.potential[:, t], events.potential[:, t]))
        assert distance > 0 or t == 0  # the last layer is silent in the first step
        expected = expected + ((1 - s) * label[t] + 0.7 * s * distance) / STEPS
    torch.testing.assert_close(method.step(batch, START).loss, expected)


def test_without_regularisation_the_sums_have_weight_one():
    method = build("kt", regularised=False, sliding=False, alpha=0.7)
    output: StepOutput = method.step(pairs(), START)
    parts = output.parts
    total = parts["label_static"] + parts["label_events"] + 0.7 * parts["alignment"]
    torch.testing.assert_close(output.loss, total)
    assert "event_weight" not in parts
    assert method.step_logit is None


def test_the_regularisation_switches_the_event_labels_off():
    """At the start labels cost log K each and alignment at most 0.5: the gradient drives s_t to 1."""
    method = build("kt", sliding=False)
    assert method.step_logit.sigmoid().tolist() == pytest.approx([0.7310586] * STEPS)
    method.step(pairs(), START).loss.backward()
    assert (method.step_logit.grad < 0).all()
    optimizer = torch.optim.SGD([method.step_logit], lr=10.0)
    weights = []
    for _ in range(10):
        optimizer.zero_grad()
        output = method.step(pairs(), START)
        output.loss.backward()
        optimizer.step()
        weights.append(float(output.parts["event_weight"].detach()))
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < 0.5 * weights[0]


def test_alignment_gradient_reaches_both_streams_body():
    method = build("kt", sliding=False)
    batch = pairs()
    out = [method.student(x, head=h, taps=True) for x, h in ((batch.image, "image"), (batch.events, "event"))]
    method.alignment(*out).mean().backward()
    assert (method.student.blocks[0].conv.weight.grad != 0).any()
    assert all(p.grad is None for p in method.student.heads.parameters())


def test_a_silent_stream_keeps_the_loss_finite():
    batch = pairs()
    method = build("kt")
    output = method.step(replace(batch, events=torch.zeros_like(batch.events)), START)
    output.loss.backward()
    assert output.parts["alignment"] == 1
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "weight `alpha`"),
        ({"alpha": float("nan")}, "weight `alpha`"),
        ({"alpha": 0}, "Set regularised=False"),
        ({"tet": False}, "Set regularised=False"),
        ({"steps": 0}, "`steps` to be at least 1"),
        ({"net": Conventional()}, "spiking student.*got Conventional.*'events-only'"),
        ({"net": nn.Linear(1, 1)}, "spiking student.*got Linear"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build("kt", **options)


def test_a_network_without_taps_may_go_without_alignment():
    method = build("kt", Conventional(), alpha=0, regularised=False)
    assert torch.isfinite(method.step(pairs(), START).loss)


def test_probing_the_student_leaves_it_as_it_was():
    net = student()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    build("kt", net)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_wrong_batches_are_named():
    batch = pairs()
    with pytest.raises(DataError, match="T = 5 steps"):
        build("kt", steps=5).step(batch, START)
    with pytest.raises(DataError, match="Pair the data by category"):
        build("kt").step(replace(batch, image_target=batch.image_target.flip(0)), START)
