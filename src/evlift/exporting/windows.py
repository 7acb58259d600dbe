"""Windows on which a written file is compared with its original."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from evlift.errors import ConfigError, EvliftError

if TYPE_CHECKING:
    from torch import Tensor

    from evlift.assembly import Trained
    from evlift.exporting.contract import Contract

COUNT = 32


@dataclass(frozen=True)
class Windows:
    """The same windows as the original reads them and as the file does.

    Args:
        frames: [n, T, C, H, W] for the original.
        given: [n, T, C, H, W] for the file.
        origin: where they come from.
    """

    frames: Tensor
    given: Tensor
    origin: str


def windows_for(trained: Trained, contract: Contract) -> Windows:
    """Windows of the run's own data where they are at hand, else generated ones; at most 32."""
    try:
        return _real(trained, contract)
    except (EvliftError, OSError) as error:
        return _generated(trained, contract, str(error).partition(".")[0])


def _real(trained: Trained, contract: Contract) -> Windows:
    from evlift.assembly import create_task, evaluation_feeder

    task = create_task(trained.recipe)
    recipe = replace(trained.recipe, input=contract.recipe().input)
    raw = replace(trained, recipe=recipe, record=trained.record | contract.opened_record())
    pictures = contract.reads == "pictures"
    for split in ("source_val",) if pictures else ("val", "unlabelled", "train"):
        if not len(getattr(task, split)):
            continue
        found = []
        for source in (trained, raw):
            batch = next(evaluation_feeder(source, task).evaluation(split, batch_size=COUNT))
            clips = batch.of_pictures().image if pictures else batch.events
            found.append(clips)
        return Windows(found[0], found[1], f"the run's {split} split")  # type: ignore[arg-type]
    raise ConfigError("The run's data hold no window to compare on.")


def _generated(trained: Trained, contract: Contract, why: str) -> Windows:
    """Streams of random events, from none to four a pixel, and random pictures."""
    import torch

    from evlift.events import EventStream
    from evlift.representations import Frames

    origin = f"generated windows, because the run's data are not at hand ({why})"
    rng = np.random.default_rng(0)
    if contract.reads == "pictures":
        shown = torch.from_numpy(rng.random((COUNT, contract.steps, *contract.shape), np.float32))
        return Windows(shown, shown, origin)
    height, width = trained.record["sensor_size"]
    streams = []
    for number in range(COUNT):
        n = number * height * width * 4 // (COUNT - 1)
        x, y = (rng.integers(0, side, n) for side in (width, height))
        times = np.sort(rng.integers(0, 50_000, n))
        streams.append(
            EventStream.from_columns(times, x, y, rng.random(n) < 0.5, sensor_size=(height, width))
        )
    clips = []
    for options, scale in (
        (trained.recipe.input, trained.record["count_scale"]),
        (contract.recipe().input, contract.opened_record()["count_scale"]),
    ):
        frames = Frames(
            steps=options.steps,
            size=options.size,
            crop_to_events=options.crop_to_events,
            normalise=options.normalise,
            scale=scale,
        )
        clips.append(torch.stack([frames(stream) for stream in streams]))
    return Windows(clips[0], clips[1], origin)
