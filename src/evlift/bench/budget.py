"""One budget for all rows: steps, samples, or seconds of training."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from evlift.config import Recipe
from evlift.errors import ConfigError, DataError
from evlift.files import write_json

KINDS = ("steps", "samples", "seconds")
TRIAL_STEPS = (10, 30)  # of the two trainings whose difference gives the time of a step


@dataclass(frozen=True)
class Budget:
    """What every run may spend; its learning rate and all else stay as they are, its schedules are of the new length.

    Example:
        >>> Budget.parse("steps=500")
        Budget(kind='steps', amount=500)

    Steps are optimiser steps of all phases of a method together, teachers included. Samples are those steps times the
    batch size. Seconds are of training, starting and judging left out: steps = seconds / time of a step, where that
    time is measured on this machine, one training at a time, as the difference of two short trainings of the same
    recipe, so that all its phases count by their shares.

    Args:
        kind: steps, samples or seconds.
        amount: how many.
        folder: where measured times are kept, by digest, so that the same command finds the same runs.
    """

    kind: str
    amount: float
    folder: Path | None = field(default=None, repr=False, compare=False)
    time_step: Callable[[Recipe], float] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read "steps=500", "samples=20000" or "seconds=60".

        Raises:
            ConfigError: anything else.
        """
        kind, _, number = text.partition("=")
        try:
            amount = float(number) if kind == "seconds" else int(number)
        except ValueError:
            amount = 0
        if kind not in KINDS or not 0 < amount < float("inf"):
            raise ConfigError(
                f"Expected a budget such as steps=500, samples=20000 or seconds=60, but got '{text}'."
            )
        return cls(kind, amount)

    def __call__(self, recipe: Recipe) -> Recipe:
        """The recipe with as many steps as the budget pays for, at least one."""
        if self.kind == "steps":
            steps = self.amount
        elif self.kind == "samples":
            steps = self.amount / recipe.train.batch_size
        else:
            steps = self.amount / self._seconds_a_step(recipe)
        return replace(recipe, train=replace(recipe.train, steps=max(1, round(steps))))

    def _seconds_a_step(self, recipe: Recipe) -> float:
        """Measured once a recipe and folder."""
        if self.folder is None:
            raise ConfigError(
                "Expected a folder for the measured times of a budget of seconds, but got none."
            )
        path = self.folder / "seconds-a-step.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise DataError(
                f"Expected {path} to hold measured times, but: {error}. Delete it to have them measured again."
            ) from None
        if recipe.digest not in known:
            known[recipe.digest] = (self.time_step or time_step)(recipe)
            write_json(path, known)
        return known[recipe.digest]


def time_step(recipe: Recipe) -> float:
    """Seconds a step of a recipe on this machine, from two short trainings that are thrown away."""
    from evlift import api

    seconds = []
    for steps in TRIAL_STEPS:
        short = replace(recipe.train, steps=steps, eval_every=0, patience=0, warmup=0)
        with tempfile.TemporaryDirectory() as folder:
            run = api.train(replace(recipe, train=short), Path(folder) / "run")
            seconds.append(run.read_record()["seconds"])
    return max(1e-4, (seconds[1] - seconds[0]) / (TRIAL_STEPS[1] - TRIAL_STEPS[0]))
