"""What a network is set to for a while: evaluation mode, or the batch statistics of one head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

OWN = {"running_mean": "image_mean", "running_var": "image_var", "num_batches_tracked": "image_batches"}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; each module's own mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch-normalisation layers of a network that keep running statistics."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [layer for layer in layers if layer.running_mean is not None]


def add_image_statistics(network: nn.Module) -> None:
    """Give every batch normalisation running statistics of its own for the image head, equal to those it has.

    Scale and shift stay shared. Events touch few pixels and pictures all: one average fits neither (decided here).
    """
    for layer in batch_norms(network):
        for name, own in OWN.items():
            layer.register_buffer(own, getattr(layer, name).clone())


def drop_image_statistics(network: nn.Module) -> None:
    """Forget the statistics of the image head, if there are any."""
    for layer in _separate(network):
        for own in OWN.values():
            delattr(layer, own)


def without_image_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict less the statistics of the image head."""
    return {name: value for name, value in state.items() if name.rpartition(".")[2] not in OWN.values()}


@contextmanager
def statistics(network: nn.Module, head: str) -> Iterator[None]:
    """Inside the block, batch normalisation reads and moves the running statistics of `head`.

    Not for two threads that run one network at the same time.
    """
    layers = _separate(network) if head == "image" else []
    _exchange(layers)
    try:
        yield
    finally:
        _exchange(layers)


def _separate(network: nn.Module) -> list[Any]:
    return [layer for layer in batch_norms(network) if "image_mean" in layer._buffers]


def _exchange(layers: list[Any]) -> None:
    for layer in layers:
        for name, own in OWN.items():
            event, image = getattr(layer, name), getattr(layer, own)
            setattr(layer, name, image)
            setattr(layer, own, event)


@contextmanager
def fixed_statistics(network: nn.Module) -> Iterator[None]:
    """Inside the block, batch normalisation uses the batch's statistics but leaves its running ones alone."""
    momenta = [(layer, layer.momentum) for layer in batch_norms(network)]
    for layer, _ in momenta:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in momenta:
            layer.momentum = momentum
