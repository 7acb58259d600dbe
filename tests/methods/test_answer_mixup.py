"""Time-step mixup by the averaged student's answers."""

from __future__ import annotations

import pytest
import torch
from toy_pairs import CLASSES, build, pairs, student

from evlift.errors import ConfigError
from evlift.methods import Progress
from evlift.methods.answer_mixup import AnswerMixup, partners


def test_partners_are_of_the_answered_class():
    torch.manual_seed(0)
    answer, target = torch.tensor([0, 1, 2, 2]), torch.tensor([2, 1, 1, 0])
    seen = set()
    for _ in range(50):
        partner, found = partners(answer, target)
        assert found.all()
        assert torch.equal(target[partner], answer)
        seen.add(int(partner[1]))
    assert seen == {1, 2}  # at random among those of the class
    assert partners(torch.tensor([3]), torch.tensor([0]))[1].tolist() == [False]


def test_only_confident_answers_with_a_partner_count():
    method, batch = build("evdistill", student("convnet", width=0.25), averaged=1.0), pairs()
    sure = 20.0 * torch.nn.functional.one_hot(batch.image_target, CLASSES).float()
    mixup = AnswerMixup(1.0, 0.3, 0.9)
    given = (batch.image, batch.image_target, batch.events)
    assert mixup.loss(method, *given, sure) > 0
    assert mixup.loss(method, *given, 0.1 * sure) == 0
    one = torch.cat([sure[:1], 0.1 * sure[1:]])
    assert mixup.loss(method, *given, one) == 0  # a single clip has no batch statistics
    assert mixup.loss(method, batch.image, torch.full_like(batch.image_target, 9), batch.events, sure) == 0


def test_it_trains_a_spiking_student_and_needs_no_label():
    method = build("evdistill", generation="physics", averaged=1.0, mixup=1.0, averaged_threshold=0.0)
    output = method.step(pairs(), Progress("joint", 1, 2))
    assert output.parts["mixup"] > 0
    output.loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.student.parameters())


@pytest.mark.parametrize("options", [{"averaged": 0.0}, {"averaged": 1.0, "steps": 1}])
def test_what_it_needs_is_said(options):
    with pytest.raises(ConfigError, match="mixup > 0"):
        build(
            "evdistill", student("convnet", width=0.25, steps=options.get("steps", 4)), mixup=1.0, **options
        )
