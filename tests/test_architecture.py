"""The shape of the source: imports point downwards, files and functions stay small, a few words never appear.

An exception stands in a table beside its reason; one that is no longer needed fails too.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import evlift

SOURCE = Path(evlift.__file__).parent

BASE = {"errors", "checks", "registry", "files", "masks", "extras", "wording"}
MAY_IMPORT = {  # part of the package → the parts below it that it may import, now or inside a function
    "errors": set(),
    "checks": {"errors"},
    "registry": {"errors"},
    "files": {"errors"},
    "masks": set(),
    "extras": {"errors"},
    "kernels": set(),
    "wording": set(),
    "parallel": {"errors"},
    "progress": {"errors"},
    "events": BASE | {"kernels", "parallel"},
    "representations": BASE | {"kernels", "events"},
    "augment": BASE | {"kernels", "events"},
    "simulate": BASE | {"kernels", "events"},
    "datasets": BASE | {"events", "representations", "augment", "simulate"},
    "losses": {"errors", "registry", "masks"},
    "models": {"errors", "registry"},
    "methods": {"errors", "checks", "registry", "masks", "losses", "models"},
    "config": BASE | {"datasets", "models", "methods"},
    "engine": BASE | {"config", "events", "representations", "datasets", "models", "methods"},
    "assembly": BASE | {"config", "events", "representations", "datasets", "models", "methods", "engine"},
    "api": BASE | {"config", "events", "datasets", "models", "engine", "assembly"},
    "exporting": BASE | {"config", "events", "representations", "models", "assembly"},
    "streaming": BASE
    | {"config", "events", "representations", "datasets", "engine", "assembly", "exporting"},
    "report": BASE
    | {
        "config",
        "events",
        "representations",
        "datasets",
        "models",
        "methods",
        "engine",
        "assembly",
        "api",
        "streaming",
    },
    "viewer": BASE | {"events", "streaming"},
    "judge": BASE
    | {"config", "events", "augment", "simulate", "datasets", "engine", "assembly", "api", "report"},
    "demo": BASE | {"config", "engine", "assembly", "api", "report", "progress"},
    "bench": BASE | {"config", "engine", "api", "report", "progress"},
    "tuning": BASE | {"config", "api", "bench", "progress"},
    "verbs": BASE
    | {
        "config",
        "events",
        "simulate",
        "datasets",
        "engine",
        "assembly",
        "api",
        "judge",
        "streaming",
        "demo",
        "bench",
        "tuning",
        "progress",
        "exporting",
        "report",
        "viewer",
    },
    "cli": {"errors", "verbs"},
    "__main__": {"cli"},
}

IMPORT_EXCEPTIONS: dict[tuple[str, str], str] = {}
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {
    "methods/evdistill.py:EvDistill.__init__": "its options, one a line, are the method section of a recipe",
}
DEEP_FUNCTIONS: dict[str, str] = {}
WIDE_FUNCTIONS: dict[str, str] = {}

COMPILED = "kernels/"  # numba knows no keyword-only arguments, and a loop over pixels in a loop over steps is the point

FILE_LINES, FUNCTION_LINES, MEDIAN_LINES, DEPTH, ARGUMENTS = 400, 50, 10, 3, 5
ABSOLUTE_PATH = re.compile(r"^(/(home|usr|tmp|root|mnt|opt|etc|var|data|srv|work)(/|$)|[A-Za-z]:\\)")
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file; `name` is its path below the package."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.text)

    @property
    def part(self) -> str:
        """The entry of MAY_IMPORT that it belongs to."""
        return self.name.split("/")[0].removesuffix(".py")

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function with its place, such as "api.py:train" or "files.py:Class.method"; overloads left out."""
        yield from ((f"{self.name}:{name}", node) for name, node in _functions(self.tree, ""))


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            if isinstance(child, Function) and not _is_overload(child):
                yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _is_overload(node: ast.AST) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in getattr(node, "decorator_list", ()))


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def modules() -> tuple[Module, ...]:
    files = sorted(SOURCE.rglob("*.py"))
    return tuple(Module(f.relative_to(SOURCE).as_posix(), f.read_text("utf-8")) for f in files)


def imported_parts(module: Module) -> set[tuple[int, str]]:
    """(line, part) of every import of evlift that happens when code runs; TYPE_CHECKING blocks are left out."""
    found = set()
    for node in _running(module.tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            whole = node.module == "evlift"
            names = [f"evlift.{alias.name}" for alias in node.names] if whole else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {(node.lineno, name.split(".")[1]) for name in names if name.startswith("evlift.")}
    return found


def _running(node: ast.AST) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        if (
            isinstance(child, ast.If)
            and isinstance(child.test, ast.Name)
            and child.test.id == "TYPE_CHECKING"
        ):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _running(child)


def code_lines(function: Function, text: str) -> int:
    """Lines of a function, its head included, less docstring, blank lines and comments."""
    lines = text.splitlines(keepends=True)[function.lineno - 1 : function.end_lineno]
    counted: set[int] = set()
    silent = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    for token in tokenize.generate_tokens(io.StringIO("".join(_dedented(lines))).readline):
        if token.type not in silent:
            counted |= set(range(token.start[0], token.end[0] + 1))
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        offset = function.lineno - 1
        counted -= set(range(first.lineno - offset, (first.end_lineno or first.lineno) - offset + 1))
    return len(counted)


def _dedented(lines: list[str]) -> list[str]:
    indent = len(lines[0]) - len(lines[0].lstrip())
    return [line[indent:] if line[:indent].isspace() else line for line in lines]


def depth(node: ast.AST, around: int = 0) -> int:
    """Deepest nesting: how many if, for, while, with, try and match stand around the innermost statement.

    An elif is as deep as its if; functions and classes inside a function start anew.
    """
    deepest = around
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, depth(child, around + (isinstance(child, BLOCKS) and not is_elif)))
    return deepest


def positional_arguments(function: Function) -> int:
    """Arguments that may be given by position, self and cls not counted."""
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def check(found: dict[str, str], exceptions: dict[str, str]) -> None:
    """Nothing is found but the exceptions, and every exception is still needed."""
    wrong = "\n".join(sorted(text for place, text in found.items() if place not in exceptions))
    assert not wrong, f"\n{wrong}"
    assert sorted(set(exceptions) - set(found)) == [], "exceptions that are no longer needed"


def test_the_table_of_layers_has_no_cycle():
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert set(order) == set(MAY_IMPORT)


def test_every_module_has_its_layer():
    assert {m.part for m in modules()} - {"__init__"} == set(MAY_IMPORT)


def test_imports_point_downwards():
    found, needed = [], set()
    for module in modules():
        if module.part == "__init__":
            continue  # hands out names of all layers when they are first asked for
        for line, part in imported_parts(module):
            if part == module.part or part in MAY_IMPORT[module.part]:
                continue
            needed.add((module.name, part))
            if (module.name, part) not in IMPORT_EXCEPTIONS:
                found.append(f"{module.name}:{line} imports {part}")
    assert not found, "\n" + "\n".join(sorted(found))
    assert needed == set(IMPORT_EXCEPTIONS), "exceptions that are no longer needed"


def test_compiled_loops_are_imported_where_they_are_used():
    found = [
        f"{module.name}:{node.lineno}"
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evlift.kernels")
    ]
    assert found == []


def test_files_are_short():
    lengths = {m.name: len(m.text.splitlines()) for m in modules()}
    check({n: f"{n}: {k} lines" for n, k in lengths.items() if k > FILE_LINES}, LONG_FILES)


def test_functions_are_short():
    lengths = {place: (f.lineno, code_lines(f, m.text)) for m in modules() for place, f in m.functions()}
    long = {p: f"{p} (line {line}): {k} code lines" for p, (line, k) in lengths.items() if k > FUNCTION_LINES}
    check(long, LONG_FUNCTIONS)
    assert statistics.median(k for _, k in lengths.values()) <= MEDIAN_LINES


def test_nesting_is_shallow():
    depths = {place: (f.lineno, depth(f)) for m in modules() for place, f in m.functions()}
    deep = {p: f"{p} (line {line}): {k} deep" for p, (line, k) in depths.items() if k > DEPTH}
    check({p: text for p, text in deep.items() if not p.startswith(COMPILED)}, DEEP_FUNCTIONS)


def test_many_arguments_go_by_keyword():
    counts = {place: (f.lineno, positional_arguments(f)) for m in modules() for place, f in m.functions()}
    wide = {p: f"{p} (line {line}): {k} positional" for p, (line, k) in counts.items() if k > ARGUMENTS}
    check({p: text for p, text in wide.items() if not p.startswith(COMPILED)}, WIDE_FUNCTIONS)


def forbidden(node: ast.AST, module: Module) -> str | None:
    """What is wrong with a node, if it is one of the things that never appear."""
    match node:
        case ast.Assert():
            return "assert: raise an error with the values instead"
        case ast.Call(func=ast.Name(id="print")) if module.part not in ("cli", "verbs"):
            return "print outside the command line"
        case ast.Call(func=ast.Attribute(attr="cuda")):
            return ".cuda(): say `.to(device)`"
        case ast.Constant(value=str(text)) if ABSOLUTE_PATH.match(text):
            return f"the absolute path '{text}'"
    return None


def test_words_that_never_appear():
    found = [
        f"{module.name}:{getattr(node, 'lineno', 0)} {wrong}"
        for module in modules()
        for node in ast.walk(module.tree)
        if (wrong := forbidden(node, module))
    ]
    assert not found, "\n" + "\n".join(sorted(found))


@pytest.mark.parametrize(
    "code", ["assert x", "print(x)", "x.cuda()", "x.y.cuda(0)", "'/home/me/x'", "'/tmp'", "'C:\\\\x'"]
)
def test_each_of_them_is_found(code):
    module = Module("api.py", code)
    assert any(forbidden(node, module) for node in ast.walk(module.tree))


def test_public_functions_are_documented():
    found = []
    for module in modules():
        for node in ast.walk(module.tree):
            public = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if public and node in module.tree.body and not (ast.get_docstring(node) or _is_overload(node)):
                found.append(f"{module.name}:{node.lineno} {node.name}")
    assert found == []


def test_the_counts_themselves():
    text = '''def f(a, b, c, d, e, g):
    """Two
    lines."""

    # a comment
    if a:
        return (
            b
        )
    elif c:
        for _ in d:
            with e:
                while g:
                    pass
'''
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert code_lines(function, text) == 10
    assert depth(function) == 4
    assert positional_arguments(function) == 6
