"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from evlift.config import TrainOptions


def build_optimizer(parameters: Iterable[nn.Parameter], options: TrainOptions) -> torch.optim.Optimizer:
    """AdamW or SGD (momentum 0.9, Nesterov) over the parameters that want a gradient."""
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            wanted, lr=options.lr, momentum=0.9, nesterov=True, weight_decay=options.weight_decay
        )
    return torch.optim.AdamW(wanted, lr=options.lr, weight_decay=options.weight_decay)


def learning_rate(step: int, steps: int, options: TrainOptions) -> float:
    """The rate of step `step` (from 0) of a phase of `steps` steps.

    Linear warm-up from lr/warmup to lr, then cosine to ``lr * final_lr``, poly ``(1 - progress)^0.9`` or constant.
    """
    warmup = min(options.warmup, steps)
    if step < warmup:
        return options.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if options.schedule == "cosine":
        share = options.final_lr + (1 - options.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    elif options.schedule == "poly":
        share = (1 - progress) ** 0.9
    else:
        share = 1.0
    return options.lr * share


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
