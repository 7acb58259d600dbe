"""Losses that pull the features of two modalities together, or push them apart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evlift.errors import ConfigError


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear centred kernel alignment of two feature matrices whose rows are the same samples.

    Example:
        >>> x = torch.randn(8, 5)
        >>> linear_cka(x, 3 * x)
        tensor(1.)

    The biased estimator: `<K, L> / (‖K‖‖L‖)` with the centred Gram matrices `K`, `L` [B, B]. It is 1 for
    equal features and unchanged by orthogonal maps and by scaling. A stream without any spread over the batch
    (a silent one, or B = 1) has gradient 0: CKA is 0 beside a live stream and 1 beside another silent one,
    so equal streams are aligned whatever they do (decided here). Computed in float32 under autocast, too.

    Args:
        x: [B, F], or [B, T, F] for one value a step.
        y: [B, G] or [B, T, G]: as many rows (and steps), any number of features.

    Returns:
        A scalar, or [T].

    Raises:
        ConfigError: shapes that do not match.

    Source: KT (released code); Kornblith et al., ICML 2019.
    """
    if x.ndim not in (2, 3) or x.shape[:-1] != y.shape[:-1]:
        raise ConfigError(
            "Expected `x` and `y` to be [B, F] or [B, T, F] with equal B and T, but got "
            f"{list(x.shape)} and {list(y.shape)}. Flatten the features of every step first."
        )
    with torch.autocast(x.device.type, enabled=False):
        left, right = _unit_gram(x), _unit_gram(y)
        both_silent = ~(left.any(dim=-1) | right.any(dim=-1))
        return (left * right).sum(dim=-1) + both_silent.to(left.dtype)


def _unit_gram(x: Tensor) -> Tensor:
    """Centred Gram matrices of [B, F] or [B, T, F], flattened and of norm 1: [B·B] or [T, B·B]."""
    x = x.float() if x.dtype != torch.float64 else x
    centred = x - x.mean(dim=0, keepdim=True)
    if x.ndim == 3:
        centred = centred.transpose(0, 1)  # [B, T, F] → [T, B, F]
    # Scaled before the product, or the squares in a Gram matrix of weak features underflow. A spread that is
    # rounding noise counts as none.
    peak = centred.detach().abs().amax(dim=(-2, -1), keepdim=True)
    noise = 1e-6 * x.detach().abs().amax(dim=(0, -1))[..., None, None]  # [] or [T] → [(T,) 1, 1]
    centred = centred / peak.masked_fill(peak <= noise, torch.inf)
    gram = centred @ centred.transpose(-2, -1)  # [(T,) B, F] → [(T,) B, B]
    return F.normalize(gram.flatten(-2), dim=-1, eps=1e-12)


def cka_loss(x: Tensor, y: Tensor) -> Tensor:
    """Alignment loss of every step, `1 - |CKA(x[t], y[t])|`: [B, T, F], [B, T, G] → [T].

    Example:
        >>> x = torch.randn(8, 10, 5)
        >>> cka_loss(x, x).abs().max() < 1e-5
        tensor(True)

    Source: KT (released code), its L_DA.
    """
    return 1 - linear_cka(x, y).abs()


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * grad, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` forwards, the gradient times `factor` backwards: how much of a loss what is before it hears.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> scale_gradient(x, 0.1).sum().backward(); x.grad
        tensor([0.1000, 0.1000])

    Args:
        x: any shape.
        factor: 1 changes nothing, 0 gives zeros (not None), -1 reverses.

    Source: decided here, to keep a generator from collapsing the teacher's view of it; after Ganin and
        Lempitsky, ICML 2015.
    """
    return _Scale.apply(x, factor)


def reverse_gradient(x: Tensor) -> Tensor:
    """`x` forwards, minus the gradient backwards: what is before it unlearns what is after it learns.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> reverse_gradient(x).sum().backward(); x.grad
        tensor([-1., -1.])

    Source: Ganin and Lempitsky, ICML 2015.
    """
    return scale_gradient(x, -1.0)
