"""Label losses on logits over time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from evlift.errors import ConfigError


def tet_per_step(logits: Tensor, target: Tensor, *, lam: float = 1e-3, mean: float = 0.5) -> Tensor:
    """TET loss of every time step: `(1-lam)·CE(O[t], y) + lam·MSE(O[t], mean)`.

    Example:
        >>> tet_per_step(torch.zeros(4, 10, 3), torch.zeros(4, dtype=torch.long)).shape
        torch.Size([10])

    Args:
        logits: [B, T, K].
        target: [B] int64, the class of each row; every step of a row has the same class.
        lam: share of the regulariser, in [0, 1].
        mean: constant that the regulariser pulls the logits to.

    Returns:
        [T] losses.

    Source: KT (released code), after Deng et al., "Temporal Efficient Training", ICLR 2022.
    """
    check_logits(logits, target)
    if not 0 <= lam <= 1:
        raise ConfigError(f"Expected `lam` to be in [0, 1], but got {lam}.")
    batch, steps, classes = logits.shape
    per_step = logits.float().transpose(0, 1)  # [B, T, K] → [T, B, K], in fp32 under autocast too
    repeated = target.expand(steps, batch)  # [B] → [T, B]
    entropy = F.cross_entropy(per_step.reshape(-1, classes), repeated.reshape(-1), reduction="none")
    entropy = entropy.view(steps, batch).mean(dim=1)  # [T·B] → [T]
    distance = (per_step - mean).square().mean(dim=(1, 2))  # [T, B, K] → [T]
    return (1 - lam) * entropy + lam * distance


def tet_loss(logits: Tensor, target: Tensor, lam: float = 1e-3, mean: float = 0.5) -> Tensor:
    """Temporal efficient training: every step's logits [B, T, K] learn the label [B]; a scalar.

    Example:
        >>> tet_loss(torch.zeros(4, 10, 2), torch.zeros(4, dtype=torch.long), lam=0.0)
        tensor(0.6931)

    Arguments, errors and source as in :func:`tet_per_step`, of which this is the mean over T.
    """
    return tet_per_step(logits, target, lam=lam, mean=mean).mean()


def mean_logit_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the logits [B, T, K] averaged over time with the labels [B]; a scalar.

    Example:
        >>> mean_logit_loss(torch.zeros(4, 10, 2), torch.zeros(4, dtype=torch.long))
        tensor(0.6931)

    Source: the prediction rule of KT (released code), the mean of the logits over T.
    """
    check_logits(logits, target)
    return F.cross_entropy(logits.float().mean(dim=1), target)  # [B, T, K] → [B, K] → scalar


def check_logits(logits: Tensor, target: Tensor) -> None:
    """Raise :class:`~evlift.errors.ConfigError` unless `logits` is [B, T, K] and `target` [B]."""
    if logits.ndim != 3 or target.shape != logits.shape[:1]:
        raise ConfigError(
            "Expected `logits` to be [B, T, K] and `target` [B], but got "
            f"{list(logits.shape)} and {list(target.shape)}. A network without time has T = 1."
        )
