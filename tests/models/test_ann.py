"""Conventional networks: frames as channels, timm's encoders by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evlift.errors import ConfigError, DataError
from evlift.models import create_model


def test_convnet_is_its_layers_in_order() -> None:
    net: Any = create_model("convnet", classes=3, steps=2, input_size=16).eval()
    x = torch.rand(2, 2, 2, 16, 16)
    frames = torch.cat((x[:, 0], x[:, 1]), 1)  # channels of step 0, then of step 1
    wanted = net.classifier(net.body(frames).mean((2, 3)))
    assert torch.equal(net(x).logits[:, 0], wanted)


def test_convnet_learns() -> None:
    torch.manual_seed(0)
    net = create_model("convnet", classes=2, steps=2, input_size=8, width=0.25)
    x = torch.rand(16, 2, 2, 8, 8)
    target = torch.arange(16) % 2
    x[target == 1, :, 1] += 1
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(net(x).logits.mean(1), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 3


def test_timm_by_short_name_equals_the_long_one() -> None:
    options: dict[str, Any] = {"classes": 4, "steps": 3, "input_size": 32}
    torch.manual_seed(0)
    short = create_model("timm:resnet18", **options)
    torch.manual_seed(0)
    long = create_model("timm", encoder="resnet18", **options)
    x = torch.rand(2, 3, 2, 32, 32)
    assert torch.equal(short.eval()(x).logits, long.eval()(x).logits)


def test_timm_logits_are_timms_own() -> None:
    net: Any = create_model("timm:mobilenetv3_small_050", classes=4, steps=3, input_size=32).eval()
    x = torch.rand(2, 3, 2, 32, 32)
    torch.testing.assert_close(net(x).logits[:, 0], net.net(x.flatten(1, 2)))
    assert next(m for m in net.net.modules() if isinstance(m, torch.nn.Conv2d)).in_channels == 6


def test_transformers_have_no_feature_map() -> None:
    net: Any = create_model("timm:vit_tiny_patch16_224", steps=1, input_size=32).eval()
    out = net(torch.rand(1, 1, 2, 32, 32), taps=True)
    assert out.spikes is None
    assert out.potential.shape == (1, 1, 192)


def test_unknown_encoder_gets_close_names() -> None:
    with pytest.raises(ConfigError, match=r"Expected `encoder` .*'resnet19'. Close: resnet18"):
        create_model("timm:resnet19")


def test_import_is_cheap() -> None:
    import subprocess
    import sys

    code = "import sys, evlift.models; print('torch' in sys.modules or 'timm' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_published_weights_that_cannot_be_had_are_named_with_the_remedy(monkeypatch: Any) -> None:
    import timm

    def offline(*given: Any, **options: Any) -> None:
        raise OSError("no network.")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(DataError, match=r"'timm:resnet18'.*no network\. .*random weights"):
        create_model("timm:resnet18", input_size=32, pretrained=True)
    with pytest.raises(OSError, match=r"^no network\.$"):
        create_model("timm:resnet18", input_size=32)
