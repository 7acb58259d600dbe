"""Pages and figures of runs: `evlift report`, and what the demo and the suites share of it."""

from evlift.report.figures import (
    ROW_HEADER,
    accuracy_row,
    curves_figure,
    new_figure,
    per_step_figure,
    plain,
    predictions_figure,
    sequence_figure,
)
from evlift.report.page import Page
from evlift.report.write import write_report

__all__ = [
    "ROW_HEADER",
    "Page",
    "accuracy_row",
    "curves_figure",
    "new_figure",
    "per_step_figure",
    "plain",
    "predictions_figure",
    "sequence_figure",
    "write_report",
]
