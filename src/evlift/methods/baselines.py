"""The floors and simple rivals of every table: events-only, source-only, fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.losses.task import mean_logit_loss, tet_loss
from evlift.methods.base import METHODS, Method, Phase, Progress, StepOutput

if TYPE_CHECKING:
    from evlift.datasets.base import Batch


class LabelMethod(Method):
    """A method with a label loss: TET, or cross-entropy of the mean logit.

    Args:
        student: `student(x [B, T, C, H, W], head=...)` gives `.logits` [B, T, K].
        tet: every time step learns the label; otherwise the mean over time does.
        tet_lambda: share of TET's regulariser, in [0, 1]; without `tet` it has no effect.

    Raises:
        ConfigError: `tet_lambda` outside [0, 1].
    """

    def __init__(self, student: nn.Module, *, tet: bool = True, tet_lambda: float = 1e-3) -> None:
        super().__init__(student)
        if not 0 <= tet_lambda <= 1:
            raise ConfigError(f"Expected `tet_lambda` to be in [0, 1], but got {tet_lambda}.")
        self.tet = tet
        self.tet_lambda = tet_lambda

    def label_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The label loss of `logits` [B, T, K] and `target` [B]: a scalar."""
        if self.tet:
            return tet_loss(logits, target, lam=self.tet_lambda)
        return mean_logit_loss(logits, target)

    def label_step(self, clip: Tensor, target: Tensor) -> StepOutput:
        """One supervised step of the event head, the one that evaluation uses, on `clip` [B, T, C, H, W]."""
        logits = self.student(clip, head="event").logits  # [B, T, C, H, W] → [B, T, K]
        loss = self.label_loss(logits, target)
        return StepOutput(loss, {"label": loss}, {"logits": logits, "target": target, "clip": clip})


@METHODS.register("events-only")
class EventsOnly(LabelMethod):
    """Supervised training on labelled event recordings alone: the row that a transfer has to beat.

    Example:
        >>> method = EventsOnly(student, tet=True)

    Options as in :class:`LabelMethod`. Source: the baseline of KT and TMKT.
    """

    uses_events = True
    uses_event_labels = True

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Label loss on the events."""
        clip, target = self.require(batch, "events", "event_target")
        return self.label_step(clip, target)


@METHODS.register("source-only")
class SourceOnly(LabelMethod):
    """Supervised training on the labelled pictures alone: the floor of every transfer.

    Example:
        >>> method = SourceOnly(student)

    The image sequences train the *event* head, because evaluation reads that head and no event ever trains it
    here (decided here). Options as in :class:`LabelMethod`.
    """

    uses_images = True

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Label loss on the image sequences."""
        clip, target = self.require(batch, "image", "image_target")
        return self.label_step(clip, target)


@METHODS.register("fine-tune")
class FineTune(LabelMethod):
    """Pictures first, then events: pre-training and fine-tuning, each with its own optimiser and schedule.

    Example:
        >>> [(phase.name, phase.share) for phase in FineTune(student, source_share=0.3).phases]
        [('source', 0.3), ('events', 0.7)]

    Args:
        student: as in :class:`LabelMethod`; both phases train its event head.
        source_share: share of the optimiser steps spent on pictures, strictly between 0 and 1.
        tet: as in :class:`LabelMethod`.
        tet_lambda: as in :class:`LabelMethod`.

    Raises:
        ConfigError: `source_share` outside (0, 1).
    """

    uses_images = True
    uses_events = True
    uses_event_labels = True

    def __init__(
        self, student: nn.Module, *, source_share: float = 0.5, tet: bool = True, tet_lambda: float = 1e-3
    ) -> None:
        super().__init__(student, tet=tet, tet_lambda=tet_lambda)
        if not 0 < source_share < 1:
            raise ConfigError(
                f"Expected `source_share` to be between 0 and 1, both excluded, but got {source_share}. "
                "Use the method 'events-only' for 0 and 'source-only' for 1."
            )
        self.source_share = source_share

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Pictures, then events."""
        return (
            Phase("source", self.source_share, needs="images"),
            Phase("events", 1 - self.source_share, needs="events"),
        )

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Label loss on the pictures or on the events, as the phase says."""
        if progress.phase == "source":
            clip, target = self.require(batch, "image", "image_target")
        else:
            clip, target = self.require(batch, "events", "event_target")
        return self.label_step(clip, target)
