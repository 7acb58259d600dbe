"""Representations: from an event stream to the tensor that a network reads."""

from evlift.representations.base import (
    REPRESENTATIONS,
    Normalisation,
    Representation,
    create_representation,
    fit_scale,
)
from evlift.representations.counts import Frames, Histogram, StackedHistogram

__all__ = [
    "REPRESENTATIONS",
    "Frames",
    "Histogram",
    "Normalisation",
    "Representation",
    "StackedHistogram",
    "create_representation",
    "fit_scale",
]
