"""Pictures inside a page: small PNG files as data URIs."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.engine.pictures import palette
from evlift.events import EventStream
from evlift.events.filters import resize
from evlift.masks import VOID
from evlift.representations import Histogram
from evlift.representations.picture import OFF, ON


def events_png(counts: NDArray[np.float32], side: int) -> str:
    """Counts [2, H, W] (off, on) as a data URI, at most `side` pixels wide and high, transparent without events.

    Larger counts of several pixels that become one are added.
    """
    step = max(1, -(-max(counts.shape[1:]) // side))
    bottom, right = (-size % step for size in counts.shape[1:])
    padded = np.pad(counts, ((0, 0), (0, bottom), (0, right)))
    small = padded.reshape(2, padded.shape[1] // step, step, padded.shape[2] // step, step).sum((2, 4))
    total = small.sum(0)  # [2, h, w] → [h, w]
    busy = total[total > 0]
    top = max(float(np.quantile(busy, 0.99)), 1e-6) if busy.size else 1.0
    alpha = np.where(total > 0, 90 + 165 * np.minimum(total / top, 1), 0)
    share = (small[1] / np.maximum(total, 1e-6))[..., None]
    ink = np.where(total[..., None] > 0, share * ON + (1 - share) * OFF, 0)
    quarter = np.concatenate([ink, alpha[..., None]], axis=2).round()
    return png((quarter // 8 * 8).clip(0, 248).astype(np.uint8))  # fewer shades, a third of the bytes


def stream_png(stream: EventStream, side: int) -> str:
    """Events as :func:`events_png` draws them."""
    height, width = stream.sensor_size
    factor = min(1.0, side / max(height, width))
    fitted = resize(stream, max(1, round(height * factor)), max(1, round(width * factor)))
    return events_png(Histogram()(fitted).numpy(), side)


def mask_png(mask: NDArray[Any], side: int) -> str:
    """A mask [H, W] in the classes' colours, void transparent, every n-th pixel of one that is larger than `side`."""
    step = max(1, -(-max(mask.shape) // side))
    small = mask[::step, ::step].astype(np.int64)
    colours = np.concatenate([palette(), np.full((256, 1), 255, np.uint8)], axis=1)
    colours[VOID] = 0
    return png(colours[small.clip(0, VOID)])


def picture_png(picture: NDArray[np.float32], side: int) -> str:
    """A picture [P, H, W] in 0..1, P = 1 or 3."""
    shown = (255 * picture.clip(0, 1)).astype(np.uint8)
    return png(shown[0] if len(shown) == 1 else shown.transpose(1, 2, 0), side)


def raster_png(spikes: NDArray[np.bool_]) -> str:
    """Spikes [T, n], time to the right and a row a neuron: blue where a neuron fired, else transparent."""
    image = np.zeros((*spikes.T.shape, 4), np.uint8)
    image[spikes.T] = (64, 140, 220, 255)
    return png(image)


def file_png(path: Path, side: int) -> str:
    """A picture file, made smaller than `side` and reduced to 128 colours."""
    from PIL import Image

    with Image.open(path) as image:
        image.thumbnail((side, side))
        return _uri(image.convert("RGB").quantize(128))


def png(image: NDArray[np.uint8], side: int | None = None) -> str:
    """An image [H, W], [H, W, 3] or [H, W, 4] as a data URI."""
    from PIL import Image

    shown = Image.fromarray(np.ascontiguousarray(image))
    if side is not None:
        shown.thumbnail((side, side))
    return _uri(shown)


def _uri(image: Any) -> str:
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def image_tag(uri: str, alt: str, kind: str = "") -> str:
    """The element of an embedded picture."""
    return f"<img class='{kind}' alt='{html.escape(alt)}' src='{uri}' loading='lazy'>"


def class_key(classes: tuple[str, ...]) -> str:
    """The classes beside the colours that masks show them in."""
    rows = (
        f"<li><i style='background:rgb({r} {g} {b})'></i>{html.escape(name)}</li>"
        for name, (r, g, b) in zip(classes, palette(), strict=False)
    )
    return f"<ul class='key'>{''.join(rows)}</ul>"
