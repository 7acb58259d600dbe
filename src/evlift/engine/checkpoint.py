"""Checkpoints: weights as safetensors, resume state that loads without running code, both written atomically."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from evlift.errors import DataError
from evlift.files import atomic_path


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as a safetensors file; the old file stays until the new one is whole."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with _written(path) as part:
        part.write_bytes(as_bytes(tensors, metadata))  # its own files can be read by their owner alone


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into a module; names and shapes must match.

    Raises:
        DataError: the file is missing or broken, or belongs to another network.
    """
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise DataError(f"Expected weights at {path}. Train first: evlift train RECIPE.") from None
    except Exception as error:
        raise DataError(f"{path} does not fit the network of its config.yaml: {error}") from error


def save_resume(path: Path, state: dict[str, Any]) -> None:
    """Write resume state: tensors, numbers, strings, lists and dictionaries alone."""
    with _written(path) as part:
        torch.save(state, part)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """:func:`atomic_path` for writers that report a full disk by errors of their own."""
    try:
        with atomic_path(path) as part:
            yield part
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path} could not be written ({error}). The former one is kept. Make room, then give the same "
            "command again."
        ) from error


class LastStep:
    """What a failing step may have moved, as the last finished one left it: buffers, never weights.

    Args:
        module: whose weights only the optimiser moves.
    """

    def __init__(self, module: nn.Module) -> None:
        self._buffers = list(module.buffers())
        self._kept = [buffer.clone() for buffer in self._buffers]
        self._whole = True

    def finished(self) -> None:
        """The step is done: this is what to come back to."""
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)
        self._whole = True

    def updating(self) -> None:
        """Weights are about to move: there is nothing to come back to until the step has finished."""
        self._whole = False

    def restore(self) -> bool:
        """Come back to the last finished step; False if weights were moving."""
        if self._whole and self._buffers:
            torch._foreach_copy_(self._buffers, self._kept)
        return self._whole


def load_resume(path: Path) -> dict[str, Any]:
    """Read resume state; nothing in the file is executed (``weights_only=True``).

    Raises:
        DataError: the file is broken or holds anything but plain data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch checks no sums
                raise ValueError(f"the sum of '{damaged}' is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail anywhere in the decoder
        raise DataError(
            f"{path} cannot be resumed from ({type(error).__name__}: {error}). Delete it to start again."
        ) from error
