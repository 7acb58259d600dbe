"""Classes of the driving data sets, and the tables that merge one set of classes into another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import ConfigError, DataError
from evlift.masks import VOID

if TYPE_CHECKING:
    from torch import Tensor

CITYSCAPES_IDS = (
    *(
        "unlabeled",
        "ego vehicle",
        "rectification border",
        "out of roi",
        "static",
        "dynamic",
        "ground",
        "road",
    ),
    *("sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    *(
        "pole",
        "polegroup",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
    ),
    *("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
"""The 34 label ids of Cityscapes' `labelIds` pictures, in order."""

CITYSCAPES_19 = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
"""The 19 classes that Cityscapes trains and evaluates."""

DSEC_11 = (
    *("background", "building", "fence", "person", "pole", "road", "sidewalk", "vegetation", "car", "wall"),
    "traffic sign",
)
"""DSEC-Semantic's 11 classes: background is Cityscapes' sky, car is every vehicle, traffic sign also the lights."""

DDD17_6 = ("flat", "background", "object", "vegetation", "human", "vehicle")
"""Ev-SegNet's 6 classes of DDD17."""


@dataclass(frozen=True)
class ClassMap:
    """Merges the classes of one data set into those of another; 255 stays void.

    Example:
        >>> CLASS_MAPS["19-to-6"](np.array([[0, 1, 13, 255]], np.uint8)).tolist()
        [[0, 0, 5, 255]]

    Args:
        name: how it is asked for.
        source: names of the classes it takes.
        target: names of the classes it gives.
        table: for each source class the position of its target class, 255 for void.

    Raises:
        DataError: a table of another length than the source, or a position without a class.
    """

    name: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    table: tuple[int, ...]

    def __post_init__(self) -> None:
        wrong = [
            position for position in self.table if not (0 <= position < len(self.target) or position == VOID)
        ]
        if len(self.table) != len(self.source) or wrong:
            raise DataError(
                f"Expected a table with one of {len(self.target)} classes or 255 for each of {len(self.source)} in "
                f"the class map '{self.name}', but got {len(self.table)} entries and {wrong}."
            )

    @property
    def lookup(self) -> NDArray[np.uint8]:
        """uint8 [256], the new value of every old one; what is no source class becomes 255."""
        full = np.full(256, VOID, np.uint8)
        full[: len(self.table)] = self.table
        return full

    def __call__(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The mask uint8 [...] in target classes."""
        return self.lookup[mask]

    @property
    def matrix(self) -> NDArray[np.float32]:
        """float32 [K_from, K_to], 1 where a source class belongs to a target class; rows of void classes are 0."""
        merged = np.zeros((len(self.source), len(self.target)), np.float32)
        for old, new in enumerate(self.table):
            if new != VOID:
                merged[old, new] = 1
        return merged

    def merge(self, logits: Tensor) -> Tensor:
        """Logits [B, K_from, *S] → [B, K_to, *S]: log of the summed probabilities, void classes left out.

        Softmax over the result equals the probabilities of the merged classes, so that a teacher of the source
        classes teaches a student of the target classes.
        """
        import torch

        if logits.ndim < 2 or logits.shape[1] != len(self.source):
            raise ConfigError(
                f"Expected logits [B, {len(self.source)}, ...] for the class map '{self.name}', but got "
                f"{list(logits.shape)}. Give a teacher of these classes: {', '.join(self.source)}."
            )
        groups = [[old for old, new in enumerate(self.table) if new == k] for k in range(len(self.target))]
        log_p = torch.log_softmax(logits, dim=1)
        return torch.stack([log_p[:, group].logsumexp(dim=1) for group in groups], dim=1)

    def then(self, other: ClassMap) -> ClassMap:
        """This map followed by another.

        Raises:
            DataError: the other takes other classes than this gives.
        """
        if self.target != other.source:
            raise DataError(
                f"Expected '{other.name}' to take the classes that '{self.name}' gives ({', '.join(self.target)}), "
                f"but it takes {', '.join(other.source)}."
            )
        table = tuple(VOID if new == VOID else other.table[new] for new in self.table)
        return ClassMap(f"{self.name}+{other.name}", self.source, other.target, table)


def from_groups(
    name: str, source: Sequence[str], groups: Mapping[str, Sequence[str]], target: Sequence[str]
) -> ClassMap:
    """A map from the names of the source classes in each target class; what no group names becomes void.

    Raises:
        DataError: a target class without a group, or a name that the source does not have.
    """
    unknown = [old for members in groups.values() for old in members if old not in source]
    if set(groups) != set(target) or unknown:
        raise DataError(
            f"Expected a group of '{name}' for each of {list(target)} with classes of {list(source)}, but got groups "
            f"{list(groups)} and unknown classes {unknown}."
        )
    position = {old: list(target).index(new) for new, members in groups.items() for old in members}
    return ClassMap(name, tuple(source), tuple(target), tuple(position.get(old, VOID) for old in source))


_CITYSCAPES = from_groups(
    "cityscapes-19", CITYSCAPES_IDS, {new: (new,) for new in CITYSCAPES_19}, CITYSCAPES_19
)

_TO_11 = from_groups(  # source: ESS (released code)
    "19-to-11",
    CITYSCAPES_19,
    {
        **{new: (new,) for new in ("building", "fence", "pole", "road", "sidewalk", "wall")},
        "background": ("sky",),
        "person": ("person", "rider"),
        "vegetation": ("vegetation", "terrain"),
        "car": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
        "traffic sign": ("traffic light", "traffic sign"),
    },
    DSEC_11,
)

_TO_6 = from_groups(  # source: Ev-SegNet (released code)
    "19-to-6",
    CITYSCAPES_19,
    {
        "flat": ("road", "sidewalk"),
        "background": ("building", "wall", "fence", "sky"),
        "object": ("pole", "traffic light", "traffic sign"),
        "vegetation": ("vegetation", "terrain"),
        "human": ("person", "rider"),
        "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
    },
    DDD17_6,
)

_11_TO_6 = from_groups(  # decided here: the only way that agrees with the other two
    "11-to-6",
    DSEC_11,
    {
        "flat": ("road", "sidewalk"),
        "background": ("background", "building", "wall", "fence"),
        "object": ("pole", "traffic sign"),
        "vegetation": ("vegetation",),
        "human": ("person",),
        "vehicle": ("car",),
    },
    DDD17_6,
)

CLASS_MAPS: dict[str, ClassMap] = {each.name: each for each in (_CITYSCAPES, _TO_11, _TO_6, _11_TO_6)}


def class_map(name: Any) -> ClassMap:
    """A class map by its name.

    Raises:
        ConfigError: no such name; the message lists the known ones.
    """
    if name not in CLASS_MAPS:
        near = difflib.get_close_matches(str(name), CLASS_MAPS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"Unknown class map '{name}'.{hint} Known: {', '.join(CLASS_MAPS)}.")
    return CLASS_MAPS[name]
