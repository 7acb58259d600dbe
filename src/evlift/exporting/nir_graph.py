"""Spiking networks as NIR graphs: normalisations folded, classifiers as convolutions over the whole map.

The nodes are those that importers share: convolutions without groups, pools, and neurons with one constant a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evlift.errors import ConfigError
from evlift.extras import extra
from evlift.models.neurons import Neuron
from evlift.models.spiking import SCNN, VGGSNN, ResNet18SNN

if TYPE_CHECKING:
    from evlift.exporting.nir_file import Dialect

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Flow:
    """What arrives somewhere: the sum of some nodes' outputs.

    Args:
        sources: names of the nodes.
        shape: (C, h, w).
        factor: what the values must still be multiplied by; the next weights hold it.
    """

    sources: tuple[str, ...]
    shape: tuple[int, int, int]
    factor: float = 1.0

    def plus(self, other: Flow) -> Flow:
        """Both added up."""
        return replace(self, sources=(*self.sources, *other.sources))


class Builder:
    """Collects the nodes and edges of a graph.

    Args:
        shape: (C, H, W) of the input.
        dialect: what the importer takes for granted.
    """

    def __init__(self, shape: tuple[int, int, int], dialect: Dialect) -> None:
        (self.nir,) = extra("nir", "nir")
        self.dialect = dialect
        self.nodes: dict[str, Any] = {"input": self.nir.Input(np.array(shape))}
        self.edges: list[tuple[str, str]] = []
        self.input = Flow(("input",), shape)

    def graph(self, flow: Flow) -> Any:
        """The graph whose output is `flow`."""
        self._add("output", self.nir.Output(np.array(flow.shape)), flow)
        return self.nir.NIRGraph(self.nodes, self.edges)

    def conv(self, name: str, layer: Any, flow: Flow, norm: Any = None) -> Flow:
        """A convolution without bias, and the normalisation behind it folded in."""
        weight, bias = _array(layer.weight), np.zeros(layer.out_channels)
        if norm is not None:
            scale, bias = _affine(norm)
            weight = weight * scale[:, None, None, None]
        return self._conv(name, weight, bias, flow, stride=int(layer.stride[0]), padding=tuple(layer.padding))

    def norm(self, name: str, layer: Any, flow: Flow) -> Flow:
        """A normalisation on its own: a 1×1 convolution whose matrix is diagonal."""
        scale, bias = _affine(layer)
        return self._conv(name, np.diag(scale)[:, :, None, None], bias, flow)

    def linear(self, name: str, layer: Any, flow: Flow, *, mean: bool = False) -> Flow:
        """A linear layer on the flattened map, or with `mean` on its average: a convolution over all of it."""
        count, height, width = flow.shape
        weight = _array(layer.weight)
        if mean:
            weight = np.repeat(weight[:, :, None] / (height * width), height * width, axis=2)
        weight = weight.reshape(len(weight), count, height, width)
        # NIR derives both sides of an output from one side of the kernel, so kernels are square: zeros fill them up,
        # and the step of 2 leaves one place
        side = max(height, width)
        margins = (-(-(side - height) // 2), -(-(side - width) // 2))
        square = np.zeros((*weight.shape[:2], side, side))
        square[:, :, margins[0] : margins[0] + height, margins[1] : margins[1] + width] = weight
        return self._conv(
            name, square, _array(layer.bias), flow, stride=1 if height == width else 2, padding=margins
        )

    def pool(self, name: str, flow: Flow) -> Flow:
        """A mean over 2×2 locations, or their sum with the quarter left to the next weights."""
        kind = self.nir.SumPool2d if self.dialect.sums else self.nir.AvgPool2d
        two, none = np.array([2, 2]), np.array([0, 0])
        count, height, width = flow.shape
        factor = flow.factor / 4 if self.dialect.sums else flow.factor
        pooled = self._add(name, kind(two, two, none), flow)
        return replace(pooled, shape=(count, height // 2, width // 2), factor=factor)

    def neuron(self, name: str, layer: Neuron, flow: Flow) -> Flow:
        """A layer of neurons.

        Raises:
            ConfigError: they reset softly.
        """
        if layer.law.reset != "hard":
            raise ConfigError(
                f"Expected neurons that NIR can express, but got '{name}' with a soft reset, for which NIR has no "
                "node. Export to onnx or pt2, or train with model.reset hard."
            )
        each = np.ones(flow.shape)
        threshold = each * layer.law.threshold
        if layer.kind == "if":
            node = self.nir.IF(r=each / self.dialect.dt, v_threshold=threshold)
        else:
            tau = each * (self.dialect.dt / float(layer.leak() or 1))
            node = self.nir.LIF(tau=tau, r=each, v_leak=each * 0, v_threshold=threshold)
        return self._add(name, node, flow)

    def _conv(
        self,
        name: str,
        weight: Weights,
        bias: Weights,
        flow: Flow,
        *,
        stride: int = 1,
        padding: tuple[int, ...] = (0, 0),
    ) -> Flow:
        node = self.nir.Conv2d(
            input_shape=flow.shape[1:],
            weight=(weight * flow.factor).astype(np.float32),
            stride=(stride, stride),
            padding=padding,
            dilation=(1, 1),
            groups=1,
            bias=bias.astype(np.float32),
        )
        count, height, width = (int(side) for side in node.output_type["output"])
        return replace(self._add(name, node, flow), shape=(count, height, width), factor=1.0)

    def _add(self, name: str, node: Any, flow: Flow) -> Flow:
        self.nodes[name] = node
        self.edges += [(source, name) for source in flow.sources]
        return replace(flow, sources=(name,))


def nir_graph(network: nn.Module, shape: tuple[int, int, int], dialect: Dialect) -> Any:
    """A network as a NIR graph from a step's frame [C, H, W] to its logits [K, 1, 1].

    Raises:
        ConfigError: a layer that NIR cannot express.
    """
    build = _GRAPHS.get(type(network))
    if build is None:
        raise ConfigError(
            f"Expected a network that NIR can express, but got {type(network).__name__}: {_inexpressible(network)}. "
            "Export to onnx or pt2."
        )
    builder = Builder(shape, dialect)
    with torch.no_grad():
        return builder.graph(build(builder, network))


def _scnn(to: Builder, net: Any) -> Flow:
    flow = to.neuron("neuron1", net.neuron1, to.conv("conv1", net.conv1, to.input))
    flow = to.neuron("neuron2", net.neuron2, to.conv("conv2", net.conv2, to.pool("pool1", flow)))
    flow = to.neuron("neuron3", net.neuron3, to.linear("fc", net.fc, to.pool("pool2", flow)))
    return to.linear("head", net.heads["event"], flow)


def _vgg(to: Builder, net: Any) -> Flow:
    flow, blocks = to.input, enumerate(net.blocks)
    for place, item in enumerate(net.layout):
        if item == "P":
            flow = to.pool(f"pool{place}", flow)
            continue
        number, block = next(blocks)
        flow = to.conv(f"conv{number}", block.conv, flow, block.norm)
        flow = to.neuron(f"neuron{number}", block.neuron, flow)
    return to.linear("head", net.heads["event"], flow)


def _resnet(to: Builder, net: Any) -> Flow:
    if not to.dialect.branches:
        raise ConfigError(
            "Expected a chain of layers for --target norse, whose importer runs no other graph, but got the shortcuts "
            "of 'blocks.0'. Use --target snntorch, onnx or pt2."
        )
    flow = to.conv("stem", net.stem, to.input)
    for number, block in enumerate(net.blocks):
        around = flow if block.shortcut is None else _unit(to, f"shortcut{number}", block.shortcut, flow)
        through = _unit(to, f"first{number}", block.first, flow)
        flow = _unit(to, f"second{number}", block.second, through).plus(around)
    return to.linear("head", net.heads["event"], to.norm("final_norm", net.final_norm, flow), mean=True)


def _unit(to: Builder, name: str, unit: Any, flow: Flow) -> Flow:
    spikes = to.neuron(f"{name}_neuron", unit.neuron, to.norm(f"{name}_norm", unit.norm, flow))
    return to.conv(f"{name}_conv", unit.conv, spikes)


_GRAPHS: dict[type, Callable[[Builder, Any], Flow]] = {SCNN: _scnn, VGGSNN: _vgg, ResNet18SNN: _resnet}


def _inexpressible(network: nn.Module) -> str:
    """The first layer for which NIR has no node."""
    if hasattr(network, "lateral") and hasattr(network, "gather"):
        return "its way up doubles the locations of 'lateral.3', and NIR has no node that enlarges a map"
    known = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.AvgPool2d, nn.Identity, nn.Dropout, Neuron)
    leaves: Sequence[tuple[str, nn.Module]] = [
        (name, module) for name, module in network.named_modules() if not list(module.children())
    ]
    for name, module in leaves:
        if not isinstance(module, known):
            return (
                f"its layer '{name}' is {type(module).__name__}, and NIR has nodes for spiking networks alone"
            )
    return "it does not spike, and NIR has nodes for spiking networks alone"


def _affine(norm: Any) -> tuple[Weights, Weights]:
    """Scale and shift of a normalisation in evaluation mode."""
    scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    return scale, _array(norm.bias) - _array(norm.running_mean) * scale


def _array(tensor: torch.Tensor) -> Weights:
    return tensor.detach().double().numpy()
