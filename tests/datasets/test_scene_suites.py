"""`digit-masks` and `streets` on the real data: masks lie on the events, and no object is in two places."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evlift.config import InputOptions
from evlift.datasets import digits, items
from evlift.datasets.digit_masks import TILE, TiledPictures, fours, on_tile
from evlift.datasets.images import mnist
from evlift.datasets.recordings import nmnist
from evlift.datasets.registration import MIN_R2, WINDOWS_US, Registration, best_shifts, register
from evlift.datasets.scene_encoder import SceneEncoder
from evlift.datasets.streets import camvid, far_from, halves, moment
from evlift.datasets.suites import SUITES
from evlift.datasets.task import TransferTask
from evlift.errors import DataError
from evlift.events import EventStream
from evlift.masks import VOID

# Split hashes. They may change only together with every published table.
DIGIT_MASKS = "d362252c"


@pytest.fixture(scope="module")
def tiles(data_root: Path) -> TransferTask:
    return SUITES["digit-masks"](root=str(data_root))


@pytest.fixture(scope="module")
def streets(data_root: Path) -> TransferTask:
    return SUITES["streets"](root=str(data_root))


@pytest.fixture(params=["digit-masks", "streets", "simulated-digit-masks"])
def task(request: pytest.FixtureRequest) -> TransferTask:
    if request.param == "simulated-digit-masks":
        return SUITES[request.param](recordings=100)
    return request.getfixturevalue({"digit-masks": "tiles"}.get(request.param, request.param))


def test_no_object_is_in_two_splits(task: TransferTask) -> None:
    assert task.segments
    for one, other in combinations(("source", "source_val", "train", "val", "test"), 2):
        assert not getattr(task, one).objects & getattr(task, other).objects, (one, other)
    assert task.unlabelled.objects == task.train.objects


def test_scenes_are_whole_and_repeatable(task: TransferTask) -> None:
    height, width = task.sensor_size
    for name in ("train", "val", "test"):
        part = getattr(task, name)
        scene, again = part.load(1), part.load(1)
        assert scene.stream == again.stream
        assert np.array_equal(scene.mask, again.mask)
        assert scene.stream.sensor_size == scene.mask.shape == scene.frame.shape[:2] == (height, width)
        assert set(np.unique(scene.mask)) <= {*range(len(task.classes)), VOID}
        assert scene.stream.t[0] >= 0
        assert scene.stream.t[-1] <= task.duration_us
        assert part.fingerprint(0) != part.fingerprint(1)
    hidden = task.unlabelled.load(0)
    assert hidden.mask is None
    assert task.unlabelled.fingerprint(0) in {task.train.fingerprint(i) for i in range(len(task.train))}


def contour(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels within 1 px of where `ink` [H, W] begins or ends."""
    high, low = ink.copy(), ink.copy()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = np.roll(ink, (dy, dx), (0, 1))
            high, low = high | moved, low & moved
    return high & ~low


def near_contour(task: TransferTask, shift: tuple[int, int], part: str = "val") -> float:
    """Share of the events within 1 px of the mask's contour when the mask is moved by `shift`."""
    hits = total = 0
    scenes = getattr(task, part)
    for i in range(0, len(scenes), 9):
        scene = scenes.load(i)
        ink = np.roll((scene.mask > 0) & (scene.mask != VOID), shift, (0, 1))
        hits += int(contour(ink)[scene.stream.y, scene.stream.x].sum())
        total += len(scene.stream)
    return hits / total


def test_digit_masks_lie_on_the_events(tiles: TransferTask) -> None:
    assert near_contour(tiles, (0, 0)) > 0.79
    for shift in ((2, 0), (-2, 0), (0, 2), (0, -2), (3, 3)):
        assert near_contour(tiles, shift) < near_contour(tiles, (0, 0)) - 0.04, shift


def test_digit_masks_follow_digits(tiles: TransferTask, data_root: Path) -> None:
    base = digits(data_root)
    registration = Registration.load(data_root)
    for name in ("train", "val", "test"):
        known = set(getattr(base, name).object_ids)
        part = getattr(tiles, name)
        assert len(known - part.objects) <= 3
        assert part.objects <= known
        for item in part:
            assert all(registration.r2[registration.place[o], item.index] >= MIN_R2 for o in item.parts)
    assert {item.index for item in tiles.val} == set(range(6))
    assert len(tiles.source.objects) == 20_000
    assert len(tiles.val) > 250
    assert tiles.split.startswith(DIGIT_MASKS)


def test_the_classes_of_a_tile_are_those_of_its_objects(tiles: TransferTask, data_root: Path) -> None:
    pictures = mnist(data_root)
    for part in (tiles.source, tiles.val):
        for i in range(5):
            mask = part.load(i).mask
            for number, object_id in enumerate(part[i].parts):
                row, column = divmod(number, 2)
                tile = mask[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                expected = pictures[int(object_id[-5:])].target + 1
                assert set(np.unique(tile)) - {VOID} == {0, expected}


def test_fewer_unlabelled_objects(data_root: Path) -> None:
    few = SUITES["digit-masks"](root=str(data_root), unlabelled=50, source=400)
    assert len(few.unlabelled.objects) == 50
    assert few.unlabelled.objects <= few.train.objects
    assert len(few.source) == 100


def test_a_permuted_listing_changes_nothing(
    tiles: TransferTask, streets: TransferTask, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = items.os.scandir

    def backwards(path: Path) -> Iterable[object]:
        return sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(items.os, "scandir", backwards)
    assert SUITES["digit-masks"](root=str(data_root)).split == tiles.split
    assert SUITES["streets"](root=str(data_root)).split == streets.split


@pytest.mark.parametrize("shift", [(0, 0), (1, -1), (4, 3), (-4, -4)])
def test_a_tile_shows_the_picture_where_the_registration_says(shift: tuple[int, int]) -> None:
    picture = np.arange(28 * 28).reshape(28, 28) % 251 + 1
    tile = on_tile(picture.astype(np.uint8), shift)
    for r, c in ((5, 7), (20, 23), (10, 14)):
        assert tile[r + 3 - shift[0], c + 3 - shift[1]] == picture[r, c]
    assert tile.shape == (TILE, TILE)


def test_grey_between_ink_and_paper_is_void() -> None:
    from evlift.datasets.items import Images, Item

    greys = np.zeros((28, 28), np.uint8)
    greys[10, 10:14] = 63, 64, 127, 128
    tiled = TiledPictures(Images("greys", tuple("0123456789"), [Item("a", 4, "a")], lambda item: greys))
    _, mask = tiled.tile("a", (0, 0))
    assert mask[13, 13:17].tolist() == [0, VOID, VOID, 5]


def test_who_meets_whom_is_decided_by_ids_alone() -> None:
    objects = [f"o{i}" for i in range(10)]
    assert fours(objects, "k") == fours(objects[::-1], "k") != fours(objects, "other")
    assert sorted(map(len, fours(objects, "k"))) == [4, 4]


def test_registering_gives_the_registration(data_root: Path) -> None:
    """Our fit against the file that others made, on recordings and pictures that both have."""
    registration, pictures, recordings = Registration.load(data_root), mnist(data_root), nmnist(data_root)
    assert np.array_equal(registration.windows_us, WINDOWS_US)
    for i in range(0, 1000, 40):
        object_id = recordings[i].object_id
        row = registration.place[object_id]
        shift, r2 = best_shifts(recordings.load(i), pictures.load(int(object_id[-5:])))
        assert np.array_equal(shift, registration.shift[row])
        assert np.allclose(r2, registration.r2[row], atol=0.04)


def test_a_window_without_events_explains_nothing() -> None:
    picture = np.zeros((28, 28), np.uint8)
    picture[10:18, 10:18] = 255
    shift, r2 = best_shifts(EventStream.empty((34, 34)), picture)
    assert shift.shape == (6, 2)
    assert (r2 == 0).all()


def test_register_writes_what_load_reads(data_root: Path, tmp_path: Path) -> None:
    known = nmnist(data_root)
    (tmp_path / "mnist").symlink_to(data_root / "mnist")
    for i in (3, 500):
        file = known[i].path
        folder = tmp_path / "nmnist" / "Train" / file.parent.name
        folder.mkdir(parents=True)
        (folder / file.name).symlink_to(file)
    register(tmp_path)
    mine, theirs = Registration.load(tmp_path), Registration.load(data_root)
    assert len(mine.place) == 2
    for object_id in mine.place:
        for window in range(6):
            assert mine.shift_of(object_id, window) == theirs.shift_of(object_id, window)
            assert mine.fits(object_id, window) == theirs.fits(object_id, window)


@pytest.mark.parametrize("damage", ["missing", "keys", "windows"])
def test_a_damaged_registration_is_named(tmp_path: Path, damage: str) -> None:
    content = {
        "mnist_index": np.arange(2),
        "shift": np.zeros((2, 2, 2), np.int8),
        "r2": np.ones((2, 2)),
        "windows_us": np.array([[0, 50], [50, 90]]),
    }
    (tmp_path / "nmnist").mkdir()
    if damage == "keys":
        del content["r2"]
    if damage != "missing":
        np.savez(tmp_path / "nmnist" / "registration.npz", **content)
    with pytest.raises(DataError, match="registration"):
        Registration.load(tmp_path)


def test_streets_have_no_neighbours_in_two_parts(streets: TransferTask) -> None:
    """Parts of one second of a sequence never meet: 2 s lie between frames of different parts of the training set."""
    assert len(streets.source) + len(streets.source_val) > 0.45 * 367
    assert len(streets.train.objects) > 0.4 * 367
    assert (len(streets.val), len(streets.test)) == (101, 233)
    parts = {name: moments(getattr(streets, name).objects) for name in ("source", "source_val", "train")}
    judged = moments(streets.val.objects | streets.test.objects)
    for one, other in combinations(parts, 2):
        assert gap_s(parts[one], parts[other]) > 2, (one, other)
    for name, found in parts.items():
        assert gap_s(found, judged) > 2, name


def moments(objects: Iterable[str]) -> list[tuple[str, int]]:
    return [moment(object_id) for object_id in objects]


def gap_s(ones: list[tuple[str, int]], others: list[tuple[str, int]]) -> float:
    return min(abs(a - b) / 30 for sequence, a in ones for other, b in others if sequence == other)


def test_halving_depends_on_names_alone(data_root: Path) -> None:
    frames = camvid(data_root)
    one = [part.object_ids for part in halves(frames)]
    assert one == [part.object_ids for part in halves(frames.with_items(frames.items[::-1]))]
    assert len(far_from(frames, frames)) == 0


def best_shift(measure: Callable[[int, int], float]) -> tuple[int, int]:
    places = [(dy, dx) for dy in range(-3, 4) for dx in range(-3, 4)]
    return max(places, key=lambda place: measure(*place))


def edges(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """1 where a class ends, borders to void left out."""
    found = np.zeros(mask.shape)
    for axis in (0, 1):
        other = np.roll(mask, 1, axis)
        found += (mask != other) & (mask != VOID) & (other != VOID)
    return (found > 0).astype(float)


def test_street_edges_lie_in_the_frames_and_the_last_events_on_the_masks(streets: TransferTask) -> None:
    """The picture's gradients, and the events of the last fifth of a window, are strongest where classes end."""
    scores = np.zeros((2, 7, 7))
    for i in range(0, 100, 5):
        scene = streets.val.load(i)
        grey = scene.frame.astype(float).mean(axis=2)
        late = scene.stream.between(40_000, 50_001)
        counts = np.zeros(grey.shape)
        np.add.at(counts, (late.y, late.x), 1)
        border = edges(scene.mask)
        for map_index, shown in enumerate((np.hypot(*np.gradient(grey)), counts.clip(max=3))):
            for dy in range(-3, 4):
                for dx in range(-3, 4):
                    moved = np.roll(border, (dy, dx), (0, 1))[8:-8, 8:-8]
                    scores[map_index, dy + 3, dx + 3] += np.corrcoef(
                        moved.ravel(), shown[8:-8, 8:-8].ravel()
                    )[0, 1]
    for found in scores:
        dy, dx = np.unravel_index(found.argmax(), found.shape)
        assert abs(int(dy) - 3) <= 1
        assert abs(int(dx) - 3) <= 1


def test_simulated_sequences_lie_on_their_masks(tiles: TransferTask) -> None:
    """Over many motions, events surround the ink evenly: the mask explains them best where it lies."""
    options = InputOptions(steps=1, size=(68, 68), encoding="saccade", motion="pan", amplitude=(1.0, 5.5))
    encoder = SceneEncoder.of(tiles, options, scale=1.0)
    rng = np.random.default_rng(0)
    clips = [
        encoder.events(encoder.watch(tiles.source_val.load(i), rng), rng, augment=False) for i in range(40)
    ]
    inks = [((clip.mask > 0) & (clip.mask != VOID)).numpy() for clip in clips]
    counts = [clip.sequence.sum(dim=(0, 1)).numpy() for clip in clips]

    def measure(dy: int, dx: int) -> float:
        return sum(
            float(count[contour(np.roll(ink, (dy, dx), (0, 1)))].sum())
            for ink, count in zip(inks, counts, strict=True)
        )

    assert best_shift(measure) == (0, 0)
    assert measure(0, 0) > 0.6 * sum(float(count.sum()) for count in counts)


def test_camvid(data_root: Path, tmp_path: Path) -> None:
    frames = camvid(data_root, "test")
    scene = frames.load(0)
    assert (len(frames), len(frames.classes)) == (233, 11)
    assert scene.picture.shape == (180, 240, 3)
    share = np.mean([(frames.load(i).mask == VOID).mean() for i in range(0, 233, 20)])
    assert 0 < share < 0.1
    with pytest.raises(DataError, match="train, val or test"):
        camvid(data_root, "all")
    with pytest.raises(DataError, match="camvid"):
        camvid(tmp_path)


def test_a_picture_without_a_mask_is_named(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "camvid" / "train").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "camvid/train/0001TP_000030.png")
    with pytest.raises(DataError, match="trainannot"):
        camvid(tmp_path)
