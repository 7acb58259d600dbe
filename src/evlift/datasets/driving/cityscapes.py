"""Cityscapes: street pictures with a class for every pixel, the labelled source of the driving sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlift.datasets.class_maps import CLASS_MAPS, ClassMap
from evlift.datasets.driving.files import path_of, read_mask, sampled_hash
from evlift.datasets.images import read_picture
from evlift.datasets.items import Item, hash_of_text, missing, require, sorted_files, sorted_folders
from evlift.datasets.scenes import Scene, SceneImages
from evlift.errors import ConfigError, DataError

SOURCE = "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip)"
PICTURE, LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"


def cityscapes(
    root: Path | str,
    split: str = "train",
    *,
    classes: int = 19,
    size: tuple[int, int] | None = None,
    rows: int | None = None,
) -> SceneImages:
    """Cityscapes from ``root/cityscapes/{leftImg8bit,gtFine}/<split>/<city>/``, 1024x2048, RGB.

    The object id is the city and its sequence, ``cityscapes/<city>/<sequence>``.

    Example:
        >>> cityscapes("data", classes=6, size=(256, 512)).classes  # doctest: +SKIP
        ('flat', 'background', 'object', 'vegetation', 'human', 'vehicle')

    Args:
        root: folder of data sets.
        split: train or val; the test split has no public labels.
        classes: 19, 11 (those of DSEC-Semantic) or 6 (those of DDD17).
        size: height and width to resize to; None leaves 1024x2048.
        rows: rows kept from the top after that, without the car's own bonnet; None for all.

    Raises:
        DataError: a missing folder or label file, named with where it belongs and comes from.
        ConfigError: another number of classes.
    """
    if split not in ("train", "val"):
        raise DataError(f"Expected the split of Cityscapes to be 'train' or 'val', but got '{split}'.")
    read = partial(_read, classes=_class_map(classes), size=size, rows=rows)
    base = require(root, ("cityscapes",), data_set="cityscapes", source=SOURCE)
    folders = [
        require(base, (f"{part}/{split}",), data_set="cityscapes", source=SOURCE)
        for part in ("leftImg8bit", "gtFine")
    ]
    items = [
        _item(file, folders[1])
        for city in sorted_folders(folders[0])
        for file in sorted_files(city, (".png",))
        if file.name.endswith(PICTURE)
    ]
    if not items:
        raise DataError(
            f"Expected pictures '{folders[0]}/<city>/*{PICTURE}', but found none. They come from {SOURCE}."
        )
    fingerprint = partial(_fingerprint, options=f"{classes}/{size}/{rows}")
    return SceneImages(f"cityscapes-{split}", _class_map(classes).target, items, read, fingerprint)


def _class_map(classes: int) -> ClassMap:
    whole = CLASS_MAPS["cityscapes-19"]
    if classes == 19:
        return whole
    if classes not in (6, 11):
        raise ConfigError(f"Expected 19, 11 or 6 `classes` of Cityscapes, but got {classes}.")
    return whole.then(CLASS_MAPS[f"19-to-{classes}"])


def _item(picture: Path, labels: Path) -> Item:
    name = picture.name.removesuffix(PICTURE)
    label = _label_of(picture)
    if not label.is_file():
        raise missing(labels / picture.parent.name / label.name, data_set="cityscapes", source=SOURCE)
    return Item(name, -1, f"cityscapes/{'/'.join(name.split('_')[:2])}", picture)


def _label_of(picture: Path) -> Path:
    city, split = picture.parent, picture.parent.parent
    return (
        split.parent.parent
        / "gtFine"
        / split.name
        / city.name
        / f"{picture.name.removesuffix(PICTURE)}{LABEL}"
    )


def _read(item: Item, *, classes: ClassMap, size: tuple[int, int] | None, rows: int | None) -> Scene:
    picture, mask = read_picture(item), read_mask(_label_of(path_of(item)))
    if size is not None and size != mask.shape:
        picture, mask = resized(picture, size, smooth=True), resized(mask, size, smooth=False)
    return Scene(picture[:rows], classes(mask)[:rows])


def resized(array: NDArray[np.uint8], size: tuple[int, int], *, smooth: bool) -> NDArray[np.uint8]:
    """A picture, or with smooth=False a mask, uint8 [H, W(, 3)] → [h, w(, 3)]."""
    from PIL import Image

    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.array(Image.fromarray(array).resize((size[1], size[0]), how))


def _fingerprint(item: Item, *, options: str) -> str:
    return hash_of_text(f"{sampled_hash(path_of(item))}/{sampled_hash(_label_of(path_of(item)))}/{options}")
