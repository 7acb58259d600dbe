"""What a network costs on a batch: parameters, multiplications, synaptic operations, firing rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evlift.models.modes import evaluating
from evlift.models.neurons import Neuron, Trace


@dataclass(frozen=True)
class Cost:
    """Cost of one clip, all its T steps together, averaged over the batch it was measured on.

    Args:
        parameters: numbers that inference on events needs.
        dense_macs: multiply-accumulates if every layer were computed in full, as on a GPU.
        macs: multiply-accumulates of the layers with analogue input, which event hardware must compute in
            full: the first one always, in a conventional network all.
        synops: additions caused by spikes in the other layers: non-zero inputs times their fan-out. An input
            behind a pool counts once, however many of its four spikes fired, and one that is spread over four
            locations four times. Connections into the padding do not count.
        synops_per_layer: the same, layer by layer.
        firing_rates: spikes per neuron and step, by neuron layer, in [0, 1].

    Normalisation, pooling and biases are not counted: they fold into the layers around them. Nor are products
    of two activations (attention).
    """

    parameters: int
    dense_macs: float
    macs: float
    synops: float
    synops_per_layer: dict[str, float] = field(default_factory=dict)
    firing_rates: dict[str, float] = field(default_factory=dict)


def measure_cost(net: Any, x: Tensor, *, head: str = "event") -> Cost:
    """Run `net` on x [B, T, C, H, W] in evaluation mode and count.

    Example:
        >>> measure_cost(create_model("scnn"), torch.rand(4, 6, 2, 28, 28)).firing_rates["neuron1"]

    Source: the usual definition of synaptic operations, spikes × fan-out; exact borders were decided here.
    """
    dense: dict[str, float] = {}
    synops: dict[str, float] = {}
    rates: dict[str, list[Tensor]] = {}

    def count(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, Neuron):
            rates.setdefault(name, []).extend(_spike_rates(output))
            return
        dense[name] = dense.get(name, 0.0) + _macs(module, inputs[0], output)
        if not _is_analogue(net, name):
            synops[name] = synops.get(name, 0.0) + _synops(module, inputs[0])

    with torch.no_grad(), evaluating(net), _hooks(net, count):
        net(x, head=head)
    spiking = {name: total / len(x) for name, total in synops.items()}
    return Cost(
        parameters=sum(p.numel() for p in net.event_parameters()),
        dense_macs=sum(dense.values()) / len(x),
        macs=sum(total for name, total in dense.items() if name not in spiking) / len(x),
        synops=sum(spiking.values()),
        synops_per_layer=spiking,
        firing_rates={name: float(torch.stack(values).mean()) for name, values in rates.items()},
    )


def _is_analogue(net: Any, layer: str) -> bool:
    """Conventional networks declare no list: all their layers are analogue."""
    return layer in getattr(net, "analogue", (layer,))


def _spike_rates(trace: Trace) -> list[Tensor]:
    return [spikes.float().mean() for spikes in trace.spikes]


def _macs(module: nn.Module, x: Tensor, output: Tensor) -> float:
    """Multiply-accumulates of one call: outputs times inputs per output, transposed the other way round."""
    weight: Any = module.weight
    positions = x if isinstance(module, nn.ConvTranspose2d) else output
    return float(positions.numel() * weight[0].numel())


def _synops(module: nn.Module, x: Tensor) -> float:
    """Non-zero inputs times the connections that leave them."""
    active = (x != 0).double()
    if isinstance(module, nn.Linear):
        return float(active.sum()) * module.out_features
    conv: Any = module
    active = active.sum(1, keepdim=True)  # [B, C, h, w] → [B, 1, h, w]
    kernel = torch.ones(1, 1, *conv.kernel_size, dtype=active.dtype, device=x.device)
    geometry = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    if isinstance(conv, nn.ConvTranspose2d):
        spread = functional.conv_transpose2d(active, kernel, output_padding=conv.output_padding, **geometry)
    else:
        spread = functional.conv2d(active, kernel, **geometry)
    return (
        float(spread.sum()) * conv.out_channels / conv.groups
    )  # each position holds the active inputs that it sees


@contextmanager
def _hooks(net: nn.Module, count: Callable[..., None]) -> Iterator[None]:
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | Neuron):

            def hook(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                count(name, module, inputs, output)

            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
