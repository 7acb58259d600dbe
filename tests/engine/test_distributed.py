"""Several processes train as one does: the same losses, weights and files, and one end for all of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import evlift
from crews import fork
from evlift.cli import main
from evlift.config import parse_recipe
from evlift.engine.checkpoint import load_resume
from evlift.engine.distributed import Crew, join
from evlift.engine.launch import check_shareable
from evlift.engine.logs import read_log
from evlift.engine.run import Run
from evlift.engine.sharing import (
    Gather,
    SharedStatistics,
    Sharing,
    Take,
    average_gradients,
    gather_batch,
)
from evlift.errors import ConfigError
from evlift.files import write_text
from evlift.methods import METHODS
from evlift.methods.base import Progress
from evlift.models.ann import FrameNet
from helpers import tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))
from toy_pairs import build, pairs

CONVNET = {"name": "convnet", "width": 0.1}
ALL_PARTS = {  # losses that compare samples, several critics, an averaged student
    "averaged": 1.0,
    "averaged_threshold": 0.0,
    "averaged_start": 0.0,
    "matching": "features",
    "matching_start": 0.0,
    "affinity": "samples",
}


@pytest.fixture(scope="module")
def task():
    from evlift import assembly

    return assembly.create_task(parse_recipe(tiny()))


@pytest.fixture(autouse=True)
def quick(task, monkeypatch):
    """The data are made once, and inherited by forked processes."""
    monkeypatch.setattr("evlift.api.create_task", lambda recipe: task)


def train(recipe, folder, report=None):
    evlift.train(recipe, folder, report=report)
    return os.getpid()


def stopping(at, rank=0):
    """A report that stops process `rank` after a step."""

    def report(done, total, values):
        if done == at and join().rank == rank:
            raise KeyboardInterrupt("enough")

    return report


def losses(folder):
    return [row["value"] for row in read_log(folder / "metrics.csv") if row["name"] == "loss"]


def checkpoint(folder):
    return load_resume(folder / "last.ckpt")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# The arithmetic, in float64: what is left between one process and several is rounding.


def steps_of(name, monkeypatch):
    """Losses, gradient norms and what is left in the method after two steps of each phase."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    crew = join()
    torch.manual_seed(3)
    method = build(name, **ALL_PARTS if name == "evdistill" else {}).double()
    torch.set_default_dtype(torch.float64)
    sharing, found = Sharing(crew, method), []
    for phase in method.phases:
        groups = method.parameter_groups(phase.name)
        wanted = [p for group in groups for p in group.parameters if p.requires_grad]
        optimizer = torch.optim.SGD(wanted, lr=1e-2)
        for step in range(2):
            torch.manual_seed(step)
            method.train()
            progress = Progress(phase.name, 4 + step, 10)
            with sharing:
                output = method.step(exact(pairs(7, seed=step)), progress)
            optimizer.zero_grad()
            output.loss.backward()
            average_gradients(wanted, crew)
            grads = [p.grad.flatten() for p in wanted if p.grad is not None]
            found += [output.loss.detach(), torch.cat(grads).norm()]
            optimizer.step()
            method.after_update(progress)
    return [value.item() for value in found] + [v.double().sum().item() for v in method.state_dict().values()]


def exact(batch):
    """A batch in float64."""
    parts = {item.name: getattr(batch, item.name) for item in fields(batch)}
    return replace(
        batch, **{n: v.double() for n, v in parts.items() if torch.is_tensor(v) and v.is_floating_point()}
    )


def every_method():
    found = {}
    for name in METHODS.names():
        with pytest.MonkeyPatch.context() as patch:
            found[name] = steps_of(name, patch)
        torch.set_default_dtype(torch.float32)
    return found


def test_every_method_computes_with_several_processes_what_it_does_with_one():
    crews = fork(every_method)  # 7 rows: 4 and 3
    one = every_method()
    for found in crews:
        assert isinstance(found, dict), found
        for name, values in one.items():
            assert found[name] == pytest.approx(values, rel=1e-9, abs=1e-9), name


def test_gathering_and_taking_are_adjoint_at_every_order():
    def second_order():
        crew = join()
        w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        x = torch.arange(1.0, 6.0, dtype=torch.float64, requires_grad=True)
        y = Take.apply(x, crew) ** 2 * w if crew.size > 1 else x**2 * w
        y = Gather.apply(y, crew, 5) if crew.size > 1 else y
        (slope,) = torch.autograd.grad((y * x).sum(), x, create_graph=True)  # 3·w·x²
        slope.square().sum().backward()
        average_gradients([w], crew)
        return w.grad.item(), x.grad.tolist()

    one = second_order()
    assert one[1] == pytest.approx([36 * 4 * v**3 for v in range(1, 6)])  # d/dx (3·w·x²)² = 36·w²·x³
    for found in fork(second_order, size=3):
        assert found[0] == pytest.approx(one[0])
        assert found[1] == pytest.approx(one[1])


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 5), (7, 3, 4, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_statistics_of_all_rows(shape, affine):
    torch.manual_seed(0)
    x, target = 3 + torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]

    def normalised(shared):
        crew = join()
        rows = crew.rows(7) if shared else range(7)
        layer, own = kind(3, affine=affine).double(), x[rows.start : rows.stop].clone().requires_grad_()
        if affine:
            nn.init.constant_(layer.weight, 1.5)
        for momentum in (0.1, 0.0, None):
            layer.momentum = momentum
            with SharedStatistics(crew) if shared else torch.enable_grad():
                y = layer(own)
        (y * target[rows.start : rows.stop]).sum().backward()
        weights = [crew.sum(p.grad) if shared else p.grad for p in layer.parameters()]
        buffers = [layer.running_mean, layer.running_var, layer.num_batches_tracked]
        made = [crew.gather(part, 7) if shared else part for part in (y.detach(), own.grad)]
        return [part.tolist() for part in (*made, *weights, *buffers)]

    one = normalised(False)
    for found in fork(normalised, True):
        assert len(found) == len(one), found
        for got, wanted in zip(found, one, strict=True):
            torch.testing.assert_close(torch.tensor(got), torch.tensor(wanted), rtol=1e-9, atol=1e-9)


def test_statistics_of_half_precision_stay_half_precision():
    def half():
        crew, layer = join(), nn.BatchNorm2d(2)
        x = torch.randn(3, 2, 4, 4).bfloat16().requires_grad_()
        with SharedStatistics(crew):
            y = layer(x)
        y.float().square().sum().backward()
        return str(y.dtype), str(x.grad.dtype), str(layer.running_mean.dtype)

    assert fork(half) == [("torch.bfloat16", "torch.bfloat16", "torch.float32")] * 2


def test_a_part_that_one_row_lacks_is_none_for_all():
    def lacking():
        own = pairs(2)
        own = replace(own, frame=None) if join().rank else own
        whole = gather_batch(own, join(), 4)
        return whole.frame is None, len(whole.events)

    assert fork(lacking) == [(True, 4)] * 2


# Whole runs.


class Plain(FrameNet):
    """A network without batch normalisation and without spikes, whose thresholds blow rounding up."""

    def __init__(self):
        super().__init__(10, 2, 3, 28)
        self.body = nn.Sequential(nn.Conv2d(6, 8, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))

    def feature_map(self, x):
        return self.body(x)

    def pooled(self, features):
        return features

    def logits(self, pooled):
        return pooled


@pytest.mark.parametrize(("method", "plain"), [("events-only", True), ("mean-teacher", False)])
def test_the_loss_curve_of_one_process(tmp_path, monkeypatch, method, plain):
    if plain:
        monkeypatch.setattr("evlift.assembly.build_network", lambda *given, **options: Plain())
    # whole and half batches round alike in this layout alone; training then amplifies what differs
    options = {"steps": 50, "eval_every": 25, "ema": 0.9, "channels_last": False}
    moved = {"encoding": "saccade"}
    recipe = tiny(method={"name": method}, model=CONVNET, train=options, input=moved)
    pids = fork(train, recipe, tmp_path / "two")
    assert len(set(pids)) == 2, pids
    train(recipe, tmp_path / "one")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 50
    assert two == pytest.approx(one, abs=1e-4)
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]
    assert Run(tmp_path / "two").read_record()["processes"] == 2


def test_torchrun_starts_what_the_documentation_says(tmp_path):
    write_text(tmp_path / "tiny.yaml", parse_recipe(tiny(train={"steps": 2})).to_yaml())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = ["-m", "evlift", "train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")]
    ended = subprocess.run([*launcher, *command], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("on 2 processes") == ended.stdout.count("Next: evlift evaluate") == 1
    assert Run(tmp_path / "run").read_record()["processes"] == 2


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    recipe = tiny(train={"steps": 12, "checkpoint_every": 100}, model=CONVNET)
    train(recipe, tmp_path / "whole")
    assert fork(train, recipe, tmp_path / "run", stopping(4, rank=1)) == ["KeyboardInterrupt: enough"] * 2
    assert checkpoint(tmp_path / "run")["state"]["step"] == 4
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", stopping(7))
    assert checkpoint(tmp_path / "run")["state"]["step"] == 7
    fork(train, recipe, tmp_path / "run", size=3)
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)


def test_a_killed_process_ends_the_others_with_a_checkpoint_that_resumes_exactly(tmp_path):
    recipe = tiny(train={"steps": 12, "checkpoint_every": 100}, model=CONVNET)

    def die(done, total, values):
        if done == 5 and join().rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    found = fork(train, recipe, tmp_path / "run", die)
    assert found[1] == -signal.SIGKILL
    assert re.match(r"LostProcessError: Another process .* is gone \(.*\)\. Give the same command", found[0])
    assert checkpoint(tmp_path / "run")["state"]["step"] == 5
    fork(train, recipe, tmp_path / "run")
    fork(train, recipe, tmp_path / "whole")
    assert same(*(load_file(tmp_path / name / "best.safetensors") for name in ("run", "whole")))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_what_fails_in_one_process_fails_in_all_with_one_message(tmp_path, monkeypatch, capfd):
    """A file that vanishes for process 1 alone: both stop, one speaks, and the step before is kept."""
    from evlift.datasets.transfer import Feeder

    write_text(tmp_path / "recipe.yaml", parse_recipe(tiny()).to_yaml())
    made = Feeder.batch

    def batch(self, step, **options):
        if step == 3 and join().rank == 1:
            raise FileNotFoundError(2, "No such file", "picture.png")
        return made(self, step, **options)

    monkeypatch.setattr(Feeder, "batch", batch)
    assert fork(main, ["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]) == [1, 1]
    said = capfd.readouterr()
    assert said.err.count("evlift:") == 1
    assert re.search(r"evlift: The data of step 3 can no longer be read: .*picture\.png.*Restore", said.err)
    assert said.out.count("on 2 processes") == 1
    assert checkpoint(tmp_path / "run")["state"]["step"] == 3


def test_wrong_settings_are_said_once(tmp_path, capfd):
    assert fork(main, ["train", str(tmp_path / "none.yaml")]) == [2, 2]
    assert capfd.readouterr().err.count("evlift:") == 1


def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path, capfd, monkeypatch):
    from evlift.progress import TrainingBar

    write_text(tmp_path / "recipe.yaml", parse_recipe(tiny(train={"steps": 30})).to_yaml())
    report = TrainingBar._report

    def interrupted(self, done, total, values):
        if done == 4 and join().rank == 1:
            for _ in range(2):  # torchrun passes a signal on that the terminal has sent already
                os.kill(os.getpid(), signal.SIGTERM)
        report(self, done, total, values)

    monkeypatch.setattr(TrainingBar, "_report", interrupted)
    codes = fork(main, ["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")])
    assert codes == [143, 143]
    assert capfd.readouterr().err.count("stopped after step 4 of 30") == 1
    assert checkpoint(tmp_path / "run")["state"]["step"] == 4


def test_processes_that_see_other_data_are_told_so():
    def look():
        join().check_same("the data's splits", join().rank)

    for said in fork(look):
        assert re.match(r"ConfigError: Expected the data's splits to be the same.*process 1 has 1", said)


def test_what_several_processes_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="at least 3"):
        check_shareable(parse_recipe(tiny(train={"batch_size": 2})).train, Crew(0, 3))
    with pytest.raises(ConfigError, match="compile"):
        check_shareable(parse_recipe(tiny(train={"compile": True})).train, Crew(0, 2))


def test_dropout_draws_apart_and_the_method_alike():
    def draws():
        crew, method = join(), build("events-only")
        method.student = nn.Sequential(nn.Dropout(0.5))
        torch.manual_seed(0)
        with Sharing(crew, method):
            dropped = method.student(torch.ones(6, 50))
        return dropped.tolist(), torch.rand(3).tolist(), crew.rows(6)

    (first, after, rows), (other, also, _) = fork(draws)
    assert first == other
    assert after == also == torch.rand(3, generator=torch.Generator().manual_seed(0)).tolist()
    assert first[: len(rows)] != first[len(rows) :]


def test_the_rows_are_all_there_once():
    for count in range(1, 12):
        for size in range(1, 6):
            found = [row for rank in range(size) for row in Crew(rank, size).rows(count)]
            assert found == list(range(count))


def test_batch_norm_outside_training_is_as_it_was():
    x = torch.randn(4, 3)
    with SharedStatistics(Crew(0, 1)):
        got = F.batch_norm(x, torch.zeros(3), torch.ones(3))
    assert torch.equal(got, F.batch_norm(x, torch.zeros(3), torch.ones(3)))
