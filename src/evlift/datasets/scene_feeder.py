"""From a segmentation task's scenes to batches; every draw depends on (seed, step, row) alone, as in `transfer`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from evlift.datasets.base import Batch
from evlift.datasets.draws import epoch_order, generator
from evlift.datasets.scene_encoder import Clip, SceneEncoder
from evlift.datasets.scenes import EventScene
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream

if TYPE_CHECKING:
    from evlift.config import InputOptions
    from evlift.datasets.items import Collection
    from evlift.datasets.task import TransferTask
    from evlift.methods.base import Method, Needs

Content = TypeVar("Content")
SPLITS = ("train", "unlabelled", "val", "test", "source_val")
FITTED_SCENES = 200
KEPT_BYTES = 1 << 30


class Kept:
    """Results kept in memory as long as they fit; what no longer does is computed anew each time.

    Args:
        limit_bytes: of the arrays and tensors that are kept.
    """

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self.room = limit_bytes
        self._content: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], Content]) -> Content:
        """What is kept under `key`, else what `compute` returns."""
        if key in self._content:
            return self._content[key]
        content = compute()
        size = bytes_of(content)
        if size <= self.room:
            self.room -= size
            self._content[key] = content
        return content


def bytes_of(content: Any) -> int:
    """Bytes of an array or tensor, or of all those among a dataclass's fields."""
    if is_dataclass(content):
        return sum(bytes_of(getattr(content, item.name)) for item in fields(content))
    return int(getattr(content, "nbytes", 0))


class SceneFeeder:
    """Batches of a segmentation task for a method, by step; `evlift.datasets.transfer.Feeder` for scenes.

    A method that may not see event labels draws from ``task.unlabelled``, others from ``task.train``.

    Args:
        task: pictures and windows with their splits.
        options: how they become sequences.
        method: says which sides it uses.
        batch_size: rows of a batch.
        seed: of every draw.
        encoder: the one of a finished run; default: fitted to the windows that the method draws from.

    Raises:
        DataError: a task without what the method needs.
        ConfigError: a method that pairs by category, or windows other than the whole ones.
    """

    def __init__(
        self,
        task: TransferTask,
        options: InputOptions,
        method: Method | type[Method],
        *,
        batch_size: int,
        seed: int,
        encoder: SceneEncoder | None = None,
    ) -> None:
        self.task, self.options, self.method = task, options, method
        self.batch_size, self.seed = batch_size, seed
        self._events = task.train if method.uses_event_labels else task.unlabelled
        self._kept = Kept()
        self._check()
        self.encoder = encoder or SceneEncoder.of(task, options).fit(self._streams())

    def _check(self) -> None:
        """Refuse a task or options that cannot feed the method."""
        name = getattr(self.method, "__name__", type(self.method).__name__)
        if self.method.uses_events and len(self._events) == 0:
            raise DataError(f"{name} needs training windows, but the task has none.")
        if (self.method.uses_images or self.method.uses_pictures) and len(self.task.source) == 0:
            raise DataError(f"{name} needs source pictures, but the task has none.")
        if self.method.pairing != "none":
            raise ConfigError(
                f"Expected a method that does not pair by {self.method.pairing}, but got {name}: a scene has many "
                "classes. Use one that pairs nothing."
            )
        _check_window(self.options.window)
        frames = getattr(self.method, "uses_frames", False)
        if frames and self._scene(self._events, "events", 0).frame is None:
            raise DataError(
                f"{name} needs frames aligned with the windows, but {self._events[0].name} has none. Take data that "
                "have them, or set method.mutual to 0."
            )

    def _streams(self) -> Iterable[EventStream]:
        """Evenly spaced windows that the method draws from."""
        n = len(self._events)
        chosen = np.unique(np.linspace(0, n - 1, min(n, FITTED_SCENES)).astype(np.int64))
        return (self._scene(self._events, "events", int(i)).stream for i in chosen)

    def _scene(self, items: Collection[Content], kind: str, index: int) -> Content:
        """One item's content, from memory after the first time."""
        return self._kept.get((kind, index), partial(items.load, index))

    def batch(self, step: int, *, rows: range | None = None, needs: Needs = "all") -> Batch:
        """The batch of training step `step`, or some `rows` of it; `needs` as of a Phase."""
        rows = range(self.batch_size) if rows is None else rows
        positions = step * self.batch_size + np.array(rows)
        parts: dict[str, Any] = {}
        if self.method.uses_events and needs in ("all", "events"):
            parts |= self._event_side(positions, step, rows)
        if (self.method.uses_images or self.method.uses_pictures) and needs != "events":
            generators = [generator(self.seed, step, row, 2) for row in rows]
            parts |= self._image_side(positions, generators, self.method.uses_images and needs != "pictures")
        return Batch(**parts)

    def _event_side(self, positions: NDArray[np.int64], step: int, rows: range) -> dict[str, Any]:
        chosen = epoch_order(positions, len(self._events), self.seed, stream=1)
        clips = [
            self.encoder.events(
                self._scene(self._events, "events", int(index)),
                generator(self.seed, step, row, 1),
                augment=True,
                frame=getattr(self.method, "uses_frames", False),
            )
            for row, index in zip(rows, chosen, strict=True)
        ]
        target = stacked(clips, "mask") if self.method.uses_event_labels else None
        return {
            "events": stacked(clips, "sequence"),  # [B, T, 2, H, W]
            "event_target": target,
            "frame": stacked(clips, "picture"),
        }

    def _image_side(
        self, positions: NDArray[np.int64], generators: list[np.random.Generator], sequence: bool
    ) -> dict[str, Any]:
        chosen = epoch_order(positions, len(self.task.source), self.seed, stream=2)
        epochs = positions // len(self.task.source)
        clips = [
            self._image_row(int(index), int(epoch), rng, sequence)
            for index, epoch, rng in zip(chosen, epochs, generators, strict=True)
        ]
        return {
            "image": stacked(clips, "sequence"),  # [B, T, 2, H, W]
            "picture": stacked(clips, "picture") if self.method.uses_pictures else None,
            "image_target": stacked(clips, "mask"),
        }

    def _image_row(self, index: int, epoch: int, rng: np.random.Generator, sequence: bool) -> Clip:
        """Source picture `index`: watched anew, or on one of its few takes, which are kept and need no simulation."""
        moves = sequence and self.options.encoding == "saccade"
        if not moves:
            scene = self._scene(self.task.source, "source", index)
            return self.encoder.still(scene, rng, augment=True, sequence=sequence)
        if self.options.takes:
            take = epoch % self.options.takes
            draws = generator(self.seed, index, take, 4)
            seen = self._kept.get(("take", index, take), partial(self._watch, index, draws))
        else:
            seen = self._watch(index, rng)
        return self.encoder.events(seen, rng, augment=True, frame=self.method.uses_pictures)

    def _watch(self, index: int, rng: np.random.Generator) -> EventScene:
        return self.encoder.watch(self._scene(self.task.source, "source", index), rng)

    def evaluation(self, split: str, *, window: str | None = None, batch_size: int = 100) -> Iterator[Batch]:
        """The windows of a split ("train", "unlabelled", "val", "test") or the held-out pictures ("source_val").

        Nothing is augmented; the draws of a picture's motion depend on its place in the sorted split alone.
        `event_target` is None where a window has no mask, `frame` where one has no picture.
        """
        if split not in SPLITS:
            raise ConfigError(f"Expected a split {', '.join(SPLITS)}, but got '{split}'.")
        _check_window(window or "full")
        items = getattr(self.task, split)
        for start in range(0, len(items), batch_size):
            rows = range(start, min(start + batch_size, len(items)))
            clips = [self._evaluated(split, items, i) for i in rows]
            names = tuple(items[i].name for i in rows)
            sequence, picture, mask = (stacked(clips, name) for name in ("sequence", "picture", "mask"))
            if split == "source_val":
                yield Batch(image=sequence, picture=picture, image_target=mask, names=names)
            else:
                yield Batch(events=sequence, frame=picture, event_target=mask, names=names)

    def _evaluated(self, split: str, items: Collection[Any], index: int) -> Clip:
        """One item without augmentation; those that training judges on again and again are kept."""

        def compute() -> Clip:
            rng = generator(0, 0, index, 3)
            scene = items.load(index)
            if split == "source_val" and self.options.encoding == "constant":
                return self.encoder.still(scene, rng, augment=False)
            if split == "source_val":
                scene = self.encoder.watch(scene, rng)
            return self.encoder.events(scene, rng, augment=False)

        return self._kept.get((split, index), compute) if split in ("val", "source_val") else compute()


def stacked(clips: list[Clip], name: str) -> torch.Tensor | None:
    """One tensor of all clips along a new first axis, masks as int64; None if a clip lacks it."""
    tensors = [getattr(clip, name) for clip in clips]
    if any(tensor is None for tensor in tensors):
        return None
    batch = torch.stack(tensors)
    return batch.long() if name == "mask" else batch


def _check_window(window: str) -> None:
    if window != "full":
        raise ConfigError(
            f"Expected the window full for scenes, whose masks belong to whole windows, but got '{window}'."
        )
