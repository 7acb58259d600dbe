"""What a method sees and makes, as strips to look at, and how its generators fared, as curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evlift.engine.logs import read_log
from evlift.files import atomic_path
from evlift.masks import VOID
from evlift.representations.picture import colour

ROWS = 6
SEQUENCES = {"events": "real events", "crafted": "crafted events", "mixed": "mixed", "clip": "input"}
PICTURES = {"picture": "picture", "reconstruction": "from events"}
MASKS = {"seen": "teacher's view", "answer": "student", "target": "label"}
ORDER = ("events", "reconstruction", "picture", "crafted")  # partners side by side
WATCHED = ("teacher_entropy", "occupancy_real", "occupancy_crafted", "confident")


def save_strip(outputs: dict[str, Tensor], path: Path) -> None:
    """Write the first rows of a batch side by side; nothing if `outputs` has nothing to show.

    Args:
        outputs: of a step: sequences [B, T, 2, H, W], pictures [B, P, H, W] in 0..1, masks int [B, H, W], logits
            [B, T, K, H, W] (whose largest becomes the mask "answer"). Other entries are left out.
        path: PNG.
    """
    columns = strip_columns(outputs)
    if not columns:
        return
    rows = max(map(len, columns.values()))
    figure, axes = _figure(rows, len(columns))
    for place, (title, images) in enumerate(columns.items()):
        for row in range(rows):
            axis = axes[row][place]
            axis.set_axis_off()
            if row < len(images):
                axis.imshow(images[row], interpolation="nearest", vmin=0, vmax=255, cmap="gray")
        axes[0][place].set_title(title, fontsize=8)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=110, format="png")


def strip_columns(outputs: dict[str, Tensor]) -> dict[str, list[NDArray[np.uint8]]]:
    """Title → pictures uint8 [H, W(, 3)] of a step's outputs, at most six each, in the order of reading."""
    outputs = {name: value.detach().float().cpu() for name, value in outputs.items()}
    logits = outputs.get("logits")
    if logits is not None and logits.ndim == 5:
        outputs = outputs | {"answer": logits.mean(1).argmax(1)}  # [B, T, K, H, W] → [B, H, W]
    found: dict[str, list[NDArray[np.uint8]]] = {}
    for name, title in SEQUENCES.items():
        value = outputs.get(name)
        if value is not None and value.ndim == 5 and value.shape[2] == 2:
            found[title] = [colour(100 * clip.sum(0).numpy(), "light") for clip in value[:ROWS]]
    for name, title in PICTURES.items():
        value = outputs.get(name)
        if value is not None and value.ndim == 4:
            shown = (255 * value[:ROWS].clamp(0, 1)).byte().numpy()  # [B, P, H, W]
            found[title] = [
                picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0) for picture in shown
            ]
    for name, title in MASKS.items():
        value = outputs.get(name)
        if value is not None and value.ndim == 3:
            found[title] = [palette()[mask] for mask in value[:ROWS].long().clamp(0, VOID).numpy()]
    titles = SEQUENCES | PICTURES
    paired = [titles[name] for name in ORDER if titles[name] in found]
    return {title: found[title] for title in dict.fromkeys([*paired, *found])}


def palette() -> NDArray[np.uint8]:
    """uint8 [256, 3]: 20 distinct colours, repeated; 255 (void) is white."""
    from matplotlib import colormaps

    table = (255 * np.array(colormaps["tab20"].colors)).astype(np.uint8)  # type: ignore[attr-defined]
    colours = np.resize(table, (256, 3))
    colours[VOID] = 255
    return colours


def save_curves(log: Path, path: Path) -> None:
    """Write what a method watches (occupancy, entropy of the teacher's classes) over its steps; nothing without it."""
    rows = [row for row in read_log(log) if row["split"] == "train" and row["name"] in WATCHED]
    if not rows:
        return
    from matplotlib.figure import Figure

    names = [name for name in WATCHED if any(row["name"] == name for row in rows)]
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis: Any = figure.subplots()
    for name in names:
        points = [(row["step"], row["value"]) for row in rows if row["name"] == name]
        axis.plot(*zip(*points, strict=True), label=name.replace("_", " "))
    axis.set(xlabel="step", ylim=(0, None))
    axis.legend(fontsize=8)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=110, format="png")


def _figure(rows: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.3 * columns, 1.35 * rows + 0.2), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)
