"""Opening what predicts: a run's folder or an exported network."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from evlift.errors import ConfigError

EXPORTED = (".onnx", ".pt2", ".nir")


def open_predictor(path: str | Path) -> Any:
    """What predicts, opened: an object with `recipe`, `record`, `network` and `classes`, as of `open_run`.

    Example:
        >>> trained = open_predictor("runs/first")  # doctest: +SKIP
        >>> trained.network(clip[None]).logits.shape  # doctest: +SKIP
        torch.Size([1, 6, 10])

    Args:
        path: folder of a finished run, or a network that was exported to .onnx, .pt2 or .nir.

    Raises:
        DataError: no such run.
        ConfigError: an exported network where this installation cannot run one.
    """
    from evlift.assembly import open_run

    if Path(path).suffix.lower() not in EXPORTED or Path(path).is_dir():
        return open_run(path)
    try:
        exporting = importlib.import_module("evlift.exporting")
        return exporting.open_exported(path)
    except ImportError as error:
        raise ConfigError(
            f"Expected to run the exported network {path}, but {error.name or error} is not installed. Give the "
            "folder of the run, or install what the export needs: pip install 'evlift[export]'."
        ) from None
