"""Conventional networks on event frames: frames become channels, [B, T, C, H, W] → [B, T·C, H, W].

They answer like the spiking networks, with one step and an empty state, so that nobody needs to ask.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

from evlift.errors import ConfigError, DataError, EvliftError
from evlift.models import MODELS
from evlift.models.base import HEADS, SpikingOutput, State, checked_size, checked_width
from evlift.models.modes import (
    add_image_statistics,
    drop_image_statistics,
    statistics,
    without_image_statistics,
)


class FrameNet(nn.Module):
    """Base of the conventional networks: merges frames into channels, then `feature_map`, `pooled` and `logits`.

    Example:
        >>> net = create_model("convnet", classes=10, channels=2, steps=6, input_size=34)
        >>> net(torch.rand(8, 6, 2, 34, 34)).logits.shape
        torch.Size([8, 1, 10])

    Args:
        classes: K.
        channels: C of a frame.
        steps: T, the frames of a clip.
        input_size: H = W, or (H, W).

    Subclasses take `separate_bn` beside these: running batch statistics of their own for `head="image"`, scale and
    shift shared; they end their constructor with `add_image_statistics(self)` then.
    """

    smallest: ClassVar[int] = 8
    task: ClassVar[str] = "recognition"

    def __init__(self, classes: int, channels: int, steps: int, input_size: int | Sequence[int]) -> None:
        super().__init__()
        self.classes, self.channels, self.steps = classes, channels, steps
        self.input_size = checked_size(input_size, self)
        self.features = 0  # channels of the feature map, set by subclasses
        self.shared_time = False

    def feature_map(self, x: Tensor) -> Tensor:
        """[B, T·C, H, W] → the last feature map, [B, F, h, w] for convolutional networks."""
        raise NotImplementedError

    def pooled(self, features: Tensor) -> Tensor:
        """Feature map → [B, F']."""
        raise NotImplementedError

    def logits(self, pooled: Tensor) -> Tensor:
        """[B, F'] → [B, K]."""
        raise NotImplementedError

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Feature map → logits [B, K] and pooled features [B, F']."""
        pooled = self.pooled(features)
        return self.logits(pooled), pooled

    def forward(
        self, x: Tensor, *, head: str = "event", state: State | None = None, taps: bool = False
    ) -> SpikingOutput:
        """[B, T, C, H, W] → logits [B, 1, K], for segmentation [B, 1, K, H, W]; T of them with `shared_time`.

        With `taps` the pooled features are the `potential` [B, 1, F'], and the feature map is the `spikes`
        [B, 1, F, h, w], None where the encoder has no such map.
        """
        check_frames(self, x, head)
        with statistics(self, head):
            # [B, T, C, H, W] → [B, T·C, H, W], or [B·T, C, H, W] where every frame is read alone
            features = self.feature_map(x.flatten(0, 1) if self.shared_time else x.flatten(1, 2))
            logits, pooled = self.read(features)
        sizes = (x.shape[0], self.steps if self.shared_time else 1)
        logits = logits.unflatten(0, sizes)  # [B, K] → [B, 1, K], or [B·T, K] → [B, T, K]
        if not taps:
            return SpikingOutput(logits, None, None, [])
        is_map = features.ndim == 4 and features.shape[1] == self.features
        spikes = features.unflatten(0, sizes) if is_map else None
        return SpikingOutput(logits, pooled.unflatten(0, sizes), spikes, [])

    def strip(self) -> FrameNet:
        """A copy without the image statistics, for inference and export."""
        student = copy.deepcopy(self)
        drop_image_statistics(student)
        return student

    def inference_state_dict(self) -> dict[str, Tensor]:
        """Weights and statistics that inference on events needs: those of :meth:`strip`."""
        return without_image_statistics(self.state_dict())

    def event_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that inference uses: all."""
        return self.parameters()


def check_frames(net: Any, x: Tensor, head: str) -> None:
    """Raise ValueError unless x is [B, T, C, H, W] of the network's `steps`, `channels` and `input_size`."""
    wanted = (net.steps, net.channels, *net.input_size)
    if x.ndim != 5 or tuple(x.shape[1:]) != wanted:
        raise ValueError(f"Expected `x` to be [B, {', '.join(map(str, wanted))}], but got {list(x.shape)}.")
    if head not in HEADS:
        raise ValueError(f"Expected `head` to be one of {', '.join(HEADS)}, but got '{head}'.")


@MODELS.register("convnet")
class ConvNet(FrameNet):
    """Three times conv3×3, BN, ReLU with 2×2 max pools between, global average pool, linear (decided here).

    Args:
        width: factor on the channels 32, 64, 128.
        shared_time: read every frame alone by the same weights, T answers whose mean counts; else the frames are
            channels. The order and course of a motion then matter less, which helps where it was simulated.
        classes, channels, steps, input_size, separate_bn: see :class:`FrameNet`.
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        channels: int = 2,
        steps: int = 1,
        input_size: int | Sequence[int] = 48,
        width: float = 1.0,
        shared_time: bool = False,
        separate_bn: bool = False,
    ) -> None:
        super().__init__(classes, channels, steps, input_size)
        self.shared_time = shared_time
        sizes = [
            channels * (1 if shared_time else steps),
            *(max(1, round(c * checked_width(width))) for c in (32, 64, 128)),
        ]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers[:-1])
        self.features = sizes[-1]
        self.classifier = nn.Linear(self.features, classes)
        if separate_bn:
            add_image_statistics(self)

    def feature_map(self, x: Tensor) -> Tensor:
        """See :class:`FrameNet`."""
        return self.body(x)

    def pooled(self, features: Tensor) -> Tensor:
        """See :class:`FrameNet`."""
        return features.mean((2, 3))  # [B, F, h, w] → [B, F]

    def logits(self, pooled: Tensor) -> Tensor:
        """See :class:`FrameNet`."""
        return self.classifier(pooled)


@MODELS.register("timm")
class TimmNet(FrameNet):
    """Any classification network of timm, its stem made for T·C channels.

    Args:
        encoder: timm's name for it; `timm.list_models()` has them all.
        pretrained: start from published weights (needs a network or timm's cache); timm spreads those of the
            stem over the channels.
        classes, channels, steps, input_size, separate_bn: see :class:`FrameNet`.
    """

    short: ClassVar[str] = "encoder"  # what "timm:..." stands for

    def __init__(
        self,
        classes: int = 10,
        *,
        encoder: str = "resnet18",
        channels: int = 2,
        steps: int = 1,
        input_size: int | Sequence[int] = 224,
        pretrained: bool = False,
        separate_bn: bool = False,
    ) -> None:
        super().__init__(classes, channels, steps, input_size)
        with published_weights(f"timm:{encoder}", pretrained):
            self.net = _timm_model(
                encoder, self.input_size, pretrained, in_chans=channels * steps, num_classes=classes
            )
        self.features = self.net.num_features
        # whose head comes with the weights; timm draws another where the number of classes differs
        self.published_classes = self.net.pretrained_cfg.get("num_classes")
        if separate_bn:
            add_image_statistics(self)

    def feature_map(self, x: Tensor) -> Tensor:
        """See :class:`FrameNet`; transformers give tokens [B, N, F]."""
        return self.net.forward_features(x)

    def pooled(self, features: Tensor) -> Tensor:
        """See :class:`FrameNet`."""
        return self.net.forward_head(features, pre_logits=True)

    def logits(self, pooled: Tensor) -> Tensor:
        """See :class:`FrameNet`."""
        return self.net.get_classifier()(pooled)


@contextmanager
def published_weights(name: str, wanted: bool) -> Iterator[None]:
    """Say what to do where published weights are wanted and cannot be had.

    Raises:
        DataError: in place of whatever the library raised.
    """
    try:
        yield
    except EvliftError:
        raise
    except Exception as error:  # libraries, hubs and connections have errors of their own
        if not wanted:
            raise
        raise DataError(
            f"Expected published weights of '{name}', but they could not be had: {error} Connect to a network, fill "
            "the library's cache, or start from random weights (pretrained or teacher_pretrained false)."
        ) from error


def _timm_model(encoder: str, size: tuple[int, int], pretrained: bool, **options: Any) -> Any:
    import timm

    if not timm.is_model(encoder):
        import difflib

        near = (
            ", ".join(difflib.get_close_matches(encoder, timm.list_models(), n=3)) or "see timm.list_models()"
        )
        raise ConfigError(f"Expected `encoder` to be a model of timm, but got '{encoder}'. Close: {near}.")
    try:
        return timm.create_model(encoder, pretrained, img_size=size, **options)
    except TypeError:  # most convolutional networks take any size and refuse the keyword
        return timm.create_model(encoder, pretrained, **options)
