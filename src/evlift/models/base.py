"""What all spiking networks share: output, state, normalisation over time, heads, sequences [B, T, C, H, W].

Inside, a sequence is a list of T tensors [B, C, H, W]: indexing one big tensor in a loop would make its
backward write a zero sequence for every step.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from evlift.errors import ConfigError
from evlift.models.modes import (
    add_image_statistics,
    drop_image_statistics,
    statistics,
    without_image_statistics,
)
from evlift.models.neurons import Dynamics, Neuron, Trace

State = list[Tensor]
HEADS = ("event", "image")


class SpikingOutput(NamedTuple):
    """What a network returns.

    Args:
        logits: [B, T, K], for segmentation [B, T, K, H, W]; the prediction is their mean over T.
        potential: [B, T, F], for alignment: potential after the reset of the last conv LIF (VGG-SNN) or
            of the FC LIF (SCNN), or the pooled BN output (ResNet), flattened; a segmentation network's is the mean
            over the picture; None unless `taps=True`.
        spikes: [B, T, C, h, w], spikes of the last spiking conv block, the last feature map before the head of a
            conventional network; None unless `taps=True`.
        state: one potential [B, ...] a neuron layer after the last step, to be passed back as `state=`;
            it carries gradients, so detach it to cut back-propagation through time.
    """

    logits: Tensor
    potential: Tensor | None
    spikes: Tensor | None
    state: State


@dataclass
class Run:
    """One forward pass: given states in layer order, and what the neuron layers left."""

    given: list[Tensor | None]
    left: State = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    potentials: list[Tensor] = field(default_factory=list)
    spikes: list[Tensor] = field(default_factory=list)

    def fire(self, neuron: Neuron, xs: Any) -> Trace:
        """Run the next neuron layer on T currents from its own state."""
        trace = neuron(xs, self.given[len(self.left)])
        self.left.append(trace.potentials[-1])
        return trace


class StepNorm(nn.BatchNorm2d):
    """BatchNorm2d over a sequence: statistics per step, or merged over time and batch.

    Args:
        channels: C.
        mode: "step" normalises every step by its own batch statistics (the papers' code), "merged" all
            together.
    """

    def __init__(self, channels: int, mode: str = "step") -> None:
        super().__init__(channels)
        check_norm(mode)
        self.mode = mode

    def over_time(self, xs: Iterator[Tensor] | Sequence[Tensor]) -> Iterator[Tensor]:
        """T tensors [B, C, h, w] → T tensors of the same shapes, lazily in mode "step"."""
        if self.mode == "step" or not self.training:
            for x in xs:
                yield self(x)
            return
        steps = list(xs)
        yield from self(torch.cat(steps)).chunk(
            len(steps)
        )  # T × [B, C, h, w] → [T·B, C, h, w] → T × [B, C, h, w]


class SpikingNet(nn.Module, ABC):
    """Base of the spiking networks: input check, state, heads.

    Class attributes:
        default_size: input size (H, W) in the papers.
        smallest: smallest H and W that leave a feature map.
        analogue: names of the layers whose input is not spikes; they cost multiplications.
        two_heads: the network has an image head beside the event head.
        task: "recognition", a class a clip, or "segmentation", a class a pixel.
        keeps_state: a clip may go on from the state that the clip before it left.

    Example:
        >>> net = create_model("vgg-snn", classes=10, width=0.25, input_size=34)
        >>> out = net(torch.rand(8, 10, 2, 34, 34))
        >>> out.logits.mean(1).argmax(-1)                     # prediction [B]
        >>> more = net(torch.rand(8, 10, 2, 34, 34), state=out.state)

    Args:
        classes: K.
        width: factor on all channel counts.
        input_size: H = W, or (H, W); None is the papers' size.
        channels: input channels, 2 polarities by default.
        neuron: "lif", "plif" or "if".
        tau, threshold, reset, surrogate, detach_reset, memory: see :mod:`evlift.models.neurons`.
        bn: batch statistics per "step" or "merged" over time (SCNN has no normalisation).
        separate_bn: running statistics of their own for the image head.
        image_head: False builds the event-only network, which equals :meth:`strip` of the full one; its event
            head answers for the image head too.
        merge_time: run convolutions once on [T·B, C, H, W] instead of step by step; same results.
    """

    default_size: ClassVar[tuple[int, int]] = (48, 48)
    smallest: ClassVar[int] = 16
    analogue: ClassVar[tuple[str, ...]] = ()
    two_heads: ClassVar[bool] = True
    task: ClassVar[str] = "recognition"
    keeps_state: ClassVar[bool] = True

    def __init__(
        self,
        classes: int = 10,
        *,
        width: float = 1.0,
        input_size: int | Sequence[int] | None = None,
        channels: int = 2,
        neuron: str = "lif",
        tau: float = 2.0,
        threshold: float = 0.5,
        reset: str = "hard",
        surrogate: str = "triangular",
        detach_reset: bool = True,
        memory: str = "low",
        bn: str = "step",
        separate_bn: bool = False,
        image_head: bool = True,
        merge_time: bool = False,
    ) -> None:
        super().__init__()
        self.classes, self.width, self.channels = classes, checked_width(width), channels
        check_norm(bn)
        self.merge_time = merge_time
        self.input_size = checked_size(self.default_size if input_size is None else input_size, self)
        law = Dynamics(threshold, reset, surrogate, detach_reset)
        self._neuron_options = (neuron, tau, law, memory)
        self._norm_mode = bn
        self.features: int = 0  # channels of SpikingOutput.spikes; set by build
        flat = self.build()
        names = HEADS if self.two_heads and image_head else HEADS[:1]
        self.heads = nn.ModuleDict({name: self.classifier(flat) for name in names})
        self.initialise()
        if bn != "step" or separate_bn:
            self._need_statistics(bn, separate_bn)
        if separate_bn:
            add_image_statistics(self)
        self.to(memory_format=torch.channels_last)  # pools take a third of the time, convolutions 10 % less

    def _need_statistics(self, bn: str, separate_bn: bool) -> None:
        """Refuse options of batch statistics where there are none."""
        if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules()):
            raise ConfigError(
                f"Expected bn='step' and separate_bn=False for {type(self).__name__}, which normalises no "
                f"batches, but got '{bn}' and {separate_bn}. Leave them out."
            )

    @abstractmethod
    def build(self) -> int:
        """Make the layers; returns the number of features the heads see."""

    def initialise(self) -> None:
        """Draw the first weights; PyTorch's own unless a network's source has others."""

    @abstractmethod
    def encode(self, xs: Sequence[Tensor], run: Run) -> None:
        """T tensors [B, C, H, W] → features, potentials and spikes, left in `run`."""

    def classifier(self, flat: int) -> nn.Module:
        """A head for `flat` features."""
        return nn.Linear(flat, self.classes)

    def read(self, head: nn.Module, features: Sequence[Tensor]) -> Tensor:
        """T tensors of features [B, F] → logits [B, T, K]."""
        return head(torch.stack(list(features), 1))  # T × [B, F] → [B, T, F] → [B, T, K]

    def forward(
        self, x: Tensor, *, head: str = "event", state: State | None = None, taps: bool = False
    ) -> SpikingOutput:
        """[B, T, C, H, W] → :class:`SpikingOutput`; where there is one head, it answers to both names."""
        self._check(x, head, state)
        run = Run(list(state) if state is not None else [None] * self.layers)
        with statistics(self, head):
            self.encode(x.unbind(1), run)
        logits = self.read(self.heads[head if head in self.heads else "event"], run.features)
        potential = torch.stack([v.flatten(1) for v in run.potentials], 1) if taps else None
        spikes = torch.stack(run.spikes, 1) if taps else None
        return SpikingOutput(logits, potential, spikes, run.left)

    @property
    def layers(self) -> int:
        """Number of neuron layers, the length of a state."""
        return sum(isinstance(module, Neuron) for module in self.modules())

    def strip(self) -> SpikingNet:
        """A copy with the event head alone, for inference and export."""
        student = copy.deepcopy(self)
        if "image" in student.heads:
            del student.heads["image"]
        drop_image_statistics(student)
        return student

    def inference_state_dict(self) -> dict[str, Tensor]:
        """Weights and statistics that inference on events needs: those of :meth:`strip`."""
        kept = without_image_statistics(self.state_dict())
        return {name: value for name, value in kept.items() if not name.startswith("heads.image.")}

    def event_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that inference on events uses."""
        return (p for name, p in self.named_parameters() if not name.startswith("heads.image."))

    def conv(self, in_channels: int, out_channels: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
        """A convolution without bias."""
        return nn.Conv2d(in_channels, out_channels, kernel, bias=False, **options)

    def norm(self, channels: int) -> StepNorm:
        """A normalisation with this network's options."""
        return StepNorm(channels, self._norm_mode)

    def neuron(self) -> Neuron:
        """A neuron layer with this network's options."""
        return Neuron(*self._neuron_options)

    def scaled(self, channels: int) -> int:
        """Channel count times width, at least 1."""
        return max(1, round(channels * self.width))

    def over_time(self, layer: nn.Module, xs: Sequence[Tensor]) -> Iterator[Tensor]:
        """Apply a stateless layer to T tensors [B, ...], at once or lazily step by step."""
        if self.merge_time:
            yield from layer(torch.cat(list(xs))).chunk(len(xs))  # T × [B, ...] → [T·B, ...] → T × [B, ...]
            return
        for x in xs:
            yield layer(x)

    def _check(self, x: Tensor, head: str, state: State | None) -> None:
        wanted = (self.channels, *self.input_size)
        if x.ndim != 5 or tuple(x.shape[2:]) != wanted or x.shape[1] == 0:
            shape = ", ".join(map(str, wanted))
            raise ValueError(f"Expected `x` to be [B, T ≥ 1, {shape}], but got {list(x.shape)}.")
        if head not in HEADS:
            raise ValueError(f"Expected `head` to be one of {', '.join(HEADS)}, but got '{head}'.")
        if state is not None and len(state) != self.layers:
            raise ValueError(f"Expected `state` to hold {self.layers} potentials, but got {len(state)}.")


def check_norm(mode: str) -> None:
    """Raise ConfigError unless `mode` is a way to normalise over time."""
    if mode not in ("step", "merged"):
        raise ConfigError(f"Expected `bn` to be 'step' or 'merged', but got '{mode}'.")


def checked_width(width: float) -> float:
    """`width`, refused unless it is a positive, finite factor."""
    if not 0 < width < float("inf"):
        raise ConfigError(f"Expected `width` to be positive, but got {width}.")
    return width


def checked_size(size: int | Sequence[int], net: Any) -> tuple[int, int]:
    """(H, W) of an option that may be one number, refused if `net` would be left without a feature map."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < net.smallest:
        raise ConfigError(
            f"Expected `input_size` to be at least {net.smallest} in both directions for "
            f"{type(net).__name__}, but got {height}x{width}. Resize the frames first."
        )
    return height, width


class _MeanPool(torch.autograd.Function):
    """2×2 mean over [B, C, h, w]; a depthwise convolution is 2 to 4 times as fast as avg_pool2d on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size = x.shape[2:]
        return functional.conv2d(x, x.new_full((x.shape[1], 1, 2, 2), 0.25), stride=2, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        spread = functional.interpolate(grads[0] * 0.25, scale_factor=2, mode="nearest")
        height, width = (whole - even for whole, even in zip(ctx.size, spread.shape[2:], strict=True))
        return functional.pad(spread, (0, width, 0, height)) if height or width else spread


class MeanPool(nn.AvgPool2d):
    """AvgPool2d(2), quicker while training on a CPU."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] → [B, C, h // 2, w // 2]."""
        if torch.is_grad_enabled() and x.device.type == "cpu" and not torch.compiler.is_exporting():
            return _MeanPool.apply(x)
        return super().forward(x)


def recommended_precision() -> str:
    """What precision="auto" means: "bf16-mixed" on a GPU or a CPU with AVX512-BF16 or AMX, else "32-true"."""
    cpu = torch.cpu
    fast = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported() or torch.cuda.is_available()
    return "bf16-mixed" if fast else "32-true"
