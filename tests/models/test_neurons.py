"""Laws of the neurons, their surrogates, and the traces of SpikingJelly and snnTorch."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evlift.errors import ConfigError
from evlift.models.neurons import SURROGATES, Dynamics, Neuron, integrate_and_fire, lif

TRACE = Path(__file__).parent / "data" / "lif_trace.npz"
META = json.loads(str(np.load(TRACE)["meta"]))
MEMORY = ("normal", "low")
LAWS = [(reset, detach) for reset in ("hard", "soft") for detach in (True, False)]

FORMULAS = {
    "triangular": lambda x: max(0.0, 2 - 4 * abs(x)),
    "rectangular": lambda x: 1.0 if abs(x) < 0.5 else 0.0,
    "arctan": lambda x: 1 / (1 + (math.pi * x) ** 2),
    "sigmoid": lambda x: 4 * math.exp(-4 * x) / (1 + math.exp(-4 * x)) ** 2,
}


def current(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.4 + 0.8 * torch.randn(*shape, generator=generator)


def by_hand(x: list[float], tau: float, threshold: float, reset: str) -> tuple[list[float], list[float]]:
    """The neuron of the papers in plain Python."""
    v, spikes, potentials = 0.0, [], []
    for i in x:
        v += (i - v) / tau
        spikes.append(1.0 if v > threshold else 0.0)
        if spikes[-1]:
            v = 0.0 if reset == "hard" else v - threshold
        potentials.append(v)
    return spikes, potentials


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("grad", [True, False])
def test_constant_current_fires_strictly_above_threshold(memory: str, grad: bool) -> None:
    spikes, v = lif(torch.ones(1, 3, 1, requires_grad=grad), memory=memory)
    assert spikes.flatten().tolist() == [0, 1, 0]
    assert v.flatten().tolist() == [0.5, 0, 0.5]


@given(
    st.lists(st.integers(-24, 24).map(lambda i: i / 8), min_size=1, max_size=8),
    st.sampled_from([1.0, 2.0, 4.0]),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.sampled_from(["hard", "soft"]),
)
@settings(deadline=None, max_examples=60)
def test_equals_the_neuron_written_by_hand(x: list[float], tau: float, threshold: float, reset: str) -> None:
    # Few binary digits and powers of two keep float32 exact, so ties fall alike.
    spikes, v = lif(torch.tensor([x]), tau=tau, threshold=threshold, reset=reset)
    wanted = by_hand(x, tau, threshold, reset)
    torch.testing.assert_close(v[0], torch.tensor(wanted[1]), atol=1e-5, rtol=0)
    assert spikes[0].tolist() == wanted[0]


@pytest.mark.parametrize("index", range(len(META["cases"])))
@pytest.mark.parametrize("memory", MEMORY)
def test_agrees_with_the_recorded_trace(index: int, memory: str) -> None:
    arrays, case = np.load(TRACE), META["cases"][index]
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    law = Dynamics(META["threshold"], case["reset"], case["surrogate"], case["detach_reset"])
    neuron = Neuron(case["kind"], META["tau"], law, memory)
    trace = neuron(x.unbind(1))
    spikes, potentials = torch.stack(trace.spikes, 1), torch.stack(trace.potentials, 1)
    weights = (torch.from_numpy(arrays[name]) for name in ("spike_weight", "potential_weight"))
    sum((a * w).sum() for a, w in zip((spikes, potentials), weights, strict=True)).backward()  # type: ignore[union-attr]

    wanted = {
        name: torch.from_numpy(arrays[f"case{index}_{name}"]) for name in ("spikes", "potentials", "x_grad")
    }
    assert wanted["spikes"].any()
    assert torch.equal(spikes.bool(), wanted["spikes"])
    torch.testing.assert_close(potentials, wanted["potentials"], atol=1e-5, rtol=0)
    torch.testing.assert_close(x.grad, wanted["x_grad"], atol=1e-5, rtol=1e-5)
    if case["kind"] == "plif":
        grad = torch.from_numpy(arrays[f"case{index}_leak_grad"])
        torch.testing.assert_close(neuron.leak_logit.grad, grad.reshape(()), atol=1e-4, rtol=1e-5)


def test_trace_names_its_packages() -> None:
    assert {case["package"] for case in META["cases"]} == {"spikingjelly", "snntorch"}
    assert set(META["versions"]) == {"spikingjelly", "snntorch", "torch"}


@pytest.mark.parametrize("name", SURROGATES.names())
def test_surrogate_follows_its_formula(name: str) -> None:
    x = torch.linspace(-1.7, 1.7, 101)
    wanted = torch.tensor([FORMULAS[name](float(v)) for v in x])
    before = x.clone()
    torch.testing.assert_close(SURROGATES[name](x), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", SURROGATES.names())
@pytest.mark.parametrize("memory", MEMORY)
def test_spike_gradient_is_the_surrogate(name: str, memory: str) -> None:
    x = current(1, 1, 200).requires_grad_()
    spikes, _ = lif(x, tau=1.0, threshold=0.3, surrogate=name, memory=memory)
    spikes.sum().backward()
    wanted = torch.tensor([[[FORMULAS[name](float(v) - 0.3) for v in x.detach().flatten()]]])
    torch.testing.assert_close(x.grad, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("reset", "detach"), LAWS)
@pytest.mark.parametrize("kind", ["lif", "plif", "if"])
@pytest.mark.parametrize("start", [True, False])
def test_low_memory_gives_the_same_numbers(reset: str, detach: bool, kind: str, start: bool) -> None:
    law = Dynamics(0.5, reset, "arctan", detach)
    results = []
    for memory in MEMORY:
        neuron = Neuron(kind, 3.0, law, memory)
        x, v0 = current(3, 7, 5).requires_grad_(), current(3, 5, seed=1).requires_grad_()
        trace = neuron(x.unbind(1), v0 if start else None)
        loss = sum(
            (s * (t + 1)).sum() + v.square().sum() for t, (s, v) in enumerate(zip(*trace, strict=True))
        )
        wanted = [x, *([v0] if start else []), *neuron.parameters()]
        results.append([*trace.spikes, *trace.potentials, *torch.autograd.grad(loss, wanted)])
    for normal, low in zip(*results, strict=True):
        torch.testing.assert_close(normal, low, atol=2e-6, rtol=1e-5)


def test_low_memory_keeps_one_tensor_a_step() -> None:
    def kept(memory: str) -> int:
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trace = Neuron(memory=memory)([current(100, seed=t).requires_grad_() for t in range(6)])
        assert len(trace.spikes) == 6  # alive while counting, so that no address is counted twice
        return sum(saved.values())

    assert kept("low") == 600
    assert kept("normal") > 600


@pytest.mark.parametrize("memory", MEMORY)
def test_two_halves_are_the_whole(memory: str) -> None:
    x = current(2, 8, 5).requires_grad_()
    spikes, v = lif(x, memory=memory)
    first, v1 = lif(x[:, :3], memory=memory)
    second, v2 = lif(x[:, 3:], v1[:, -1], memory=memory)
    assert torch.equal(torch.cat((first, second), 1), spikes)
    assert torch.equal(torch.cat((v1, v2), 1), v)
    weight = torch.arange(8.0)[None, :, None]
    whole = torch.autograd.grad((spikes * weight).sum(), x, retain_graph=True)[0]
    halves = torch.autograd.grad((torch.cat((first, second), 1) * weight).sum(), x)[0]
    torch.testing.assert_close(whole, halves)


@pytest.mark.parametrize("memory", MEMORY)
def test_gradient_of_the_potential_alone(memory: str) -> None:
    x = torch.tensor([[[0.2], [0.4]]], requires_grad=True)  # never fires: v2 = x1/4 + x2/2
    _, v = lif(x, memory=memory)
    v[:, -1].sum().backward()
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([0.25, 0.5]))


def test_bf16_input_keeps_a_float32_state() -> None:
    x = current(2, 5, 9).bfloat16()
    spikes, v = lif(x)
    exact_spikes, exact_v = lif(x.float())
    assert spikes.dtype == torch.bfloat16
    assert v.dtype == torch.float32
    assert torch.equal(spikes.float(), exact_spikes)
    assert torch.equal(v, exact_v)


@pytest.mark.parametrize("memory", MEMORY)
def test_autocast_changes_nothing_for_float32_input(memory: str) -> None:
    x = current(2, 5, 9).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        inside = lif(x, memory=memory)
    for a, b in zip(inside, lif(x, memory=memory), strict=True):
        assert torch.equal(a, b)


def test_without_gradient_the_numbers_are_the_same() -> None:
    x = current(2, 5, 9)
    for reset in ("hard", "soft"):
        with_grad = lif(x.clone().requires_grad_(), reset=reset)
        with torch.no_grad():
            without = lif(x, reset=reset)
        assert all(torch.equal(a, b) for a, b in zip(with_grad, without, strict=True))


@pytest.mark.parametrize("memory", MEMORY)
def test_input_is_untouched(memory: str) -> None:
    x, v0 = current(2, 4, 3), current(2, 3)
    copies = x.clone(), v0.clone()
    x.requires_grad_()
    for function in (lif, integrate_and_fire):
        spikes, v = function(x, v0, memory=memory)
        (spikes.sum() + v.sum()).backward()
    assert torch.equal(x, copies[0])
    assert torch.equal(v0, copies[1])


def test_integrate_and_fire_does_not_leak() -> None:
    spikes, v = integrate_and_fire(torch.tensor([[[0.25], [0.25], [0.25], [0.0]]]))
    assert spikes.flatten().tolist() == [0, 0, 1, 0]
    assert v.flatten().tolist() == [0.25, 0.5, 0, 0]


def test_plif_starts_at_tau_and_learns_it() -> None:
    neuron = Neuron("plif", tau=4.0)
    x = current(2, 5, 3)
    spikes = torch.stack(neuron(x.unbind(1)).spikes, 1)
    torch.testing.assert_close(spikes, lif(x, tau=4.0)[0])
    spikes.sum().backward()
    assert neuron.leak_logit.grad.abs() > 0
    learnt = torch.tensor(3.0, requires_grad=True)
    lif(x, tau=learnt)[0].sum().backward()
    assert learnt.grad.abs() > 0


def test_neuron_holds_no_state() -> None:
    neuron = Neuron()
    x = current(2, 5, 3).requires_grad_()
    first = neuron(x.unbind(1))
    sum(first.spikes).sum().backward()  # type: ignore[union-attr]
    second = copy.deepcopy(neuron)(x.unbind(1))
    assert all(torch.equal(a, b) for a, b in zip(first.spikes, second.spikes, strict=True))
    assert neuron.state_dict() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.5}, "Expected `tau` to be at least 1"),
        ({"threshold": 0.0}, "Expected `threshold` to be positive"),
        ({"reset": "gentle"}, "Expected `reset` to be 'hard' or 'soft', but got 'gentle'"),
        ({"memory": "none"}, "Expected `memory` to be 'normal' or 'low'"),
        ({"surrogate": "triangle"}, "Did you mean 'triangular'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lif(torch.ones(1, 1, 1), **options)


def test_wrong_neurons_are_refused() -> None:
    with pytest.raises(ConfigError, match="Expected `neuron`"):
        Neuron("izhikevich")
    with pytest.raises(ConfigError, match="above 1 for a PLIF"):
        Neuron("plif", tau=1.0)
