"""Exported files: they answer like the run, hold all that prediction needs, and appear only if they agree."""

from __future__ import annotations

import copy
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import evlift
from evlift import cli
from evlift.assembly import create_task, evaluation_feeder, open_run
from evlift.errors import ConfigError, DataError, FormatError
from evlift.events import EventStream
from evlift.exporting import write
from evlift.exporting.contract import INPUTS, Contract
from evlift.exporting.graph import Normalise
from evlift.representations.base import normalised
from helpers import liven, tiny

SCENES = {"data": {"name": "simulated-digit-masks", "recordings": 40}, "input": {"size": [34, 34]}}
RECIPES = {
    "scnn": tiny(),
    "convnet": tiny(model={"name": "convnet", "width": 0.1}, input={"normalise": "p99.9"}),
    "pictures": tiny(model={"name": "convnet", "width": 0.1}, method={"name": "image-model"}),
    "unet": tiny(model={"name": "unet", "width": 0.1}, **SCENES),
    "spiking-unet": tiny(model={"name": "spiking-unet", "width": 0.1}, **SCENES),
}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """The folder of a tiny run by the name of its recipe, trained once."""
    known: dict[str, Path] = {}

    def find(name):
        if name not in known:
            recipe = RECIPES[name]
            recipe = {**recipe, "train": {**recipe["train"], "steps": 2, "eval_every": 0}}
            known[name] = evlift.train(recipe, tmp_path_factory.mktemp(name)).folder
            liven(known[name])
        return known[name]

    return find


@pytest.mark.parametrize(
    ("name", "to", "options", "reads"),
    [
        ("scnn", "onnx", {}, "counts"),
        ("scnn", "pt2", {}, "counts"),
        ("scnn", "nir", {}, "frames"),
        ("convnet", "onnx", {}, "counts"),
        ("convnet", "pt2", {}, "counts"),
        ("pictures", "pt2", {}, "pictures"),
        ("unet", "pt2", {}, "counts"),
        ("spiking-unet", "pt2", {"single_step": True}, "counts"),
    ],
)
def test_a_file_answers_like_its_run(run_of, tmp_path, name, to, options, reads):
    folder = run_of(name)
    done = evlift.export(folder, to, tmp_path / f"model.{to}", **options)
    assert done.agreement.origin.endswith(" split")
    assert done.agreement.equal_decisions == 1
    assert done.size == done.path.stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == [done.path.name]

    content = done.path.read_bytes()
    for place in (Path(evlift.__file__).parent, Path(torch.__file__).parent, folder, Path.cwd()):
        assert os.fsencode(place) not in content  # files name no folder of the machine

    run, opened = open_run(folder), evlift.open_exported(done.path)
    assert opened.contract == done.contract
    assert opened.contract.reads == reads
    assert opened.classes == run.classes
    assert opened.record["split"] == run.record["split"]
    assert opened.network.task == run.network.task
    task = create_task(run.recipe)
    raw = replace(run, recipe=replace(run.recipe, input=opened.recipe.input), record=opened.record)
    split = "source_val" if reads == "pictures" else "test"
    clips = [next(evaluation_feeder(one, task).evaluation(split, batch_size=5)) for one in (run, raw)]
    frames, given = (clip.of_pictures().image if reads == "pictures" else clip.events for clip in clips)
    with torch.no_grad():
        wanted = run.network(frames)
    found = opened.network(given)
    assert found.logits.shape == wanted.logits.shape
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", ["onnx", "pt2", "nir"])
def test_state_that_is_passed_on_continues_a_sequence(run_of, tmp_path, to):
    single = {} if to == "nir" else {"single_step": True}
    done = evlift.export(run_of("scnn"), to, tmp_path / f"a.{to}", **single)
    opened, network = evlift.open_exported(done.path), open_run(run_of("scnn")).network
    assert opened.network.keeps_state
    scale = 1.0 if to == "nir" else open_run(run_of("scnn")).record["count_scale"]
    frames = torch.rand(3, 7, 2, 28, 28, generator=torch.Generator().manual_seed(0))
    first = opened.network(frames[:, :4] * scale)
    second = opened.network(frames[:, 4:] * scale, state=first.state)
    with torch.no_grad():
        whole = network(frames)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole.logits)
    assert [tuple(v.shape[1:]) for v in whole.state] == list(done.contract.states)
    assert not np.allclose(opened.network(frames[:, 4:] * scale).logits, second.logits)  # the state counts


@pytest.mark.parametrize(
    ("name", "to", "size"),
    [
        ("scnn", "onnx", (34, 34)),
        ("scnn", "pt2", (34, 34)),
        ("scnn", "nir", (34, 34)),
        ("convnet", "onnx", (34, 34)),
        ("scnn", "onnx", (68, 90)),  # its counts are rescaled before the file divides them by its own scale
        ("scnn", "nir", (68, 90)),
    ],
)
def test_predict_says_of_a_file_what_it_says_of_the_run(run_of, tmp_path, capsys, name, to, size):
    rng = np.random.default_rng(0)
    columns = (
        np.sort(rng.integers(0, 90_000, 3000)),
        *(rng.integers(0, 34, (2, 3000)) + 20 * (size != (34, 34))),
    )
    evlift.write_events(
        tmp_path / "a.npz", EventStream.from_columns(*columns, rng.random(3000) < 0.5, sensor_size=size)
    )
    file = evlift.export(run_of(name), to, tmp_path / f"m.{to}").path
    said = []
    for network in (run_of(name), file):
        assert cli.main(["predict", str(network), str(tmp_path / "a.npz"), "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[1]["label"] == said[0]["label"]
    assert said[1]["confidence"] == pytest.approx(said[0]["confidence"], abs=1e-5)
    run, opened = open_run(run_of(name)), evlift.open_exported(file)
    assert (opened.temperature, opened.calibration) == (run.temperature, run.calibration)
    assert opened.framing == run.framing
    for below in (said[0]["confidence"] + 1e-3, run.calibration.unknown_below):
        (found,) = evlift.predict(file, tmp_path / "a.npz", unknown_below=below)
        assert (found.label == "unknown") == (found.confidence < below)


def test_a_file_that_cannot_be_opened_names_the_extra(tmp_path, run_of, monkeypatch, capsys):
    for to, package in (("onnx", "onnxruntime"), ("nir", "nir")):
        file = evlift.export(run_of("scnn"), to, tmp_path / f"m.{to}").path
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            assert cli.main(["predict", str(file), "a.npz"]) == 2
        assert f"pip install 'evlift[{to}]'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["none", "quantile", "log1p", "max", "p99.9"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (31, 33)])
def test_normalisation_of_a_batch_is_that_of_each_stream(kind, size):
    rng = np.random.default_rng(0)
    scale = 2.5 if kind == "quantile" else None
    for density in (0.0, 0.01, 0.5, 1.0):
        counts = rng.poisson(3, (4, 2, 2, *size)) * (rng.random((4, 2, 2, *size)) < density)
        batch = torch.from_numpy(counts.astype(np.float32))
        wanted = torch.stack([normalised(row, kind, scale) for row in batch])
        assert torch.equal(Normalise(kind, scale)(batch), wanted)


def test_what_a_whole_clip_normalises_stays_outside_of_a_single_step(run_of):
    run = open_run(run_of("scnn"))
    for kind, reads in {"max": "frames", "p99.9": "frames", "log1p": "counts", "none": "counts"}.items():
        recipe = replace(run.recipe, input=replace(run.recipe.input, normalise=kind))
        assert Contract.of(replace(run, recipe=recipe), single_step=True).reads == reads
        assert Contract.of(replace(run, recipe=recipe)).reads == "counts"


def test_a_file_that_differs_is_not_left(run_of, tmp_path, monkeypatch):
    from evlift.exporting import pt2_file

    path = tmp_path / "model.pt2"
    path.write_bytes(b"the former file")

    def of_another(network, contract, make=pt2_file.pt2_writer):
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.classifier.weight[3] += 0.01
        return make(other, contract)

    monkeypatch.setattr(pt2_file, "pt2_writer", of_another)
    with pytest.raises(DataError, match=r"differs from the original: by up to .* in 20 windows"):
        evlift.export(run_of("convnet"), "pt2", path)
    assert path.read_bytes() == b"the former file"
    assert list(tmp_path.iterdir()) == [path]
    assert evlift.export(run_of("convnet"), "pt2", path, tolerance=0.5).agreement.largest_difference > 1e-4


def test_without_the_data_windows_are_generated_and_said_so(run_of, tmp_path, monkeypatch):
    def gone(recipe):
        raise DataError("Expected recordings at x, but there are none. Restore them.")

    monkeypatch.setattr("evlift.assembly.create_task", gone)
    for name in ("scnn", "pictures"):
        found = evlift.export(run_of(name), "pt2", tmp_path / "a.pt2").agreement
        assert found.origin.startswith(
            "generated windows, because the run's data are not at hand (Expected recordings"
        )
        assert found.windows == 32


@pytest.mark.parametrize(
    ("name", "to", "options", "said"),
    [
        ("scnn", "tflite", {}, "one of onnx, pt2, nir, but got 'tflite'"),
        ("scnn", "nir", {"single_step": True}, "no --single-step for NIR"),
        ("scnn", "nir", {"target": "brian"}, "one of snntorch, norse"),
        ("scnn", "onnx", {"target": "norse"}, "--target with --to nir, but got 'norse' with onnx"),
        ("scnn", "onnx", {"tolerance": -1}, "tolerance to be at least 0"),
        ("scnn", "onnx", {"out": "model.pt2"}, r"ending in \.onnx"),
        ("convnet", "onnx", {"single_step": True}, "ConvNet, which has no state"),
        ("convnet", "nir", {}, r"layer 'body\.2' is ReLU"),
        ("spiking-unet", "nir", {}, r"'lateral\.3', and NIR has no node that enlarges"),
    ],
)
def test_what_cannot_be_exported_is_refused(run_of, name, to, options, said):
    with pytest.raises(ConfigError, match=said):
        evlift.export(run_of(name), to, **options)


def test_an_unfinished_run_and_files_of_others_are_refused(run_of, tmp_path):
    with pytest.raises(DataError, match="Expected a run"):
        evlift.export(tmp_path, "onnx")
    for name in ("a.onnx", "a.pt2", "a.nir"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(FormatError, match=name):
            evlift.open_exported(tmp_path / name)
    with pytest.raises(ConfigError, match=r"\.onnx, \.pt2, \.nir"):
        evlift.open_exported(Path(__file__))
    with pytest.raises(FileNotFoundError, match=r"no\.onnx"):
        evlift.open_exported(tmp_path / "no.onnx")


@pytest.mark.parametrize(("name", "to"), [("scnn", "onnx"), ("convnet", "pt2"), ("scnn", "nir")])
def test_a_damaged_file_says_what_to_do(run_of, tmp_path, capsys, name, to):
    content = evlift.export(run_of(name), to, tmp_path / f"whole.{to}").path.read_bytes()
    evlift.write_events(tmp_path / "a.npz", EventStream.empty((28, 28)))
    damaged = [content[:0], content[: len(content) // 2], content[:-9]]
    if to == "pt2":
        damaged += [
            content[:k] + bytes(40) + content[k + 40 :] for k in range(200, len(content), len(content) // 8)
        ]
    for part in damaged:
        (tmp_path / f"bad.{to}").write_bytes(part)
        assert cli.main(["predict", str(tmp_path / f"bad.{to}"), str(tmp_path / "a.npz")]) == 1
        said = capsys.readouterr().err
        assert f"export the run again: evlift export RUN --to {to}." in said or "Expected events in" in said
    assert "Expected events in" not in said or to == "pt2"


def test_wrong_shapes_and_states_are_named(run_of, tmp_path):
    network = evlift.open_exported(evlift.export(run_of("convnet"), "pt2", tmp_path / "a.pt2").path).network
    with pytest.raises(ValueError, match=r"\[B, 3, 2, 28, 28\], but got \[1, 4, 2, 28, 28\]"):
        network(torch.zeros(1, 4, 2, 28, 28))
    with pytest.raises(ConfigError, match="--single-step"):
        network(torch.zeros(1, 3, 2, 28, 28), state=[torch.zeros(1)])


def test_a_missing_package_is_named_with_its_extra(run_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime, .*pip install 'evlift\[onnx\]'"):
        evlift.export(run_of("scnn"), "onnx")


def test_descriptions_of_another_version_are_refused(run_of):
    contract = Contract.of(open_run(run_of("scnn")))
    assert Contract.from_json(contract.to_json(), Path("a.onnx")) == contract
    later = json.loads(contract.to_json())
    later["input"]["smell"] = 3
    with pytest.raises(FormatError, match="smell"):
        Contract.from_json(json.dumps(later), Path("a.onnx"))
    with pytest.raises(FormatError, match="does not say"):
        Contract.from_json(None, Path("a.onnx"))


def test_a_student_without_event_labels_costs_what_the_supervised_one_costs(tmp_path):
    """EvDistill's generators, critics and teacher stay behind: the same graph with as many parameters."""
    onnx = pytest.importorskip("onnx")
    graphs = []
    for method in ({"name": "evdistill", "generator_width": 4}, {"name": "events-only"}):
        recipe = tiny(model={"name": "convnet", "width": 0.1}, method=method, input={"encoding": "saccade"})
        recipe["train"] = {**recipe["train"], "steps": 2, "eval_every": 0}
        folder = evlift.train(recipe, tmp_path / method["name"]).folder
        graphs.append(onnx.load(evlift.export(folder, "onnx").path).graph)
    sizes = [sorted(tuple(held.dims) for held in graph.initializer) for graph in graphs]
    assert sizes[0] == sizes[1]
    assert [node.op_type for node in graphs[0].node] == [node.op_type for node in graphs[1].node]


def test_the_command_says_what_it_compared(run_of, tmp_path, capsys):
    path = tmp_path / "m.pt2"
    assert cli.main(["export", str(run_of("convnet")), "--to", "pt2", "--out", str(path)]) == 0
    said = capsys.readouterr().out
    assert "20 windows of the run's val split" in " ".join(said.split())
    assert "100.00%" in said
    assert cli.main(["export", str(run_of("convnet")), "--to", "pt2", "--out", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["size"] == path.stat().st_size
    assert told["contract"]["reads"] in INPUTS
    assert cli.main(["export", str(run_of("convnet")), "--to", "nir"]) == 2
    assert "ReLU" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path), "--to", "onnx"]) == 1


def test_formats_of_the_command_are_those_of_the_library():
    parser = cli.build_parser()
    verb = parser._subparsers._group_actions[0].choices["export"]
    choices = {action.dest: action.choices for action in verb._actions if action.choices}
    assert tuple(choices["to"]) == write.FORMATS
    assert tuple(choices["target"]) == write.TARGETS
