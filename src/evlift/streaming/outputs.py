"""Predictions in files: JSON lines, CSV, Parquet, PNG masks, video; each appears when it is whole."""

from __future__ import annotations

import csv
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from evlift.engine.pictures import palette
from evlift.errors import ConfigError
from evlift.extras import extra
from evlift.files import atomic_path, empty_folders_go, write_json
from evlift.registry import Registry
from evlift.streaming.predictions import UNKNOWN, UNKNOWN_PIXEL, MaskPrediction, Prediction
from evlift.streaming.running import Predictions

OUTPUTS = Registry("output of predictions")
ROW_GROUP = 1024  # rows of a Parquet file that are held until they are written

AnyPrediction = Prediction | MaskPrediction


class Output(ABC):
    """A file that predictions are written to; subclass it and register it under its extension to add a kind.

    Args:
        path: where to; a temporary place, unless it is a folder.
        predictions: what is going to be written.
        all_probabilities: write those of every class.
    """

    is_folder: ClassVar[bool] = False

    def __init__(self, path: Path, predictions: Predictions, *, all_probabilities: bool) -> None:
        self.path, self.all_probabilities = path, all_probabilities

    @classmethod  # noqa: B027 (some kinds hold everything)
    def check(cls, path: Path, predictions: Predictions) -> None:
        """Refuse what does not fit before any work starts.

        Raises:
            ConfigError: predictions that cannot be written so, or a package that is not installed.
        """

    @abstractmethod
    def write(self, prediction: AnyPrediction) -> None:
        """Add one prediction."""

    def close(self) -> None:  # noqa: B027 (not every kind has anything left)
        """Write what is left."""


@contextmanager
def open_outputs(
    paths: Sequence[str | Path], predictions: Predictions, *, all_probabilities: bool = False
) -> Iterator[list[Output]]:
    """Files to write predictions to; they get their names when the block succeeds and vanish when it fails.

    Example:
        >>> with open_outputs(["labels.jsonl"], found) as outputs:  # doctest: +SKIP
        ...     for prediction in found:
        ...         for output in outputs:
        ...             output.write(prediction)

    Args:
        paths: files ending in .jsonl, .csv, .parquet or .mp4, or a folder (without an extension) for masks. PNG files
            in a folder get their names one by one.

    Raises:
        ConfigError: an unknown extension, or predictions that a file of that kind cannot hold.
    """
    kinds = [(Path(path), _kind_of(Path(path))) for path in paths]
    for path, kind in kinds:
        kind.check(path, predictions)
    with ExitStack() as opened:
        outputs = []
        for path, _ in kinds:
            opened.enter_context(empty_folders_go(path))
        for path, kind in kinds:
            place = path if kind.is_folder else opened.enter_context(atomic_path(path))
            outputs.append(output := kind(place, predictions, all_probabilities=all_probabilities))
            opened.callback(output.close)
        yield outputs


def _kind_of(path: Path) -> type[Output]:
    importlib.import_module("evlift.streaming.video")  # registers itself
    suffix = path.suffix.lower()
    if suffix in OUTPUTS:
        return OUTPUTS[suffix]  # type: ignore[return-value]
    if suffix and not path.is_dir():
        known = ", ".join(name for name in OUTPUTS if name)
        raise ConfigError(
            f"Expected an output that ends in {known}, or a folder for masks, but got '{path}'. Rename it."
        )
    return OUTPUTS[""]  # type: ignore[return-value]


@OUTPUTS.register(".jsonl")
class JsonLines(Output):
    """One JSON object a line and window."""

    def __init__(self, path: Path, predictions: Predictions, *, all_probabilities: bool) -> None:
        super().__init__(path, predictions, all_probabilities=all_probabilities)
        self._file = path.open("w", encoding="utf-8")

    def write(self, prediction: AnyPrediction) -> None:
        """See :class:`Output`."""
        row = prediction.row(all_probabilities=self.all_probabilities)
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """See :class:`Output`."""
        self._file.close()


class _Table(Output):
    """Rows of plain columns; a class's share or probability is a column of its own."""

    keeps_masks: ClassVar[bool]

    def _flat(self, prediction: AnyPrediction) -> dict[str, Any]:
        row = prediction.row(all_probabilities=self.all_probabilities)
        named = row.pop("probabilities", {})
        if isinstance(prediction, MaskPrediction):
            shares, mask = row.pop("shares"), row.pop("mask")
            named = {name: shares.get(name, 0.0) for name in (*prediction.classes, UNKNOWN)}
            if self.keeps_masks:
                row |= {
                    "mask_height": mask["size"][0],
                    "mask_width": mask["size"][1],
                    "mask_runs": mask["runs"],
                }
        kind = "share" if isinstance(prediction, MaskPrediction) else "probability"
        return row | {f"{kind} {name}": value for name, value in named.items()}


@OUTPUTS.register(".csv")
class Csv(_Table):
    """One line a window; of masks the shares of the classes alone."""

    keeps_masks = False

    def __init__(self, path: Path, predictions: Predictions, *, all_probabilities: bool) -> None:
        super().__init__(path, predictions, all_probabilities=all_probabilities)
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._writer: csv.DictWriter[str] | None = None

    def write(self, prediction: AnyPrediction) -> None:
        """See :class:`Output`."""
        row = self._flat(prediction)
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)

    def close(self) -> None:
        """See :class:`Output`."""
        self._file.close()


@OUTPUTS.register(".parquet")
class Parquet(_Table):
    """One row a window; needs the extra `parquet`."""

    keeps_masks = True

    def __init__(self, path: Path, predictions: Predictions, *, all_probabilities: bool) -> None:
        super().__init__(path, predictions, all_probabilities=all_probabilities)
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    @classmethod
    def check(cls, path: Path, predictions: Predictions) -> None:
        """pyarrow must be installed."""
        extra("parquet", "pyarrow.parquet")

    def write(self, prediction: AnyPrediction) -> None:
        """See :class:`Output`."""
        self._rows.append(self._flat(prediction))
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet

        schema = None if self._writer is None else self._writer.schema
        table = pyarrow.Table.from_pylist(self._rows, schema=schema)
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table)
        self._rows = []

    def close(self) -> None:
        """See :class:`Output`."""
        if self._rows:
            self._flush()
        if self._writer is not None:
            self._writer.close()


@OUTPUTS.register("")
class MaskFolder(Output):
    """PNG files with an indexed palette, RECORDING_START.png in µs, and `classes.json` beside them."""

    is_folder = True

    @classmethod
    def check(cls, path: Path, predictions: Predictions) -> None:
        """Labels have no pictures, and two recordings must not have the same ones."""
        if not predictions.segments:
            raise ConfigError(
                f"Expected a run that gives masks for the folder '{path}', but this one gives labels. Name a file "
                "that ends in .jsonl, .csv, .parquet or .mp4."
            )
        if path.exists() and not path.is_dir():
            raise ConfigError(f"Expected a folder for masks, but '{path}' is a file. Name another.")
        named: dict[Path, str] = {}
        for name in predictions.recordings:
            if (other := named.setdefault(Path(name).with_suffix(""), name)) != name:
                raise ConfigError(
                    f"Expected recordings whose names differ in more than the extension, because masks are named "
                    f"after them, but got '{other}' and '{name}'. Rename one."
                )

    def __init__(self, path: Path, predictions: Predictions, *, all_probabilities: bool) -> None:
        super().__init__(path, predictions, all_probabilities=all_probabilities)
        self._palette, self._several = palette(), predictions.several
        names = dict(enumerate(predictions.classes)) | {UNKNOWN_PIXEL: UNKNOWN}
        self._legend = [
            {"index": i, "class": name, "colour": self._palette[i].tolist()} for i, name in names.items()
        ]
        self._legend_is_there = False

    def write(self, prediction: AnyPrediction) -> None:
        """See :class:`Output`."""
        from PIL import Image

        if not isinstance(prediction, MaskPrediction):
            raise TypeError(f"Expected a mask, but got {type(prediction).__name__}.")
        if not self._legend_is_there:
            write_json(self.path / "classes.json", self._legend)
            self._legend_is_there = True
        picture = Image.fromarray(np.ascontiguousarray(prediction.mask))
        picture.putpalette(self._palette.tobytes())
        with atomic_path(self.path / mask_name(prediction, self._several)) as part:
            picture.save(part, format="PNG")


def mask_name(prediction: MaskPrediction, several: bool) -> Path:
    """Where in the folder a mask goes; `several` recordings, of a folder, keep their place in that."""
    recording = Path(prediction.recording)
    folder = recording.parent if several else Path()
    return folder / f"{recording.stem}_{prediction.start_us:012d}.png"
