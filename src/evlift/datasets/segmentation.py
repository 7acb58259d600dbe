"""Named tasks with a label for every pixel."""

from __future__ import annotations

from evlift.datasets.digit_masks import digit_masks
from evlift.datasets.streets import streets
from evlift.datasets.suites import SUITES, data_root
from evlift.datasets.task import TransferTask


@SUITES.register("digit-masks")
def digit_masks_suite(
    *,
    root: str | None = None,
    fold: int = 0,
    unlabelled: int | None = None,
    source: int = 20_000,
    label_seed: int = 0,
) -> TransferTask:
    """Masks of tiled MNIST pictures → real N-MNIST windows of 50 ms, 2x2 to a scene, split by object as `digits`.

    Args:
        root: folder with `mnist` and `nmnist`, the latter with `registration.npz`; default: EVLIFT_DATA.
        fold: 0 to 4.
        unlabelled: recordings in the unlabelled scenes; null for all 600 of the training part.
        source: source pictures, four to a scene.
        label_seed: which recordings are the unlabelled ones.
    """
    return digit_masks(data_root(root), fold=fold, n_unlabelled=unlabelled, source=source, seed=label_seed)


@SUITES.register("streets")
def streets_suite(
    *, root: str | None = None, unlabelled: int | None = None, label_seed: int = 0
) -> TransferTask:
    """CamVid pictures → simulated events of other CamVid frames, moving crops of 192x144, 11 classes.

    Args:
        root: folder with `camvid`; default: EVLIFT_DATA.
        unlabelled: frames in the unlabelled windows; null for all of the target's training half.
        label_seed: which frames are the unlabelled ones.
    """
    return streets(data_root(root), n_unlabelled=unlabelled, seed=label_seed)
