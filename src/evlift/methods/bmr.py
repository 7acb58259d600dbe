"""Bidirectional modality reconstruction: every sample gets a crafted partner in the other modality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evlift.checks import check_weight
from evlift.errors import ConfigError
from evlift.losses.adversarial import lsgan_critic_loss, lsgan_generator_loss
from evlift.losses.distill import class_histogram, entropy, kd_loss
from evlift.methods.base import ParameterGroup
from evlift.methods.teacher import Seen, Teacher, frozen
from evlift.models.reconstruction import FakePool, Generator, PatchCritic

Generation = Literal["learned", "physics", "mixed"]
GAN_LR, GAN_BETAS = 2e-4, (0.5, 0.999)


class Learned(NamedTuple):
    """What the generator of events had a part in.

    Args:
        events: G_E(x), [B, T·C, H, W].
        picture_again: x̃ = G_I(G_E(x)), [B, P, H, W].
        events_again: ẽ = G_E(x̂), [B, T·C, H, W].
    """

    events: Tensor
    picture_again: Tensor
    events_again: Tensor


@dataclass(frozen=True)
class Crafted:
    """What the generators made of one batch.

    Args:
        picture: x̂ = G_I(e), [B, P, H, W], the crafted partner of the real events.
        events: ê, [B, T·C, H, W], the crafted partner of the pictures: learned, simulated, or half of each.
        learned: None where pictures become events by physics alone.
        simulated_picture: G_I of the simulated events, [B, P, H, W]; None where there are none.
    """

    picture: Tensor
    events: Tensor
    learned: Learned | None = None
    simulated_picture: Tensor | None = None


class Reconstruction(nn.Module):
    """Both generators, their critics and pools of fakes.

    Args:
        event_channels: T·C.
        picture_channels: P.
        size: (H, W) of both.
        generation: how pictures become events. "learned": by a generator; "physics": set in motion before the
            simulated camera; "mixed": half of each batch by either.
        adversarial: weight of the least-squares GAN losses.
        cycle: weight of the L1 cycle; simulated events have their picture as its end.
        width, blocks: of the generators.
        lr: of generators and critics.
        pool: fakes that a critic may be shown again.

    Raises:
        ConfigError: an unknown `generation`, or a weight that is negative.

    Source: EvDistill (published summary; weights from the released configuration); LSGAN, pool and rates as in
    CycleGAN, whose options the configuration matches. "physics" and "mixed" are decided here.
    """

    def __init__(
        self,
        event_channels: int,
        picture_channels: int,
        size: tuple[int, int],
        *,
        generation: Generation,
        adversarial: float = 1.0,
        cycle: float = 10.0,
        width: int = 16,
        blocks: int = 2,
        lr: float = GAN_LR,
        pool: int = 50,
    ) -> None:
        super().__init__()
        if generation not in ("learned", "physics", "mixed"):
            raise ConfigError(f"Expected `generation` learned, physics or mixed, but got '{generation}'.")
        self.generation, self.lr = generation, check_weight("generator_lr", lr)
        self.adversarial, self.cycle = check_weight("adversarial", adversarial), check_weight("cycle", cycle)
        shape = {"width": width, "blocks": blocks, "downs": 1}
        self.to_picture = Generator(event_channels, picture_channels, output="sigmoid", **shape)
        self.picture_critic = PatchCritic(picture_channels, width=width)
        self.picture_pool = FakePool((picture_channels, *size), pool)
        learns = generation != "physics"
        self.to_events = (
            Generator(picture_channels, event_channels, output="softplus", **shape) if learns else None
        )
        self.event_critic = PatchCritic(event_channels, width=width) if learns else None
        self.event_pool = FakePool((event_channels, *size), pool) if learns else None

    @property
    def networks(self) -> Iterable[nn.Module]:
        """Generators and critics."""
        found = (self.to_picture, self.to_events, self.picture_critic, self.event_critic)
        return (network for network in found if network is not None)

    def craft(self, picture: Tensor, events: Tensor, simulated: Tensor | None) -> Crafted:
        """Partners and cycles of `picture` [B, P, H, W] and `events` [B, T·C, H, W]; `simulated` as `events`."""
        crafted = self.to_picture(events)
        simulated_picture = None if simulated is None else self.to_picture(simulated)
        if self.to_events is None:
            if simulated is None:
                raise ConfigError(
                    "Expected simulated events with generation='physics', but the batch has none."
                )
            return Crafted(crafted, simulated, simulated_picture=simulated_picture)
        learned = self.to_events(picture)
        half = len(picture) // 2
        partner = learned if simulated is None else torch.cat([learned[:half], simulated[half:]])
        again = Learned(learned, self.to_picture(learned), self.to_events(crafted))
        return Crafted(crafted, partner, again, simulated_picture)

    def losses(self, picture: Tensor, events: Tensor, crafted: Crafted) -> dict[str, Tensor]:
        """Weighted losses of the generators ("adversarial", "cycle") and of the critics ("critics")."""
        with frozen(self.picture_critic):
            adversarial = lsgan_generator_loss(self.picture_critic(crafted.picture))
        shown = self.picture_pool.exchange(crafted.picture)
        critics = lsgan_critic_loss(self.picture_critic(picture), self.picture_critic(shown))
        cycle = picture.new_zeros(())
        if crafted.simulated_picture is not None:
            cycle = cycle + F.l1_loss(crafted.simulated_picture, picture)
        learned = crafted.learned
        if self.event_critic is not None and self.event_pool is not None and learned is not None:
            with frozen(self.event_critic):
                adversarial = adversarial + lsgan_generator_loss(self.event_critic(learned.events))
            shown = self.event_pool.exchange(learned.events)
            critics = critics + lsgan_critic_loss(self.event_critic(events), self.event_critic(shown))
            cycle = cycle + F.l1_loss(learned.picture_again, picture)
            cycle = cycle + F.l1_loss(learned.events_again, events)
        return {
            "adversarial": self.adversarial * adversarial,
            "cycle": self.cycle * cycle,
            "critics": critics,
        }

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Generators and critics: Adam with CycleGAN's betas, at `lr`."""
        generators = [self.to_picture, self.to_events]
        critics = [self.picture_critic, self.event_critic]
        return [
            ParameterGroup(
                name,
                tuple(p for module in modules if module is not None for p in module.parameters()),
                lr=self.lr,
                betas=GAN_BETAS,
                weight_decay=0.0,
            )
            for name, modules in (("generators", generators), ("critics", critics))
        ]


def occupancy(events: Tensor) -> Tensor:
    """Share of the pixels [B, C, H, W] that an event touched (more than a twentieth of a full count), a scalar."""
    return (events.detach().amax(dim=1) > 0.05).float().mean()


def kept_meaning(teacher: Teacher, picture: Tensor, crafted: Crafted) -> Tensor:
    """What the teacher reads in a picture and in the one made of its crafted events should agree; trains generators.

    Source: semantic consistency as in MADAN, whose options the configuration matches, around the cycle x → ê → x̃.
    """
    learned, simulated = crafted.learned, crafted.simulated_picture
    with torch.no_grad():
        seen = teacher(picture).logits
    again = [] if learned is None else [learned.picture_again]
    again += [] if simulated is None else [simulated]
    with frozen(teacher):
        return torch.stack([kd_loss(teacher(made).logits, seen) for made in again]).mean()


def watch(view: Seen, crafted: Crafted, events: Tensor) -> dict[str, Tensor]:
    """Scalars that show a collapse: classes seen in crafted pictures, pixels touched by crafted events."""
    return {
        "teacher_entropy": entropy(class_histogram(view.logits.detach())),
        "occupancy_real": occupancy(events),
        "occupancy_crafted": occupancy(crafted.events),
    }
