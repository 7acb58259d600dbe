"""Training: one loop over the phases of a method, with checkpoints that resume exactly."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from evlift.config import Recipe, TrainOptions
from evlift.engine.calibration import calibrate
from evlift.engine.checkpoint import load_resume, save_resume, save_weights
from evlift.engine.evaluate import Evaluation, run_network
from evlift.engine.logs import RunLog
from evlift.engine.optim import Optimizers
from evlift.engine.pictures import save_curves, save_strip
from evlift.engine.run import Run, check_split, environment
from evlift.errors import ConfigError, DataError, EvliftError
from evlift.files import write_json, write_text
from evlift.methods.base import Method, Phase, Progress, StepOutput
from evlift.models.balance import balance

if TYPE_CHECKING:
    from lightning_fabric import Fabric

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
    """

    def __init__(
        self, recipe: Recipe, method: Method, feeder: Feeder, folder: Path, report: Report | None = None
    ) -> None:
        self.recipe, self.options = recipe, recipe.train
        self.method, self.feeder, self.run = method, feeder, Run(folder)
        self.report = report or (lambda done, total, values: None)
        self.fabric = launch(self.options)
        self.fabric.to_device(method)
        if self.options.channels_last:
            method.to(memory_format=torch.channels_last)
        if self.options.compile and can_compile():
            method.student.compile()
        self.state, self.started = State(), time.perf_counter()
        self.schedule = phase_steps(method.phases, self.options.steps)
        for phase, steps in self.schedule:
            if not steps:
                warnings.warn(
                    f"train.steps={self.options.steps} leaves none for the phase '{phase.name}'. Raise it."
                )

    def train(self) -> dict[str, Any]:
        """Train to the end, from the last checkpoint if there is one; returns the run's record."""
        resumed = self._prepare_folder()
        if self.run.record.exists():
            return self.run.read_record()
        log = RunLog(self.run.folder, step=self.state.step, tensorboard=self.options.tensorboard)
        self.started = time.perf_counter() - self.state.seconds
        first = 0
        try:
            for phase, steps in self.schedule:
                if self.state.step < first + steps and not self._stopped():
                    self._train_phase(phase, first, steps, resumed, log)
                    resumed = None
                first += steps
        finally:
            log.close()
        return self._finish()

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
        if not self.run.config.exists():
            self.feeder.task.manifest.save(self.run.manifest)
            write_text(self.run.config, self.recipe.to_yaml())
        if self.run.recipe().digest != self.recipe.digest:
            raise ConfigError(
                f"{self.run.folder} holds a run of another recipe (digest {self.run.recipe().digest}, this one "
                f"{self.recipe.digest}). Give another --out, or delete that folder."
            )
        if not self.run.resume.exists():
            self._start()
            return None
        resumed = load_resume(self.run.resume)
        try:
            self.method.load_state_dict(resumed["method"])
            self.state = State(**resumed["state"])
            split = resumed["split"]
        except (KeyError, TypeError, RuntimeError) as error:
            raise DataError(
                f"{self.run.resume} does not fit this recipe ({error}). Delete it to start again."
            ) from error
        check_split(self.run, self.feeder.task, split)
        if self.state.best_step and not self.run.weights.exists():
            raise DataError(
                f"{self.run.weights} is missing beside its checkpoint. Delete {self.run.resume} to train again."
            )
        averaged = self.state.averaged
        self.state.averaged = {name: value.to(self.fabric.device) for name, value in averaged.items()}
        return resumed

    def _start(self) -> None:
        """Before the first step of a fresh run."""
        if self.options.lsuv:
            batch = self.feeder.batch(0).to(self.fabric.device)
            (clips, *_) = (clip for clip in (batch.events, batch.image) if clip is not None)
            balance(self.method.student, clips)

    def _train_phase(
        self,
        phase: Phase,
        first: int,
        steps: int,
        resumed: dict[str, Any] | None,
        log: RunLog,
    ) -> None:
        """The loop: rate, batch, loss, backward, clip, step, average, log, evaluate, keep."""
        optimizer = Optimizers(self.method.parameter_groups(phase.name), self.options)
        if resumed and self.state.step > first:
            optimizer.load_state_dict(resumed["optimizer"])
        for step in range(self.state.step - first, steps):
            rate, progress = optimizer.set_rate(step, steps), Progress(phase.name, step, steps)
            output = self._forward(first + step, phase, progress)
            optimizer.zero_grad()
            self.fabric.backward(output.loss)
            output.parts |= {
                "norm": output.loss.new_tensor(optimizer.clip()),
                "lr": output.loss.new_tensor(rate),
            }
            optimizer.step()
            self.method.after_update(progress)
            self.state.step = first + step + 1
            self.state.seconds = time.perf_counter() - self.started
            self._average()
            self._after_step(phase, output, optimizer, log)
            if self._stopped():
                return

    def _forward(self, step: int, phase: Phase, progress: Progress) -> StepOutput:
        """Loss of the batch of `step`, with torch's generator seeded by (seed, step)."""
        torch.manual_seed(self.options.seed * 1_000_003 + step)
        self.method.train()
        batch = self.feeder.batch(step, pictures_only=phase.pictures_only).to(self.fabric.device)
        with self.fabric.autocast():
            output = self.method.step(batch, progress)
        if not torch.isfinite(output.loss):
            parts = {name: float(value.detach()) for name, value in output.parts.items()}
            raise EvliftError(
                f"The loss became {float(output.loss.detach())} at step {step} ({parts}). The last checkpoint is "
                "kept. Lower train.lr, or train with --train.precision 32-true."
            )
        return output

    def _after_step(self, phase: Phase, output: StepOutput, optimizer: Optimizers, log: RunLog) -> None:
        """Log, evaluate, checkpoint and report, each at its own pace."""
        done, last = self.state.step, self.state.step == self.options.steps
        values: dict[str, float] = {}
        if last or done % self.options.log_every == 0:
            values = {name: float(value.detach()) for name, value in output.parts.items()}
            values["loss"] = float(output.loss.detach())
            log.scalars(done, phase.name, "train", values)
        if last or (phase.student and self.options.eval_every and done % self.options.eval_every == 0):
            values["val"] = self._evaluate(phase, log)
            for name, clips in output.outputs.items():
                if clips.ndim == 5 and clips.shape[2] == 2:  # [B, T, 2, H, W]
                    log.clips(done, name, clips.detach())
        if last or self._stopped():
            save_strip(output.outputs, self.run.strip)
            save_curves(self.run.log, self.run.curves)
        if last or self._stopped() or done % self.options.checkpoint_every == 0:
            self._save(optimizer)
        try:
            self.report(done, self.options.steps, values)
        except KeyboardInterrupt:
            self._save(optimizer)
            raise

    def _evaluate(self, phase: Phase, log: RunLog) -> float:
        """Score on val; keeps the student if it is the best so far, or always where the last is kept."""
        student = self.averaged_student()
        batches = self.feeder.evaluation(selection_split(self.method))
        if self.method.reads == "pictures":
            batches = (batch.of_pictures() for batch in batches)
        evaluation = run_network(student, batches, device=self.fabric.device)
        score = evaluation.score
        log.scalars(self.state.step, phase.name, "val", {evaluation.metric: score})
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
            save_weights(self.run.weights, inference_weights(student))
        return score

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
        return self.feeder.framing().to_dict() if of_recordings else None


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


def can_compile() -> bool:
    """Whether torch.compile finds the compiler it needs; says so and trains eagerly where it does not."""
    if torch.cuda.is_available():
        return True
    from torch._inductor import cpp_builder

    try:
        cpp_builder.get_cpp_compiler()
    except Exception as error:
        warnings.warn(f"train.compile needs a C++ compiler; training goes on without it ({error}).")
        return False
    return True


def launch(options: TrainOptions) -> Fabric:
    """Fabric on the best device at hand, at the asked precision."""
    from lightning_fabric import Fabric

    from evlift.models.base import recommended_precision

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision in every run

    if options.threads:
        torch.set_num_threads(options.threads)
    precision = recommended_precision() if options.precision == "auto" else options.precision
    return Fabric(accelerator="auto", devices=1, precision=precision)  # type: ignore[arg-type]
