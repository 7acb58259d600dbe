"""Line charts as SVG, whose colours follow the page's, dark or light; lines also differ by their dashes."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

Points = tuple[Sequence[float], Sequence[float]]

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 44
MOST_POINTS = 200
COLOURS = 6


def line_chart(
    lines: Mapping[str, Points],
    *,
    title: str,
    x: str,
    y: str,
    limits: tuple[float, float] | None = None,
    dots: bool = False,
    even: bool = False,
) -> str:
    """A figure of lines with its key and caption.

    Args:
        lines: name → (x, y); points that are not finite are left out, more than 200 are averaged in groups.
        title: the caption.
        x, y: what the axes show.
        limits: of y; default: of the values.
        dots: mark every point.
        even: draw the line y = x.

    Example:
        >>> "<svg" in line_chart({"a": ([0, 1], [2, 3])}, title="t", x="step", y="loss")
        True
    """
    kept = {name: thinned(*points) for name, points in lines.items()}
    kept = {name: points for name, points in kept.items() if points[0]}
    if not kept:
        return ""
    xs, ys = (np.concatenate([points[i] for points in kept.values()]) for i in (0, 1))
    x_range = limits if even and limits else _range(float(xs.min()), float(xs.max()))
    y_range = limits or _range(float(ys.min()), float(ys.max()))
    drawn = [_grid(x_range, y_range, x, y, whole=bool((xs == xs.round()).all()) and not even)]
    if even:
        drawn.append(_path([(v, v) for v in y_range], x_range, y_range, "even"))
    for place, (name, points) in enumerate(kept.items()):
        drawn.append(
            f"<g class='k{place % COLOURS}'><title>{html.escape(name)}</title>"
            + _path(list(zip(*points, strict=True)), x_range, y_range, "line")
            + (_dots(points, x_range, y_range) if dots else "")
            + "</g>"
        )
    ends = "; ".join(f"{name} ends at {points[1][-1]:.4g}" for name, points in kept.items())
    label = html.escape(f"{title} {y} over {x}: {ends}.", quote=True)
    return (
        f"<figure><svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{label}'>{''.join(drawn)}</svg>"
        f"{key(list(kept)) if len(kept) > 1 else ''}<figcaption>{html.escape(title)}</figcaption></figure>"
    )


def key(names: Sequence[str]) -> str:
    """The names of a chart's lines beside their colours."""
    rows = (f"<li class='k{i % COLOURS}'><i></i>{html.escape(name)}</li>" for i, name in enumerate(names))
    return f"<ul class='key'>{''.join(rows)}</ul>"


def thinned(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """The finite points by x, those of one x averaged, then in groups of neighbours down to 200."""
    points = np.array([p for p in zip(xs, ys, strict=True) if all(map(math.isfinite, p))], float).reshape(
        -1, 2
    )
    if not len(points):
        return [], []
    at, place = np.unique(points[:, 0], return_inverse=True)
    means = np.bincount(place, points[:, 1]) / np.bincount(place)
    groups = np.array_split(np.stack([at, means]), min(len(at), MOST_POINTS), axis=1)
    shown = np.array([group.mean(axis=1) for group in groups])
    return shown[:, 0].tolist(), shown[:, 1].tolist()


def _range(low: float, high: float) -> tuple[float, float]:
    if low == high:
        room = 0.1 * abs(low) or 1.0
        return low - room, high + room
    room = 0.04 * (high - low)
    return low - room, high + room


def _place(
    point: tuple[float, float], xs: tuple[float, float], ys: tuple[float, float]
) -> tuple[float, float]:
    across = (point[0] - xs[0]) / (xs[1] - xs[0])
    up = (point[1] - ys[0]) / (ys[1] - ys[0])
    return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _path(
    points: Sequence[tuple[float, float]], xs: tuple[float, float], ys: tuple[float, float], kind: str
) -> str:
    placed = (_place(point, xs, ys) for point in points)
    return f"<path class='{kind}' d='M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in placed) + "'/>"


def _dots(
    points: tuple[Sequence[float], Sequence[float]], xs: tuple[float, float], ys: tuple[float, float]
) -> str:
    placed = (_place(point, xs, ys) for point in zip(*points, strict=True))
    return "".join(f"<circle class='dot' cx='{a:.1f}' cy='{b:.1f}' r='3'/>" for a, b in placed)


def _grid(xs: tuple[float, float], ys: tuple[float, float], x: str, y: str, *, whole: bool) -> str:
    parts = []
    for value in ticks(*ys):
        _, at = _place((xs[0], value), xs, ys)
        parts.append(f"<line class='grid' x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{at:.1f}' y2='{at:.1f}'/>")
        parts.append(f"<text x='{LEFT - 6}' y='{at + 5:.1f}' text-anchor='end'>{value:.4g}</text>")
    for value in ticks(*xs, least=1.0 if whole else 0.0):
        at, _ = _place((value, ys[0]), xs, ys)
        parts.append(f"<text x='{at:.1f}' y='{HEIGHT - BOTTOM + 18}' text-anchor='middle'>{value:.5g}</text>")
    middle = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(
        f"<text x='{(WIDTH + LEFT) / 2}' y='{HEIGHT - 6}' text-anchor='middle'>{html.escape(x)}</text>"
        f"<text transform='translate(14 {middle}) rotate(-90)' text-anchor='middle'>{html.escape(y)}</text>"
    )
    return "".join(parts)


def ticks(low: float, high: float, *, most: int = 5, least: float = 0.0) -> list[float]:
    """Round numbers within a range, at most six, at least `least` apart."""
    rough = max((high - low) / most, least)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]
