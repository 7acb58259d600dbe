"""Segmentation networks: geometry, readout, learning, segmentation_models_pytorch by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evlift.errors import ConfigError
from evlift.models import check_task, create_model
from evlift.models.segmentation import climbed, enlarged, padded

CLIP = (2, 3, 2, 37, 50)  # [B, T, C, H, W]


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return create_model(name, **({"classes": 4, "input_size": CLIP[3:], "width": 0.25} | options))


def squares(count: int = 8, steps: int = 2) -> tuple[Tensor, Tensor]:
    """Clips [B, T, 2, 24, 24] with a square of either polarity on noise, and their masks [B, 24, 24]."""
    generator = torch.Generator().manual_seed(3)
    x = 0.2 * torch.rand(count, steps, 2, 24, 24, generator=generator)
    mask = torch.zeros(count, 24, 24, dtype=torch.long)
    for row in range(count):
        kind, top, left = row % 2, *torch.randint(0, 12, (2,), generator=generator).tolist()
        x[row, :, kind, top : top + 10, left : left + 10] += 2
        mask[row, top : top + 10, left : left + 10] = 1 + kind
    return x, mask


@pytest.mark.parametrize("size", [(8, 8), (37, 50), (1, 2), (16, 24)])
def test_padding_adds_zeros_right_and_below(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    wide = padded(x, 8)
    assert all(n % 8 == 0 and 0 <= n - size[i] < 8 for i, n in enumerate(wide.shape[2:]))
    assert torch.equal(wide[..., : size[0], : size[1]], x)
    assert wide.sum() == pytest.approx(float(x.sum()), rel=1e-5)


@pytest.mark.parametrize("size", [(5, 7), (6, 8), (9, 4)])
def test_enlarging_keeps_planes(size: tuple[int, int]) -> None:
    rows, columns = (torch.arange((n + 1) // 2) for n in size)
    plane = (3.0 * rows[:, None] - columns[None, :] + 1).view(1, 1, len(rows), len(columns))
    whole = enlarged(plane, size)
    assert whole.shape == (1, 1, *size)
    row, column = (((torch.arange(n) + 0.5) / 2 - 0.5).clamp(0, (n + 1) // 2 - 1) for n in size)
    torch.testing.assert_close(whole[0, 0], 3 * row[:, None] - column[None, :] + 1)


@pytest.mark.parametrize("size", [(5, 7), (6, 8), (9, 4)])
def test_climbing_adds_a_location_to_the_four_that_it_came_from(size: tuple[int, int]) -> None:
    lateral = torch.rand(1, 3, *size)
    deep = torch.rand(1, 3, (size[0] + 1) // 2, (size[1] + 1) // 2)
    both = climbed(deep, lateral)
    for row in range(size[0]):
        for column in range(size[1]):
            wanted = lateral[0, :, row, column] + deep[0, :, row // 2, column // 2]
            assert torch.equal(both[0, :, row, column], wanted)
    assert climbed(None, lateral) is lateral


@pytest.mark.parametrize("name", ["unet", "spiking-unet"])
def test_the_feature_map_is_at_stride_two(name: str) -> None:
    net = build(name, **({"steps": 3} if name == "unet" else {}))
    out = net(torch.rand(CLIP), taps=True)
    assert out.spikes.shape[2:] == (net.features, 19, 25)
    assert out.potential.shape == (*out.spikes.shape[:2], net.features)


def test_frames_read_alone_are_so_many_pictures() -> None:
    net = build("unet", steps=3, shared_time=True).eval()
    alone = build("unet").eval()
    x = torch.rand(CLIP)
    out = net(x, taps=True)
    assert out.logits.shape == (2, 3, 4, 37, 50)
    assert out.spikes.shape[:3] == (2, 3, net.features)
    for t in range(3):
        torch.testing.assert_close(out.logits[:, t], alone(x[:, t : t + 1]).logits[:, 0])


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_levels_set_the_coarsest_stride(levels: int) -> None:
    net = build("unet", levels=levels, steps=3)
    sizes = []
    for level in net.down:
        level.register_forward_hook(lambda m, i, o: sizes.append(tuple(o.shape[2:])))
    net(torch.rand(CLIP))
    assert sizes == [(-(-37 // 2**n), -(-50 // 2**n)) for n in range(1, levels + 1)]
    with pytest.raises(ConfigError, match="`levels` to be at least 2, but got 1"):
        build("unet", levels=1)


@pytest.mark.parametrize("name", ["unet", "spiking-unet"])
def test_a_square_is_found(name: str) -> None:
    x, mask = squares()
    net = build(name, classes=3, input_size=24, width=0.5, **({"steps": 2} if name == "unet" else {}))
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(40):
        loss = functional.cross_entropy(net(x).logits.mean(1), mask)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = net(x).logits.mean(1).argmax(1)
    assert float((found == mask).float().mean()) > 0.95


def test_spiking_logits_are_the_head_on_potentials() -> None:
    net = build("spiking-unet", neuron="if", threshold=0.1).eval()
    x = torch.rand(CLIP)
    out = net(x, taps=True)
    assert set(out.spikes.unique().tolist()) == {0.0, 1.0}
    for t in range(3):
        potential = net(x[:, : t + 1]).state[-1]  # of the last neurons, after as many steps
        torch.testing.assert_close(out.logits[:, t], enlarged(net.heads["event"](potential), (37, 50)))


def test_spiking_halves_are_the_whole_and_routes_agree() -> None:
    options: dict[str, Any] = {"threshold": 0.1}
    net = build("spiking-unet", **options)
    x = 3 * torch.rand(CLIP)
    for _ in range(3):
        net(x)
    net.eval()
    whole, first = net(x), net(x[:, :1])
    second = net(x[:, 1:], state=first.state)
    torch.testing.assert_close(torch.cat((first.logits, second.logits), 1), whole.logits)
    assert not torch.allclose(net(x[:, 1:]).logits, second.logits)
    assert len(whole.state) == net.layers == 10
    for other in (
        build("spiking-unet", memory="normal", **options),
        build("spiking-unet", merge_time=True, **options),
    ):
        other.load_state_dict(net.state_dict())
        torch.testing.assert_close(other.eval()(x).logits, whole.logits)


@pytest.mark.parametrize("arch", ["deeplabv3plus", "unet", "fpn", "linknet", "upernet", "segformer"])
def test_smp_logits_are_its_own_on_padded_input(arch: str) -> None:
    net: Any = create_model(f"smp:{arch}", classes=4, steps=3, input_size=CLIP[3:]).eval()
    x = torch.rand(CLIP)
    below = 11 if arch == "deeplabv3plus" else 27
    wide = functional.pad(x.flatten(1, 2), (0, 14, 0, below))  # 37×50 → 48×64 at stride 16, 64×64 at 32
    with torch.no_grad():
        out = net(x, taps=True)
        torch.testing.assert_close(out.logits[:, 0], net.net(wide)[..., :37, :50])
    assert out.spikes.shape[2] == net.features
    assert out.spikes.shape[3] >= wide.shape[2] / 4
    assert next(m for m in net.net.modules() if isinstance(m, nn.Conv2d)).in_channels == 6


def test_smp_options_reach_the_architecture() -> None:
    options: dict[str, Any] = {"classes": 6, "channels": 3, "encoder": "resnet101", "output_stride": 16}
    dense = create_model("smp", **options, options={"decoder_aspp_separable": False})
    assert (
        sum(p.numel() for p in dense.parameters()) == 58_198_614
    )  # the library's, the paper's has 59.3 million
    assert dense.net.encoder.output_stride == 16  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "deeplab"}, r"Expected `arch` .*'deeplab'. Close: deeplabv3"),
        ({"arch": "fpn", "output_stride": 8}, "Expected no `output_stride`, because 'fpn'"),
        ({"encoder": "resnet19"}, "cannot build 'deeplabv3plus' with the encoder 'resnet19'"),
        ({"output_stride": 12}, "cannot build"),
    ],
)
def test_what_smp_does_not_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("smp", **options)


def test_short_forms_are_those_of_two_libraries() -> None:
    with pytest.raises(ConfigError, match="no colon after 'unet'"):
        create_model("unet:resnet18")


def test_a_network_for_another_task_is_refused() -> None:
    check_task(build("unet"), "segmentation")
    check_task(create_model("scnn"), "recognition")
    with pytest.raises(
        ConfigError, match=r"Expected a network for segmentation, .*SCNN for recognition. Use one .*unet"
    ):
        check_task(create_model("scnn"), "segmentation")
