"""Checks of options: each raises :class:`~evlift.errors.ConfigError` that names the option and what was got."""

from __future__ import annotations

from typing import get_args

from evlift.errors import ConfigError


def check_choice(name: str, value: str, choices: object) -> None:
    """Refuse a `value` that is none of the Literal `choices`."""
    if value not in get_args(choices):
        raise ConfigError(
            f"Expected `{name}` to be one of {', '.join(get_args(choices))}, but got '{value}'."
        )


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Refuse a `value` that is not finite or not in [low, high]."""
    if not low <= value <= high or value == float("inf"):
        wanted = f"at least {low:g}" if high == float("inf") else f"in [{low:g}, {high:.10g}]"
        raise ConfigError(f"Expected {name} to be {wanted}, but got {value}.")


def check_positive(name: str, value: int) -> None:
    """Refuse a number under 1."""
    if value < 1:
        raise ConfigError(f"Expected `{name}` to be at least 1, but got {value}.")


def check_share(name: str, value: float) -> None:
    """Refuse what does not lie in [0, 1]."""
    if not 0 <= value <= 1:
        raise ConfigError(f"Expected `{name}` in [0, 1], but got {value}.")


def check_weight(name: str, value: float) -> float:
    """`value`, the weight of a loss, unless it is negative or not finite."""
    if not 0 <= value < float("inf"):
        raise ConfigError(f"Expected the weight `{name}` to be at least 0 and finite, but got {value}.")
    return value
