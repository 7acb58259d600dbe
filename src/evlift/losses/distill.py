"""Losses by which one network teaches another: logits, affinity graphs, class distributions.

All are computed in float32 under autocast, too. Teacher and student are arguments alike: gradients flow into
both unless the caller detaches one, because a crafted picture learns through its teacher.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evlift.errors import ConfigError

KINDS = ("locations", "samples")
DISTANCES = {1: F.l1_loss, 2: F.mse_loss}
SILENT = 1e-4  # of the longest node of a graph


def kd_loss(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Logit distillation: τ²·KL(teacher ‖ student), the mean over batch and locations.

    Example:
        >>> logits = torch.randn(2, 11, 48, 64)
        >>> kd_loss(logits, logits)
        tensor(0.)

    KL rather than cross-entropy: they differ by the teacher's entropy, and where the teacher's input is
    crafted and not detached, cross-entropy would reward its generator for a low one. At equality the
    gradient vanishes for both arguments.

    Args:
        student: logits [B, K] or [B, K, *S].
        teacher: logits of the same shape.
        temperature: τ > 0; 1 for segmentation, 4 for recognition.
        weight: [B, *S], not negative (see :func:`confidence_weight` and :func:`activity_mask`): the mean is
            weighted. A weight of zero everywhere gives 0.

    Returns:
        A scalar.

    Raises:
        ConfigError: shapes that do not match, or a temperature that is not positive.

    Source: EvDistill (published summary; KL, batch mean and τ inferred or decided); Hinton et al., 2015.
    """
    _check_alike(student, teacher)
    if not temperature > 0:
        raise ConfigError(f"Expected `temperature` to be above 0, but got {temperature}.")
    log_s, log_t = (_log_softmax(x / temperature) for x in (_exact(student), _exact(teacher)))
    divergence = _kl(log_t, log_s) * temperature**2  # [B, K, *S] → [B, *S]
    if weight is None:
        return divergence.mean()
    if weight.shape != divergence.shape:
        raise ConfigError(
            f"Expected `weight` to be [B, *S] = {list(divergence.shape)}, but got {list(weight.shape)}. "
            "It has no class axis; resize it to the size of the logits."
        )
    weight = weight.to(divergence.dtype)
    total = weight.sum()
    # 1 rather than a tiny number for an empty sum: its inverse would overflow in a weighted loss's gradient.
    return (weight * divergence).sum() / torch.where(total > 0, total, 1.0)


def confidence_weight(teacher: Tensor, *, threshold: float = 0.0) -> Tensor:
    """How sure a teacher is of its class: the largest probability, 0 below the threshold; detached.

    Example:
        >>> confidence_weight(torch.tensor([[0.0, 0.0], [0.0, 9.0]]), threshold=0.9)
        tensor([0.0000, 0.9999])

    Args:
        teacher: logits [B, K, *S].
        threshold: in [0, 1].

    Returns:
        [B, *S] in [0, 1].

    Raises:
        ConfigError: a threshold outside [0, 1].

    Source: decided here.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"Expected `threshold` to be in [0, 1], but got {threshold}.")
    largest = _exact(teacher.detach()).softmax(dim=1).amax(dim=1)  # [B, K, *S] → [B, *S]
    return largest * (largest >= threshold)


def activity_mask(events: Tensor, *, radius: int = 0) -> Tensor:
    """Where events are, 1, or nothing happened, 0: any step, any channel, within `radius` pixels.

    Example:
        >>> activity_mask(torch.zeros(2, 10, 2, 34, 34)).sum()
        tensor(0.)

    Args:
        events: [B, T, C, H, W], 0 where nothing happened.
        radius: pixels around an event, in a square, that count as active.

    Returns:
        [B, H, W] float32.

    Raises:
        ConfigError: another number of axes, or a negative radius.

    Source: decided here.
    """
    if events.ndim != 5 or radius < 0:
        raise ConfigError(
            "Expected `events` to be [B, T, C, H, W] and `radius` not negative, but got "
            f"{list(events.shape)} and {radius}. A single tensor needs a time axis: events[:, None]."
        )
    active = (events != 0).flatten(1, 2).any(dim=1).float()  # [B, T, C, H, W] → [B, T·C, H, W] → [B, H, W]
    return F.max_pool2d(active, 2 * radius + 1, stride=1, padding=radius) if radius else active


def affinity_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    nodes: int = 512,
    kind: str = "locations",
    power: int = 2,
    detach_norm: bool = True,
) -> Tensor:
    """Affinity-graph distillation: the cosine similarities of every pair of nodes agree, whatever the features are.

    Example:
        >>> affinity_loss(torch.randn(2, 64, 12, 16), torch.randn(2, 256, 24, 32)) > 0
        tensor(True)

    `mean |A_ij(teacher) - A_ij(student)|^power` over all pairs of nodes, then over the batch. It is blind to
    rotations of the channels and to scale. A node without features, below 1e-4 of the longest of its graph,
    is similar to nothing, itself included, and has no gradient.

    Args:
        student: features [B, F, h, w].
        teacher: features [B, G, h', w']; channels and size may differ.
        nodes: at most so many cells, on one grid for both: average-pooled to the aspect of the smaller map
            as nearly as whole cells allow, and never finer than either map.
        kind: "locations" compares the cells of each sample, "samples" the averaged maps of the batch [B, B].
        power: 2, or 1 for absolute differences.
        detach_norm: hold the length of the features constant in the gradient.

    Returns:
        A scalar.

    Raises:
        ConfigError: shapes that do not match, or settings out of range.

    Source: EvDistill (published summary; weight from the released code, detached norm from the public code that
        its configuration matches, Structured Knowledge Distillation; grid and number of nodes decided here).
    """
    _check_affinity(student, teacher, nodes, kind, power)
    with torch.autocast(student.device.type, enabled=False):
        grid = _grid(student.shape[-2:], teacher.shape[-2:], nodes) if kind == "locations" else (1, 1)
        graphs = []
        for x in (student, teacher):
            cells = F.adaptive_avg_pool2d(_exact(x), grid).flatten(2).mT  # [B, F, h, w] → [B, n, F]
            unit = _unit(cells if kind == "locations" else cells.transpose(0, 1), detach_norm)
            graphs.append(unit @ unit.mT)  # [B, n, F] → [B, n, n]; samples: [1, B, F] → [1, B, B]
        return DISTANCES[power](graphs[0], graphs[1])


def consistency_loss(
    teacher_x: Tensor, student_crafted: Tensor, student_real: Tensor, teacher_crafted: Tensor
) -> Tensor:
    """Dynamic semantic consistency: a crafted partner means to the networks what its origin means.

    Example:
        >>> x, e = torch.randn(2, 11, 8, 8), torch.randn(2, 11, 8, 8)
        >>> consistency_loss(x, x, e, e)
        tensor(0.)

    `KL(T(x) ‖ S(ê)) + KL(S(e) ‖ T(x̂))` with the networks as they are now, mean over locations; a scalar.

    Args:
        teacher_x: logits [B, K, *S] of the teacher on a real picture x.
        student_crafted: of the student on the events ê crafted from x, the same shape.
        student_real: of the student on real events e.
        teacher_crafted: of the teacher on the picture x̂ crafted from e, the same shape.

    Source: EvDistill (published summary; the formula from the public code that its configuration matches, MADAN).
    """
    return kd_loss(student_crafted, teacher_x) + kd_loss(teacher_crafted, student_real)


def mutual_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mutual distillation of two networks on paired input: KL(a ‖ b) + KL(b ‖ a), the other side detached.

    Example:
        >>> logits = torch.randn(2, 11, 8, 8)
        >>> mutual_loss(logits, logits)
        tensor(0.)

    Logits [B, K, *S] of one shape; a scalar, the mean over batch and locations.

    Source: EvDistill (published summary); Zhang et al., "Deep mutual learning", CVPR 2018.
    """
    return kd_loss(b, a.detach()) + kd_loss(a, b.detach())


def class_histogram(logits: Tensor) -> Tensor:
    """The mean class distribution over batch and locations: logits [B, K, *S] → probabilities [K].

    Example:
        >>> class_histogram(torch.zeros(8, 4))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])

    Source: decided here; its entropy shows a teacher's view that collapses.
    """
    return _log_histogram(logits).exp()


def entropy(p: Tensor) -> Tensor:
    """Entropy in nats of a distribution [K], with 0·log 0 = 0; a scalar between 0 and log K.

    Example:
        >>> entropy(torch.tensor([0.5, 0.5, 0.0]))
        tensor(0.6931)

    Source: decided here.
    """
    p = _exact(p)
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum()


def class_distribution_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Distribution matching for recognition: KL(teacher ‖ student) of the mean class distributions of two batches.

    Example:
        >>> class_distribution_loss(torch.zeros(8, 10), torch.zeros(5, 10))
        tensor(0.)

    Args:
        student: logits [B, K, *S] on events.
        teacher: logits [B', K, *S'] on pictures: another batch, as many classes.

    Returns:
        A scalar.

    Raises:
        ConfigError: different numbers of classes.

    Source: decided here, in place of EvDistill's critic on score maps (published summary).
    """
    if student.ndim < 2 or teacher.ndim < 2 or student.shape[1] != teacher.shape[1]:
        raise ConfigError(
            "Expected `student` and `teacher` to be [B, K, *S] with equal K, but got "
            f"{list(student.shape)} and {list(teacher.shape)}."
        )
    return _kl(_log_histogram(teacher)[None], _log_histogram(student)[None])[0]


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _log_softmax(logits: Tensor) -> Tensor:
    return _exact(logits).log_softmax(dim=1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) over axis 1: [B, K, *S] → [B, *S]."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)


def _log_histogram(logits: Tensor) -> Tensor:
    """Logarithm of the mean distribution: [B, K, *S] → [K]."""
    rows = _log_softmax(logits).movedim(1, -1).flatten(0, -2)  # [B, K, *S] → [B·S, K]
    return rows.logsumexp(dim=0) - math.log(len(rows))


def _unit(nodes: Tensor, detach_norm: bool) -> Tensor:
    """Rows of length 1: [B, n, F] → [B, n, F]; a row that is nothing beside the longest becomes 0."""
    length = nodes.norm(dim=-1, keepdim=True)  # [B, n, 1]
    # The gradient of a cosine, 1 / length, of a nearly silent row would drown those of all the others.
    silent = length.detach() <= SILENT * length.detach().amax(dim=1, keepdim=True)
    return nodes / (length.detach() if detach_norm else length).masked_fill(silent, torch.inf)


def _grid(student: torch.Size, teacher: torch.Size, nodes: int) -> tuple[int, int]:
    """Rows and columns of at most `nodes` cells, no finer than either map."""
    height, width = (min(pair) for pair in zip(student, teacher, strict=True))
    if height * width <= nodes:
        return height, width
    rows = min(max(round(math.sqrt(nodes * height / width)), 1), height, nodes)
    columns = min(nodes // rows, width)
    return min(nodes // columns, height), columns


def _check_alike(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape or student.ndim < 2:
        raise ConfigError(
            "Expected `student` and `teacher` to be logits [B, K, *S] of one shape, but got "
            f"{list(student.shape)} and {list(teacher.shape)}. Resize one to the other's size."
        )


def _check_affinity(student: Tensor, teacher: Tensor, nodes: int, kind: str, power: int) -> None:
    if student.ndim != 4 or teacher.ndim != 4 or len(student) != len(teacher):
        raise ConfigError(
            "Expected `student` and `teacher` to be [B, F, h, w] with equal B, but got "
            f"{list(student.shape)} and {list(teacher.shape)}. Fold time into the batch or average it first."
        )
    if kind not in KINDS:
        raise ConfigError(f"Expected `kind` to be one of {', '.join(KINDS)}, but got '{kind}'.")
    if nodes < 1 or power not in DISTANCES:
        raise ConfigError(
            f"Expected `nodes` to be at least 1 and `power` 1 or 2, but got nodes={nodes} and power={power}."
        )
