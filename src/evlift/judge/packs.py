"""Packs: a trained network as a small folder that says what it is, and works without the data it was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from evlift.api import cost, evaluate
from evlift.assembly import Trained, open_run, reads_pictures
from evlift.engine.calibration import Calibration, Confidence
from evlift.engine.checkpoint import save_weights
from evlift.engine.evaluate import Evaluation
from evlift.engine.run import Run, shipped_weights
from evlift.errors import ConfigError, DataError
from evlift.files import write_json, write_text
from evlift.judge.calibrate import calibrated
from evlift.judge.card import model_card
from evlift.judge.robustness import robustness as judge_disturbed

CARD = "README.md"


def pack(
    run: str | Path,
    out: str | Path,
    *,
    test: bool = False,
    robustness: bool = False,
    note: str = "",
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Make a folder of a finished run that can be handed on: weights, recipe, record and a model card.

    The network is judged on the run's own data for the card, and calibrated if it is not yet; where the data are not
    there, it says what an earlier card said, or that only the figure of the training's end is known. A pack opens as a
    run does, and needs no data for :func:`evlift.predict` and :func:`evlift.evaluate_recordings`. The manifest is left
    out: the record has its hash. Packing again replaces the pack.

    Example:
        >>> evlift.pack("runs/a", "packs/digits-convnet")  # doctest: +SKIP

    Args:
        run: a finished run.
        out: folder of the pack, whose name is the pack's.
        test: judge on test too: once, when everything is chosen.
        robustness: judge on disturbed recordings too.
        note: a sentence on limits that the card shall have.
        say: called with what could not be done.

    Raises:
        DataError: no such run, or data that `test` or `robustness` need are not there.
        ConfigError: a folder at `out` that is no pack, or that is the run itself.
    """
    out = Path(out)
    trained = open_run(run)
    if out.exists() and (out.resolve() == trained.run.folder.resolve() or not is_replaceable(out)):
        raise ConfigError(
            f"Expected a new folder or a pack to replace, but {out} is something else. Give another one."
        )
    record = {**trained.record, **_judged(trained, test, robustness, say)}
    record["recipe"] = without_paths(trained.recipe.to_dict())
    record["pack"] = {
        "name": out.name,
        "note": note,
        "reads": "pictures" if reads_pictures(trained.recipe) else "events",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        made = Run(Path(temporary, out.name))
        made.folder.mkdir()
        save_weights(made.weights, load_file(trained.run.weights))
        import yaml

        write_text(made.config, yaml.safe_dump(record["recipe"], sort_keys=False, allow_unicode=True))
        write_json(made.record, record)
        write_text(made.folder / CARD, model_card(record, size_of(made.folder)))
        open_run(made.folder)  # what cannot be opened is not handed out
        if out.exists():
            out.rename(Path(temporary, "replaced"))  # goes with that folder once the new pack stands
        made.folder.rename(out)
    return Run(out)


def is_replaceable(folder: Path) -> bool:
    """Whether a folder is a pack or holds nothing."""
    if not folder.is_dir():
        return False
    found = Run(folder)
    return not any(folder.iterdir()) or (
        found.record.is_file() and "pack" in found.read_record() and (folder / CARD).is_file()
    )


def _judged(trained: Trained, test: bool, robustness: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Calibration, framing, figures and cost, as far as the data are there."""
    found: dict[str, Any] = {"figures": dict(trained.record.get("figures") or {})}
    folder, of_pictures = trained.run.folder, reads_pictures(trained.recipe)
    try:
        if trained.calibration is None and trained.record.get("metric", "accuracy") == "accuracy":
            found |= calibrated(trained)[1]
        for split in _splits(trained, test, of_pictures):
            found["figures"][split] = figures_of(trained, split, found)
        found["cost"] = asdict(cost(folder, split="source_val" if of_pictures else "val"))
        if robustness:
            found["robustness"] = judge_disturbed(folder).summary()
    except (DataError, ConfigError) as error:
        if test or robustness:
            raise
        say(f"not judged again for the card: {error}")
    return found


def _splits(trained: Trained, test: bool, of_pictures: bool) -> Iterator[str]:
    yield "source_val"
    if not of_pictures:
        yield "val"
        if test:
            yield "test"


def figures_of(trained: Trained, split: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Score, interval and confidence on a split."""
    evaluation = evaluate(trained.run.folder, split=split)
    summary = evaluation.summary()
    kept: dict[str, Any] = {
        name: summary[name]
        for name in ("samples", "accuracy", "interval", "mIoU", "class_mean")
        if name in summary
    }
    if isinstance(evaluation, Evaluation):
        calibration = Calibration.of_record({**trained.record, **found})
        temperature = calibration.temperature if calibration else 1.0
        confidence = Confidence.of(evaluation.logits.mean(axis=1), evaluation.target, temperature)
        kept |= {name: confidence.summary()[name] for name in ("ece_before", "ece_after")}
        if calibration is not None:
            kept["rejecting"] = confidence.rejecting(calibration.unknown_below)
    return kept


def without_paths(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe less the places of one machine: no data root, and the last part alone of absolute paths."""

    def cleaned(name: str, value: Any) -> Any:
        if name == "root":
            return None
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return {
        section: {name: cleaned(name, value) for name, value in content.items()}
        for section, content in recipe.items()
    }


def size_of(folder: Path) -> int:
    """Bytes of a pack's files."""
    return sum(file.stat().st_size for file in folder.iterdir())


def shipped_packs() -> dict[str, dict[str, Any]]:
    """The records of the packs that come with evlift, by name, each with its size in bytes.

    Example:
        >>> list(evlift.shipped_packs())  # doctest: +SKIP
        ['digits-convnet']
    """
    return {
        name: {**Run(folder).read_record(), "bytes": size_of(folder)}
        for name, folder in shipped_weights().items()
    }
