"""Networks whose rows several processes share out, batch statistics over all rows, averaged gradients.

The method's program runs in every process, on the whole batch. Only inside a call of one of its networks does a
process compute its own rows alone: they are taken on the way in, and the answers of all are gathered on the way out.
Losses therefore see what they see in one process, whatever they compare. A gradient that belongs to the whole batch is
the same everywhere, one inside a network is the number of processes times the own rows' share; so :class:`Gather` and
:class:`Take` are each other's adjoint, at every order, and the mean over processes is every parameter's gradient,
whether its module was shared out or computed by everyone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from evlift.datasets.base import Batch
from evlift.engine.distributed import Crew
from evlift.methods.base import Method


class Gather(torch.autograd.Function):
    """The own rows [n, ...] → those of all processes [N, ...]."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, crew: Crew, count: int) -> Tensor:
        """`count` is N."""
        ctx.crew = crew
        return crew.gather(own, count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """The own rows' gradient, times the number of processes."""
        return Take.apply(grads[0], ctx.crew) * ctx.crew.size, None, None


class Take(torch.autograd.Function):
    """All rows [N, ...], alike in every process → the own ones [n, ...]."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, crew: Crew) -> Tensor:
        """The own rows."""
        ctx.crew, ctx.count = crew, len(whole)
        own = crew.rows(len(whole))
        return whole[own.start : own.stop].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The gradients of all rows."""
        return Gather.apply(grads[0], ctx.crew, ctx.count) / ctx.crew.size, None


class Sharing:
    """Has the networks of a method share out their rows, inside ``with sharing:``.

    Example:
        >>> with Sharing(crew, method):  # doctest: +SKIP
        ...     output = method.step(batch, progress)

    A call with fewer rows than processes is computed by everyone. Random draws inside a network (dropout) are each
    process's own; those of the method are the same in all.

    Args:
        crew: of several processes; alone, nothing is changed.
        method: its `networks` get hooks.
    """

    def __init__(self, crew: Crew, method: Method) -> None:
        self.crew = crew
        self.active, self.calls = False, 0
        self.inside: nn.Module | None = None
        if crew.size > 1:
            for network in method.networks:
                self._share(network)
            for layer in method.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    self._synchronise(layer)

    def __enter__(self) -> Sharing:
        self.active, self.calls = True, 0
        return self

    def __exit__(self, *error: object) -> None:
        self.active, self.inside = False, None

    def _share(self, network: nn.Module) -> None:
        """Take the rows before an outermost call of `network`, gather them after it."""
        count, draws = 0, Draws(self.crew)

        def enter(network: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
            nonlocal count
            if not self.active or self.inside is not None or len(given[0]) < self.crew.size:
                return None
            self.inside, count = network, len(given[0])
            self.calls += 1
            draws.fork(self.calls)
            return (take(given[0], self.crew), *given[1:]), named

        def leave(network: nn.Module, given: object, named: object, output: Any) -> Any:
            if self.inside is not network:
                return None
            self.inside = None
            draws.restore()
            return None if output is None else gathered(output, self.crew, count)  # None: it raised

        network.register_forward_pre_hook(enter, with_kwargs=True)
        network.register_forward_hook(leave, with_kwargs=True, always_call=True)

    def _synchronise(self, layer: nn.Module) -> None:
        """Have a batch normalisation use the statistics of all processes' rows while it trains in a shared call."""
        modes: list[SharedStatistics] = []

        def enter(layer: nn.Module, given: object) -> None:
            if self.inside is not None and layer.training:
                modes.append(SharedStatistics(self.crew).__enter__())

        def leave(layer: nn.Module, given: object, output: object) -> None:
            if modes:
                modes.pop().__exit__(None, None, None)

        layer.register_forward_pre_hook(enter)
        layer.register_forward_hook(leave, always_call=True)


class Draws:
    """Random draws of each process's own for a while; afterwards torch's generators go on as if there had been none."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self._kept: Any = None

    def fork(self, call: int) -> None:
        """Draw from a seed of the step, the call and the process."""
        devices = [self.crew.device.index] if self.crew.device.type == "cuda" else []
        self._kept = torch.random.fork_rng(devices)
        self._kept.__enter__()
        torch.manual_seed(torch.initial_seed() + 7_919 * (call * self.crew.size + self.crew.rank + 1))

    def restore(self) -> None:
        """End it."""
        self._kept.__exit__(None, None, None)


def take(whole: Tensor, crew: Crew) -> Tensor:
    """The own rows of `whole` [N, ...], alike in every process; differentiable."""
    if whole.requires_grad and torch.is_grad_enabled():
        return Take.apply(whole, crew)
    own = crew.rows(len(whole))
    return whole[own.start : own.stop]


def gathered(answer: Any, crew: Crew, count: int) -> Any:
    """A network's answer, a tensor or a named tuple of tensors [n, ...], for all `count` rows; differentiable.

    A list in it, the state of spiking neurons, stays that of the own rows: who passes it on comes back to them.
    """
    if isinstance(answer, Tensor):
        return Gather.apply(answer, crew, count)
    if isinstance(answer, tuple):
        parts = (part if isinstance(part, list) else gathered(part, crew, count) for part in answer)
        return type(answer)(*parts)
    return answer


def gather_batch(own: Batch, crew: Crew, count: int) -> Batch:
    """The batch of which every process made its own rows."""
    if crew.size == 1:
        return own
    found = {item.name: getattr(own, item.name) for item in fields(own) if item.name != "names"}
    here = torch.tensor([[part is not None for part in found.values()]], dtype=torch.uint8)
    everywhere = (
        crew.gather(here, crew.size).all(0).tolist()
    )  # as in one process, a part that any row lacks is none
    kept = {name: part for (name, part), has in zip(found.items(), everywhere, strict=True) if has}
    rows = [part.flatten(1) if part.ndim > 1 else part[:, None] for part in kept.values()]
    bytes_of = [row.contiguous().view(torch.uint8) for row in rows]  # one exchange for numbers of every type
    whole = crew.gather(torch.cat(bytes_of, 1), count).split([row.shape[1] for row in bytes_of], 1)
    parts: dict[str, Any] = {
        name: piece.contiguous().view(part.dtype).view(count, *part.shape[1:])
        for (name, part), piece in zip(kept.items(), whole, strict=True)
    }
    return Batch(**parts)


def share_weights(method: Method, crew: Crew) -> None:
    """Begin with the weights and buffers of process 0 in all."""

    def own() -> dict[str, Tensor]:
        return {name: value.cpu() for name, value in method.state_dict().items()}

    if crew.size > 1:
        method.load_state_dict(crew.first(own))


def average_gradients(parameters: Iterable[nn.Parameter], crew: Crew) -> None:
    """Every gradient becomes its mean over the processes, in one exchange for each type of number."""
    if crew.size == 1:
        return
    found: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            found.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for grads in found.values():
        mean = crew.sum(torch.cat([grad.flatten() for grad in grads])).div_(crew.size)
        parts = mean.split([grad.numel() for grad in grads])
        torch._foreach_copy_(grads, [part.view_as(grad) for part, grad in zip(parts, grads, strict=True)])


class SharedStatistics(TorchFunctionMode):
    """Inside the block, `torch.nn.functional.batch_norm` has the statistics of the rows of all processes."""

    def __init__(self, crew: Crew) -> None:
        super().__init__()
        self.crew = crew

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace that one function."""
        if func is F.batch_norm:
            return shared_batch_norm(self.crew, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def shared_batch_norm(
    crew: Crew,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` of the rows [n, C, ...] of all processes, differentiable once.

    In float32 at least, on every device; `torch.nn.SyncBatchNorm` asks for GPUs.
    """
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    with torch.no_grad():
        exact = _exact(x.detach())
        axes = _all_but_channels(x)
        rows = exact.new_tensor([x.numel() // x.shape[1]])
        mean = exact.mean(axes)
        spread = (exact - _beside(mean, x)).square().sum(axes)
        # the moments of groups that lie apart, combined without cancellation (Chan et al., 1979)
        of_all = crew.gather(torch.cat([rows, mean, spread])[None], crew.size)  # [W, 1 + 2C]
        counts, means, spreads = of_all.split([1, len(mean), len(mean)], dim=1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        var = (spreads + counts * (means - mean).square()).sum(0) / count
        if running_mean is not None and running_var is not None:
            running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
            running_var.mul_(1 - momentum).add_(var * count / (count - 1).clamp(min=1), alpha=momentum)
    return _Normalised.apply(x, weight, bias, mean, (var + eps).rsqrt(), count, crew)


class _Normalised(torch.autograd.Function):
    """(x - mean) · scale · weight + bias; its gradient goes through mean and scale, sums over all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *more: Any) -> Tensor:
        """[n, C, ...] → the same shape and type."""
        weight, bias, mean, scale, ctx.count, ctx.crew = more
        gain = scale if weight is None else scale * weight
        ctx.save_for_backward(x, mean, scale, gain)
        shift = -mean * gain if bias is None else bias - mean * gain
        return torch.addcmul(_beside(shift, x), _exact(x), _beside(gain, x)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Of x, weight and bias."""
        x, mean, scale, gain = ctx.saved_tensors
        axes, grad = _all_but_channels(x), _exact(grads[0])
        unit = (_exact(x) - _beside(mean, x)) * _beside(scale, x)
        own = torch.stack([grad.sum(axes), (grad * unit).sum(axes)])  # [2, C]
        shift, slope = (_beside(part, x) for part in ctx.crew.sum(own.clone()) / ctx.count)
        dx = (grad - shift - unit * slope) * _beside(gain, x)
        wants = ctx.needs_input_grad
        return (dx.to(x.dtype), own[1] if wants[1] else None, own[0] if wants[2] else None, *[None] * 4)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def _beside(values: Tensor, x: Tensor) -> Tensor:
    """[C] → [1, C, 1, ...], as many axes as `x` has."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
