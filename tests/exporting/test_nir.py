"""NIR files: the same spikes in this package, in Norse and in snnTorch."""

from __future__ import annotations

import contextlib
import io

import nir
import pytest
import torch
from torch import Tensor

import evlift
from evlift.assembly import open_run
from evlift.errors import ConfigError, FormatError
from helpers import liven, tiny

NETWORKS = {
    "scnn": tiny(),
    "plif": tiny(model={"name": "scnn", "width": 0.4, "neuron": "plif", "tau": 1.7}),
    "vgg-snn": tiny(model={"name": "vgg-snn", "width": 0.1}, input={"size": [20, 37]}),
    "resnet18-snn": tiny(model={"name": "resnet18-snn", "width": 0.05}, input={"size": [16, 16]}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def run(request, tmp_path_factory):
    recipe = NETWORKS[request.param]
    recipe = {**recipe, "train": {**recipe["train"], "steps": 1, "eval_every": 0}}
    folder = evlift.train(recipe, tmp_path_factory.mktemp("run")).folder
    liven(folder)
    return folder


@pytest.fixture(scope="module")
def clips(run) -> Tensor:
    """[4, 6, 2, H, W], continuous input, on which no framework's ties count."""
    size = open_run(run).network.input_size
    return torch.rand(4, 6, 2, *size, generator=torch.Generator().manual_seed(1))


def in_norse(path, clips: Tensor) -> Tensor:
    """Logits [B, T, K] of a file in Norse, at its own time step of 1 ms."""
    from norse.torch.utils.import_nir import from_nir

    module, state, steps = from_nir(nir.read(path)), None, []
    for frames in clips.unbind(1):
        logits, state = module(frames, state)
        steps.append(logits.flatten(1))
    return torch.stack(steps, 1)


def in_snntorch(path, clips: Tensor) -> Tensor:
    """Logits [B, T, K] of a file in snnTorch."""
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):  # it prints every threshold
        module = import_from_nir(nir.read(path))
    state, steps = None, []
    for frames in clips.unbind(1):
        logits, state = module(frames) if state is None else module(frames, state)
        steps.append(logits.flatten(1))
    return torch.stack(steps, 1)


@pytest.mark.parametrize(("target", "other"), [("norse", in_norse), ("snntorch", in_snntorch)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_framework_gives_the_same_logits_at_every_step(run, clips, tmp_path, target, other):
    network = open_run(run).network
    if target == "norse" and hasattr(network, "stem"):
        with pytest.raises(ConfigError, match=r"shortcuts of 'blocks\.0'. Use --target snntorch"):
            evlift.export(run, "nir", tmp_path / "a.nir", target=target)
        return
    done = evlift.export(run, "nir", tmp_path / "a.nir", target=target)
    with torch.no_grad():
        wanted = network(clips).logits
        torch.testing.assert_close(other(done.path, clips), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        evlift.open_exported(done.path).network(clips).logits, wanted, rtol=1e-5, atol=1e-5
    )
    one_spike_less = clips.clone()
    one_spike_less[:, 0] *= 0.5
    assert not torch.allclose(network(one_spike_less).logits, wanted, rtol=1e-3, atol=1e-3)


def test_integrate_and_fire(tmp_path):
    recipe = tiny(model={"name": "scnn", "width": 0.4, "neuron": "if"}, train={"steps": 1, "eval_every": 0})
    folder = evlift.train(recipe, tmp_path / "run").folder
    done = evlift.export(folder, "nir", target="norse")
    neurons = [node for node in nir.read(done.path).nodes.values() if isinstance(node, nir.IF)]
    assert len(neurons) == 3
    assert all(float(node.r.flat[0]) * done.contract.dt == pytest.approx(1) for node in neurons)


def test_graphs_of_others_are_refused(tmp_path):
    graph = nir.NIRGraph.from_list(nir.Input({"input": [2]}), nir.Linear(torch.ones(3, 2).numpy()))
    nir.write(tmp_path / "a.nir", graph)
    with pytest.raises(FormatError, match="does not say how recordings become its input"):
        evlift.open_exported(tmp_path / "a.nir")
