"""Weights scaled on data: unit variance of every layer, a network that fires, and what is refused."""

from __future__ import annotations

import pytest
import torch

import evlift
from evlift.errors import ConfigError
from evlift.models.balance import balance
from evlift.models.cost import measure_cost
from helpers import tiny


def sparse_clips(batch=16, steps=6):
    torch.manual_seed(0)
    return (torch.rand(batch, steps, 2, 28, 28) < 0.1).float()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return evlift.create_model("scnn", classes=10)


def outputs(net, clips):
    """What every convolution and linear layer gives, by name, gathered another way than `balance` does."""
    found = {}
    for name, layer in net.named_modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            forward = layer.forward

            def keep(x, name=name, forward=forward):
                found.setdefault(name, []).append(forward(x))
                return found[name][-1]

            layer.forward = keep
    with torch.no_grad():
        net.eval()(clips)
    return {name: torch.cat([x.flatten() for x in xs]) for name, xs in found.items()}


def test_every_layer_gets_unit_variance(net):
    clips = sparse_clips()
    factors = balance(net, clips)
    assert list(factors) == ["conv1", "conv2", "fc", "heads.event"]
    for name, output in outputs(net, clips).items():
        assert float(output.std()) == pytest.approx(1, abs=0.02), name


def test_a_silent_network_fires_afterwards(net):
    clips = sparse_clips()
    before = measure_cost(net.eval(), clips).firing_rates
    balance(net, clips)
    after = measure_cost(net.eval(), clips).firing_rates
    assert before["neuron3"] < 0.01
    assert min(after.values()) > 0.05


def test_weights_change_by_the_named_factor_alone(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    factors = balance(net, sparse_clips())
    for name, value in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        torch.testing.assert_close(value, before[name] * (factors[layer] if kind == "weight" else 1))


def test_silence_is_left_alone(net):
    factors = balance(net, torch.zeros(4, 6, 2, 28, 28))
    assert factors["conv1"] == 1
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_the_mode_is_given_back(net):
    assert net.training
    balance(net, sparse_clips())
    assert all(module.training for module in net.modules())


def test_networks_with_batch_normalisation_are_refused():
    with pytest.raises(ConfigError, match=r"without batch normalisation .* Leave train\.lsuv out"):
        balance(evlift.create_model("vgg-snn", classes=10, width=0.1), sparse_clips())


def test_training_starts_from_balanced_weights(tmp_path):
    """Before the first step: with a rate of nothing the kept weights are the balanced ones."""
    still = {"lsuv": True, "steps": 1, "lr": 0.0, "eval_every": 0}
    evlift.train(tiny(train=still), tmp_path / "balanced")
    evlift.train(tiny(train={**still, "lsuv": False}), tmp_path / "plain")
    balanced, plain = (evlift.open_run(tmp_path / name).network for name in ("balanced", "plain"))
    ratio = (balanced.conv1.weight / plain.conv1.weight).detach()
    assert float(ratio.std()) < 1e-4
    assert float(ratio.mean()) > 1.2
