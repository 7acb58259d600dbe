"""Rates, parameter groups and their limits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import evlift
from evlift.config import TrainOptions
from evlift.engine.optim import Optimizers, learning_rate
from evlift.methods.base import ParameterGroup
from helpers import tiny


def test_schedules_against_their_formulas():
    options = TrainOptions(lr=1.0, warmup=4, final_lr=0.1)
    assert [learning_rate(s, 100, options) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    module = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=96, eta_min=0.1)
    for step in range(4, 100):
        assert learning_rate(step, 100, options) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        reference.step()
    poly = TrainOptions(lr=2.0, warmup=0, schedule="poly")
    assert learning_rate(50, 100, poly) == pytest.approx(2 * 0.5**0.9)


def test_groups_take_the_recipe_or_their_own_settings():
    plain, own = (nn.Parameter(torch.ones(2)) for _ in range(2))
    groups = [
        ParameterGroup("student", (plain,)),
        ParameterGroup("critic", (own,), lr=0.5, betas=(0.5, 0.999)),
    ]
    for name in ("adamw", "sgd"):
        made = Optimizers(groups, TrainOptions(optimizer=name, lr=0.1, weight_decay=0.123, warmup=0))
        made.set_rate(50, 100)
        first, second = made.groups
        assert first["weight_decay"] == second["weight_decay"] == 0.123
        assert second["betas"] == (0.5, 0.999)
        assert second["lr"] == pytest.approx(5 * first["lr"])


def test_gradients_are_limited_group_by_group():
    small, large = (nn.Parameter(torch.ones(1)) for _ in range(2))
    small.grad, large.grad = torch.tensor([0.5]), torch.tensor([100.0])
    made = Optimizers([ParameterGroup("a", (small,)), ParameterGroup("b", (large,))], TrainOptions(clip=1.0))
    assert made.clip() == pytest.approx(0.5)
    assert small.grad.item() == pytest.approx(0.5)
    assert large.grad.item() == pytest.approx(1.0, rel=1e-3)


def test_a_phase_without_a_step_is_named(tmp_path):
    with pytest.warns(UserWarning, match="leaves none for the phase 'source'"):
        evlift.train(tiny(method={"name": "fine-tune", "source_share": 0.01}, train={"steps": 2}), tmp_path)
