"""A run's folder: what is in it, how it is opened again."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.config import Recipe, parse_recipe, read_yaml
from evlift.errors import DataError

if TYPE_CHECKING:
    from evlift.datasets.task import TransferTask

PACKAGES = ("evlift", "torch", "torchvision", "numpy", "numba", "lightning-fabric", "timm", "safetensors")
NEEDED = {"classes", "sensor_size", "count_scale"}  # of a record, to open its run


@dataclass(frozen=True)
class Run:
    """The folder that training leaves.

    Args:
        folder: holds ``config.yaml`` (the recipe), ``manifest.jsonl`` (who is in which split), ``record.json`` (seed,
            versions, figures), ``metrics.csv``, ``best.safetensors`` (the student), ``last.ckpt`` (to resume from),
            ``strip.png`` and ``curves.png`` (to look at).
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The recipe that was trained."""
        return self.folder / "config.yaml"

    @property
    def weights(self) -> Path:
        """The student that is evaluated."""
        return self.folder / "best.safetensors"

    @property
    def resume(self) -> Path:
        """The last resume point."""
        return self.folder / "last.ckpt"

    @property
    def manifest(self) -> Path:
        """Every item of every split, with a hash of its content."""
        return self.folder / "manifest.jsonl"

    @property
    def record(self) -> Path:
        """What the run was and what came out."""
        return self.folder / "record.json"

    @property
    def log(self) -> Path:
        """One row for every logged scalar."""
        return self.folder / "metrics.csv"

    @property
    def strip(self) -> Path:
        """What the method saw and made in its last step."""
        return self.folder / "strip.png"

    @property
    def curves(self) -> Path:
        """What the method watches of itself, over the steps; only of methods that do."""
        return self.folder / "curves.png"

    def check_writable(self) -> None:
        """Raise :class:`~evlift.errors.DataError` if the folder cannot be written, or not be made."""
        nearest = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not os.access(nearest, os.W_OK | os.X_OK) and nearest.is_dir():
            raise DataError(
                f"Expected a folder for the run that can be written, but got {self.folder}, and {nearest} cannot. Give "
                "another --out, or change its permissions."
            )

    def recipe(self) -> Recipe:
        """The recipe of a run.

        Raises:
            DataError: the folder is no run.
        """
        if not self.config.is_file():
            raise DataError(
                f"Expected a run (a folder with config.yaml) at {self.folder}. Train one: evlift train RECIPE."
            )
        return parse_recipe(read_yaml(self.config))

    def read_record(self) -> dict[str, Any]:
        """The record of a finished run.

        Raises:
            DataError: the run has not finished.
        """
        if not self.record.is_file():
            raise DataError(
                f"Expected {self.record}: the run has not finished. Resume it: "
                f"evlift train {self.config} --out {self.folder}."
            )
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            missing = NEEDED - set(record)
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.record} is damaged: {error}. {self._again()}") from None
        if missing:
            raise DataError(f"{self.record} lacks {', '.join(sorted(missing))}. {self._again()}")
        return record

    def _again(self) -> str:
        return f"Write it again from the checkpoint: evlift train {self.config} --out {self.folder}."


def weights_home() -> Path:
    """Where the packs lie that come with evlift."""
    return Path(str(resources.files("evlift"))) / "weights"


def shipped_weights() -> dict[str, Path]:
    """The packs of weights that come with evlift, by name."""
    home = weights_home()
    if not home.is_dir():
        return {}
    return {place.name: place for place in sorted(home.iterdir()) if (place / "record.json").is_file()}


def find_run(name: str | Path) -> Run:
    """The run in a folder, or the shipped weights of that name where there is no such folder.

    Raises:
        DataError: neither; the message names the shipped ones.
    """
    shipped = shipped_weights()
    if Path(name).exists() or str(name) not in shipped:
        run = Run(Path(name))
        if not run.config.is_file():
            known = f" Shipped weights: {', '.join(shipped)}." if shipped else ""
            raise DataError(
                f"Expected a run (a folder with config.yaml) at {name}. Train one: evlift train RECIPE.{known}"
            )
        return run
    return Run(shipped[str(name)])


def check_split(run: Run, task: TransferTask, split: str) -> None:
    """Raise :class:`~evlift.errors.DataError` unless the task has the splits that the run was trained on."""
    if task.split != split:
        raise DataError(
            f"Expected the splits of {run.folder} (hash {split[:12]}, listed in {run.manifest.name}), but the data "
            f"give {task.split[:12]}. Restore the data, or point data.root or EVLIFT_DATA to where they are unchanged."
        )


def environment() -> dict[str, Any]:
    """Versions and machine, for a run's record."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "packages": versions,
        "machine": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def processor() -> str:
    """The processor's name, as far as the system tells it: "AMD EPYC 9B45", "x86_64"."""
    try:
        lines = Path("/proc", "cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
