"""From recordings and pictures to batches: windows, pairing, encodings, and draws that depend on the step alone."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from evlift import assembly
from evlift.config import InputOptions, parse_recipe
from evlift.datasets.suites import SUITES, data_root, folders_suite, simulated_digits_suite
from evlift.datasets.transfer import Encoder, Feeder, select_window
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream
from evlift.simulate import Saccades
from helpers import tiny


@pytest.fixture(scope="module")
def task():
    return simulated_digits_suite(labels_per_class=2, recordings=100)


def feeder(task, **changes):
    recipe = parse_recipe(tiny(**changes))
    return assembly.build_feeder(recipe, task, assembly.build_method(recipe, task))


@pytest.mark.parametrize("encoding", ["constant", "saccade"])
def test_a_batch_depends_on_seed_and_step_alone(task, encoding):
    changes = {"method": {"name": "tmkt"}, "input": {"encoding": encoding, "window": "mixed", "drop": 0.2}}
    one, other = feeder(task, **changes), feeder(task, **changes)
    for step in range(5):
        one.batch(step)  # what came before does not matter
    a, b = one.batch(7), other.batch(7)
    assert torch.equal(a.image, b.image)
    assert torch.equal(a.events, b.events)
    assert not torch.equal(a.events, one.batch(8).events)
    seeded = feeder(task, **changes, train={"seed": 1})
    assert not torch.equal(a.events, seeded.batch(7).events)


def test_partners_share_the_class_and_shapes(task):
    batch = feeder(task, method={"name": "tmkt"}).batch(0)
    assert torch.equal(batch.image_target, batch.event_target)
    assert batch.image.shape == batch.events.shape == (8, 3, 2, 28, 28)
    assert batch.image.dtype == batch.events.dtype == torch.float32


def test_a_method_gets_only_the_sides_that_it_uses(task):
    source = feeder(task, method={"name": "source-only"}).batch(0)
    assert source.events is None
    assert source.event_target is None
    events = feeder(task).batch(0)
    assert events.image is None


@pytest.mark.parametrize("method", ["fine-tune", "tmkt"])
def test_a_phase_gets_only_the_side_that_it_needs_and_the_same_one(task, method):
    found = feeder(task, method={"name": method}, input={"encoding": "saccade"})
    whole, images, events = found.batch(3), found.batch(3, needs="images"), found.batch(3, needs="events")
    assert torch.equal(images.image, whole.image)
    assert torch.equal(images.image_target, whole.image_target)
    assert torch.equal(events.events, whole.events)
    assert torch.equal(events.event_target, whole.event_target)
    assert images.events is events.image is None


def test_whole_recordings_come_beside_their_windows_where_a_method_asks(task):
    options = {"input": {"encoding": "saccade", "window": "first300", "drop": 0.5, "shift": 0}}
    plain = feeder(task, method={"name": "mean-teacher"}, **options).batch(3)
    asked = {"name": "mean-teacher", "whole_targets": True}
    both = feeder(task, method=asked, **options).batch(3)
    assert plain.whole is None
    assert torch.equal(both.events, plain.events)
    options["input"] |= {"window": "full", "drop": 0.0}
    full = feeder(task, method=asked, **options).batch(3)
    assert torch.equal(both.whole, full.events)
    assert (both.whole.sum((1, 2, 3, 4)) >= both.events.sum((1, 2, 3, 4))).all()


def test_an_epoch_shows_every_recording_once(task):
    found = feeder(task, train={"batch_size": 10})
    seen = np.concatenate([found.batch(step).event_target.numpy() for step in range(2)])
    assert sorted(seen) == sorted(task.train.targets)


def test_constant_encoding_repeats_the_picture(task):
    image = feeder(task, method={"name": "source-only"}, input={"shift": 0}).batch(0).image
    assert torch.equal(image, image[:, :1, :1].expand_as(image))
    assert image.amax() <= 1


def test_colour_pictures_become_their_value_channel():
    encoder = Encoder(InputOptions(steps=2, size=(4, 4), normalise="none"), (4, 4))
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 0], colour[..., 1] = 51, 255
    clip = encoder.picture(colour, np.random.default_rng(0), augment=False, window="full")
    assert torch.equal(clip, torch.ones(2, 2, 4, 4))


def test_a_pair_shows_the_camera_what_evaluation_shows_it():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    encoder = Encoder(InputOptions(steps=2, size=(20, 20), encoding="saccade", normalise="none"), (34, 34))
    options = {"augment": False, "window": "full"}
    alone = encoder.picture(picture, np.random.default_rng(1), **options)
    assert torch.equal(encoder.pair(picture, np.random.default_rng(1), **options)[0], alone)


def test_evaluation_walks_a_split_in_order_without_augmentation(task):
    found = feeder(task, input={"shift": 4, "drop": 0.5})
    batches = list(found.evaluation("val", batch_size=7))
    assert [name for batch in batches for name in batch.names] == [item.name for item in task.val]
    again = torch.cat([batch.events for batch in found.evaluation("val", batch_size=20)])
    assert torch.equal(torch.cat([batch.events for batch in batches]), again)


def test_cached_evaluation_is_the_same_and_is_read_again(task, tmp_path, monkeypatch):
    plain = next(iter(feeder(task).evaluation("val")))
    cached = feeder(task, input={"cache": str(tmp_path)})
    assert torch.equal(next(iter(cached.evaluation("val"))).events, plain.events)
    monkeypatch.setattr(type(task.val), "load", lambda self, index: pytest.fail("read again"))
    assert torch.equal(next(iter(cached.evaluation("val"))).events, plain.events)
    with pytest.raises(pytest.fail.Exception):  # another recipe, another key
        next(iter(cached.evaluation("val", window="saccade")))


def test_the_cache_tells_sensors_and_simulators_apart(monkeypatch):
    options = InputOptions(encoding="saccade")
    here = Encoder(options, (34, 34)).description
    assert Encoder(options, (34, 34)).description == here
    assert Encoder(options, (68, 68)).description != here
    assert Encoder(InputOptions(), (34, 34)).description != Encoder(InputOptions(), (68, 68)).description
    monkeypatch.setattr(Saccades, "version", Saccades.version + 1)
    assert Encoder(options, (34, 34)).description != here


def test_hidden_labels_stay_hidden(task):
    batch = next(iter(feeder(task).evaluation("unlabelled")))
    assert (batch.event_target == -1).all()


@pytest.mark.parametrize("seed", range(5))
def test_windows(random_stream, seed):
    def select(kind):
        return select_window(random_stream, kind, np.random.default_rng(seed))

    assert select("full") == random_stream
    saccade, first = select("saccade"), select("first300")
    assert saccade in [random_stream.between(*bounds) for bounds in thirds(random_stream)]
    assert len(first) == 300
    starts = [
        random_stream.between(start, int(random_stream.t[-1]) + 1)[:300] for start, _ in thirds(random_stream)
    ]
    assert first in starts


def thirds(stream):
    """Bounds of the three thirds of a recording, which overlap by the microsecond that rounding may cost."""
    length = (stream.duration_us + 1) / 3
    return [(int(stream.t[0] + i * length), int(stream.t[0] + i * length + length) + 1) for i in range(3)]


def test_every_third_of_a_recording_is_drawn(random_stream):
    drawn = {
        int(select_window(random_stream, "saccade", np.random.default_rng(seed)).t[0]) for seed in range(20)
    }
    assert len(drawn) == 3


def test_mixed_windows_are_each_of_the_three(random_stream):
    kinds = []
    for seed in range(12):
        replayed = np.random.default_rng(seed)
        kinds.append(replayed.choice(["full", "saccade", "first300"]))
        found = select_window(random_stream, "mixed", np.random.default_rng(seed))
        assert found == select_window(random_stream, kinds[-1], replayed)
    assert set(kinds) == {"full", "saccade", "first300"}


@pytest.mark.parametrize("window", ["full", "saccade", "first300", "mixed"])
def test_empty_and_short_streams_are_safe(window):
    rng = np.random.default_rng(0)
    assert len(select_window(EventStream.empty((4, 4)), window, rng)) == 0
    one = EventStream.from_columns([5], [1], [1], [1], sensor_size=(4, 4))
    assert len(select_window(one, window, rng)) <= 1
    encoder = Encoder(InputOptions(steps=2, size=(4, 4), normalise="none"), (4, 4))
    for stream in (EventStream.empty((4, 4)), one):
        assert encoder.events(stream, rng, augment=True, window=window).shape == (2, 2, 4, 4)


def test_an_unknown_window_is_refused(random_stream):
    with pytest.raises(ConfigError, match="window"):
        select_window(random_stream, "half", np.random.default_rng(0))


def test_the_count_scale_is_the_quantile_of_the_training_counts(task):
    found = feeder(task, input={"quantile": 0.5, "shift": 0})
    plain = Encoder(InputOptions(steps=3, normalise="none"), task.sensor_size)
    counts = torch.stack([plain.frames(task.train.load(i)) for i in range(len(task.train))])
    assert found.encoder.scale == pytest.approx(float(counts[counts > 0].median()), rel=1e-5)


def test_a_class_without_pictures_is_named(task):
    import dataclasses

    few = task.source.subset(np.flatnonzero(task.source.targets != 3))
    with pytest.raises(DataError, match="classes 3"):
        feeder(dataclasses.replace(task, source=few), method={"name": "tmkt"})


def test_splits_share_no_object(task):
    parts = {
        name: set(getattr(task, name).object_ids) for name in ("source", "source_val", "train", "val", "test")
    }
    names = list(parts)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not parts[one] & parts[other], (one, other)


def test_simulated_recordings_do_not_change_between_calls(task):
    again = simulated_digits_suite(labels_per_class=2, recordings=100)
    assert again.split == task.split
    assert again.train.load(0) == task.train.load(0)


def test_a_missing_data_root_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("EVLIFT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="EVLIFT_DATA"):
        data_root()


def test_own_folders(tmp_path):
    from PIL import Image

    import evlift

    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "events" / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(
                tmp_path / "images" / name / f"{i}.png"
            )
            columns = (
                np.sort(rng.integers(0, 9000, 400)),
                rng.integers(0, 30, 400),
                rng.integers(0, 20, 400),
            )
            stream = EventStream.from_columns(*columns, rng.random(400) < 0.5, sensor_size=(20, 30))
            evlift.write_events(tmp_path / "events" / name / f"{i}.npz", stream)
    task = folders_suite(images=str(tmp_path / "images"), recordings=str(tmp_path / "events"))
    assert (task.classes, task.sensor_size) == (("left", "right"), (20, 30))
    assert (len(task.train), len(task.val), len(task.test)) == (6, 2, 2)
    data = {"name": "folders", "images": str(tmp_path / "images"), "recordings": str(tmp_path / "events")}
    run = evlift.train(tiny(data=data, method={"name": "kt"}), tmp_path / "run")
    found = list(evlift.predict(run.folder, tmp_path / "events" / "left" / "0.npz", n_events=150))
    assert [p.events for p in found] == [150, 150, 100]
    assert all(p.label in ("left", "right") and 0.5 <= p.confidence <= 1 for p in found)


def test_copies_of_recordings_under_another_name_are_told(tmp_path):
    import evlift

    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(
            tmp_path / "images" / name / "a.png"
        )
        Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(
            tmp_path / "images" / name / "b.png"
        )
        for i in range(5):
            t, p = np.sort(rng.integers(0, 9000, 50)), rng.random(50) < 0.5
            stream = EventStream.from_columns(t, t % 30, t % 20, p, sensor_size=(20, 30))
            evlift.write_events(tmp_path / "events" / name / f"{i}.npz", stream)
    folders = {"images": str(tmp_path / "images"), "recordings": str(tmp_path / "events")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judged = folders_suite(**folders).val[0]
    for i in range(3):  # some of them are dealt to the teaching splits
        shutil.copy(judged.path, tmp_path / "events" / "left" / f"copy{i}.npz")
    with pytest.warns(
        UserWarning, match=r"of val and test, such as .*, have the content of items that teach"
    ):
        folders_suite(**folders)


def test_every_suite_is_registered():
    assert {"digits", "digits6789", "folders", "simulated-digits"} <= set(SUITES)


def test_digits_on_the_real_recordings(data_root, tmp_path):
    task = SUITES["digits"](root=str(data_root), labels_per_class=1)
    assert (len(task.train), len(task.unlabelled), len(task.val), len(task.test)) == (10, 600, 200, 200)
    assert len(task.source) == 20_000
    batch = Feeder(
        task,
        InputOptions(),
        assembly.build_method(parse_recipe(tiny(method={"name": "tmkt"})), task),
        batch_size=4,
        seed=0,
    ).batch(0)
    assert batch.events.shape == (4, 10, 2, 28, 28)
    assert batch.events.amax() > 0.5


def test_published_sets_meet_on_their_classes(data_root):
    options = {"root": str(data_root), "images": "mnist", "recordings": "nmnist6789", "labels_per_class": 2}
    task = SUITES["published"](**options, sensor_size=(34, 34))
    assert task.classes == ("6", "7", "8", "9")
    assert len(task.train) == 8
    judged = set(task.val.object_ids) | set(task.test.object_ids)
    assert not judged & set(task.source.object_ids)


def test_the_simulator_follows_the_recipe():
    picture = np.zeros((28, 28), np.uint8)
    picture[10:18, 10:18] = 255

    def first(**options):
        encoder = Encoder(
            InputOptions(steps=2, size=(34, 34), encoding="saccade", normalise="none", **options), (34, 34)
        )
        return encoder.picture(picture, np.random.default_rng(0), augment=False, window="full")

    assert not torch.equal(first(), first(negative=False))
    assert first(amplitude=(1.0, 1.0)).sum() < first(amplitude=(6.0, 6.0)).sum()
    assert first(threshold=(0.2, 0.2)).sum() > first(threshold=(0.8, 0.8)).sum()
