"""Inputs that coverage-guided fuzzing kept or found (`make fuzz-coverage`), replayed with compiled kernels.

Those in `tests/data/fuzz` reached the most new code of their reader; finds have a test beside what was mended.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_inputs import OWN, exercise, input_path

KEPT = Path(__file__).parents[1] / "data" / "fuzz"
pytestmark = pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")


@pytest.mark.parametrize("form", OWN)
def test_inputs_of_the_corpus(form: str, tmp_path: Path) -> None:
    inputs = sorted((KEPT / form).iterdir())
    assert inputs, "no inputs are kept for this reader: run make fuzz-coverage and choose some"
    path = input_path(form, tmp_path)
    for file in inputs:
        path.write_bytes(file.read_bytes())
        exercise(form, path)


def test_the_corpus_stays_small():
    sizes = [file.stat().st_size for file in KEPT.rglob("*") if file.is_file()]
    assert sum(sizes) < 300_000
    assert max(sizes) < 25_000
