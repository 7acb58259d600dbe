"""Networks as plain functions of tensors, which torch.export traces: a whole clip, or one step with its state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from evlift.errors import ConfigError

if TYPE_CHECKING:
    from evlift.exporting.contract import Contract

SHARE = 0.999  # of "p99.9"


class Normalise(nn.Module):
    """A normalisation of :class:`~evlift.representations.Representation` on a batch, row by row.

    Args:
        kind: none, quantile, log1p, max or p99.9.
        scale: the count that becomes 1, of "quantile".
    """

    def __init__(self, kind: str, scale: float | None = None) -> None:
        super().__init__()
        self.kind, self.scale = kind, scale or 1.0

    def forward(self, counts: Tensor) -> Tensor:
        """[B, ...] → [B, ...]."""
        if self.kind == "quantile":
            return (counts / self.scale).clamp(-1, 1)
        if self.kind == "log1p":
            return counts.sign() * counts.abs().log1p()
        if self.kind in ("max", "p99.9"):
            largest = _rank(counts.abs().flatten(1), 1.0 if self.kind == "max" else SHARE)
            rows = largest.where(largest > 0, 1.0).reshape(-1, *[1] * (counts.ndim - 1))
            return counts / rows if self.kind == "max" else (counts / rows).clamp(-1, 1)
        return counts


def _rank(values: Tensor, share: float) -> Tensor:
    """[B, n] → [B], the quantile of each row's positive values by rank, rounded up; 0 where there is none."""
    n = values.shape[1]
    top = values.topk(
        n - math.ceil(share * n) + 1
    ).values  # no more values of a row can lie above the quantile
    busy = (values > 0).sum(1).double()
    above = (busy - (share * busy).ceil()).long()  # in double precision, as numpy's of a single stream
    return top.gather(1, above[:, None]).squeeze(1)


class Clips(nn.Module):
    """[B, T, C, H, W] → logits [B, T', K(, H, W)]."""

    def __init__(self, network: nn.Module, before: nn.Module) -> None:
        super().__init__()
        self.network, self.before = network, before

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.network(self.before(x)).logits


class Step(nn.Module):
    """[B, C, H, W] and the state → logits [B, K(, H, W)] and the next state."""

    def __init__(self, network: nn.Module, before: nn.Module) -> None:
        super().__init__()
        self.network, self.before = network, before

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See the class."""
        found = self.network(self.before(x).unsqueeze(1), state=state)  # [B, C, H, W] → [B, 1, C, H, W]
        return found.logits.squeeze(1), found.state


def state_shapes(network: Any, contract: Contract) -> tuple[tuple[int, ...], ...]:
    """Shape of the potential of each neuron layer, without the batch.

    Raises:
        ConfigError: the network keeps no state.
    """
    with torch.no_grad():
        state = network(torch.zeros(1, 1, *contract.shape)).state if hasattr(network, "layers") else []
    if not state:
        raise ConfigError(
            f"Expected a spiking network for a single step, but got {type(network).__name__}, which has no state to "
            "pass on. Leave --single-step out."
        )
    return tuple(tuple(v.shape[1:]) for v in state)


def trace(network: nn.Module, contract: Contract) -> torch.export.ExportedProgram:
    """The network and, where it reads counts, their normalisation as a graph for any batch size."""
    kind = contract.input["normalise"] if contract.reads == "counts" else "none"
    before = Normalise(kind, contract.record["count_scale"])
    batch = torch.export.Dim("batch")
    step = torch.zeros(2, *contract.shape)
    if contract.single_step:
        module: nn.Module = Step(network, before)
        states = [torch.zeros(2, *shape) for shape in contract.states]
        given: tuple[Any, ...] = (step, states)
        sizes: tuple[Any, ...] = ({0: batch}, [{0: batch} for _ in states])
    else:
        module = Clips(network, before)
        given, sizes = (torch.zeros(2, contract.steps, *contract.shape),), ({0: batch},)
    with torch.no_grad():
        program = torch.export.export(module.eval(), given, dynamic_shapes=sizes)
    for node in list(program.graph.nodes):
        node.meta.pop("stack_trace", None)  # would name the folders of this machine
        if node.target is torch.ops.aten._assert_tensor_metadata.default:  # of what the graph itself fixes
            program.graph.erase_node(node)
    program.graph_module.recompile()
    return program
