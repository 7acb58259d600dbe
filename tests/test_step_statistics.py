"""The benchmark of batch statistics: a batch's own are used while it judges, and nothing of the network changes."""

from __future__ import annotations

import copy

import pytest
import torch

from evlift.datasets.base import Batch
from evlift.models import create_model
from helpers import benchmark


def test_own_statistics_normalise_each_step_and_leave_no_trace():
    bench = benchmark("step_statistics")
    torch.manual_seed(0)
    net = create_model("vgg-snn", classes=3, width=0.05, input_size=16).eval()
    clip, before = 5 * torch.rand(8, 2, 2, 16, 16), copy.deepcopy(net.state_dict())
    reference = copy.deepcopy(net).train()
    with torch.no_grad(), bench.own_statistics(net):
        own = net(clip).logits
        torch.testing.assert_close(own, reference(clip).logits)
    assert all(
        torch.equal(value, before[name]) for name, value in net.state_dict().items() if "batches" not in name
    )
    with torch.no_grad():
        running = net(clip).logits
        target = running.mean(dim=1).argmax(dim=1)
    assert not torch.equal(running, own)
    assert bench.accuracy(net, Batch(events=clip, event_target=target)) == 1


def test_a_network_without_statistics_is_refused():
    with (
        pytest.raises(SystemExit, match="such as vgg-snn"),
        benchmark("step_statistics").own_statistics(create_model("scnn", classes=3)),
    ):
        pass
