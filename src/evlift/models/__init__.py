"""Networks by name: spiking students and conventional encoders behind one call.

Importing this package is cheap; torch and the network modules load on the first :func:`create_model`.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from evlift.errors import ConfigError
from evlift.registry import Registry

if TYPE_CHECKING:
    from torch import nn

MODELS = Registry("model")


def create_model(name: str, **options: Any) -> nn.Module:
    """Build the network `name`.

    Example:
        >>> net = create_model("scnn", classes=10)
        >>> encoder = create_model("timm:resnet18", classes=10, channels=2, steps=6, input_size=48)

    Args:
        name: a name of :func:`model_names`; "timm:resnet18" is short for "timm" with `encoder="resnet18"`.
        options: keywords of the network's constructor.

    Raises:
        ConfigError: unknown name or option, or an option out of its range; nothing has been built then.
    """
    model_names()
    name, _, encoder = name.partition(":")
    if encoder:
        options["encoder"] = encoder
    factory = MODELS[name]
    known = [key for key in inspect.signature(factory).parameters if key != "self"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"Unknown option '{unknown[0]}' of model '{name}'. Known: {', '.join(known)}.")
    return factory(**options)


def model_names() -> list[str]:
    """The names that :func:`create_model` knows, sorted."""
    for module in ("spiking", "ann"):
        importlib.import_module(f"evlift.models.{module}")
    return MODELS.names()
