"""What a training method is: phases, a step, a student. The engine knows nothing else about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor, nn

from evlift.errors import DataError
from evlift.registry import Registry

if TYPE_CHECKING:
    from evlift.datasets.base import Batch

METHODS = Registry("method")
Needs = Literal["all", "events", "images", "pictures"]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own optimiser.

    Args:
        name: what the logs call it.
        share: fraction of the run's optimiser steps; the shares of a method sum to 1.
        student: the student learns in it, so that it is worth judging meanwhile.
        needs: what it reads of a batch: "all", "events" (with their targets), "images" (`image`, `picture` and
            `image_target`) or "pictures" (`picture` and `image_target`); the rest is not made.
    """

    name: str
    share: float = 1.0
    student: bool = True
    needs: Needs = "all"


@dataclass(frozen=True)
class Progress:
    """Where training stands: step `step` (from 0) of the `steps` steps of phase `phase`."""

    phase: str
    step: int
    steps: int

    @property
    def fraction(self) -> float:
        """Training progress of this phase in [0, 1)."""
        return self.step / self.steps


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share optimiser settings and a limit on their gradient norm.

    Args:
        name: what the logs call it.
        parameters: trained in this phase.
        lr: peak rate; None takes the recipe's.
        betas: of Adam; None takes (0.9, 0.999).
        weight_decay: None takes the recipe's.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    lr: float | None = None
    betas: tuple[float, float] | None = None
    weight_decay: float | None = None


@dataclass
class StepOutput:
    """What one step computed.

    Args:
        loss: scalar to minimise.
        parts: scalars for the log, detached by the engine.
        outputs: tensors for metrics and pictures; those of shape [B, T, 2, H, W] are shown in TensorBoard.
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A way to train a student. Subclasses take the student first, then their options by keyword.

    Attributes (an instance may narrow what its class says, where its options decide):
        uses_images: a batch must carry `image` [B, T, C, H, W] and `image_target`.
        uses_pictures: a batch must carry `picture` [B, P, H, W] and `image_target`.
        uses_events: a batch must carry `events` [B, T, C, H, W].
        uses_event_labels: a batch must carry `event_target`.
        semi_supervised: with `uses_event_labels`; `events` are unlabelled recordings, and a batch must carry labelled
            ones of its own, `labelled` [B', T, C, H, W] with `event_target`.
        uses_whole: a batch must carry `whole` [B, T, C, H, W], the recordings of `events` from end to end.
        uses_frames: a batch must carry `frame` [B, P, H, W], aligned with `events`.
        simulates: `image` must be pictures set in motion before the simulated camera, not constant ones.
        reads: what the student reads, "events" (with T steps) or "pictures" (one step of P channels).
        image_head: the student has a classifier of its own for image sequences, where its kind can have one.
        pairing: "category" if row b of `image` and of `events` must be of the same class, "none" if they are
            independent.

    Randomness comes from torch's global generator, which the engine seeds at every step: a resumed run
    repeats it. Options are checked in the constructor, which raises :class:`~evlift.errors.ConfigError` for
    contradictions. A constructor with the parameter `steps` gets the number T of time steps from the engine, one
    with `picture_channels` the number P of channels of a picture.
    Inference needs the student alone: whatever else a method trains is a module beside it.
    """

    uses_images: bool = False
    uses_pictures: bool = False
    uses_events: bool = False
    uses_event_labels: bool = False
    semi_supervised: bool = False
    uses_whole: bool = False
    uses_frames: bool = False
    simulates: bool = False
    reads: ClassVar[str] = "events"
    image_head: ClassVar[bool] = True
    pairing: ClassVar[str] = "none"

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases in order."""
        return (Phase("train"),)

    @property
    def networks(self) -> Iterable[nn.Module]:
        """Those that several processes share out by rows: [B, ...] first, [B, ...] out, no row depending on another.

        What is not named is computed by each of them, which is right too, and slower.
        """
        return (self.student,)

    def parameter_groups(self, phase: str) -> Sequence[ParameterGroup]:
        """What the optimiser of `phase` owns; everything at the recipe's settings unless a method says otherwise."""
        return (ParameterGroup("all", tuple(self.parameters())),)

    def after_update(self, progress: Progress) -> None:
        """Called after every optimiser step, for moving averages."""

    @abstractmethod
    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Loss and its parts for one batch."""

    def require(self, batch: Batch, *names: str) -> list[Tensor]:
        """The named tensors of `batch`; :class:`~evlift.errors.DataError` names the ones that are missing."""
        missing = [name for name in names if getattr(batch, name) is None]
        if missing:
            raise DataError(
                f"Expected the batch of `{type(self).__name__}` to carry {', '.join(names)}, but got none of "
                f"{', '.join(missing)}. Give the recipe a data set that has them."
            )
        return [getattr(batch, name) for name in names]
