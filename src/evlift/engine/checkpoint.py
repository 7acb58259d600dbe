"""Checkpoints: weights as safetensors, resume state that loads without running code, both written atomically."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evlift.errors import DataError
from evlift.files import atomic_path


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as a safetensors file; the old file stays until the new one is whole."""
    with atomic_path(path) as part:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, part, metadata
        )


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
    with atomic_path(path) as part:
        torch.save(state, part)


def load_resume(path: Path) -> dict[str, Any]:
    """Read resume state; nothing in the file is executed (``weights_only=True``).

    Raises:
        DataError: the file is broken or holds anything but plain data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be resumed from ({type(error).__name__}: {error}). Delete it to start again."
        ) from error
