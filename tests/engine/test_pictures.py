"""Strips and curves of a run."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from evlift.engine.logs import RunLog
from evlift.engine.pictures import palette, save_curves, save_strip, strip_columns


def test_a_strip_shows_what_it_knows_and_nothing_else(tmp_path):
    outputs = {
        "crafted": torch.rand(3, 4, 2, 8, 8),
        "events": torch.rand(3, 4, 2, 8, 8),
        "picture": torch.zeros(3, 1, 8, 8),
        "reconstruction": torch.ones(3, 3, 8, 8),
        "logits": torch.zeros(3, 4, 10),
        "target": torch.zeros(3, dtype=torch.long),
    }
    columns = strip_columns(outputs)
    assert list(columns) == [
        "real events",
        "from events",
        "picture",
        "crafted events",
    ]  # partners side by side
    assert (columns["picture"][0] == 0).all()
    assert columns["from events"][0].shape == (8, 8, 3)
    assert (columns["from events"][0] == 255).all()
    save_strip(outputs, tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as picture:
        assert picture.width > picture.height  # four columns, and no more rows than clips


def test_masks_have_the_colours_of_their_classes():
    logits = torch.zeros(1, 2, 5, 4, 4)
    logits[:, :, 3] = 1.0
    target = torch.full((1, 4, 4), 255)
    columns = strip_columns({"logits": logits, "target": target})
    assert (columns["student"][0] == palette()[3]).all()
    assert (columns["label"][0] == 255).all()


def test_nothing_to_show_leaves_no_file(tmp_path):
    save_strip({"logits": torch.zeros(2, 1, 3)}, tmp_path / "strip.png")
    save_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


def test_curves_show_what_a_method_watches(tmp_path):
    log = RunLog(tmp_path)
    for step in range(3):
        log.scalars(step, "joint", "train", {"teacher_entropy": np.sin(step), "loss": 1.0})
    log.close()
    save_curves(log.path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
