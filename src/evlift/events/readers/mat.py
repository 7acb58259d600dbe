"""MATLAB files that hold an N×4 matrix of events or four vectors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.readers.base import (
    CHUNK_EVENTS,
    READERS,
    RawChunk,
    RecordingWarning,
    SensorSize,
    Source,
)
from evlift.events.readers.columns import (
    TableReader,
    detect_order,
    detect_unit,
    match_names,
    to_chunk,
)
from evlift.events.readers.hdf5_file import MAGIC, open_hdf5, read_rows, require_filters, stored_rows
from evlift.events.readers.mat5 import read_arrays

LARGE_BYTES = 2**28
MAX_ELEMENTS = 2**31


@READERS.register("mat")
class MatReader(TableReader):
    """Reads a MATLAB matrix [N, 4] or vectors t, x, y, p, from version 5 files and from 7.3 files, which are
    HDF5.

    Example:
        >>> MatReader("recording.mat", columns="xypt", sensor_size=(128, 128)).read()  # doctest: +SKIP

    The matrix is held in memory: above 256 MiB a warning says so. Source: decided here.

    Arguments as of :class:`TableReader`, and:

    Args:
        variable: the matrix to read; default: the only one [N, 4].
    """

    format = "mat"
    extensions = (".mat",)

    def __init__(
        self,
        source: Source,
        *,
        sensor_size: SensorSize | None = None,
        strict: bool = False,
        columns: str | None = None,
        time_unit: str | None = None,
        variable: str | None = None,
    ) -> None:
        self.variable = variable
        super().__init__(source, sensor_size=sensor_size, strict=strict, columns=columns, time_unit=time_unit)

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """MATLAB's header text, in both kinds of file."""
        return head.startswith(b"MATLAB ") and (head[124:128] != b"" or path is not None)

    def _inspect(self, sensor_size: SensorSize | None) -> SensorSize:
        if self.path.stat().st_size > LARGE_BYTES:
            warnings.warn(
                f"{self.name}: a MATLAB file is read whole. Convert it to HDF5 for long recordings.",
                RecordingWarning,
                stacklevel=3,
            )
        self._columns, detected = self._named(self._load(self.path))
        if not self.time_unit:
            self.time_unit = detect_unit(self._columns["t"])
            detected.append(f"times in {self.time_unit}")
        if sensor_size is None:
            x, y = self._columns["x"], self._columns["y"]
            sensor_size = (_side(y), _side(x))
            detected.append(f"a sensor of (H, W) = {sensor_size} from the largest coordinates")
        self._announce(detected)
        return sensor_size

    def _load(self, path: Path) -> dict[str, NDArray[Any]]:
        with path.open("rb") as file:
            file.seek(512)
            is_hdf5 = file.read(8) == MAGIC
        arrays = _load_hdf5(path, self.variable) if is_hdf5 else read_arrays(path, self.variable)
        if self.variable is not None and self.variable not in arrays:
            raise FormatError(
                f"Expected numbers in a variable '{self.variable}' of {self.name}, but found none."
            )
        return arrays

    def _named(self, arrays: dict[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], list[str]]:
        """The four columns by name, and what was detected."""
        matched = match_names(arrays)
        if len(matched) == 4 and self.variable is None:
            columns = {letter: arrays[name].ravel() for letter, name in matched.items()}
            if len({len(column) for column in columns.values()}) > 1:
                raise FormatError(
                    f"Expected t, x, y, p of {self.name} to be of one length, but they are not."
                )
            return columns, []
        matrices = {name: array for name, array in arrays.items() if array.ndim == 2 and 4 in array.shape}
        if len(matrices) != 1:
            shapes = {name: array.shape for name, array in arrays.items()}
            raise FormatError(
                f"Expected one N×4 matrix or vectors t, x, y, p in {self.name}, but got {shapes}. Save "
                "that alone, or name it in Python: variable=."
            )
        (matrix,) = matrices.values()
        rows = matrix if matrix.shape[1] == 4 else matrix.T  # [N, 4]
        detected: list[str] = []
        order = self.order_given
        if order is None:
            order = detect_order(list(rows[:CHUNK_EVENTS].T), self.name) if len(rows) else "xytp"
            detected.append(f"column order {' '.join(order)}")
        return dict(zip(order, rows.T, strict=True)), detected

    def _decode(self) -> Iterator[RawChunk]:
        for start in range(0, len(self._columns["t"]), CHUNK_EVENTS):
            t, x, y, p = (self._columns[name][start : start + CHUNK_EVENTS] for name in "txyp")
            chunk, unusable = to_chunk(t, x, y, p, self.time_unit)
            self._count("unknown_records", unusable)
            yield chunk


def _side(column: NDArray[Any]) -> int:
    """Largest usable coordinate + 1."""
    usable = column[(column >= 0) & (column < MatReader.max_side)]
    return int(usable.max()) + 1 if len(usable) else 1


def _load_hdf5(path: Path, variable: str | None) -> dict[str, NDArray[Any]]:
    with open_hdf5(path) as file:
        found = {name: file.get(name) for name in (file if variable is None else [variable])}
        return {
            name: _whole_array(dataset, f"{path}:{name}")
            for name, dataset in found.items()
            if _holds_numbers(dataset)
        }


def _holds_numbers(dataset: Any) -> bool:
    if not getattr(dataset, "shape", None):
        return False
    return dataset.dtype.kind in "biuf" and int(dataset.size) <= MAX_ELEMENTS


def _whole_array(dataset: Any, name: str) -> NDArray[Any]:
    require_filters(dataset, name)
    if stored_rows(dataset) < dataset.shape[0]:
        raise FormatError(f"Expected {name} to be whole, but some of its rows are not stored.")
    return read_rows(dataset, 0, dataset.shape[0]).T  # MATLAB's axes are the other way round
