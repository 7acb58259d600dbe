"""Runs that were damaged from outside: every file is named, nothing is passed over."""

from __future__ import annotations

import errno

import pytest
import torch

import evlift
from evlift.engine.logs import read_log
from evlift.errors import DataError, EvliftError
from evlift.files import write_text
from helpers import tiny


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("record.json", b'{"classes": [', "damaged"),
        ("record.json", b"{}", "lacks"),
        ("best.safetensors", b"\0" * 64, "best.safetensors"),
        ("config.yaml", b"\xff\xfe", "no YAML"),
    ],
)
def test_damaged_files_of_a_run_are_named(tmp_path, name, content, said):
    evlift.train(tiny(train={"steps": 1}), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EvliftError, match=said):
        evlift.evaluate(tmp_path)


@pytest.mark.parametrize(
    "content", [{"method": {}}, {"method": {"a": torch.zeros(1)}, "state": {}}, {"x": 1}]
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, content):
    recipe = tiny(train={"steps": 4})
    with pytest.raises(KeyboardInterrupt):
        evlift.train(recipe, tmp_path, report=_stop)
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(DataError, match="does not fit"):
        evlift.train(recipe, tmp_path)


def test_a_checkpoint_with_changed_bytes_is_refused(tmp_path):
    recipe = tiny(train={"steps": 4})
    with pytest.raises(KeyboardInterrupt):
        evlift.train(recipe, tmp_path, report=_stop)
    content = bytearray((tmp_path / "last.ckpt").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = b"X" * 16
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be resumed from .* sum of"):
        evlift.train(recipe, tmp_path)


def _stop(done, total, values):
    raise KeyboardInterrupt


def test_lost_weights_are_not_passed_over(tmp_path):
    recipe = tiny(train={"steps": 2})
    evlift.train(recipe, tmp_path).weights.unlink()
    with pytest.raises(DataError, match=r"Delete .*last\.ckpt"):
        evlift.train(recipe, tmp_path)


def test_a_full_disk_is_reported_with_the_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match=r"No space.*report\.html"):
        write_text(tmp_path / "report.html", "...")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_log_loses_its_damaged_lines_alone(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(
        b"step,phase,split,name,value\n1,train,train,loss,2.0\n\xff\x00,,\n3,train\n2,train,train,loss,1.5\n"
    )
    assert [row["step"] for row in read_log(tmp_path / "metrics.csv")] == [1, 2]
    (tmp_path / "metrics.csv").write_text("nothing\n1\n")
    assert read_log(tmp_path / "metrics.csv") == []
