"""Label losses on logits over time: a class a clip [B], or a mask [B, *S] in which 255 is void.

Void locations count in no mean; a batch without any other gives 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evlift.errors import ConfigError
from evlift.masks import VOID


def tet_per_step(logits: Tensor, target: Tensor, *, lam: float = 1e-3, mean: float = 0.5) -> Tensor:
    """TET loss of every time step: `(1-lam)·CE(O[t], y) + lam·MSE(O[t], mean)`.

    Example:
        >>> tet_per_step(torch.zeros(4, 10, 3), torch.zeros(4, dtype=torch.long)).shape
        torch.Size([10])

    Args:
        logits: [B, T, K, *S].
        target: [B, *S] int64, the class of each row or location; every step has the same.
        lam: share of the regulariser, in [0, 1].
        mean: constant that the regulariser pulls the logits to.

    Returns:
        [T] losses.

    Source: KT (released code), after Deng et al., "Temporal Efficient Training", ICLR 2022; masks decided here.
    """
    check_logits(logits, target)
    if not 0 <= lam <= 1:
        raise ConfigError(f"Expected `lam` to be in [0, 1], but got {lam}.")
    batch, steps = logits.shape[:2]
    flat = logits.float().flatten(0, 1)  # [B, T, K, *S] → [B·T, K, *S], in fp32 under autocast too
    repeated = target.repeat_interleave(steps, dim=0)  # [B, *S] → [B·T, *S]
    entropy = label_entropy(flat, repeated).view(batch, steps, -1)  # [B·T, *S] → [B, T, S]
    valid = _valid(target).view(batch, 1, -1)  # [B, *S] → [B, 1, S]
    distance = (flat - mean).square().mean(dim=1).view(batch, steps, -1)  # [B·T, K, *S] → [B, T, S]
    total = ((1 - lam) * entropy + lam * distance * valid).sum(dim=(0, 2))  # [B, T, S] → [T]
    return total / valid.sum().clamp(min=1)


def tet_loss(logits: Tensor, target: Tensor, lam: float = 1e-3, mean: float = 0.5) -> Tensor:
    """Temporal efficient training: every step's logits [B, T, K, *S] learn the label [B, *S]; a scalar.

    Example:
        >>> tet_loss(torch.zeros(4, 10, 2), torch.zeros(4, dtype=torch.long), lam=0.0)
        tensor(0.6931)

    Arguments, errors and source as in :func:`tet_per_step`, of which this is the mean over T.
    """
    return tet_per_step(logits, target, lam=lam, mean=mean).mean()


def mean_logit_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the logits [B, T, K, *S] averaged over time with the labels [B, *S]; a scalar.

    Example:
        >>> mean_logit_loss(torch.zeros(4, 10, 2), torch.zeros(4, dtype=torch.long))
        tensor(0.6931)

    Source: the prediction rule of KT (released code), the mean of the logits over T.
    """
    check_logits(logits, target)
    entropy = label_entropy(logits.float().mean(dim=1), target)  # [B, T, K, *S] → [B, K, *S] → [B, *S]
    return entropy.sum() / _valid(target).sum().clamp(min=1)


def ohem_loss(logits: Tensor, target: Tensor, *, threshold: float = 0.7, kept: float = 1 / 16) -> Tensor:
    """Cross-entropy of the hard locations of a mask: online hard example mining; a scalar.

    Example:
        >>> ohem_loss(torch.zeros(1, 1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long))
        tensor(0.6931)

    Args:
        logits: [B, T, K, *S], averaged over time.
        target: [B, *S] int64.
        threshold: a location is hard while its true class has at most this probability.
        kept: share of the labelled locations that counts at least, the hardest of them.

    Source: EvDistill's configuration (released code) for the threshold, which is Structured Knowledge Distillation's;
    a share instead of its 100,000 locations was decided here.
    """
    check_logits(logits, target)
    if not (0 < threshold <= 1 and 0 < kept <= 1):
        raise ConfigError(f"Expected `threshold` and `kept` to be in (0, 1], but got {threshold} and {kept}.")
    entropy = label_entropy(logits.float().mean(dim=1), target)  # [B, T, K, *S] → [B, K, *S] → [B, *S]
    labelled = entropy[_valid(target)]  # [B, *S] → [n]
    if not len(labelled):
        return entropy.sum()
    least = labelled.detach().topk(max(1, round(kept * len(labelled)))).values[-1]
    hard = (-labelled.detach()).exp() <= threshold  # exp(-CE) is the probability of the true class
    return labelled[hard | (labelled.detach() >= least)].mean()


def label_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy [B, *S] of logits [B, K, *S] with the classes [B, *S]; 0 at the void of a mask."""
    void = VOID if target.ndim > 1 else -100  # among whole clips 255 is a class like others
    return F.cross_entropy(logits, target, ignore_index=void, reduction="none")


def _valid(target: Tensor) -> Tensor:
    """Where a target [B, *S] holds a class, bool."""
    return target != VOID if target.ndim > 1 else torch.ones_like(target, dtype=torch.bool)


def check_logits(logits: Tensor, target: Tensor) -> None:
    """Raise :class:`~evlift.errors.ConfigError` unless `logits` is [B, T, K, *S] and `target` [B, *S]."""
    if logits.ndim < 3 or target.shape != logits.shape[:1] + logits.shape[3:]:
        raise ConfigError(
            "Expected `logits` to be [B, T, K] and `target` [B], or [B, T, K, H, W] and [B, H, W] for masks, but got "
            f"{list(logits.shape)} and {list(target.shape)}. A network without time has T = 1."
        )
