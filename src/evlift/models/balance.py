"""First weights scaled on data, so that every layer of a spiking network without batch normalisation fires."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.models.modes import batch_norms, evaluating

Layer = nn.Conv2d | nn.Linear


@torch.no_grad()
def balance(network: nn.Module, clips: Tensor, *, rounds: int = 3) -> dict[str, float]:
    """Scale the weights of each layer until its outputs on `clips` have unit standard deviation, first layers first.

    A layer that stays silent passes on no gradient to speak of: SCNN as published fires in 4 %, 1 % and 0 % of its
    neurons on N-MNIST before training, and learns nothing for the first 150 steps.

    Example:
        >>> balance(net, clips)  # doctest: +SKIP
        {'conv1': 3.1, 'conv2': 1.9, 'fc': 1.2, 'heads.event': 0.8}

    Args:
        network: changed in place.
        clips: [B, T, C, H, W], as in training.
        rounds: corrections a layer, since a scaled layer also changes how its neurons answer over time.

    Returns:
        The factor of each layer's weights, by name, in the order in which they run.

    Raises:
        ConfigError: a network with batch normalisation, which needs none of this.

    Source: layer-sequential unit variance, Mishkin and Matas, ICLR 2016, without its orthogonal start; for spiking
    networks decided here.
    """
    if batch_norms(network):
        raise ConfigError(
            "Expected a network without batch normalisation for lsuv=True, but this one normalises its layers itself. "
            "Leave train.lsuv out."
        )
    with evaluating(network):
        return {name: _scaled(network, layer, clips, rounds) for name, layer in _in_order(network, clips)}


def _scaled(network: nn.Module, layer: Layer, clips: Tensor, rounds: int) -> float:
    """Scale one layer; returns the factor."""
    factor = 1.0
    for _ in range(rounds):
        spread = _spread(network, layer, clips)
        if not spread > 0:  # nothing arrives
            break
        layer.weight.div_(spread)
        factor /= spread
    return factor


def _in_order(network: nn.Module, clips: Tensor) -> list[tuple[str, Layer]]:
    """Convolutions and linear layers by name, as they first run."""
    names = {module: name for name, module in network.named_modules() if isinstance(module, Layer)}
    seen: dict[Layer, str] = {}
    _watched(network, list(names), clips, lambda layer, output: seen.setdefault(layer, names[layer]))
    return [(name, layer) for layer, name in seen.items()]


def _spread(network: nn.Module, layer: Layer, clips: Tensor) -> float:
    """Standard deviation of what a layer gives, over all steps."""
    outputs: list[Tensor] = []
    _watched(network, [layer], clips, lambda _, output: outputs.append(output.float().flatten()))
    return float(torch.cat(outputs).std())


def _watched(
    network: nn.Module, layers: Sequence[Layer], clips: Tensor, see: Callable[[Layer, Tensor], object]
) -> None:
    """Run the network; `see` is shown each output of the layers."""

    def show(layer: Any, _: object, output: Tensor) -> None:  # what a hook returns would replace the output
        see(layer, output)

    handles = [layer.register_forward_hook(show) for layer in layers]
    try:
        network(clips)
    finally:
        for handle in handles:
            handle.remove()
