"""Files of torch.export: written, and opened only if nothing in them can run code of its own."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evlift.errors import FormatError
from evlift.exporting.contract import KEY, Contract, again
from evlift.exporting.graph import trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

MEMBERS = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/(version|serialization_id)|extra/evlift|models/model\.json"
    r"|data/sample_inputs/model\.pt|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json))"
)
OPERATORS = re.compile(r"torch\.ops\.aten\.(?!from_file|save|load)\w+\.\w+|_operator\.\w+")
SIZES = re.compile(r"(Symbol\('[su]\d+'(, \w+=True)*\)|Integer|Mul|Add|[\d+*(), -])*")  # sums and products
TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
NO_PLACE = {"as_graph", "as_custom_obj", "as_operator", "source_fn_stack", "from_node"}


def pt2_writer(network: nn.Module, contract: Contract) -> Callable[[Path, Contract], None]:
    """Trace the network; returns what writes it to a path with a contract."""
    program = trace(network, contract)
    for node in program.graph.nodes:
        for name in NO_PLACE:
            node.meta.pop(name, None)
    program._guards_code = []  # Python code that compares the sizes of inputs: run when the file is opened

    def write(path: Path, contract: Contract) -> None:
        with (
            warnings.catch_warnings()
        ):  # torch takes weights in channels_last for parts of others and keeps them well
            warnings.filterwarnings("ignore", "No complete tensor found")
            torch.export.save(program, path, extra_files={KEY: contract.to_json()})

    return write


def open_pt2(path: Path) -> tuple[Contract, Any]:
    """The contract of a file and what runs it: ``run(x, state) → (logits, next state)``.

    Raises:
        FormatError: no file of evlift's, or one whose loading could run code.
    """
    archive = checked_archive(path)
    held = {KEY: ""}
    try:
        program = torch.export.load(archive, extra_files=held)
        module = program.module(check_guards=False)
    except Exception as error:  # a damaged file may fail anywhere in torch
        raise FormatError(
            f"Expected a graph that torch.export reads at {path}, but: {str(error).strip().rstrip('.')}. {again(path)}"
        ) from error
    contract = Contract.from_json(held[KEY] or None, path)

    def run(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        with torch.no_grad():
            found = module(x, list(state)) if contract.single_step else module(x)
        return (found[0], list(found[1])) if contract.single_step else (found, [])

    return contract, run


def checked_archive(path: Path) -> io.BytesIO:
    """The archive anew, once it has been seen to hold tensors and operators of torch alone.

    torch.export.load unpickles, evaluates sizes as Python expressions and looks operators up by any name: a file from
    elsewhere could run anything. What `evlift export` writes needs none of that. torch gets what was checked, not the
    file, since its reader need not see the same members in a crafted one.

    Raises:
        FormatError: no archive, or one that holds more.
    """
    sound = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(sound, "w") as copy:
            for name in dict.fromkeys(archive.namelist()):
                content = archive.read(name)
                _check_member(archive, name, content)
                copy.writestr(f"model/{name.partition('/')[2]}", content)
    except FormatError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib, json or the system
        raise FormatError(
            f"Expected an archive of torch.export at {path}, but: {str(error).strip().rstrip('.')}. {again(path)}"
        ) from None
    sound.seek(0)
    return sound


def _check_member(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    place = name.partition("/")[2]
    if not MEMBERS.fullmatch(place):
        raise _refused(archive, f"the member {name}")
    if place.endswith(".json"):
        for wrong in _wrong(json.loads(content)):
            raise _refused(archive, wrong)
    if place.endswith(".pt"):
        try:
            torch.load(io.BytesIO(content), weights_only=True)
        except Exception:  # pickles fail in many ways
            raise _refused(archive, f"the pickle {name}, which holds more than tensors") from None


def _wrong(content: Any, key: str = "") -> Iterator[str]:
    """What in a JSON tree is none of what `evlift export` writes."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _wrong(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _wrong(value, key)
    if key in NO_PLACE or (key in ("guards_code", "use_pickle", "treespec_namedtuple_fields") and content):
        yield f"{key} {content}"
    if key == "target" and isinstance(content, str) and not OPERATORS.fullmatch(content):
        yield f"the operator {content}"
    if key == "expr_str" and not SIZES.fullmatch(str(content)):
        yield f"the size {content}"
    if key.endswith("_spec") and isinstance(content, str):
        types = {found["type"] for found in _trees(json.loads(content)) if "type" in found}
        yield from (f"a tree of {kind}" for kind in types - TREES)


def _trees(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        yield content
    for value in (
        content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    ):
        yield from _trees(value)


def _refused(archive: zipfile.ZipFile, what: str) -> FormatError:
    return FormatError(
        f"Expected tensors and torch's operators alone in {archive.filename}, but got {what}, which could run code. "
        "Open only files that `evlift export` wrote."
    )
