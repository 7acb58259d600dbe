"""From what a sensor or camera saw to the view in which masks are given: rectification, homography, cut rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlift.errors import DataError
from evlift.events import EventStream


def rectify(stream: EventStream, mapping: NDArray[np.floating[Any]]) -> EventStream:
    """Events moved to the pixels nearest to where a map puts them; those that leave the sensor are dropped.

    Example:
        >>> y, x = np.mgrid[:4, :6]
        >>> rectify(EventStream.empty((4, 6)), np.stack([x, y], axis=-1)).sensor_size
        (4, 6)

    Args:
        stream: of a sensor (H, W).
        mapping: [H, W, 2], the new (x, y) of every pixel, as DSEC's `rectify_map`.

    Raises:
        DataError: a map of another size than the sensor's.

    Source: DSEC (released code); to the nearest pixel, decided here.
    """
    height, width = stream.sensor_size
    if mapping.shape != (height, width, 2):
        raise DataError(
            f"Expected a rectification map [{height}, {width}, 2] for this sensor, but got {list(mapping.shape)}."
        )
    moved = np.rint(mapping[stream.y, stream.x])  # [n, 2]
    inside = ((moved >= 0) & (moved < (width, height))).all(axis=1)
    x, y = moved[inside].astype(np.uint16).T
    return EventStream(stream.t[inside], x, y, stream.p[inside], (height, width))


def keep_rows(stream: EventStream, rows: int) -> EventStream:
    """The events of the top `rows` rows, on a sensor that has no others: without the car's own bonnet."""
    kept = stream[stream.y < rows]
    return EventStream(
        kept.t, kept.x, kept.y, kept.p, (min(rows, stream.sensor_size[0]), stream.sensor_size[1])
    )


def from_start(stream: EventStream, start_us: int) -> EventStream:
    """The same events with times counted from `start_us`."""
    return EventStream(stream.t - start_us, stream.x, stream.y, stream.p, stream.sensor_size)


def infinity_homography(calibration: Mapping[str, Any]) -> NDArray[np.float64]:
    """[3, 3], from pixels (x, y, 1) of the rectified left event camera to those of the rectified left frame camera.

    Exact for what is infinitely far away: the cameras stand beside each other, so near things stay off by the parallax.

    Args:
        calibration: DSEC's `cam_to_cam.yaml` as a dictionary.

    Raises:
        DataError: an entry is missing or of another shape.

    Source: DSEC (its maintainers' answer in issue 25).
    """
    try:
        cameras = [calibration["intrinsics"][f"camRect{k}"]["camera_matrix"] for k in (0, 1)]
        inner, outer = (_camera_matrix(each) for each in cameras)
        turns = calibration["extrinsics"]
        first, second = (np.array(turns[name], np.float64).reshape(3, 3) for name in ("R_rect0", "R_rect1"))
        between = np.array(turns["T_10"], np.float64).reshape(4, 4)[:3, :3]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"Expected camRect0, camRect1, R_rect0, R_rect1 and T_10 as in DSEC's cam_to_cam.yaml, but: {error!r}."
        ) from error
    return outer @ second @ between @ first.T @ np.linalg.inv(inner)


def _camera_matrix(values: Any) -> NDArray[np.float64]:
    fx, fy, cx, cy = (float(value) for value in values)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def warp(
    picture: NDArray[np.uint8], homography: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """A picture seen through a homography, bilinear; 0 where the picture has no pixel.

    Args:
        picture: uint8 [H, W] or [H, W, 3].
        homography: [3, 3], from pixels (x, y, 1) of the result to those of `picture`.
        size: (h, w) of the result.

    Returns:
        uint8 [h, w] or [h, w, 3].
    """
    y, x = np.mgrid[: size[0], : size[1]]
    found = np.stack([x, y, np.ones_like(x)], axis=-1) @ homography.T  # [h, w, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        at_x, at_y = found[..., 0] / found[..., 2], found[..., 1] / found[..., 2]
    height, width = picture.shape[:2]
    inside = (found[..., 2] > 0) & (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
    seen = np.zeros((*size, *picture.shape[2:]), np.uint8)
    seen[inside] = np.rint(_bilinear(picture, at_x[inside], at_y[inside]))
    return seen


def _bilinear(
    picture: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values [n] or [n, 3] at positions [n] inside the picture."""
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, bottom = np.minimum(left + 1, picture.shape[1] - 1), np.minimum(top + 1, picture.shape[0] - 1)
    fill = (slice(None), *[None] * (picture.ndim - 2))
    dx, dy = (x - left)[fill], (y - top)[fill]
    upper = picture[top, left] * (1 - dx) + picture[top, right] * dx
    lower = picture[bottom, left] * (1 - dx) + picture[bottom, right] * dx
    mixed: NDArray[np.float64] = upper * (1 - dy) + lower * dy
    return mixed
