"""Adversarial losses: closed forms, and a critic that measures a known Wasserstein distance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evlift.errors import ConfigError
from evlift.losses import (
    gradient_penalty,
    lsgan_critic_loss,
    lsgan_generator_loss,
    wgan_critic_loss,
    wgan_generator_loss,
)


def test_least_squares():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([[0.0, -2.0], [1.0, 1.0]])
    assert lsgan_generator_loss(fake) == (1 + 9 + 0 + 0) / 4
    assert lsgan_critic_loss(real, fake) == (0 + 4) / 2 / 2 + (0 + 4 + 1 + 1) / 4 / 2
    assert lsgan_critic_loss(torch.ones(3), torch.zeros(3)) == 0
    # A critic that cannot tell settles at one half, where its loss is one quarter.
    score = torch.tensor(0.5, requires_grad=True)
    lsgan_critic_loss(score, score).backward()
    assert score.grad == 0
    assert lsgan_critic_loss(score, score) == 0.25


def test_wasserstein():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([[0.0, -2.0], [1.0, 1.0]])
    assert wgan_generator_loss(fake) == 0
    assert wgan_critic_loss(real, fake) == -2
    assert wgan_critic_loss(real + 7, fake + 7) == -2


@pytest.mark.parametrize("loss", [lsgan_generator_loss, wgan_generator_loss])
def test_half_precision_scores_are_averaged_in_float32(loss):
    scores = torch.full((40000,), 3.0, dtype=torch.float16)
    value = loss(scores)
    assert value.dtype == torch.float32
    assert value == loss(scores.float())


def test_the_penalty_of_a_linear_critic_is_exact():
    critic = nn.Linear(6, 1)
    gradient_penalty(critic, torch.randn(5, 6), torch.randn(5, 6)).backward()
    w = critic.weight.detach()
    norm = w.norm()
    torch.testing.assert_close(critic.weight.grad, 2 * (norm - 1) * w / norm)


def test_points_lie_between_the_pairs_and_come_from_the_global_generator():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.square().sum(dim=(1, 2))

    real, fake = torch.zeros(50, 2, 3, requires_grad=True), torch.ones(50, 2, 3, requires_grad=True)
    for _ in range(2):
        torch.manual_seed(3)
        penalty = gradient_penalty(critic, real, fake)
    assert torch.equal(seen[0], seen[1])
    share = seen[0][:, 0, 0]
    assert (seen[0] == share[:, None, None]).all()  # one point a row
    assert share.min() >= 0
    assert share.max() <= 1
    assert share.std() > 0.2
    penalty.backward()
    assert real.grad is None
    assert fake.grad is None
    slope = 2 * seen[0].flatten(1).norm(dim=1)  # of the square, by hand
    torch.testing.assert_close(penalty.detach(), (slope - 1).square().mean())


def test_one_penalty_for_a_batch_is_the_mean_over_its_rows():
    scale = torch.tensor([0.0, 1.0, 3.0])  # rows with slopes 0, 1 and 3, and a slope of 0 has a gradient, too
    gain = torch.ones((), requires_grad=True)
    penalty = gradient_penalty(
        lambda x: (gain * scale * x[:, 0]).view(3, 1, 1), torch.ones(3, 1), torch.zeros(3, 1)
    )
    penalty.backward()
    assert penalty.detach() == pytest.approx((1 + 0 + 4) / 3)
    assert gain.grad == pytest.approx((0 + 0 + 2 * 2 * 3) / 3)


@pytest.mark.parametrize("weight", [10, 100])
def test_the_slope_tends_to_one_and_the_loss_to_the_distance(weight):
    """Clouds a distance d apart: the best critic of slope w loses -d·w + weight·(w - 1)², so w = 1 + d / (2·weight)."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 32), nn.Softplus(), nn.Linear(32, 1))
    offset = torch.tensor([3.0, 4.0])
    optimiser = torch.optim.Adam(critic.parameters(), 1e-2)
    for _ in range(300):
        real = torch.randn(64, 2)
        fake = torch.randn(64, 2) + offset
        loss = wgan_critic_loss(critic(real), critic(fake)) + weight * gradient_penalty(critic, real, fake)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    slope = 1 + 5 / (2 * weight)
    real = torch.randn(2000, 2)
    distance = -wgan_critic_loss(critic(real), critic(real + offset)).detach()
    assert float(distance) == pytest.approx(5 * slope, rel=0.05)
    assert gradient_penalty(critic, real, real + offset).detach() < 1.3 * (slope - 1) ** 2 + 0.01


def test_autocast_does_not_lower_the_precision():
    critic = nn.Sequential(nn.Linear(40, 16), nn.Tanh(), nn.Linear(16, 1))
    real, fake = torch.randn(8, 40), torch.randn(8, 40)
    torch.manual_seed(0)
    outside = gradient_penalty(critic, real, fake)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradient_penalty(critic, real, fake)
    assert torch.equal(inside, outside)


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3, 8, 8), (4, 3, 4, 4)), ((4,), (4,))])
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(ConfigError, match="Expected `real` and `fake` to be"):
        gradient_penalty(lambda x: x, torch.zeros(shapes[0]), torch.zeros(shapes[1]))
