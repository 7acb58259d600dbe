"""Spiking neurons as pure functions of a time sequence, with explicit state.

Dynamics of one step, with input `x`, potential `v` and threshold θ:

    h = v + (x - v) / tau            LIF, PLIF         (IF: h = v + x)
    s = 1 if h > θ else 0            strict
    v = h · (1 - s)                  hard reset        (soft: v = h - θ · s)

Nothing is kept between two calls: who wants to go on passes the last potential as `v0`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.registry import Registry

SURROGATES = Registry("surrogate")
Derivative = Callable[[Tensor], Tensor]


@SURROGATES.register("triangular")
def triangular(x: Tensor, a: float = 2.0) -> Tensor:
    """Derivative max(0, a - a²|x|) of the spike, x = h - θ, any shape.

    Source: KT's released code, a = 2 for N-Caltech101 and CEP-DVS; the form is that of Bellec et al. 2018.
    """
    return torch.rsub(torch.abs(x), a, alpha=a * a).relu_()


@SURROGATES.register("rectangular")
def rectangular(x: Tensor) -> Tensor:
    """Derivative 1 for |x| < 0.5, else 0, x = h - θ, any shape.

    Source: Wu et al. 2018 (STBP) with width 1; KT's released code for N-Omniglot.
    """
    return (torch.abs(x) < 0.5).to(x.dtype)


@SURROGATES.register("arctan")
def arctan(x: Tensor, alpha: float = 2.0) -> Tensor:
    """Derivative (α/2) / (1 + (π α x / 2)²), x = h - θ, any shape. Source: Fang et al. 2021 (PLIF), α = 2."""
    return torch.square(x).mul_((math.pi * alpha / 2) ** 2).add_(1).reciprocal_().mul_(alpha / 2)


@SURROGATES.register("sigmoid")
def sigmoid(x: Tensor, alpha: float = 4.0) -> Tensor:
    """Derivative α σ(αx) (1 - σ(αx)), x = h - θ, any shape.

    Source: Neftci, Mostafa and Zenke 2019 for the form; α = 4 as in SpikingJelly.
    """
    s = torch.sigmoid(x * alpha)
    return (1 - s).mul_(s).mul_(alpha)


@dataclass(frozen=True)
class Dynamics:
    """The constants of a neuron; see the module's text for their meaning.

    Args:
        threshold: θ > 0, a spike needs a potential above it.
        reset: "hard" (to 0) or "soft" (minus θ).
        surrogate: a name of `SURROGATES`, the spike's derivative in backward.
        detach_reset: the spike in the reset carries no gradient (KT's released code).
    """

    threshold: float = 0.5
    reset: str = "hard"
    surrogate: str = "triangular"
    detach_reset: bool = True

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ConfigError(f"Expected `threshold` to be positive, but got {self.threshold}.")
        if self.reset not in ("hard", "soft"):
            raise ConfigError(f"Expected `reset` to be 'hard' or 'soft', but got '{self.reset}'.")
        SURROGATES[self.surrogate]

    def fire(self, h: Tensor) -> Tensor:
        """Spikes 0 or 1 in the dtype of h, without gradient."""
        # The float overload is vectorised; through bool it takes 7 times as long on a CPU.
        return torch.gt(h.detach(), self.threshold, out=torch.empty_like(h))

    def after_reset(self, h: Tensor, spikes: Tensor) -> Tensor:
        """Potential after the reset; differentiable in both."""
        if self.reset == "hard":
            return torch.addcmul(h, h, spikes, value=-1)
        return torch.sub(h, spikes, alpha=self.threshold)

    def slope(self, h: Tensor) -> Tensor:
        """The surrogate at potential h."""
        return SURROGATES[self.surrogate](h - self.threshold)

    def reset_slope(self, h: Tensor, slope: Tensor) -> Tensor | None:
        """Total derivative of the potential after the reset by h; None stands for 1."""
        if self.reset == "soft":
            return None if self.detach_reset else 1 - self.threshold * slope
        kept = torch.le(h, self.threshold, out=torch.empty_like(h))
        return kept if self.detach_reset else kept.addcmul_(h, slope, value=-1)


class Trace(NamedTuple):
    """Spikes and potentials after the reset, one tensor [B, ...] a step each."""

    spikes: list[Tensor]
    potentials: list[Tensor]


class _Spike(torch.autograd.Function):
    """Heaviside step with the surrogate as derivative; keeps the potential alone."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, law: Dynamics) -> Tensor:
        ctx.save_for_backward(h)
        ctx.law = law
        return law.fire(h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (h,) = ctx.saved_tensors
        return ctx.law.slope(h).mul_(grads[0]), None


class _Step(torch.autograd.Function):
    """One whole step; keeps the potential before the reset, with a learnt leak also that before the input."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, v: Tensor | None, leak: float | Tensor | None, law: Dynamics
    ) -> tuple[Tensor, Tensor]:
        h = _integrate(v, x.float(), leak)
        spikes = law.fire(h)
        learnt = isinstance(leak, Tensor)
        ctx.save_for_backward(h, leak if learnt else None, v if learnt else None)
        ctx.law, ctx.leak, ctx.dtype, ctx.starts = law, None if learnt else leak, x.dtype, v is None
        ctx.set_materialize_grads(False)
        return spikes.to(x.dtype), law.after_reset(h, spikes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        h, leak, v = ctx.saved_tensors
        dh = _before_reset(ctx.law, h, *grads)
        if dh is None or (leak is None and ctx.leak is None):
            return None if dh is None else dh.to(ctx.dtype), None if ctx.starts else dh, None, None
        leak_grad = None
        if leak is not None:
            leak_grad = (dh * (h if v is None else h - v)).sum() / leak
        leak = ctx.leak if leak is None else leak
        dx = (dh * leak).to(ctx.dtype)
        return dx, None if ctx.starts else dh.mul_(1 - leak), leak_grad, None


def _before_reset(law: Dynamics, h: Tensor, ds: Tensor | None, dv: Tensor | None) -> Tensor | None:
    """Gradient of the potential before the reset from those of the spike and of the potential after it."""
    if ds is None and dv is None:
        return None
    slope = law.slope(h)
    through = None if dv is None else law.reset_slope(h, slope)
    dh = torch.zeros_like(h) if ds is None else slope.mul_(ds.float())
    if dv is None:
        return dh
    return dh.add_(dv) if through is None else dh.addcmul_(dv, through)


def _integrate(v: Tensor | None, x: Tensor, leak: float | Tensor | None) -> Tensor:
    """Potential before the spike; `leak` is 1/tau, None for IF; v None is the resting potential 0."""
    if leak is None:
        return x.clone() if v is None else v + x
    if v is None:
        return x * leak
    return torch.lerp(v, x, leak)


def _plain_step(x: Tensor, v: Tensor | None, leak: Any, law: Dynamics) -> tuple[Tensor, Tensor]:
    """One step without gradient, in operations that any exporter knows."""
    h = _integrate(v, x.float(), leak)
    spikes = (h > law.threshold).to(h.dtype)
    return spikes.to(x.dtype), law.after_reset(h, spikes)


def _autograd_step(x: Tensor, v: Tensor | None, leak: Any, law: Dynamics) -> tuple[Tensor, Tensor]:
    """One step whose gradients autograd derives, but for the spike."""
    h = _integrate(v, x.float(), leak)
    spikes = _Spike.apply(h, law)
    reset = spikes.detach() if law.detach_reset else spikes
    after = h * (1 - reset) if law.reset == "hard" else law.after_reset(h, reset)
    return spikes.to(x.dtype), after


def run_neuron(
    xs: Iterable[Tensor],
    v0: Tensor | None,
    leak: float | Tensor | None,
    law: Dynamics,
    memory: str = "normal",
) -> Trace:
    """One neuron layer over T steps given as tensors [B, ...]; the functions and modules below end here.

    Potentials are float32 whatever autocast says; spikes have the dtype of the input.

    Args:
        xs: input current, one tensor [B, ...] a step; a generator is consumed step by step.
        v0: potential [B, ...] to start from, None for 0.
        leak: 1/tau as a number or a scalar tensor, None for no leak.
        law: threshold, reset and surrogate.
        memory: "normal" lets autograd derive all but the spike; "low" is one node a step, keeping one tensor.
    """
    step = {"normal": _autograd_step, "low": _Step.apply}[memory]
    if not torch.is_grad_enabled() or torch.compiler.is_exporting():
        step = _plain_step
    trace, v = Trace([], []), v0
    for x in xs:
        spikes, v = step(x, v, leak, law)
        trace.spikes.append(spikes)
        trace.potentials.append(v)
    return trace


def lif(
    x: Tensor,
    v0: Tensor | None = None,
    *,
    tau: float | Tensor = 2.0,
    threshold: float = 0.5,
    reset: str = "hard",
    surrogate: str = "triangular",
    detach_reset: bool = True,
    memory: str = "normal",
) -> tuple[Tensor, Tensor]:
    """Leaky integrate-and-fire over a sequence.

    Example:
        >>> spikes, v = lif(torch.ones(1, 3, 1))
        >>> spikes.flatten().tolist(), v.flatten().tolist()
        ([0.0, 1.0, 0.0], [0.5, 0.0, 0.5])

    Args:
        x: input current [B, T, ...].
        v0: potential [B, ...] to start from; None is 0. Pass `v[:, -1]` of the first half to go on.
        tau: time constant in steps, ≥ 1; a tensor makes it learnable.
        threshold, reset, surrogate, detach_reset: see :class:`Dynamics`.
        memory: "normal", or "low" to keep one tensor a step for backward.

    Returns:
        spikes [B, T, ...] in the dtype of x, potentials after the reset [B, T, ...] in float32.

    Source: KT's released code; `memory` and the explicit state were decided here.
    """
    leak = 1 / _checked_tau(tau)
    law = Dynamics(threshold, reset, surrogate, detach_reset)
    return _stack(run_neuron(x.unbind(1), v0, leak, law, _checked_memory(memory)))


def integrate_and_fire(
    x: Tensor,
    v0: Tensor | None = None,
    *,
    threshold: float = 0.5,
    reset: str = "hard",
    surrogate: str = "triangular",
    detach_reset: bool = True,
    memory: str = "normal",
) -> tuple[Tensor, Tensor]:
    """Integrate-and-fire without leak; arguments and results as of :func:`lif`.

    Example:
        >>> integrate_and_fire(torch.full((1, 3, 1), 0.4))[0].flatten().tolist()
        [0.0, 1.0, 0.0]
    """
    law = Dynamics(threshold, reset, surrogate, detach_reset)
    return _stack(run_neuron(x.unbind(1), v0, None, law, _checked_memory(memory)))


def _stack(trace: Trace) -> tuple[Tensor, Tensor]:
    if not trace.spikes:
        raise ValueError("Expected `x` of at least one time step, [B, T, ...], but got T = 0.")
    return torch.stack(trace.spikes, 1), torch.stack(trace.potentials, 1)  # T × [B, ...] → [B, T, ...]


def _checked_tau(tau: float | Tensor) -> Any:
    if not tau >= 1:
        raise ConfigError(f"Expected `tau` to be at least 1 step, but got {float(tau)}.")
    return tau


def _checked_memory(memory: str) -> str:
    if memory not in ("normal", "low"):
        raise ConfigError(f"Expected `memory` to be 'normal' or 'low', but got '{memory}'.")
    return memory


class Neuron(nn.Module):
    """A layer of spiking neurons over a sequence of steps; holds constants and, for PLIF, one parameter.

    Args:
        kind: "lif", "plif" (tau learnt, 1/tau = sigmoid(leak_logit); Fang et al. 2021) or "if".
        tau: time constant in steps, for PLIF the initial one (> 1).
        law: threshold, reset and surrogate.
        memory: "normal" or "low", see :func:`run_neuron`.
    """

    def __init__(
        self, kind: str = "lif", tau: float = 2.0, law: Dynamics | None = None, memory: str = "normal"
    ) -> None:
        super().__init__()
        if kind not in ("lif", "plif", "if"):
            raise ConfigError(f"Expected `neuron` to be 'lif', 'plif' or 'if', but got '{kind}'.")
        self.kind = kind
        self.tau = float(_checked_tau(tau))
        self.law = law or Dynamics()
        self.memory = _checked_memory(memory)
        if kind == "plif":
            if tau <= 1:
                raise ConfigError(f"Expected `tau` to be above 1 for a PLIF neuron, but got {tau}.")
            self.leak_logit = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def forward(self, xs: Iterable[Tensor], v0: Tensor | None = None) -> Trace:
        """T tensors [B, ...] → spikes and potentials, T tensors [B, ...] each."""
        return run_neuron(xs, v0, self.leak(), self.law, self.memory)

    def leak(self) -> float | Tensor | None:
        """1/tau, None for no leak."""
        if self.kind == "plif":
            return torch.sigmoid(self.leak_logit)
        return None if self.kind == "if" else 1 / self.tau

    def extra_repr(self) -> str:
        """Constants, for print(net)."""
        return f"{self.kind}, tau={self.tau}, {self.law}, memory={self.memory}"
