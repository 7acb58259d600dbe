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
        name: a name of :func:`model_names`; "timm:resnet18" is short for "timm" with `encoder="resnet18"`,
            "smp:unet" for "smp" with `arch="unet"`.
        options: keywords of the network's constructor.

    Raises:
        ConfigError: unknown name or option, or an option out of its range; nothing has been built then.
    """
    model_names()
    name, _, short = name.partition(":")
    factory = MODELS[name]
    if short:
        options[_short_option(name)] = short
    known = [key for key in inspect.signature(factory).parameters if key != "self"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"Unknown option '{unknown[0]}' of model '{name}'. Known: {', '.join(known)}.")
    if options.get("classes", 1) < 1:
        raise ConfigError(f"Expected `classes` to be at least 1, but got {options['classes']}.")
    return factory(**options)


def model_names() -> list[str]:
    """The names that :func:`create_model` knows, sorted."""
    for module in ("spiking", "ann", "segmentation", "composite"):
        importlib.import_module(f"evlift.models.{module}")
    return MODELS.names()


def check_task(network: nn.Module, task: str) -> None:
    """Raise ConfigError unless `network` is one for `task`, "recognition" or "segmentation"."""
    found = getattr(network, "task", task)
    if found != task:
        names = (name for name in model_names() if getattr(MODELS[name], "task", None) == task)
        raise ConfigError(
            f"Expected a network for {task}, because the data's labels are for that, but got "
            f"{type(network).__name__} for {found}. Use one of {', '.join(names)}."
        )


def _short_option(name: str) -> str:
    """The option that stands after the colon of a short form."""
    option = getattr(MODELS[name], "short", None)
    if option is None:
        raise ConfigError(f"Expected no colon after '{name}', because timm and smp alone have short forms.")
    return option
