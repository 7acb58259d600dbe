"""Evaluation on recordings that a run has never heard of: any format, any sensor, labels by folder name."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evlift.assembly import Trained, WindowEncoder, open_classifier
from evlift.datasets.draws import generator
from evlift.datasets.labelled_folder import (
    UNKNOWN,
    LabelledFile,
    LabelledFolder,
    labelled_folder,
    read_class_map,
)
from evlift.engine.calibration import Confidence, softmax
from evlift.engine.evaluate import Evaluation
from evlift.errors import DataError
from evlift.events import EventStream, RecordingWarning
from evlift.events.framing import Fit
from evlift.judge.seen import seen_before
from evlift.judge.windows import FULLEST, MAX_WINDOWS, WindowRule, reader_of, window_rule
from evlift.wording import counted

BATCH = 32
ODD_DURATION = 50
"""Recordings so many times longer or shorter than in training have another unit of time, more likely than not."""

Report = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Verdict:
    """What a network says about one file.

    Args:
        file: path below the data folder.
        folder: its class folder.
        true: class that the folder means; "" if it means none.
        state: judged, "no events" or unreadable.
        predicted: most probable class; "" unless judged.
        confidence: its calibrated probability; None unless judged.
        windows: that had a vote.
        events, duration_us: of the windows that were read, from the first to the last event.
        sensor_size: (H, W) that was read.
        format: of the file.
        remark: why it could not be judged, or what was odd about it.
    """

    file: str
    folder: str
    true: str
    state: str
    predicted: str = ""
    confidence: float | None = None
    windows: int = 0
    events: int = 0
    duration_us: int = 0
    sensor_size: tuple[int, int] | None = None
    format: str = ""
    remark: str = ""


@dataclass(frozen=True)
class RecordingsEvaluation:
    """How a run does on a folder of recordings.

    Args:
        data: what the folder holds.
        verdicts: one a file that may be a recording, in the order of their names.
        evaluation: of the judged files of known classes: accuracy, per class, per time step.
        confidence: of those, and of judged files of no known class.
        settings: the rules that were applied, in words.
        remarks: what a reader of the figures must know.
    """

    data: LabelledFolder
    verdicts: tuple[Verdict, ...]
    evaluation: Evaluation
    confidence: Confidence
    settings: dict[str, str]
    remarks: tuple[str, ...]

    def count(self, state: str) -> int:
        """How many files are judged, "no events" or unreadable."""
        return sum(verdict.state == state for verdict in self.verdicts)

    @property
    def accuracy_of_all(self) -> float:
        """Accuracy where every file of a known class that could not be judged counts as wrong."""
        labelled = sum(verdict.true != "" for verdict in self.verdicts)
        right = int(np.trace(self.evaluation.metrics.confusion))
        return right / labelled if labelled else float("nan")

    def summary(self, unknown_below: float | None = None) -> dict[str, Any]:
        """Plain numbers for JSON; with a threshold also what it makes of them."""
        found = {
            **self.evaluation.summary(),
            "accuracy_of_all": self.accuracy_of_all,
            "files": {state: self.count(state) for state in ("judged", "no events", "unreadable")},
            "folders": self.data.classes,
            "open_set_folders": list(self.data.unmatched),
            "classes_without_recordings": list(self.data.without),
            "files_without_class_folder": len(self.data.loose),
            "files_passed_over": self.data.passed_over,
            "confidence": self.confidence.summary(),
            "settings": self.settings,
            "remarks": list(self.remarks),
            "recordings": [asdict(verdict) for verdict in self.verdicts],
        }
        if unknown_below is not None:
            found["rejecting"] = self.confidence.rejecting(unknown_below)
        return found


def evaluate_recordings(
    run: str | Path,
    folder: str | Path,
    *,
    class_map: Mapping[str, str | None] | str | Path | None = None,
    fit: Fit = "auto",
    window: str | None = None,
    duration_us: int | None = None,
    max_windows: int = MAX_WINDOWS,
    sensor_size: tuple[int, int] | None = None,
    report: Report | None = None,
) -> RecordingsEvaluation:
    """Judge a run on a folder of recordings: one subfolder a class, any readable format, any sensor.

    Example:
        >>> found = evlift.evaluate_recordings("runs/a", "recordings")  # doctest: +SKIP
        >>> found.evaluation.metrics.accuracy, found.confidence.summary()["ece_after"]  # doctest: +SKIP

    Args:
        run: a finished run, a pack, or the name of shipped weights; its own data need not be there.
        folder: see :func:`~evlift.datasets.labelled_folder.labelled_folder`.
        class_map: folder name → class, or a YAML file of that.
        fit: how recordings of another sensor are shown to the network; see :func:`~evlift.events.framing.framed`.
        window, duration_us, max_windows: how recordings are cut; see :func:`~evlift.judge.windows.window_rule`. The
            logits of windows are averaged; one with less than a quarter of the events of the fullest has no vote.
        sensor_size: (H, W) of files that do not state it.
        report: called as ``report(done, total)`` after every file.

    Raises:
        DataError: no such run or folder, no folder that means a class, or no file of a known class that can be judged.
        ConfigError: a run that does not classify recordings, or settings that contradict each other.
    """
    trained = open_classifier(run)
    if isinstance(class_map, str | Path):
        class_map = read_class_map(class_map)
    rule = window_rule(trained, window, duration_us, max_windows)
    data = labelled_folder(folder, trained.classes, class_map=class_map)
    judge = Judge(trained, rule, fit, sensor_size)
    judged = []
    for number, file in enumerate(data.files):
        judged.append(judge(file, number))
        if report is not None:
            report(number + 1, len(data.files))
    _require_some(data, judged)
    return _gathered(trained, data, judged, judge)


@dataclass
class Judge:
    """Judges one file after the other, and counts what readers remark."""

    trained: Trained
    rule: WindowRule
    fit: Fit
    sensor_size: tuple[int, int] | None
    remarks: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.encoder, self.temperature = WindowEncoder(self.trained, self.fit), self.trained.temperature

    def __call__(self, file: LabelledFile, number: int) -> tuple[Verdict, NDArray[np.float32] | None]:
        """Verdict on a file, and its logits [T, K], pooled over windows; None if it cannot be judged."""
        true = "" if file.target == UNKNOWN else self.trained.classes[file.target]
        told: dict[str, Any] = {"file": file.name, "folder": file.folder, "true": true}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found = self._judged(told, file.path, number)
            except Exception as error:  # of whatever kind: one broken file must not cost the others
                remark = str(error) if isinstance(error, DataError | ValueError) else repr(error)
                found = Verdict(**told, state="unreadable", remark=remark), None
        for warning in said:
            if issubclass(warning.category, RecordingWarning):
                self.remarks[str(warning.message).removeprefix(f"{file.path}: ")] += 1
        return found

    def _judged(
        self, told: dict[str, Any], path: Path, number: int
    ) -> tuple[Verdict, NDArray[np.float32] | None]:
        reader = reader_of(path, self.trained, self.sensor_size)
        facts: dict[str, Any] = {"sensor_size": reader.sensor_size, "format": reader.format}
        windows = self.rule.cut(reader)
        logits, counts, start, stop = self._windows(islice(windows, self.rule.at_most), number)
        if not counts:
            return Verdict(**told, **facts, state="no events", remark="it holds no events"), None
        voting = np.array(counts) >= FULLEST * max(counts)
        pooled = logits[voting].mean(axis=0)  # [n, T, K] → [T, K]
        chances = softmax(pooled.mean(axis=0), self.temperature)
        facts |= {"windows": int(voting.sum()), "events": sum(counts), "duration_us": stop - start}
        if next(windows, None) is not None:
            facts["remark"] = f"only its first {_were(self.rule.at_most)} read"
        predicted = self.trained.classes[int(chances.argmax())]
        return Verdict(
            **told, **facts, state="judged", predicted=predicted, confidence=float(chances.max())
        ), pooled

    def _windows(
        self, streams: Iterable[EventStream], number: int
    ) -> tuple[NDArray[np.float32], list[int], int, int]:
        """Logits [n, T, K] and events of every window, first time and last."""
        counts: list[int] = []
        start = stop = 0
        logits, clips = [], []
        for stream in streams:
            start = int(stream.t[0]) if not counts else start
            stop = int(stream.t[-1])
            counts.append(len(stream))
            clips.append(self.encoder(stream, generator(0, 0, number, 3), window=self.rule.inside))
            if len(clips) == BATCH:
                logits.append(self._logits(clips))
                clips = []
        if clips:
            logits.append(self._logits(clips))
        return np.concatenate(logits) if logits else np.zeros((0, 1, 1), np.float32), counts, start, stop

    @torch.no_grad()
    def _logits(self, clips: list[torch.Tensor]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.trained.network(torch.stack(clips)).logits.float().numpy()
        return found


def _were(windows: int) -> str:
    return "window was" if windows == 1 else f"{windows} windows were"


def _range_ms(durations_us: list[int]) -> str:
    low, high = min(durations_us) / 1e3, max(durations_us) / 1e3
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


Judged = list[tuple[Verdict, NDArray[np.float32] | None]]


def _require_some(data: LabelledFolder, judged: Judged) -> None:
    """Refuse a folder of whose known classes nothing could be judged."""
    if any(logits is not None and verdict.true for verdict, logits in judged):
        return
    reasons = [f"{verdict.file}: {verdict.remark}" for verdict, _ in judged if verdict.state != "judged"]
    first = f" First: {reasons[0]}" if reasons else ""
    raise DataError(
        f"Expected recordings with events in the class folders of '{data.root}', but none of "
        f"{counted(len(judged), 'file')} could be judged.{first}"
    )


def _gathered(trained: Trained, data: LabelledFolder, judged: Judged, judge: Judge) -> RecordingsEvaluation:
    verdicts = tuple(verdict for verdict, _ in judged)
    known = [(v, logits) for v, logits in judged if logits is not None and v.true]
    others = [logits.mean(axis=0) for v, logits in judged if logits is not None and not v.true]
    evaluation = Evaluation(
        logits=np.stack([logits for _, logits in known]),
        target=np.array([trained.classes.index(v.true) for v, _ in known], np.int64),
        names=tuple(v.file for v, _ in known),
    )
    confidence = Confidence.of(
        evaluation.logits.mean(axis=1),
        evaluation.target,
        trained.temperature,
        np.stack(others) if others else None,
    )
    height, width = trained.record["sensor_size"]
    settings = {
        "windows": judge.rule.text,
        "fit": f"{judge.fit}, network trained on {width}x{height} pixels, framing {trained.framing.measured_on}",
        "temperature": f"{trained.temperature:.3f}"
        + (f", fitted on {trained.calibration.fitted_on}" if trained.calibration else ", not fitted"),
    }
    return RecordingsEvaluation(
        data, verdicts, evaluation, confidence, settings, tuple(_remarks(trained, data, verdicts, judge))
    )


def _remarks(
    trained: Trained, data: LabelledFolder, verdicts: tuple[Verdict, ...], judge: Judge
) -> Iterator[str]:
    """Everything that the figures alone do not tell."""
    for name, class_name in data.classes.items():
        if name != class_name:
            yield f"folder '{name}' was taken for the class '{class_name}'"
    seen = seen_before(trained.run, (data.root / v.file for v in verdicts if v.state == "judged"))
    if seen is None:
        yield "whether the run learned from some of these recordings is not known: it has no readable manifest"
    elif seen:
        parts = ", ".join(f"{count} of {split}" for split, count in seen.items())
        yield f"recordings of the run's own data are among the judged: {parts}; what it learned from flatters it"
    if data.unmatched:
        count = sum(not verdict.true for verdict in verdicts)
        yield (
            f"outside the accuracy, as open-set samples: {counted(count, 'file')} in folders of no known class "
            f"({', '.join(data.unmatched)}); if they are classes, say so with --class-map"
        )
    if data.without:
        yield f"no recordings of the classes {', '.join(data.without)}"
    for state, what in (("unreadable", "could not be read"), ("no events", "without events")):
        files = [verdict.file for verdict in verdicts if verdict.state == state]
        if files:
            yield f"{counted(len(files), 'file')} {what}: {', '.join(files[:3])}{', …' if len(files) > 3 else ''}"
    if data.loose:
        first = ", ".join(data.loose[:3])
        yield f"{counted(len(data.loose), 'file')} beside the class folders, without a label: {first}"
    if data.passed_over:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in data.passed_over.items())
        yield f"passed over, for they are no recordings: {kinds}"
    if cut := sum(verdict.remark.startswith("only") for verdict in verdicts):
        yield f"of {counted(cut, 'recording')} only the first {_were(judge.rule.at_most)} read (--max-windows)"
    durations = [verdict.duration_us for verdict in verdicts if verdict.state == "judged"]
    trained_on = trained.framing.duration_us or 0
    odd = [
        us for us in durations if trained_on and not 1 / ODD_DURATION < max(us, 1) / trained_on < ODD_DURATION
    ]
    if odd:
        yield (
            f"{len(odd)} of {counted(len(durations), 'recording')} last {_range_ms(odd)} ms as far as they were read, "
            f"those of training {trained_on / 1e3:g} ms: is their unit of time right?"
        )
    for text, count in judge.remarks.most_common(5):
        yield f"{counted(count, 'file')}: {text}"
