"""How a network fares on disturbed recordings: events dropped and added, other speeds, fewer pixels."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from evlift.assembly import Trained, WindowEncoder, create_task, evaluation_feeder, open_classifier
from evlift.augment import add_hot_pixels, drop_events, flip_polarities, scale_time
from evlift.datasets.draws import generator
from evlift.engine.metrics import Recognition, confusion_matrix
from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.events.filters import resize
from evlift.events.framing import Fit
from evlift.simulate.noise import add_noise

if TYPE_CHECKING:
    from evlift.datasets.items import Recordings

Report = Callable[[int, int | None], None]
BATCH = 32
HOT_HZ = 200.0
QUANTILES = 4


@dataclass(frozen=True)
class Disturbance:
    """A change of recordings, at several strengths.

    Args:
        unit: of a strength, for tables.
        strengths: from weak to strong.
        apply: (stream, strength, generator) → stream.
    """

    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[EventStream, float, np.random.Generator], EventStream]


def _noisy(stream: EventStream, rate_hz: float, rng: np.random.Generator) -> EventStream:
    start, stop = (int(stream.t[0]), int(stream.t[-1]) + 1) if len(stream) else (0, 0)
    return add_noise(stream, rate_hz, rng, start_us=start, stop_us=stop)


def _hot(stream: EventStream, share: float, rng: np.random.Generator) -> EventStream:
    height, width = stream.sensor_size
    return add_hot_pixels(stream, max(1, round(share * height * width)), HOT_HZ, rng)


def _paced(stream: EventStream, factor: float, rng: np.random.Generator) -> EventStream:
    """As a window of the former length sees it: slowed down, it holds a part of the motion."""
    paced = scale_time(stream, factor)
    return paced.between(int(stream.t[0]), int(stream.t[-1]) + 1) if len(stream) else paced


def _coarse(stream: EventStream, divisor: float, rng: np.random.Generator) -> EventStream:
    height, width = (max(1, round(side / divisor)) for side in stream.sensor_size)
    return resize(stream, height, width)


DISTURBANCES = {
    "dropped events": Disturbance("share of all", (0.1, 0.3, 0.5, 0.7, 0.9), drop_events),
    "background noise": Disturbance("Hz a pixel", (0.5, 1, 2, 5, 10), _noisy),
    "hot pixels": Disturbance(f"share of pixels, {HOT_HZ:g} Hz each", (0.001, 0.005, 0.01, 0.02), _hot),
    "duration": Disturbance("times as long", (0.5, 0.75, 1.5, 2), _paced),
    "resolution": Disturbance("pixels merged a side", (2, 3), _coarse),
    "polarity flipped": Disturbance("share of all", (0.1, 0.3, 0.5, 1), flip_polarities),
}


@dataclass(frozen=True)
class Robustness:
    """Accuracy under disturbances, of the same recordings throughout.

    Args:
        undisturbed: of the recordings as they are.
        disturbed: by disturbance and strength.
        by_rate: [(lowest, highest events a second, result)], recordings in quarters by their event rate.
        split: that was judged.
    """

    undisturbed: Recognition
    disturbed: dict[str, dict[float, Recognition]]
    by_rate: tuple[tuple[float, float, Recognition], ...]
    split: str

    def rows(self) -> list[tuple[str, float | None, str, Recognition]]:
        """(disturbance, strength, unit, result), the undisturbed recordings first."""
        found: list[tuple[str, float | None, str, Recognition]] = [("none", None, "", self.undisturbed)]
        for name, results in self.disturbed.items():
            found += [(name, strength, DISTURBANCES[name].unit, r) for strength, r in results.items()]
        return found

    def summary(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "split": self.split,
            "samples": self.undisturbed.samples,
            "robustness": [
                {
                    "disturbance": name,
                    "strength": strength,
                    "unit": unit,
                    "accuracy": result.accuracy,
                    "interval": list(result.interval),
                }
                for name, strength, unit, result in self.rows()
            ],
            "by_rate": [
                {"from_hz": low, "to_hz": high, "samples": result.samples, "accuracy": result.accuracy}
                for low, high, result in self.by_rate
            ],
        }


def robustness(
    run: str | Path,
    *,
    split: str = "val",
    window: str | None = None,
    fit: Fit = "stretch",
    seed: int = 0,
    report: Report | None = None,
) -> Robustness:
    """Judge a run on disturbed recordings of its own data.

    Every disturbance is drawn from (seed, recording, disturbance, strength): the same at every call. Then the recording
    is read as :func:`evlift.evaluate` reads it.

    Example:
        >>> found = evlift.robustness("runs/a")  # doctest: +SKIP
        >>> found.disturbed["dropped events"][0.5].accuracy  # doctest: +SKIP

    Args:
        run: a finished run whose data are there.
        split: val or test.
        window: full, saccade or first300; default: the one it was trained on.
        fit: how the disturbed recordings are shown; "crop-to-events" drops background noise first
            (:func:`~evlift.events.framing.framed`).
        seed: of all draws.
        report: called as ``report(done, total)`` recordings.

    Raises:
        DataError: no such run, or other data than it was trained on.
        ConfigError: a run that does not classify recordings, or a split without any.
    """
    trained = open_classifier(run)
    feeder = evaluation_feeder(trained, create_task(trained.recipe))
    if split not in ("val", "test"):
        raise ConfigError(f"Expected `split` to be val or test, but got '{split}'.")
    recordings: Recordings = getattr(feeder.task, split)
    if not len(recordings):
        raise ConfigError(f"Expected recordings in the split {split}, but there are none.")
    trained_on = trained.recipe.input.window
    window = window or ("full" if trained_on == "mixed" else trained_on)
    sweep = _Sweep(trained, WindowEncoder(trained, fit), window, seed)
    for start in range(0, len(recordings), BATCH):
        stop = min(start + BATCH, len(recordings))
        sweep.add(start, [recordings.load(i) for i in range(start, stop)])
        if report is not None:
            report(stop, len(recordings))
    return sweep.finished(recordings.targets, split)


class _Sweep:
    """Runs batches of recordings through all disturbances, and keeps the predictions."""

    def __init__(self, trained: Trained, encoder: WindowEncoder, window: str, seed: int) -> None:
        self.trained, self.encoder, self.window, self.seed = trained, encoder, window, seed
        self.cases = [("none", 0.0), *((n, s) for n, d in DISTURBANCES.items() for s in d.strengths)]
        self.predicted: dict[tuple[str, float], list[int]] = {case: [] for case in self.cases}
        self.rates: list[float] = []

    def add(self, first: int, streams: list[EventStream]) -> None:
        """Judge recordings number `first` and on under every case."""
        self.rates += [len(stream) / max(stream.duration_us, 1) * 1e6 for stream in streams]
        for case in self.cases:
            clips = [self._clip(stream, first + i, *case) for i, stream in enumerate(streams)]
            with torch.no_grad():
                logits = self.trained.network(torch.stack(clips)).logits.float().mean(1)  # [B, T, K] → [B, K]
            self.predicted[case] += logits.argmax(1).tolist()

    def _clip(self, stream: EventStream, index: int, name: str, strength: float) -> torch.Tensor:
        """[T, 2, H, W], disturbed."""
        if name != "none":
            key = (self.seed, index, zlib.crc32(name.encode()), round(strength * 1e6))
            stream = DISTURBANCES[name].apply(stream, strength, generator(*key))
        return self.encoder(stream, generator(0, 0, index, 3), window=self.window)

    def finished(self, target: NDArray[np.int64], split: str) -> Robustness:
        """The results of all recordings."""
        classes = len(self.trained.classes)
        results = {
            case: Recognition(confusion_matrix(target, np.array(said), classes))
            for case, said in self.predicted.items()
        }
        rates, plain = np.array(self.rates), np.array(self.predicted["none", 0.0])
        quarters = []
        for rows in np.array_split(np.argsort(rates, kind="stable"), min(QUANTILES, len(rates))):
            found = Recognition(confusion_matrix(target[rows], plain[rows], classes))
            quarters.append((float(rates[rows].min()), float(rates[rows].max()), found))
        disturbed = {n: {s: results[n, s] for s in d.strengths} for n, d in DISTURBANCES.items()}
        return Robustness(results["none", 0.0], disturbed, tuple(quarters), split)
