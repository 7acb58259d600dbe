"""Training end to end on generated data: files, resume, contradictions, label-free selection."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import evlift
from evlift import assembly
from evlift.config import parse_recipe
from evlift.engine.checkpoint import load_resume
from evlift.engine.logs import read_log
from evlift.engine.metrics import Recognition, confusion_matrix
from evlift.engine.train import Trainer, can_compile, phase_steps
from evlift.errors import ConfigError, DataError, EvliftError
from evlift.methods.base import Phase
from helpers import tiny


def weights(folder):
    return load_file(folder / "best.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", ["events-only", "source-only", "fine-tune", "kt", "tmkt"])
def test_every_method_trains_and_leaves_its_files(tmp_path, method):
    run = evlift.train(tiny(method={"name": method}), tmp_path)
    record = run.read_record()
    assert record["steps"] == 6
    assert record["samples"] == 48
    assert record["selected_on"] == ("source_val" if method == "source-only" else "val")
    assert len(record["split"]) == 64
    assert {row["split"] for row in read_log(run.log)} == {"train", "val"}
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.yaml", "manifest.jsonl", "record.json", "metrics.csv", "best.safetensors", "last.ckpt", "strip.png"
    }  # fmt: skip
    assert 0 <= evlift.evaluate(tmp_path).metrics.accuracy <= 1


def test_the_loss_falls_and_the_network_learns(tmp_path):
    recipe = tiny(
        train={"steps": 80, "eval_every": 80, "batch_size": 16},
        data={"labels_per_class": 5, "recordings": 150},
        input={"quantile": 0.25},
        model={"width": 1.0},
    )
    run = evlift.train(recipe, tmp_path)
    loss = [row["value"] for row in read_log(run.log) if row["name"] == "label"]
    assert sum(loss[-5:]) < 0.7 * sum(loss[:5])
    assert run.read_record()["val"] > 0.3  # chance is 0.1


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    recipe = tiny(method={"name": "tmkt"}, input={"encoding": "saccade"})
    for name, flags in (("a", []), ("b", []), ("c", ["--train.seed", "1"])):
        evlift.train(recipe, tmp_path / name, flags=flags)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("method", ["tmkt", "fine-tune"])
def test_a_killed_run_resumes_to_the_result_of_an_unbroken_one(tmp_path, method):
    changes = {"steps": 40, "checkpoint_every": 5, "eval_every": 10, "ema": 0.9}
    recipe = parse_recipe(tiny(method={"name": method}, train=changes))
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "evlift", "train", str(tmp_path / "recipe.yaml"), "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "broken")], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "broken" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert load_resume(tmp_path / "broken" / "last.ckpt")["state"]["step"] < 40
    assert not (tmp_path / "broken" / "record.json").exists()
    evlift.train(recipe, tmp_path / "broken")
    evlift.train(recipe, tmp_path / "whole")
    assert same(weights(tmp_path / "broken"), weights(tmp_path / "whole"))
    logs = [read_log(tmp_path / name / "metrics.csv") for name in ("broken", "whole")]
    assert [(r["step"], r["name"], r["value"]) for r in logs[0]] == [
        (r["step"], r["name"], r["value"]) for r in logs[1]
    ]


def test_a_report_may_stop_the_training_after_any_step(tmp_path):
    recipe = tiny(method={"name": "tmkt"}, train={"checkpoint_every": 100})

    def stop(done, total, values):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evlift.train(recipe, tmp_path / "stopped", report=stop)
    assert load_resume(tmp_path / "stopped" / "last.ckpt")["state"]["step"] == 4
    evlift.train(recipe, tmp_path / "stopped")
    evlift.train(recipe, tmp_path / "whole")
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))


def test_patience_in_an_early_phase_does_not_end_the_later_ones(tmp_path):
    options = {"steps": 12, "eval_every": 1, "patience": 1, "lr": 0.0}
    run = evlift.train(tiny(method={"name": "fine-tune"}, train=options), tmp_path)
    assert {row["phase"] for row in read_log(run.log)} == {"source", "events"}
    assert 6 < run.read_record()["steps"] < 12


def test_labels_that_are_hidden_cannot_be_judged(tmp_path):
    run = evlift.train(tiny(train={"steps": 1}), tmp_path)
    with pytest.raises(DataError, match="labelled"):
        evlift.evaluate(run.folder, split="unlabelled")
    with pytest.raises(ConfigError, match="split"):
        evlift.evaluate(run.folder, split="valid")


def test_tensorboard_gets_scalars_and_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    evlift.train(tiny(method={"name": "tmkt"}, train={"tensorboard": True}), tmp_path)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train/loss", "train/mag", "val/accuracy"} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Images("mixed")] == [3, 6]
    assert (board.Images("mixed")[0].width, board.Images("mixed")[0].height) == (3 * 28, 8 * 28)


def test_a_finished_run_is_not_trained_again(tmp_path):
    evlift.train(tiny(), tmp_path)
    before = (tmp_path / "best.safetensors").stat().st_mtime_ns
    steps = []
    evlift.train(tiny(), tmp_path, report=lambda done, total, values: steps.append(done))
    assert steps == []
    assert (tmp_path / "best.safetensors").stat().st_mtime_ns == before


def test_what_does_not_decide_the_result_may_change_on_resume(tmp_path):
    evlift.train(tiny(), tmp_path)
    before = (tmp_path / "best.safetensors").read_bytes()
    evlift.train(
        tiny(train={"log_every": 2, "checkpoint_every": 3}, input={"cache": str(tmp_path / "c")}), tmp_path
    )
    assert (tmp_path / "best.safetensors").read_bytes() == before


def test_a_run_whose_split_changed_is_refused(tmp_path):
    evlift.train(tiny(), tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    (tmp_path / "record.json").write_text(json.dumps({**record, "split": "0" * 64}))
    with pytest.raises(DataError, match=r"manifest\.jsonl"):
        evlift.evaluate(tmp_path)
    (tmp_path / "record.json").unlink()
    state = load_resume(tmp_path / "last.ckpt")
    torch.save({**state, "split": "0" * 64}, tmp_path / "last.ckpt")
    with pytest.raises(DataError, match="splits"):
        evlift.train(tiny(), tmp_path)


def test_the_manifest_of_a_run_says_who_judges(tmp_path):
    from evlift.datasets.manifest import Manifest

    run = evlift.train(tiny(), tmp_path)
    manifest = Manifest.load(run.manifest)
    assert manifest.digest == run.read_record()["split"]
    assert len(manifest.objects("test")) == 20


def test_keeping_the_last_weights_does_not_spoil_patience(tmp_path):
    recipe = tiny(train={"steps": 40, "eval_every": 1, "patience": 2, "lr": 0.0, "keep": "last"})
    record = evlift.train(recipe, tmp_path).read_record()
    assert (record["steps"], record["kept_step"]) == (3, 3)


def test_without_a_compiler_training_is_eager(tmp_path, monkeypatch):
    from torch._inductor import cpp_builder

    def none():
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.warns(UserWarning, match=r"C\+\+ compiler"):
        evlift.train(tiny(train={"compile": True}), tmp_path)


def test_another_recipe_in_the_same_folder_is_refused(tmp_path):
    evlift.train(tiny(), tmp_path)
    with pytest.raises(ConfigError, match="another recipe"):
        evlift.train(tiny(train={"seed": 3}), tmp_path)


def test_a_run_that_was_not_finished_cannot_be_evaluated(tmp_path):
    evlift.train(tiny(), tmp_path)
    (tmp_path / "record.json").unlink()
    with pytest.raises(DataError, match="Resume it"):
        evlift.evaluate(tmp_path)


def test_a_broken_checkpoint_is_named(tmp_path):
    evlift.train(tiny(), tmp_path)
    (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(DataError, match=r"last\.ckpt"):
        evlift.train(tiny(), tmp_path)


def test_resume_state_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'done'}",))

    torch.save({"method": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(DataError):
        load_resume(tmp_path / "evil.ckpt")
    assert not (tmp_path / "done").exists()


def test_a_loss_that_is_not_finite_stops_with_a_remedy(tmp_path):
    with pytest.raises(EvliftError, match=r"train\.lr"):
        evlift.train(tiny(train={"lr": 1e30, "clip": 0, "steps": 20}), tmp_path)


def test_patience_stops_early(tmp_path):
    recipe = tiny(train={"steps": 40, "eval_every": 1, "patience": 2, "lr": 0.0})
    assert evlift.train(recipe, tmp_path).read_record()["steps"] == 3


def test_two_headed_students_keep_only_what_inference_needs(tmp_path):
    recipe = tiny(
        method={"name": "tmkt"}, model={"name": "vgg-snn", "width": 0.05}, train={"steps": 2, "eval_every": 1}
    )
    evlift.train(recipe, tmp_path)
    assert not [name for name in weights(tmp_path) if "image" in name]
    events_only = evlift.create_model("vgg-snn", classes=10, width=0.05, input_size=28, image_head=False)
    assert set(weights(tmp_path)) == set(events_only.state_dict())
    assert evlift.evaluate(tmp_path, adapt=True).metrics.samples == 20


def test_adaptation_needs_batch_statistics(tmp_path):
    evlift.train(tiny(), tmp_path)
    with pytest.raises(ConfigError, match="no batch statistics"):
        evlift.evaluate(tmp_path, adapt=True)


def test_phases_share_the_steps():
    phases = (Phase("a", 0.5), Phase("b", 0.25), Phase("c", 0.25))
    assert [steps for _, steps in phase_steps(phases, 10)] == [5, 3, 2]
    assert sum(steps for _, steps in phase_steps(phases, 7)) == 7


def test_metrics_against_scikit_learn():
    import numpy as np
    from sklearn import metrics as oracle

    rng = np.random.default_rng(0)
    target, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    found = Recognition(confusion_matrix(target, predicted, 5))
    assert (found.confusion == oracle.confusion_matrix(target, predicted)).all()
    assert found.accuracy == pytest.approx(oracle.accuracy_score(target, predicted))
    assert found.class_mean == pytest.approx(oracle.balanced_accuracy_score(target, predicted))
    low, high = found.interval
    assert low < found.accuracy < high


def test_the_record_is_plain_json(tmp_path):
    run = evlift.train(tiny(), tmp_path)
    assert json.loads(run.record.read_text())["digest"] == parse_recipe(tiny()).digest


@functools.cache
def _task():
    return assembly.create_task(parse_recipe(tiny()))


def trainer_of(folder, report=None, **changes):
    recipe = parse_recipe(tiny(model={"name": "convnet", "width": 0.1}, **changes))
    torch.manual_seed(recipe.train.seed)
    method = assembly.build_method(recipe, _task())
    return Trainer(recipe, method, assembly.build_feeder(recipe, _task(), method), folder, report)


def test_the_averaged_student_against_a_loop(tmp_path):
    students, expected = [], {}

    def remember(done, total, values):
        students.append({k: v.double() for k, v in trainer.method.student.state_dict().items()})

    trainer = trainer_of(tmp_path, remember, train={"ema": 0.3, "keep": "last"})
    trainer.train()
    for done, student in enumerate(students, start=1):
        decay = min(0.3, (1 + done) / (10 + done))  # 0.25 at the second step, 0.3 from the third on
        for name, value in student.items():
            counts = name.endswith("num_batches_tracked")  # is an integer, has no mean
            former = value if counts or done == 1 else expected[name]
            expected[name] = decay * former + (1 - decay) * value
    kept = weights(tmp_path)
    assert kept.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(kept[name].double(), value, rtol=1e-5, atol=1e-7)
    assert kept["body.1.num_batches_tracked"].dtype == torch.int64
    assert kept["body.1.num_batches_tracked"] == len(students) == 6


def test_channels_last_changes_the_layout_alone(tmp_path):
    found = {}
    for quick in (False, True):
        trainer = trainer_of(tmp_path / str(quick), train={"steps": 2, "channels_last": quick})
        convolution = trainer.method.student.body[4].weight
        assert convolution.is_contiguous(memory_format=torch.channels_last) is quick
        trainer.train()
        found[quick] = weights(tmp_path / str(quick))
    for name, value in found[False].items():
        torch.testing.assert_close(found[True][name], value, rtol=1e-3, atol=1e-5)


def test_compile_compiles_the_student_and_changes_no_result(tmp_path, monkeypatch):
    if not can_compile():
        pytest.skip("torch.compile needs a C++ compiler")
    graphs, compile_module = [], torch.nn.Module.compile

    def trace(graph, inputs):  # what follows the tracing takes a minute, and is torch's own
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend=trace))
    for name in ("plain", "compiled"):
        trainer_of(tmp_path / name, train={"steps": 2, "ema": 0.5, "compile": name == "compiled"}).train()
        assert bool(graphs) is (name == "compiled")
    for name, value in weights(tmp_path / "plain").items():
        torch.testing.assert_close(weights(tmp_path / "compiled")[name], value, rtol=1e-4, atol=1e-6)
