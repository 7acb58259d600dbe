"""Written files opened again, to be used like a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evlift.assembly import TrainedNetwork
from evlift.errors import ConfigError
from evlift.exporting.contract import Contract

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from evlift.models.base import SpikingOutput

SUFFIXES = (".onnx", ".pt2", ".nir")


@dataclass(frozen=True, kw_only=True)
class Exported(TrainedNetwork):
    """A written file, opened: what `evlift.open_run` gives for a run.

    Args:
        path: the file.
        contract: what it says of itself.
    """

    path: Path
    contract: Contract

    @property
    def place(self) -> Path:
        """The file."""
        return self.path

    @property
    def inner_scale(self) -> float | None:
        """The count that becomes 1 in files that normalise by a fixed scale."""
        within = self.contract.reads == "counts" and self.contract.input["normalise"] == "quantile"
        return self.contract.record["count_scale"] if within else None


class ExportedNetwork:
    """A network in another runtime that answers like one of evlift's.

    Args:
        contract: of the file.
        run: (x, state) → (logits, next state), of a clip or of one step.
    """

    def __init__(
        self, contract: Contract, run: Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
    ) -> None:
        self.contract, self.task = contract, contract.task
        self.classes = len(contract.record["classes"])
        self.channels, *size = contract.shape
        self.input_size = tuple(size)
        self.keeps_state = bool(contract.states)
        self._run = run

    def __call__(
        self, x: Tensor, *, head: str = "event", state: Sequence[Tensor] | None = None, taps: bool = False
    ) -> SpikingOutput:
        """[B, T, C, H, W] → logits [B, T', K(, H, W)], and the state where the file takes one.

        Raises:
            ValueError: an x of another shape.
            ConfigError: a state for a file that takes none.
        """
        import torch

        from evlift.models.base import SpikingOutput

        self._check(x, state)
        x = x.detach().float().cpu()
        if not self.contract.single_step:
            logits, left = self._run(x, list(state or ()))
            return SpikingOutput(logits, None, None, left)
        left = list(state or (torch.zeros(len(x), *shape) for shape in self.contract.states))
        steps = []
        for step in x.unbind(1):  # [B, T, C, H, W] → T × [B, C, H, W]
            logits, left = self._run(step.contiguous(), left)
            steps.append(logits)
        return SpikingOutput(torch.stack(steps, 1), None, None, left)  # T × [B, K] → [B, T, K]

    def _check(self, x: Tensor, state: Sequence[Tensor] | None) -> None:
        contract = self.contract
        steps = "T ≥ 1" if self.keeps_state else contract.steps
        fits = x.ndim == 5 and x.shape[1] > 0 and (self.keeps_state or x.shape[1] == contract.steps)
        if not fits or tuple(x.shape[2:]) != contract.shape:
            shape = ", ".join(map(str, contract.shape))
            raise ValueError(f"Expected `x` to be [B, {steps}, {shape}], but got {list(x.shape)}.")
        if state is not None and len(state) != len(contract.states):
            raise ConfigError(
                f"Expected {len(contract.states)} potentials for this file, but got {len(state)}. Export the run with "
                "--single-step to pass a state on."
            )


def open_exported(path: str | Path) -> Exported:
    """Open a file that `evlift export` wrote.

    Example:
        >>> model = open_exported("runs/a/model.onnx")  # doctest: +SKIP
        >>> model.network(clips).logits.mean(1).argmax(-1)  # doctest: +SKIP

    Args:
        path: an .onnx, .pt2 or .nir file. ONNX runs in onnxruntime; the others in torch.

    Raises:
        FormatError: a file of another kind or origin.
        ConfigError: the packages for it are not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"Expected a file of `evlift export` at {file}, but there is none.")
    suffix = file.suffix.lower()
    if suffix == ".onnx":
        from evlift.exporting.onnx_file import open_onnx as opener
    elif suffix == ".pt2":
        from evlift.exporting.pt2_file import open_pt2 as opener
    elif suffix == ".nir":
        from evlift.exporting.nir_file import open_nir as opener
    else:
        raise ConfigError(f"Expected a file ending in {', '.join(SUFFIXES)}, but got {file}.")
    contract, run = opener(file)
    return Exported(
        path=file,
        contract=contract,
        network=ExportedNetwork(contract, run),
        recipe=contract.recipe(),
        record=contract.opened_record(),
    )
