"""Fitting a finished run's confidence, and measuring how its recordings lie on their sensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.api import split_batches
from evlift.assembly import create_task, evaluation_feeder, open_run, reads_pictures
from evlift.engine.calibration import Calibration, calibrate
from evlift.engine.evaluate import Evaluation, run_network
from evlift.engine.framing import framing_of
from evlift.errors import ConfigError, DataError
from evlift.files import write_json

if TYPE_CHECKING:
    from evlift.assembly import Trained


def calibrate_run(folder: str | Path) -> Calibration:
    """Fit temperature and threshold of a finished run, and write them into its record with its framing.

    Training does this at its end; runs of earlier versions need it once, where their data are. It is fitted on the
    split that the run's weights were judged on: source_val, held-out pictures encoded as in training, for methods that
    may not see an event label; val for the others.

    Example:
        >>> evlift.calibrate_run("runs/a").temperature  # doctest: +SKIP

    Raises:
        DataError: no such run, data that are not there, or too little of them.
        ConfigError: a network that segments.
    """
    trained = open_run(folder)
    calibration, found = calibrated(trained)
    write_json(trained.run.record, {**trained.record, **found})
    return calibration


def calibrated(trained: Trained) -> tuple[Calibration, dict[str, Any]]:
    """Calibration of a run, measured anew on its data, and what its record holds of that and of its framing.

    Raises:
        DataError: data that are not there, or other ones.
        ConfigError: a network that segments.
    """
    if trained.record.get("metric", "accuracy") != "accuracy":
        raise ConfigError(
            f"Expected a run that classifies, but {trained.run.folder} segments: it has no confidence to calibrate."
        )
    feeder = evaluation_feeder(trained, create_task(trained.recipe))
    split = trained.record.get("judged_on", "val")
    evaluation = run_network(trained.network, split_batches(trained, feeder, split))
    if not isinstance(evaluation, Evaluation):
        raise DataError(f"Expected {split} to hold classes, but it holds masks.")
    found = calibrate(evaluation.logits.mean(axis=1), evaluation.target, split)
    framing = None if reads_pictures(trained.recipe) else framing_of(feeder).to_dict()
    return found, {**found.to_record(), "framing": framing}
