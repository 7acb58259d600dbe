"""`evlift export`: from a run to a checked file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.checks import check_range
from evlift.errors import ConfigError
from evlift.exporting.contract import Contract
from evlift.exporting.opened import open_exported
from evlift.files import atomic_path

if TYPE_CHECKING:
    from evlift.assembly import Trained
    from evlift.exporting.agreement import Agreement

FORMATS = ("onnx", "pt2", "nir")
TARGETS = ("snntorch", "norse")
TOLERANCE = 1e-4
Writer = Callable[[Path, Contract], None]


@dataclass(frozen=True)
class Handover:
    """A file that was written, run and found to agree with its run.

    Args:
        path: the file.
        size: bytes.
        contract: what it says of itself.
        agreement: how far its answers are from the run's.
    """

    path: Path
    size: int
    contract: Contract
    agreement: Agreement


def export(
    folder: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    single_step: bool = False,
    target: str = "snntorch",
    tolerance: float = TOLERANCE,
) -> Handover:
    """Write the network of a finished run for another runtime; the file appears once it agrees with the run.

    Example:
        >>> evlift.export("runs/a", "onnx").agreement.largest_difference  # doctest: +SKIP

    Args:
        folder: a finished run.
        to: "onnx", "pt2" (torch.export) or "nir".
        out: the file; default ``model.onnx`` and so on, ``model-step.onnx`` for a single step, in the run's folder.
        single_step: one time step of a spiking network, with its state as inputs and outputs; else a clip of T steps.
        target: which importer a NIR file suits: "snntorch" (mean pools, 0.1 ms a step) or "norse" (sum pools, 1 ms).
        tolerance: largest difference of a logit from the run's, as a share of the largest logit or of 1.

    Raises:
        DataError: no finished run, or a file whose answers differ by more.
        ConfigError: an unknown format, options that contradict each other, a network that the format cannot express,
            or packages that are not installed.
    """
    from evlift.assembly import open_run

    _check(to, single_step, target, tolerance)
    trained = open_run(folder)
    path = Path(out) if out is not None else trained.run.folder / f"model{'-step' * single_step}.{to}"
    if path.suffix != f".{to}":
        raise ConfigError(f"Expected a file ending in .{to} for --to {to}, but got {path}.")
    contract, write = _converted(trained, to, single_step, target)
    return _checked(trained, contract, write, path, tolerance)


def _check(to: str, single_step: bool, target: str, tolerance: float) -> None:
    if to not in FORMATS:
        raise ConfigError(f"Expected the format to be one of {', '.join(FORMATS)}, but got '{to}'.")
    if target not in TARGETS:
        raise ConfigError(f"Expected the target to be one of {', '.join(TARGETS)}, but got '{target}'.")
    if target != TARGETS[0] and to != "nir":
        raise ConfigError(f"Expected --target with --to nir, but got '{target}' with {to}. Leave it out.")
    if single_step and to == "nir":
        raise ConfigError(
            "Expected no --single-step for NIR, whose graph is that of one step; the framework keeps the state. Leave "
            "it out."
        )
    check_range("tolerance", tolerance, 0)


def _converted(trained: Trained, to: str, single_step: bool, target: str) -> tuple[Contract, Writer]:
    """What the file will say of itself, and what writes it."""
    contract = Contract.of(trained, single_step=single_step, frames=to == "nir")
    network = trained.network
    if to == "nir":
        from evlift.exporting.nir_file import DIALECTS, nir_writer

        write = nir_writer(network, contract, DIALECTS[target])
        return replace(contract, states=_states(network, contract), dt=DIALECTS[target].dt), write
    if single_step:
        contract = replace(contract, states=_states(network, contract))
    if to == "onnx":
        from evlift.exporting.onnx_file import onnx_writer as writer
    else:
        from evlift.exporting.pt2_file import pt2_writer as writer
    return contract, writer(network, contract)


def _states(network: Any, contract: Contract) -> tuple[tuple[int, ...], ...]:
    from evlift.exporting.graph import state_shapes

    return state_shapes(network, contract)


def _checked(trained: Trained, contract: Contract, write: Writer, path: Path, tolerance: float) -> Handover:
    """Write, run and compare; then write the figures into the file, and do so again with what is handed over."""
    from evlift.exporting.agreement import compare
    from evlift.exporting.windows import windows_for

    windows = windows_for(trained, contract)
    with atomic_path(path) as part:
        for _ in range(2):
            write(part, contract)
            agreement = compare(trained.network, open_exported(part).network, windows, tolerance)
            agreement.check()
            contract = replace(contract, agreement=agreement.to_dict())
        size = part.stat().st_size
    return Handover(path, size, contract, agreement)
