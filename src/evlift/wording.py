"""Wording of messages: counted nouns, and options by the name that a recipe has for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number and its noun.

    Example:
        >>> counted(1, "event"), counted(2500, "event"), counted(0, "class", "classes")
        ('1 event', '2,500 events', '0 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def as_fields(message: str, section: str, options: Collection[str]) -> str:
    """A message about arguments as one about fields of a recipe's section.

    Example:
        >>> as_fields("Expected `p` above 0, but got 0. Set tet=True.", "method", {"p", "tet"})
        'Expected method.p above 0, but got 0. Set method.tet=true.'
    """
    names = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    if not names:
        return message
    message = re.sub(rf"`({names})`", rf"{section}.\1", message)
    return re.sub(
        rf"(?<![\w.-])({names})=('[^']*'|\w+(?:\.\d+)?)",
        lambda found: f"{section}.{found[1]}={_plain(found[2])}",
        message,
    )


def _plain(value: str) -> str:
    """A Python value as YAML has it."""
    return {"True": "true", "False": "false", "None": "null"}.get(value, value.strip("'"))


KINDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a finite number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'NoneType'>": "null",
    "tuple[int, int]": "a list of 2 whole numbers",
    "tuple[float, float]": "a list of 2 finite numbers",
    "tuple with 2 elements": "a list of 2 numbers",
    "<class 'tuple'>": "a list of 2 numbers",
}
"""Types as jsonargparse names them, and what a recipe has in their place."""


def of_wrong_value(said: str, defaults: Mapping[str, Any]) -> str:
    """jsonargparse's message about a value of the wrong type as one of ours; other messages as they are.

    Example:
        >>> of_wrong_value("Parser key \\"a.b\\":\\n  Expected a <class 'float'>. Got value: nan", {"a.b": 0.1})
        'Expected a.b to be a finite number, but got nan. Correct it or leave it out; the default is 0.1.'
    """
    found = re.match(r'Parser key "([\w.]+)":\s+(.*)(?:Got|Given) value: (.*)', said, re.DOTALL)
    if not found:
        return said
    field, reason, value = found.groups()
    subtypes = re.search(r"Subtypes: \[(.*?)\]\n", reason)
    kinds = [kind for name, kind in KINDS.items() if name in (subtypes[1] if subtypes else reason)]
    choices = re.search(r"Literal\[(.*?)\]", reason)
    if choices:
        kinds.append(f"one of {choices[1]}".replace("'", ""))
    if not kinds:
        return said
    default = defaults.get(field)
    remedy = "Correct it or leave it out" + ("." if default is None else f"; the default is {default}.")
    return f"Expected {field} to be {' or '.join(kinds)}, but got {value.strip()}. {remedy}"


def of_parser(error: Exception, defaults: Mapping[str, Any]) -> str:
    """jsonargparse's message: of a value of a wrong type in our words, of an unknown field with the nearest known."""
    said = str(error).removeprefix("error: ").strip() or type(error).__name__
    given = re.search(
        r"unrecognized arguments: --([\w.]+)|Group '(\w+)' does not accept option '(\w+)'", said
    )
    near = difflib.get_close_matches(".".join(filter(None, given.groups())), defaults, n=1) if given else []
    return f"{said} Did you mean {near[0]}?" if near else of_wrong_value(said, defaults)
