"""Cost accounting against hand-written loops."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evlift.models import create_model
from evlift.models.cost import measure_cost


def synops_by_hand(x: Tensor, conv: nn.Conv2d) -> int:
    """Non-zero inputs times the outputs that each touches, found by walking over all outputs; x [B, C, H, W]."""
    height, width = conv(x).shape[2:]
    (kernel, _), (stride, _), padding = conv.kernel_size, conv.stride, int(conv.padding[0])  # type: ignore[call-overload]
    fan_out = [[0] * x.shape[3] for _ in range(x.shape[2])]
    for i, j, down, right in itertools.product(range(height), range(width), range(kernel), range(kernel)):
        row, column = i * stride - padding + down, j * stride - padding + right
        if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
            fan_out[row][column] += 1
    return sum(fan_out[row][column] for _, _, row, column in x.nonzero().tolist()) * conv.out_channels


def inputs_of(net: Any, x: Tensor) -> dict[str, list[Tensor]]:
    seen: dict[str, list[Tensor]] = {}
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hook = lambda m, i, o, name=name: seen.setdefault(name, []).append(i[0])  # noqa: E731
            handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        net.eval()(x)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scnn", {"width": 0.2}),
        ("vgg-snn", {"width": 0.05, "input_size": 16}),
        ("resnet18-snn", {"width": 0.05, "input_size": 8}),
        ("spiking-unet", {"width": 0.1, "input_size": (17, 20), "classes": 3}),
    ],
)
def test_synops_are_spikes_times_fan_out(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net: Any = create_model(name, **options)
    x = 4 * torch.rand(2, 3, 2, *net.input_size)
    for _ in range(20):
        net(x)  # so that the running statistics let spikes through
    cost = measure_cost(net, x)
    modules = dict(net.named_modules())
    wanted = {}
    for layer, seen in inputs_of(net, x).items():
        if layer in net.analogue:
            continue
        module = modules[layer]
        if isinstance(module, nn.Conv2d):
            wanted[layer] = sum(synops_by_hand(step, module) for step in seen) / 2
        else:
            wanted[layer] = sum(int((step != 0).sum()) for step in seen) * module.out_features / 2
    assert cost.synops_per_layer == pytest.approx(wanted)
    assert cost.synops == pytest.approx(sum(wanted.values()))
    assert cost.synops > 0


def test_scnn_macs_and_parameters() -> None:
    net = create_model("scnn", classes=1623)
    cost = measure_cost(net, torch.rand(2, 6, 2, 28, 28))
    first = 15 * 24 * 24 * 2 * 25
    assert cost.macs == 6 * first
    assert cost.dense_macs == 6 * (first + 40 * 8 * 8 * 15 * 25 + 640 * 300 + 300 * 1623)
    assert cost.parameters == 696_573


def test_image_head_costs_nothing() -> None:
    options: dict[str, Any] = {"width": 0.05, "input_size": 16}
    full, alone = create_model("vgg-snn", **options), create_model("vgg-snn", image_head=False, **options)
    x = torch.rand(1, 2, 2, 16, 16)
    assert measure_cost(full, x).parameters == sum(p.numel() for p in alone.parameters())
    assert measure_cost(full, x).dense_macs == measure_cost(alone, x).dense_macs


def test_firing_rates_are_the_means_of_the_spikes() -> None:
    net: Any = create_model("scnn")
    x = 3 * torch.rand(3, 4, 2, 28, 28)
    cost = measure_cost(net, x)
    assert list(cost.firing_rates) == ["neuron1", "neuron2", "neuron3"]
    assert cost.firing_rates["neuron2"] == pytest.approx(float(net(x, taps=True).spikes.mean().detach()))
    assert 0 < cost.firing_rates["neuron1"] < 1


def test_silence_costs_no_synops() -> None:
    cost = measure_cost(create_model("scnn", classes=2), torch.zeros(1, 2, 2, 28, 28))
    assert cost.synops_per_layer["conv2"] == 0


def test_conventional_networks_are_all_macs() -> None:
    net = create_model("convnet", steps=3, input_size=16)
    cost = measure_cost(net, torch.rand(2, 3, 2, 16, 16))
    assert cost.macs == cost.dense_macs == 9 * (6 * 32 * 256 + 32 * 64 * 64 + 64 * 128 * 16) + 1280
    assert cost.synops == 0
    assert cost.firing_rates == {}


class Spread(nn.Module):
    """A transposed convolution over spikes, as a network of its own."""

    analogue = ()

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1, bias=False)
        nn.init.ones_(self.up.weight)

    def forward(self, x: Tensor, head: str = "event") -> Tensor:
        return self.up(x.flatten(0, 1))  # [B, T, C, H, W] → [B·T, C, H, W]

    def event_parameters(self) -> Any:
        return self.parameters()


def test_transposed_convolutions_spread_their_inputs() -> None:
    net, x = Spread(), (torch.rand(2, 1, 3, 4, 6) < 0.3).float()
    cost = measure_cost(net, x)
    assert cost.dense_macs == 3 * 4 * 6 * 5 * 9
    assert cost.synops == pytest.approx(
        float(net(x).sum().detach()) / 2
    )  # with weights of one, all that arrives


def test_conventional_segmentation_networks_are_all_macs() -> None:
    net = create_model("unet", classes=5, channels=3, steps=2, input_size=32)
    cost = measure_cost(net, torch.rand(2, 2, 3, 32, 32))
    down = [6 * 16, 16 * 16, 16 * 32, 32 * 32, 32 * 64, 64 * 64, 64 * 128, 128 * 128]
    pixels = [256, 256, 64, 64, 16, 16, 4, 4]
    up = 32 * (16 * 256 + 32 * 64 + 64 * 16 + 128 * 4) + 9 * 32 * 32 * 256
    assert cost.macs == 9 * sum(a * b for a, b in zip(down, pixels, strict=True)) + up + 32 * 5 * 256
    assert cost.synops == 0


def test_measuring_leaves_the_network_as_it_was() -> None:
    net: Any = create_model("vgg-snn", width=0.05, input_size=16)
    net.blocks[1].eval()  # frozen by its owner
    before = {name: value.clone() for name, value in net.state_dict().items()}
    measure_cost(net, torch.rand(2, 2, 2, 16, 16))
    assert net.training
    assert not net.blocks[1].norm.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
