"""Predictions on recordings, folders, pipes and files that are still being written, window by window."""

from evlift.streaming.predictions import MaskPrediction, Prediction
from evlift.streaming.running import Predictions, predict

__all__ = ["MaskPrediction", "Prediction", "Predictions", "predict"]
