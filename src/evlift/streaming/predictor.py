"""From a window of events to what the network says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from evlift.assembly import TrainedNetwork, WindowEncoder, reads_pictures
from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.events.framing import Fit
from evlift.streaming.predictions import UNKNOWN, UNKNOWN_PIXEL, MaskPrediction, Prediction


class Predictor:
    """Encodes windows as the run did, asks its network, and says the answer in classes.

    Example:
        >>> predictor = Predictor(open_predictor("runs/a"))  # doctest: +SKIP
        >>> predictor(stream.between(0, 50_000), 0, 50_000, recording="a.raw").label  # doctest: +SKIP
        '3'

    Args:
        trained: see :func:`~evlift.streaming.opening.open_predictor`.
        keep_state: potentials of spiking neurons go on from window to window; None is what the recipe says.
        unknown_below: least probability of a class to be named; "auto" is what the run's calibration suggests.
        fit: how recordings of another sensor are shown, see :class:`~evlift.assembly.WindowEncoder`. Each window has a
            frame of its own under "crop-to-events"; as potentials belong to places, "auto" is "stretch" where they are
            kept.

    Raises:
        ConfigError: a network that reads pictures, one without potentials to keep, a `fit` that does not go with masks
            or kept state, or "auto" for a run without a calibration.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        *,
        keep_state: bool | None = None,
        unknown_below: float | str = 0.0,
        fit: Fit = "auto",
    ) -> None:
        recipe, name = trained.recipe, trained.place
        self.trained, self.network, self.classes = trained, trained.network, trained.classes
        if reads_pictures(recipe):
            raise ConfigError(
                f"Expected a run that reads events, but {name} reads pictures. Give another run."
            )
        self.segments = trained.segments
        self.keep_state = recipe.input.keep_state if keep_state is None else keep_state
        if self.keep_state and not getattr(self.network, "keeps_state", False):
            raise ConfigError(
                f"Expected a spiking network to keep the state of, but {name} has {recipe.model['name']}. Leave "
                "--keep-state out."
            )
        if self.keep_state and fit == "crop-to-events":
            raise ConfigError(
                "Expected a fit whose frame stands still where state is kept, but got 'crop-to-events'. Give stretch, "
                "cover or letterbox."
            )
        self.unknown_below = trained.threshold(unknown_below)
        self.sensor_size, self.temperature = trained.sensor_size, trained.temperature
        self.encoder = WindowEncoder(trained, "stretch" if self.keep_state and fit == "auto" else fit)
        self._state: Any = None

    def reset(self) -> None:
        """Forget the potentials of the windows before."""
        self._state = None

    def warm_up(self) -> None:
        """Compile the loops and let torch settle, so that the first window is no slower than the others."""
        self.ask(self.encode(EventStream.empty(self.sensor_size), 0, 1, timed=True))
        self.reset()

    def encode(self, stream: EventStream, start_us: int, stop_us: int, *, timed: bool) -> Tensor:
        """[1, T, 2, H, W] frames of a window.

        Args:
            stream: its events, on any sensor.
            start_us, stop_us: of the window.
            timed: it has a set length. A mask belongs to a place in it, and kept state to its last moment: frames
                then divide the window, where those of a recognition network divide the time from its first event to
                its last, as in training.
        """
        bounds = (start_us, stop_us) if timed and (self.segments or self.keep_state) else None
        return self.encoder(stream, bounds_us=bounds)[None]  # [T, 2, H, W] → [1, T, 2, H, W]

    @torch.no_grad()
    def ask(self, clip: Tensor) -> Tensor:
        """Clip [1, T, 2, H, W] → probabilities [K] or [K, H, W]."""
        if not self.keep_state:
            return probabilities(self.network(clip).logits, self.temperature)[0]
        out = self.network(clip, state=self._state)
        self._state = out.state
        return probabilities(out.logits, self.temperature)[0]

    def __call__(self, stream: EventStream, start_us: int, stop_us: int, *, recording: str) -> Any:
        """The prediction on the events of a window of set length."""
        found = self.ask(self.encode(stream, start_us, stop_us, timed=True))
        window = {"recording": recording, "start_us": start_us, "stop_us": stop_us, "events": len(stream)}
        return self.say(found, stream=stream, **window)

    def say(self, found: Tensor, **window: Any) -> Prediction | MaskPrediction:
        """Probabilities [K] or [K, H, W] as a prediction on the window that the keywords describe."""
        best, index = found.max(0)
        if self.segments:
            mask = index.to(torch.uint8).numpy()
            mask[(best < self.unknown_below).numpy()] = UNKNOWN_PIXEL
            return MaskPrediction(mask=mask, confidence=float(best.mean()), classes=self.classes, **window)
        evidence = window["events"] > 0 or self.keep_state  # kept potentials are evidence of windows before
        known = evidence and float(best) >= self.unknown_below
        return Prediction(
            label=self.classes[int(index)] if known else UNKNOWN,
            index=int(index),
            confidence=float(best),
            probabilities=np.asarray(found),
            classes=self.classes,
            **window,
        )


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Logits [B, T, K(, H, W)] → probabilities [B, K(, H, W)] of the mean over T, divided by a temperature."""
    mean = logits.float().mean(1)  # [B, T, K, ...] → [B, K, ...]
    return (mean / temperature).softmax(1)
