"""Trainings that are killed, starved or stopped: one clear message, a checkpoint, and nothing lost or changed by it."""

from __future__ import annotations

import itertools
import os
import re
import resource
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import evlift
from crews import fork
from evlift import files
from evlift.cli import main
from evlift.config import parse_recipe
from evlift.datasets.cache import CacheWarning
from evlift.engine.checkpoint import load_resume
from evlift.engine.logs import read_log
from evlift.engine.run import Run
from evlift.events import EventStream
from helpers import tiny

LONG = {"steps": 8, "checkpoint_every": 2, "eval_every": 4, "ema": 0.9}
CONVNET = {"name": "convnet", "width": 0.1}  # whose statistics a step that fails has moved


@pytest.fixture(scope="module")
def task():
    from evlift import assembly

    return assembly.create_task(parse_recipe(tiny()))


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """What the run leaves that nothing interrupts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evlift.api.create_task", lambda recipe: task)
        return result(evlift.train(tiny(train=LONG, model=CONVNET), tmp_path_factory.mktemp("whole")).folder)


@pytest.fixture(autouse=True)
def quick(task, monkeypatch, request):
    """The data are made once, and inherited by forked processes."""
    if "own_data" not in request.fixturenames:
        monkeypatch.setattr("evlift.api.create_task", lambda recipe: task)


@pytest.fixture
def command(tmp_path):
    """`evlift train` of a long tiny recipe in a process of its own: ``command("a")`` gives its exit code."""

    def run(name, report=None, **changes):
        recipe = tmp_path / "recipe.yaml"
        files.write_text(recipe, parse_recipe(tiny(**{"train": LONG, "model": CONVNET} | changes)).to_yaml())
        given = ["train", str(recipe), "--out", str(tmp_path / name)]
        return fork(_watched, given, report, size=1)[0]

    return run


def _watched(given, report):
    """The command, with `report(done)` called after every step."""
    from evlift.progress import TrainingBar

    if isinstance(report, Death):
        files.os = report
        return main(given)
    shown = TrainingBar._report

    def told(self, done, total, values):
        if report:
            report(done)
        shown(self, done, total, values)

    TrainingBar._report = told
    return main(given)


def result(folder):
    """All that a run leaves and that must not depend on how often it was interrupted."""
    state = load_resume(folder / "last.ckpt")
    del state["state"]["seconds"]
    rows = [(r["step"], r["name"], r["value"]) for r in read_log(folder / "metrics.csv")]
    return {"weights": load_file(folder / "best.safetensors"), "state": state, "rows": rows}


def assert_alike(a, b):
    """Equal to the last bit, whatever is nested in what."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_alike(a[name], b[name])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_alike(one, other)
    else:
        assert a == b


def assert_whole(folder):
    """Every file under a final name can be read to its end."""
    run = Run(folder)
    readers = {
        run.config: run.recipe,
        run.resume: lambda: load_resume(run.resume),
        run.weights: lambda: load_file(run.weights),
        run.record: run.read_record,
        run.strip: lambda: Image.open(run.strip).load(),
    }
    for path, read in readers.items():
        if path.exists():
            read()


def test_a_run_that_is_killed_in_each_of_its_writes_ends_as_an_unbroken_one(tmp_path, command, whole):
    """Killed before a file is moved into its place, and after, at a later write every time it goes on."""
    for deaths in itertools.count(1):
        code = command("broken", Death(deaths))
        assert_whole(tmp_path / "broken")
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert deaths > 8
    assert_alike(result(tmp_path / "broken"), whole)
    assert not list((tmp_path / "broken").glob(".*"))  # nothing is left beside the files


class Death:
    """Stands for the module `os`: dies at the n-th file that is moved into its place, for odd n before it is moved."""

    def __init__(self, n):
        self.n, self.moved = n, 0

    def __getattr__(self, name):
        return getattr(os, name)

    def replace(self, part, final):
        self.moved += 1
        dies = self.moved == (self.n + 1) // 2
        if not dies or self.n % 2 == 0:
            os.replace(part, final)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_and_its_exit_code(tmp_path, command, capfd, number, code, whole):
    assert command("run", lambda done: done == 5 and os.kill(os.getpid(), number)) == code
    assert (
        capfd.readouterr().err == "evlift: stopped after step 5 of 8; the same command goes on from there\n"
    )
    assert load_resume(tmp_path / "run" / "last.ckpt")["state"]["step"] == 5
    assert command("run") == 0
    assert_alike(result(tmp_path / "run"), whole)


def test_a_full_disk_keeps_the_former_checkpoint(tmp_path, command, capfd, whole):
    def fill(done):
        if done == 3:  # no file may grow beyond 20 kB, which a checkpoint does and a log does not
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    assert command("run", fill) == 1
    said = capfd.readouterr().err
    assert re.fullmatch(r"evlift: .*(best\.safetensors|last\.ckpt) could not .*Make room.*\n", said), said
    assert_whole(tmp_path / "run")
    assert load_resume(tmp_path / "run" / "last.ckpt")["state"]["step"] == 2
    assert not list((tmp_path / "run").glob(".*"))
    assert command("run") == 0
    assert_alike(result(tmp_path / "run"), whole)


def test_a_log_that_cannot_grow_is_named(tmp_path, command, capfd):
    def fill(done):
        if done == 3:
            size = (tmp_path / "run" / "metrics.csv").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    assert command("run", fill) == 1
    assert re.fullmatch(r"evlift: .*metrics\.csv could not be written .*\n", capfd.readouterr().err)


def test_a_folder_that_cannot_be_written_is_refused_before_the_data_are_read(monkeypatch, capsys):
    monkeypatch.setattr("evlift.api.create_task", lambda recipe: pytest.fail("the data were read"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(evlift.errors.DataError, match=r"can be written.*Give another --out"):
        evlift.train(tiny(), "runs/x")


def test_a_folder_of_the_system_is_no_place_for_a_run(command, capfd):
    assert command("/sys/evlift") == 1  # not even root's
    assert re.fullmatch(r"evlift: .*/sys.*\n", capfd.readouterr().err)


@pytest.fixture
def own_data(tmp_path):
    """Class folders of pictures and recordings."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for kind in ("pictures", "events"):
            (tmp_path / kind / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 255, (20, 20), np.uint8)).save(
                tmp_path / "pictures" / name / f"{i}.png"
            )
            t = np.sort(rng.integers(0, 1000, 50))
            x, y = rng.integers(0, 20, (2, 50))
            stream = EventStream.from_columns(t, x, y, t % 2, sensor_size=(20, 20))
            evlift.write_events(tmp_path / "events" / name / f"{i}.npz", stream)
    return {"name": "folders", "images": str(tmp_path / "pictures"), "recordings": str(tmp_path / "events")}


def test_a_picture_that_vanishes_is_named_and_what_was_trained_is_kept(tmp_path, own_data, command, capfd):
    def vanish(done):
        if done == 5:
            shutil.move(tmp_path / "pictures", tmp_path / "elsewhere")

    changes = {"data": own_data, "method": {"name": "source-only"}}
    assert command("run", vanish, **changes) == 1
    said = capfd.readouterr().err
    assert re.fullmatch(r"evlift: The data of step 5 can no longer be read: .*\.png.* Restore .*\n", said), (
        said
    )
    assert load_resume(tmp_path / "run" / "last.ckpt")["state"]["step"] == 5
    shutil.move(tmp_path / "elsewhere", tmp_path / "pictures")
    assert command("run", **changes) == 0
    assert command("whole", **changes) == 0
    assert_alike(result(tmp_path / "run"), result(tmp_path / "whole"))


def test_a_damaged_cache_entry_changes_nothing(tmp_path):
    cached = tiny(input={"cache": str(tmp_path / "cache")}, model=CONVNET)
    evlift.train(cached, tmp_path / "one")
    entries = list((tmp_path / "cache").rglob("*.npy"))
    for entry, size in zip(entries, itertools.cycle([0, 50, entries[0].stat().st_size // 2])):
        os.truncate(entry, size)
    with pytest.warns(CacheWarning, match="computed again"):
        evlift.train(cached, tmp_path / "two")
    assert_alike(result(tmp_path / "one"), result(tmp_path / "two"))


def test_a_loss_that_is_not_finite_leaves_the_step_before(tmp_path, command, capfd, monkeypatch, whole):
    """The step that fails has moved batch statistics; none of that is in the checkpoint."""
    from evlift.methods.baselines import LabelMethod

    loss = LabelMethod.label_loss
    steps = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(LabelMethod, "label_loss", lambda *a: loss(*a) * (np.nan if next(steps) == 5 else 1))
        assert command("run") == 1
    said = capfd.readouterr().err
    assert re.search(r"^evlift: The loss became nan at step 5 .*the step before is kept", said), said
    assert load_resume(tmp_path / "run" / "last.ckpt")["state"]["step"] == 5
    assert command("run") == 0
    assert_alike(result(tmp_path / "run"), whole)
