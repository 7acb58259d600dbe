"""Time-step mixup without event labels: the averaged student's answers say which picture meets which events."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evlift.checks import check_weight
from evlift.errors import ConfigError
from evlift.methods.baselines import LabelMethod
from evlift.methods.mixing import Mixer, check_ratio
from evlift.models.modes import fixed_statistics


@dataclass(frozen=True)
class AnswerMixup:
    """Mixes crafted events and real ones of what is believed to be the same class, along time.

    Args:
        weight: of its label loss.
        r_m: expected share of real frames.
        threshold: an answer below this probability pairs nothing.

    Source: TMKT's time-step mixup (published summary) for unlabelled events, decided here.
    """

    weight: float
    r_m: float
    threshold: float

    def check(self, steps: int, averaged: float, segments: bool) -> None:
        """Raise ConfigError for a method without an averaged student, for masks, one time step, an impossible `r_m`."""
        if not averaged or segments or steps < 2:
            raise ConfigError(
                "Expected `averaged` above 0, classes and at least 2 time steps with mixup > 0, but got "
                f"averaged={averaged}, {'masks' if segments else 'classes'} and {steps} steps. Set method.mixup to 0."
            )
        check_ratio(self.r_m, steps, "defective")

    def loss(
        self, method: LabelMethod, crafted: Tensor, target: Tensor | None, events: Tensor, answers: Tensor
    ) -> Tensor:
        """Weighted label loss of mixed clips, times the share of events that found a partner; a scalar.

        Args:
            method: whose student learns.
            crafted: [B, T, C, H, W], crafted events of pictures.
            target: [B], classes of the pictures.
            events: [B, T, C, H, W].
            answers: [B, K], logits of the averaged student for `events`, or for the recordings that they are of.
        """
        if target is None:
            raise ConfigError("Expected pictures with classes, but got none.")
        probability, answer = answers.softmax(1).max(1)  # [B, K] → [B]
        partner, found = partners(answer, target)
        used = found & (probability >= self.threshold)
        if int(used.sum()) < 2:  # one clip has no batch statistics
            return events.new_zeros(())
        mixed = Mixer("timestep")(crafted.detach()[partner[used]], events[used], self.r_m)
        with fixed_statistics(method.student):
            logits = method.student(mixed.clip, head="event").logits
        return self.weight * used.float().mean() * method.label_loss(logits, answer[used])


def partners(answer: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """For each class in `answer` [B] a random row of `target` [B] of that class, and whether there is one, [B] each."""
    same = answer[:, None] == target[None]  # [B, B]
    drawn = torch.where(same, torch.rand(same.shape, device=same.device), -1.0)
    return drawn.argmax(1), same.any(1)


def answer_mixup(weight: float, r_m: float, threshold: float) -> AnswerMixup | None:
    """The mixup of these options; None where its weight is 0."""
    return AnswerMixup(weight, r_m, threshold) if check_weight("mixup", weight) else None
