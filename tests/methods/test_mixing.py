"""Mixing laws: the table of the specification, simulation, and what a mixed clip is made of."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.errors import ConfigError, DataError
from evlift.methods.mixing import Mixer, Mixing, RatioSchedule, expected_ratio, solve_p

RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
TABLE = {
    10: [0.0193, 0.0410, 0.0661, 0.0955, 0.1312, 0.1763, 0.2373, 0.3292, 0.4998],
    6: [0.0300, 0.0634, 0.1011, 0.1445, 0.1954, 0.2575, 0.3370, 0.4474, 0.6243],
    12: [0.0163, 0.0349, 0.0563, 0.0817, 0.1126, 0.1523, 0.2067, 0.2907, 0.4544],
}
DRAWS = 200_000
probability = st.floats(1e-6, 1 - 1e-6)
steps = st.integers(1, 30)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(mixing: str, ratio: float, steps: int = 10, count: int = DRAWS, size: int = 1, **options):
    """Mix clips of ones (image) and twos (events)."""
    image = torch.ones(1, 1, 1, 1, 1).expand(count, steps, 1, size, size)
    return Mixer(mixing, **options)(image, 2 * image, ratio, generator())


@pytest.mark.parametrize("steps", TABLE)
def test_the_table(steps):
    assert [solve_p(r, steps) for r in RATIOS] == pytest.approx(TABLE[steps], abs=1e-3)


@settings(deadline=None)
@given(probability, steps)
def test_expected_ratio_equals_the_closed_forms(p, steps):
    p_exact = Fraction(p)  # the closed forms cancel at small p: rational numbers do not
    q, t = 1 - p_exact, steps
    defective = 1 - q * (1 - q**t) / (p_exact * t)
    renormalised = Fraction(t + 1, t) - 1 / (p_exact * t) + q**t / (1 - q**t)
    assert expected_ratio(p, steps) == pytest.approx(float(defective), rel=1e-12)
    assert expected_ratio(p, steps, "renormalised") == pytest.approx(float(renormalised), rel=1e-12)


@settings(deadline=None)
@given(probability, probability, st.integers(2, 30), st.sampled_from(["defective", "renormalised"]))
def test_expected_ratio_rises_and_solve_p_inverts_it(a, b, steps, law):
    low, high = (expected_ratio(p, steps, law) for p in sorted((a, b)))
    assert low <= high + 1e-15
    assert expected_ratio(solve_p(high, steps, law), steps, law) == pytest.approx(high, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_ends(steps):
    assert solve_p(0.0, steps) == pytest.approx(0, abs=1e-12)
    assert solve_p(1.0, steps) == solve_p(1.0, steps, "renormalised") == 1
    assert expected_ratio(0.0, steps) == 0
    assert expected_ratio(1e-9, steps) == pytest.approx(0, abs=1e-7)
    assert expected_ratio(1.0, steps) == expected_ratio(1.0, steps, "renormalised") == 1
    assert expected_ratio(0.0, steps, "renormalised") == pytest.approx((steps + 1) / (2 * steps))


@given(st.floats(0, 1))
def test_one_step_switches_with_the_ratio_itself(r_m):
    assert solve_p(r_m, 1) == pytest.approx(r_m, abs=1e-9)


@pytest.mark.parametrize(
    ("mixing", "options"),
    [(name, {}) for name in get_args(Mixing) if name != "none"] + [("timestep", {"law": "renormalised"})],
)
@pytest.mark.parametrize("ratio", [0.55, 0.8])
def test_the_mean_ratio_is_the_one_asked_for(mixing, options, ratio):
    rho = draw(mixing, ratio, **options).ratio.double()
    assert abs(rho.mean() - ratio) < 3 * rho.std() / math.sqrt(DRAWS)


@pytest.mark.parametrize(
    ("mixing", "variance", "tolerance"),
    [
        ("whole-clip", 0.25, 0.001),
        ("timestep", 0.138, 0.001),
        ("independent", 0.025, 0.0005),
        ("blend", 1 / 12, 0.001),
    ],
)
def test_the_variance_of_the_ratio(mixing, variance, tolerance):
    assert float(draw(mixing, 0.5).ratio.var()) == pytest.approx(variance, abs=tolerance)


def test_the_deviation_of_time_step_mixup():
    assert float(draw("timestep", 0.5).ratio.std()) == pytest.approx(0.371, abs=0.002)


def test_patches_share_the_variance_of_one_clip():
    """16 patches with switch times of their own: a sixteenth of the variance."""
    rho = draw("spatio-temporal", 0.5, count=20_000, size=8, patch=2).ratio
    assert float(rho.var()) == pytest.approx(0.371**2 / 16, rel=0.05)


def test_no_switch_has_probability_q_to_the_t():
    never = (draw("timestep", 0.3).ratio == 0).double().mean()
    expected = (1 - solve_p(0.3, 10)) ** 10
    assert abs(never - expected) < 4 * math.sqrt(expected * (1 - expected) / DRAWS)
    assert (draw("timestep", 0.6, law="renormalised").ratio > 0).all()


def test_renormalised_switch_times_follow_the_truncated_geometric_law():
    p, count = solve_p(0.7, 5, "renormalised"), 5
    modality = draw("timestep", 0.7, steps=count, law="renormalised").modality
    switch = (1 - modality).sum(1).long()
    observed = switch.bincount(minlength=count).double() / DRAWS
    expected = torch.tensor([p * (1 - p) ** t / (1 - (1 - p) ** count) for t in range(count)])
    torch.testing.assert_close(observed, expected.double(), atol=0.004, rtol=0)


clips = st.tuples(
    st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 8), st.integers(1, 9), st.floats(0, 1)
)


def random_clips(seed: int, batch: int, steps: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images below 0 and events above it, so that every pixel says where it is from."""
    drawn = [torch.rand(batch, steps, 2, size, size + 1, generator=generator(seed + k)) + 1 for k in (1, 2)]
    return -drawn[0], drawn[1]


@settings(max_examples=60, deadline=None)
@given(clips, st.sampled_from(["defective", "renormalised"]))
def test_prefix_is_the_image_and_suffix_the_events(clip, law):
    seed, batch, steps, size, ratio = clip
    if law == "renormalised":
        least = (steps + 1) / (2 * steps)
        ratio = min(1.0, least + ratio * (1 - least))
    image, events = random_clips(seed, batch, steps, size)
    mixed = Mixer("timestep", law)(image, events, ratio, generator(seed))
    assert (mixed.modality.diff(dim=1) >= 0).all()
    assert mixed.modality.unique().tolist() in ([0.0], [1.0], [0.0, 1.0])
    torch.testing.assert_close(mixed.ratio, mixed.modality.mean(1))
    for b in range(batch):
        first = int((1 - mixed.modality[b]).sum())
        assert torch.equal(mixed.clip[b, :first], image[b, :first])
        assert torch.equal(mixed.clip[b, first:], events[b, first:])


@settings(max_examples=60, deadline=None)
@given(clips, st.integers(1, 12))
def test_patches_switch_once_and_modality_is_their_area(clip, patch):
    seed, batch, steps, size, ratio = clip
    image, events = random_clips(seed, batch, steps, size)
    mixed = Mixer("spatio-temporal", patch=patch)(image, events, ratio, generator(seed))
    from_events = mixed.clip == events
    assert torch.equal(mixed.clip[~from_events], image[~from_events])
    assert (from_events.float().diff(dim=1) >= 0).all()
    torch.testing.assert_close(from_events.float().mean(dim=(2, 3, 4)), mixed.modality)
    corner = from_events[:, :, 0, :patch, :patch].flatten(2)
    assert (corner == corner[..., :1]).all()


@pytest.mark.parametrize("mixing", [name for name in get_args(Mixing) if name != "none"])
def test_ratio_zero_is_the_image_and_one_the_events(mixing):
    image, events = random_clips(0, 6, 5, 9)
    none, every = (Mixer(mixing)(image, events, ratio) for ratio in (0.0, 1.0))
    assert torch.equal(none.clip, image)
    assert torch.equal(every.clip, events)
    assert none.ratio.tolist() == [0] * 6
    assert every.ratio.tolist() == [1] * 6


def test_none_is_the_image_at_any_ratio():
    image, events = random_clips(0, 6, 5, 9)
    mixed = Mixer("none")(image, events, 0.7)
    assert torch.equal(mixed.clip, image)
    assert mixed.modality.sum() == 0


def test_blend_is_one_line_between_image_and_events():
    image, events = random_clips(0, 6, 5, 9)
    mixed = Mixer("blend")(image, events, 0.5)
    weight = mixed.ratio[:, None, None, None, None]
    torch.testing.assert_close(mixed.clip, image + weight * (events - image))
    torch.testing.assert_close(mixed.modality, mixed.ratio[:, None].expand(6, 5))


@pytest.mark.parametrize("mixing", get_args(Mixing))
def test_a_seed_repeats_the_draw_and_inputs_are_untouched(mixing):
    image, events = random_clips(0, 6, 5, 9)
    before = image.clone(), events.clone()
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(Mixer(mixing)(image, events, 0.5))
    assert torch.equal(draws[0].clip, draws[1].clip)
    assert torch.equal(image, before[0])
    assert torch.equal(events, before[1])


@pytest.mark.parametrize(("kind", "middle"), [("constant", 0.9), ("linear", 0.5), ("cubic", 0.2)])
def test_schedules(kind, middle):
    schedule = RatioSchedule(kind, r_m=0.9, start=None if kind == "constant" else 0.1)
    assert schedule(0.0) == pytest.approx(0.9 if kind == "constant" else 0.1)
    assert schedule(0.5) == pytest.approx(middle)
    assert schedule(1.0) == pytest.approx(0.9)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["linear", "cubic"]))
def test_schedules_stay_between_their_ends(start, r_m, fraction, kind):
    value = RatioSchedule(kind, r_m, start)(fraction)
    assert min(start, r_m) <= value <= max(start, r_m)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: solve_p(0.5, 10, "renormalised"), r"at least \(T\+1\)/\(2T\) = 0.55.*got 0.5"),
        (lambda: solve_p(1.2, 10), "`r_m` to be in"),
        (lambda: expected_ratio(-0.1, 10), "`p` to be a probability"),
        (lambda: expected_ratio(0.5, 0), "`steps` to be at least 1"),
        (lambda: Mixer("sideways"), "`mixing` to be one of timestep"),
        (lambda: Mixer("timestep", law="other"), "`law` to be one of"),
        (lambda: Mixer("whole-clip", law="renormalised"), "switch times"),
        (lambda: Mixer("whole-clip", patch=4), "no `patch`"),
        (lambda: Mixer("spatio-temporal", patch=0), "at least 1 pixel"),
        (lambda: RatioSchedule("constant", start=0.1), "no `start`"),
        (lambda: RatioSchedule("linear", start=1.1), "`start` to be in"),
        (lambda: RatioSchedule("square"), "`schedule` to be one of"),
    ],
)
def test_contradictions_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_clips_of_different_shapes_are_refused():
    with pytest.raises(DataError, match="equal shape"):
        Mixer()(torch.zeros(2, 3, 2, 4, 4), torch.zeros(2, 4, 2, 4, 4), 0.5)
