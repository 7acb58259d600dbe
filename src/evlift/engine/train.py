"""Training: one loop over the phases of a method, with checkpoints that resume exactly.

Several processes run the same loop on the same batch; `crew` and `sharing` divide the work among them.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from evlift.config import Recipe
from evlift.engine.calibration import calibrate
from evlift.engine.checkpoint import LastStep, load_resume, save_resume, save_weights
from evlift.engine.distributed import join
from evlift.engine.evaluate import Evaluation, SegmentationEvaluation, run_network
from evlift.engine.framing import framing_of
from evlift.engine.launch import can_compile, check_shareable, launch
from evlift.engine.logs import RunLog
from evlift.engine.optim import Optimizers
from evlift.engine.pictures import save_curves, save_strip
from evlift.engine.run import Run, check_split, environment
from evlift.engine.sharing import Sharing, average_gradients, gather_batch, share_weights
from evlift.errors import ConfigError, DataError, EvliftError
from evlift.files import sweep, write_json, write_text
from evlift.methods.base import Method, Phase, Progress, StepOutput
from evlift.models.balance import balance

if TYPE_CHECKING:
    from evlift.datasets.base import Batch
    from evlift.datasets.transfer import Feeder

Report = Callable[[int, int, dict[str, float]], None]


@dataclass
class State:
    """Where a run stands; everything in it but the modules is in the resume file."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    kept: float = -1.0
    kept_step: int = 0
    bad_evaluations: int = 0
    seconds: float = 0.0
    calibration: dict[str, Any] | None = None
    averaged: dict[str, Tensor] = field(default_factory=dict)


class Trainer:
    """Trains one method on one feeder into one folder.

    Args:
        recipe: written to the folder and compared when resuming.
        method: student and losses.
        feeder: batches by step.
        folder: of the run.
        report: called with (finished steps, all steps, latest scalars) after every step; if it raises
            KeyboardInterrupt, training stops with a checkpoint of that step.

    Under torchrun, every process makes one of the same recipe.
    """

    log: RunLog  # of the process that leads

    def __init__(
        self, recipe: Recipe, method: Method, feeder: Feeder, folder: Path, report: Report | None = None
    ) -> None:
        self.recipe, self.options = recipe, recipe.train
        self.method, self.feeder, self.run = method, feeder, Run(folder)
        self.report = report or (lambda done, total, values: None)
        self.crew = join()
        check_shareable(self.options, self.crew)
        self.fabric = launch(self.options, self.crew)
        self.fabric.to_device(method)
        if self.options.channels_last:
            method.to(memory_format=torch.channels_last)
        if self.options.compile and can_compile():
            method.student.compile()
        self.sharing, self.last_step = Sharing(self.crew, method), LastStep(method)
        self.state, self.started, self.saved = State(), time.perf_counter(), 0
        self.schedule = phase_steps(method.phases, self.options.steps)
        for phase, steps in self.schedule:
            if not steps:
                warnings.warn(
                    f"train.steps={self.options.steps} leaves none for the phase '{phase.name}'. Raise it."
                )

    def train(self) -> dict[str, Any]:
        """Train to the end, from the last checkpoint if there is one; returns the run's record."""
        resumed = self.crew.first(self._prepare_folder)
        self._restore(resumed)
        if self.crew.first(self.run.record.exists):
            return self.crew.first(self.run.read_record)
        self.crew.first(self._open_log)
        self.started = time.perf_counter() - self.state.seconds
        first = 0
        try:
            for phase, steps in self.schedule:
                if self.state.step < first + steps and not self._stopped():
                    self._train_phase(phase, first, steps, resumed)
                    resumed = None
                first += steps
        finally:
            if self.crew.leads:
                self.log.close()
        return self.crew.first(self._finish)

    def _prepare_folder(self) -> dict[str, Any] | None:
        """Write the recipe, or load the resume point of the same recipe."""
        judges = selection_split(self.method)
        if len(getattr(self.feeder.task, judges)) == 0:
            raise DataError(
                f"Expected items in {judges} to judge the student on, but the data have none. Add some."
            )
        if self.run.folder.exists() and not self.run.folder.is_dir():
            raise ConfigError(
                f"Expected a folder for the run, but {self.run.folder} is a file. Give another --out."
            )
        sweep(self.run.folder)
        if not self.run.config.exists():
            self.feeder.task.manifest.save(self.run.manifest)
            write_text(self.run.config, self.recipe.to_yaml())
        if self.run.recipe().digest != self.recipe.digest:
            raise ConfigError(
                f"{self.run.folder} holds a run of another recipe (digest {self.run.recipe().digest}, this one "
                f"{self.recipe.digest}). Give another --out, or delete that folder."
            )
        return load_resume(self.run.resume) if self.run.resume.exists() else None

    def _restore(self, resumed: dict[str, Any] | None) -> None:
        """Begin where the resume point stands; without one, all processes begin with the weights of the first."""
        self.crew.check_same("the data's splits", self.feeder.task.split)
        if resumed is None:
            self._start()
            share_weights(self.method, self.crew)
            return
        try:
            self.method.load_state_dict(resumed["method"])
            self.state = State(**resumed["state"])
            split = resumed["split"]
        except (KeyError, TypeError, RuntimeError) as error:
            raise DataError(
                f"{self.run.resume} does not fit this recipe ({error}). Delete it to start again."
            ) from error
        check_split(self.run, self.feeder.task, split)
        if self.state.best_step and not self.crew.first(self.run.weights.exists):
            raise DataError(
                f"{self.run.weights} is missing beside its checkpoint. Delete {self.run.resume} to train again."
            )
        averaged = self.state.averaged
        self.state.averaged = {name: value.to(self.fabric.device) for name, value in averaged.items()}
        self.saved = self.state.step

    def _start(self) -> None:
        """Before the first step of a fresh run."""
        if self.options.lsuv:
            batch = self.feeder.batch(0).to(self.fabric.device)
            (clips, *_) = (clip for clip in (batch.events, batch.image) if clip is not None)
            balance(self.method.student, clips)

    def _open_log(self) -> None:
        self.log = RunLog(self.run.folder, step=self.state.step, tensorboard=self.options.tensorboard)

    def _train_phase(self, phase: Phase, first: int, steps: int, resumed: dict[str, Any] | None) -> None:
        """Train one phase; whatever ends it early leaves a checkpoint of the last finished step."""
        optimizer = Optimizers(self.method.parameter_groups(phase.name), self.options)
        if resumed and self.state.step > first:
            optimizer.load_state_dict(resumed["optimizer"])
        try:
            self._loop(phase, first, steps, optimizer)
        except BaseException:
            self._rescue(optimizer)
            raise

    def _loop(self, phase: Phase, first: int, steps: int, optimizer: Optimizers) -> None:
        """The loop: rate, batch, loss, backward, clip, step, average, log, evaluate, keep."""
        self.last_step.finished()
        for step in range(self.state.step - first, steps):
            rate, progress = optimizer.set_rate(step, steps), Progress(phase.name, step, steps)
            output = self._forward(first + step, phase, progress)
            optimizer.zero_grad()
            self.fabric.backward(output.loss)
            average_gradients(optimizer.parameters, self.crew)
            output.parts |= {
                "norm": output.loss.new_tensor(optimizer.clip()),
                "lr": output.loss.new_tensor(rate),
            }
            self.last_step.updating()
            optimizer.step()
            self.method.after_update(progress)
            self.state.step = first + step + 1
            self.state.seconds = time.perf_counter() - self.started
            self._average()
            self.last_step.finished()
            self._after_step(phase, output, optimizer)
            if self._stopped():
                return

    def _forward(self, step: int, phase: Phase, progress: Progress) -> StepOutput:
        """Loss of the batch of `step`, with torch's generator seeded by (seed, step)."""
        torch.manual_seed(self.options.seed * 1_000_003 + step)
        self.method.train()
        batch = self._batch(step, phase)
        with self.fabric.autocast(), self.sharing:
            output = self.method.step(batch, progress)
        if not torch.isfinite(output.loss):
            parts = {name: float(value.detach()) for name, value in output.parts.items()}
            raise EvliftError(
                f"The loss became {float(output.loss.detach())} at step {step} ({parts}). A checkpoint of the "
                "step before is kept. Lower train.lr, or train with --train.precision 32-true."
            )
        return output

    def _batch(self, step: int, phase: Phase) -> Batch:
        """The batch of `step`, of which every process makes its own rows."""
        count = self.options.batch_size

        def feed() -> Batch:
            try:
                rows = self.crew.rows(count)
                return self.feeder.batch(step, rows=rows, needs=phase.needs)
            except (OSError, EvliftError) as error:
                raise DataError(
                    f"The data of step {step} can no longer be read: {str(error).rstrip('.')}. Restore them and give "
                    "the same command again: it goes on from there."
                ) from error

        return gather_batch(self.crew.together(feed).to(self.fabric.device), self.crew, count)

    def _after_step(self, phase: Phase, output: StepOutput, optimizer: Optimizers) -> None:
        """Log, evaluate, checkpoint and report, each at its own pace."""
        done, last = self.state.step, self.state.step == self.options.steps
        values: dict[str, float] = {}
        if last or done % self.options.log_every == 0:
            values = {name: float(value.detach()) for name, value in output.parts.items()}
            values["loss"] = float(output.loss.detach())
            self.crew.first(self._log, phase, "train", values)
        if last or (phase.student and self.options.eval_every and done % self.options.eval_every == 0):
            values["val"] = self._evaluate(phase)
            self.crew.first(self._log_clips, output)
        if last or self._stopped():
            self.crew.first(self._draw, output)
        if last or self._stopped() or done % self.options.checkpoint_every == 0:
            self.crew.first(self._save, optimizer)
        try:
            self.report(done, self.options.steps, values)
        except KeyboardInterrupt as wish:
            self.crew.ask_to_stop(wish)

    def _log(self, phase: Phase, split: str, values: dict[str, float]) -> None:
        self.log.scalars(self.state.step, phase.name, split, values)

    def _log_clips(self, output: StepOutput) -> None:
        for name, clips in output.outputs.items():
            if clips.ndim == 5 and clips.shape[2] == 2:  # [B, T, 2, H, W]
                self.log.clips(self.state.step, name, clips.detach())

    def _draw(self, output: StepOutput) -> None:
        save_strip(output.outputs, self.run.strip)
        save_curves(self.run.log, self.run.curves)

    def _evaluate(self, phase: Phase) -> float:
        """Score on val; keeps the student if it is the best so far, or always where the last is kept."""
        student = self.averaged_student()
        evaluation = self.crew.first(self._judge, student)
        score = evaluation.score
        self.crew.first(self._log, phase, "val", {evaluation.metric: score})
        better = score > self.state.best
        waits = phase == self.schedule[-1][0]  # an earlier phase must not end those after it
        self.state.bad_evaluations = self.state.bad_evaluations + 1 if waits and not better else 0
        if better:
            self.state.best, self.state.best_step = score, self.state.step
        if better or self.options.keep == "last" or not self.state.kept_step:  # a score may be NaN
            self.state.kept, self.state.kept_step = score, self.state.step
            if isinstance(evaluation, Evaluation):
                found = calibrate(evaluation.logits.mean(1), evaluation.target, selection_split(self.method))
                self.state.calibration = found.to_record()
            self.crew.first(save_weights, self.run.weights, inference_weights(student))
        return score

    def _judge(self, student: nn.Module) -> Evaluation | SegmentationEvaluation:
        batches = self.feeder.evaluation(selection_split(self.method))
        if self.method.reads == "pictures":
            batches = (batch.of_pictures() for batch in batches)
        return run_network(student, batches, device=self.fabric.device)

    def _stopped(self) -> bool:
        """Whether patience has run out."""
        return bool(self.options.patience) and self.state.bad_evaluations >= self.options.patience

    def _average(self) -> None:
        """Update the averaged student: exponential moving average with a bias-corrected start."""
        if not self.options.ema:
            return
        decay = min(self.options.ema, (1 + self.state.step) / (10 + self.state.step))
        for name, value in self.method.student.state_dict().items():
            if name in self.state.averaged and value.is_floating_point():
                self.state.averaged[name].lerp_(value, 1 - decay)
            else:
                self.state.averaged[name] = value.clone()

    def averaged_student(self) -> nn.Module:
        """The student that is evaluated and kept: the moving average if there is one, else the student itself."""
        if not self.state.averaged:
            return self.method.student
        student = deepcopy(self.method.student)
        student.load_state_dict(self.state.averaged)
        return student

    def _save(self, optimizer: Optimizers) -> None:
        """Write the resume point."""
        state = {
            "method": self.method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "state": vars(self.state),
            "split": self.feeder.task.split,
        }
        save_resume(self.run.resume, state)
        self.saved = self.state.step

    def _rescue(self, optimizer: Optimizers) -> None:
        """Write the resume point of the last finished step, if that can still be done."""
        if self.crew.leads and self.saved < self.state.step and self.last_step.restore():
            with contextlib.suppress(DataError):  # what ended the training is what there is to say
                self._save(optimizer)

    def _finish(self) -> dict[str, Any]:
        """Write the record."""
        task = self.feeder.task
        record = {
            "recipe": self.recipe.to_dict(),
            "digest": self.recipe.digest,
            "seed": self.options.seed,
            "classes": list(task.classes),
            "sensor_size": list(task.sensor_size),
            "duration_us": task.duration_us,
            "split": task.split,
            "data": task.describe(),
            "selected_on": "last step" if self.options.keep == "last" else selection_split(self.method),
            "judged_on": selection_split(self.method),
            "metric": "mIoU" if task.segments else "accuracy",
            "val": self.state.kept,
            "kept_step": self.state.kept_step,
            "steps": self.state.step,
            "samples": self.state.step * self.options.batch_size,
            "seconds": round(self.state.seconds, 2),
            "processes": self.crew.size,
            "count_scale": self.feeder.encoder.scale,
            **(self.state.calibration or {}),
            "framing": self._framing(),
            "environment": environment(),
        }
        write_json(self.run.record, record)
        return record

    def _framing(self) -> dict[str, Any] | None:
        """How recordings lie on the sensor, for networks that read those of one class."""
        of_recordings = not self.feeder.task.segments and self.method.reads != "pictures"
        return framing_of(self.feeder).to_dict() if of_recordings else None


def selection_split(method: Method) -> str:
    """Where weights are chosen: label-free methods never see an event label, not even through that choice."""
    return "val" if method.uses_event_labels else "source_val"


def inference_weights(student: nn.Module) -> dict[str, Tensor]:
    """What inference on events needs of a student."""
    select = getattr(student, "inference_state_dict", student.state_dict)
    return select()


def phase_steps(phases: tuple[Phase, ...], steps: int) -> list[tuple[Phase, int]]:
    """Divide the steps among the phases by their shares; the last phase takes the rounding."""
    ends, share = [], 0.0
    for phase in phases:
        share += phase.share
        ends.append(round(share * steps))
    ends[-1] = steps
    return [(phase, end - start) for phase, start, end in zip(phases, [0, *ends], ends, strict=False)]
