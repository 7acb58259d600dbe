"""Training methods by name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from evlift.errors import ConfigError
from evlift.methods import (  # noqa: F401  (they fill the registry)
    baselines,
    evdistill,
    image_first,
    kt,
    lift,
    self_training,
    tmkt,
)
from evlift.methods.base import METHODS, Method, Phase, Progress, StepOutput

__all__ = ["METHODS", "Method", "Phase", "Progress", "StepOutput", "create_method", "method_options"]


def method_options(name: str) -> list[str]:
    """The options of the method `name`, in the order of its signature."""
    parameters = inspect.signature(METHODS[name]).parameters.values()
    return [item.name for item in parameters if item.kind is item.KEYWORD_ONLY]


def create_method(name: str, student: nn.Module, **options: Any) -> Method:
    """The method `name` around `student`.

    Example:
        >>> create_method("tmkt", student, steps=10, r_m=0.3)

    Args:
        name: a name of the registry `METHODS`.
        student: the network that is trained, and all that inference needs.
        options: the keyword arguments of the method's class.

    Raises:
        ConfigError: an unknown name or option, a missing one, or options that contradict each other.
    """
    known = method_options(name)
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ConfigError(f"Method '{name}' has no option '{option}'.{hint} Known: {', '.join(known)}.")
    parameters = inspect.signature(METHODS[name]).parameters
    missing = [
        item for item in known if parameters[item].default is inspect.Parameter.empty and item not in options
    ]
    if missing:
        raise ConfigError(f"Method '{name}' needs the option '{missing[0]}', but got none.")
    method: Method = METHODS[name](student, **options)
    return method
