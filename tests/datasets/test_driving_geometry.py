"""Geometry and files of the driving sets: rectification, homography, cut rows, masks, sampled hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import layouts_driving as layouts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlift.datasets.driving.files import read_mask, sampled_hash
from evlift.datasets.driving.geometry import infinity_homography, keep_rows, rectify, warp
from evlift.errors import DataError
from evlift.events import EventStream


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(-12, 12), st.integers(-12, 12))
def test_rectification_by_a_shift_is_that_shift(seed: int, dx: int, dy: int) -> None:
    stream = layouts.events(seed, 200, 1000, (30, 40))
    y, x = np.mgrid[:30, :40]
    moved = rectify(stream, np.stack([x + dx + 0.3, y + dy - 0.3], axis=-1))
    there_x, there_y = stream.x.astype(int) + dx, stream.y.astype(int) + dy
    kept = (there_x >= 0) & (there_x < 40) & (there_y >= 0) & (there_y < 30)
    expected = EventStream.from_columns(
        stream.t[kept], there_x[kept], there_y[kept], stream.p[kept], sensor_size=(30, 40)
    )
    assert moved == expected


def test_an_identity_map_changes_nothing_and_a_wrong_one_is_refused() -> None:
    stream = layouts.events(1, 500, 1000, (480, 640))
    assert rectify(stream, layouts.rectify_map()) == stream
    assert rectify(EventStream.empty((480, 640)), layouts.rectify_map()) == EventStream.empty((480, 640))
    with pytest.raises(DataError, match=r"\[480, 640, 2\].*\[480, 640\]"):
        rectify(stream, layouts.rectify_map()[..., 0])


def test_cut_rows_are_the_lower_ones() -> None:
    stream = layouts.events(2, 500, 1000, (260, 346))
    cut = keep_rows(stream, 200)
    assert cut.sensor_size == (200, 346)
    assert len(cut) == int((stream.y < 200).sum())
    assert int(cut.y.max()) < 200
    assert keep_rows(stream, 300) == stream


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3)])
def test_warping_by_nothing_and_by_a_shift(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(warp(picture, np.eye(3), (30, 40)), picture)
    shift = np.array([[1.0, 0, 5], [0, 1, -3], [0, 0, 1]])
    moved = warp(picture, shift, (30, 40))
    assert np.array_equal(moved[3:, :35], picture[:-3, 5:])
    assert not moved[:3].any()
    assert not moved[:, 35:].any()
    half = warp(picture, np.array([[1.0, 0, 0.5], [0, 1, 0], [0, 0, 1]]), (30, 39))
    between = (picture[:, :-1].astype(float) + picture[:, 1:]) / 2
    assert np.abs(half - between).max() <= 0.5


def test_warping_by_a_turn_agrees_with_scipy() -> None:
    from scipy.ndimage import map_coordinates

    picture = np.random.default_rng(1).integers(0, 256, (50, 60), dtype=np.uint8)
    turned = np.array([[0.9, -0.2, 12], [0.15, 0.95, -3], [0.0005, -0.0003, 1.0]])
    y, x = np.mgrid[:40, :45]
    at = turned @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    expected = map_coordinates(picture.astype(float), [at[1] / at[2], at[0] / at[2]], order=1, cval=np.nan)
    seen = warp(picture, turned, (40, 45)).ravel()
    inside = ~np.isnan(expected)
    assert inside.mean() > 0.3
    assert np.abs(seen[inside] - expected[inside]).max() <= 0.5 + 1e-6
    assert not seen[~inside].any()


def test_the_homography_carries_far_points_from_one_camera_to_the_other() -> None:
    """A point at great distance, projected through DSEC's chain of transforms step by step."""
    from scipy.spatial.transform import Rotation

    turn = [
        Rotation.from_euler("xyz", angles).as_matrix()
        for angles in ((0.02, -0.01, 0.03), (0.01, 0.02, -0.02))
    ]
    between = np.eye(4)
    between[:3, :3] = Rotation.from_euler("xyz", (0.01, 0.005, -0.01)).as_matrix()
    between[:3, 3] = (0.05, 0.01, 0.0)
    calibration = {
        "intrinsics": layouts.CALIBRATION["intrinsics"],
        "extrinsics": {"R_rect0": turn[0].tolist(), "R_rect1": turn[1].tolist(), "T_10": between.tolist()},
    }
    rectified0 = np.array([0.2, -0.1, 1.0]) * 1e7  # m, in the rectified event camera
    camera0 = turn[0].T @ rectified0
    camera1 = (between @ np.append(camera0, 1))[:3]
    rectified1 = turn[1] @ camera1

    def project(point: Any, fx: float, fy: float, cx: float, cy: float) -> Any:
        return np.array([fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy])

    pixels = [
        project(point, *layouts.CALIBRATION["intrinsics"][f"camRect{k}"]["camera_matrix"])
        for k, point in enumerate((rectified0, rectified1))
    ]
    found = infinity_homography(calibration) @ np.append(pixels[0], 1)
    assert np.allclose(found[:2] / found[2], pixels[1], atol=1e-3)
    with pytest.raises(DataError, match="camRect0"):
        infinity_homography({"intrinsics": {}})


def test_masks_are_read_from_grey_palette_and_equal_channels(tmp_path: Path) -> None:
    from PIL import Image

    values = layouts.mask(3, (40, 60), 6)
    layouts.save(tmp_path / "grey.png", values)
    layouts.save(tmp_path / "rgb.png", np.repeat(values[..., None], 3, axis=2))
    palette = Image.fromarray(values).convert("P")
    palette.putdata(values.ravel().tolist())
    palette.save(tmp_path / "palette.png")
    for name in ("grey", "rgb", "palette"):
        assert np.array_equal(read_mask(tmp_path / f"{name}.png"), values), name
    layouts.save(tmp_path / "colours.png", np.random.default_rng(0).integers(0, 9, (4, 4, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="Turn colours"):
        read_mask(tmp_path / "colours.png")


def test_a_sampled_hash_sees_size_and_spread_content(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 1_000_000, dtype=np.uint8)
    prints = set()
    for k, change in enumerate((None, 0, 999_999, 500)):
        copy = data.copy()
        if change is not None:
            copy[change] ^= 1
        (tmp_path / f"{k}.bin").write_bytes(copy.tobytes())
        prints.add(sampled_hash(tmp_path / f"{k}.bin"))
    (tmp_path / "longer.bin").write_bytes(data.tobytes() + b"0")
    prints.add(sampled_hash(tmp_path / "longer.bin"))
    assert len(prints) == 5
