"""Embedded pictures are what they show."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from evlift.engine.pictures import palette
from evlift.report.pictures import events_png, file_png, mask_png, picture_png, raster_png, stream_png


def opened(uri: str) -> Image.Image:
    kind, data = uri.split(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_events_are_drawn_where_they_are_and_nowhere_else():
    counts = np.zeros((2, 6, 8), np.float32)
    counts[1, 2, 3], counts[0, 4, 5] = 2, 2
    image = np.asarray(opened(events_png(counts, 8)))
    assert image.shape == (6, 8, 4)
    assert set(zip(*np.nonzero(image[..., 3]), strict=True)) == {(2, 3), (4, 5)}
    assert image[2, 3, 2] > image[2, 3, 0]  # on is blue
    assert image[4, 5, 0] > image[4, 5, 2]  # off is orange


def test_large_pictures_are_made_small(random_stream):
    assert opened(events_png(np.ones((2, 100, 333), np.float32), 64)).size == (56, 17)
    assert opened(stream_png(random_stream, 20)).size == (20, 15)
    assert max(opened(mask_png(np.zeros((300, 400), np.uint8), 64)).size) <= 64
    assert opened(picture_png(np.zeros((3, 300, 400), np.float32), 64)).size == (64, 48)


def test_an_empty_window_is_an_empty_picture():
    assert np.asarray(opened(events_png(np.zeros((2, 4, 4), np.float32), 8)))[..., 3].max() == 0


def test_masks_have_their_classes_colours_and_void_none():
    image = np.asarray(opened(mask_png(np.array([[0, 3], [255, 19]]), 8)))
    assert (image[0, 1, :3] == palette()[3]).all()
    assert image[1, 0, 3] == 0
    assert image[0, 0, 3] == 255


def test_a_raster_has_a_row_a_neuron():
    spikes = np.zeros((5, 3), bool)
    spikes[4, 1] = True
    image = np.asarray(opened(raster_png(spikes)))
    assert image.shape == (3, 5, 4)
    assert image[1, 4, 3] == 255
    assert image[..., 3].sum() == 255


def test_a_picture_file_is_made_small(tmp_path):
    Image.fromarray(np.zeros((52, 2000, 3), np.uint8)).save(tmp_path / "strip.png")
    assert opened(file_png(tmp_path / "strip.png", 500)).size == (500, 13)
