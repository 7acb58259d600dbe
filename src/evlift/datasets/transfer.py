"""From a task's pictures and recordings to batches: windows, encodings, augmentation, pairing.

Every random choice of a training step is drawn from generators seeded by (seed, step, row): step n gives the same
batch whenever, wherever and in whatever order it is asked for, so that an interrupted run resumes exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from evlift.augment import Geometry, RandomGeometry, drop_events
from evlift.datasets.base import Batch
from evlift.datasets.cache import Cache, cache_key
from evlift.datasets.draws import epoch_order, generator
from evlift.datasets.items import Images, Recordings
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream
from evlift.representations import Frames, fit_scale
from evlift.representations.base import resize
from evlift.simulate import Saccades

if TYPE_CHECKING:
    from evlift.config import InputOptions
    from evlift.datasets.task import TransferTask
    from evlift.methods.base import Method, Needs

FIRST_EVENTS = 300
SPLITS = ("train", "unlabelled", "val", "test", "source_val")


class Encoder:
    """Turns recordings and pictures into sequences [T, 2, H, W] by one rule.

    Args:
        options: window, steps, size, encoding, normalisation, augmentation.
        sensor_size: (H, W) of the recordings, which the simulated ones share.
        scale: the count that becomes 1 where ``normalise="quantile"``; see :meth:`fit`.
    """

    def __init__(
        self, options: InputOptions, sensor_size: tuple[int, int], scale: float | None = None
    ) -> None:
        self.options = options
        self.frames = Frames(steps=options.steps, size=options.size, crop_to_events=options.crop_to_events)
        self._geometry = RandomGeometry(
            flip=0.5 if options.flip else 0.0,
            rotation_deg=options.rotation,
            padding=options.shift,
            scale=(1 / (1 + options.zoom), 1 + options.zoom),
        )
        self._still = Geometry(options.size)
        self.scale = scale
        self.sensor_size = sensor_size
        if options.normalise != "quantile" or scale is not None:
            self.frames = replace(self.frames, normalise=options.normalise, scale=scale)
        if options.encoding == "saccade":
            _ = self._simulator  # refuses what cannot be simulated before any work starts

    @cached_property
    def _simulator(self) -> Saccades:
        """What sets pictures in motion where ``encoding="saccade"``."""
        return Saccades(
            motion=self.options.motion,
            sensor_size=self.sensor_size,
            negative=self.options.negative,
            **self.options.camera,
        )

    def fit(self, streams: Iterable[EventStream]) -> Encoder:
        """This encoder with its count scale fitted to full windows of the training recordings."""
        if self.options.normalise != "quantile":
            return self
        scale = fit_scale(self.frames, streams, self.options.quantile)
        return Encoder(self.options, self.sensor_size, scale)

    def simulate(self, picture: NDArray[np.uint8], rng: np.random.Generator) -> EventStream:
        """What the simulated camera records of a picture [H', W'(, 3)]; for ``encoding="saccade"``."""
        return self._simulator(value_of(picture), rng)

    @property
    def description(self) -> str:
        """Everything that shapes an unaugmented sequence, for cache keys."""
        moved = f"{Saccades.version}/{self._simulator!r}" if self.options.encoding == "saccade" else ""
        return f"{self.options.encoding}/{moved}/{self.sensor_size}/{self.frames.cache_key()}"

    def events(self, stream: EventStream, rng: np.random.Generator, *, augment: bool, window: str) -> Tensor:
        """[T, 2, H, W] frames of one window of a recording."""
        return self._events(stream, rng, augment=augment, window=window)[0]

    def picture(
        self, picture: NDArray[np.uint8], rng: np.random.Generator, *, augment: bool, window: str
    ) -> Tensor:
        """[T, 2, H, W] sequence of a still picture [H', W'] or [H', W', 3]: V of HSV repeated, or set in motion."""
        return self._sequence(picture, rng, augment=augment, window=window)[0]

    def pair(
        self, picture: NDArray[np.uint8], rng: np.random.Generator, *, augment: bool, window: str
    ) -> tuple[Tensor, Tensor]:
        """The sequence [T, 2, H, W] of a picture, and its :meth:`view` where it lay on average, under one geometry."""
        if self.options.encoding == "constant":
            sequence, geometry = self._sequence(picture, rng, augment=augment, window=window)
            return sequence, geometry(self.view(picture))
        stream, times, poses = self._simulator.record(value_of(picture), rng)
        read = select_window(self._thinned(stream, rng) if augment else stream, window, rng)
        sequence, geometry = self._moved(self.frames(read), rng, augment)
        shown = (times >= read.t[0]) & (times <= read.t[-1]) if len(read) else times >= 0
        place = poses[shown if shown.any() else slice(None), :2].mean(axis=0)
        return sequence, geometry(shifted(self.view(picture), place * self.options.size / self.sensor_size))

    def view(self, picture: NDArray[np.uint8]) -> Tensor:
        """[P, H, W] in 0..1: a picture [H', W'(, 3)] as large on the sensor as the simulator shows it, at rest."""
        shown = picture if picture.ndim == 3 else picture[:, :, None]
        if not self.options.colour and shown.shape[2] == 3:
            shown = shown @ np.array([[0.299], [0.587], [0.114]], np.float32)
        channels = 3 if self.options.colour else 1
        x = torch.from_numpy(shown.astype(np.float32) / 255).permute(2, 0, 1)  # [H', W', P] → [P, H', W']
        margin = 2 * self._simulator.margin
        fit = min((side - margin) / size for side, size in zip(self.sensor_size, x.shape[1:], strict=True))
        room = [
            max(1, round(size / side * fit * old))
            for size, side, old in zip(self.options.size, self.sensor_size, x.shape[1:], strict=True)
        ]
        x = resize(x, (room[0], room[1])).clamp(0, 1)
        top, left = ((size - old) // 2 for size, old in zip(self.options.size, room, strict=True))
        bottom, right = self.options.size[0] - room[0] - top, self.options.size[1] - room[1] - left
        x = pad(x, (left, right, top, bottom), mode="replicate")
        x = shifted(x, np.array([bottom - top, right - left]) / 2)  # an odd rest
        return x.expand(channels, *x.shape[1:]).contiguous()

    def _events(
        self, stream: EventStream, rng: np.random.Generator, *, augment: bool, window: str
    ) -> tuple[Tensor, Geometry]:
        stream = self._thinned(stream, rng) if augment else stream
        frames = self.frames(select_window(stream, window, rng))  # [T, 2, H, W]
        return self._moved(frames, rng, augment)

    def _thinned(self, stream: EventStream, rng: np.random.Generator) -> EventStream:
        """The stream less a random share of its events, if the recipe drops any."""
        if not self.options.drop:
            return stream
        return drop_events(stream, rng.uniform(0, self.options.drop), rng)

    def _sequence(
        self, picture: NDArray[np.uint8], rng: np.random.Generator, *, augment: bool, window: str
    ) -> tuple[Tensor, Geometry]:
        value = value_of(picture)
        if self.options.encoding == "saccade":
            return self._events(self.simulate(picture, rng), rng, augment=augment, window=window)
        still = resize(torch.from_numpy(value.astype(np.float32) / 255)[None], self.options.size)  # [1, H, W]
        still, geometry = self._moved(still, rng, augment)
        return still.expand(self.options.steps, 2, *still.shape[-2:]).contiguous(), geometry  # [T, 2, H, W]

    def moved(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        """Frames or a picture [..., H, W] under one random shift, flip, rotation and zoom."""
        return self._moved(frames, rng, augment=True)[0]

    def _moved(self, frames: Tensor, rng: np.random.Generator, augment: bool) -> tuple[Tensor, Geometry]:
        """One random shift, flip, rotation and zoom of all frames [..., H, W]; none without `augment`."""
        geometry = self._geometry.sample(rng, self.options.size) if augment else self._still
        return frames if geometry == self._still else geometry(frames), geometry


def value_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """V of HSV, the largest of R, G, B: [H, W, 3] → [H, W]; grey pictures [H, W] as they are."""
    return picture.max(axis=2) if picture.ndim == 3 else picture


def shifted(picture: Tensor, offset: NDArray[np.float64]) -> Tensor:
    """A picture [P, H, W] moved by `offset` (down, right) pixels, bilinear, edges repeated."""
    if not offset.any():
        return picture
    height, width = picture.shape[-2:]
    down, right = (float(value) for value in offset)
    turn = torch.tensor([[1, 0, -2 * right / width], [0, 1, -2 * down / height]], dtype=torch.float32)
    grid = affine_grid(turn[None], [1, *picture.shape], align_corners=False)
    return grid_sample(picture[None], grid, padding_mode="border", align_corners=False)[0]


def select_window(stream: EventStream, window: str, rng: np.random.Generator) -> EventStream:
    """The stretch of a recording that a network reads.

    Args:
        stream: a whole recording.
        window: "full"; "saccade": one third of its duration, at random; "first300": the first 300 events from the
            start of a random third on, also beyond its end where it has fewer; "mixed": one of these at random.
        rng: draws the third and, for "mixed", the kind.
    """
    if window == "mixed":
        window = str(rng.choice(["full", "saccade", "first300"]))
    if window == "full" or len(stream) == 0:
        return stream
    third = (stream.duration_us + 1) / 3
    start = int(stream.t[0] + third * rng.integers(3))
    if window == "saccade":
        return stream.between(start, int(start + third) + 1)
    if window == "first300":
        return stream.between(start, int(stream.t[-1]) + 1)[:FIRST_EVENTS]
    raise ConfigError(f"Expected a window full, saccade, first300 or mixed, but got '{window}'.")


class Feeder:
    """Batches of a task for a method, by step.

    Args:
        task: pictures and recordings with their splits.
        options: how they become sequences.
        method: says which sides it uses and how they are paired.
        batch_size: rows of a batch.
        seed: of every draw.
        encoder: the one of a finished run; default: fitted to the training recordings.
    """

    def __init__(
        self,
        task: TransferTask,
        options: InputOptions,
        method: Method | type[Method],
        *,
        batch_size: int,
        seed: int,
        encoder: Encoder | None = None,
    ) -> None:
        self.task, self.options, self.method = task, options, method
        self.batch_size, self.seed = batch_size, seed
        self._labelled = method.uses_event_labels and not method.semi_supervised
        self.recordings = task.train if self._labelled else task.unlabelled
        self._check()
        self._train_targets, self._source_targets = self.recordings.targets, task.source.targets
        self._cache = Cache(options.cache) if options.cache else None
        self._by_class = [np.flatnonzero(self._source_targets == c) for c in range(len(task.classes))]
        self.encoder = encoder or Encoder(options, task.sensor_size).fit(self._train)

    @cached_property
    def _train(self) -> list[EventStream]:
        """The training recordings, kept in memory; a label-free method gets the unlabelled ones."""
        return [self.recordings.load(i) for i in range(len(self.recordings))]

    def _check(self) -> None:
        """Refuse a task that cannot feed the method."""
        name = getattr(self.method, "__name__", type(self.method).__name__)
        if self.method.uses_events and len(self.recordings) == 0:
            raise DataError(f"{name} needs training recordings, but the task has none.")
        if self.method.semi_supervised and len(self.task.train) == 0:
            raise DataError(f"{name} with labels needs labelled recordings, but the task has none.")
        if (self.method.uses_images or self.method.uses_pictures) and len(self.task.source) == 0:
            raise DataError(f"{name} needs source pictures, but the task has none.")
        if getattr(self.method, "uses_frames", False):
            raise ConfigError(
                f"Expected data with aligned frames for {name} with method.mutual above 0, but got recordings of one "
                "class each. Set method.mutual to 0."
            )
        if self.options.crop_to_events and self.method.uses_images and self.method.uses_pictures:
            raise ConfigError(
                f"Expected input.crop_to_events to be false for {name}, whose pictures lie where their events do, but "
                "got true."
            )
        if self.method.pairing == "category":
            missing = sorted(set(self.task.train.targets) - set(self.task.source.targets))
            if missing:
                names = ", ".join(self.task.classes[c] for c in missing)
                raise DataError(
                    f"No source picture for the classes {names}: pairing by category needs one of each."
                )

    def batch(self, step: int, *, rows: range | None = None, needs: Needs = "all") -> Batch:
        """The batch of training step `step`, or some `rows` of it; `needs` as of a Phase."""
        rows = range(self.batch_size) if rows is None else rows
        positions = step * self.batch_size + np.array(rows)
        parts: dict[str, Any] = {}
        recordings = (
            epoch_order(positions, len(self._train), self.seed, stream=1) if self.method.uses_events else None
        )
        if recordings is not None and needs in ("all", "events"):
            parts |= self._event_side(recordings, step, rows)
            if self.method.semi_supervised:
                parts |= self._labelled_side(positions, step, rows)
        if (self.method.uses_images or self.method.uses_pictures) and needs != "events":
            generators = [generator(self.seed, step, row, 2) for row in rows]
            parts |= self._image_side(positions, recordings, generators, needs == "pictures")
        return Batch(**parts)

    def _event_side(self, chosen: NDArray[np.int64], step: int, rows: range) -> dict[str, Any]:
        clips = self._encoded([self._train[i] for i in chosen], [(step, row, 1) for row in rows])
        if not self._labelled:
            return {"events": clips} | ({"whole": self._whole(chosen)} if self.method.uses_whole else {})
        return {"events": clips, "event_target": torch.from_numpy(self._train_targets[chosen])}

    def _whole(self, chosen: NDArray[np.int64]) -> Tensor:
        """The unlabelled recordings from end to end, unaugmented, [B, T, 2, H, W]."""
        rng = generator(self.seed)  # a full window draws nothing
        return torch.stack(
            [self.encoder.events(self._train[i], rng, augment=False, window="full") for i in chosen]
        )

    def _labelled_side(self, positions: NDArray[np.int64], step: int, rows: range) -> dict[str, Any]:
        """As many labelled recordings as unlabelled ones."""
        chosen = epoch_order(positions, len(self._few), self.seed, stream=4)
        clips = self._encoded([self._few[i] for i in chosen], [(step, row, 4) for row in rows])
        return {"labelled": clips, "event_target": torch.from_numpy(self.task.train.targets[chosen])}

    @cached_property
    def _few(self) -> list[EventStream]:
        """The labelled recordings of a method that reads unlabelled ones beside them."""
        return [self.task.train.load(i) for i in range(len(self.task.train))]

    def _encoded(self, streams: list[EventStream], keys: list[tuple[int, ...]]) -> Tensor:
        """Augmented frames [B, T, 2, H, W], each by the draws of its key."""
        options: dict[str, Any] = {"augment": True, "window": self.options.window}
        drawn = zip(streams, keys, strict=True)
        return torch.stack(
            [self.encoder.events(s, generator(self.seed, *key), **options) for s, key in drawn]
        )

    def _image_side(
        self,
        positions: NDArray[np.int64],
        recordings: NDArray[np.int64] | None,
        generators: list[np.random.Generator],
        pictures_only: bool,
    ) -> dict[str, Any]:
        if self.method.pairing == "category" and recordings is not None:
            pools = (self._by_class[c] for c in self._train_targets[recordings])
            chosen = np.array([rng.choice(pool) for rng, pool in zip(generators, pools, strict=True)])
        else:
            chosen = epoch_order(positions, len(self.task.source), self.seed, stream=2)
        parts: dict[str, Any] = {"image_target": torch.from_numpy(self._source_targets[chosen])}
        if pictures_only or not self.method.uses_images:
            return parts | {
                "picture": torch.stack(
                    [self._view(int(i), rng) for i, rng in zip(chosen, generators, strict=True)]
                )
            }
        options: dict[str, Any] = {"augment": True, "window": self.options.window}
        pictures = ((self.task.source.load(int(i)), rng) for i, rng in zip(chosen, generators, strict=True))
        if not self.method.uses_pictures:
            return parts | {
                "image": torch.stack([self.encoder.picture(*drawn, **options) for drawn in pictures])
            }
        pairs = [self.encoder.pair(*drawn, **options) for drawn in pictures]
        return parts | {
            "image": torch.stack([a for a, _ in pairs]),
            "picture": torch.stack([b for _, b in pairs]),
        }

    def _view(self, index: int, rng: np.random.Generator) -> Tensor:
        """[P, H, W], an augmented source picture."""
        return self.encoder.moved(self.encoder.view(self.task.source.load(index)), rng)

    def evaluation(self, split: str, *, window: str | None = None, batch_size: int = 100) -> Iterator[Batch]:
        """The recordings of a split ("train", "unlabelled", "val", "test") or the held-out pictures ("source_val").

        Nothing is augmented; the draw of a short window depends on the sample's place in the sorted split alone.
        """
        if split not in SPLITS:
            raise ConfigError(f"Expected a split {', '.join(SPLITS)}, but got '{split}'.")
        window = window or ("full" if self.options.window == "mixed" else self.options.window)
        items = getattr(self.task, split)
        side = "image" if split == "source_val" else "events"
        for start in range(0, len(items), batch_size):
            rows = range(start, min(start + batch_size, len(items)))
            clips = [self._clip(items, i, window) for i in rows]
            target = torch.from_numpy(items.targets[rows.start : rows.stop])
            names = tuple(items[i].name for i in rows)
            if side == "events":
                yield Batch(events=torch.stack(clips), event_target=target, names=names)
                continue
            views = torch.stack([self.encoder.view(items.load(i)) for i in rows])
            yield Batch(image=torch.stack(clips), picture=views, image_target=target, names=names)

    def _clip(self, items: Images | Recordings, index: int, window: str) -> Tensor:
        """[T, 2, H, W], one item without augmentation, from the cache if the recipe names one."""
        encode = self.encoder.picture if isinstance(items, Images) else self.encoder.events

        def compute() -> NDArray[np.float32]:
            rng = generator(0, 0, index, 3)
            return encode(items.load(index), rng, augment=False, window=window).numpy()  # type: ignore[arg-type]

        if self._cache is None:
            return torch.from_numpy(compute())
        key = cache_key(items.fingerprint(index), self.encoder.description, window, index)
        return torch.from_numpy(self._cache.get(key, compute))
