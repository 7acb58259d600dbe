"""NIR files: spiking networks for other frameworks and for chips, and such files run again."""

from __future__ import annotations

import graphlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from evlift.errors import FormatError
from evlift.exporting.contract import KEY, Contract, again
from evlift.extras import extra
from evlift.models.neurons import Dynamics, run_neuron

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


@dataclass(frozen=True)
class Dialect:
    """What an importer takes for granted.

    Args:
        dt: seconds of a time step.
        sums: knows sum pools alone, so that the next weights hold the 1/k².
        branches: runs graphs whose paths part and meet again.
    """

    dt: float
    sums: bool
    branches: bool


DIALECTS = {  # read from and tested with snnTorch 1.0.0 and Norse 1.1.0 on nirtorch 2.6
    "snntorch": Dialect(1e-4, sums=False, branches=True),
    "norse": Dialect(1e-3, sums=True, branches=False),
}


def nir_writer(network: nn.Module, contract: Contract, dialect: Dialect) -> Callable[[Path, Contract], None]:
    """The network as a NIR graph; returns what writes it to a path with a contract.

    Raises:
        ConfigError: the package is not installed, or a layer that NIR cannot express.
    """
    from evlift.exporting.nir_graph import nir_graph

    (nir,) = extra("nir", "nir")
    graph = nir_graph(network, contract.shape, dialect)

    def write(path: Path, contract: Contract) -> None:
        graph.metadata = {KEY: contract.to_json()}
        nir.write(path, graph)

    return write


def open_nir(path: Path) -> tuple[Contract, Any]:
    """The contract of a file and what runs it: ``run(x, state) → (logits, next state)``.

    Raises:
        FormatError: no NIR file of evlift's.
    """
    (nir,) = extra("nir", "nir")
    try:
        graph = nir.read(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # HDF5 and NIR have errors of their own
        raise FormatError(
            f"Expected a NIR file at {path}, but: {str(error).strip().rstrip('.')}. {again(path)}"
        ) from None
    text = graph.metadata.get(KEY)
    contract = Contract.from_json(text, path)
    network = NirGraph(graph, contract.dt or 1.0, path)
    return contract, network.run


class NirGraph:
    """A NIR graph of the nodes that `evlift export` writes, step by step in torch.

    Args:
        graph: as `nir.read` gives it.
        dt: seconds of a time step.
        path: for messages.

    Raises:
        FormatError: other nodes, or no single input and output.
    """

    def __init__(self, graph: Any, dt: float, path: Path) -> None:
        self.dt = dt
        self.before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.before[target].append(source)
        self.nodes = {name: _Node.of(graph.nodes[name]) for name in graph.nodes}
        unknown = sorted({node.kind for node in self.nodes.values()} - {*_RUN, *_NEURONS, *_ENDS})
        if unknown:
            raise FormatError(
                f"Expected nodes that `evlift export` writes in {path}, but got {', '.join(unknown)}. {again(path)}"
            )
        self.order = list(graphlib.TopologicalSorter(self.before).static_order())
        self.neurons = [name for name in self.order if self.nodes[name].kind in _NEURONS]

    def run(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """[B, T, C, H, W] and potentials → logits [B, T, K] and the potentials after the last step."""
        left: dict[str, Tensor | None] = dict.fromkeys(self.neurons)
        left |= dict(zip(self.neurons, state, strict=False))
        with torch.no_grad():
            steps = [self._step(step, left) for step in x.unbind(1)]
        return torch.stack(steps, 1).flatten(2), [left[name] for name in self.neurons]  # type: ignore[misc]

    def _step(self, x: Tensor, state: dict[str, Tensor | None]) -> Tensor:
        found: dict[str, Tensor] = {}
        for name in self.order:
            node = self.nodes[name]
            given = (
                x
                if node.kind == "Input"
                else torch.stack([found[source] for source in self.before[name]]).sum(0)
            )
            if node.kind in _NEURONS:
                trace = run_neuron([given], state[name], node.leak(self.dt), node.law())
                found[name], state[name] = trace.spikes[0], trace.potentials[0]
            else:
                found[name] = given if node.kind in _ENDS else _RUN[node.kind](given, node)
        return found[self.order[-1]]


@dataclass(frozen=True)
class _Node:
    """A node's kind and its parameters as tensors."""

    kind: str
    held: dict[str, Any]

    @classmethod
    def of(cls, node: Any) -> _Node:
        arrays = {name: value for name, value in vars(node).items() if not name.endswith("_type")}
        return cls(type(node).__name__, arrays)

    def pair(self, name: str) -> tuple[int, int]:
        """Two numbers of a window, its steps or margins."""
        first, second = (int(value) for value in self.held[name])
        return first, second

    def tensor(self, name: str) -> Tensor:
        """An array as a tensor."""
        return torch.as_tensor(self.held[name])

    def leak(self, dt: float) -> float | None:
        """Share of the way to the input that a neuron goes in a step; None for no leak."""
        return None if self.kind == "IF" else dt / float(self.held["tau"].flat[0])

    def law(self) -> Dynamics:
        """Threshold and hard reset."""
        return Dynamics(threshold=float(self.held["v_threshold"].flat[0]))


def _convolve(x: Tensor, node: _Node) -> Tensor:
    weight, bias = node.tensor("weight"), node.tensor("bias")
    return functional.conv2d(x, weight, bias, node.pair("stride"), node.pair("padding"))


def _mean_pool(x: Tensor, node: _Node) -> Tensor:
    return functional.avg_pool2d(x, node.pair("kernel_size"), node.pair("stride"))


def _sum_pool(x: Tensor, node: _Node) -> Tensor:
    return functional.avg_pool2d(x, node.pair("kernel_size"), node.pair("stride"), divisor_override=1)


_RUN = {"Conv2d": _convolve, "AvgPool2d": _mean_pool, "SumPool2d": _sum_pool}
_NEURONS = ("LIF", "IF")
_ENDS = ("Input", "Output")
