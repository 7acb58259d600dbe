"""Recordings from files: what an event camera would have recorded of a picture, a folder of pictures or a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, DataError
from evlift.events.stream import EventStream
from evlift.files import files_below, mirrored
from evlift.simulate.camera import EventCamera
from evlift.simulate.fit import Fit, fit
from evlift.simulate.motions import MOTIONS
from evlift.simulate.saccades import Saccades
from evlift.simulate.video import VIDEO_EXTENSIONS, Video, simulate_video
from evlift.wording import counted

PICTURE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
SENSOR = (180, 240)  # a DAVIS240's
FIT_RECORDINGS, FIT_PICTURES, FIT_FRAMES = 100, 50, 60  # that a fit looks at
OF_PICTURES = {
    "motion": "--motion",
    "duration_us": "--duration-ms",
    "step_us": "--step-ms",
    "amplitude_px": "--amplitude-px",
    "margin": "--margin",
    "negative": "--negative",
}
"""Arguments, and options of the command line, that say how pictures move: a video moves by itself."""
FITTED = ("threshold", "imbalance", "noise_hz", "leak_hz")

Report = Callable[[int, int | None], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Written:
    """Number of recordings and of events that were written, and the fit if there was one."""

    recordings: int
    events: int
    fit: Fit | None


@dataclass(frozen=True, kw_only=True)
class FileSimulator:
    """Writes simulated recordings of a picture, of a folder of pictures, or of a video.

    Example:
        >>> FileSimulator(motion="pan", seed=1)("pictures", "recordings")  # doctest: +SKIP

    Args:
        motion: of pictures, a name from `MOTIONS`.
        sensor_size: (H, W); default 180x240 for pictures and a video's own size.
        duration_us: of a picture's recording.
        step_us: time between two rendered frames of a picture.
        amplitude_px: extent of a picture's motion; default 4.5 to 6.7.
        margin: pixels around a picture on the sensor.
        negative: show pictures as negatives.
        fps: frames a second of a video, where the file does not say or says otherwise.
        camera: values of `threshold`, `noise_hz` and other options of :class:`EventCamera` in place of their ranges.
        fit_to: recording, or folder of recordings, whose noise, ON/OFF ratio and rate the simulated ones get.
        format: of the recordings; default by the extension of the output, HDF5 in a folder.
        overwrite: write even where a file is already.
        seed: a picture's events depend on it and on the picture's place in its folder, not on the other pictures.

    Raises:
        ConfigError: an unknown motion or format, an output inside of the input, or an argument that does not apply to
            pictures or to videos.
        DataError: nothing to read, a file that is no picture, recording or video, or an output that is there already.
        FormatError: a format that cannot hold these events.
    """

    motion: str = "random3"
    sensor_size: tuple[int, int] | None = None
    duration_us: int = 300_000
    step_us: int = 5_000
    amplitude_px: float | None = None
    margin: int = 0
    negative: bool = False
    fps: float | None = None
    camera: Mapping[str, float | None] = field(default_factory=dict)
    fit_to: str | Path | None = None
    format: str | None = None
    overwrite: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        MOTIONS[self.motion]
        if not 0 < self.step_us <= self.duration_us:
            raise ConfigError(
                f"Expected 0 < step <= duration, but got steps of {self.step_us} µs in {self.duration_us} µs. "
                "Give a shorter --step-ms (in Python: step_us=)."
            )
        fitted = [name for name in FITTED if self.camera.get(name) is not None]
        if self.fit_to is not None and fitted:
            raise ConfigError(
                f"Expected either a recording to fit or values, but got both for {', '.join(fitted)}. Leave one out."
            )

    def __call__(self, source: str | Path, out: str | Path, report: Report | None = None) -> Written:
        """Write `out`, a recording, or a folder of them where `source` is one or `out` is one already.

        `report(done, total)` is called after each picture or frame. Each file appears only when it is whole.
        """
        source, out, tell = Path(source), Path(out), report or _silent
        if not source.exists():
            raise DataError(f"Expected a picture, a folder or a video, but there is no '{source}'.")
        if source.is_file() and source.suffix.lower() in VIDEO_EXTENSIONS:
            self._refuse_for("a video, which moves by itself", OF_PICTURES)
            return self._video(source, out, tell)
        self._refuse_for("pictures, whose frames come every --step-ms", {"fps": "--fps"})
        return self._pictures(source, out, tell)

    def _refuse_for(self, what: str, options: Mapping[str, str]) -> None:
        given = [
            option for name, option in options.items() if getattr(self, name) != getattr(type(self), name)
        ]
        if given:
            raise ConfigError(f"Expected no {', '.join(given)} for {what}, but got it. Leave it out.")

    def _free(self, targets: Sequence[Path]) -> None:
        there = [] if self.overwrite else [target for target in targets if target.exists()]
        if there:
            more = f" and {counted(len(there) - 1, 'more file')}" if len(there) > 1 else ""
            raise DataError(
                f"Expected nothing at '{there[0]}'{more}, but it is there already. Name another output, or give "
                "--overwrite (in Python: overwrite=True) to replace it."
            )

    def _pictures(self, source: Path, out: Path, tell: Report) -> Written:
        jobs = self._jobs(source, out)
        self._free([target for _, target in jobs])
        simulator, found = self._saccades(), None
        if self.fit_to is not None:
            some = [read_grey(path) for path, _ in _spread(jobs, FIT_PICTURES)]
            found = fit(_recordings(Path(self.fit_to)), some, simulator=simulator, seed=self.seed)
            simulator = found.simulator
        events = 0
        for done, (path, target) in enumerate(jobs, 1):
            name = path.relative_to(source).as_posix() if source.is_dir() else path.name
            rng = np.random.default_rng([self.seed, crc32(name.encode())])
            stream = simulator(read_grey(path), rng)
            self._write(target, stream)
            events += len(stream)
            tell(done, len(jobs))
        return Written(len(jobs), events, found)

    def _video(self, source: Path, out: Path, tell: Report) -> Written:
        target = self._target(source, out)
        self._free([target])
        video = Video(source, self.fps)
        rate, length = video.rate(), video.length()
        camera, found, events = self._with_values(EventCamera()), None, 0
        if self.fit_to is not None:
            frames = list(islice(video, FIT_FRAMES))
            times = [round(k * 1e6 / rate) for k in range(len(frames))]
            found = fit(
                _recordings(Path(self.fit_to)), frames, simulator=camera, times_us=times, seed=self.seed
            )
            camera = found.simulator

        def shown() -> Iterator[NDArray[np.uint8]]:
            for done, frame in enumerate(video, 1):
                yield frame
                tell(done, length)

        def watched() -> Iterator[EventStream]:
            nonlocal events
            rng = np.random.default_rng(self.seed)
            for window in simulate_video(shown(), rng, fps=rate, camera=camera, sensor_size=self.sensor_size):
                events += len(window)
                yield window

        self._write(target, watched())
        return Written(1, events, found)

    def _saccades(self) -> Saccades:
        """Pictures as they are, upright and filling the sensor."""
        usual: dict[str, Any] = {name: getattr(EventCamera, name) for name in ("black", "gamma", "noise_hz")}
        if self.amplitude_px is not None:
            usual["amplitude_px"] = (self.amplitude_px, self.amplitude_px)
        return self._with_values(
            Saccades(
                motion=self.motion,
                sensor_size=self.sensor_size or SENSOR,
                duration_us=self.duration_us,
                step_us=self.step_us,
                margin=self.margin,
                negative=self.negative,
                rotation_deg=0.0,
                scale=(1.0, 1.0),
                shear=0.0,
                **usual,
            )
        )

    def _with_values(self, simulator: Any) -> Any:
        return replace(
            simulator, **{name: (value, value) for name, value in self.camera.items() if value is not None}
        )

    def _jobs(self, source: Path, out: Path) -> list[tuple[Path, Path]]:
        """(picture, recording) of everything to do."""
        if source.is_file():
            return [(source, self._target(source, out))]
        return mirrored(source, out, PICTURE_EXTENSIONS, self._extension(), what="pictures")

    def _target(self, source: Path, out: Path) -> Path:
        return out / (source.stem + self._extension()) if out.is_dir() else out

    def _extension(self) -> str:
        from evlift.events.writers import WRITERS

        writer: Any = WRITERS[self.format or "dsec"]
        return str((*writer.extensions, ".raw")[0])  # EVT2 shares `.raw` with EVT3

    def _write(self, target: Path, events: EventStream | Iterator[EventStream]) -> None:
        from evlift.events.writers import write_events

        write_events(target, events, format=self.format)


def read_grey(path: Path) -> NDArray[np.uint8]:
    """A picture file as grey uint8 [H, W], upright.

    Raises:
        DataError: no picture that Pillow reads.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            if picture.mode.startswith("I;16"):  # Pillow's conversion would cut at 255 instead of scaling
                return (np.asarray(picture) >> 8).astype(np.uint8)
            return np.asarray(ImageOps.exif_transpose(picture).convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"Expected '{path}' to be a picture or a video, but: {error}.") from error


def _recordings(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = files_below(path)
    if not found:
        raise DataError(f"Expected recordings below '{path}', but found none.")
    return _spread(found, FIT_RECORDINGS)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many items, evenly taken."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]


def _silent(done: int, total: int | None) -> None:
    pass
