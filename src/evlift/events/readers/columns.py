"""Which column is which: names, orders and time units of tables that do not say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, FormatError
from evlift.events.readers.base import RawChunk, Reader, SensorSize, Source
from evlift.events.stream import LATEST_US

ALIASES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps", "t_us", "time_us", "timestamp_us", "t_s"),
    "x": ("x", "xs", "x_pos", "col", "column", "addr_x"),
    "y": ("y", "ys", "y_pos", "row", "addr_y"),
    "p": ("p", "ps", "pol", "pols", "polarity", "polarities", "on"),
}
"""Names that a column goes by, in any case (decided here, from published data sets)."""

UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000}


class TableReader(Reader):
    """What readers of unlabelled columns share: options that say which column is which, and in which unit.

    Args:
        columns: order such as "txyp", for columns without names; default: detected, and said in a warning.
        time_unit: "us", "ms" or "s"; default: seconds if the times have fractions, else µs.
    """

    max_side = 65_535

    def __init__(
        self,
        source: Source,
        *,
        sensor_size: SensorSize | None = None,
        strict: bool = False,
        columns: str | None = None,
        time_unit: str | None = None,
    ) -> None:
        if columns is not None and sorted(columns) != sorted("txyp"):
            raise ConfigError(f"Expected `columns` to order the letters t, x, y, p, but got '{columns}'.")
        if time_unit is not None and time_unit not in UNITS_US:
            raise ConfigError(f"Expected `time_unit` to be one of {list(UNITS_US)}, but got '{time_unit}'.")
        self.order_given = columns
        self.time_unit = time_unit or ""
        super().__init__(source, sensor_size=sensor_size, strict=strict)


def match_names(names: Iterable[str]) -> dict[str, str]:
    """Map t, x, y, p to the names among `names` that mean them; those that are not there are left out.

    Example:
        >>> match_names(["timestamp", "X", "Y", "polarity"])
        {'t': 'timestamp', 'x': 'X', 'y': 'Y', 'p': 'polarity'}
    """
    known = {name.strip().lower(): name for name in names}
    return {
        column: known[alias]
        for column, aliases in ALIASES.items()
        for alias in reversed(aliases)
        if alias in known
    }


def detect_order(sample: Sequence[NDArray[Any]], name: str) -> str:
    """The order of four unnamed columns by what is plausible, such as "txyp".

    Polarity holds nothing but -1, 0 and 1, in both signs if a column does; time alone has fractions, or else
    steps back least often and, if that leaves a choice, ends highest. The two that remain are x, then y.
    Source: decided here.

    Args:
        sample: four columns [n].
        name: the file's name for the message.

    Raises:
        FormatError: no column can be a polarity.
    """
    values = [np.asarray(column, np.float64) for column in sample]
    signs = [i for i, column in enumerate(values) if np.isin(column, (-1.0, 0.0, 1.0)).all()]
    if not signs or len(values[0]) == 0:
        raise FormatError(
            f"Expected one column of {name} to hold polarities (-1, 0, 1), but none does. Write "
            'polarities so, or state the order of the columns in Python and convert from there: columns="txyp".'
        )
    polarity = min(reversed(signs), key=lambda i: float(np.ptp(values[i]) == 0.0))
    rest = [i for i in range(4) if i != polarity]
    backwards = [np.count_nonzero(np.diff(column) < 0) for column in values]
    broken = [i for i in rest if detect_unit(values[i]) == "s"]
    time = broken[0] if len(broken) == 1 else max(rest, key=lambda i: (-backwards[i], float(values[i].max())))
    x, y = (i for i in rest if i != time)
    letters = {time: "t", x: "x", y: "y", polarity: "p"}
    return "".join(letters[i] for i in range(4))


def detect_unit(sample: NDArray[Any]) -> str:
    """ "s" if the times have fractions, else "us". Source: decided here."""
    if sample.dtype.kind != "f":
        return "us"
    finite = sample[np.isfinite(sample)]
    return "s" if np.any(finite != np.floor(finite)) else "us"


def to_chunk(
    t: NDArray[Any], x: NDArray[Any], y: NDArray[Any], p: NDArray[Any], time_unit: str
) -> tuple[RawChunk, int]:
    """Columns [n] of any numeric type as a chunk, and how many rows had no usable number.

    Times are rounded to whole µs; fractions of coordinates are cut off.
    """
    scale = UNITS_US[time_unit]
    keep: NDArray[np.bool_] | None = None
    if t.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            t = np.rint(t.astype(np.float64) * scale)
            keep = np.abs(t) < LATEST_US  # False for NaN too
    elif scale != 1 or _has_huge(t):
        keep = np.abs(t.astype(np.float64)) * scale < LATEST_US
        t = t.astype(np.int64) * scale
    x, y, inside = _integers(x, y)
    keep = inside if keep is None else keep if inside is None else keep & inside
    if keep is not None and not keep.all():
        t, x, y, p = t[keep], x[keep], y[keep], p[keep]
        return RawChunk(t.astype(np.int64), x, y, p > 0), int(np.count_nonzero(~keep))
    return RawChunk(t.astype(np.int64, copy=False), x, y, p if p.dtype == bool else p > 0), 0


def _has_huge(t: NDArray[Any]) -> bool:
    """Whether whole numbers [n] go beyond the times that sums and differences of two can hold."""
    return t.dtype.itemsize == 8 and len(t) > 0 and max(-int(t.min()), int(t.max())) >= LATEST_US


def _integers(
    x: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_] | None]:
    if x.dtype.kind != "f" and y.dtype.kind != "f":
        return x, y, None
    usable = (np.abs(x) < 2**31) & (np.abs(y) < 2**31)
    with np.errstate(invalid="ignore"):
        return np.floor(x).astype(np.int64), np.floor(y).astype(np.int64), usable
