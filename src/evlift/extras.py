"""Packages that are no part of the plain installation."""

from __future__ import annotations

import importlib
from typing import Any

from evlift.errors import ConfigError


def extra(name: str, *modules: str) -> list[Any]:
    """The modules of the extra `name` of evlift's installation.

    Example:
        >>> onnx, onnxruntime = extra("onnx", "onnx", "onnxruntime")  # doctest: +SKIP

    Raises:
        ConfigError: one of them is not installed; says how to install it.
    """
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise ConfigError(
            f"Expected the package {error.name}, but it is not installed. Install it: pip install 'evlift[{name}]'."
        ) from None
