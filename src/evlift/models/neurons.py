"""Spiking neurons as pure functions of a time sequence, with explicit state.

Dynamics of one step, with input `x`, potential `v` and threshold θ:

    h = v + (x - v) / tau            LIF, PLIF         (IF: h = v + x)
    s = 1 if h > θ else 0            strict
    v = h · (1 - s)                  hard reset        (soft: v = h - θ · s)

Nothing is kept between two calls: who wants to go on passes the last potential as `v0`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
    return torch.abs(x).mul_(-a * a).add_(a).clamp_(min=0)


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

    def reset_potential(self, h: Tensor, fired: Tensor) -> Tensor:
        """Potential after the reset, h and fired (bool) of one shape; no gradient through `fired`."""
        if self.reset == "hard":
            return h.masked_fill(fired, 0)
        return h - self.threshold * fired

    def reset_slope(self, h: Tensor, fired: Tensor, slope: Tensor) -> Tensor:
        """dv/dh of the reset, where `slope` is the surrogate at h."""
        kept = (~fired).to(h.dtype) if self.reset == "hard" else torch.ones_like(h)
        if self.detach_reset:
            return kept
        return kept - slope * (h if self.reset == "hard" else self.threshold)


class Trace(NamedTuple):
    """Spikes and potentials after the reset, one tensor [B, ...] a step each."""

    spikes: list[Tensor]
    potentials: list[Tensor]


class _Spike(torch.autograd.Function):
    """Heaviside step with the surrogate as derivative; keeps the potential alone."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, fired: Tensor, dynamics: Dynamics, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(h)
        ctx.dynamics = dynamics
        return fired.to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (h,) = ctx.saved_tensors
        slope = SURROGATES[ctx.dynamics.surrogate](h - ctx.dynamics.threshold)
        return slope.mul_(grads[0]), None, None, None


def _integrate(v: Tensor | None, x: Tensor, leak: float | Tensor | None) -> Tensor:
    """Potential before the spike; `leak` is 1/tau, None for IF; v None is the resting potential 0."""
    if leak is None:
        return x if v is None else v + x
    if v is None:
        return x * leak
    return torch.lerp(v, x, leak)


def _run_steps(xs: Iterable[Tensor], v: Tensor | None, leak: float | Tensor | None, law: Dynamics) -> Trace:
    """Plain step loop; autograd keeps what it needs. `xs` may be a generator: it is consumed step by step."""
    trace = Trace([], [])
    plain = not torch.is_grad_enabled() or torch.compiler.is_exporting()
    for x in xs:
        h = _integrate(v, x.float(), leak)
        fired = h.detach() > law.threshold
        spike = fired.to(x.dtype) if plain else _Spike.apply(h, fired, law, x.dtype)
        if law.detach_reset or plain:
            v = law.reset_potential(h, fired)
        else:
            v = h * (1 - spike) if law.reset == "hard" else h - law.threshold * spike
        trace.spikes.append(spike)
        trace.potentials.append(v)
    return trace


class _Sequence(torch.autograd.Function):
    """All steps at once, keeping one potential a neuron-step: all else follows from that before the reset."""

    @staticmethod
    def forward(ctx: Any, law: Dynamics, leak: Any, v: Tensor | None, *xs: Tensor) -> tuple[Tensor, ...]:
        kept: list[Tensor] = []
        spikes, potentials = [], []
        ctx.has_v0 = v is not None
        v0 = v
        for x in xs:
            h = _integrate(v, x.float(), leak)
            fired = h > law.threshold
            v = law.reset_potential(h, fired)
            kept.append(h)
            spikes.append(fired.to(x.dtype))
            potentials.append(v)
        ctx.law, ctx.leak_value, ctx.dtype = law, None if isinstance(leak, Tensor) else leak, xs[0].dtype
        ctx.save_for_backward(leak if isinstance(leak, Tensor) else None, v0, *kept)
        ctx.set_materialize_grads(False)
        return *spikes, *potentials

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        learned, v0, *kept = ctx.saved_tensors
        leak = ctx.leak_value if learned is None else learned
        steps = len(kept)
        carry: Tensor | None = None
        leak_grad = None if learned is None else torch.zeros_like(learned)
        x_grads: list[Tensor | None] = [None] * steps
        for t in reversed(range(steps)):
            dh = _potential_grad(ctx.law, kept[t], grads[t], _sum(grads[steps + t], carry))
            if dh is None:
                continue
            if leak is None:
                x_grads[t], carry = dh.to(ctx.dtype), dh
                continue
            if leak_grad is not None:
                before = _before(ctx.law, kept, v0, t)
                leak_grad += (dh * (kept[t] - before)).sum() / leak
            x_grads[t] = (dh * leak).to(ctx.dtype)
            carry = dh.mul_(1 - leak)
        return None, leak_grad, carry if ctx.has_v0 else None, *x_grads


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a + b, where None is zero."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _before(law: Dynamics, kept: list[Tensor], v0: Tensor | None, t: int) -> Tensor | float:
    """The potential that step t started from."""
    if t == 0:
        return 0.0 if v0 is None else v0
    return law.reset_potential(kept[t - 1], kept[t - 1] > law.threshold)


def _potential_grad(law: Dynamics, h: Tensor, ds: Tensor | None, dv: Tensor | None) -> Tensor | None:
    """Gradient of the potential before the reset from those of the spike and of the potential after it."""
    if ds is None and dv is None:
        return None
    slope = SURROGATES[law.surrogate](h - law.threshold)
    through_reset: Tensor | None = None
    if dv is not None:
        if law.detach_reset:
            through_reset = dv.masked_fill(h > law.threshold, 0) if law.reset == "hard" else dv
        else:
            through_reset = dv * law.reset_slope(h, h > law.threshold, slope)
    if ds is None:
        return dv.clone() if through_reset is dv and dv is not None else through_reset
    slope = slope.mul_(ds)
    return slope if through_reset is None else slope.add_(through_reset)


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
        xs: input current, one tensor [B, ...] a step; with memory="normal" a generator is consumed lazily.
        v0: potential [B, ...] to start from, None for 0.
        leak: 1/tau as a number or a scalar tensor, None for no leak.
        law: threshold, reset and surrogate.
        memory: "low" keeps one tensor a step for backward (one autograd node for the sequence).
    """
    low = memory == "low" and torch.is_grad_enabled() and not torch.compiler.is_exporting()
    if not low:
        return _run_steps(xs, v0, leak, law)
    inputs = tuple(xs)
    outputs = _Sequence.apply(law, leak, v0, *inputs)
    return Trace(list(outputs[: len(inputs)]), list(outputs[len(inputs) :]))


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
    leak = 1 / tau if isinstance(tau, Tensor) else 1 / _checked_tau(tau)
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
    """Integrate-and-fire without leak, otherwise as :func:`lif`."""
    law = Dynamics(threshold, reset, surrogate, detach_reset)
    return _stack(run_neuron(x.unbind(1), v0, None, law, _checked_memory(memory)))


def _stack(trace: Trace) -> tuple[Tensor, Tensor]:
    return torch.stack(trace.spikes, 1), torch.stack(trace.potentials, 1)  # T × [B, ...] → [B, T, ...]


def _checked_tau(tau: float) -> float:
    if not tau >= 1:
        raise ConfigError(f"Expected `tau` to be at least 1 step, but got {tau}.")
    return float(tau)


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
        self.tau = _checked_tau(tau)
        self.law = law or Dynamics()
        self.memory = _checked_memory(memory)
        if kind == "plif":
            if tau <= 1:
                raise ConfigError(f"Expected `tau` to be above 1 for a PLIF neuron, but got {tau}.")
            self.leak_logit = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def forward(self, xs: Iterable[Tensor], v0: Tensor | None = None) -> Trace:
        """T tensors [B, ...] → spikes and potentials, T tensors [B, ...] each."""
        return run_neuron(xs, v0, self._leak(), self.law, self.memory)

    def _leak(self) -> float | Tensor | None:
        if self.kind == "plif":
            return torch.sigmoid(self.leak_logit)
        return None if self.kind == "if" else 1 / self.tau

    def extra_repr(self) -> str:
        """Constants, for print(net)."""
        return f"{self.kind}, tau={self.tau}, {self.law}, memory={self.memory}"


def last_potentials(traces: Sequence[Trace]) -> list[Tensor]:
    """State after the last step: one tensor [B, ...] a layer."""
    return [trace.potentials[-1] for trace in traces]
