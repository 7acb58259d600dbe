"""Charts as SVG: every value has its place, round numbers on the axes, names cannot break the markup."""

from __future__ import annotations

import re

import numpy as np
import pytest

from evlift.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, line_chart, thinned, ticks


def points_of(svg: str) -> list[tuple[float, float]]:
    (path,) = re.findall(r"class='line' d='M([^']+)'", svg)
    return [tuple(map(float, point.split())) for point in path.split("L")]


def test_points_lie_where_their_values_say():
    svg = line_chart({"a": ([0, 5, 10], [0.0, 1.0, 0.5])}, title="t", x="step", y="loss", limits=(0.0, 1.0))
    (x0, y0), (x1, y1), (x2, y2) = points_of(svg)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.1)
    assert y0 == pytest.approx(HEIGHT - BOTTOM)
    assert y1 == pytest.approx(TOP)
    assert y2 == pytest.approx((y0 + y1) / 2, abs=0.1)
    assert x0 > LEFT
    assert x2 < WIDTH - RIGHT


def test_names_are_escaped():
    svg = line_chart({"<b>&'": ([0, 1], [0, 1]), "other": ([0, 1], [1, 0])}, title="a'b", x="<x>", y="y")
    assert "<b>" not in svg
    assert "<x>" not in svg
    assert "a'b ends" not in svg
    assert svg.count("<li ") == 2


def test_what_is_not_finite_is_left_out_and_an_empty_chart_is_none():
    assert line_chart({"a": ([0, 1], [float("nan"), float("inf")])}, title="t", x="x", y="y") == ""
    assert line_chart({}, title="t", x="x", y="y") == ""
    assert thinned([0, 1, 2], [1.0, float("nan"), 3.0]) == ([0.0, 2.0], [1.0, 3.0])


def test_long_lines_are_thinned_to_means():
    xs, ys = thinned(range(10_000), np.linspace(0, 1, 10_000).tolist())
    assert len(xs) == 200
    assert np.mean(ys) == pytest.approx(0.5)
    assert thinned([1, 1, 2], [0.0, 1.0, 5.0]) == ([1.0, 2.0], [0.5, 5.0])


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 7), (0.95, 0.987), (0, 1500), (1e-6, 2e-6), (-5, -4.9)]
)
def test_ticks_are_few_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    assert np.allclose(np.diff(found), found[1] - found[0])


def test_whole_numbers_have_whole_ticks():
    assert ticks(0.9, 3.1, least=1.0) == [1.0, 2.0, 3.0]
