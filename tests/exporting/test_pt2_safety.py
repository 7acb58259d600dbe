"""Opening a .pt2 file runs no code of its own: a sample of every way in which it could is refused."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch

from evlift.config import parse_recipe
from evlift.errors import FormatError
from evlift.exporting.contract import Contract
from evlift.exporting.opened import open_exported
from evlift.exporting.pt2_file import pt2_writer
from evlift.models import create_model
from helpers import tiny


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A file as it should be, of one step with state."""
    network = create_model("scnn", width=0.1).eval()
    recipe = parse_recipe(tiny())
    contract = Contract(
        evlift="0",
        task="recognition",
        reads="frames",
        steps=3,
        shape=(2, 28, 28),
        model=recipe.model,
        method="events-only",
        input=recipe.to_dict()["input"],
        record={"classes": list("0123456789"), "sensor_size": [34, 34], "count_scale": None},
        single_step=True,
        states=((2, 24, 24), (4, 8, 8), (30,)),
    )
    path = tmp_path_factory.mktemp("sound") / "a.pt2"
    pt2_writer(network, contract)(path, contract)
    return path


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def changed(sound: Path, path: Path, member: str, change) -> Path:
    """A copy of an archive whose member of this ending is `change(content)`."""
    hit = False
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(member):
                content, hit = change(content), True
            new.writestr(name, content)
    assert hit, member
    return path


def pickled(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Evil(mark), buffer, pickle_module=pickle)
    return buffer.getvalue()


def with_pickled_weight(content: bytes) -> bytes:
    return content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)


def with_guard(content: bytes, code: str) -> bytes:
    program = json.loads(content)
    program["guards_code"] = [code]
    return json.dumps(program).encode()


def with_target(content: bytes, target: str) -> bytes:
    return re.sub(
        rb'"target": "torch\.ops\.aten\.\w+\.\w+"', f'"target": "{target}"'.encode(), content, count=1
    )


def with_size(content: bytes, expression: str) -> bytes:
    return re.sub(
        rb'"expr_str": "[^"]*"', b'"expr_str": ' + json.dumps(expression).encode(), content, count=1
    )


def with_tree(content: bytes) -> bytes:
    program = json.loads(content)
    (entry, *_) = program["graph_module"]["module_call_graph"]
    entry["signature"]["out_spec"] = json.dumps([1, {"type": "collections.defaultdict", "context": "[]"}])
    return json.dumps(program).encode()


def test_the_sound_file_opens(sound):
    network = open_exported(sound).network
    assert network(torch.rand(2, 5, 2, 28, 28)).logits.shape == (2, 5, 10)


@pytest.mark.parametrize(
    ("member", "change", "said"),
    [
        ("sample_inputs/model.pt", lambda c, mark: pickled(mark), "the pickle"),
        (
            "model_weights_config.json",
            lambda c, mark: c.replace(b'"use_pickle": false', b'"use_pickle": true', 1),
            "use_pickle",
        ),
        ("models/model.json", lambda c, mark: with_guard(c, f"open('{mark}', 'w')"), "guards_code"),
        (
            "models/model.json",
            lambda c, mark: with_target(c, "torch.os.system"),
            r"operator torch\.os\.system",
        ),
        (
            "models/model.json",
            lambda c, mark: with_target(c, "torch.ops.aten.from_file.default"),
            "from_file",
        ),
        ("models/model.json", lambda c, mark: with_size(c, f"open('{mark}', 'w')"), "the size"),
        ("models/model.json", lambda c, mark: with_size(c, "Symbol('s1', real=exit())"), "the size"),
        ("models/model.json", lambda c, mark: with_tree(c), "defaultdict"),
    ],
)
def test_what_could_run_code_is_refused(sound, tmp_path, member, change, said):
    mark = tmp_path / "mark"
    path = changed(sound, tmp_path / "a.pt2", member, lambda content: change(content, mark))
    with pytest.raises(FormatError, match=f"(?s){said}.* could run code"):
        open_exported(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data/aotinductor/model/a.so", "data/constants/custom_obj_0", "../a.py"])
def test_members_of_other_kinds_are_refused(sound, tmp_path, name):
    path = changed(sound, tmp_path / "a.pt2", "models/model.json", lambda content: content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"a/{name}", b"")
    with pytest.raises(FormatError, match="the member"):
        open_exported(path)


def test_torch_sees_no_member_but_those_checked(sound, tmp_path):
    """Two members of one name: whichever is checked is the one that is loaded."""
    path = changed(
        sound,
        tmp_path / "a.pt2",
        "models/model.json",
        lambda content: with_target(content, "torch.os.system"),
    )
    with zipfile.ZipFile(sound) as whole, zipfile.ZipFile(path, "a") as archive:
        (name,) = (name for name in whole.namelist() if name.endswith("models/model.json"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(name, whole.read(name))
    assert open_exported(path).network(torch.rand(1, 1, 2, 28, 28)).logits.shape == (1, 1, 10)


def test_the_samples_are_dangerous(sound, tmp_path):
    """Without the check torch would run them: what is refused above is no straw man."""
    mark = tmp_path / "mark"
    path = changed(sound, tmp_path / "a.pt2", "sample_inputs/model.pt", lambda content: pickled(mark))
    with torch.no_grad(), pytest.raises(Exception):  # noqa: B017
        torch.export.load(path)
    assert mark.exists()
