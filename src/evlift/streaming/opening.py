"""Opening what predicts: a run's folder or an exported network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evlift.assembly import TrainedNetwork


def open_predictor(path: str | Path) -> TrainedNetwork:
    """What predicts, opened.

    Example:
        >>> trained = open_predictor("runs/first")  # doctest: +SKIP
        >>> trained.network(clip[None]).logits.shape  # doctest: +SKIP
        torch.Size([1, 6, 10])

    Args:
        path: folder of a finished run, a pack, the name of shipped weights, or a network that `evlift export` wrote to
            .onnx, .pt2 or .nir.

    Raises:
        DataError: no such run.
        FormatError: a file that `evlift export` did not write.
        ConfigError: an exported network whose packages are not installed.
    """
    from evlift.assembly import open_run
    from evlift.exporting.opened import SUFFIXES, open_exported

    if Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir():
        return open_exported(path)
    return open_run(path)
