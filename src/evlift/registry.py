"""Names for things: one registry a kind, filled by a decorator where the thing is defined."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from evlift.errors import ConfigError

T = TypeVar("T", bound=Callable[..., Any])


class Registry:
    """Maps names to classes or factories of one kind.

    Example:
        >>> LOSSES = Registry("loss")
        >>> @LOSSES.register("zero")
        ... def zero() -> int:
        ...     return 0
        >>> LOSSES["zero"]()
        0

    An unknown name raises :class:`~evlift.errors.ConfigError` with the known names and the nearest one.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a class or factory under `name`; a second use of a name is an error."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"The {self.kind} name '{name}' is taken by {self._entries[name]!r}.")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self._entries:
            near = difflib.get_close_matches(str(name), self._entries, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            known = ", ".join(self.names())
            raise ConfigError(f"Unknown {self.kind} '{name}'.{hint} Known: {known}.")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._entries)
