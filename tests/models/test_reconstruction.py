"""Generators, critics and the pool: sizes, published counts, laws, and exact resumption."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.losses import gradient_penalty, wgan_critic_loss
from evlift.models.reconstruction import FakePool, Generator, PatchCritic, ScoreCritic, VectorCritic


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def scores(seed: int, *shape: int) -> Tensor:
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(dim=1)


# Generators


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2]), st.sampled_from(["sigmoid", "softplus"])
)
def test_any_size_comes_back(height, width, downs, output):
    net = Generator(3, 2, width=4, blocks=1, downs=downs, output=output)
    x = torch.rand(2, 3, height, width, requires_grad=True)
    y = net(x)
    assert y.shape == (2, 2, height, width)
    assert y.min() > 0
    assert output == "softplus" or y.max() < 1
    (2 * y).square().sum().backward()
    for tensor in (x, *net.parameters()):
        assert torch.isfinite(tensor.grad).all()


def test_sizes_of_the_data_sets():
    net = Generator(2, 1, width=4, blocks=1, downs=2)
    for size in ((28, 28), (34, 34), (68, 68), (144, 192)):
        assert net(torch.rand(1, 2, *size)).shape == (1, 1, *size)


def test_a_size_that_divides_is_not_padded():
    net = Generator(2, 1, width=4, blocks=1, downs=2)
    x = torch.rand(2, 2, 12, 16)
    assert torch.equal(net(x), net.body(x).sigmoid())
    assert net.body(x).shape == (2, 1, 12, 16)


def test_other_sizes_repeat_the_last_row_and_column():
    net = Generator(2, 1, width=4, blocks=1, downs=2)
    x = torch.rand(2, 2, 13, 18)
    padded = F.pad(x, (0, 2, 0, 3), mode="replicate")
    torch.testing.assert_close(net(x), net(padded)[..., :13, :18])


def test_a_residual_block_starts_from_its_input():
    block = next(m for m in Generator(2, 1, width=4, blocks=1).body if type(m).__name__ == "_Residual")
    x = torch.rand(2, 8, 7, 7)
    assert not torch.equal(block(x), x)
    for weight in block.parameters():
        nn.init.zeros_(weight)
    assert torch.equal(block(x), x)


def test_rows_of_a_batch_do_not_touch_each_other():
    net = Generator(2, 1, width=4, blocks=1)
    x = torch.rand(3, 2, 14, 14)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]))
    assert torch.equal(net.train()(x), net.eval()(x))


@pytest.mark.parametrize("output", ["sigmoid", "softplus"])
@pytest.mark.parametrize("downs", [1, 2])
def test_every_weight_learns(downs, output):
    torch.manual_seed(0)
    net = Generator(2, 1, width=4, blocks=2, downs=downs, output=output)
    net(torch.rand(2, 2, 16, 16)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if not (p.grad != 0).any()] == []


def test_parameters_are_those_of_cyclegan():
    """Its authors' code reports 11.378 M and 2.765 M: less the biases here, which instance norm takes out again."""
    generator = count(Generator(3, 3, width=64, blocks=9, downs=2))
    assert generator + (64 + 128 + 256) + 9 * 2 * 256 + (128 + 64) == 11_378_179
    critic = count(PatchCritic(3, width=64, layers=3))
    assert critic + 128 + 256 + 512 == 2_764_737


def test_crafted_counts_start_low():
    torch.manual_seed(0)
    events = Generator(1, 2, width=16, output="softplus")(torch.rand(8, 1, 28, 28))
    assert events.mean() < 0.25


def test_a_generator_learns_to_invert():
    torch.manual_seed(0)
    net = Generator(1, 1, width=8, blocks=1)
    x = torch.rand(16, 1, 12, 12)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss = (net(x) - (1 - x)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 3


def test_empty_events_give_a_finite_picture_and_gradient():
    net = Generator(2, 1, width=4)
    y = net(torch.zeros(2, 2, 14, 14))
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downs": 3}, "Expected `downs` to be 1 or 2"),
        ({"output": "tanh"}, "one of sigmoid, softplus, but got 1 and 'tanh'"),
        ({"width": 0}, "Expected `width` to be at least 1, but got 0"),
        ({"blocks": 0}, "Expected `blocks` to be at least 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        Generator(2, 1, **options)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (Generator(2, 1, width=4), (2, 3, 16, 16)),
        (Generator(2, 1, width=4), (2, 1, 2, 16, 16)),
        (PatchCritic(2, width=4), (2, 2, 11, 16)),
        (ScoreCritic(5, width=8), (2, 5)),
        (VectorCritic(5), (2, 6)),
        (VectorCritic(5), (2, 5, 8, 8)),
    ],
)
def test_wrong_inputs_are_named(net, shape):
    with pytest.raises(
        ConfigError, match=rf"Expected the input to be .* but got \[{', '.join(map(str, shape))}\]"
    ):
        net(torch.zeros(shape))


# Critics


@pytest.mark.parametrize(("layers", "sees"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_score_sees_its_patch(layers, sees):
    critic = PatchCritic(1, width=2, layers=layers)
    for name, module in list(critic.body.named_children()):
        if isinstance(module, nn.InstanceNorm2d):  # it looks at the whole map
            setattr(critic.body, name, nn.Identity())
    x = torch.rand(1, 1, 150, 150, requires_grad=True)
    out = critic(x)
    out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
    touched = x.grad[0, 0] != 0
    assert touched.any(dim=0).sum() == sees
    assert touched.any(dim=1).sum() == sees


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_picture_has_a_score(layers):
    side = 3 * 2**layers
    assert PatchCritic(2, width=4, layers=layers)(torch.rand(2, 2, side, side)).shape == (2, 1, 1, 1)
    with pytest.raises(ConfigError, match=f"at least {side}"):
        PatchCritic(2, width=4, layers=layers)(torch.rand(2, 2, side - 1, side))


@pytest.mark.parametrize(
    ("size", "inside"),
    [((64, 64), (64, 64)), ((34, 34), (64, 64)), ((36, 48), (64, 85)), ((80, 70), (80, 70))],
)
def test_small_score_maps_are_enlarged(size, inside):
    critic = ScoreCritic(5, width=8)
    seen = []
    critic.body.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    assert critic(scores(0, 3, 5, *size)).shape == (3,)
    assert seen == [(3, 5, *inside)]


def test_the_score_critic_has_the_published_layers():
    critic = ScoreCritic(19)
    widths = [m.out_channels for m in critic.body if isinstance(m, nn.Conv2d)]
    assert widths == [64, 128, 256, 512, 1]
    names = [type(m).__name__ for m in critic.body]
    assert [i for i, n in enumerate(names) if n == "_SelfAttention"] == [
        6,
        9,
    ]  # behind the third and the fourth


def test_spectral_norms_tend_to_one():
    critic = ScoreCritic(5, width=8)
    with torch.no_grad():
        for conv in (m for m in critic.body if hasattr(m, "parametrizations")):
            conv.parametrizations.weight.original.mul_(7)
        for _ in range(60):
            critic(scores(0, 1, 5, 64, 64))
    largest = [
        np.linalg.norm(m.weight.detach().flatten(1).numpy(), 2)
        for m in critic.body[:-1]
        if hasattr(m, "weight")
    ]
    assert len(largest) == 4
    np.testing.assert_allclose(largest, 1, rtol=0.02)


def test_attention_equals_the_library_and_starts_as_the_identity():
    torch.manual_seed(0)
    attention = ScoreCritic(5, width=8).body[6]
    x = torch.randn(2, 32, 6, 7)
    assert torch.equal(attention(x), x)
    attention.gain.data.fill_(0.7)
    query, key, value = (
        f(x).flatten(2).mT[:, None] for f in (attention.query, attention.key, attention.value)
    )
    looked = F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0].mT
    torch.testing.assert_close(attention(x), x + 0.7 * looked.reshape(x.shape))


def train(critic: ScoreCritic, steps: int, optimiser: torch.optim.Optimizer | None = None) -> list[float]:
    optimiser = optimiser or torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.9))
    penalties = []
    for step in range(steps):
        real, fake = scores(2 * step, 4, 3, 20, 20), scores(2 * step + 1, 4, 3, 20, 20).flip(1)
        penalty = gradient_penalty(critic, real, fake)
        optimiser.zero_grad()
        (wgan_critic_loss(critic(real), critic(fake)) + 10 * penalty).backward()
        optimiser.step()
        penalties.append(float(penalty.detach()))
    return penalties


def test_the_slope_of_the_score_critic_tends_to_one():
    torch.manual_seed(0)
    critic = ScoreCritic(3, width=8)
    penalties = train(critic, 60)
    assert penalties[0] > 0.5
    assert np.mean(penalties[-5:]) < 0.05
    assert all(p.grad is not None for p in critic.parameters())


def test_a_restored_score_critic_continues_exactly():
    torch.manual_seed(0)
    critic = ScoreCritic(3, width=4)
    train(critic, 3)
    torch.manual_seed(99)
    restored = ScoreCritic(3, width=4)
    restored.load_state_dict(copy.deepcopy(critic.state_dict()))
    cloned = copy.deepcopy(critic)
    runs = []
    for net in (critic, restored, cloned):
        torch.manual_seed(1)
        runs.append(train(net, 3))
    assert runs[0] == runs[1] == runs[2]


def test_a_vector_critic_tells_two_clouds_apart():
    torch.manual_seed(0)
    critic = VectorCritic(4, width=16)
    optimiser = torch.optim.Adam(critic.parameters(), 1e-2)
    for _ in range(60):
        real, fake = torch.randn(32, 4) + 1, torch.randn(32, 4) - 1
        loss = wgan_critic_loss(critic(real), critic(fake)) + 10 * gradient_penalty(critic, real, fake)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    real, fake = critic(torch.randn(500, 4) + 1), critic(torch.randn(500, 4) - 1)
    assert real.shape == (500,)
    assert real.quantile(0.1) > fake.quantile(0.9)


# The pool


def numbered(first: int, rows: int) -> Tensor:
    """Samples [rows, 1, 2] that tell their number."""
    return torch.arange(first, first + rows).float().view(rows, 1, 1).expand(rows, 1, 2).clone()


def numbers(samples: Tensor) -> Counter[float]:
    return Counter(samples[:, 0, 0].tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 10**6))
def test_no_sample_is_lost_or_doubled(size, batches, seed):
    torch.manual_seed(seed)
    pool, first = FakePool(size=size, shape=(1, 2)), 0
    for rows in batches:
        fakes, filled = numbered(first, rows), int(pool.filled)
        given, before = fakes.clone(), numbers(pool.kept[:filled])
        out = pool.exchange(fakes)
        assert torch.equal(fakes, given)  # the caller's tensor is untouched
        assert out.shape == fakes.shape
        assert int(pool.filled) == min(size, filled + rows)
        new = min(rows, size - filled)  # kept, and handed back as well
        assert torch.equal(out[:new], fakes[:new])
        after = numbers(pool.kept[: int(pool.filled)])
        assert after + numbers(out[new:]) == before + numbers(fakes)
        first += rows


def test_half_of_what_comes_back_is_old():
    torch.manual_seed(0)
    pool = FakePool(size=50, shape=(1, 2))
    pool.exchange(numbered(0, 50))
    old = sum(
        int((pool.exchange(numbered(i, 64)) != numbered(i, 64)).any(dim=2).sum())
        for i in range(100, 6500, 64)
    )
    assert old / 6400 == pytest.approx(0.5, abs=0.03)
    assert len(numbers(pool.kept)) == 50


def test_a_restored_pool_continues_exactly():
    torch.manual_seed(0)
    pool = FakePool(size=5, shape=(1, 2))
    pool.exchange(numbered(0, 9))
    restored = FakePool(size=5, shape=(1, 2))
    restored.load_state_dict(copy.deepcopy(pool.state_dict()))
    state = torch.get_rng_state()
    first = [pool.exchange(numbered(i, 4)) for i in (10, 20, 30)]
    torch.set_rng_state(state)
    second = [restored.exchange(numbered(i, 4)) for i in (10, 20, 30)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(pool.kept, restored.kept)


def test_what_comes_back_carries_no_gradient_and_its_own_type():
    fakes = torch.rand(4, 1, 2, dtype=torch.bfloat16, requires_grad=True)
    for size in (0, 2):
        out = FakePool(size=size, shape=(1, 2)).exchange(fakes)
        assert not out.requires_grad
        assert out.dtype == torch.bfloat16
    assert torch.equal(FakePool(size=0, shape=(1, 2)).exchange(fakes), fakes)


def test_wrong_pools_are_named():
    with pytest.raises(ConfigError, match="Expected `size` not to be negative, but got -1"):
        FakePool(size=-1, shape=(1, 2))
    with pytest.raises(ConfigError, match=r"Expected `fakes` to be \[B, 1, 2\], but got \[4, 2, 2\]"):
        FakePool(size=3, shape=(1, 2)).exchange(torch.zeros(4, 2, 2))
