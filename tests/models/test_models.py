"""The base tester: every registered model, with its default options unless they are too large to test."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.models import MODELS, create_model, model_names

SMALL: dict[str, dict[str, Any]] = {
    "vgg-snn": {"width": 0.125, "input_size": 32},
    "resnet18-snn": {"width": 0.125, "input_size": 16},
    "timm": {"input_size": 32, "steps": 3},
    "convnet": {"input_size": 16, "steps": 3},
    "unet": {"input_size": (19, 24), "steps": 3, "width": 0.25},
    "spiking-unet": {"input_size": (19, 24), "width": 0.25},
    "smp": {"input_size": (33, 40), "steps": 3},
}
NAMES = model_names()


def small(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, classes=5, **(SMALL.get(name, {}) | options))


def clip(net: Any, batch: int = 2, steps: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.rand(
        batch, steps or getattr(net, "steps", 3), net.channels, *net.input_size, generator=generator
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("head", ["event", "image"])
def test_shapes(name: str, batch: int, head: str) -> None:
    net: Any = small(name)
    x = clip(net, batch)
    out = net.eval()(x, head=head, taps=True)
    steps = out.logits.shape[1]
    pixels = net.input_size if net.task == "segmentation" else ()
    assert out.logits.shape == (batch, steps, net.classes, *pixels)
    assert steps in (1, x.shape[1])
    assert out.potential.shape[:2] == (batch, steps)
    assert out.potential.ndim == 3
    assert out.spikes.shape[:3] == (batch, steps, net.features)
    assert out.spikes.ndim == 5
    bare = net(x, head=head)
    assert bare.potential is None
    assert bare.spikes is None
    torch.testing.assert_close(bare.logits, out.logits)


@pytest.mark.parametrize("name", NAMES)
def test_one_step_and_silence_are_fine(name: str) -> None:
    net = small(name, **({"steps": 1} if "steps" in SMALL.get(name, {}) else {}))
    x = torch.zeros_like(clip(net, steps=1)).requires_grad_()
    out = net(x)
    out.logits.square().mean().backward()
    assert out.logits.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_every_inference_parameter_learns(name: str) -> None:
    net: Any = small(name)
    out = net(clip(net, 4))
    out.logits.square().mean().backward()
    assert all(p.grad is not None for p in net.event_parameters())
    assert sum(float(p.grad.abs().sum()) for p in net.event_parameters()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_deepcopy_after_a_training_step(name: str) -> None:
    net = small(name)
    net(clip(net)).logits.mean().backward()
    twin = copy.deepcopy(net).eval()
    net.eval()
    assert torch.equal(net(clip(net)).logits, twin(clip(net)).logits)


@pytest.mark.parametrize("name", NAMES)
def test_inference_keeps_nothing_else(name: str) -> None:
    net: Any = small(name)
    x = clip(net)
    net(x)  # moves the running statistics
    student = net.eval().strip()
    assert student.state_dict().keys() == net.inference_state_dict().keys()
    assert sum(p.numel() for p in student.parameters()) == sum(p.numel() for p in net.event_parameters())
    torch.testing.assert_close(student.eval()(x).logits, net(x).logits)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "separate_bn" in inspect.signature(MODELS[n]).parameters and n != "scnn"]
)
def test_statistics_of_the_image_head_are_its_own(name: str) -> None:
    net: Any = small(name, separate_bn=True)
    x = clip(net)
    net(x)
    before = {key: value.clone() for key, value in net.inference_state_dict().items()}
    net(5 * x, head="image")
    assert all(torch.equal(value, before[key]) for key, value in net.inference_state_dict().items())
    plain: Any = small(name).strip()  # what inference builds
    plain.load_state_dict(before)
    assert torch.equal(plain.eval()(x).logits, net.eval()(x).logits)


@pytest.mark.parametrize("options", [{"bn": "merged"}, {"separate_bn": True}])
def test_options_of_batch_statistics_are_refused_where_there_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="SCNN, which normalises no batches"):
        small("scnn", **options)


@pytest.mark.parametrize("name", NAMES)
def test_weights_load_into_a_fresh_network(name: str) -> None:
    net = small(name)
    x = clip(net)
    net(x)
    torch.manual_seed(7)
    other = create_model(name, classes=5, **SMALL.get(name, {}))
    other.load_state_dict(net.state_dict())
    assert torch.equal(net.eval()(x).logits, other.eval()(x).logits)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_and_head_are_refused(name: str) -> None:
    net = small(name)
    with pytest.raises(ValueError, match=r"Expected `x` to be \[B, .*but got \[2, 3\]"):
        net(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"Expected `x` to be \[B, "):
        net(clip(net)[..., 1:])
    with pytest.raises(ValueError, match="Expected `head` to be one of"):
        net(clip(net), head="depth")


@pytest.mark.parametrize("name", NAMES)
def test_too_small_inputs_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected `input_size` to be at least \d+ .*but got 4x40"):
        create_model(name, input_size=(4, 40))


def test_unknown_names_and_options_get_the_list() -> None:
    with pytest.raises(ConfigError, match=r"Unknown model 'vgg'.*vgg-snn"):
        create_model("vgg")
    with pytest.raises(ConfigError, match=r"Unknown option 'taus' of model 'scnn'.*tau"):
        create_model("scnn", taus=2.0)
    assert set(NAMES) == set(MODELS)


@pytest.mark.parametrize("width", [0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["scnn", "convnet"])
def test_widths_that_there_are_not_are_refused(name, width):
    with pytest.raises(ConfigError, match="width"):
        small(name, width=width)


@pytest.mark.parametrize(
    "name", ["scnn", "vgg-snn"]
)  # SCNN has no normalisation, but a misspelt one is no option
def test_an_unknown_normalisation_is_refused(name):
    with pytest.raises(ConfigError, match="bn"):
        small(name, bn="steps")
