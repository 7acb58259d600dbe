"""Baselines with an image network: the image model itself, plain distillation, reconstruct-then-run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from evlift.checks import check_weight
from evlift.errors import ConfigError
from evlift.losses.distill import kd_loss
from evlift.losses.task import mean_logit_loss
from evlift.methods.base import METHODS, Method, ParameterGroup, Phase, Progress, StepOutput
from evlift.methods.teacher import TEACH, TaughtMethod
from evlift.models.composite import ReconstructThenRun

if TYPE_CHECKING:
    from evlift.datasets.base import Batch


@METHODS.register("image-model")
class ImageModel(Method):
    """Supervised training on the pictures themselves: a teacher, and the ceiling of every transfer.

    Example:
        >>> method = ImageModel(student)  # doctest: +SKIP

    The student reads pictures, [B, 1, P, H, W]. Its run can be named as `teacher` of another method.
    """

    uses_pictures = True
    reads = "pictures"

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Label loss on the pictures."""
        picture, target = self.require(batch, "picture", "image_target")
        logits = self.student(picture.unsqueeze(1), head="event").logits  # [B, P, H, W] → [B, 1, P, H, W]
        loss = mean_logit_loss(logits, target)
        return StepOutput(loss, {"label": loss}, {"logits": logits, "target": target})


@METHODS.register("plain-kd")
class PlainKD(TaughtMethod):
    """Distillation on simulated pairs alone: the teacher sees the picture, the student its simulated events.

    Example:
        >>> PlainKD(student, teacher="convnet").phases  # doctest: +SKIP

    Args:
        student: as in :class:`~evlift.methods.teacher.TaughtMethod`.
        picture_channels, teacher, teacher_share, teacher_pretrained, teacher_map: as there.
        task: weight of the label loss.
        kd: weight of the distillation.
        temperature: of the distillation; default 4 for recognition, 1 for segmentation.
        tet, tet_lambda: as in :class:`~evlift.methods.baselines.LabelMethod`.

    Source: Hinton et al., 2015; on simulated events as in Vid2E, Gehrig et al., CVPR 2020. Weights as in EvDistill.
    """

    uses_images = True
    simulates = True

    def __init__(
        self,
        student: nn.Module,
        *,
        picture_channels: int = 1,
        teacher: str | nn.Module = "convnet",
        teacher_share: float = 0.2,
        teacher_pretrained: bool = False,
        teacher_map: Sequence[int] | None = None,
        task: float = 10.0,
        kd: float = 20.0,
        temperature: float | None = None,
        tet: bool = True,
        tet_lambda: float = 1e-3,
    ) -> None:
        super().__init__(
            student,
            picture_channels=picture_channels,
            teacher=teacher,
            teacher_share=teacher_share,
            teacher_pretrained=teacher_pretrained,
            teacher_map=teacher_map,
            tet=tet,
            tet_lambda=tet_lambda,
        )
        self.task, self.kd = check_weight("task", task), check_weight("kd", kd)
        self.temperature = self.chosen_temperature(temperature)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Teacher (if it is not trained), student."""
        return self.with_teacher_phase(Phase("student"))

    def learn(self, batch: Batch, progress: Progress) -> StepOutput:
        """Label loss and distillation on simulated events."""
        picture, events, target = self.require(batch, "picture", "image", "image_target")
        with torch.no_grad():
            seen = self.teacher(picture)
        logits = self.student(events, head="event").logits
        parts = {
            "task": self.task * self.label_loss(logits, target),
            "kd": self.kd * kd_loss(logits.mean(1), seen.logits, temperature=self.temperature),
        }
        return StepOutput(parts["task"] + parts["kd"], parts, {"picture": picture, "crafted": events})


@METHODS.register("reconstruct-then-run")
class ReconstructThenRunMethod(Method):
    """A reconstruction network learnt from simulated events, before an image network learnt from pictures.

    Example:
        >>> ReconstructThenRunMethod(student, teacher_share=0.3).phases  # doctest: +SKIP

    Args:
        student: the model "reconstruct-then-run".
        teacher_share: share of the optimiser steps that train the image network, in (0, 1).

    Raises:
        ConfigError: another student, or a share outside (0, 1).

    Source: the way of E2VID, Rebecq et al., CVPR 2019, with L1 and a network of our own.
    """

    uses_images = True
    uses_pictures = True
    simulates = True
    student: ReconstructThenRun

    def __init__(self, student: nn.Module, *, teacher_share: float = 0.3) -> None:
        super().__init__(student)
        if not isinstance(student, ReconstructThenRun):
            raise ConfigError(
                f"Expected the model 'reconstruct-then-run', but got {type(student).__name__}. Set model.name to it."
            )
        if not 0 < teacher_share < 1:
            raise ConfigError(f"Expected `teacher_share` in (0, 1), but got {teacher_share}.")
        self.teacher_share = teacher_share

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Image network, reconstruction network."""
        return (
            Phase(TEACH, self.teacher_share, student=False, needs="pictures"),
            Phase("reconstruction", 1 - self.teacher_share),
        )

    @property
    def networks(self) -> Iterable[nn.Module]:
        """Both, which are called by themselves."""
        return (self.student.image_model, self.student.reconstruction)

    def parameter_groups(self, phase: str) -> Sequence[ParameterGroup]:
        """One of the two networks."""
        part = self.student.image_model if phase == TEACH else self.student.reconstruction
        return (ParameterGroup(phase, tuple(part.parameters())),)

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Label loss on pictures, or L1 of pictures reconstructed from simulated events."""
        if progress.phase == TEACH:
            picture, target = self.require(batch, "picture", "image_target")
            logits = self.student.image_model(picture.unsqueeze(1), head="event").logits
            loss = mean_logit_loss(logits, target)
            return StepOutput(loss, {"teacher": loss})
        picture, events = self.require(batch, "picture", "image")
        again = self.student.picture(events)
        loss = F.l1_loss(again, picture)
        return StepOutput(
            loss, {"l1": loss}, {"picture": picture, "reconstruction": again, "crafted": events}
        )
