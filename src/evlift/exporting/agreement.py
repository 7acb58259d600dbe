"""How far a written file's answers are from those of the network it was made of.

The logits of a conventional network move with rounding. Those of a spiking one jump where a potential lies so close to
its threshold that another order of summation decides whether it fires. How often that happens by rounding alone is
measured on the original itself, once more in double precision: a file may jump in twice as many windows, or in three.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from evlift.errors import DataError
from evlift.wording import counted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evlift.exporting.opened import ExportedNetwork
    from evlift.exporting.windows import Windows

FEW_JUMPS = 3
LEAST_EQUAL = 0.95  # of the decisions, where windows jump


@dataclass(frozen=True)
class Agreement:
    """The comparison of two networks on the same windows.

    Args:
        windows: how many.
        origin: where they come from.
        largest_difference: between two logits.
        largest_logit: of the original, by magnitude.
        equal_decisions: share of the classes decided alike, of windows or, in segmentation, pixels.
        tolerance: largest difference allowed, as a share of the largest logit or of 1 if that is larger.
        worst: index of the window with the largest difference.
        jumps: windows with a larger one.
        allowed_jumps: how many of them pass.
    """

    windows: int
    origin: str
    largest_difference: float
    largest_logit: float
    equal_decisions: float
    tolerance: float
    worst: int
    jumps: int = 0
    allowed_jumps: int = 0

    @property
    def allowed(self) -> float:
        """The largest difference that is no jump."""
        return self.tolerance * max(1.0, self.largest_logit)

    def check(self) -> None:
        """Raise :class:`~evlift.errors.DataError` unless the differences are allowed."""
        few = self.jumps <= self.allowed_jumps and self.equal_decisions >= LEAST_EQUAL
        if self.jumps == 0 or few:
            return
        raise DataError(
            f"The written network differs from the original: by up to {self.largest_difference:.3g} in a logit (window "
            f"{self.worst} of {self.windows} of {self.origin}), and in {counted(self.jumps, 'window')} by more than "
            f"the {self.allowed:.3g} allowed, where {self.allowed_jumps} may; {self.equal_decisions:.2%} of the "
            "decisions are equal. Nothing was kept. Export to another format, or raise --tolerance if you can do with "
            "that."
        )

    def to_dict(self) -> dict[str, Any]:
        """As it is stored in the file."""
        return asdict(self)


def compare(original: nn.Module, written: ExportedNetwork, windows: Windows, tolerance: float) -> Agreement:
    """Run both on the windows, the written one in two batches of different sizes."""
    wanted = _logits(original, windows.frames)
    parts = (windows.given[:1], windows.given[1:])
    found = torch.cat([written(part).logits for part in parts if len(part)])
    if found.shape != wanted.shape:
        raise DataError(
            f"Expected logits {list(wanted.shape)} of the written network, but got {list(found.shape)}."
        )
    apart, largest = _apart(found, wanted), float(wanted.abs().amax())
    far = tolerance * max(1.0, largest)
    jumps = _beyond(apart, far)
    allowed = 0
    if jumps and getattr(original, "layers", 0):
        own = _logits(copy.deepcopy(original).double(), windows.frames.double())
        allowed = max(FEW_JUMPS, 2 * _beyond(_apart(own, wanted), far))
    alike = found.mean(1).argmax(1) == wanted.mean(1).argmax(1)
    return Agreement(
        windows=len(wanted),
        origin=windows.origin,
        largest_difference=float(apart.amax()),
        largest_logit=largest,
        equal_decisions=float(alike.float().mean()),
        tolerance=tolerance,
        worst=int(apart.argmax()),
        jumps=jumps,
        allowed_jumps=allowed,
    )


def _logits(network: nn.Module, clips: Tensor) -> Tensor:
    """[n, T', K(, H, W)]."""
    with torch.no_grad():
        return network(clips).logits.float()


def _apart(found: Tensor, wanted: Tensor) -> Tensor:
    """[n], the largest difference in each window."""
    return (found - wanted).abs().flatten(1).amax(1)


def _beyond(apart: Tensor, far: float) -> int:
    return int((~(apart <= far)).sum())  # what is no number is beyond
