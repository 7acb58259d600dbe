"""Named tasks: which pictures teach, which recordings train, and which ones judge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from evlift.datasets.items import Collection, Images, Item, Recordings, hash_of_text
from evlift.datasets.manifest import disjoint, fold_of_items, some, split_by_fold
from evlift.datasets.recognition import SENSOR_SIZE, digits, digits6789
from evlift.datasets.task import TransferTask, assemble
from evlift.errors import DataError
from evlift.events import EventStream
from evlift.registry import Registry

if TYPE_CHECKING:
    from evlift.simulate import Saccades

Pictures = TypeVar("Pictures", bound=Collection[Any])
SUITES = Registry("data suite")


def data_root(root: str | Path | None = None) -> Path:
    """The folder of data sets: `root`, else what ``EVLIFT_DATA`` names, else ``~/.local/share/evlift``.

    Raises:
        DataError: there is no such folder.
    """
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "evlift"
    folder = Path(root or os.environ.get("EVLIFT_DATA") or home)
    if not folder.is_dir():
        raise DataError(
            f"Expected a folder with data sets at {folder}, but there is none. Set the environment variable "
            "EVLIFT_DATA, or data.root in the recipe."
        )
    return folder


@SUITES.register("digits")
def digits_suite(
    *,
    root: str | None = None,
    fold: int = 0,
    labels_per_class: int | None = None,
    unlabelled: int | None = None,
    source: int = 20_000,
    leak: float = 0.0,
    label_seed: int = 0,
) -> TransferTask:
    """MNIST pictures → 1 000 real N-MNIST recordings, 600 / 200 / 200 in 5 folds by object.

    Args:
        root: folder with `mnist` and `nmnist`; default: EVLIFT_DATA.
        fold: 0 to 4.
        labels_per_class: labelled recordings a class; null for all.
        unlabelled: recordings without label; null for all of the training part.
        source: source pictures.
        leak: share of the test objects whose own pictures are among the source (an experiment on leaks).
        label_seed: which recordings are the labelled and the unlabelled ones.
    """
    return digits(
        data_root(root),
        fold=fold,
        k=labels_per_class,
        n_unlabelled=unlabelled,
        source=source,
        leak=leak,
        seed=label_seed,
    )


@SUITES.register("digits6789")
def digits6789_suite(
    *,
    root: str | None = None,
    fold: int = 0,
    labels_per_class: int | None = None,
    unlabelled: int | None = None,
    source: int = 20_000,
    leak: float = 0.0,
    label_seed: int = 0,
) -> TransferTask:
    """MNIST 6 to 9 → 1 600 real N-MNIST recordings, 600 / 200 / 800; options as in `digits`.

    Args:
        root: folder with `mnist` and `nmnist6789`; default: EVLIFT_DATA.
        fold: 0 to 7.
        labels_per_class: labelled recordings a class; null for all.
        unlabelled: recordings without label; null for all of the training part.
        source: source pictures.
        leak: share of the test objects whose own pictures are among the source (an experiment on leaks).
        label_seed: which recordings are the labelled and the unlabelled ones.
    """
    return digits6789(
        data_root(root),
        fold=fold,
        k=labels_per_class,
        n_unlabelled=unlabelled,
        source=source,
        leak=leak,
        seed=label_seed,
    )


@SUITES.register("folders")
def folders_suite(
    *,
    images: str,
    recordings: str,
    sensor_size: tuple[int, int] | None = None,
    fold: int = 0,
    labels_per_class: int | None = None,
    label_seed: int = 0,
) -> TransferTask:
    """Your own data: class folders of pictures and class folders of recordings, split 60 / 20 / 20 by recording.

    A picture and a recording of the same class and file name (without suffix) count as one object: pictures of objects
    that judge are left out of the source.

    Args:
        images: folder with one subfolder of pictures a class.
        recordings: folder with one subfolder of recordings a class, in any readable format.
        sensor_size: height and width; default: what the first recording says.
        fold: 0 to 4.
        labels_per_class: labelled recordings a class; null for all.
        label_seed: which recordings are the labelled ones.
    """
    from evlift.datasets.images import image_folder
    from evlift.datasets.recordings import recording_folder

    clips = recording_folder(recordings, sensor_size=sensor_size)
    return pair(image_folder(images), clips, sensor_size, fold, labels_per_class, label_seed=label_seed)


@SUITES.register("shards")
def shards_suite(
    *,
    images: str,
    recordings: str,
    sensor_size: tuple[int, int] | None = None,
    fold: int = 0,
    labels_per_class: int | None = None,
    label_seed: int = 0,
) -> TransferTask:
    """What `folders` reads, packed into shards on a disk or behind a URL: the same splits, the same batches.

    Args:
        images: shards of pictures, or a folder with one subfolder of pictures a class.
        recordings: shards of recordings, a folder or any URL that fsspec opens.
        sensor_size: height and width; default: what the first recording says.
        fold: 0 to 4.
        labels_per_class: labelled recordings a class; null for all.
        label_seed: which recordings are the labelled ones.
    """
    from evlift.datasets.images import image_folder
    from evlift.datasets.shards import has_index, open_shards

    found = open_shards(images) if has_index(images) else image_folder(images)
    clips = open_shards(recordings, sensor_size=sensor_size)
    for collection, kind in ((found, Images), (clips, Recordings)):
        if not isinstance(collection, kind):
            raise DataError(
                f"Expected data.images to hold pictures and data.recordings to hold recordings, but got {collection}."
            )
    return pair(found, clips, sensor_size, fold, labels_per_class, label_seed=label_seed)  # type: ignore[arg-type]


@SUITES.register("published")
def published_suite(
    *,
    images: str,
    recordings: str,
    root: str | None = None,
    sensor_size: tuple[int, int] | None = None,
    fold: int = 0,
    labels_per_class: int | None = None,
    label_seed: int = 0,
) -> TransferTask:
    """Published data sets in their own layouts, on the classes that both have, split 60 / 20 / 20 by object.

    Args:
        images: name of the picture set, for instance caltech101, omniglot, cep-dvs, mnist.
        recordings: name of the event set, for instance ncaltech101, n-omniglot, cep-dvs, nmnist.
        root: folder that holds both; default: EVLIFT_DATA.
        sensor_size: height and width; default: what the first recording says.
        fold: 0 to 4.
        labels_per_class: labelled recordings a class; null for all.
        label_seed: which recordings are the labelled ones.
    """
    from evlift.datasets import IMAGES, RECORDINGS

    folder = data_root(root)
    pictures, clips = IMAGES[images](folder), RECORDINGS[recordings](folder)
    shared = [name for name in clips.classes if name in pictures.classes]
    if len(shared) < 2:
        raise DataError(
            f"Expected '{images}' and '{recordings}' to share 2 classes or more, but they share {shared}."
        )
    pair_of = (pictures.restrict(shared), clips.restrict(shared))
    return pair(*pair_of, sensor_size, fold, labels_per_class, label_seed=label_seed)


def pair(
    pictures: Images,
    clips: Recordings,
    sensor_size: tuple[int, int] | None,
    fold: int,
    labels_per_class: int | None,
    *,
    label_seed: int,
) -> TransferTask:
    """A task of a picture set and a recording set; pictures of objects that judge are left out of the source."""
    for items in (pictures, clips):
        empty = [name for c, name in enumerate(items.classes) if not (items.targets == c).any()]
        if empty:
            raise DataError(
                f"Expected files in every class of '{items.name}', but got none in {', '.join(empty)}. Fill or delete "
                "such folders."
            )
    parts = split_by_fold(fold_of_items(clips, 5), fold)
    judged = clips.subset(np.concatenate([parts.val, parts.test]))
    return assemble(
        hold_out(disjoint(pictures, judged.object_ids), share=0.1),
        clips,
        parts,
        sensor_size=sensor_size or clips.load(0).sensor_size,
        labels_per_class=labels_per_class,
        seed=label_seed,
    )


def hold_out(pictures: Pictures, *, share: float) -> tuple[Pictures, Pictures]:
    """Pictures to learn from, and a share of them held out to choose on."""
    if len(pictures) < 2:
        raise DataError(
            f"Expected at least 2 source pictures of objects that do not judge, but got {len(pictures)}. Add pictures."
        )
    held_out = some(pictures, max(1, round(len(pictures) * share)))
    return disjoint(pictures, held_out.object_ids), held_out


@SUITES.register("simulated-digits")
def simulated_digits_suite(
    *, fold: int = 0, labels_per_class: int | None = None, recordings: int = 500, label_seed: int = 0
) -> TransferTask:
    """The 1 797 digits of scikit-learn: some become simulated recordings, the others teach.

    For a first run without any data set. The recordings are simulated by the fixed saccades of N-MNIST, from pictures
    that the source does not contain.

    Args:
        fold: 0 to 4.
        labels_per_class: labelled recordings a class; null for all.
        recordings: how many pictures become recordings (60 % train, 20 % val, 20 % test).
        label_seed: which recordings are the labelled ones.
    """
    from evlift.datasets.synthetic import sklearn_digits

    pictures = sklearn_digits()
    moved = some(pictures, recordings)
    clips = simulated_recordings(moved)
    return assemble(
        hold_out(disjoint(pictures, moved.object_ids), share=0.1),
        clips,
        split_by_fold(fold_of_items(clips, 5), fold),
        sensor_size=SENSOR_SIZE,
        labels_per_class=labels_per_class,
        seed=label_seed,
    )


def simulated_recordings(pictures: Images, simulator: Saccades | None = None) -> Recordings:
    """Recordings of still pictures moved by a simulator, N-MNIST's fixed saccades by default; equal at every call."""
    from evlift.simulate import Saccades

    simulator = simulator or Saccades(motion="nmnist", sensor_size=SENSOR_SIZE)
    position = {item.object_id: i for i, item in enumerate(pictures)}

    def read(item: Item) -> EventStream:
        seed = int(hash_of_text(item.object_id)[:8], 16)
        return simulator(pictures.load(position[item.object_id]), np.random.default_rng(seed))

    def fingerprint(item: Item) -> str:
        return hash_of_text(f"{simulator!r}/{pictures.fingerprint(position[item.object_id])}")

    return Recordings(f"simulated-{pictures.name}", pictures.classes, pictures.items, read, fingerprint)
