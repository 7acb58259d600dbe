"""Evaluation mode and statistics of a head, lent for a while."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from evlift.models import create_model
from evlift.models.modes import (
    add_image_statistics,
    batch_norms,
    drop_image_statistics,
    evaluating,
    statistics,
    without_image_statistics,
)


def twin_norm() -> nn.Sequential:
    net = nn.Sequential(nn.BatchNorm2d(3))
    add_image_statistics(net)
    return net


def test_statistics_follow_the_head() -> None:
    net, x = twin_norm(), torch.randn(4, 3, 6, 6)
    oracle = {"event": nn.BatchNorm2d(3), "image": nn.BatchNorm2d(3)}
    for head, factor in (("event", 1), ("image", 5), ("event", 2)):
        with statistics(net, head):
            got = net(x * factor)
        assert torch.equal(got, oracle[head](x * factor))
    net.eval()
    for head, wanted in oracle.items():
        with statistics(net, head):
            assert torch.equal(net(x), wanted.eval()(x))
    assert torch.equal(net[0].num_batches_tracked, torch.tensor(2))
    drop_image_statistics(net)
    assert set(net[0].state_dict()) == set(nn.BatchNorm2d(3).state_dict())


def test_statistics_come_back_after_an_error() -> None:
    net = twin_norm()
    net[0].image_mean.fill_(7.0)
    with pytest.raises(RuntimeError), statistics(net, "image"):
        net(torch.zeros(1, 4, 2, 2))  # one channel too many
    assert net[0].running_mean.tolist() == [0.0] * 3


def test_a_state_without_image_statistics_is_that_of_the_plain_layer() -> None:
    assert (
        without_image_statistics(twin_norm().state_dict()).keys()
        == nn.Sequential(nn.BatchNorm2d(3)).state_dict().keys()
    )


def test_layers_without_running_statistics_are_left_alone() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.LayerNorm(4))
    assert batch_norms(net) == []
    add_image_statistics(net)
    assert list(net.buffers()) == []


def test_pretrained_statistics_are_where_both_heads_start() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3))
    net[0].running_mean.fill_(2.0)
    add_image_statistics(net)
    assert torch.equal(net[0].image_mean, net[0].running_mean)
    assert net[0].image_mean.data_ptr() != net[0].running_mean.data_ptr()


@pytest.mark.parametrize("name", ["convnet", "timm:mobilenetv3_small_050"])  # timm's norms hold an activation
def test_a_network_takes_gradients_through_both_heads(name: str) -> None:
    options: dict[str, Any] = {"classes": 3, "steps": 2, "input_size": 32, "separate_bn": True}
    net: Any = create_model(name, **options)
    x = torch.rand(4, 2, 2, 32, 32)
    for head in ("event", "image", "event"):
        net(x, head=head).logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    assert not torch.allclose(net(x, head="image").logits, net(x).logits)
    assert (
        net.strip().state_dict().keys()
        == create_model(name, **options | {"separate_bn": False}).state_dict().keys()
    )


def test_every_module_gets_its_own_mode_back() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3))
    net[1].eval()
    with evaluating(net):
        assert not net.training
        assert not net[0].training
    assert [net.training, net[0].training, net[1].training] == [True, True, False]
