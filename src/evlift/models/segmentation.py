"""Segmentation networks: a class for every pixel, logits [B, T, K, H, W]."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evlift.errors import ConfigError
from evlift.models import MODELS
from evlift.models.ann import FrameNet
from evlift.models.base import Run, SpikingNet, checked_width
from evlift.models.modes import add_image_statistics
from evlift.models.spiking import ConvBlock

CHANNELS = (16, 32, 64, 128)  # at strides 2, 4, 8, 16; deeper levels stay at the last count


def padded(x: Tensor, multiple: int) -> Tensor:
    """[..., H, W] with zeros to the right and below, so that H and W are multiples; zero is no event."""
    bottom, right = (-size % multiple for size in x.shape[-2:])
    return functional.pad(x, (0, right, 0, bottom)) if bottom or right else x


def fine(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """[B, 4·K, h, w] → [B, K, H, W], four pixels a location, cropped to `size`."""
    return functional.pixel_shuffle(coarse, 2)[..., : size[0], : size[1]]


def joined(deep: Tensor, skip: Tensor) -> Tensor:
    """[B, C, ⌈h/2⌉, ⌈w/2⌉], each location doubled, and [B, D, h, w] → [B, C + D, h, w]; spikes stay spikes."""
    wide = functional.interpolate(deep, scale_factor=2.0)  # [B, C, ⌈h/2⌉, ⌈w/2⌉] → [B, C, h or h + 1, ...]
    return torch.cat((wide[..., : skip.shape[2], : skip.shape[3]], skip), 1)


def unet_channels(levels: int, width: float) -> list[int]:
    """Channels of each level of a U-Net."""
    if levels < 2:
        raise ConfigError(f"Expected `levels` to be at least 2, but got {levels}.")
    factor = checked_width(width)
    return [max(1, round(CHANNELS[min(level, len(CHANNELS) - 1)] * factor)) for level in range(levels)]


class MapNet(FrameNet):
    """Base of the conventional segmentation networks: `feature_map` and, from it, `logits` [B, K, H, W].

    Args:
        classes, channels, steps, input_size: see :class:`FrameNet`.

    With `taps` the `spikes` are the last feature map before the head [B, 1, F, h, w], and the `potential` its mean
    over the picture [B, 1, F].
    """

    task: ClassVar[str] = "segmentation"
    smallest: ClassVar[int] = 16

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Feature map [B, F, h, w] → logits [B, K, H, W] and pooled features [B, F]."""
        return self.logits(features), features.mean((2, 3))


class Level(nn.Sequential):
    """Two times conv3×3, BN, ReLU; the first with a stride or with more inputs."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, depth: int = 2) -> None:
        layers: list[nn.Module] = []
        for index in range(depth):
            before, step = (in_channels, stride) if index == 0 else (out_channels, 1)
            conv = nn.Conv2d(before, out_channels, 3, stride=step, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]
        super().__init__(*layers)


@MODELS.register("unet")
class UNet(MapNet):
    """A U-Net from half resolution down, whose head answers for the four pixels of a location (decided here).

    Args:
        width: factor on the channels 16, 32, 64, 128.
        levels: of resolution; the coarsest has stride 2 to the power of `levels`.
        classes, channels, steps, input_size, separate_bn: see :class:`FrameNet`.
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        channels: int = 2,
        steps: int = 1,
        input_size: int | Sequence[int] = 64,
        width: float = 1.0,
        levels: int = 4,
        separate_bn: bool = False,
    ) -> None:
        super().__init__(classes, channels, steps, input_size)
        sizes = unet_channels(levels, width)
        before = [channels * steps, *sizes]
        self.down = nn.ModuleList(Level(a, b, stride=2) for a, b in zip(before, sizes, strict=False))
        self.up = nn.ModuleList(Level(deep + skip, skip, depth=1) for skip, deep in itertools.pairwise(sizes))
        self.features = sizes[0]
        self.head = nn.Conv2d(self.features, 4 * classes, 1)
        if separate_bn:
            add_image_statistics(self)

    def feature_map(self, x: Tensor) -> Tensor:
        """[B, T·C, H, W] → [B, F, ⌈H/2⌉, ⌈W/2⌉]."""
        skips: list[Tensor] = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        x = skips.pop()
        for level in reversed(self.up):
            x = level(joined(x, skips.pop()))
        return x

    def logits(self, pooled: Tensor) -> Tensor:
        """[B, F, h, w] → [B, K, H, W]."""
        return fine(self.head(pooled), self.input_size)


@MODELS.register("smp")
class SmpNet(MapNet):
    """Any network of segmentation_models_pytorch, its stem made for T·C channels; sizes are padded inside.

    Most decoders end at stride 4 or finer; those of `deeplabv3` and `pspnet` at 8.

    Args:
        arch: the library's name for the decoder.
        encoder: its name for the encoder; "tu-" and a name of timm is one too.
        pretrained: start the encoder from ImageNet weights (needs a network or the library's cache), those of the
            stem spread over the channels.
        output_stride: of the encoder, 8 or 16, where the architecture has that option; None takes its default.
        options: further keywords of the architecture, such as `{"decoder_aspp_separable": False}`, which makes
            DeepLabV3+ with ResNet-101 one of 58.2 million parameters; the paper's has 59.3.
        classes, channels, steps, input_size, separate_bn: see :class:`FrameNet`.
    """

    short: ClassVar[str] = "arch"  # what "smp:..." stands for

    def __init__(
        self,
        classes: int = 10,
        *,
        arch: str = "deeplabv3plus",
        encoder: str = "resnet18",
        channels: int = 2,
        steps: int = 1,
        input_size: int | Sequence[int] = 64,
        pretrained: bool = False,
        output_stride: int | None = None,
        options: Mapping[str, Any] | None = None,
        separate_bn: bool = False,
    ) -> None:
        super().__init__(classes, channels, steps, input_size)
        extra = dict(options or {})
        if output_stride is not None:
            extra["encoder_output_stride"] = output_stride
        self.net = _smp_model(
            arch,
            encoder,
            "imagenet" if pretrained else None,
            in_channels=channels * steps,
            classes=classes,
            **extra,
        )
        self.features = self.net.segmentation_head[0].in_channels
        if separate_bn:
            add_image_statistics(self)

    def feature_map(self, x: Tensor) -> Tensor:
        """See :class:`MapNet`."""
        encoded = self.net.encoder(padded(x, self.net.encoder.output_stride))
        return self.net.decoder(*encoded) if isinstance(encoded, tuple) else self.net.decoder(encoded)

    def logits(self, pooled: Tensor) -> Tensor:
        """[B, F, h, w] → [B, K, H, W]."""
        height, width = self.input_size
        return self.net.segmentation_head(pooled)[..., :height, :width]


def _smp_model(arch: str, encoder: str, weights: str | None, **options: Any) -> Any:
    import difflib
    import inspect

    import segmentation_models_pytorch as smp

    known = smp.MODEL_ARCHITECTURES_MAPPING
    if arch not in known:
        near = ", ".join(difflib.get_close_matches(arch, known, n=3)) or ", ".join(known)
        raise ConfigError(
            f"Expected `arch` to be one of segmentation_models_pytorch, but got '{arch}'. Close: {near}."
        )
    if (
        "encoder_output_stride" in options
        and "encoder_output_stride" not in inspect.signature(known[arch]).parameters
    ):
        raise ConfigError(f"Expected no `output_stride`, because '{arch}' has no such option.")
    try:
        return smp.create_model(arch, encoder, weights, **options)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"segmentation_models_pytorch cannot build '{arch}' with the encoder '{encoder}': {error}"
        ) from error


@MODELS.register("spiking-unet")
class SpikingUNet(SpikingNet):
    """The layers of :class:`UNet` with LIF neurons (decided here).

    Skips join spikes with spikes. The head does not spike: its currents are the logits, and their mean over T the
    prediction.
    """

    default_size = (64, 64)
    analogue = ("down.0.conv",)
    task = "segmentation"

    def build(self) -> int:
        """See :class:`SpikingNet`."""
        sizes = [self.scaled(count) for count in CHANNELS]
        self.down = nn.ModuleList()
        for before, after in zip([self.channels, *sizes], sizes, strict=False):
            self.down += [ConvBlock(self, before, after, stride=2), ConvBlock(self, after, after)]
        self.up = nn.ModuleList(
            ConvBlock(self, deep + skip, skip) for skip, deep in itertools.pairwise(sizes)
        )
        self.features = sizes[0]
        return sizes[0]

    def classifier(self, flat: int) -> nn.Module:
        """A head for the four pixels of a location."""
        return nn.Conv2d(flat, 4 * self.classes, 1)

    def encode(self, xs: Sequence[Tensor], run: Run) -> None:
        """See :class:`SpikingNet`."""
        skips: list[Sequence[Tensor]] = []
        blocks: list[Any] = list(self.down)
        for first, second in zip(blocks[::2], blocks[1::2], strict=True):
            xs = second.run(self, first.run(self, xs, run).spikes, run).spikes
            skips.append(xs)
        xs = skips.pop()
        block: Any
        for block in reversed(self.up):
            trace = block.run(self, [joined(*pair) for pair in zip(xs, skips.pop(), strict=True)], run)
            xs = trace.spikes
        run.features = run.spikes = trace.spikes
        run.potentials = [v.mean((2, 3)) for v in trace.potentials]  # [B, F, h, w] → [B, F]

    def read(self, head: nn.Module, features: Sequence[Tensor]) -> Tensor:
        """T tensors of spikes [B, F, h, w] → logits [B, T, K, H, W]."""
        return torch.stack([fine(coarse, self.input_size) for coarse in self.over_time(head, features)], 1)
