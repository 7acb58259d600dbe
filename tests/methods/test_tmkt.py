"""TMKT: its total, its guidance heads, and which options it refuses."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from toy_pairs import STEPS, build, pairs, student

from evlift.errors import ConfigError
from evlift.losses import linear_cka, tet_loss
from evlift.methods import Progress
from evlift.methods.mixing import Law, Mixed, Mixer, Mixing, Schedule
from evlift.methods.tmkt import Mag, Mrp, Tap

START, MIDDLE = Progress("train", 0, 10), Progress("train", 5, 10)


def test_the_total_is_the_weighted_sum_of_its_definition():
    options = {"r_m": 0.4, "alpha": 0.3, "beta": 0.2, "gamma": 0.6, "tet_lambda": 0.01}
    method, batch = build("tmkt", **options), pairs()
    torch.manual_seed(7)
    output = method.step(batch, START)
    torch.manual_seed(7)
    mixed = Mixer("timestep")(batch.image, batch.events, 0.4)
    m = method.student(mixed.clip, head="image", taps=True)
    e = method.student(batch.events, head="event", taps=True)
    distance = sum(1 - abs(linear_cka(m.potential[:, t], e.potential[:, t])) for t in range(STEPS)) / STEPS
    assert distance > 0
    feature = m.spikes.mean((3, 4))
    odds = torch.sigmoid(feature @ method.mag_head.weight[0] + method.mag_head.bias)
    mag = F.binary_cross_entropy(odds, mixed.modality)
    guess = torch.sigmoid(feature.mean(1) @ method.mrp_head.weight[0] + method.mrp_head.bias)
    mrp = (guess - mixed.ratio).square().mean()
    labels = [tet_loss(x.logits, batch.event_target, 0.01) for x in (m, e)]
    torch.testing.assert_close(output.loss, sum(labels) + 0.3 * distance + 0.2 * mag + 0.6 * mrp)
    torch.testing.assert_close(output.outputs["mixed"], mixed.clip)


def test_defaults_are_the_specification_s():
    method = build("tmkt")
    assert (method.alpha, method.beta, method.gamma, method.tet) == (0.5, 0.1, 0.1, True)
    assert method.schedule(0.3) == 0.5
    assert (method.mag, method.mrp, method.mag_tap, method.mixer) == (
        "normal",
        "mse",
        "spikes",
        Mixer("timestep"),
    )


def gradients(mag: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of the MAG loss on the first convolution and on MAG's head."""
    torch.manual_seed(3)
    method = build("tmkt", mag=mag)
    method.step(pairs(), START).parts["mag"].backward()
    return method.student.blocks[0].conv.weight.grad, method.mag_head.weight.grad


def test_reversed_guidance_turns_the_gradient_of_the_features_alone():
    (body, head), (reversed_body, reversed_head) = gradients("normal"), gradients("reversed")
    assert (body != 0).any()
    torch.testing.assert_close(reversed_body, -body)
    torch.testing.assert_close(reversed_head, head)


@pytest.mark.parametrize("mag", ["normal", "off"])
@pytest.mark.parametrize("mrp", ["mse", "switch-point", "off"])
def test_parts_follow_the_switches(mag, mrp):
    method = build("tmkt", mag=mag, mrp=mrp)
    parts = method.step(pairs(), START).parts
    assert ("mag" in parts) == (mag != "off") == (method.mag_head is not None)
    assert ("mrp" in parts) == (mrp != "off") == (method.mrp_head is not None)


@pytest.mark.parametrize("switch", ["beta", "gamma", "alpha"])
def test_weight_zero_switches_a_part_off(switch):
    method, batch = build("tmkt", **{switch: 0}), pairs()
    parts = method.step(batch, START).parts
    assert ("mag" in parts, "mrp" in parts) == (switch != "beta", switch != "gamma")
    assert (parts["alignment"] == 0) == (switch == "alpha")


@pytest.mark.parametrize(
    ("net", "tap", "width"),
    [
        ("scnn", "spikes", 20),
        ("scnn", "potential", 150),
        ("vgg-snn", "spikes", 256),
        ("vgg-snn", "potential", 256),
        ("resnet18-snn", "spikes", 256),
        ("resnet18-snn", "potential", 256),
    ],
)
def test_heads_fit_the_tap(net, tap, width):
    method = build("tmkt", student(net, width=0.5), mag_tap=tap)
    assert method.mag_head.in_features == method.mrp_head.in_features == width
    method.step(pairs(), START).loss.backward()
    assert (method.mag_head.weight.grad != 0).any()
    assert (method.mrp_head.weight.grad != 0).any()


def test_tapped_potential_is_the_average_over_the_picture():
    method = build("tmkt", mag_tap="potential")
    spikes = torch.rand(2, STEPS, 7, 2, 2)
    torch.testing.assert_close(method.tapped(3 * spikes.flatten(2), spikes), 3 * spikes.mean((3, 4)))


def test_switch_point_is_the_number_of_image_frames():
    method = build("tmkt", mrp="switch-point")
    modality = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    answer = torch.randn(3, STEPS + 1)
    loss = method.ratio_loss(answer, Mixed(torch.empty(0), modality, modality.mean(1)))
    torch.testing.assert_close(loss, F.cross_entropy(answer, torch.tensor([4, 2, 0])))


@pytest.mark.parametrize(("schedule", "middle"), [("constant", 0.8), ("linear", 0.5), ("cubic", 0.275)])
def test_the_ratio_follows_its_schedule(schedule, middle):
    start = None if schedule == "constant" else 0.2
    method = build("tmkt", student("scnn"), r_m=0.8, schedule=schedule, start=start)
    parts = method.step(pairs(count=300), MIDDLE).parts
    assert parts["r_m"] == pytest.approx(middle)
    assert parts["ratio"] == pytest.approx(middle, abs=0.09)


@pytest.mark.parametrize("mixing", get_args(Mixing))
def test_every_mixing_trains(mixing):
    off = {"mag": "off", "mrp": "off"} if mixing == "none" else {}
    method = build("tmkt", mixing=mixing, **off)
    output = method.step(pairs(count=300), START)
    output.loss.backward()
    assert output.parts["ratio"] == pytest.approx(0 if mixing == "none" else 0.5, abs=0.1)
    assert torch.isfinite(method.student.blocks[0].conv.weight.grad).all()


def test_guidance_learns_to_tell_the_modalities_apart():
    method = build("tmkt", alpha=0, beta=1, gamma=1)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    for step in range(40):
        output = method.step(pairs(count=24, seed=step), START)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.parts["mag_accuracy"] > 0.9
    assert output.parts["mrp"] < 0.03  # a constant guess costs var(ρ), about 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r_m": 1.1}, "`r_m` to be in"),
        ({"r_m": 0.5, "law": "renormalised"}, "`r_m` to be at least .* = 0.625"),
        ({"r_m": 0.9, "law": "renormalised", "schedule": "cubic"}, "`start` to be at least .* = 0.625"),
        ({"start": 0.1}, "no `start`"),
        ({"schedule": "linear", "start": -0.1}, "`start` to be in"),
        ({"mag": "off", "beta": 0.1}, "`beta` to be 0 with mag='off'"),
        ({"mrp": "off", "gamma": 0.1}, "`gamma` to be 0 with mrp='off'"),
        ({"mag": "reversed", "beta": 0}, "`beta` above 0 with mag='reversed'"),
        ({"alpha": -0.1}, "weight `alpha`"),
        ({"beta": -0.1}, "weight `beta`"),
        ({"gamma": float("inf")}, "weight `gamma`"),
        ({"mag": "inverted"}, "`mag` to be one of normal, reversed, off"),
        ({"mrp": "mae"}, "`mrp` to be one of"),
        ({"mag_tap": "current"}, "`mag_tap` to be one of"),
        ({"mixing": "none"}, "Without mixing"),
        ({"mixing": "blend", "mrp": "switch-point"}, "use mrp='mse'"),
        ({"mixing": "whole-clip", "patch": 4}, "no `patch`"),
        ({"mixing": "independent", "law": "renormalised", "r_m": 0.9}, "switch times"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build("tmkt", **options)


def test_whole_clips_on_a_cubic_schedule_are_kt_s_sliding_training():
    batch, progress = pairs(), Progress("train", 8, 10)
    torch.manual_seed(1)
    net = student()
    tmkt = build("tmkt", net, mixing="whole-clip", schedule="cubic", r_m=1.0, mag="off", mrp="off")
    kt = build("kt", net, regularised=False)
    losses = []
    for method in (tmkt, kt):
        torch.manual_seed(2)
        losses.append(method.step(batch, progress).loss)
    torch.testing.assert_close(*losses)


def test_every_combination_of_options_trains_or_is_refused():
    net, batch, trained, refused = student("scnn"), pairs(), 0, 0
    names = ("mixing", "law", "schedule", "mag", "mag_tap", "mrp")
    values = (Mixing, Law, Schedule, Mag, Tap, Mrp)
    for chosen in itertools.product(*map(get_args, values)):
        try:
            method = build("tmkt", net, r_m=0.7, start=None, **dict(zip(names, chosen, strict=True)))
        except ConfigError:
            refused += 1
            continue
        assert torch.isfinite(method.step(batch, MIDDLE).loss), chosen
        trained += 1
    assert min(trained, refused) > 100
