"""How recordings of other sensors are best shown to a network: N-MNIST as larger sensors would have seen it.

    python benchmarks/framing.py RUN [--recordings 200] [--sensors 346x260,17x17] [--duration-ms 100] [--json FILE]

RUN is a finished run of the suite `digits`. Each recording of its val split is enlarged, put at a random place of a
larger sensor, and judged under every rule of `evlift evaluate --fit`. "dense": every event becomes up to 24, scattered
over the pixels and the 4 ms in which a sensor of that resolution would have seen it. "sparse": it lands on one of these
pixels. "multiplied": its coordinates are multiplied, so that neighbouring pixels never fire. Noise is Poisson on every
pixel; a hot pixel fires at 1 kHz. With --duration-ms each window of a recording is shown and counted by itself, as
`evlift predict` shows it, but for those of under 50 events.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np
import torch

from evlift.assembly import WindowEncoder, create_task, open_classifier
from evlift.augment import add_hot_pixels
from evlift.datasets.draws import generator
from evlift.events import EventStream
from evlift.simulate.noise import add_noise

FITS = ("auto", "cover", "letterbox", "stretch")
FEWEST = 50  # events of a window that is counted


@dataclass(frozen=True)
class Case:
    """A sensor, the share of its height that the recording fills, and what disturbs it."""

    size: tuple[int, int]
    share: float
    kind: str = "dense"
    noise_hz: float = 0.0
    hot: int = 0

    @property
    def sensor(self) -> str:
        """WxH."""
        return f"{self.size[1]}x{self.size[0]}"


CASES = (
    Case((260, 346), 1.0),
    Case((260, 346), 0.5),
    Case((260, 346), 0.25),
    Case((260, 346), 0.5, "sparse"),
    Case((260, 346), 0.5, "multiplied"),
    Case((260, 346), 0.5, "dense", 0.1, 5),
    Case((260, 346), 0.5, "dense", 1.0, 20),
    Case((260, 346), 0.5, "sparse", 0.1),
    Case((260, 346), 0.5, "multiplied", 0.1),
    Case((128, 128), 0.3, "dense", 0.1, 5),
    Case((720, 1280), 1.0),
    Case((720, 1280), 0.25),
    Case((720, 1280), 0.25, "dense", 0.1, 5),
    Case((720, 1280), 0.25, "dense", 0.5, 20),
    Case((17, 17), 1.0, "multiplied"),
)


def seen_by(stream: EventStream, case: Case, rng: np.random.Generator) -> EventStream:
    """The recording as the case's sensor would have seen it."""
    (height, width), own = case.size, stream.sensor_size[0]
    k = case.share * height / own
    k = max(1, int(k)) if case.kind == "multiplied" and k > 1 else k
    top, left = (int(rng.integers(0, max(1, side - int(k * own) + 1))) for side in case.size)
    copies = max(1, min(int(k * k), 24)) if case.kind == "dense" else 1
    t, x, y, p = (np.repeat(getattr(stream, name), copies) for name in "txyp")
    within = (0, 0) if case.kind == "multiplied" else rng.random((2, len(t)))
    y, x = ((c.astype(float) + o) * k for c, o in zip((y, x), within, strict=True))
    y, x = np.floor(y).astype(int) + top, np.floor(x).astype(int) + left
    if copies > 1:
        t = t + rng.integers(0, 4000, len(t))
    kept = (y < height) & (x < width)
    seen = EventStream.from_columns(t[kept], x[kept], y[kept], p[kept], sensor_size=case.size)
    span = {"start_us": int(seen.t[0]), "stop_us": int(seen.t[-1]) + 1}
    noisy = add_noise(seen, case.noise_hz, rng, **span) if case.noise_hz else seen
    return add_hot_pixels(noisy, case.hot, 1000, rng)


def main() -> None:
    """Judge every case under every rule."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--recordings", type=int, default=200)
    parser.add_argument("--sensors", help="these alone, WxH with commas between")
    parser.add_argument("--duration-ms", type=int, help="count windows of this length")
    parser.add_argument("--json")
    options = parser.parse_args()
    sensors = options.sensors.split(",") if options.sensors else [case.sensor for case in CASES]
    torch.set_num_threads(1)
    trained = open_classifier(options.run)
    val = create_task(trained.recipe).val
    numbers = range(0, len(val), max(1, len(val) // options.recordings))
    target = np.array([val[i].target for i in numbers])
    encoders = {fit: WindowEncoder(trained, fit) for fit in FITS}  # type: ignore[arg-type]
    print(trained.framing)
    print(f"{'case':64}" + "".join(f"{fit:>11}" for fit in FITS))
    rows = []
    for case in (case for case in CASES if case.sensor in sensors):
        streams = [seen_by(val.load(i), case, generator(0, i)) for i in numbers]
        if options.duration_ms:
            cut = [
                [w for w in stream.windows(duration_us=1000 * options.duration_ms) if len(w) >= FEWEST]
                for stream in streams
            ]
            streams = [window for windows in cut for window in windows]
            target = np.array([val[i].target for i, ws in zip(numbers, cut, strict=True) for _ in ws])
        said = {}
        for fit, encode in encoders.items():
            clips = torch.stack([encode(stream) for stream in streams])
            with torch.no_grad():
                logits = torch.cat([trained.network(part).logits.mean(1) for part in clips.split(50)])
            said[fit] = float((logits.argmax(1).numpy() == target).mean())
        rows.append({**asdict(case), "windows": len(streams), **said})
        print(f"{case!s:64}" + "".join(f"{value:11.3f}" for value in said.values()), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
