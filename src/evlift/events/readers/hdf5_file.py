"""HDF5 files without trust in what they claim: opening, sizes, and rows whose chunks were looked at first.

libhdf5 and its plugins decode in this process. What ended it in the fuzz test were Blosc chunks whose plugin had no
settings or believed their headers, and nothing else: that is checked here, at a fraction of a process's cost.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import EvliftError, FormatError
from evlift.events.readers.hdf5_guard import look_first
from evlift.events.readers.source import refuse_bomb

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_CHUNK_BYTES = 2**30
BLOSC, LZF, FLETCHER32 = 32001, 32000, 3
FEWEST_PARAMETERS = {BLOSC: 4, 32026: 4}
"""Parameters that the plugins of Blosc and Blosc2 read unasked: with fewer they end the process."""

BLOSC_HEADER = struct.Struct("<4B3I")
CHECKSUM_BYTES = 4

DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError)


class OwnFile:
    """An HDF5 file that gives what lies in itself alone: links and data in other files are refused."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.attrs, self.filename = file.attrs, str(file.filename)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __getitem__(self, name: str) -> Any:
        found = self.get(name)
        if found is None:
            raise KeyError(f"no '{name}' in '{self.filename}'")
        return found

    def get(self, name: str) -> Any:
        """The data set or group under a path, or None.

        Raises:
            FormatError: it is reached by a link, or its values lie in another file.
        """
        import h5py

        parts = name.split("/")
        for length in range(1, len(parts) + 1):
            link = self._file.get("/".join(parts[:length]), getlink=True)
            if isinstance(link, (h5py.ExternalLink, h5py.SoftLink)):
                raise FormatError(
                    f"Expected '{name}' to lie in {self.filename}, but it is a link to '{link.path}'. Links are not "
                    "followed: copy what they lead to into the file (h5repack or h5copy)."
                )
        found = self._file.get(name)
        if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
            raise FormatError(
                f"Expected the values of '{name}' to lie in {self.filename}, but they lie in other files. Copy them "
                "into the file (h5repack)."
            )
        return found


@contextmanager
def open_hdf5(path: Path) -> Iterator[OwnFile]:
    """The file, with the compression plugins of hdf5plugin registered if that package is there.

    Raises:
        FormatError: the file is no HDF5 or is damaged.
    """
    import h5py

    with suppress(ImportError):  # `require_filters` names it where a data set needs it
        import hdf5plugin  # noqa: F401
    try:
        look_first(path)
        file = h5py.File(path, "r")
    except EvliftError:
        raise
    except DAMAGED as error:
        raise FormatError(f"Expected {path} to be a whole HDF5 file, but got: {error}.") from None
    with file:
        try:
            yield OwnFile(file)
        except EvliftError:  # the caller's own verdict on what it read
            raise
        except DAMAGED as error:
            raise FormatError(f"Expected {path} to be a whole HDF5 file, but got: {error}.") from None


def names_in(path: Path | None, names: tuple[str, ...]) -> bool:
    """Whether an HDF5 file holds data sets of all these names.

    Raises:
        FormatError: the file is damaged, or leads to other files.
    """
    if path is None:
        return False
    with open_hdf5(path) as file:
        return all(hasattr(file.get(name), "shape") for name in names)


def require_filters(dataset: Any, name: str) -> None:
    """Refuse a data set whose compression no plugin here can undo, or whose chunks are absurd."""
    import h5py

    settings = dataset.id.get_create_plist()
    for i in range(settings.get_nfilters()):
        code, _, parameters, label = settings.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            raise FormatError(
                f"Expected an HDF5 plugin for the filter {label.decode(errors='replace') or code} of {name}, "
                "but none is installed. Run `pip install hdf5plugin`."
            )
        if len(parameters) < FEWEST_PARAMETERS.get(code, 0):
            raise FormatError(
                f"Expected whole settings of the filter {code} of {name}, but got {parameters}."
            )
    if not dataset.shape:
        raise FormatError(f"Expected {name} to be an array, but got a single value or nothing.")
    if dataset.dtype.kind not in "biuf":
        raise FormatError(f"Expected {name} to hold numbers, but got {dataset.dtype}.")
    if dataset.chunks and int(np.prod(dataset.chunks)) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
        raise FormatError(
            f"Expected chunks of {name} under 1 GiB, but got {dataset.chunks} of {dataset.dtype}."
        )
    refuse_bomb(name, int(dataset.id.get_storage_size()), stored_rows(dataset) * row_bytes(dataset))


def row_bytes(dataset: Any) -> int:
    """Bytes of a row of a data set."""
    return int(np.prod(dataset.shape[1:], dtype=np.int64)) * int(dataset.dtype.itemsize)


def stored_rows(dataset: Any) -> int:
    """Rows that the file can hold, whatever its header claims: an allocated chunk counts as full."""
    rows = int(dataset.shape[0])
    if rows == 0 or dataset.id.get_storage_size() == 0:
        return 0
    if dataset.chunks is None:
        return min(rows, int(dataset.id.get_storage_size()) // max(row_bytes(dataset), 1))
    return min(rows, int(dataset.id.get_num_chunks()) * int(dataset.chunks[0]))


def read_rows(dataset: Any, first: int, stop: int) -> NDArray[Any]:
    """Rows [first:stop] of a data set that `require_filters` let pass.

    Raises:
        ValueError: a damaged chunk that libhdf5 or a plugin would not find: they trust what a chunk says of its
            length, end the process over it, or hand out memory that nobody filled.
    """
    if dataset.chunks is not None:
        settings = dataset.id.get_create_plist()
        filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
        height, *widths = dataset.chunks
        rows = range(first // height * height, stop, height)
        columns = (range(0, side, width) for side, width in zip(dataset.shape[1:], widths, strict=True))
        for corner in product(rows, *columns):
            _check_chunk(dataset, corner, [code for code in filters if code != FLETCHER32])
    found: NDArray[Any] = dataset[first:stop]
    return found


def _check_chunk(dataset: Any, corner: tuple[int, ...], filters: list[int]) -> None:
    """Refuse a chunk that would not fill its place; one of gzip is left to the checksum it carries."""
    stored = dataset.id.get_chunk_info_by_coord(corner)
    if stored.byte_offset is None:
        return
    expected = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    if not filters or stored.filter_mask:
        if stored.size not in (expected, expected + CHECKSUM_BYTES):
            raise ValueError(f"a chunk of {stored.size} bytes where {expected} belong")
    elif BLOSC in filters or LZF in filters:
        if stored.size > 2 * expected + 2**16 or filters[-1] not in (BLOSC, LZF):
            raise ValueError(f"a chunk of {stored.size} bytes and filters {filters} where {expected} belong")
        _, content = dataset.id.read_direct_chunk(corner)
        length = _blosc_length(content) if filters[-1] == BLOSC else _lzf_length(content)
        if length != expected:
            raise ValueError(f"a chunk that unpacks to {length} bytes where {expected} belong")


def _blosc_length(content: bytes) -> int:
    """Bytes that a Blosc chunk unpacks to; 0 if its header contradicts itself or its length."""
    if len(content) < BLOSC_HEADER.size:
        return 0
    _, _, _, item, size, block, packed = BLOSC_HEADER.unpack_from(content)
    fits = BLOSC_HEADER.size <= packed <= len(content) and item > 0 and 0 < block <= size
    return int(size) if fits else 0


def _lzf_length(content: bytes) -> int:
    from evlift.kernels.decode import lzf_length

    return int(lzf_length(np.frombuffer(content, np.uint8)))
