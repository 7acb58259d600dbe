"""What a written file says of itself: how a recording becomes its input, and what its output means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from evlift.assembly import picture_channels, reads_pictures
from evlift.config import InputOptions, Recipe
from evlift.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from evlift.assembly import Trained

KEY = "evlift"  # under which a file holds its contract, as JSON
KEPT = (
    "split",
    "digest",
    "temperature",
    "calibration",
    "framing",
    "duration_us",
    "label_at",
    "metric",
    "judged_on",
    "val",
)
BY_CLIP = ("max", "p99.9")  # normalisations that need a whole clip
INPUTS = {  # what a file reads → what that is
    "counts": "events counted by time step and polarity (off, on); the file normalises them",
    "frames": "events counted by time step and polarity (off, on), normalised as the recipe says",
    "pictures": "pictures in 0..1",
}


def again(path: Path) -> str:
    """What to do about a file that cannot be read."""
    return f"Copy it again, or export the run again: evlift export RUN --to {path.suffix[1:].lower()}."


@dataclass(frozen=True)
class Contract:
    """Everything that a user of the file needs beside the network.

    Args:
        evlift: version that wrote the file.
        task: recognition or segmentation.
        reads: a name of `INPUTS`, which is that of the file's input, too.
        steps: T, time steps of a clip.
        shape: (C, H, W) of a step.
        single_step: the network takes one step and its state; else a whole clip.
        states: shape of the potential of each neuron layer, without the batch; empty where no state is passed.
        dt: seconds of a time step, of NIR files alone.
        model, input: those sections of the run's recipe.
        method: its name.
        record: classes, sensor_size, count_scale, split hash and the figures of the run's record.
        agreement: how far the file's answers were from the original's.
    """

    evlift: str
    task: str
    reads: str
    steps: int
    shape: tuple[int, int, int]
    model: dict[str, Any]
    method: str
    input: dict[str, Any]
    record: dict[str, Any]
    single_step: bool = False
    states: tuple[tuple[int, ...], ...] = ()
    dt: float | None = None
    agreement: dict[str, Any] | None = None

    @classmethod
    def of(cls, trained: Trained, *, single_step: bool = False, frames: bool = False) -> Contract:
        """The contract of a run's network; `frames` leaves the normalisation outside in any case."""
        from importlib.metadata import version

        recipe, network, record = trained.recipe, trained.network, trained.record
        pictures = reads_pictures(recipe)
        outside = frames or (single_step and recipe.input.normalise in BY_CLIP)
        height, width = recipe.input.size
        kept = {name: record[name] for name in KEPT if name in record}
        return cls(
            evlift=version("evlift"),
            task=str(getattr(network, "task", "recognition")),
            reads="pictures" if pictures else "frames" if outside else "counts",
            steps=1 if pictures else recipe.input.steps,
            shape=(picture_channels(recipe) if pictures else 2, height, width),
            model=dict(recipe.model),
            method=str(recipe.method["name"]),
            input=recipe.to_dict()["input"],
            record={name: record[name] for name in ("classes", "sensor_size", "count_scale")} | kept,
            single_step=single_step,
        )

    def to_json(self) -> str:
        """As it is stored in the file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes | None, path: Path) -> Contract:
        """The contract that a file holds.

        Raises:
            FormatError: none, or one that this version cannot read.
        """
        if text is None:
            raise FormatError(
                f"Expected a file that `evlift export` wrote, but {path} does not say how recordings become its "
                f"input. {again(path)}"
            )
        try:
            content = json.loads(text)
            known = {item.name for item in fields(cls)}
            found = cls(**{name: value for name, value in content.items() if name in known})
            states = tuple(tuple(shape) for shape in found.states)
            found = replace(found, shape=tuple(found.shape), states=states)  # type: ignore[arg-type]
            found.recipe()  # refuses input options of another version
            return found
        except (ValueError, TypeError, AttributeError) as error:
            raise FormatError(
                f"The description in {path} is damaged or of another version: {error}. {again(path)}"
            ) from None

    def recipe(self) -> Recipe:
        """A recipe by which recordings are encoded for the file: raw counts where the file normalises."""
        given: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in self.input.items()
        }
        options = InputOptions(**given)
        if self.reads == "counts":
            options = replace(options, normalise="none")
        return Recipe({"name": "exported"}, self.model, {"name": self.method}, options)

    def opened_record(self) -> dict[str, Any]:
        """A record by which recordings are encoded for the file."""
        scale = None if self.reads == "counts" else self.record["count_scale"]
        return {**self.record, "count_scale": scale}

    def state_names(self) -> tuple[list[str], list[str]]:
        """Names of the states going in and coming out."""
        numbers = range(len(self.states))
        return [f"state_{i}" for i in numbers], [f"next_state_{i}" for i in numbers]

    def rows(self) -> Mapping[str, str]:
        """What a user wants to see of it."""
        step = ", ".join(map(str, self.shape))
        shape = f"[B, {step}]" if self.single_step else f"[B, {self.steps}, {step}]"
        rows = {"input": f"{self.reads} {shape}: {INPUTS[self.reads]}", "task": self.task}
        if self.states:
            rows["state"] = f"{len(self.states)} potentials, one a neuron layer"
        return rows
