"""Fetches files that have a published checksum. Nothing in evlift needs it, nothing calls it unasked."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evlift.errors import DataError
from evlift.files import atomic_path
from evlift.registry import Registry

DOWNLOADS = Registry("download")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file on the network with its checksum.

    Args:
        path: where it belongs, relative to the folder of data sets.
        urls: mirrors, tried in order.
        md5: published checksum (hex), or empty if `sha256` is given.
        sha256: checksum (hex), or empty if `md5` is given.
    """

    path: str
    urls: tuple[str, ...]
    md5: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if not (self.md5 or self.sha256):
            raise DataError(f"Expected a checksum for '{self.path}', but got none.")


MNIST_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",)
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
CALTECH_URL = "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"


@DOWNLOADS.register("mnist")
def mnist_files() -> tuple[Remote, ...]:
    """The four files of MNIST (11 MB), with the checksums that torchvision publishes."""
    return tuple(
        Remote(f"mnist/MNIST/raw/{name}", tuple(mirror + name for mirror in MNIST_MIRRORS), md5=md5)
        for name, md5 in MNIST_MD5.items()
    )


@DOWNLOADS.register("caltech101")
def caltech101_files() -> tuple[Remote, ...]:
    """Caltech101 (137 MB), to be unpacked where it lies; checksum as torchvision publishes it."""
    return (Remote("caltech101/caltech-101.zip", (CALTECH_URL,), md5="3138e1922a9193bfa496528edbbc45d0"),)


def download(
    name: str,
    root: Path | str,
    *,
    timeout_s: float = 30.0,
    progress: Callable[[str, int], None] | None = None,
) -> list[Path]:
    """Fetch the files of a data set into their places under `root`; whole files that are there are kept.

    Example:
        >>> download("mnist", "data")  # doctest: +SKIP

    Args:
        name: of the data set, see `DOWNLOADS`.
        root: folder of data sets.
        timeout_s: for each wait on the network.
        progress: called with the file name and the bytes so far.

    Raises:
        ConfigError: no data set of this name has published checksums.
        DataError: no mirror delivers a file with the right checksum.
    """
    remotes: Sequence[Remote] = DOWNLOADS[name]()
    return [fetch(remote, root, timeout_s=timeout_s, progress=progress) for remote in remotes]


def fetch(
    remote: Remote,
    root: Path | str,
    *,
    timeout_s: float = 30.0,
    progress: Callable[[str, int], None] | None = None,
) -> Path:
    """Fetch one file; it appears whole and with the right checksum, or not at all.

    Raises:
        DataError: no mirror delivers it; the message has each mirror's trouble.
    """
    target = Path(root) / remote.path
    if target.is_file() and _is_right(target, remote):
        return target
    troubles = []
    for url in remote.urls:
        try:
            with atomic_path(target) as part:
                _copy(url, part, timeout_s, progress)
                _require_checksum(part, remote)
            return target
        except (urllib.error.URLError, OSError, DataError) as error:
            troubles.append(f"{url}: {error}")
    raise DataError(f"Expected '{target}' from one of its mirrors, but: {'; '.join(troubles)}.")


def _copy(url: str, part: Path, timeout_s: float, progress: Callable[[str, int], None] | None) -> None:
    with urllib.request.urlopen(url, timeout=timeout_s) as answer, part.open("wb") as file:
        done = 0
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(Path(url).name, done)


def _is_right(path: Path, remote: Remote) -> bool:
    try:
        _require_checksum(path, remote)
    except DataError:
        return False
    return True


def _require_checksum(path: Path, remote: Remote) -> None:
    wanted, digest = (remote.sha256, hashlib.sha256) if remote.sha256 else (remote.md5, _md5)
    with path.open("rb") as file:
        got = hashlib.file_digest(file, digest).hexdigest()
    if got != wanted:
        raise DataError(f"expected the checksum {wanted}, but got {got}")


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)
