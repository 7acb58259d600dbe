"""Small students and generated pairs: three classes of bars, bright as pictures and sparse as events."""

from __future__ import annotations

import inspect
from dataclasses import replace

import torch
from torch import Tensor, nn

from evlift.datasets.base import Batch
from evlift.masks import VOID
from evlift.methods import METHODS, Method, create_method, method_options
from evlift.models import MODELS, create_model, model_names

STEPS, CLASSES, SIZE = 4, 3, 16
FILLED = {"steps": STEPS, "picture_channels": 1}
IMAGE_FIRST = ("evdistill", "plain-kd")  # their teachers are conventional, so their students are here


def student(name: str = "vgg-snn", **options) -> nn.Module:
    """A narrow network; batch statistics keep it firing from the start."""
    filled = {"width": 0.1, "input_size": SIZE, "steps": STEPS, "classes": CLASSES} | options
    model_names()  # fills the registry
    known = inspect.signature(MODELS[name]).parameters
    return create_model(name, **{option: value for option, value in filled.items() if option in known})


def suitable(method: str, **options) -> nn.Module:
    """A student for the method of this name, as the engine would build it."""
    entry = METHODS[method]
    if method == "reconstruct-then-run":
        return student(method, generator_width=4, generator_blocks=1)
    if entry.reads == "pictures":
        return student("convnet", channels=1, steps=1, width=0.25)
    if method in IMAGE_FIRST:
        return student("convnet", width=0.25)
    return student(**{"image_head": entry.image_head} | options)


def build(name: str, net: nn.Module | None = None, **options) -> Method:
    """A method with steps and channels filled in where it wants them, as the engine does; generators learn fast."""
    known = method_options(name)
    filled = FILLED | {"generator_width": 4, "generator_blocks": 1, "generator_lr": 1e-2} | options
    taken = {option: value for option, value in filled.items() if option in known or option in options}
    return create_method(name, net or suitable(name), **taken)


def pairs(count: int = 12, seed: int = 0) -> Batch:
    """A batch of category pairs with all fields."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % CLASSES
    shape = torch.zeros(CLASSES, SIZE, SIZE)
    for c in range(CLASSES):
        shape[c, 5 * c : 5 * c + 5] = 1
    still = shape[target][:, None]  # [B, 1, H, W]
    clean = still[:, None].expand(count, STEPS, 2, SIZE, SIZE)

    def noise(*shape: int) -> Tensor:
        return torch.rand(count, *(shape or (STEPS, 2)), SIZE, SIZE, generator=generator)

    return Batch(
        image=0.8 * clean + 0.2 * noise(),
        image_target=target,
        events=2.0 * (noise() < 0.1 + 0.4 * clean),
        event_target=target,
        picture=0.8 * still + 0.2 * noise(1),
        frame=0.7 * still + 0.3 * noise(1),
        names=tuple(map(str, range(count))),
    )


def scenes(count: int = 4, seed: int = 0) -> Batch:
    """The same with masks [B, H, W]: the bar's class on it, 0 beside it, void in a corner; events have none."""
    batch = pairs(count, seed)
    mask = (batch.picture[:, 0] > 0.5) * batch.image_target[:, None, None]  # [B, H, W]
    mask[:, :3, :3] = VOID
    return replace(batch, image_target=mask, event_target=None)
