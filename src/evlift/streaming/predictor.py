"""From a window of events to what the network says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from evlift.assembly import reads_pictures
from evlift.datasets.scene_encoder import SceneEncoder
from evlift.datasets.transfer import Encoder
from evlift.errors import ConfigError
from evlift.events import EventStream
from evlift.events.filters import resize
from evlift.streaming.predictions import UNKNOWN, UNKNOWN_PIXEL, MaskPrediction, Prediction


class Predictor:
    """Encodes windows as the run did, asks its network, and says the answer in classes.

    Args:
        trained: recipe, record, network and classes, see :func:`~evlift.streaming.opening.open_predictor`.
        name: of the run, for messages.
        keep_state: potentials of spiking neurons go on from window to window; None is what the recipe says.
        unknown_below: least probability of a class to be named.

    Raises:
        ConfigError: a network that reads pictures, or one without potentials to keep.
    """

    def __init__(
        self, trained: Any, name: str, *, keep_state: bool | None = None, unknown_below: float = 0.0
    ) -> None:
        recipe, record = trained.recipe, trained.record
        self.network, self.classes, self.record = trained.network, tuple(trained.classes), record
        task = getattr(self.network, "task", "recognition")
        if reads_pictures(recipe) or task not in ("recognition", "segmentation"):
            raise ConfigError(
                f"Expected a run that reads events and gives recordings a class or a mask, but {name} does another "
                "task."
            )
        self.segments = task == "segmentation"
        self.keep_state = recipe.input.keep_state if keep_state is None else keep_state
        if self.keep_state and not getattr(self.network, "keeps_state", False):
            raise ConfigError(
                f"Expected a spiking network to keep the state of, but {name} has {recipe.model['name']}. Leave "
                "--keep-state out."
            )
        self.unknown_below = unknown_below
        height, width = record["sensor_size"]
        self.sensor_size = (int(height), int(width))
        scale = record["count_scale"]
        encoder: Any = (
            SceneEncoder(recipe.input, sensor_size=self.sensor_size, duration_us=1, scale=scale)
            if self.segments
            else Encoder(recipe.input, self.sensor_size, scale)
        )
        self.frames = encoder.frames
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
            stream: its events, on any sensor: coordinates are scaled to that of the network.
            start_us, stop_us: of the window.
            timed: it has a set length. A mask belongs to a place in it, and kept state to its last moment: frames
                then divide the window, where those of a recognition network divide the time from its first event to
                its last, as in training.
        """
        adapted = stream if stream.sensor_size == self.sensor_size else resize(stream, *self.sensor_size)
        bounds = (start_us, stop_us) if timed and (self.segments or self.keep_state) else None
        return self.frames(adapted, window_us=bounds)[None]  # [T, 2, H, W] → [1, T, 2, H, W]

    @torch.no_grad()
    def ask(self, clip: Tensor) -> Tensor:
        """Clip [1, T, 2, H, W] → probabilities [K] or [K, H, W]."""
        if not self.keep_state:
            return probabilities(self.network(clip).logits, self.record)
        out = self.network(clip, state=self._state)
        self._state = out.state
        return probabilities(out.logits, self.record)

    def say(self, found: Tensor, **window: Any) -> Prediction | MaskPrediction:
        """Probabilities [K] or [K, H, W] as a prediction on the window that the keywords describe."""
        best, index = found.max(0)
        if self.segments:
            mask = index.to(torch.uint8).numpy()
            mask[(best < self.unknown_below).numpy()] = UNKNOWN_PIXEL
            return MaskPrediction(mask=mask, confidence=float(best.mean()), classes=self.classes, **window)
        known = float(best) >= self.unknown_below
        return Prediction(
            label=self.classes[int(index)] if known else UNKNOWN,
            index=int(index),
            confidence=float(best),
            probabilities=np.asarray(found),
            classes=self.classes,
            **window,
        )


def probabilities(logits: Tensor, record: dict[str, Any]) -> Tensor:
    """Logits [1, T, K(, H, W)] → probabilities [K(, H, W)] of the mean over T.

    A record with a `temperature`, as calibration on held-out data leaves it, has the logits divided by it.
    """
    mean = logits.float().mean(1)[0]  # [1, T, K, ...] → [K, ...]
    return (mean / record.get("temperature", 1.0)).softmax(0)
