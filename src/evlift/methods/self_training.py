"""Self-training: an averaged student labels the unlabelled events; the baseline of later label-free work."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.losses.distill import confidence_weight, kd_loss
from evlift.methods.base import METHODS, Method, Phase, Progress, StepOutput
from evlift.methods.baselines import LabelMethod
from evlift.models.modes import fixed_statistics

if TYPE_CHECKING:
    from evlift.datasets.base import Batch


class AveragedTeacher(nn.Module):
    """A moving average of the student that gives soft targets for events.

    Args:
        student: copied.
        decay: of the average; the first updates follow the student faster.
    """

    updates: Tensor

    def __init__(self, student: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise ConfigError(f"Expected `decay` in (0, 1), but got {decay}.")
        self.decay = decay
        self.network = deepcopy(student).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move towards the student's weights and take over its batch statistics."""
        self.updates += 1
        count = int(self.updates)
        decay = min(self.decay, count / (count + 9))
        for mine, theirs in zip(self.network.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for held, given in zip(self.network.buffers(), student.buffers(), strict=True):
            held.copy_(given)

    @torch.no_grad()
    def logits(self, events: Tensor) -> Tensor:
        """[B, T, C, H, W] → logits averaged over time, [B, K, ...]."""
        self.network.eval()
        return self.network(events, head="event").logits.mean(1).float()


def distil_own(
    answers: Tensor, student: nn.Module, events: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Distillation of an averaged student's answers into the student on perturbed events.

    Args:
        answers: logits of :meth:`AveragedTeacher.logits` for `events`, or for the whole recordings that they are of.
        student: in training mode.
        events: [B, T, C, H, W].
        threshold: answers below this probability do not count.

    Returns:
        The loss, and the share of answers that count.
    """
    weight = confidence_weight(answers, threshold=threshold)
    with fixed_statistics(student):  # those of perturbed events are not those of events
        said = student(perturbed(events), head="event").logits.mean(1)
    # a few confident answers must not weigh as much as a batch of them
    return kd_loss(said, answers, weight=weight) * weight.mean(), (weight > 0).float().mean()


def perturbed(clips: Tensor) -> Tensor:
    """Clips [B, T, C, H, W] with up to 30 % of their pixels dropped and a small box blanked.

    Everything lies where it lay, so that masks still hold. Decided here: dropping up to 60 %, larger boxes and whole
    steps cost 3 points of accuracy on N-MNIST, measured by one run each.
    """
    batch, _, _, height, width = clips.shape
    device = clips.device
    kept = 1 - 0.3 * torch.rand(batch, 1, 1, 1, 1, device=device)
    mask = torch.rand(clips.shape, device=device) < kept
    corner = torch.rand(batch, 2, device=device)
    side = 0.1 + 0.1 * torch.rand(batch, 2, device=device)
    rows = torch.arange(height, device=device) / height
    columns = torch.arange(width, device=device) / width
    in_rows = (rows >= corner[:, :1]) & (rows < corner[:, :1] + side[:, :1])  # [B, H]
    in_columns = (columns >= corner[:, 1:]) & (columns < corner[:, 1:] + side[:, 1:])  # [B, W]
    box = in_rows[:, :, None] & in_columns[:, None, :]  # [B, H, W]
    return clips * (mask & ~box[:, None, None])


def check_whole(whole_targets: bool, student: nn.Module) -> bool:
    """`whole_targets` as given; ConfigError for masks, which belong to one window of a recording."""
    if whole_targets and getattr(student, "task", "recognition") == "segmentation":
        raise ConfigError(
            "Expected whole_targets=False for segmentation, whose masks hold at the end of one window, but got True."
        )
    return whole_targets


def targets_from(method: Method, batch: Batch) -> Tensor:
    """What an averaged student reads for its answers: whole recordings or the student's windows, [B, T, C, H, W]."""
    return method.require(batch, "whole" if method.uses_whole else "events")[0]


@METHODS.register("mean-teacher")
class MeanTeacher(LabelMethod):
    """Labelled simulated events and a moving average of the student that labels the real ones.

    Example:
        >>> MeanTeacher(student, threshold=0.9)

    Loss: label loss of the pictures set in motion, plus `weight` times the distillation of the averaged student's
    confident answers on real events into the student on perturbed ones.

    Args:
        student: as in :class:`~evlift.methods.baselines.LabelMethod`.
        weight: of the unlabelled part.
        threshold: answers below this probability do not count.
        decay: of the average.
        start: share of the training before the unlabelled part sets in.
        whole_targets: the average answers for the whole recording, whatever window of it the student reads.
        tet: as in :class:`~evlift.methods.baselines.LabelMethod`.
        tet_lambda: as there.

    Raises:
        ConfigError: a share or threshold outside [0, 1), a negative weight.

    Source: Tarvainen and Valpola, NeurIPS 2017, with the confidence threshold of FixMatch, Sohn et al., NeurIPS 2020;
    `whole_targets`: views of different extent as in DINO, Caron et al., ICCV 2021, along time (decided here).
    """

    uses_images = True
    uses_events = True
    simulates = True
    image_head = False

    def __init__(
        self,
        student: nn.Module,
        *,
        weight: float = 1.0,
        threshold: float = 0.8,
        decay: float = 0.99,
        start: float = 0.2,
        whole_targets: bool = False,
        tet: bool = True,
        tet_lambda: float = 1e-3,
    ) -> None:
        super().__init__(student, tet=tet, tet_lambda=tet_lambda)
        for name, value in (("threshold", threshold), ("start", start)):
            if not 0 <= value < 1:
                raise ConfigError(f"Expected `{name}` in [0, 1), but got {value}.")
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"Expected `weight` to be at least 0 and finite, but got {weight}.")
        if whole_targets and not weight:
            raise ConfigError("Expected whole_targets=False with weight=0: no averaged student answers.")
        self.weight, self.threshold, self.start = weight, threshold, start
        self.average = AveragedTeacher(student, decay)
        self.uses_whole = check_whole(whole_targets, student)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One phase."""
        return (Phase("train"),)

    @property
    def networks(self) -> Iterable[nn.Module]:
        """Student and average."""
        return (self.student, self.average.network)

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Label loss on simulated events, and consistency on real ones."""
        image, target, events = self.require(batch, "image", "image_target", "events")
        output = self.student(image, head="image").logits
        label = self.label_loss(output, target)
        parts = {"label": label}
        with torch.no_grad():
            self.student(events, head="event")  # its batch statistics
        if progress.fraction < self.start:
            return StepOutput(label, parts, {"events": events})
        answers = self.average.logits(targets_from(self, batch))
        unlabelled, confident = distil_own(answers, self.student, events, self.threshold)
        parts |= {"self_training": unlabelled, "confident": confident}
        return StepOutput(label + self.weight * unlabelled, parts, {"events": events})

    def after_update(self, progress: Progress) -> None:
        """Move the average."""
        self.average.update(self.student)
