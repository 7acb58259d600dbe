"""Text files: one event a line, with or without a header, in any order of columns."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.errors import FormatError
from evlift.events.readers.base import READERS, RawChunk, RecordReader, SensorSize
from evlift.events.readers.columns import (
    TableReader,
    detect_order,
    detect_unit,
    match_names,
)
from evlift.events.readers.source import GIVE_SENSOR
from evlift.wording import counted

TIME_SHIFT = {"us": 0, "ms": 3, "s": 6}
GAPS = re.compile(r"[\s,;]+")
MAX_LINE = 2**16


def _fields(line: str) -> list[str]:
    return [field for field in GAPS.split(line.strip()) if field]


def _numbers(line: str) -> list[float]:
    """The numbers of a line, NaN for a field that is none."""
    values = []
    for field in _fields(line):
        try:
            values.append(float(field))
        except ValueError:
            values.append(math.nan)
    return values


def _whole(lines: list[str]) -> list[str]:
    """Without a last line that is cut off, unless it is the only one."""
    return lines[:-1] if len(lines) > 1 and not lines[-1].endswith("\n") else lines


def _is_event(values: list[float]) -> bool:
    """Whether a line holds four numbers; further fields may be anything."""
    return sum(map(math.isfinite, values)) >= 4


@READERS.register("text")
class TextReader(TableReader, RecordReader):
    """Reads lines of t, x, y, p separated by spaces, tabs, commas or semicolons.

    Example:
        >>> TextReader("events.txt", sensor_size=(180, 240)).read()  # doctest: +SKIP

    A line of names decides the order of columns; without one it is detected and a warning says what was
    found. Lines that start with # or % are comments; a first line of two numbers is width and height, as in
    E2VID's files. Fractions of coordinates are cut off. Source: decided here.

    Arguments as of :class:`TableReader`.
    """

    format = "text"
    extensions = (".txt", ".csv", ".tsv")
    headerless = True
    record_bytes = 1
    block_records = 2**20

    @classmethod
    def sniff(cls, head: bytes, path: Path | None) -> bool:
        """Text whose lines, past comments and a header, hold four numbers or more."""
        if b"\0" in head:
            return False
        lines = _whole(head.decode("ascii", "replace").splitlines(keepends=True))
        lines = [line for line in lines[:200] if line.strip() and line.lstrip()[0] not in "#%"]
        if len(lines) == 1 and len(match_names(_fields(lines[0]))) == 4:
            return True  # names of columns, and no event
        rows = [_numbers(line) for line in lines[1:] or lines]
        return not lines or any(_is_event(row) and len(row) <= 8 for row in rows)

    def _read_header(self, file: io.BufferedReader, sensor_size: SensorSize | None) -> SensorSize:
        head = file.peek(MAX_LINE)[:MAX_LINE]
        lines = head.decode("ascii", "replace").splitlines(keepends=True)
        skip, names, stated = self._preamble(lines)
        rows = [row for row in map(_numbers, _whole(lines[skip:])) if _is_event(row)]
        detected = self._settle(names, rows)
        size = sensor_size or stated
        file.read(sum(len(line) for line in lines[:skip]))
        if size is None:
            size = self._extent(file)
            detected.append(f"a sensor of (H, W) = {size} from the largest coordinates")
        self._announce(detected)
        return size

    def _preamble(self, lines: list[str]) -> tuple[int, list[str], SensorSize | None]:
        """Lines before the first event, the column names among them, and the sensor size among them."""
        names: list[str] = []
        size: SensorSize | None = None
        for skip, line in enumerate(lines):
            values = _numbers(line)
            if _is_event(values):
                return skip, names, size
            if len(values) == 2 and all(map(math.isfinite, values)):
                size = (int(values[1]), int(values[0]))
            found = dict(re.findall(r"(width|height)\s*[=:]\s*(\d+)", line.lower()))
            if len(found) == 2:
                size = (int(found["height"]), int(found["width"]))
            fields = [field for field in _fields(line.strip().lstrip("#%")) if "=" not in field]
            if len(match_names(fields)) == 4:
                names = fields
        return len(lines), names, size

    def _settle(self, names: list[str], rows: list[list[float]]) -> list[str]:
        """Decide order and unit; return what was detected rather than stated."""
        detected: list[str] = []
        order = self.order_given
        matched = match_names(names)
        if matched and rows and min(map(len, rows)) > len(names):
            raise FormatError(
                f"Expected {counted(len(names), 'number')} a line of {self.name}, as its line of names says, but got "
                f"{len(rows[0])}. Are these decimal commas? Write points."
            )
        if order is None and len(matched) == 4:
            letters = {stored: letter for letter, stored in matched.items()}
            order = "".join(letters.get(name, "-") for name in names)
            if not self.time_unit:
                self.time_unit = {"t_us": "us", "time_us": "us", "timestamp_us": "us", "t_s": "s"}.get(
                    matched["t"].lower(), ""
                )
        sample = np.array([row[: len(order or "txyp")] for row in rows if len(row) >= len(order or "txyp")])
        if order is None:
            order = detect_order(list(sample[:, :4].T), self.name) if len(sample) else "txyp"
            detected.append(f"column order {' '.join(order)}")
        if not self.time_unit:
            self.time_unit = detect_unit(sample[:, order.index("t")]) if len(sample) else "us"
            detected += [f"times in {self.time_unit}"] if len(sample) else []
        self._order = np.array(["txyp".find(letter) for letter in order.rstrip("-")], np.int64)
        return detected

    def _extent(self, file: io.BufferedReader) -> SensorSize:
        """(H, W) that just holds every coordinate; one pass over the file, which is left where it was."""
        if not isinstance(self.source, Path):
            raise FormatError(
                f"Expected the sensor's size for text from a stream, but got none. {GIVE_SENSOR}"
            )
        start = file.tell()
        height = width = 1
        for chunk in self._decode_blocks(self._blocks(file)):
            if len(chunk):
                height, width = max(height, int(chunk.y.max()) + 1), max(width, int(chunk.x.max()) + 1)
        file.seek(start)
        return min(height, self.max_side), min(width, self.max_side)

    def _decode_blocks(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[RawChunk]:
        rest = b""
        for block in blocks:
            data = rest + block.tobytes()
            end = data.rfind(b"\n") + 1
            rest = data[end:]
            if len(rest) > MAX_LINE:
                raise FormatError(
                    f"Expected lines of text in {self.name}, but got one of over {MAX_LINE} bytes."
                )
            yield self._parse(data[:end])
        last = self._parse(rest + b"\n", tail=True)
        self._count("dropped_bytes", 0 if len(last) or not rest.strip() else len(rest))
        yield last

    def _parse(self, data: bytes, *, tail: bool = False) -> RawChunk:
        from evlift.kernels.text import parse_lines

        text = np.frombuffer(data, np.uint8)
        out = np.empty((data.count(b"\n"), 4), np.int64)
        rows, bad = parse_lines(text, self._order, TIME_SHIFT[self.time_unit], out)
        if not tail:
            self._count("unknown_records", bad)
        t, x, y, p = out[:rows].T
        return RawChunk(np.ascontiguousarray(t), x, y, p > 0)
