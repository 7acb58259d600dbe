"""The text header that Prophesee files share: lines that start with "% "."""

from __future__ import annotations

import io

from evlift.errors import FormatError
from evlift.events.readers.source import GIVE_SENSOR

MAX_LINES = 1000
MAX_LINE = 4096


def read_header(file: io.BufferedReader) -> dict[str, str]:
    """Read "% key value" lines up to "% end" or the first byte of data; keys in lower case.

    ``% format EVT3;height=720;width=1280`` also gives the keys ``height`` and ``width``, and so does
    ``% geometry 1280x720``.

    Raises:
        FormatError: a header that does not end.
    """
    header: dict[str, str] = {}
    for _ in range(MAX_LINES):
        if file.peek(2)[:2] != b"% ":
            return header
        line = file.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            break
        key, _, value = line[2:].decode("latin-1").strip().partition(" ")
        if key.lower() == "end":
            return header
        header[key.lower()] = value.strip()
        header.update(_stated_size(key.lower(), value))
    raise FormatError(
        f"Expected a header of at most {MAX_LINES} lines of {MAX_LINE} bytes, but got one that goes on."
    )


def starts_with_header(head: bytes) -> bool:
    """Whether content begins as a Prophesee header does."""
    return head.startswith(b"% ")


def header_size(header: dict[str, str]) -> tuple[int, int] | None:
    """(H, W) as the header states it; None if it states none.

    Raises:
        FormatError: a size that is no number.
    """
    if "height" not in header or "width" not in header:
        return None
    stated = header["height"], header["width"]
    if not all(side.isascii() and side.isdigit() and len(side) < 10 for side in stated):
        raise FormatError(
            f"Expected the header's height and width to be whole numbers, but got {stated[0]!r} and "
            f"{stated[1]!r}. To read the file nevertheless: {GIVE_SENSOR}"
        )
    return int(stated[0]), int(stated[1])


def _stated_size(key: str, value: str) -> dict[str, str]:
    if key == "geometry":
        width, _, height = value.strip().partition("x")
        return {"width": width.strip(), "height": height.strip()}
    if key == "format":
        pairs = (part.partition("=") for part in value.split(";")[1:])
        return {name.strip().lower(): content.strip() for name, _, content in pairs}
    return {}
