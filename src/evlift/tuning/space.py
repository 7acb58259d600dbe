"""Search spaces: which fields of a recipe are tried, and over what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evlift.config import Recipe
from evlift.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Trial

SECTIONS = ("data", "input", "model", "method", "train")
LOG = "log"


@dataclass(frozen=True)
class Dimension:
    """One field of a search space.

    Args:
        field: such as "train.lr".
        low, high: ends of a range, both included; whole numbers where both are.
        log: drawn evenly in the logarithm.
        choices: in place of a range.
    """

    field: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Trial) -> Any:
        """The trial's value."""
        if self.choices:
            return trial.suggest_categorical(self.field, self.choices)
        if self.whole:
            return trial.suggest_int(self.field, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.field, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a value is one that may be drawn."""
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def whole(self) -> bool:
        """Whether whole numbers alone are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """What may be drawn at the least and the most, or all choices."""
        return self.choices or tuple(end if self.whole else float(end) for end in (self.low, self.high))

    def __str__(self) -> str:
        if self.choices:
            return f"{self.field} of {', '.join(map(str, self.choices))}"
        kinds = ["log"] * self.log + ["whole numbers"] * self.whole
        return f"{self.field} in [{self.low:g}, {self.high:g}]" + (f" ({', '.join(kinds)})" if kinds else "")


def parse_space(said: object, place: str) -> tuple[Dimension, ...]:
    """Read a search space.

    Example:
        >>> [str(d) for d in parse_space({"train.lr": [0.001, 0.1, "log"], "method.mag": ["off", "normal"]}, "x")]
        ['train.lr in [0.001, 0.1] (log)', 'method.mag of off, normal']

    Args:
        said: by field, `[low, high]`, `[low, high, log]`, `{choices: [...]}`, or a list of words.
        place: for messages.

    Raises:
        ConfigError: something else, an empty range, or a logarithm of what is not positive.
    """
    if not isinstance(said, Mapping) or not said:
        raise ConfigError(
            f"Expected a search space in {place}, such as `train.lr: [0.001, 0.1, log]`, but got {said!r}."
        )
    return tuple(_dimension(str(field), content, place) for field, content in said.items())


def _dimension(field: str, said: Any, place: str) -> Dimension:
    section, _, name = field.partition(".")
    if section not in SECTIONS or not name or name == "name":
        raise ConfigError(f"Expected a field of a recipe such as train.lr in {place}, but got '{field}'.")
    if isinstance(said, list):
        said = [_number_of(value) for value in said]
    choices = said.get("choices") if isinstance(said, Mapping) and set(said) == {"choices"} else None
    if isinstance(said, list) and said and all(isinstance(value, str | bool) for value in said):
        choices = said
    if isinstance(choices, list) and choices and all(_is_plain(value) for value in choices):
        return Dimension(field, choices=tuple(choices))
    log = isinstance(said, list) and said[2:] == [LOG]
    ends = said[:2] if log else said
    numbers = isinstance(ends, list) and len(ends) == 2 and all(_is_number(end) for end in ends)
    if choices is not None or not numbers:
        raise ConfigError(
            f"Expected [low, high], [low, high, log] or {{choices: [...]}} for {field} in {place}, but got {said!r}."
        )
    low, high = ends
    if not -math.inf < low < high < math.inf or (log and low <= 0):
        raise ConfigError(
            f"Expected low < high{', low > 0 for a log,' if log else ''} for {field} in {place}, but got {said!r}."
        )
    return Dimension(field, low, high, log)


def _number_of(value: Any) -> Any:
    """A word that is a number as one: YAML reads 1e-4, without a dot, as a word."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def value_of(recipe: Recipe, field: str) -> Any:
    """What a recipe says of a field."""
    section, _, name = field.partition(".")
    return recipe.to_dict()[section][name]


def check_space(recipe: Recipe, space: tuple[Dimension, ...], name: str) -> None:
    """Raise ConfigError where an end or choice of the space, alone, makes no recipe."""
    for dimension in space:
        for value in dimension.ends:
            try:
                with_values(recipe, {dimension.field: value})
            except ConfigError as error:
                raise ConfigError(
                    f"Expected values of {dimension.field} in the search space that {name} can take, but got {value}: "
                    f"{error}"
                ) from None


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values in some fields, checked again as a whole."""
    from evlift.config import parse_recipe

    content = recipe.to_dict()
    for field, value in values.items():
        section, _, name = field.partition(".")
        content[section][name] = value
    return parse_recipe(content)
