"""Distribution matching: a student's answers to real events, distributed as its teacher's to pictures."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.losses.adversarial import gradient_penalty, wgan_critic_loss, wgan_generator_loss
from evlift.losses.distill import class_distribution_loss
from evlift.methods.teacher import feature_map, frozen
from evlift.models.reconstruction import ScoreCritic, VectorCritic

Matching = Literal["scores", "classes", "features", "off"]
PENALTY = 10.0


def matching_kind(wanted: Matching | None, segments: bool) -> Matching:
    """The kind that is meant: by default scores for segmentation, class distributions for recognition.

    Raises:
        ConfigError: an unknown kind, or score maps for recognition.
    """
    kind = wanted or ("scores" if segments else "classes")
    if kind not in ("scores", "classes", "features", "off"):
        raise ConfigError(f"Expected `matching` scores, classes, features or off, but got '{kind}'.")
    if kind == "scores" and not segments:
        raise ConfigError(
            "Expected matching='classes' or 'features' for recognition, which has no score maps, but got 'scores'."
        )
    return kind


def output_critic(kind: Matching, student: Any, width: int) -> nn.Module | None:
    """The critic of a kind, of score maps or of pooled features; None for a kind that needs none."""
    if kind == "scores":
        return ScoreCritic(student.classes, width=width)
    if kind == "features":
        return VectorCritic(student.features)
    return None


def matching_losses(
    kind: Matching, critic: nn.Module | None, seen: Tensor, on_crafted: Any, on_real: Any
) -> dict[str, Tensor]:
    """Losses to match distributions, unweighted.

    Args:
        kind: scores, classes or features, not off.
        critic: see :func:`output_critic`.
        seen: the teacher's logits for pictures, [B, K, ...].
        on_crafted, on_real: the student's answers to crafted and real events.

    Returns:
        "da" for the student, and "output_critic" where there is a critic.

    Source: WGAN-GP with a penalty of 10 on score maps: EvDistill (released configuration). Class distributions and
    features for recognition: decided here.
    """
    if critic is None:
        return {"da": class_distribution_loss(on_real.logits.mean(1), seen)}
    if kind == "scores":
        real, fake = seen.softmax(1), on_real.logits.mean(1).float().softmax(1)
    else:
        real, fake = (feature_map(out).mean((2, 3)) for out in (on_crafted, on_real))
        real = real.detach()
    with frozen(critic):
        student = wgan_generator_loss(critic(fake))
    fake = fake.detach()
    judged = wgan_critic_loss(critic(real), critic(fake)) + PENALTY * gradient_penalty(critic, real, fake)
    return {"da": student, "output_critic": judged}
