"""Representations: from an event stream to the tensor that a network reads."""

from evlift.events.stream import EventStream
from evlift.representations.base import (
    REPRESENTATIONS,
    Normalisation,
    Representation,
    create_representation,
    fit_scale,
)
from evlift.representations.counts import Frames, Histogram, StackedHistogram
from evlift.representations.picture import Picture, render
from evlift.representations.surface import EvSegNet, TimeSurface
from evlift.representations.voxel import Voxel, voxel_grid

__all__ = [
    "REPRESENTATIONS",
    "EvSegNet",
    "Frames",
    "Histogram",
    "Normalisation",
    "Picture",
    "Representation",
    "StackedHistogram",
    "TimeSurface",
    "Voxel",
    "create_representation",
    "fit_scale",
    "render",
    "voxel_grid",
    "warm_up",
]


def warm_up() -> None:
    """Compile the kernels of all representations, or load them from numba's cache.

    The first call on a machine takes some seconds; without it the first event stream pays for them, perhaps
    inside a progress bar's first second.
    """
    stream = EventStream.empty((1, 1))
    for name in REPRESENTATIONS:
        REPRESENTATIONS[name]()(stream)
