"""Segmentation networks: a class for every pixel, logits [B, T, K, H, W]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evlift.errors import ConfigError
from evlift.models import MODELS
from evlift.models.ann import FrameNet, published_weights
from evlift.models.base import Run, SpikingNet, checked_width
from evlift.models.modes import add_image_statistics
from evlift.models.spiking import ConvBlock

CHANNELS = (16, 32, 64, 128)  # at strides 2, 4, 8, 16; deeper levels stay at the last count
DECODER = 32  # channels of the way up


def padded(x: Tensor, multiple: int) -> Tensor:
    """[..., H, W] with zeros to the right and below, so that H and W are multiples; zero is no event."""
    bottom, right = (-size % multiple for size in x.shape[-2:])
    return functional.pad(x, (0, right, 0, bottom)) if bottom or right else x


def enlarged(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """[B, K, ⌈H/2⌉, ⌈W/2⌉] → [B, K, H, W], between the locations linearly."""
    wide = functional.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return wide[..., : size[0], : size[1]]


def climbed(deep: Tensor | None, lateral: Tensor) -> Tensor:
    """[B, C, ⌈h/2⌉, ⌈w/2⌉], each location doubled, plus [B, C, h, w]."""
    if deep is None:
        return lateral
    wide = functional.interpolate(deep, scale_factor=2.0)  # [B, C, ⌈h/2⌉, ⌈w/2⌉] → [B, C, h or h + 1, ...]
    return lateral + wide[..., : lateral.shape[2], : lateral.shape[3]]


def unet_channels(levels: int, width: float) -> list[int]:
    """Channels of each level of a U-Net, and of its way up."""
    if levels < 2:
        raise ConfigError(f"Expected `levels` to be at least 2, but got {levels}.")
    factor = checked_width(width)
    down = [CHANNELS[min(level, len(CHANNELS) - 1)] for level in range(levels)]
    return [max(1, round(count * factor)) for count in (*down, DECODER)]


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


def conv_norm(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Convolution and batch normalisation."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


@MODELS.register("unet")
class UNet(MapNet):
    """A U-Net from half resolution down whose skips are added on the way up (decided here).

    Sums leave the deep levels a straight way to the head, so that it learns classes sooner than with joined skips.

    Args:
        width: factor on the channels 16, 32, 64, 128 and on the decoder's 32.
        levels: of resolution; the coarsest has stride 2 to the power of `levels`.
        shared_time, classes, channels, steps, input_size, separate_bn: see :class:`~evlift.models.ann.ConvNet`.
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
        shared_time: bool = False,
        separate_bn: bool = False,
    ) -> None:
        super().__init__(classes, channels, steps, input_size)
        self.shared_time = shared_time
        *sizes, self.features = unet_channels(levels, width)
        before = [channels * (1 if shared_time else steps), *sizes]
        self.down = nn.ModuleList(
            nn.Sequential(*conv_norm(a, b, stride=2), nn.ReLU(), *conv_norm(b, b), nn.ReLU())
            for a, b in zip(before, sizes, strict=False)
        )
        self.lateral = nn.ModuleList(nn.Sequential(*conv_norm(a, self.features, 1)) for a in sizes)
        self.fuse = nn.Sequential(nn.ReLU(), *conv_norm(self.features, self.features), nn.ReLU())
        self.head = nn.Conv2d(self.features, classes, 1)
        if separate_bn:
            add_image_statistics(self)

    def feature_map(self, x: Tensor) -> Tensor:
        """[B, T·C, H, W] → [B, F, ⌈H/2⌉, ⌈W/2⌉]."""
        found = []
        for level in self.down:
            x = level(x)
            found.append(x)
        way: Tensor | None = None
        for lateral, skip in zip(reversed(self.lateral), reversed(found), strict=True):
            way = climbed(way, lateral(skip))
        return self.fuse(way)

    def logits(self, pooled: Tensor) -> Tensor:
        """[B, F, h, w] → [B, K, H, W]."""
        return enlarged(self.head(pooled), self.input_size)


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
        with published_weights(f"{encoder} of smp:{arch}", pretrained):
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


class Lateral(nn.Module):
    """1×1 convolution and normalisation: spikes become currents of the way up."""

    def __init__(self, net: SpikingNet, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = net.conv(in_channels, out_channels, 1)
        self.norm = net.norm(out_channels)


@MODELS.register("spiking-unet")
class SpikingUNet(SpikingNet):
    """The layers of :class:`UNet` with LIF neurons (decided here).

    The skips are currents, added up to the level of stride 2, where neurons fire again: behind the first layer, spikes
    alone enter a convolution. The head does not spike: it reads the potentials that the last neurons are left with
    after a step, since a few spikes at half resolution say too little of thin strokes. Its currents are the logits,
    their mean over T the prediction.
    """

    default_size = (64, 64)
    analogue = ("down.0.conv", "heads.event", "heads.image")
    task = "segmentation"

    def build(self) -> int:
        """See :class:`SpikingNet`."""
        *sizes, self.features = unet_channels(len(CHANNELS), self.width)
        self.down = nn.ModuleList()
        for before, after in zip([self.channels, *sizes], sizes, strict=False):
            self.down += [ConvBlock(self, before, after, stride=2), ConvBlock(self, after, after)]
        self.lateral = nn.ModuleList(Lateral(self, count, self.features) for count in sizes)
        self.gather = self.neuron()
        self.fuse = ConvBlock(self, self.features, self.features)
        return self.features

    def classifier(self, flat: int) -> nn.Module:
        """A 1×1 convolution."""
        return nn.Conv2d(flat, self.classes, 1)

    def encode(self, xs: Sequence[Tensor], run: Run) -> None:
        """See :class:`SpikingNet`."""
        found: list[Sequence[Tensor]] = []
        blocks: list[Any] = list(self.down)
        for first, second in zip(blocks[::2], blocks[1::2], strict=True):
            xs = second.run(self, first.run(self, xs, run).spikes, run).spikes
            found.append(xs)
        way: list[Any] = [None] * len(xs)
        lateral: Any
        for lateral, spikes in zip(reversed(self.lateral), reversed(found), strict=True):
            currents = lateral.norm.over_time(self.over_time(lateral.conv, spikes))
            way = [climbed(*pair) for pair in zip(way, currents, strict=True)]
        trace = self.fuse.run(self, run.fire(self.gather, way).spikes, run)
        run.features, run.spikes = trace.potentials, trace.spikes
        run.potentials = [v.mean((2, 3)) for v in trace.potentials]  # [B, F, h, w] → [B, F]

    def read(self, head: nn.Module, features: Sequence[Tensor]) -> Tensor:
        """T tensors of potentials [B, F, h, w] → logits [B, T, K, H, W]."""
        return torch.stack(
            [enlarged(coarse, self.input_size) for coarse in self.over_time(head, features)], 1
        )
