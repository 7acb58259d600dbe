"""Bidirectional reconstruction: who crafts what, and its losses against their formulas."""

from __future__ import annotations

import pytest
import torch
from toy_evdistill import Linear
from toy_pairs import pairs

from evlift.errors import ConfigError
from evlift.losses.distill import kd_loss
from evlift.methods.bmr import Reconstruction, kept_meaning, occupancy
from evlift.methods.teacher import Teacher

CHANNELS, SIZE = 8, 16


def reconstruction(generation: str = "learned", **options) -> Reconstruction:
    torch.manual_seed(1)
    return Reconstruction(CHANNELS, 1, (SIZE, SIZE), generation=generation, width=4, blocks=1, **options)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch = pairs(count=5)
    return batch.picture, batch.events.flatten(1, 2), batch.image.flatten(1, 2)


def test_learned_partners_and_cycles_come_from_the_generators():
    net, (picture, events, _) = reconstruction(), inputs()
    crafted = net.craft(picture, events, None)
    torch.testing.assert_close(crafted.picture, net.to_picture(events))
    torch.testing.assert_close(crafted.events, net.to_events(picture))
    assert crafted.learned.events is crafted.events
    torch.testing.assert_close(crafted.learned.picture_again, net.to_picture(crafted.events))
    torch.testing.assert_close(crafted.learned.events_again, net.to_events(crafted.picture))
    assert crafted.simulated_picture is None


def test_mixed_partners_are_half_learned_and_half_simulated():
    net, (picture, events, simulated) = reconstruction("mixed"), inputs()
    crafted = net.craft(picture, events, simulated)
    assert torch.equal(crafted.events[:2], crafted.learned.events[:2])
    assert torch.equal(crafted.events[2:], simulated[2:])
    torch.testing.assert_close(crafted.simulated_picture, net.to_picture(simulated))


def test_physics_needs_no_generator_of_events():
    net, (picture, events, simulated) = reconstruction("physics"), inputs()
    crafted = net.craft(picture, events, simulated)
    assert net.to_events is None
    assert crafted.events is simulated
    assert crafted.learned is None
    cycle = net.losses(picture, events, crafted)["cycle"]
    torch.testing.assert_close(cycle, 10 * (net.to_picture(simulated) - picture).abs().mean())
    with pytest.raises(ConfigError, match="Expected simulated events with generation='physics'"):
        net.craft(picture, events, None)


@pytest.mark.parametrize("generation", ["learned", "mixed"])
def test_the_losses_are_those_of_the_paper(generation):
    net = reconstruction(generation, adversarial=0.5, cycle=3.0, pool=0)
    picture, events, simulated = inputs()
    crafted = net.craft(picture, events, simulated if generation == "mixed" else None)
    losses = net.losses(picture, events, crafted)
    fakes = (net.picture_critic(crafted.picture), net.event_critic(crafted.learned.events))
    real = (net.picture_critic(picture), net.event_critic(events))
    fooled = sum((fake - 1).square().mean() for fake in fakes)
    judged = sum(((r - 1).square().mean() + f.square().mean()) / 2 for r, f in zip(real, fakes, strict=True))
    cycle = (crafted.learned.picture_again - picture).abs().mean()
    cycle = cycle + (crafted.learned.events_again - events).abs().mean()
    if generation == "mixed":
        cycle = cycle + (crafted.simulated_picture - picture).abs().mean()
    torch.testing.assert_close(losses["adversarial"], 0.5 * fooled)
    torch.testing.assert_close(losses["critics"], judged)
    torch.testing.assert_close(losses["cycle"], 3 * cycle)


@pytest.mark.parametrize("generation", ["learned", "mixed", "physics"])
def test_a_cycle_keeps_what_the_teacher_reads(generation):
    net, teacher, (picture, events, simulated) = reconstruction(generation), Teacher(Linear()), inputs()
    crafted = net.craft(picture, events, None if generation == "learned" else simulated)
    cycles = [] if generation == "physics" else [net.to_picture(net.to_events(picture))]
    cycles += [] if generation == "learned" else [net.to_picture(simulated)]
    seen = teacher(picture).logits
    expected = sum(kd_loss(teacher(again).logits, seen) for again in cycles) / len(cycles)
    meaning = kept_meaning(teacher, picture, crafted)
    torch.testing.assert_close(meaning, expected)
    meaning.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad.isfinite().all() for p in net.to_picture.parameters())


def test_critics_are_shown_old_samples():
    net, (picture, events, _) = reconstruction(pool=5), inputs()
    net.losses(picture, events, net.craft(picture, events, None))
    assert net.picture_pool.filled == net.event_pool.filled == 5
    fresh = reconstruction(pool=0)
    fresh.load_state_dict(net.state_dict() | {k: v for k, v in fresh.state_dict().items() if "pool" in k})
    other = 1 - picture
    shown = net.losses(other, events.flip(-1), net.craft(other, events.flip(-1), None))["critics"]
    new = fresh.losses(other, events.flip(-1), fresh.craft(other, events.flip(-1), None))["critics"]
    assert shown != new


def test_occupancy_counts_touched_pixels():
    events = torch.zeros(2, 3, 4, 4)
    events[0, 0, 0, 0] = events[0, 2, 0, 0] = 1.0
    events[1, 1, :2] = 0.5
    events[1, 0, 3] = 0.04
    assert occupancy(events) == 9 / 32
