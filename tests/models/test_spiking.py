"""The spiking networks: parameter counts, normalisation, state, heads, equal routes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.models import create_model
from evlift.models.base import MeanPool, StepNorm, recommended_precision

SPIKING = ("scnn", "vgg-snn", "resnet18-snn")
SMALL: dict[str, dict[str, Any]] = {
    "scnn": {},
    "vgg-snn": {"width": 0.125, "input_size": 32},
    "resnet18-snn": {"width": 0.125, "input_size": 16},
}


def small(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return create_model(name, **(SMALL[name] | options))


def clip(net: Any, batch: int = 3, steps: int = 5, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(batch, steps, 2, *net.input_size, generator=generator)


def warm(name: str, **options: Any) -> Any:
    """In evaluation mode, with running statistics that let spikes through all layers."""
    net = small(name, **options)
    for module in net.modules():
        if isinstance(module, StepNorm):
            module.momentum = 1.0
    net(clip(net, batch=8))
    return net.eval()


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def gradients(net: nn.Module, x: Tensor, **options: Any) -> tuple[Tensor, list[Tensor]]:
    net.zero_grad()
    logits = net(x, **options).logits
    logits.square().mean().backward()
    return logits, [p.grad for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("vgg-snn", {"classes": 101}, 10_153_674),
        ("vgg-snn", {"classes": 101, "image_head": False}, 10_153_674 - 465_509),
        ("scnn", {"classes": 1623}, 696_573),
        # stem 1 152, blocks of 3×3 convolutions, three 1×1 shortcuts, 21 BN layers, two heads
        ("resnet18-snn", {"classes": 20}, 11_187_880),
    ],
)
def test_parameter_counts(name: str, options: dict[str, Any], count: int) -> None:
    assert parameters(create_model(name, **options)) == count


@pytest.mark.parametrize("name", SPIKING)
def test_two_halves_are_the_whole(name: str) -> None:
    net = warm(name)
    x = clip(net)
    whole = net(x)
    first = net(x[:, :2])
    second = net(x[:, 2:], state=first.state)
    torch.testing.assert_close(torch.cat((first.logits, second.logits), 1), whole.logits)
    assert len(whole.state) == net.layers
    for a, b in zip(second.state, whole.state, strict=True):
        torch.testing.assert_close(a, b)
    # and a forgotten state would be seen
    assert not torch.allclose(net(x[:, 2:]).logits, second.logits)


@pytest.mark.parametrize("name", SPIKING)
def test_runs_do_not_touch_each_other(name: str) -> None:
    net = warm(name)
    x = clip(net)
    first = net(x).logits
    net(clip(net, batch=2, seed=5))
    assert torch.equal(net(x).logits, first)


@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("options", [{"memory": "normal"}, {"merge_time": True}])
def test_routes_agree(name: str, options: dict[str, Any]) -> None:
    net, other = small(name), small(name, **options)
    logits, grads = gradients(net, clip(net))
    other_logits, other_grads = gradients(other, clip(net))
    torch.testing.assert_close(other_logits, logits, atol=1e-5, rtol=1e-4)
    for a, b in zip(other_grads, grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-2)


@pytest.mark.parametrize("name", SPIKING)
def test_training_route_equals_the_plain_one(name: str) -> None:
    net = warm(name)
    x = clip(net)
    with torch.no_grad():
        plain = net(x, taps=True)
    trained = net(x, taps=True)
    for a, b in zip(plain[:3], trained[:3], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", SPIKING)
def test_taps_are_spikes_and_potentials(name: str) -> None:
    net = small(name)
    out = net(clip(net), taps=True)
    assert set(out.spikes.unique().tolist()) == {0.0, 1.0}
    if name == "scnn":
        assert torch.equal(out.potential[:, -1], out.state[-1])
    if name == "vgg-snn":
        assert torch.equal(out.potential[:, -1], out.state[-1].flatten(1))
        assert out.potential.shape[2] == out.spikes[0, 0].numel()
    if name == "resnet18-snn":
        assert out.potential.shape[2] == net.features


@pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])
def test_heads_are_two(name: str) -> None:
    net = warm(name)
    x = clip(net)
    assert not torch.allclose(net(x).logits, net(x, head="image").logits)
    net(x).logits.sum().backward()
    assert net.heads["image"].weight.grad is None


@pytest.mark.parametrize("name", SPIKING)
def test_the_only_head_answers_for_both(name: str) -> None:
    alone = small(name, image_head=False).eval()
    x = clip(alone)
    assert list(alone.heads) == ["event"]
    assert torch.equal(alone(x, head="image").logits, alone(x).logits)


def test_the_only_head_reads_the_statistics_of_its_side() -> None:
    net = warm("vgg-snn", image_head=False, separate_bn=True)  # the events' statistics alone
    x = clip(net)
    assert not torch.allclose(net(x, head="image").logits, net(x).logits)
    plain = small("vgg-snn", image_head=False).eval()
    plain.load_state_dict(net.inference_state_dict())
    assert torch.equal(plain(x).logits, net(x).logits)


def test_event_only_network_is_the_stripped_one() -> None:
    full, alone = warm("vgg-snn"), small("vgg-snn", image_head=False)
    alone.load_state_dict(full.inference_state_dict())
    x = clip(full)
    assert torch.equal(alone.eval()(x).logits, full(x).logits)


def test_scnn_answers_to_both_heads() -> None:
    net = small("scnn")
    assert torch.equal(net(clip(net)).logits, net(clip(net), head="image").logits)
    assert list(net.heads) == ["event"]


def steps_of(x: Tensor) -> list[Tensor]:
    return list(x.unbind(1))


@pytest.mark.parametrize("training", [True, False])
def test_norm_per_step_is_batchnorm_called_in_turn(training: bool) -> None:
    x = torch.randn(4, 5, 3, 6, 6) * torch.arange(1, 6).view(1, 5, 1, 1, 1)
    ours, theirs = StepNorm(3, "step").train(training), nn.BatchNorm2d(3).train(training)
    wanted = [theirs(step) for step in x.unbind(1)]
    got = list(ours.over_time(steps_of(x)))
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.running_mean, theirs.running_mean)


def test_norm_merged_is_batchnorm_over_time_and_batch() -> None:
    x = torch.randn(4, 5, 3, 6, 6) * torch.arange(1, 6).view(1, 5, 1, 1, 1)
    ours, theirs = StepNorm(3, "merged"), nn.BatchNorm2d(3)
    wanted = theirs(x.flatten(0, 1)).unflatten(0, (4, 5))
    got = torch.stack(list(ours.over_time(steps_of(x))), 1)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert not torch.allclose(got, torch.stack(list(StepNorm(3, "step").over_time(steps_of(x))), 1))


@pytest.mark.parametrize("bn", ["step", "merged"])
def test_separate_statistics_leave_inference_alone(bn: str) -> None:
    net = small("vgg-snn", separate_bn=True, bn=bn)
    x = clip(net)
    net(x)
    state = {name: value.clone() for name, value in net.inference_state_dict().items()}
    net(x * 3, head="image")
    assert all(torch.equal(value, state[name]) for name, value in net.inference_state_dict().items())
    assert parameters(net.strip()) == parameters(small("vgg-snn", image_head=False))


@pytest.mark.parametrize("size", [(4, 4), (7, 7), (6, 5), (3, 2)])
def test_mean_pool_is_avg_pool(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, requires_grad=True)
    oracle = nn.AvgPool2d(2)
    got, wanted = MeanPool()(x), oracle(x)
    torch.testing.assert_close(got, wanted)
    weight = torch.rand_like(wanted)
    grads = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (got, wanted)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("size", [(34, 34), (28, 40)])
def test_other_input_sizes(name: str, size: tuple[int, int]) -> None:
    net = small(name, input_size=size, width=0.1)
    assert net.input_size == size
    logits, grads = gradients(net, clip(net, steps=2))
    assert logits.shape == (3, 2, 10)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("neuron", ["plif", "if"])
def test_other_neurons(name: str, neuron: str) -> None:
    net = small(name, neuron=neuron, surrogate="arctan", reset="soft")
    logits, _ = gradients(net, clip(net))
    assert logits.isfinite().all()
    leaks = [p for n, p in net.named_parameters() if n.endswith("leak_logit")]
    assert len(leaks) == (net.layers if neuron == "plif" else 0)
    assert all(p.grad is not None for p in leaks)


@pytest.mark.parametrize("name", SPIKING)
def test_bf16_autocast_trains(name: str) -> None:
    net = small(name)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(clip(net), taps=True)
    out.logits.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.event_parameters())
    assert all(state.dtype == torch.float32 for state in out.state)
    assert set(out.spikes.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("name", SPIKING)
def test_width_scales_channels(name: str) -> None:
    assert create_model(name, width=0.5).features == create_model(name).features // 2
    assert create_model(name, width=1e-6).features == 1


@pytest.mark.parametrize("name", SPIKING)
def test_all_layers_fire_at_the_start(name: str) -> None:
    net = small(name)
    assert all(grad.abs().sum() > 0 for grad in gradients(net, clip(net, batch=8))[1])


def test_wrong_state_and_options_are_refused() -> None:
    net = small("scnn")
    with pytest.raises(ValueError, match="Expected `state` to hold 3 potentials, but got 1"):
        net(clip(net), state=[torch.zeros(1)])
    with pytest.raises(ConfigError, match="Expected `bn` to be 'step' or 'merged'"):
        create_model("vgg-snn", bn="batch")


def test_exports_as_plain_operations() -> None:
    net = small("scnn").eval()
    x = clip(net)
    program = torch.export.export(net, (x,))
    assert "autograd" not in str(program.graph)
    torch.testing.assert_close(program.module()(x).logits, net(x).logits)


def test_recommended_precision_is_what_the_processor_has() -> None:
    flags = torch.backends.cpu.get_cpu_capability()
    wanted = recommended_precision()
    assert wanted in ("bf16-mixed", "32-true")
    if "AVX512" not in flags and not torch.cuda.is_available():
        assert wanted == "32-true"
