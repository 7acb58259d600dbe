"""Files of a run: they come back as they were written, and what fails leaves the former one."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evlift.engine.checkpoint import load_weights, save_resume, save_weights
from evlift.engine.logs import RunLog, read_log
from evlift.errors import DataError
from evlift.files import atomic_path, write_text


def test_weights_come_back_as_they_were_and_no_others_are_loaded(tmp_path):
    source, target = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    source(torch.rand(5, 3))
    view = torch.arange(6.0)[::2]  # safetensors refuses such memory
    state = {**source.state_dict(), "bias": view}
    path = tmp_path / "new" / "w.safetensors"
    save_weights(path, state, {"made": "here"})
    load_weights(target, path)
    for name, value in load_file(path).items():
        assert value.dtype == state[name].dtype
        assert torch.equal(value, state[name])
        assert torch.equal(target.state_dict()[name], state[name])
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"made": "here"}
    (tmp_path / "usual").touch()
    assert (
        path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    )  # whoever reads the run's record reads them
    with pytest.raises(DataError, match=r"missing\.safetensors\. Train first"):
        load_weights(target, tmp_path / "missing.safetensors")
    for other in (torch.nn.BatchNorm1d(4), torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3, affine=False)):
        with pytest.raises(DataError, match=r"w\.safetensors does not fit"):
            load_weights(other, path)


@pytest.mark.parametrize("error", [OSError("No space left"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, error):
    def write_half():
        with atomic_path(tmp_path / "kept.txt") as part:
            assert part.parent == tmp_path  # the same disk, so that moving it is one act
            part.write_text("ne")
            raise error

    write_text(tmp_path / "kept.txt", "old")
    with pytest.raises(type(error)):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    assert (tmp_path / "kept.txt").read_text() == "old"
    write_text(tmp_path / "kept.txt", "new")
    assert (tmp_path / "kept.txt").read_text() == "new"


@pytest.mark.parametrize("save", [save_weights, save_resume])
def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, save):
    path = tmp_path / "w.ckpt"
    save(path, {"w": torch.ones(2)})
    before = path.read_bytes()

    def full(*args):
        raise OSError("No space left")

    monkeypatch.setattr("evlift.files.os.replace", full)
    with pytest.raises(DataError, match="former one is kept"):
        save(path, {"w": torch.zeros(2)})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["w.ckpt"]


def test_a_resumed_log_drops_the_rows_that_will_come_again(tmp_path):
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.scalars(step, "train", "val", {"loss": step / 3, "accuracy": float("nan")})
    log.close()
    resumed = RunLog(tmp_path, step=2)
    resumed.scalars(3, "train", "val", {"accuracy": 0.5})
    resumed.close()
    rows = read_log(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == [1, 1, 2, 2, 3]
    assert [row["value"] for row in rows if row["name"] == "loss"] == [1 / 3, 2 / 3]  # to the last digit
    assert rows[-1] == {"step": 3, "phase": "train", "split": "val", "name": "accuracy", "value": 0.5}
    RunLog(tmp_path).close()  # from the start
    assert read_log(tmp_path / "metrics.csv") == []
