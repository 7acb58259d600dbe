"""What passes as agreement: rounding, and few jumps of a spiking network; nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from evlift.errors import DataError
from evlift.exporting.agreement import compare
from evlift.exporting.windows import Windows
from evlift.models import create_model

CLIPS = torch.rand(32, 3, 2, 28, 28, generator=torch.Generator().manual_seed(0))


def written(network, change):
    """The network as a file would answer, its logits [n, T', K] changed."""
    state = {"seen": 0}

    def answer(clips):
        with torch.no_grad():
            logits = network(clips).logits.clone()
        first = state["seen"]
        state["seen"] += len(clips)
        change(logits, first)
        return SimpleNamespace(logits=logits)

    return answer


def jump(*rows, by=0.1):
    def change(logits, first):
        for row in rows:
            if 0 <= row - first < len(logits):
                logits[row - first, 0, 0] += by

    return change


@pytest.fixture(scope="module")
def spiking():
    torch.manual_seed(0)
    return create_model("scnn", width=0.2).eval()


@pytest.fixture(scope="module")
def conventional():
    torch.manual_seed(0)
    return create_model("convnet", width=0.1, steps=3, input_size=28).eval()


def judged(network, change):
    return compare(network, written(network, change), Windows(CLIPS, CLIPS, "windows"), 1e-4)


def test_rounding_passes_and_is_measured(spiking, conventional):
    for network in (spiking, conventional):
        found = judged(network, jump(5, by=5e-5))
        found.check()
        assert found.largest_difference == pytest.approx(5e-5, rel=0.01)
        assert (found.worst, found.jumps, found.equal_decisions) == (5, 0, 1)


def test_a_conventional_network_may_not_jump(conventional):
    with pytest.raises(DataError, match=r"in 1 window by more than the 0\.0001 allowed, where 0 may"):
        judged(conventional, jump(31)).check()


def test_a_spiking_network_may_jump_in_few_windows(spiking):
    found = judged(spiking, jump(0, 7, 20, by=1e-3))
    assert (found.jumps, found.allowed_jumps) == (3, 3)
    found.check()
    with pytest.raises(DataError, match=r"in 32 windows .* where 3 may"):
        judged(spiking, jump(*range(32), by=1e-3)).check()


def test_decisions_count_and_so_does_what_is_no_number(spiking):
    def opposite(logits, first):
        for row in {0, 7, 20} & {*range(first, first + len(logits))}:
            logits[row - first] *= -1

    with pytest.raises(DataError, match=r"90\.62% of the decisions are equal"):
        judged(spiking, opposite).check()
    found = judged(spiking, jump(*range(9), by=float("nan")))
    assert found.jumps == 9
    with pytest.raises(DataError):
        found.check()
