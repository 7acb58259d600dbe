"""Networks before cameras and things that they have never met: digits of other sensors and motions, and strangers.

    python benchmarks/unseen.py [PACK ...] [--each 20] [--json FILE]

Digits are test pictures of MNIST, which taught no network, simulated for each sensor and motion. Strangers are
photographs of Caltech101, simulated for N-MNIST's sensor, and the real recordings of POKER-DVS. Each network is judged
as by `evlift evaluate PACK --data recordings:FOLDER --unknown-below auto`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import evlift
from evlift.datasets import Images
from evlift.datasets.draws import generator
from evlift.datasets.images import caltech101, mnist
from evlift.datasets.suites import data_root
from evlift.simulate import Saccades

PACKS = ("digits-lift", "digits-evdistill", "digits-tmkt-scnn")
CAMERAS = {
    "34x34, affine": Saccades(motion="affine", negative=False),
    "128x128, random3": Saccades(sensor_size=(128, 128), margin=12, negative=False),
    "128x128, pan": Saccades(motion="pan", sensor_size=(128, 128), margin=12, negative=False),
    "346x260, shake": Saccades(motion="shake", sensor_size=(260, 346), margin=24, negative=False),
}
STRANGER = Saccades(negative=False)


def chosen(pictures: Images, each: int) -> list[tuple[str, int]]:
    """Class and number of the first `each` pictures of each class."""
    targets = np.asarray(pictures.targets)
    return [
        (pictures.classes[c], int(i))
        for c in range(len(pictures.classes))
        for i in np.flatnonzero(targets == c)[:each]
    ]


def simulated(pictures: Images, camera: Saccades, each: int, folder: Path) -> Path:
    """Class folders of recordings of the first `each` pictures of each class."""
    for name, i in chosen(pictures, each):
        evlift.write_events(folder / name / f"{i}.dat", camera(pictures.load(i), generator(0, i)))
    return folder


def judged(pack: str, known: dict[str, Path], strangers: dict[str, Path]) -> dict[str, Any]:
    """Accuracy for each camera, and what the pack's own threshold makes of digits and strangers."""
    threshold = evlift.open_run(pack).threshold("auto")
    found: dict[str, Any] = {}
    for name, folder in known.items():
        evaluated = evlift.evaluate_recordings(pack, folder)
        kept = float((evaluated.confidence.calibrated >= threshold).mean())
        found[name] = {"accuracy": evaluated.evaluation.metrics.accuracy, "kept": kept}
    for name, folder in strangers.items():
        # recordings of no known class have a say in the confidence alone: one digit makes the folder judgeable
        confidence = evlift.evaluate_recordings(pack, folder).confidence
        found[name] = {"called unknown": float((confidence.unknown < threshold).mean())}
    return found


def main() -> None:
    """Judge every pack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packs", nargs="*", default=PACKS)
    parser.add_argument("--each", type=int, default=20, help="digits a class (default: %(default)s)")
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root, rows = data_root(), {}
    digits, photographs = mnist(root / "mnist", "test"), caltech101(root, folder="caltech101_20")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        known = {
            name: simulated(digits, camera, options.each, work / name) for name, camera in CAMERAS.items()
        }
        strangers = {
            "photographs": simulated(photographs, STRANGER, 10, work / "photographs"),
            "POKER-DVS": work / "poker",
        }
        for path in sorted((root / "poker_dvs_train").rglob("*.npy")):
            copy = work / "poker" / path.parent.name / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
        for folder in strangers.values():
            simulated(digits, STRANGER, 1, folder)
        for pack in options.packs:
            rows[pack] = judged(pack, known, strangers)
            print(pack, json.dumps(rows[pack], indent=1), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
