"""Label losses: the TET formula against a ten-line loop, and its limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from evlift.errors import ConfigError
from evlift.losses import mean_logit_loss, tet_loss, tet_per_step

LOGITS = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 3, 1, 1, 2])


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
