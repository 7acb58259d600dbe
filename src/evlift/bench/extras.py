"""What a user adds to a suite: files that register methods, networks or data, and further rows."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evlift.config import registries
from evlift.errors import ConfigError


def load_plugins(files: Sequence[Path]) -> None:
    """Import Python files that register methods, networks or data of a user's own, each once.

    Raises:
        ConfigError: there is no such file, or it does not run.
    """
    for file in map(Path.resolve, files):
        name = f"evlift_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            continue
        if not file.is_file():
            raise ConfigError(
                f"Expected a Python file at {file}, but there is none. Correct `plugins` of the suite, or --plugin."
            )
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ConfigError(f"Expected a Python file as plugin, but got {file}.")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)  # annotations are resolved there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise ConfigError(
                f"Expected {file} to run as a plugin, but: {type(error).__name__}: {error}. Correct it."
            ) from error


def add_rows(content: dict[str, Any], more: Mapping[str, Any], path: str) -> None:
    """Put further rows into a suite's content, where every cell and the quick form have them.

    Args:
        content: of the suite's file, changed in place.
        more: by name, what a suite's `rows` says, or the name of a method, which ignores what cells say of options
            that it does not have.
        path: of the file.

    Raises:
        ConfigError: a row of that name is there, or there is no such method.
    """
    rows, cells = content.get("rows"), content.get("cells")
    if not more or not isinstance(rows, dict) or not isinstance(cells, dict):
        return  # what is wrong with the file is said when it is checked
    for name, said in more.items():
        if name in rows:
            raise ConfigError(f"Expected a new name for a further row of {path}, but got '{name}'.")
        rows[name] = {"method": said, "ignores": _foreign(said, cells)} if isinstance(said, str) else said
    for part in (*cells.values(), content.get("quick")):
        if isinstance(part, dict) and isinstance(part.get("rows"), list) and part["rows"]:
            part["rows"] = [*part["rows"], *more]


def _foreign(method: str, cells: Mapping[str, Any]) -> list[str]:
    """The options of methods that cells set or vary and this one does not have."""
    known = inspect.signature(registries()["method"][method]).parameters
    named: set[str] = set()
    for cell in (cell for cell in cells.values() if isinstance(cell, dict)):
        changes = (cell.get("set") or {}).get("method")
        named |= set(changes) if isinstance(changes, dict) else set()
        fields = [field.strip() for key in cell.get("vary") or () for field in str(key).split("+")]
        named |= {field.removeprefix("method.") for field in fields if field.startswith("method.")}
    return [f"method.{name}" for name in sorted(named - {"name", *known})]
