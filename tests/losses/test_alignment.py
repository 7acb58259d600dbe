"""CKA by its laws and against a NumPy oracle that never forms a Gram matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError
from evlift.losses import cka_loss, linear_cka, reverse_gradient, scale_gradient


def features(seed: int, rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def oracle(x: np.ndarray, y: np.ndarray) -> float:
    """‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features, in float64: Kornblith et al., equation 4."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    return float(norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y)))


shapes = st.tuples(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 20), st.integers(1, 20))


@settings(max_examples=50, deadline=None)
@given(shapes)
def test_cka_equals_the_oracle(shape):
    seed, rows, left, right = shape
    x, y = features(seed, rows, left), features(seed + 1, rows, right)
    assert float(linear_cka(x, y)) == pytest.approx(oracle(x.numpy(), y.numpy()), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(shapes, st.floats(-20, 20))
def test_cka_is_one_for_equals_and_blind_to_rotation_and_scale(shape, exponent):
    seed, rows, left, right = shape
    x, y = features(seed, rows, left), features(seed + 1, rows, right)
    rotation = torch.linalg.qr(features(seed + 2, left, left)).Q
    assert float(linear_cka(x, x)) == pytest.approx(1, abs=1e-5)
    moved = 10**exponent * (x @ rotation) + 0 * x
    assert float(linear_cka(moved, y)) == pytest.approx(float(linear_cka(x, y)), abs=1e-5)


def test_steps_are_computed_separately():
    x, y = torch.randn(6, 4, 9), torch.randn(6, 4, 5)
    expected = torch.stack([linear_cka(x[:, t], y[:, t]) for t in range(4)])
    torch.testing.assert_close(linear_cka(x, y), expected)
    torch.testing.assert_close(cka_loss(x, y), 1 - expected)


@pytest.mark.parametrize("quiet", [torch.zeros(6, 5), torch.full((6, 5), 0.1), torch.full((6, 5), 1e30)])
def test_a_silent_stream_gives_zero_and_no_gradient(quiet):
    x, y = quiet.clone().requires_grad_(), torch.randn(6, 5).requires_grad_()
    value = linear_cka(x, y)
    value.backward()
    assert value == 0
    assert (x.grad == 0).all()
    assert (y.grad == 0).all()


@pytest.mark.parametrize("rows", [1, 6])
def test_two_silent_streams_are_aligned(rows):
    x = torch.zeros(rows, 5, requires_grad=True)
    value = linear_cka(x, torch.full((rows, 3), 0.1))
    value.backward()
    assert value == 1
    assert (x.grad == 0).all()


def test_one_silent_step_leaves_the_others_alone():
    x = torch.randn(6, 3, 5)
    x[:, 1] = 0
    x.requires_grad_()
    loss = cka_loss(x, torch.randn(6, 3, 5))
    loss.sum().backward()
    assert loss[1] == 1
    assert torch.isfinite(x.grad).all()
    assert (x.grad[:, 0] != 0).any()


def test_gradient_equals_finite_differences():
    x, y = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(linear_cka, (x, y))


def test_autocast_does_not_lower_the_precision():
    x, y = features(0, 8, 300), features(1, 8, 300)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = linear_cka(x, y)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, linear_cka(x, y))


@pytest.mark.parametrize(
    "shapes", [((4, 3), (5, 3)), ((4, 2, 3), (4, 3, 3)), ((4,), (4,)), ((4, 3), (4, 1, 3))]
)
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(ConfigError, match=r"equal B and T"):
        linear_cka(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_reversed_gradient():
    x = torch.randn(3, requires_grad=True)
    y = reverse_gradient(x)
    (2 * y).sum().backward()
    assert torch.equal(y, x)
    assert torch.equal(x.grad, torch.full((3,), -2.0))


@pytest.mark.parametrize("factor", [1.0, 0.1, 0.0, -1.0])
def test_scaled_gradient(factor):
    x = torch.randn(3, requires_grad=True)
    y = scale_gradient(x, factor)
    y.square().sum().backward()
    assert torch.equal(y, x)
    torch.testing.assert_close(x.grad, factor * 2 * x.detach())


def test_scaled_gradient_can_be_differentiated_twice():
    x = torch.ones(3, requires_grad=True)
    (slope,) = torch.autograd.grad(scale_gradient(x, 0.5).pow(3).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(slope.detach(), torch.full((3,), 1.5))
    torch.testing.assert_close(curvature, torch.full((3,), 1.5))  # ½·(½·6x): both passes go through the scale
