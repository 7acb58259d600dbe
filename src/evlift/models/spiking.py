"""Spiking networks of KT and TMKT: SCNN, VGG-SNN and ResNet-18, on sequences [B, T, C, H, W]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evlift.models import MODELS
from evlift.models.base import (
    MeanPool,
    Run,
    SpikingNet,
    SpikingOutput,
    State,
    StepNorm,
    recommended_precision,
)
from evlift.models.neurons import Trace

__all__ = [
    "SCNN",
    "VGGSNN",
    "ResNet18SNN",
    "SpikingNet",
    "SpikingOutput",
    "State",
    "StepNorm",
    "recommended_precision",
]


@MODELS.register("scnn")
class SCNN(SpikingNet):
    """conv5×5 15, LIF, AP2, conv5×5 40, LIF, AP2, FC 300, LIF, FC classes; no padding, one head.

    696,573 parameters at 1,623 classes. Source: KT's released code (N-Omniglot), initialisation included.
    Input sizes other than 28×28 change the width of the first FC layer (decided here).
    """

    default_size = (28, 28)
    two_heads = False
    analogue = ("conv1",)

    def build(self) -> int:
        """See :class:`SpikingNet`."""
        first, self.features, hidden = self.scaled(15), self.scaled(40), self.scaled(300)
        self.conv1 = self.conv(self.channels, first, 5)
        self.neuron1 = self.neuron()
        self.conv2 = self.conv(first, self.features, 5)
        self.neuron2 = self.neuron()
        height, width = (((size - 4) // 2 - 4) // 2 for size in self.input_size)
        self.fc = nn.Linear(self.features * height * width, hidden)
        self.neuron3 = self.neuron()
        self.pool = MeanPool()
        return hidden

    def initialise(self) -> None:
        """Kaiming-normal convolutions and linear weights in ±0.1, so that all layers fire from the start."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.Linear):
                nn.init.uniform_(module.weight, -0.1, 0.1)

    def encode(self, xs: Sequence[Tensor], run: Run) -> None:
        """See :class:`SpikingNet`."""
        first = run.fire(self.neuron1, self.over_time(self.conv1, xs))
        pooled = list(self.over_time(self.pool, first.spikes))  # [B, 15, 24, 24] → [B, 15, 12, 12]
        second = run.fire(self.neuron2, self.over_time(self.conv2, pooled))
        flat = torch.stack(
            [self.pool(s).flatten(1) for s in second.spikes]
        )  # T × [B, 40, 8, 8] → [T, B, 640]
        hidden = run.fire(self.neuron3, self.fc(flat).unbind(0))
        run.features, run.potentials, run.spikes = hidden.spikes, hidden.potentials, second.spikes


class ConvBlock(nn.Module):
    """3×3 convolution, normalisation, neuron."""

    def __init__(self, net: SpikingNet, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = net.conv(in_channels, out_channels, stride=stride, padding=1)
        self.norm = net.norm(out_channels)
        self.neuron = net.neuron()

    def run(self, net: SpikingNet, xs: Sequence[Tensor], run: Run) -> Trace:
        """T tensors [B, C, h, w] → spikes and potentials of as many steps."""
        return run.fire(self.neuron, self.norm.over_time(net.over_time(self.conv, xs)))


@MODELS.register("vgg-snn")
class VGGSNN(SpikingNet):
    """64, 128, AP2, 256, 256, AP2, 512, 512, AP2, 512, 512, AP2, one linear head a modality.

    10,153,674 parameters at 101 classes and 48×48. Source: KT's released code (N-Caltech101).
    """

    analogue = ("blocks.0.conv",)
    layout = (64, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")

    def build(self) -> int:
        """See :class:`SpikingNet`."""
        self.blocks = nn.ModuleList()
        self.features = self.channels
        for item in self.layout:
            if isinstance(item, int):
                self.blocks.append(ConvBlock(self, self.features, self.scaled(item)))
                self.features = self.scaled(item)
        self.pool = MeanPool()
        height, width = (size // 16 for size in self.input_size)
        return self.features * height * width

    def encode(self, xs: Sequence[Tensor], run: Run) -> None:
        """See :class:`SpikingNet`."""
        blocks = iter(self.blocks)
        for item in self.layout:
            if item == "P":
                xs = list(self.over_time(self.pool, xs))  # [B, C, h, w] → [B, C, h/2, w/2]
                continue
            block: Any = next(blocks)
            trace = block.run(self, xs, run)
            xs = trace.spikes
        run.potentials, run.spikes = trace.potentials, trace.spikes
        run.features = [x.flatten(1) for x in xs]  # [B, C, h, w] → [B, C·h·w]


class Unit(nn.Module):
    """Normalisation, neuron, convolution: the pre-activation order."""

    def __init__(
        self, net: SpikingNet, in_channels: int, out_channels: int, stride: int, kernel: int
    ) -> None:
        super().__init__()
        self.norm = net.norm(in_channels)
        self.neuron = net.neuron()
        self.conv = net.conv(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2)


class PreActBlock(nn.Module):
    """Two units beside a shortcut, which is a 1×1 unit with a neuron of its own where shapes differ."""

    def __init__(self, net: SpikingNet, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = Unit(net, in_channels, out_channels, stride, kernel=3)
        self.second = Unit(net, out_channels, out_channels, 1, kernel=3)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = Unit(net, in_channels, out_channels, stride, kernel=1) if changes else None


@MODELS.register("resnet18-snn")
class ResNet18SNN(SpikingNet):
    """Pre-activation ResNet-18: 3×3 stem, stages 64 to 512, final BN, global average pool, two heads.

    Source: KT's released code (CEP-DVS), initialisation included.
    """

    smallest = 8
    analogue = ("stem", "heads.event", "heads.image")

    def build(self) -> int:
        """See :class:`SpikingNet`."""
        stages = [self.scaled(c) for c in (64, 128, 256, 512)]
        self.stem = self.conv(self.channels, stages[0], padding=1)
        self.blocks = nn.ModuleList()
        before = stages[0]
        for index, count in enumerate(stages):
            self.blocks.append(PreActBlock(self, before, count, 1 if index == 0 else 2))
            self.blocks.append(PreActBlock(self, count, count, 1))
            before = count
        self.final_norm = self.norm(before)
        self.features = before
        return before

    def initialise(self) -> None:
        """Kaiming-normal convolutions by fan-out."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def encode(self, xs: Sequence[Tensor], run: Run) -> None:
        """See :class:`SpikingNet`."""
        steps = list(self.over_time(self.stem, xs))
        for block in self.blocks:
            steps = self._block(block, steps, run)
        pooled = [x.mean((2, 3)) for x in self.final_norm.over_time(steps)]  # [B, C, h, w] → [B, C]
        run.features = run.potentials = pooled

    def _block(self, block: Any, xs: list[Tensor], run: Run) -> list[Tensor]:
        around = xs if block.shortcut is None else self._unit(block.shortcut, xs, run)
        through = self._unit(block.second, self._unit(block.first, xs, run), run)
        return [a + b for a, b in zip(through, around, strict=True)]

    def _unit(self, unit: Any, xs: list[Tensor], run: Run) -> list[Tensor]:
        run.spikes = run.fire(unit.neuron, unit.norm.over_time(xs)).spikes
        return list(self.over_time(unit.conv, run.spikes))
