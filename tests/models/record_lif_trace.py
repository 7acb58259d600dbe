"""Record how SpikingJelly and snnTorch answer to random input, for test_neurons.py to compare with.

Run it in an environment that has torch, spikingjelly and snntorch:

    python tests/models/record_lif_trace.py

Mapping: SpikingJelly's LIF with decay_input=True has our leak, fires at V ≥ θ (no tie occurs on continuous
input), and calls the triangular surrogate PiecewiseQuadratic and the rectangular one Rect. snnTorch does not
scale the input, so it gets x / tau; with its default reset, a step later and detached, `mem` is our potential
before the reset; with reset_delay=False and reset "zero" the reset is at once and carries gradient.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import snntorch
import torch
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import neuron as sj_neuron
from spikingjelly.activation_based import surrogate as sj_surrogate
from torch import Tensor

TARGET = Path(__file__).parent / "data" / "lif_trace.npz"
TAU, THRESHOLD = 2.0, 0.5
SJ_SURROGATES = {
    "triangular": lambda: sj_surrogate.PiecewiseQuadratic(alpha=2.0),
    "rectangular": lambda: sj_surrogate.Rect(alpha=1.0),
    "arctan": lambda: sj_surrogate.ATan(alpha=2.0),
    "sigmoid": lambda: sj_surrogate.Sigmoid(alpha=4.0),
}
SNN_SURROGATES = {"arctan": snn_surrogate.atan(alpha=2.0), "sigmoid": snn_surrogate.sigmoid(slope=4)}


def spikingjelly(
    kind: str, surrogate: str, reset: str, detach: bool, x: Tensor
) -> tuple[Tensor, Tensor, Any]:
    """x [B, T, N] → spikes, potentials [B, T, N] and the node."""
    options = {
        "v_threshold": THRESHOLD,
        "v_reset": 0.0 if reset == "hard" else None,
        "surrogate_function": SJ_SURROGATES[surrogate](),
        "detach_reset": detach,
        "step_mode": "m",
        "store_v_seq": True,
    }
    if kind == "if":
        node: Any = sj_neuron.IFNode(**options)
    elif kind == "plif":
        node = sj_neuron.ParametricLIFNode(init_tau=TAU, decay_input=True, **options)
    else:
        node = sj_neuron.LIFNode(tau=TAU, decay_input=True, **options)
    spikes = node(x.transpose(0, 1))
    return spikes.transpose(0, 1), node.v_seq.transpose(0, 1), node


def snn_torch(surrogate: str, detach: bool, x: Tensor) -> tuple[Tensor, Tensor]:
    """x [B, T, N] → spikes and potentials after a hard reset."""
    node = snntorch.Leaky(
        beta=1 - 1 / TAU,
        threshold=THRESHOLD,
        spike_grad=SNN_SURROGATES[surrogate],
        reset_mechanism="zero",
        reset_delay=detach,
    )
    mem = torch.zeros_like(x[:, 0])
    spikes, potentials = [], []
    for current in x.unbind(1):
        spike, mem = node(current / TAU, mem)
        spikes.append(spike)
        potentials.append(mem * (1 - spike.detach()) if detach else mem)
    return torch.stack(spikes, 1), torch.stack(potentials, 1)


def main() -> None:
    """Write the trace."""
    torch.manual_seed(20)
    drive, spike_weight, potential_weight = (torch.randn(2, 10, 8) for _ in range(3))
    drive = 0.4 + 0.8 * drive
    cases: list[dict[str, Any]] = []
    arrays = {"x": drive, "spike_weight": spike_weight, "potential_weight": potential_weight}
    runs = [
        ("spikingjelly", "lif", s, r, d)
        for s in SJ_SURROGATES
        for r in ("hard", "soft")
        for d in (True, False)
    ]
    runs += [("spikingjelly", kind, "triangular", "hard", True) for kind in ("if", "plif")]
    runs += [("snntorch", "lif", s, "hard", d) for s in SNN_SURROGATES for d in (True, False)]
    for package, kind, surrogate, reset, detach in runs:
        x = drive.clone().requires_grad_()
        node = None
        if package == "spikingjelly":
            spikes, potentials, node = spikingjelly(kind, surrogate, reset, detach, x)
        else:
            spikes, potentials = snn_torch(surrogate, detach, x)
        (spikes * spike_weight + potentials * potential_weight).sum().backward()
        key = f"case{len(cases)}"
        arrays |= {f"{key}_spikes": spikes.bool(), f"{key}_potentials": potentials, f"{key}_x_grad": x.grad}
        if kind == "plif":
            arrays[f"{key}_leak_grad"] = node.w.grad
        cases.append(
            {"package": package, "kind": kind, "surrogate": surrogate, "reset": reset, "detach_reset": detach}
        )
    versions = {name: importlib.metadata.version(name) for name in ("spikingjelly", "snntorch", "torch")}
    meta = json.dumps({"versions": versions, "tau": TAU, "threshold": THRESHOLD, "cases": cases})
    np.savez_compressed(TARGET, meta=meta, **{name: value.detach().numpy() for name, value in arrays.items()})
    print(f"{TARGET}: {len(cases)} cases, {versions}")


if __name__ == "__main__":
    main()
