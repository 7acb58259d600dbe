"""On what a training runs: device, precision, threads, and what several processes or a compiler ask for."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch

from evlift.config import TrainOptions
from evlift.engine.distributed import Crew
from evlift.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def can_compile() -> bool:
    """Whether torch.compile finds the compiler it needs; says so and trains eagerly where it does not."""
    if torch.cuda.is_available():
        return True
    from torch._inductor import cpp_builder

    try:
        cpp_builder.get_cpp_compiler()
    except Exception as error:
        warnings.warn(f"train.compile needs a C++ compiler; training goes on without it ({error}).")
        return False
    return True


def check_shareable(options: TrainOptions, crew: Crew) -> None:
    """Raise ConfigError for settings that several processes cannot share."""
    if options.batch_size < crew.size:
        raise ConfigError(
            f"Expected train.batch_size to be at least {crew.size}, a row for each process, but got "
            f"{options.batch_size}. Raise it, or start fewer processes."
        )
    if options.compile and crew.size > 1:
        raise ConfigError(
            f"Expected train.compile to be false with {crew.size} processes, whose networks exchange rows, but got "
            "true."
        )


def launch(options: TrainOptions, crew: Crew) -> Fabric:
    """Fabric on the best device at hand, at the asked precision."""
    from lightning_fabric import Fabric

    from evlift.models.base import recommended_precision

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision in every run

    if options.threads:
        torch.set_num_threads(options.threads)
    precision = recommended_precision() if options.precision == "auto" else options.precision
    devices: Any = [crew.device.index] if crew.device.type == "cuda" else 1
    return Fabric(accelerator="auto", devices=devices, precision=precision)  # type: ignore[arg-type]
