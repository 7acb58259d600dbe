"""Lift: what carries transfer in both papers and in later label-free work, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from evlift.checks import check_weight
from evlift.errors import ConfigError
from evlift.methods.base import METHODS, Progress, StepOutput
from evlift.methods.evdistill import EvDistill
from evlift.models.modes import fixed_statistics

if TYPE_CHECKING:
    from evlift.datasets.base import Batch


@METHODS.register("lift")
class Lift(EvDistill):
    """A student of simulated events, an image teacher, its own average on real events, and time-step mixup.

    Example:
        >>> method = Lift(student, steps=3)  # doctest: +SKIP

    From EvDistill it keeps the image-anchored pair (label, logits and affinity graph of the teacher), with events of
    the simulated camera in place of a generator's; from TMKT the time-step mixup, between simulated and real events
    that are believed to show the same class; from mean-teacher an averaged student whose confident answers are the
    targets of real events. There are no generators and no critics: a step costs about half of EvDistill's.

    With `labels` > 0 the labelled recordings teach beside the unlabelled ones, and val chooses the weights; without,
    no event label is read.

    Args:
        student: a network of evlift; inference needs it alone.
        steps: number T of time steps.
        picture_channels: P, 1 for grey and 3 for colour.
        teacher, teacher_share, teacher_pretrained, teacher_map: as in
            :class:`~evlift.methods.evdistill.EvDistill`.
        kd: weight of the logit distillation from the teacher.
        temperature: of the distillation.
        ag: weight of the affinity graph.
        averaged: weight of the averaged student's targets on real events.
        averaged_threshold: its answers below this probability do not count.
        averaged_start: share of the training before it sets in.
        whole_targets: the averaged student answers for the whole recording, whatever window of it the student reads.
        mixup: weight of time-step mixup; default: 1 for classes with at least 2 time steps, else 0.
        r_m: expected share of real frames in it.
        labels: weight of the labelled recordings; 0 reads no event label.
        strangers: weight of the uniform answer to :func:`scrambled` recordings, so that what is of no class gets little
            confidence (outlier exposure, Hendrycks et al., ICLR 2019; the scrambling is decided here).

    Raises:
        ConfigError: options that contradict each other.

    Source: decided here, from the ablations in docs/results-unlabelled.md.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        steps: int,
        picture_channels: int = 1,
        teacher: str | nn.Module = "convnet",
        teacher_share: float = 0.3,
        teacher_pretrained: bool = False,
        teacher_map: Sequence[int] | None = None,
        kd: float = 1.0,
        temperature: float = 1.0,
        ag: float = 0.1,
        averaged: float = 5.0,
        averaged_threshold: float = 0.8,
        averaged_start: float = 0.2,
        whole_targets: bool = False,
        mixup: float | None = None,
        r_m: float = 0.3,
        labels: float = 0.0,
        strangers: float = 0.0,
    ) -> None:
        mixes = getattr(student, "task", "recognition") == "recognition" and steps > 1
        super().__init__(
            student,
            steps=steps,
            picture_channels=picture_channels,
            teacher=teacher,
            teacher_share=teacher_share,
            teacher_pretrained=teacher_pretrained,
            teacher_map=teacher_map,
            generation="physics",
            bmr=False,
            kd=kd,
            temperature=temperature,
            ag=ag,
            da=0.0,
            averaged=averaged,
            averaged_threshold=averaged_threshold,
            averaged_start=averaged_start,
            whole_targets=whole_targets,
            mixup=float(mixes) if mixup is None else mixup,
            r_m=r_m,
        )
        self.labels, self.strangers = check_weight("labels", labels), check_weight("strangers", strangers)
        if self.segments:
            self._refuse_for_masks()
        self.uses_event_labels = self.semi_supervised = labels > 0

    def _refuse_for_masks(self) -> None:
        if self.labels:
            raise ConfigError(
                f"Expected labels=0 for segmentation, which has no labelled windows beside unlabelled ones, but got "
                f"{self.labels}. Use 'events-only' or 'fine-tune' for labelled windows."
            )
        if self.strangers:
            raise ConfigError(
                f"Expected strangers=0 for segmentation, where scrambled scenes are scenes, but got {self.strangers}."
            )

    def learn(self, batch: Batch, progress: Progress) -> StepOutput:
        """One step: pictures, unlabelled recordings, and labelled and scrambled ones if they are asked for."""
        output = super().learn(batch, progress)
        more: dict[str, Tensor] = {}
        # neither recordings that come again and again nor scrambled ones are what events look like
        with fixed_statistics(self.student):
            if self.labels:
                labelled, target = self.require(batch, "labelled", "event_target")
                logits = self.student(labelled, head="event").logits
                more["labels"] = self.labels * self.label_loss(logits, target)
            if self.strangers:
                (events,) = self.require(batch, "events")
                answers = self.student(scrambled(events), head="event").logits.mean(1)
                more["strangers"] = -self.strangers * answers.log_softmax(1).mean()
        output.parts |= more
        output.loss = output.loss + sum(more.values())
        return output


def scrambled(clips: Tensor) -> Tensor:
    """Clips [B, T, C, H, W] cut into 2×2 tiles, which are turned over and put elsewhere: of no class, but as real.

    Each clip has its own order, the same at all its time steps, and no tile keeps its place. An odd last row or column
    is empty. Draws come from torch's global generator.
    """
    batch, height, width = len(clips), clips.shape[-2] // 2 * 2, clips.shape[-1] // 2 * 2
    tiles = clips[..., :height, :width].unflatten(-2, (2, -1)).unflatten(-1, (2, -1))  # [B, T, C, 2, h, 2, w]
    tiles = tiles.movedim(-2, -3).flatten(-4, -3)  # [B, T, C, 4, h, w]
    turned = torch.rand(batch, 1, 1, 4, 1, 1, device=clips.device)
    tiles = torch.where(turned < 0.5, tiles, tiles.flip(-1))
    tiles = torch.where((turned * 4) % 2 < 1, tiles, tiles.flip(-2))
    # a random cycle through all four tiles: no tile is its own successor
    cycle = torch.rand(batch, 4, device=clips.device).argsort(1)  # [B, 4]
    order = torch.empty_like(cycle).scatter_(1, cycle, cycle.roll(1, 1))
    tiles = tiles.gather(3, order.view(batch, 1, 1, 4, 1, 1).expand_as(tiles))
    whole = tiles.unflatten(3, (2, 2)).movedim(-3, -2).flatten(-2).flatten(-3, -2)  # [B, T, C, H, W]
    out = torch.zeros_like(clips)
    out[..., :height, :width] = whole
    return out
