"""The image teacher: a network that reads pictures, trained first or brought along, frozen afterwards."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.losses.task import mean_logit_loss
from evlift.masks import VOID
from evlift.methods.base import ParameterGroup, Phase, Progress, StepOutput
from evlift.methods.baselines import LabelMethod
from evlift.models import MODELS, create_model, model_names
from evlift.models.modes import evaluating, fixed_statistics

if TYPE_CHECKING:
    from evlift.datasets.base import Batch

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TEACH = "teacher"  # name of the phase


class Seen(NamedTuple):
    """What a teacher says of pictures.

    Args:
        logits: [B, K], or [B, K, H, W] for segmentation.
        features: [B, F, h, w], the last feature map; None where the network has none.
    """

    logits: Tensor
    features: Tensor | None


class Teacher(nn.Module):
    """An image network with an input preparation and a class map of its own.

    Example:
        >>> teacher = Teacher(my_module, trained=True, mean=(0.5,), std=(0.25,))  # doctest: +SKIP
        >>> teacher(torch.rand(8, 1, 28, 28)).logits.shape  # doctest: +SKIP
        torch.Size([8, 10])

    Args:
        network: a network of evlift with one step (``network(x [B, 1, P, H, W], taps=True)``), or any module that takes
            pictures [B, P, H, W] and gives logits [B, K] or [B, K, H, W]; such a module shows no features.
        trained: it comes trained, and no phase teaches it.
        mean: of its training pictures, by channel.
        std: likewise.
        size: (H, W) that it wants; default: it takes pictures as they come. Maps come back at the pictures' size.
        class_map: the student's class of each of its classes, 255 for none; probabilities are summed.
    """

    mean: Tensor
    std: Tensor
    merge: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        trained: bool = False,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        size: tuple[int, int] | None = None,
        class_map: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.trained, self.size = network, trained, size
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("merge", merge_matrix(class_map), persistent=False)

    def forward(self, picture: Tensor) -> Seen:
        """Logits and features of `picture` [B, P, H, W] in 0..1; differentiable in the picture."""
        x = (picture - self.mean.to(picture)) / self.std.to(picture)
        if self.size is not None and self.size != tuple(picture.shape[-2:]):
            x = F.interpolate(x, self.size, mode="bilinear", align_corners=False)
        seen = self._look(x)
        logits = seen.logits.float()
        if logits.ndim == 4 and logits.shape[-2:] != picture.shape[-2:]:
            logits = F.interpolate(logits, picture.shape[-2:], mode="bilinear", align_corners=False)
        return Seen(self._merged(logits), seen.features)

    def _look(self, x: Tensor) -> Seen:
        if not hasattr(self.network, "input_size"):
            output = self.network(x)
            return output if isinstance(output, Seen) else Seen(output, None)
        output = self.network(x.unsqueeze(1), taps=True)  # [B, P, H, W] → [B, 1, P, H, W]
        features = None if output.spikes is None else output.spikes.mean(1)  # [B, T, F, h, w] → [B, F, h, w]
        return Seen(output.logits.mean(1), features)  # [B, T, K, ...] → [B, K, ...]

    def _merged(self, logits: Tensor) -> Tensor:
        """[B, K', ...] → [B, K, ...], log of the summed probabilities."""
        if self.merge is None:
            return logits
        summed = torch.einsum("bk...,kc->bc...", logits.softmax(1), self.merge.to(logits))
        return summed.clamp_min(1e-8).log()


def merge_matrix(class_map: Sequence[int] | None) -> Tensor | None:
    """[K', K] with a one where teacher class k' counts as student class k; None without a map."""
    if class_map is None:
        return None
    kept = [target for target in class_map if target != VOID]
    if not kept or sorted(set(kept)) != list(range(max(kept) + 1)):
        raise ConfigError(
            "Expected `teacher_map` to name every class of the student from 0 up, and 255 for none, but got "
            f"{class_map}."
        )
    matrix = torch.zeros(len(class_map), max(kept) + 1)
    for source, target in enumerate(class_map):
        if target != VOID:
            matrix[source, target] = 1.0
    return matrix


def build_teacher(
    wanted: str | nn.Module,
    student: nn.Module,
    picture_channels: int,
    *,
    pretrained: bool = False,
    class_map: Sequence[int] | None = None,
) -> Teacher:
    """The teacher for `student`, by name or from a module.

    Args:
        wanted: a name of :func:`~evlift.models.create_model`, a :class:`Teacher`, or a trained module.
        student: its `classes` and `input_size` are the teacher's, too.
        picture_channels: P.
        pretrained: start a network by name from published weights.
        class_map: see :class:`Teacher`; a pretrained network that keeps its published head is not trained further.

    Raises:
        ConfigError: an unknown name, a kind of network that does another task than the student's.
    """
    if isinstance(wanted, Teacher):
        return wanted
    if isinstance(wanted, nn.Module):
        return Teacher(wanted, trained=True, class_map=class_map)
    model_names()
    try:
        known = inspect.signature(MODELS[wanted.partition(":")[0]]).parameters
    except ConfigError as error:
        raise ConfigError(f"{error} Nor is '{wanted}' the folder of a finished run.") from None
    options = {
        "classes": student.classes if class_map is None else len(class_map),
        "channels": picture_channels,
        "steps": 1,
        "input_size": student.input_size,
        "pretrained": pretrained,
        "image_head": False,
    }
    if pretrained and "pretrained" not in known:
        raise ConfigError(
            f"Expected a teacher with published weights, but '{wanted}' has none. Use timm:NAME or smp:NAME."
        )
    network = create_model(wanted, **{name: value for name, value in options.items() if name in known})
    if getattr(network, "task", None) != getattr(student, "task", None):
        raise ConfigError(
            f"Expected a teacher for {getattr(student, 'task', 'the same task')}, as the student is, but "
            f"'{wanted}' is for {getattr(network, 'task', 'another')}."
        )
    mean, std = IMAGENET if pretrained else ((0.0,), (1.0,))
    if pretrained and picture_channels == 1:
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    keeps_head = class_map is not None and getattr(network, "published_classes", None) == len(class_map)
    return Teacher(network, trained=pretrained and keeps_head, mean=mean, std=std, class_map=class_map)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """What is computed inside the block sends gradients through `modules`, but moves neither weights nor statistics."""
    wanted = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with ExitStack() as stack:
            for module in modules:
                stack.enter_context(fixed_statistics(module))
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def feature_map(answer: Any) -> Tensor:
    """The last feature map [B, F, h, w] of a student's answer, averaged over time."""
    if answer.spikes is None:
        raise ConfigError(
            "Expected a student with a feature map, which ag > 0 and matching='features' compare, but it has none. "
            "Set method.ag to 0 and choose another matching."
        )
    return answer.spikes.float().mean(1)  # [B, T, F, h, w] → [B, F, h, w]


class TaughtMethod(LabelMethod):
    """A label-free method with an image teacher and a phase that trains it on the labelled pictures.

    Args:
        student: a network whose `classes` and `input_size` the teacher shares.
        picture_channels: P, 1 for grey and 3 for colour.
        teacher: see :func:`build_teacher`.
        teacher_share: share of the optimiser steps that train it; 0 for a teacher that comes trained.
        teacher_pretrained: see :func:`build_teacher`.
        teacher_map: class map of the teacher, see :class:`Teacher`.
        tet: as in :class:`~evlift.methods.baselines.LabelMethod`.
        tet_lambda: as there.

    Raises:
        ConfigError: a share outside [0, 1), or 0 for a teacher that has not been trained.
    """

    uses_pictures = True
    image_head = False
    student: Any  # a network of evlift

    def __init__(
        self,
        student: nn.Module,
        *,
        picture_channels: int,
        teacher: str | nn.Module,
        teacher_share: float,
        teacher_pretrained: bool = False,
        teacher_map: Sequence[int] | None = None,
        tet: bool = True,
        tet_lambda: float = 1e-3,
    ) -> None:
        super().__init__(student, tet=tet, tet_lambda=tet_lambda)
        self.picture_channels = picture_channels
        self.teacher = build_teacher(
            teacher, student, picture_channels, pretrained=teacher_pretrained, class_map=teacher_map
        )
        if not 0 <= teacher_share < 1:
            raise ConfigError(f"Expected `teacher_share` in [0, 1), but got {teacher_share}.")
        if not (self.teacher.trained or teacher_share):
            raise ConfigError(
                "Expected `teacher_share` above 0 for a teacher that has not been trained, but got 0. Raise it, "
                "or give a trained one: the folder of a run, or a module."
            )
        self.teacher_share = 0.0 if self.teacher.trained else teacher_share
        self.look()

    def look(self) -> Seen:
        """What the teacher says of an empty picture.

        Raises:
            ConfigError: its answer has not the student's classes, or for segmentation not its size.
        """
        size = tuple(self.student.input_size)
        empty = next(self.student.parameters()).new_zeros(1, self.picture_channels, *size)
        with torch.no_grad(), evaluating(self.teacher):
            seen = self.teacher(empty)
        wanted = [1, self.student.classes, *(size if self.segments else ())]
        if list(seen.logits.shape) != wanted:
            raise ConfigError(
                f"Expected a teacher that answers a picture with logits {wanted}, but got {list(seen.logits.shape)}. "
                "Give `teacher_map` where it knows other classes."
            )
        return seen

    @property
    def segments(self) -> bool:
        """The task is segmentation."""
        return getattr(self.student, "task", "recognition") == "segmentation"

    def chosen_temperature(self, wanted: float | None) -> float:
        """The temperature of a distillation: by default 1 for segmentation and 4 for recognition."""
        chosen = (1.0 if self.segments else 4.0) if wanted is None else wanted
        if not chosen > 0:
            raise ConfigError(f"Expected `temperature` to be above 0, but got {chosen}.")
        return chosen

    def with_teacher_phase(self, *rest: Phase) -> tuple[Phase, ...]:
        """The phases `rest`, whose shares are of what the teacher leaves, after the teacher's own."""
        left = 1 - self.teacher_share
        shared = tuple(replace(phase, share=phase.share * left) for phase in rest)
        if not self.teacher_share:
            return shared
        return (Phase(TEACH, self.teacher_share, student=False, needs="pictures"), *shared)

    @property
    def networks(self) -> Iterable[nn.Module]:
        """Student and teacher."""
        return (self.student, self.teacher)

    def parameter_groups(self, phase: str) -> Sequence[ParameterGroup]:
        """The teacher in its own phase, the student in all others."""
        trained = self.teacher if phase == TEACH else self.student
        return (ParameterGroup(TEACH if phase == TEACH else "student", tuple(trained.parameters())),)

    def teach(self, batch: Batch) -> StepOutput:
        """One supervised step of the teacher."""
        self.teacher.train()
        picture, target = self.require(batch, "picture", "image_target")
        logits = self.teacher(picture).logits  # [B, K, ...]
        loss = mean_logit_loss(logits.unsqueeze(1), target)  # [B, K, ...] → [B, 1, K, ...]
        right = logits.argmax(1) == target
        counted = right[target != VOID] if target.ndim > 1 else right  # 255 is void in masks alone
        return StepOutput(loss, {"teacher": loss, "teacher_accuracy": counted.float().mean()})

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """The teacher's step in its phase, else the subclass's :meth:`learn`."""
        if progress.phase == TEACH:
            return self.teach(batch)
        self.teacher.eval()
        return self.learn(batch, progress)

    def learn(self, batch: Batch, progress: Progress) -> StepOutput:
        """One step of a phase in which the teacher stands still."""
        raise NotImplementedError
