"""Whether a recording that shall judge a run was among the data of that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from evlift.datasets.items import hash_of_file
from evlift.datasets.manifest import Manifest
from evlift.engine.run import Run
from evlift.errors import DataError


def seen_before(run: Run, files: Iterable[Path]) -> dict[str, int] | None:
    """How many files are, byte for byte, recordings of the run's own data, by split; None without a readable manifest.

    A recording in another format, and another recording of an object that a source picture shows, are not recognised.
    """
    try:
        rows = Manifest.load(run.manifest).rows
    except (DataError, FileNotFoundError):
        return None
    split_of = {row.sha256: row.split for row in rows if row.modality == "recording"}
    return dict(Counter(split_of[found] for file in files if (found := hash_of_file(file)) in split_of))
