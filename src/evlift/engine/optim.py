"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from evlift.config import TrainOptions
from evlift.methods.base import ParameterGroup


class Optimizers:
    """One optimiser for the groups that follow the recipe, one (Adam) for those that ask for betas of their own.

    Args:
        groups: what a phase trains.
        options: of the recipe.
    """

    def __init__(self, groups: Sequence[ParameterGroup], options: TrainOptions) -> None:
        self.options = options
        self.limits = [group.parameters for group in groups]
        plain, own = [g for g in groups if g.betas is None], [g for g in groups if g.betas is not None]
        made = (_optimizer(options.optimizer, plain, options), _optimizer("adamw", own, options))
        self.all = [optimizer for optimizer in made if optimizer is not None]

    def set_rate(self, step: int, steps: int) -> float:
        """Give every group its rate for step `step` of `steps`; returns the largest."""
        share = learning_rate(step, steps, self.options) / (self.options.lr or 1.0)
        for group in self.groups:
            group["lr"] = group["peak"] * share
        return max(float(group["lr"]) for group in self.groups)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that are trained."""
        return [parameter for group in self.groups for parameter in group["params"]]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimisers."""
        return [group for optimizer in self.all for group in optimizer.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def clip(self) -> float:
        """Limit the gradient norm of each group; returns the norm of the first."""
        limit = self.options.clip or float("inf")
        norms = [float(nn.utils.clip_grad_norm_(parameters, limit)) for parameters in self.limits]
        return norms[0]

    def step(self) -> None:
        """Update all parameters."""
        for optimizer in self.all:
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Of every optimiser, in order."""
        return [optimizer.state_dict() for optimizer in self.all]

    def load_state_dict(self, states: Iterable[dict[str, Any]]) -> None:
        """What :meth:`state_dict` gave."""
        for optimizer, state in zip(self.all, states, strict=True):
            optimizer.load_state_dict(state)


def _optimizer(
    kind: str, groups: Sequence[ParameterGroup], options: TrainOptions
) -> torch.optim.Optimizer | None:
    """AdamW or SGD (momentum 0.9, Nesterov) over the parameters that want a gradient; None if there are none."""
    made: list[dict[str, Any]] = []
    for group in groups:
        peak = options.lr if group.lr is None else group.lr
        decay = options.weight_decay if group.weight_decay is None else group.weight_decay
        wanted = [parameter for parameter in group.parameters if parameter.requires_grad]
        entry = {"params": wanted, "name": group.name, "lr": peak, "peak": peak, "weight_decay": decay}
        if kind == "adamw":
            entry["betas"] = group.betas or (0.9, 0.999)
        if wanted:
            made.append(entry)
    if not made:
        return None
    if kind == "sgd":
        return torch.optim.SGD(made, lr=options.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(made, lr=options.lr)


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
