"""Label losses: the TET formula against a ten-line loop, and its limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from evlift.errors import ConfigError
from evlift.losses import mean_logit_loss, ohem_loss, tet_loss, tet_per_step

LOGITS = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 3, 1, 1, 2])
MAPS = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(1))  # [B, T, K, H, W]
MASK = torch.arange(60).view(2, 5, 6) % 4
MASK[0, :2] = 255


def test_tet_equals_a_loop_over_time():
    steps = []
    for t in range(7):
        entropy = -torch.stack([LOGITS[b, t].log_softmax(0)[TARGET[b]] for b in range(5)]).mean()
        distance = sum(((v - 0.5) ** 2) for v in LOGITS[:, t].flatten()) / 20
        steps.append(0.9 * entropy + 0.1 * distance)
    torch.testing.assert_close(tet_per_step(LOGITS, TARGET, lam=0.1), torch.stack(steps))
    torch.testing.assert_close(tet_loss(LOGITS, TARGET, lam=0.1), torch.stack(steps).mean())


def test_tet_defaults_are_the_released_code_s():
    expected = 0.999 * tet_loss(LOGITS, TARGET, lam=0.0) + 0.001 * (LOGITS - 0.5).square().mean()
    torch.testing.assert_close(tet_loss(LOGITS, TARGET), expected)


def test_one_step_without_regulariser_is_cross_entropy():
    one = LOGITS[:, :1]
    plain = F.cross_entropy(one[:, 0], TARGET)
    torch.testing.assert_close(tet_loss(one, TARGET, lam=0.0), plain)
    torch.testing.assert_close(mean_logit_loss(one, TARGET), plain)


def test_mean_logit_loss_never_exceeds_tet():
    """Cross-entropy is convex, so averaging the logits first cannot cost more (Jensen)."""
    assert mean_logit_loss(LOGITS, TARGET) <= tet_loss(LOGITS, TARGET, lam=0.0)


@pytest.mark.parametrize("loss", [tet_loss, mean_logit_loss])
def test_wrong_shapes_are_named(loss):
    with pytest.raises(ConfigError, match=r"\[B, T, K\].*\[5, 4\] and \[5\]"):
        loss(LOGITS[:, 0], TARGET)
    with pytest.raises(ConfigError, match=r"\[5, 7, 4\] and \[3\]"):
        loss(LOGITS, TARGET[:3])


def test_lam_outside_the_unit_interval_is_refused():
    with pytest.raises(ConfigError, match="`lam`"):
        tet_loss(LOGITS, TARGET, lam=1.5)


def by_hand(maps, mask):
    """[T] cross-entropy and squared distance from 0.5, means over the labelled locations."""
    entropy, distance = torch.zeros(3), torch.zeros(3)
    places = (mask != 255).nonzero().tolist()
    for b, row, column in places:
        at = maps[b, :, :, row, column]
        entropy -= at.log_softmax(1)[:, mask[b, row, column]] / len(places)
        distance += (at - 0.5).square().mean(1) / len(places)
    return entropy, distance


def test_masks_learn_at_their_labelled_locations():
    entropy, distance = by_hand(MAPS, MASK)
    torch.testing.assert_close(tet_per_step(MAPS, MASK, lam=0.2), 0.8 * entropy + 0.2 * distance)
    torch.testing.assert_close(tet_loss(MAPS, MASK, lam=0.0), entropy.mean())
    whole, _ = by_hand(MAPS.mean(1, keepdim=True).expand_as(MAPS), MASK)
    torch.testing.assert_close(mean_logit_loss(MAPS, MASK), whole[0])


LOSSES = [tet_loss, mean_logit_loss, ohem_loss]


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_but_void_gives_zero_and_no_gradient(loss):
    maps = MAPS.clone().requires_grad_()
    value = loss(maps, torch.full_like(MASK, 255))
    value.backward()
    assert value == 0
    assert maps.grad.abs().sum() == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_void_gets_no_gradient(loss):
    maps = MAPS.clone().requires_grad_()
    loss(maps, MASK).backward()
    touched = maps.grad.abs().sum((1, 2)) > 0
    assert not touched[MASK == 255].any()
    assert touched.any()


def test_the_void_of_masks_is_a_class_of_clips():
    logits = torch.zeros(2, 1, 300)
    logits[:, :, 255] = 9.0
    target = torch.full((2,), 255)
    assert 0 < mean_logit_loss(logits, target) < 0.1
    assert tet_loss(logits, target, lam=0.0) == mean_logit_loss(logits, target)


def test_hard_locations_alone_count():
    probability = torch.tensor([0.95, 0.9, 0.71, 0.69, 0.5, 0.2])  # of the true class 0
    maps = torch.stack((probability.log(), (1 - probability).log()))[None, None, :, None]  # [1, 1, 2, 1, 6]
    mask = torch.zeros(1, 1, 6, dtype=torch.long)
    torch.testing.assert_close(ohem_loss(maps, mask, kept=1e-9), -probability[3:].log().mean())
    torch.testing.assert_close(ohem_loss(maps, mask, kept=5 / 6), -probability[1:].log().mean())
    torch.testing.assert_close(ohem_loss(maps, mask, threshold=1.0), mean_logit_loss(maps, mask))
    with pytest.raises(ConfigError, match="`threshold` and `kept`"):
        ohem_loss(maps, mask, kept=0.0)


@pytest.mark.parametrize("loss", LOSSES)
def test_masks_of_another_size_are_named(loss):
    with pytest.raises(ConfigError, match=r"\[B, H, W\] for masks.*\[2, 3, 4, 5, 6\] and \[2, 5, 5\]"):
        loss(MAPS, MASK[..., :5])
