"""Trials in a folder that outlives the command: an Optuna study in a journal, a run in a process for every trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from evlift.bench.worker import JOB, LOG, last_said
from evlift.errors import ConfigError
from evlift.extras import extra
from evlift.files import write_json
from evlift.tuning.space import value_of
from evlift.tuning.targets import Target

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

JOURNAL, DONE = "trials.journal", "done.txt"
AGAIN = "again"  # of a trial: the number of the interrupted one whose values it tries
RUN = "run"  # of a trial: the name of its run's folder


def open_study(folder: Path, *, seed: int = 0) -> Study:
    """The study of a folder, begun if it is not there.

    Args:
        folder: of the target.
        seed: of what is drawn next.

    Raises:
        ConfigError: Optuna is not installed.
    """
    optuna, journal = extra("tune", "optuna", "optuna.storages.journal")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name="tune",
        storage=optuna.storages.JournalStorage(journal.JournalFileBackend(str(folder / JOURNAL))),
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )


def counted(study: Study) -> list[FrozenTrial]:
    """Trials that count: finished, pruned or failed, not those that were interrupted and tried again."""
    trials = study.trials
    again = {trial.user_attrs.get(AGAIN) for trial in trials}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in again]


def best_trial(study: Study) -> FrozenTrial | None:
    """The one with the highest score among those that ran to their end; the first of equals."""
    complete = [trial for trial in counted(study) if trial.state.name == "COMPLETE"]
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)


def begin(target: Target, folder: Path, criterion: str = "own") -> None:
    """Have the recipe as it is be the first trial, and what was killed be tried again.

    Raises:
        ConfigError: the folder holds trials of another recipe, search space or criterion.
    """
    from optuna.trial import TrialState

    study = open_study(folder)
    space = [str(dimension) for dimension in target.space]
    mark = {"recipe": target.recipe.digest, "space": space, "criterion": criterion}
    if study.user_attrs.get("of", mark) != mark:
        raise ConfigError(
            f"Expected {folder} to hold trials of this recipe, search space and criterion, but it holds others. "
            "Give another --out, or delete that folder."
        )
    if not study.trials and "of" not in study.user_attrs:
        study.set_user_attr("of", mark)
        own = {d.field: value_of(target.recipe, d.field) for d in target.space}
        if all(dimension.holds(own[dimension.field]) for dimension in target.space):
            study.enqueue_trial(own)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        give_back(study, trial)


def give_back(study: Study, trial: FrozenTrial | Trial) -> None:
    """End an interrupted trial and have its values tried again; its run goes on from its checkpoint."""
    from optuna.trial import TrialState

    study.tell(trial.number, state=TrialState.FAIL)
    kept = {RUN: trial.user_attrs[RUN]} if RUN in trial.user_attrs else {}
    study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number, **kept})


@dataclass(frozen=True, eq=False)
class TrialJob:
    """One trial of a target, for the runner of benchmarks.

    Args:
        target: what is tuned.
        out: folder of the target.
        number: which of its trials, from 0.
        criterion: "own": what the engine chooses weights by; "val": val, also for label-free methods.
        seed: of the search.
    """

    module: ClassVar[str] = "evlift.tuning.worker"

    target: Target
    out: Path
    number: int
    criterion: str = "own"
    seed: int = 0

    @property
    def folder(self) -> Path:
        """Where its process finds what to do, and logs."""
        return self.out / "jobs" / f"{self.number:03}"

    @cached_property
    def content(self) -> dict[str, Any]:
        """What its process is told."""
        return {
            "study": str(self.out.resolve()),
            "recipe": self.target.recipe.to_dict(),
            "space": {d.field: _said(d) for d in self.target.space},
            "criterion": self.criterion,
            "seed": self.seed * 10_007 + self.number,
            "plugins": [str(plugin) for plugin in self.target.plugins],
        }

    def prepare(self) -> None:
        """Write what its process reads."""
        for name in (LOG, DONE):
            (self.folder / name).unlink(missing_ok=True)
        write_json(self.folder / JOB, self.content)

    @property
    def done(self) -> bool:
        """Whether its process has ended a trial."""
        return (self.folder / DONE).is_file()

    @property
    def now(self) -> str:
        """What its process said last."""
        return last_said(self.folder / LOG)

    def fail(self, code: int) -> str:
        """What a process that ended without a trial said last."""
        return self.now or f"its process ended with {code}"

    def __str__(self) -> str:
        return f"{self.target.name} · trial {self.number + 1}"


def _said(dimension: Any) -> Any:
    """A dimension as a file says it."""
    if dimension.choices:
        return {"choices": list(dimension.choices)}
    return [dimension.low, dimension.high, *(["log"] if dimension.log else [])]


def plan(
    targets: Sequence[Target], out: Path, trials: int, *, criterion: str = "own", seed: int = 0
) -> list[TrialJob]:
    """The open trials of all targets, in turn, so that a search whose time runs out is fair."""
    open_jobs = []
    for target in targets:
        folder = out / target.folder
        begin(target, folder, criterion)
        done = len(counted(open_study(folder)))
        open_jobs += [TrialJob(target, folder, number, criterion, seed) for number in range(done, trials)]
    return sorted(open_jobs, key=lambda job: job.number)
