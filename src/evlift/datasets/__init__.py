"""Data sets: collections of pictures and recordings, split by object."""

from evlift.datasets import objects20, published, segmentation, synthetic
from evlift.datasets.images import IMAGES
from evlift.datasets.items import HIDDEN, Collection, Images, Item, Recordings
from evlift.datasets.manifest import (
    Manifest,
    check_disjoint,
    disjoint,
    dose,
    few_shot,
    fold_of_items,
    some,
    split_by_fold,
)
from evlift.datasets.recognition import digits, digits6789
from evlift.datasets.recordings import RECORDINGS
from evlift.datasets.task import TransferTask
from evlift.datasets.wrappers import (
    CategoryPairs,
    check_same_classes,
    draw_unpaired,
    hide_targets,
    with_few_labels,
)

__all__ = [
    "HIDDEN",
    "IMAGES",
    "RECORDINGS",
    "CategoryPairs",
    "Collection",
    "Images",
    "Item",
    "Manifest",
    "Recordings",
    "TransferTask",
    "check_disjoint",
    "check_same_classes",
    "digits",
    "digits6789",
    "disjoint",
    "dose",
    "draw_unpaired",
    "few_shot",
    "fold_of_items",
    "hide_targets",
    "objects20",
    "published",
    "segmentation",
    "some",
    "split_by_fold",
    "synthetic",
    "with_few_labels",
]
