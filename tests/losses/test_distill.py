"""Distillation losses by their laws, and against SciPy and loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evlift.errors import ConfigError
from evlift.losses import (
    activity_mask,
    affinity_loss,
    class_distribution_loss,
    class_histogram,
    confidence_weight,
    consistency_loss,
    entropy,
    kd_loss,
    mutual_loss,
)
from evlift.losses.distill import _grid

PLACES = [(), (5,), (3, 4)]


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    return draw(0, *shape).requires_grad_(), draw(1, *shape).requires_grad_()


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) over axis 1, in float64."""
    return scipy.special.rel_entr(p, q).sum(axis=1)


def probabilities(logits: Tensor) -> np.ndarray:
    return scipy.special.softmax(logits.detach().numpy().astype(np.float64), axis=1)


# Logit distillation


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 12), st.sampled_from(PLACES), st.floats(0.5, 8), st.floats(0.1, 20)
)
def test_kd_equals_the_oracle(seed, classes, places, temperature, spread):
    s, t = (spread * draw(seed + i, 3, classes, *places) for i in range(2))
    each = divergence(probabilities(t / temperature), probabilities(s / temperature)) * temperature**2
    value = kd_loss(s, t, temperature=temperature)
    assert float(value) == pytest.approx(each.mean(), rel=1e-4, abs=1e-5)
    weight = torch.rand(each.shape)
    expected = (weight.numpy() * each).sum() / weight.numpy().sum()
    weighted = kd_loss(s, t, temperature=temperature, weight=weight)
    assert float(weighted) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("places", PLACES)
def test_kd_of_equals_is_zero_and_stands_still_on_both_sides(places):
    s = (10 * draw(0, 4, 6, *places)).requires_grad_()
    t = (s.detach() + 3).requires_grad_()  # a shift of all logits changes no probability
    loss = kd_loss(s, t, temperature=2)
    loss.backward()
    assert loss.detach().abs() < 1e-6
    for side in (s, t):
        assert side.grad.abs().max() < 1e-6


def test_kd_moves_both_sides_unless_one_is_detached():
    s, t = pair(4, 6)
    kd_loss(s, t).backward()
    assert s.grad.abs().min() > 0
    assert t.grad.abs().min() > 0
    before = t.grad.clone()
    kd_loss(s, t.detach()).backward()
    assert torch.equal(t.grad, before)


def test_gradients_equal_finite_differences():
    s, t = (x.detach().double().requires_grad_() for x in pair(2, 3, 4))
    weight = torch.rand(2, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s, t: kd_loss(s, t, temperature=3, weight=weight), (s, t))
    assert torch.autograd.gradcheck(class_distribution_loss, (s, t))


def test_a_mask_leaves_the_masked_places_out():
    s, t = pair(2, 5, 3, 4)
    mask = torch.zeros(2, 3, 4)
    mask[1, 2] = 1
    loss = kd_loss(s, t, weight=mask)
    torch.testing.assert_close(loss, kd_loss(s[1:, :, 2], t[1:, :, 2]))
    torch.testing.assert_close(loss, kd_loss(s, t, weight=mask > 0))
    loss.backward()
    assert (s.grad[0] == 0).all()
    assert (s.grad[1, :, 2] != 0).all()


def test_no_weight_at_all_gives_zero():
    s, t = pair(2, 5, 3, 4)
    loss = kd_loss(s, t, weight=torch.zeros(2, 3, 4))
    (1e6 * loss).backward()
    assert loss == 0
    assert (s.grad == 0).all()
    assert (t.grad == 0).all()


@pytest.mark.parametrize("loss", [kd_loss, mutual_loss, class_distribution_loss])
def test_sure_and_wrong_stays_finite(loss):
    s = torch.tensor([[1e4, -1e4]]).requires_grad_()
    t = torch.tensor([[-1e4, 1e4]]).requires_grad_()
    value = loss(s, t)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(torch.cat((s.grad, t.grad))).all()


@pytest.mark.parametrize("loss", [kd_loss, mutual_loss, class_distribution_loss, affinity_loss])
def test_autocast_does_not_lower_the_precision(loss):
    s, t = (draw(i, 4, 16, 6, 6).bfloat16() for i in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(s, t)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, loss(s.float(), t.float()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "Expected `temperature` to be above 0, but got 0.0"),
        ({"weight": torch.ones(2, 1, 4)}, r"Expected `weight` to be .* = \[2, 4\], but got \[2, 1, 4\]"),
    ],
)
def test_wrong_settings_of_kd_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        kd_loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), **options)


def test_wrong_shapes_of_logits_are_named():
    with pytest.raises(ConfigError, match=r"of one shape, but got \[2, 3\] and \[2, 4\]"):
        kd_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="with equal K"):
        class_distribution_loss(torch.zeros(2, 3), torch.zeros(2, 4))


# Where distillation counts


@pytest.mark.parametrize("places", PLACES)
def test_confidence_is_the_largest_probability_above_the_threshold(places):
    logits = (3 * draw(0, 6, 4, *places)).requires_grad_()
    largest = probabilities(logits).max(axis=1)
    weight = confidence_weight(logits, threshold=0.7)
    np.testing.assert_allclose(weight.numpy(), np.where(largest >= 0.7, largest, 0), rtol=1e-5)
    assert not weight.requires_grad
    assert 0 < (weight == 0).sum() < weight.numel()
    assert confidence_weight(logits).min() >= 1 / 4


def test_a_threshold_that_is_no_probability_is_named():
    with pytest.raises(ConfigError, match=r"`threshold` to be in \[0, 1\], but got 1.5"):
        confidence_weight(torch.zeros(2, 3), threshold=1.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(1, 9), st.integers(1, 9))
def test_activity_is_a_dilation_of_the_pixels_with_events(seed, radius, height, width):
    events = draw(seed, 2, 3, 2, height, width)
    events = events * (draw(seed + 1, *events.shape) > 1.8)  # of either sign
    mask = activity_mask(events, radius=radius)
    hit = (events != 0).any(dim=2).any(dim=1).numpy()
    size = (1, 2 * radius + 1, 2 * radius + 1)
    expected = scipy.ndimage.binary_dilation(hit, np.ones(size, dtype=bool))
    np.testing.assert_array_equal(mask.numpy(), expected.astype(np.float32))


@pytest.mark.parametrize(("shape", "radius"), [((2, 2, 5, 5), 0), ((2, 1, 2, 5, 5), -1)])
def test_wrong_events_are_named(shape, radius):
    with pytest.raises(ConfigError, match="Expected `events` to be"):
        activity_mask(torch.zeros(shape), radius=radius)


# Affinity graphs


def graph(nodes: np.ndarray) -> np.ndarray:
    """Cosine similarities of the rows [n, F], in a loop over pairs."""
    norm = np.linalg.norm
    return np.array([[a @ b / (norm(a) * norm(b)) for b in nodes] for a in nodes])


maps = st.tuples(
    st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4)
)


@settings(max_examples=30, deadline=None)
@given(maps, st.sampled_from([1, 2]))
def test_affinity_equals_a_loop_over_pairs(shape, power):
    seed, batch, channels, height, width = shape
    s, t = draw(seed, batch, channels, height, width), draw(seed + 1, batch, 3, height, width)
    rows = [x.double().numpy().reshape(batch, x.shape[1], -1).transpose(0, 2, 1) for x in (s, t)]
    each = [(np.abs(graph(a) - graph(b)) ** power).mean() for a, b in zip(*rows, strict=True)]
    assert float(affinity_loss(s, t, power=power)) == pytest.approx(np.mean(each), abs=1e-5)
    pooled = [x.mean(axis=1) for x in rows]
    expected = (np.abs(graph(pooled[0]) - graph(pooled[1])) ** power).mean()
    assert float(affinity_loss(s, t, kind="samples", power=power)) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(maps, st.floats(-6, 6), st.sampled_from(["locations", "samples"]))
def test_affinity_is_blind_to_rotation_and_scale(shape, exponent, kind):
    seed, batch, channels, height, width = shape
    s, t = draw(seed, batch, channels, height, width), draw(seed + 1, batch, 5, height, width)
    rotation = torch.linalg.qr(draw(seed + 2, channels, channels)).Q
    moved = 10**exponent * torch.einsum("bchw,cd->bdhw", s, rotation)
    assert float(affinity_loss(moved, s, kind=kind)) < 1e-9
    before, after = affinity_loss(s, t, kind=kind), affinity_loss(moved, t, kind=kind)
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


def test_identical_maps_have_no_loss_and_no_gradient():
    s = draw(0, 2, 8, 6, 6).requires_grad_()
    loss = affinity_loss(s, s.detach())
    loss.backward()
    assert loss == 0
    assert (s.grad == 0).all()


def test_maps_of_two_sizes_meet_on_one_grid():
    s, t = draw(0, 2, 8, 6, 12), draw(1, 2, 5, 3, 6)
    coarse = s.unflatten(2, (3, 2)).unflatten(4, (6, 2)).mean(dim=(3, 5))  # means of 2×2 pixels
    torch.testing.assert_close(affinity_loss(s, t), affinity_loss(coarse, t))
    torch.testing.assert_close(affinity_loss(t, s), affinity_loss(t, coarse))
    torch.testing.assert_close(affinity_loss(s, s.flip(3), nodes=18), affinity_loss(coarse, coarse.flip(3)))


def test_a_batch_is_the_mean_of_its_graphs():
    s, t = draw(0, 3, 8, 4, 4), draw(1, 3, 6, 4, 4)
    single = torch.stack([affinity_loss(s[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(affinity_loss(s, t), single.mean())


@pytest.mark.parametrize(
    ("nodes", "cells"), [(4, (2, 2)), (64, (7, 9)), (512, (20, 25)), (1728, (36, 48)), (2048, (36, 48))]
)
def test_grids_of_a_street_at_stride_4(nodes, cells):
    assert _grid(torch.Size((36, 48)), torch.Size((36, 48)), nodes) == cells


sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


@given(sizes, sizes, st.integers(1, 3000))
def test_a_grid_is_no_finer_than_either_map_and_as_large_as_allowed(student, teacher, nodes):
    rows, columns = _grid(torch.Size(student), torch.Size(teacher), nodes)
    height, width = min(student[0], teacher[0]), min(student[1], teacher[1])
    assert 1 <= rows <= height
    assert 1 <= columns <= width
    assert rows * columns <= nodes
    assert rows == height or (rows + 1) * columns > nodes
    assert columns == width or rows * (columns + 1) > nodes


@given(st.integers(4, 60), st.integers(4, 60), st.integers(16, 3000))
def test_cells_keep_the_aspect(height, width, nodes):
    rows, columns = _grid(torch.Size((height, width)), torch.Size((height, width)), nodes)
    if min(rows, columns) >= 4:
        assert 0.6 < (rows / columns) / (height / width) < 1.67


@pytest.mark.parametrize("kind", ["locations", "samples"])
@pytest.mark.parametrize("detach_norm", [True, False])
def test_silent_nodes_have_no_gradient(kind, detach_norm):
    s, t = draw(0, 3, 8, 4, 4), draw(1, 3, 8, 4, 4)
    s[0] = 0
    s[1, :, 2] = 0
    s.requires_grad_()
    loss = affinity_loss(s, t, kind=kind, detach_norm=detach_norm)
    loss.backward()
    assert loss > 0
    assert torch.isfinite(s.grad).all()
    assert (s.grad[0] == 0).all()
    assert (s.grad[2] != 0).any()
    assert s.grad.abs().max() < 1
    if kind == "locations":
        assert (s.grad[1, :, 2] == 0).all()


def test_a_nearly_silent_node_does_not_drown_the_others():
    s, t = draw(0, 1, 8, 4, 4), draw(1, 1, 8, 4, 4)
    s[0, :, 0, 0] *= 1e-6
    s.requires_grad_()
    affinity_loss(s, t).backward()
    assert (s.grad[0, :, 0, 0] == 0).all()
    assert (s.grad[0, :, 1:] != 0).all()


def test_without_detached_norm_the_gradient_is_that_of_the_cosine():
    s = draw(0, 1, 3, 2, 3).double().requires_grad_()
    t = draw(1, 1, 4, 3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: affinity_loss(s, t, detach_norm=False), (s, t))
    t = draw(1, 1, 4, 2, 3).double()
    for detach_norm in (False, True):
        s.grad = None
        affinity_loss(s, t, detach_norm=detach_norm).backward()
        along = (s.grad * s).sum(dim=1)  # a cosine does not change along its own vector
        assert (along.abs().max() > 1e-3) == detach_norm


def test_affinity_teaches_relations():
    s, t = draw(0, 2, 8, 4, 4).requires_grad_(), draw(1, 2, 5, 4, 4)
    before = affinity_loss(s, t).detach()
    optimiser = torch.optim.Adam([s], 0.05)
    for _ in range(60):
        optimiser.zero_grad()
        loss = affinity_loss(s, t)
        loss.backward()
        optimiser.step()
    assert loss.detach() < before / 20


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 4, 5, 5), {}, "with equal B"),
        ((2, 4), {}, "with equal B"),
        ((2, 4, 5, 5), {"kind": "pixels"}, "one of locations, samples, but got 'pixels'"),
        ((2, 4, 5, 5), {"nodes": 0}, "got nodes=0"),
        ((2, 4, 5, 5), {"power": 3}, "power=3"),
    ],
)
def test_wrong_affinity_is_named(shape, options, message):
    with pytest.raises(ConfigError, match=message):
        affinity_loss(torch.zeros(2, 4, 5, 5), torch.zeros(shape), **options)


# Consistency, mutual distillation, distributions


def test_consistency_is_kl_both_ways_round():
    tx, s_crafted, s_real, t_crafted = (draw(i, 2, 5, 3, 4) for i in range(4))
    p = [probabilities(x) for x in (tx, s_crafted, s_real, t_crafted)]
    expected = divergence(p[0], p[1]).mean() + divergence(p[2], p[3]).mean()
    value = consistency_loss(tx, s_crafted, s_real, t_crafted)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert consistency_loss(tx, tx, s_real, s_real) == 0


def test_mutual_distillation_teaches_each_by_the_other_held_still():
    a, b = pair(4, 5)
    loss = mutual_loss(a, b)
    loss.backward()
    torch.testing.assert_close(loss, mutual_loss(b, a))
    for own, other in ((a, b), (b, a)):
        (alone,) = torch.autograd.grad(kd_loss(own, other.detach()), own)
        torch.testing.assert_close(own.grad, alone)


@pytest.mark.parametrize("places", PLACES)
def test_histogram_is_the_mean_distribution(places):
    logits = 5 * draw(0, 6, 4, *places)
    expected = np.moveaxis(probabilities(logits), 1, -1).reshape(-1, 4).mean(axis=0)
    np.testing.assert_allclose(class_histogram(logits).numpy(), expected, rtol=1e-5)


def test_entropy_equals_scipy_and_has_a_gradient_at_zero():
    p = torch.tensor([0.7, 0.2, 0.1, 0.0], requires_grad=True)
    assert float(entropy(p.detach())) == pytest.approx(scipy.stats.entropy([0.7, 0.2, 0.1, 0.0]), rel=1e-6)
    entropy(p).backward()
    assert torch.isfinite(p.grad).all()
    assert float(entropy(torch.full((8,), 0.125))) == pytest.approx(np.log(8))


def test_class_distributions_of_two_batches():
    s, t = draw(0, 6, 4, 3, 3), draw(1, 9, 4, 5)
    p, q = (class_histogram(x).double().numpy()[None] for x in (t, s))
    assert float(class_distribution_loss(s, t)) == pytest.approx(divergence(p, q)[0], rel=1e-4)
    # Which sample is which class does not matter, only how often each class appears.
    s = draw(0, 6, 4).requires_grad_()
    loss = class_distribution_loss(s, s.detach().flip(0))
    loss.backward()
    assert loss.detach().abs() < 1e-6
    assert s.grad.abs().max() < 1e-6
