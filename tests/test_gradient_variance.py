"""The benchmark of the gradient's variance: exact where the gradient is linear in the ratio, as its formula assumes."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from evlift.datasets.base import Batch
from evlift.methods.mixing import Mixer
from helpers import benchmark


@pytest.fixture(scope="module")
def bench():
    return benchmark("gradient_variance")


@pytest.mark.parametrize(
    ("law", "known"), [("whole-clip", 0.25), ("timestep", 0.138), ("independent", 0.025)]
)
def test_the_variance_of_the_ratio_is_that_of_the_protocol_and_of_the_draws(law, known, bench):
    assert bench.var_ratio(law, 10, 0.5) == pytest.approx(known, abs=5e-4)
    clips = torch.zeros(20_000, 10, 1, 1, 1)
    for ratio in (0.2, 0.5, 0.8):
        drawn = Mixer(law)(clips, clips + 1, ratio, torch.Generator().manual_seed(0)).ratio.var()
        assert bench.var_ratio(law, 10, ratio) == pytest.approx(float(drawn), rel=0.05)


def test_blends_vary_as_drawn(bench):
    clips = torch.zeros(20_000, 10, 1, 1, 1)
    for ratio in (0.2, 0.5, 0.8):
        drawn = Mixer("blend")(clips, clips + 1, ratio, torch.Generator().manual_seed(0)).ratio.var()
        assert bench.var_ratio("blend", 10, ratio) == pytest.approx(float(drawn), rel=0.05)


class Mean(nn.Module):
    """A network whose gradient is the mean of its clip."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, clip, head):
        assert head == "image"
        return SimpleNamespace(logits=self.weight * clip.mean())


def test_a_gradient_that_is_linear_in_the_ratio_varies_by_the_formula(bench):
    method = SimpleNamespace(student=Mean(), label_loss=lambda logits, target: logits.sum())
    image = torch.zeros(8, 10, 2, 14, 14)
    batch = Batch(
        image=image, events=image + torch.arange(1, 9).view(8, 1, 1, 1, 1), event_target=torch.zeros(8)
    )
    feeder = SimpleNamespace(batch=lambda step: batch)
    options = argparse.Namespace(samples=8, draws=200, seed=0, ratio=0.5, train=0)
    found = {law: bench.measure(method, feeder, law, options) for law in bench.LAWS}
    shown = bench.table(found, 10, 0.5)
    for law in ("timestep", "blend", "independent"):
        assert found[law]["relative"] == pytest.approx(found[law]["formula_relative"], rel=0.25)
        assert f"| {law} | {bench.var_ratio(law, 10, 0.5):.3f} |" in shown
    sizes = found["whole-clip"]["per_pair"]
    assert sizes[7] / sizes[0] == pytest.approx(64, rel=0.1)
    assert "| spatio-temporal | – |" in shown
