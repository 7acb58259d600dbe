"""Losses between a critic and what tries to fool it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evlift.errors import ConfigError


def lsgan_generator_loss(fake: Tensor) -> Tensor:
    """Least squares: how far the critic's scores of crafted samples, any shape, are from 1; a scalar.

    Example:
        >>> lsgan_generator_loss(torch.zeros(4, 1, 7, 7))
        tensor(1.)

    Source: EvDistill (released code); Mao et al., ICCV 2017.
    """
    return (fake.float() - 1).square().mean()


def lsgan_critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Least squares: real scores learn 1, crafted ones 0; ½ each, a scalar. Any shapes, detach the crafted samples.

    Example:
        >>> lsgan_critic_loss(torch.ones(4), torch.ones(4))
        tensor(0.5000)

    Source: EvDistill (the public code that its configuration matches, CycleGAN); Mao et al., ICCV 2017.
    """
    return ((real.float() - 1).square().mean() + fake.float().square().mean()) / 2


def wgan_generator_loss(fake: Tensor) -> Tensor:
    """Wasserstein: minus the mean score of crafted samples, any shape; a scalar.

    Example:
        >>> wgan_generator_loss(torch.full((4,), 3.0))
        tensor(-3.)

    Source: EvDistill (released code); Arjovsky et al., ICML 2017.
    """
    return -fake.float().mean()


def wgan_critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Wasserstein: mean crafted score minus mean real score, any shapes; a scalar that needs a gradient penalty.

    Example:
        >>> wgan_critic_loss(torch.ones(4), torch.zeros(4))
        tensor(-1.)

    Source: EvDistill (released code); Arjovsky et al., ICML 2017.
    """
    return fake.float().mean() - real.float().mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """How far the slope of a critic is from 1 between real and crafted samples: mean of (‖∇‖ - 1)², a scalar.

    Example:
        >>> gradient_penalty(lambda x: x.sum(dim=1), torch.zeros(4, 9), torch.ones(4, 9))
        tensor(4.)

    One point is drawn on the line between each pair (PyTorch's global generator). Only the critic learns:
    both inputs are detached. Computed without autocast, since it is differentiated twice.

    Args:
        critic: [B, ...] → any shape with B rows; the scores of a row are summed, so return their mean.
        real: [B, ...].
        fake: the same shape.

    Raises:
        ConfigError: different shapes.

    Source: EvDistill (released code, weight 10); Gulrajani et al., NeurIPS 2017.
    """
    if real.shape != fake.shape or real.ndim < 2:
        raise ConfigError(
            "Expected `real` and `fake` to be [B, ...] of one shape, but got "
            f"{list(real.shape)} and {list(fake.shape)}. Resize the score maps, and use as many of each."
        )
    with torch.enable_grad(), torch.autocast(real.device.type, enabled=False):
        share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)  # [B, 1, ...]
        between = torch.lerp(fake.detach().float(), real.detach().float(), share).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()  # [B, ...] → [B] → scalar
