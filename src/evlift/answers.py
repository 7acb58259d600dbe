"""What a finished run says about one window of events: a class with its probability, or a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlift.assembly import open_run, reads_pictures
from evlift.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evlift.events import EventStream


@dataclass(frozen=True)
class Answer:
    """What a network says about a window.

    Args:
        probabilities: float32 [K], softmax of the mean logit over T; for masks the share of the pixels of each class.
        mask: uint8 [h, w], class of every pixel at the network's input size; None from networks that give one class.
    """

    probabilities: NDArray[np.float32]
    mask: NDArray[np.uint8] | None = None

    @property
    def index(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """Probability of that class."""
        return float(self.probabilities.max())


class Answerer:
    """A finished run that answers for windows of any recording.

    Example:
        >>> answer = Answerer("runs/a")  # doctest: +SKIP
        >>> answer(stream.between(0, 50_000), 0, 50_000).confidence  # doctest: +SKIP
        0.98

    Args:
        folder: the run.

    Raises:
        DataError: no such run.
        ConfigError: a run whose network reads pictures.
    """

    def __init__(self, folder: str | Path) -> None:
        trained = open_run(folder)
        if reads_pictures(trained.recipe):
            raise ConfigError(
                f"Expected a run that reads events, but {folder} reads pictures. Give another run."
            )
        self.trained, self.classes = trained, trained.classes
        height, width = trained.record["sensor_size"]
        self.sensor_size = (int(height), int(width))
        self.segments = getattr(trained.network, "task", "recognition") == "segmentation"

    def __call__(self, stream: EventStream, start_us: int, stop_us: int) -> Answer:
        """The answer to the events of a window ``start_us <= t < stop_us`` [µs] of any sensor."""
        import torch

        clip = self._sequence(stream, start_us, stop_us)
        with torch.no_grad():
            logits = self.trained.network(clip[None]).logits.float().mean(1)[0]  # [1, T, K, ...] → [K, ...]
        if not self.segments:
            return Answer(logits.softmax(-1).numpy())
        mask = logits.argmax(0)  # [K, H, W] → [H, W]
        shares = torch.bincount(mask.flatten(), minlength=len(self.classes)) / mask.numel()
        return Answer(shares.numpy(), mask.to(torch.uint8).numpy())

    def _sequence(self, stream: EventStream, start_us: int, stop_us: int) -> Any:
        """The network's input [T, 2, H, W]."""
        import numpy as np

        from evlift.datasets.scene_encoder import SceneEncoder
        from evlift.datasets.transfer import Encoder
        from evlift.events.filters import resize

        fits = stream.sensor_size == self.sensor_size
        adapted = stream if fits else resize(stream, *self.sensor_size)
        options, scale = self.trained.recipe.input, self.trained.record["count_scale"]
        if self.segments:
            encoder = SceneEncoder(
                options, sensor_size=self.sensor_size, duration_us=stop_us - start_us, scale=scale
            )
            return encoder.frames(adapted, window_us=(start_us, stop_us))
        whole = Encoder(options, self.sensor_size, scale)
        return whole.events(adapted, np.random.default_rng(0), augment=False, window="full")
