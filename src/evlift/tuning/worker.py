"""One trial in a process of its own: values are drawn, a run is trained, its score is told to the study."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.bench.extras import load_plugins
from evlift.bench.worker import JOB, STOPPED, say, watched
from evlift.config import Recipe, parse_recipe
from evlift.errors import EvliftError
from evlift.files import write_text
from evlift.tuning.space import parse_space, with_values
from evlift.tuning.study import DONE, RUN, give_back, open_study

if TYPE_CHECKING:
    from optuna import Trial

Report = Callable[[int, int, dict[str, float]], None]
EVALUATIONS = 5  # of a trial whose recipe has none on the way and keeps the last weights


def main(folder: Path) -> int:
    """Run the trial that the folder's job asks for; returns the process's exit code."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    load_plugins([Path(plugin) for plugin in job["plugins"]])
    study = open_study(Path(job["study"]), seed=job["seed"])
    trial = study.ask()
    try:
        score = _score(job, trial)
        study.tell(trial, score)
        say(f"{score:.4f}")
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        say("pruned")
    except KeyboardInterrupt:
        give_back(study, trial)
        say("stopped; goes on from its checkpoint")
        return STOPPED
    except EvliftError as error:
        trial.set_user_attr("failed", str(error))
        study.tell(trial, state=TrialState.FAIL)
        say(f"failed: {error}")
    write_text(folder / DONE, f"{trial.number}\n")
    return 0


def _score(job: dict[str, Any], trial: Trial) -> float:
    """Train at the trial's values; what is left of it says how good they are."""
    from optuna import TrialPruned
    from rich.console import Console

    from evlift import api
    from evlift.progress import TrainingBar

    space = parse_space(job["space"], "job")
    values = {dimension.field: dimension.suggest(trial) for dimension in space}
    recipe = with_values(parse_recipe(job["recipe"]), values)
    name = trial.user_attrs.get(RUN) or f"{trial.number:03}-{recipe.digest}"
    trial.set_user_attr(RUN, name)
    folder = Path(job["study"]) / "runs" / name
    own = job["criterion"] == "own"
    say(f"trial {trial.number}: {values}")
    try:
        with TrainingBar(Console(quiet=True), "trial") as report:
            run = api.train(_evaluated(recipe), folder, report=watched(_pruned_by(trial, report, prune=own)))
    except TrialPruned:
        shutil.rmtree(folder)
        raise
    run.resume.unlink(missing_ok=True)
    record = run.read_record()
    trial.set_user_attr("seconds", record["seconds"])
    trial.set_user_attr("judged_on", record["judged_on"] if own else "val")
    return float(record["val"] if own else api.evaluate(folder, split="val").score)


def _evaluated(recipe: Recipe) -> Recipe:
    """The recipe with evaluations on the way to prune by, where they decide nothing else."""
    from dataclasses import replace

    options = recipe.train
    if options.eval_every or options.keep != "last":
        return recipe
    return replace(recipe, train=replace(options, eval_every=max(1, options.steps // EVALUATIONS)))


def _pruned_by(trial: Trial, then: Report, *, prune: bool) -> Report:
    """Tell the study of every evaluation on the way, and stop where it says so."""
    from optuna import TrialPruned

    def report(done: int, total: int, values: dict[str, float]) -> None:
        then(done, total, values)
        if prune and "val" in values and done < total:
            trial.report(values["val"], done)
            if trial.should_prune():
                raise TrialPruned

    return report


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
