"""Evaluation and metrics against loops and formulas written out here."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score
from torch import nn

from evlift.datasets.base import Batch
from evlift.engine.evaluate import Evaluation, SegmentationEvaluation, adapt_statistics, run_network
from evlift.engine.logs import RunLog, read_log
from evlift.engine.metrics import Recognition, Segmentation, confusion_matrix
from evlift.errors import DataError
from evlift.models import create_model
from evlift.models.base import StepNorm
from evlift.models.modes import evaluating


class TwoNorms(nn.Module):
    """Dropout, statistics a step, statistics over all steps, mean over the pixels as logits [B, T, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.stepwise, self.merged = StepNorm(2, "step"), StepNorm(2, "merged")
        for layer, scale in ((self.stepwise, 1.7), (self.merged, 0.6)):
            nn.init.constant_(layer.weight, scale)
            nn.init.constant_(layer.bias, 0.3)
            layer.running_mean += 5  # of a training that must not matter
            layer.num_batches_tracked += 7

    def forward(self, x):
        steps = self.stepwise.over_time(self.dropout(x).unbind(1))
        steps = self.merged.over_time(list(steps))
        return SimpleNamespace(logits=torch.stack([step.mean((2, 3)) for step in steps], 1))


@pytest.fixture
def clips():
    """Three batches [4, 3, 2, 5, 5] of different brightness and contrast."""
    generator = torch.Generator().manual_seed(0)
    return [k + k * torch.rand(4, 3, 2, 5, 5, generator=generator) for k in (1.0, 2.0, 4.0)]


def averaged_moments(groups):
    """Mean over the groups [N, C, h, w] of their means and of their unbiased variances, in float64."""
    values = [group.double().transpose(0, 1).flatten(1).detach().numpy() for group in groups]  # [C, N·h·w]
    means = np.mean([v.mean(axis=1) for v in values], axis=0)
    return means, np.mean([v.var(axis=1, ddof=1) for v in values], axis=0)


def assert_statistics(layer, groups):
    mean, variance = averaged_moments(groups)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer.running_var.numpy(), variance, rtol=1e-4, atol=1e-6)


def batches(size, n=6, side="events"):
    """n labelled clips [3, 2, 4, 4], the same for every batch size."""
    x = torch.rand(n, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    target = torch.arange(n) % 2
    key = {"events": "event_target", "image": "image_target"}[side]
    for start in range(0, n, size):
        rows = slice(start, start + size)
        names = tuple(f"clip{i}" for i in range(n))[rows]
        yield Batch(**{side: x[rows], key: target[rows], "names": names})


def test_adapted_statistics_of_steps_by_hand(clips):
    network = TwoNorms()
    assert adapt_statistics(network, clips) == 2
    assert_statistics(network.stepwise, [clip[:, t] for clip in clips for t in range(3)])
    hidden = []
    for clip in clips:
        mean = clip.mean((0, 3, 4), keepdim=True)  # of every step and channel
        deviation = (clip.var((0, 3, 4), keepdim=True, unbiased=False) + network.stepwise.eps).sqrt()
        hidden.append(
            ((clip - mean) / deviation * 1.7 + 0.3).flatten(0, 1)
        )  # [B, T, C, h, w] → [B·T, C, h, w]
    assert_statistics(network.merged, hidden)


def test_adapted_statistics_of_plain_batch_normalisation_by_hand(clips):
    network = create_model("convnet", classes=2, width=0.1, steps=3, input_size=16)
    clips = [clip.repeat(1, 1, 1, 4, 4)[..., :16, :16] for clip in clips]
    before = {name: value.clone() for name, value in network.named_parameters()}
    assert adapt_statistics(network, clips) == 3
    assert_statistics(network.body[1], [network.body[0](clip.flatten(1, 2)) for clip in clips])
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_adaptation_gives_modes_and_momenta_back(clips):
    network = TwoNorms().train()
    network.merged.eval()  # frozen by its owner
    network.stepwise.momentum = 0.25
    adapt_statistics(network, clips)
    assert (network.training, network.dropout.training, network.stepwise.training) == (True, True, True)
    assert not network.merged.training
    assert (network.stepwise.momentum, network.merged.momentum) == (0.25, 0.1)


def test_a_network_without_batch_normalisation_has_nothing_to_adapt(clips):
    network = nn.Sequential(nn.Flatten(), nn.LayerNorm(150))
    assert adapt_statistics(network, clips) == 0


@pytest.mark.parametrize("side", ["events", "image"])
def test_results_do_not_depend_on_the_batch_size(side):
    network = TwoNorms().train()  # dropout and batch statistics would tell the batches apart
    whole = run_network(network, batches(6, side=side))
    assert whole.names == tuple(f"clip{i}" for i in range(6))
    assert whole.target.tolist() == [0, 1, 0, 1, 0, 1]
    for size in (1, 4):
        parts = run_network(network, batches(size, side=side))
        np.testing.assert_allclose(parts.logits, whole.logits, rtol=1e-5)
        assert parts.names == whole.names
        assert (parts.target == whole.target).all()
    assert network.stepwise.num_batches_tracked == 7


def test_every_module_gets_its_own_mode_back():
    network = TwoNorms().train()
    network.merged.eval()
    modes = [module.training for module in network.modules()]
    run_network(network, batches(3))
    assert [module.training for module in network.modules()] == modes
    with pytest.raises(DataError, match="labelled"):  # also where it ends in an error
        run_network(network, [Batch(events=torch.zeros(1, 3, 2, 4, 4))])
    assert [module.training for module in network.modules()] == modes
    with evaluating(network):
        assert not any(module.training for module in network.modules())


@pytest.mark.parametrize(
    "batch",
    [
        Batch(event_target=torch.zeros(1, dtype=torch.int64)),
        Batch(events=torch.zeros(2, 3, 2, 4, 4), event_target=torch.tensor([0, -1])),
    ],
)
def test_batches_without_sequence_or_label_are_refused(batch):
    with pytest.raises(DataError, match="labelled"):
        run_network(TwoNorms(), [batch])


def test_predictions_and_accuracy_a_step_against_a_loop():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(40, 5, 3)).astype(np.float32), rng.integers(0, 3, 40)
    found = Evaluation(logits, target, ())
    for step in range(5):
        predicted = []
        for sample in range(40):
            sums = [sum(float(logits[sample, t, k]) for t in range(step + 1)) for k in range(3)]
            predicted.append(sums.index(max(sums)))
        hits = sum(p == t for p, t in zip(predicted, target, strict=True))
        assert found.per_step[step] == pytest.approx(hits / 40)
    assert found.predicted.tolist() == predicted
    assert found.metrics.accuracy == pytest.approx(hits / 40)
    assert found.summary()["per_step"] == found.per_step.tolist()


@pytest.mark.parametrize(("hits", "n"), [(7, 10), (0, 5), (5, 5), (163, 200)])
def test_the_interval_is_wilsons(hits, n):
    z, p = 1.959963984540054, hits / n  # 97.5 % quantile of the normal distribution
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = Recognition(np.array([[hits, n - hits], [0, 0]]))
    assert found.interval == pytest.approx((centre - half, centre + half), abs=1e-9)


def test_an_absent_class_counts_in_no_mean():
    found = Recognition(confusion_matrix(np.array([0, 0, 0, 0, 2]), np.array([0, 0, 0, 1, 1]), 3))
    assert found.confusion.tolist() == [[3, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert found.class_mean == pytest.approx((3 / 4 + 0) / 2)
    assert np.isnan(found.per_class[1])


def test_the_summary_is_plain_json():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 1]][:, None]  # [3, 1, 3]
    summary = Evaluation(logits, np.array([0, 0, 1]), ()).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["per_class"] == [0.5, 1.0, None]
    assert (summary["samples"], summary["class_mean"]) == (3, 0.75)


def test_no_samples_say_nothing():
    found = Recognition(np.zeros((2, 2), np.int64))
    assert np.isnan(found.accuracy)
    assert np.isnan(found.class_mean)
    assert found.interval == (0.0, 1.0)


def test_adapting_to_nothing_is_refused_and_changes_nothing():
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    network[0].running_mean.fill_(3.0)
    with pytest.raises(DataError, match="got none"):
        adapt_statistics(network, [])
    assert network[0].running_mean.tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match="expected 2D"):
        adapt_statistics(network, [torch.zeros(())])
    assert network[0].momentum == 0.1


def test_a_resumed_log_keeps_names_with_commas(tmp_path):
    log = RunLog(tmp_path)
    log.scalars(1, "train", "train", {"a, b": 0.5})
    log.close()
    RunLog(tmp_path, step=1).close()
    assert [(row["name"], row["value"]) for row in read_log(tmp_path / "metrics.csv")] == [("a, b", 0.5)]


def test_evaluating_nothing_is_refused():
    with pytest.raises(DataError, match="got none"):
        run_network(TwoNorms(), [])


class Echo(nn.Module):
    """Its logits are its input, [B, T, K, H, W]."""

    def forward(self, x):
        return SimpleNamespace(logits=x)


def masks(n=6, size=(7, 9), seed=0):
    """Logits [n, 3, 4, H, W] and masks with void and without class 3, which is predicted now and then."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 3, (n, *size), generator=generator)
    logits = torch.randn(n, 3, 4, *size, generator=generator)
    logits += 1.5 * torch.nn.functional.one_hot(mask, 4).permute(0, 3, 1, 2)[:, None]
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = 255
    return logits, mask


@pytest.mark.parametrize("size", [1, 4, 6])
def test_masks_are_judged_over_the_whole_set(size):
    logits, mask = masks()
    batches = [
        Batch(
            events=logits[i : i + size],
            event_target=mask[i : i + size],
            names=("x",) * len(mask[i : i + size]),
        )
        for i in range(0, 6, size)
    ]
    found = run_network(Echo(), batches)
    known = mask != 255
    for step in range(3):
        predicted = logits[:, : step + 1].mean(1).argmax(1)
        wanted = jaccard_score(mask[known], predicted[known], average="macro")
        assert found.per_step[step] == pytest.approx(wanted)
    assert found.score == found.metrics.mean_iou == pytest.approx(wanted)
    assert found.metrics.accuracy == pytest.approx(accuracy_score(mask[known], predicted[known]))
    assert found.metrics.pixels == int(known.sum())
    summary = found.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert (summary["samples"], summary["mIoU"], found.metric) == (6, found.score, "mIoU")


def test_iou_of_every_class_is_scikit_learns():
    rng = np.random.default_rng(0)
    target, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    found = Segmentation(confusion_matrix(target, predicted, 5))
    np.testing.assert_allclose(found.per_class, jaccard_score(target, predicted, average=None))
    np.testing.assert_allclose(found.class_mean, balanced_accuracy_score(target, predicted))


def test_a_class_neither_there_nor_predicted_counts_in_no_mean():
    found = Segmentation(np.array([[4, 0, 0, 0], [0, 2, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    assert found.per_class[:3].tolist() == [1.0, 0.5, 0.0]  # class 2 is predicted though not there
    assert np.isnan(found.per_class[3])
    assert found.mean_iou == pytest.approx(0.5)
    assert np.isnan(Segmentation(np.zeros((2, 2), np.int64)).mean_iou)


def test_void_of_masks_is_a_class_among_many():
    assert confusion_matrix(np.array([[0, 255], [1, 1]]), np.array([[0, 0], [1, 0]]), 2).tolist() == [
        [1, 0],
        [1, 1],
    ]
    many = confusion_matrix(np.array([255, 300]), np.array([255, 3]), 301)
    assert (many[255, 255], many[300, 3], many.sum()) == (1, 1, 2)


def test_void_alone_says_nothing():
    logits, mask = masks(n=1)
    found = run_network(Echo(), [Batch(events=logits, event_target=torch.full_like(mask, 255))])
    assert np.isnan(found.score)
    assert found.summary()["mIoU"] is None


def test_scores_name_their_metric():
    found = Evaluation(np.eye(2, dtype=np.float32)[:, None], np.array([0, 0]), ())
    assert (found.score, found.metric) == (0.5, "accuracy")
    assert SegmentationEvaluation(np.eye(2, dtype=np.int64)[None], ()).score == 1.0


@pytest.mark.parametrize(
    "target", [torch.zeros(6, dtype=torch.int64), torch.zeros(6, 7, 8, dtype=torch.int64)]
)
def test_labels_of_another_kind_are_refused(target):
    with pytest.raises(DataError, match=r"\[6, 3, 4, 7, 9\] for \[6.*Use a network for what the labels are"):
        run_network(Echo(), [Batch(events=masks()[0], event_target=target)])
