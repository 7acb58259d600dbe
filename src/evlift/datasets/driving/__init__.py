"""Driving data sets for segmentation in their published layouts."""

from evlift.datasets.driving.cityscapes import cityscapes
from evlift.datasets.driving.ddd17 import ddd17, ddd17_raw
from evlift.datasets.driving.dsec import dsec
from evlift.datasets.driving.mvsec import mvsec

__all__ = ["cityscapes", "ddd17", "ddd17_raw", "dsec", "mvsec"]
