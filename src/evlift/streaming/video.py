"""A video of what was recorded and what was predicted: one frame a window."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.engine.pictures import palette
from evlift.errors import ConfigError, DataError
from evlift.representations.picture import render
from evlift.streaming.outputs import OUTPUTS, AnyPrediction, Output
from evlift.streaming.predictions import UNKNOWN_PIXEL, MaskPrediction
from evlift.streaming.running import Predictions

SMALLEST = 480  # pixels of the longer side; small sensors are enlarged in whole steps
PANEL = 64  # pixels below the picture, for text
MAX_FPS = 60.0
FPS_OF_COUNTS = 25.0  # windows by count have no rate of their own
GROUND, TEXT, MUTED, BAR = (16, 16, 16), (235, 235, 235), (160, 160, 160), (0, 158, 115)
MASK_SHARE = 0.5  # of the mask's colour over the events


@OUTPUTS.register(".mp4")
class Video(Output):
    """H.264 in real time where windows are long enough for 60 frames a second, slower where they are not."""

    @classmethod
    def check(cls, path: Path, predictions: Predictions) -> None:
        """A video needs windows, of one recording."""
        if predictions.cut.whole:
            raise ConfigError(f"Expected windows for {path}, but a recording is one window. Give a length.")
        if predictions.several:
            raise ConfigError(f"Expected one recording for {path}, but got a folder. Name one file in it.")

    def __init__(self, path: Path, predictions: Predictions, *, all_probabilities: bool) -> None:
        super().__init__(path, predictions, all_probabilities=all_probabilities)
        self.fps, self.speed = frame_rate(predictions)
        self._writer: Generator[None, Any, None] | None = None

    def write(self, prediction: AnyPrediction) -> None:
        """See :class:`Output`."""
        frame = draw(prediction, self.speed)
        if self._writer is None:
            self._writer = _open_writer(self.path, frame, self.fps)
        self._writer.send(frame)

    def close(self) -> None:
        """Wait for the encoder, and look at what it left."""
        if self._writer is None:
            return
        import imageio_ffmpeg

        self._writer.close()
        try:
            frames, _ = imageio_ffmpeg.count_frames_and_secs(str(self.path))
        except RuntimeError as error:
            raise DataError(f"The encoder left no video: {' '.join(str(error).split())[:200]}") from None
        if not frames:
            raise DataError("The encoder left a video without frames. Is the disk full?")


def frame_rate(predictions: Predictions) -> tuple[float, float]:
    """Frames a second, and how fast the video then plays: 1 is real time."""
    cut = predictions.cut
    if cut.duration_us is None:
        return FPS_OF_COUNTS, 0.0
    fps = min(1e6 / cut.stride, MAX_FPS)
    return fps, fps * cut.stride / 1e6


def _open_writer(path: Path, frame: NDArray[np.uint8], fps: float) -> Generator[None, Any, None]:
    import imageio_ffmpeg

    height, width = frame.shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", quality=7, macro_block_size=2
    )
    writer.send(None)
    return writer


def draw(prediction: AnyPrediction, speed: float = 1.0) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]: the window's events, ON blue and OFF vermilion, a mask over them, and text below.

    Args:
        prediction: of one window.
        speed: how fast the video plays, for the text; 0 where it has no rate.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = render(prediction.stream, background="dark")
    scale = max(1, -(-SMALLEST // max(shown.shape[:2])))
    shown = shown.repeat(scale, 0).repeat(scale, 1)  # [H, W, 3] → [s·H, s·W, 3]
    if isinstance(prediction, MaskPrediction):
        shown = _overlaid(shown, prediction.mask)
    height, width = shown.shape[:2]
    picture = Image.new("RGB", (width + width % 2, height + height % 2 + PANEL), GROUND)
    picture.paste(Image.fromarray(shown))
    pen = ImageDraw.Draw(picture)
    large, small = (ImageFont.load_default(size) for size in (22, 14))
    top = height + height % 2
    if isinstance(prediction, MaskPrediction):
        _write_legend(pen, prediction, top, large)
    else:
        pen.text((10, top + 6), prediction.label, TEXT, font=large)
    pen.rectangle((0, top, int(prediction.confidence * (picture.width - 1)), top + 3), BAR)
    pen.text((10, top + 40), _caption(prediction, speed), MUTED, font=small)
    return np.asarray(picture)


def _overlaid(shown: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] under the colours of a mask [h, w]; pixels without a class stay as they are."""
    rows, columns = (
        np.arange(side) * small // side for side, small in zip(shown.shape, mask.shape, strict=False)
    )
    wide = mask[rows[:, None], columns]  # [h, w] → [H, W]
    mixed = (1 - MASK_SHARE) * shown + MASK_SHARE * palette()[wide]
    return np.where(wide[..., None] == UNKNOWN_PIXEL, shown, mixed).astype(np.uint8)


def _write_legend(pen: Any, prediction: MaskPrediction, top: int, font: Any) -> None:
    """The largest classes, each beside its colour."""
    left, colours = 10, palette()
    for name, share in list(prediction.shares.items())[:5]:
        index = prediction.classes.index(name) if name in prediction.classes else UNKNOWN_PIXEL
        pen.rectangle((left, top + 13, left + 12, top + 25), tuple(colours[index].tolist()))
        text = f"{name} {share:.0%}"
        pen.text((left + 18, top + 6), text, TEXT, font=font)
        left += 36 + int(pen.textlength(text, font=font))


def _caption(prediction: AnyPrediction, speed: float) -> str:
    rate = prediction.rate_hz
    shown_rate = f"{rate / 1e6:.2f} Mev/s" if rate >= 1e5 else f"{rate / 1e3:.1f} kev/s"
    slow = f" · {speed:.2g}x speed" if speed and abs(speed - 1) > 0.01 else ""
    return f"{prediction.start_us / 1e6:.3f} s · confidence {prediction.confidence:.2f} · {shown_rate}{slow}"
