"""Generators that craft one modality from the other, the critics they learn against, and a pool of old samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from evlift.errors import ConfigError

OUTPUTS = ("sigmoid", "softplus")
SMALLEST_SCORES = 64


class Generator(nn.Module):
    """Pictures from events or events from pictures, deterministic, at the size of its input.

    Example:
        >>> to_picture = Generator(2, 1)
        >>> to_picture(torch.rand(8, 2, 34, 34)).shape
        torch.Size([8, 1, 34, 34])

    CycleGAN's residual network: a 7×7 convolution, `downs` halvings, `blocks` residual blocks, as many
    doublings and a 7×7 convolution, with instance norm. [B, in_channels, H, W] → [B, out_channels, H, W], any
    H and W: a size that cannot be halved is padded by its last row or column inside.

    Args:
        in_channels: channels of a picture, or T·C of an event sequence.
        out_channels: the same of the other side.
        width: channels at full size, doubled at every halving. CycleGAN has 64; the default trains on a CPU.
        blocks: residual blocks. CycleGAN has 9.
        downs: 1 or 2. CycleGAN has 2; 1 keeps the detail of small pictures.
        output: "sigmoid" for pictures in 0..1, "softplus" for event counts, which start at about 0.1 because
            most pixels see no event.

    Raises:
        ConfigError: an option out of its range, or at the call an input that is not [B, in_channels, H, W].

    Source: EvDistill (published summary: residual generators); layers and initial weights from Zhu et al.,
        CycleGAN, ICCV 2017; default size, padding and outputs decided here.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        blocks: int = 3,
        downs: int = 1,
        output: str = "sigmoid",
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, width=width, blocks=blocks)
        if downs not in (1, 2) or output not in OUTPUTS:
            raise ConfigError(
                f"Expected `downs` to be 1 or 2 and `output` one of {', '.join(OUTPUTS)}, "
                f"but got {downs} and '{output}'."
            )
        self.in_channels, self.multiple, self.output = in_channels, 2**downs, output
        widths = [width * 2**i for i in range(downs + 1)]
        layers = _normed(_same(in_channels, width, 7))
        for narrow, wide in pairwise(widths):
            layers += _normed(nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False))
        layers += [_Residual(widths[-1]) for _ in range(blocks)]
        for wide, narrow in pairwise(widths[::-1]):
            up = nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1, bias=False)
            layers += _normed(up)
        last = _same(width, out_channels, 7, bias=True)
        self.body = nn.Sequential(*layers, last)
        _initialise(self)
        if output == "softplus":
            nn.init.constant_(cast(Tensor, last.bias), -2.0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] → [B, out_channels, H, W]."""
        _check_input(x, self.in_channels)
        height, width = x.shape[-2:]
        # Two cells a side at the narrowest: one alone has no statistics and nothing to reflect.
        bottom, right = (max(-n % self.multiple, 2 * self.multiple - n) for n in (height, width))
        x = F.pad(x, (0, right, 0, bottom), mode="replicate")  # [B, C, H, W] → multiples of 2 or 4
        x = self.body(x)[..., :height, :width]
        return x.sigmoid() if self.output == "sigmoid" else F.softplus(x)


class _Residual(nn.Module):
    """Two 3×3 convolutions beside the identity: [B, C, h, w] → the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normed(_same(width, width, 3)), _same(width, width, 3), nn.InstanceNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PatchCritic(nn.Module):
    """Scores of overlapping patches, unbounded, for least-squares losses: real or crafted?

    Example:
        >>> PatchCritic(1)(torch.rand(8, 1, 28, 28)).shape
        torch.Size([8, 1, 5, 5])

    `layers` 4×4 convolutions of stride 2, one more of stride 1 and a 4×4 head, LeakyReLU 0.2, instance norm
    but on the first. [B, channels, H, W] → [B, 1, h, w]; each score sees 34 pixels a side with 2 layers, 70 with
    3, CycleGAN's number, which suits pictures from about 256 pixels.

    Args:
        channels: channels of a picture, or T·C of an event sequence.
        width: channels after the first convolution, doubled by the next ones up to eightfold. CycleGAN has 64.
        layers: halvings.

    Raises:
        ConfigError: an option below 1, or at the call an input of other channels or below 3·2^layers pixels.

    Source: EvDistill (released code: least-squares patch critics); Zhu et al., CycleGAN, ICCV 2017; default size
        decided here.
    """

    def __init__(self, channels: int, *, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        check_counts(channels=channels, width=width, layers=layers)
        self.channels, self.smallest = channels, 3 * 2**layers
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        body: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i, (narrow, wide) in enumerate(pairwise(widths), start=1):
            conv = nn.Conv2d(narrow, wide, 4, stride=2 if i < layers else 1, padding=1, bias=False)
            body += [conv, nn.InstanceNorm2d(wide), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*body, nn.Conv2d(widths[-1], 1, 4, padding=1))
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] → [B, 1, h, w]."""
        _check_input(x, self.channels, self.smallest)
        return self.body(x)


class ScoreCritic(nn.Module):
    """Score of a map of class probabilities, for distribution matching in output space with a WGAN-GP.

    Example:
        >>> ScoreCritic(11)(torch.rand(2, 11, 48, 64).softmax(dim=1)).shape
        torch.Size([2])

    Four 4×4 spectral-norm convolutions of stride 2, LeakyReLU 0.1, self-attention after the third and fourth,
    a 4×4 head. Maps smaller than 64 pixels a side are enlarged, keeping their aspect. [B, K, H, W] → [B], the mean over
    the head's positions. The estimate of the spectral norm moves at every call in training mode; its vectors are
    part of the `state_dict`.

    Args:
        classes: K.
        width: channels after the first convolution; 64 gives 64, 128, 256, 512.

    Raises:
        ConfigError: an option below 1, or at the call an input that is not [B, K, H, W].

    Source: EvDistill (the public code that its configuration matches, Structured Knowledge Distillation); the mean
        over positions decided here.
    """

    def __init__(self, classes: int, *, width: int = 64) -> None:
        super().__init__()
        check_counts(classes=classes, width=width)
        self.classes = classes
        layers: list[nn.Module] = []
        for i, (narrow, wide) in enumerate(pairwise([classes, *(width * 2**i for i in range(4))])):
            conv = nn.Conv2d(narrow, wide, 4, stride=2, padding=1)
            layers += [spectral_norm(conv), nn.LeakyReLU(0.1)]
            layers += [_SelfAttention(wide)] if i >= 2 else []
        self.body = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4))

    def forward(self, scores: Tensor) -> Tensor:
        """[B, K, H, W] → [B]."""
        _check_input(scores, self.classes)
        height, width = scores.shape[-2:]
        factor = SMALLEST_SCORES / min(height, width)
        if factor > 1:
            size = (round(height * factor), round(width * factor))
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return self.body(scores).mean(dim=(1, 2, 3))  # [B, K, H, W] → [B, 1, h, w] → [B]


class _SelfAttention(nn.Module):
    """Every location looks at all others: [B, C, h, w] → the same shape; the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query, self.key = (nn.Conv2d(channels, inner, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        # Written out: the fused attention kernels cannot be differentiated twice, as a gradient penalty must.
        query, key, value = (conv(x).flatten(2) for conv in (self.query, self.key, self.value))  # [B, c, h·w]
        attention = (query.mT @ key).softmax(dim=-1)  # [B, h·w, h·w]
        return x + self.gain * (value @ attention.mT).view_as(x)


class VectorCritic(nn.Module):
    """Score of a feature vector or a class distribution, for distribution matching in recognition.

    Example:
        >>> VectorCritic(10)(torch.rand(8, 10)).shape
        torch.Size([8])

    Three linear layers with LeakyReLU 0.2: [B, features] → [B], unbounded.

    Args:
        features: length of the vector.
        width: hidden units.

    Raises:
        ConfigError: an option below 1, or at the call an input that is not [B, features].

    Source: decided here.
    """

    def __init__(self, features: int, *, width: int = 64) -> None:
        super().__init__()
        check_counts(features=features, width=width)
        self.features = features
        hidden = [nn.Linear(features, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*hidden, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, features] → [B]."""
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ConfigError(
                f"Expected the input to be [B, {self.features}], but got {list(x.shape)}. Pool feature maps first."
            )
        return self.body(x).squeeze(1)  # [B, F] → [B, 1] → [B]


class FakePool(nn.Module):
    """Crafted samples of earlier steps, so that a critic does not forget what it has already refuted.

    Example:
        >>> pool = FakePool(size=50, shape=(1, 28, 28))
        >>> pool.exchange(torch.rand(8, 1, 28, 28)).shape
        torch.Size([8, 1, 28, 28])

    Until the pool is full, samples go in and come back. Then each one stays with probability ½ and an old
    one comes back in its place. The content is in buffers: saved with the `state_dict` (4 bytes a value), it
    resumes exactly.

    Args:
        shape: of one sample, without the batch axis.
        size: samples kept; 0 hands everything back.

    Raises:
        ConfigError: a negative size, or at an exchange samples of another shape.

    Source: EvDistill (the public code that its configuration matches, CycleGAN); Shrivastava et al., CVPR 2017.
    """

    kept: Tensor
    filled: Tensor

    def __init__(self, shape: Sequence[int], size: int = 50) -> None:
        super().__init__()
        if size < 0:
            raise ConfigError(f"Expected `size` not to be negative, but got {size}.")
        self.register_buffer("kept", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, fakes: Tensor) -> Tensor:
        """Crafted samples [B, ...] in, as many old or new ones [B, ...] out, detached.

        Draws from PyTorch's global generator on the CPU, as often whether the pool is full or not.
        """
        size, shape = len(self.kept), self.kept.shape[1:]
        if fakes.shape[1:] != shape:
            raise ConfigError(
                f"Expected `fakes` to be [B, {', '.join(map(str, shape))}], but got {list(fakes.shape)}."
            )
        if size == 0:
            return fakes.detach()
        stays, places = torch.rand(len(fakes)) < 0.5, torch.randint(size, (len(fakes),))
        result, filled = fakes.detach().clone(), int(self.filled)
        for i, (stay, place) in enumerate(zip(stays.tolist(), places.tolist(), strict=True)):
            if filled < size:
                self.kept[filled] = result[i]
                filled += 1
            elif stay:
                new = result[i].clone()
                result[i] = self.kept[place]
                self.kept[place] = new
        self.filled.fill_(filled)
        return result


def _same(narrow: int, wide: int, kernel: int, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps the size and reflects the picture at its edges."""
    return nn.Conv2d(narrow, wide, kernel, padding=kernel // 2, padding_mode="reflect", bias=bias)


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(conv.out_channels), nn.ReLU(inplace=True)]


def _initialise(net: nn.Module) -> None:
    """CycleGAN's initial weights."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_counts(**counts: int) -> None:
    """Raise ConfigError unless every number is at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"Expected `{name}` to be at least 1, but got {count}. Give a larger one.")


def _check_input(x: Tensor, channels: int, smallest: int = 1) -> None:
    if x.ndim != 4 or x.shape[1] != channels or min(x.shape[-2:]) < smallest:
        raise ConfigError(
            f"Expected the input to be [B, {channels}, H, W] with H and W of at least {smallest}, but got "
            f"{list(x.shape)}. Fold time into the channels, and take fewer `layers` for small pictures."
        )
