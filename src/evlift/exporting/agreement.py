"""How far a written file's answers are from those of the network it was made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from evlift.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evlift.exporting.opened import ExportedNetwork
    from evlift.exporting.windows import Windows


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
    """

    windows: int
    origin: str
    largest_difference: float
    largest_logit: float
    equal_decisions: float
    tolerance: float
    worst: int

    @property
    def allowed(self) -> float:
        """The largest difference that passes."""
        return self.tolerance * max(1.0, self.largest_logit)

    def check(self) -> None:
        """Raise :class:`~evlift.errors.DataError` unless the difference is allowed."""
        if self.largest_difference <= self.allowed:  # a difference that is no number fails
            return
        raise DataError(
            f"The written network differs from the original: by up to {self.largest_difference:.3g} in a logit (window "
            f"{self.worst} of {self.windows} of {self.origin}), where {self.allowed:.3g} is allowed; "
            f"{self.equal_decisions:.2%} of the decisions are equal. Nothing was kept. If a spike on the other side of "
            "its threshold explains it, raise --tolerance; else report it with the run's config.yaml."
        )

    def to_dict(self) -> dict[str, Any]:
        """As it is stored in the file."""
        return asdict(self)


def compare(original: nn.Module, written: ExportedNetwork, windows: Windows, tolerance: float) -> Agreement:
    """Run both on the windows, the written one in two batches of different sizes."""
    with torch.no_grad():
        wanted = original(windows.frames).logits.float()  # [n, T', K(, H, W)]
    parts = (windows.given[:1], windows.given[1:])
    found = torch.cat([written(part).logits for part in parts if len(part)])
    if found.shape != wanted.shape:
        raise DataError(f"Expected logits {list(wanted.shape)} of the written network, but got {list(found.shape)}.")
    apart = (found - wanted).abs().flatten(1).amax(1)  # [n]
    alike = found.mean(1).argmax(1) == wanted.mean(1).argmax(1)
    return Agreement(
        windows=len(wanted),
        origin=windows.origin,
        largest_difference=float(apart.amax()),
        largest_logit=float(wanted.abs().amax()),
        equal_decisions=float(alike.float().mean()),
        tolerance=tolerance,
        worst=int(apart.argmax()),
    )
