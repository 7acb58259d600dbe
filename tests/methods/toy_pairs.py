"""A small student and generated pairs: three classes of bars, bright as pictures and sparse as events."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evlift.datasets.base import Batch
from evlift.methods import Method, create_method, method_options
from evlift.models import create_model

STEPS, CLASSES, SIZE = 4, 3, 16


def student(name: str = "vgg-snn", **options) -> nn.Module:
    """A narrow network; batch statistics keep it firing from the start."""
    return create_model(name, classes=CLASSES, **({"width": 0.1, "input_size": SIZE} | options))


def build(name: str, net: nn.Module | None = None, **options) -> Method:
    """A method with the number of steps filled in where it wants one, as the engine does."""
    if "steps" in method_options(name):
        options.setdefault("steps", STEPS)
    return create_method(name, net or student(), **options)


def pairs(count: int = 12, seed: int = 0) -> Batch:
    """A batch of category pairs with all fields."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % CLASSES
    shape = torch.zeros(CLASSES, SIZE, SIZE)
    for c in range(CLASSES):
        shape[c, 5 * c : 5 * c + 5] = 1
    clean = shape[target][:, None, None].expand(count, STEPS, 2, SIZE, SIZE)

    def noise() -> Tensor:
        return torch.rand(count, STEPS, 2, SIZE, SIZE, generator=generator)

    image = 0.8 * clean + 0.2 * noise()
    events = 2.0 * (noise() < 0.1 + 0.4 * clean)
    names = tuple(map(str, range(count)))
    return Batch(image=image, image_target=target, events=events, event_target=target, names=names)
