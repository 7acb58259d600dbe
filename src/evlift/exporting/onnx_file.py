"""ONNX files: written by torch's exporter, run by onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.errors import ConfigError, FormatError
from evlift.exporting.contract import KEY, Contract, again
from evlift.extras import extra

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

LARGEST_BYTES = 2_000_000_000  # of a protobuf message; beyond it weights would lie in a second file


def onnx_writer(network: nn.Module, contract: Contract) -> Callable[[Path, Contract], None]:
    """Convert the network; returns what writes it to a path with a contract.

    Raises:
        ConfigError: the packages are not installed, or the weights do not fit into one file.
    """
    extra("onnx", "onnx", "onnxscript", "onnxruntime")
    import torch

    from evlift.exporting.graph import trace

    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if size > LARGEST_BYTES:
        raise ConfigError(
            f"Expected weights of at most {LARGEST_BYTES:,} bytes in an ONNX file, but got {size:,}. Use --to pt2."
        )
    before, after = contract.state_names()
    converted: Any = torch.onnx.export(
        trace(network, contract),
        dynamo=True,
        input_names=[contract.reads, *before],
        output_names=["logits", *after],
        verbose=False,
    )

    def write(path: Path, contract: Contract) -> None:
        converted.model.metadata_props[KEY] = contract.to_json()
        converted.save(path)

    return write


def open_onnx(path: Path) -> tuple[Contract, Any]:
    """The contract of a file and what runs it: ``run(x, state) → (logits, next state)``.

    Raises:
        FormatError: no ONNX file of evlift's.
    """
    (onnxruntime,) = extra("onnx", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(
        os.environ.get("OMP_NUM_THREADS") or 0
    )  # 0: as many as there are cores
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes derive from Exception alone
        said = str(error).strip().rstrip(".")
        raise FormatError(
            f"Expected an ONNX file for onnxruntime at {path}, but: {said}. {again(path)}"
        ) from None
    contract = Contract.from_json(session.get_modelmeta().custom_metadata_map.get(KEY), path)

    def run(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        import torch

        names = [contract.reads, *contract.state_names()[0]]
        given = {name: value.numpy() for name, value in zip(names, (x, *state), strict=True)}
        logits, *left = (torch.from_numpy(value) for value in session.run(None, given))
        return logits, left

    return contract, run
