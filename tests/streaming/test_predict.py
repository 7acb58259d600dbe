"""Windows of files, folders, pipes and growing files through a network; state that is kept; masks; what is refused."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import evlift
from evlift.assembly import create_task, evaluation_feeder, open_run
from evlift.config import parse_recipe
from evlift.errors import ConfigError, DataError, FormatError
from evlift.events import EventStream, RecordingWarning
from evlift.representations import Frames
from evlift.representations.base import normalised
from evlift.streaming.predictions import UNKNOWN_PIXEL, mask_of, runs_of
from evlift.streaming.sources import Source, Sources
from evlift.streaming.summary import Quantiles
from streams import SIZE, SPIKING, change_record, events, shown, written

STREAMED = ("evt2", "evt3", "dat", "atis", "text")


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("length", [{"duration_us": 30_000}, {"n_events": 700}])
def test_windows_are_those_of_the_stream(run, tmp_path, length, overlap):
    stream = events()
    found = list(evlift.predict(run, written(tmp_path, stream), overlap=overlap, **length))
    stride = round(next(iter(length.values())) * (1 - overlap))
    windows = list(stream.windows(stride=stride, **length))
    assert [one.events for one in found] == [len(window) for window in windows]
    assert [one.stream for one in found] == windows
    step = np.diff([one.start_us for one in found])
    assert "n_events" in length or (step == stride).all()


@pytest.mark.parametrize("format", STREAMED)
def test_a_pipe_gives_what_the_file_gives(run, tmp_path, format):
    path = written(tmp_path, events(), format)
    asked = {"duration_us": 30_000, "format": format, "sensor_size": SIZE}
    whole = evlift.predict(run, path, **asked)
    expected = shown(whole)
    source, sink = os.pipe()
    data = path.read_bytes()

    def drip() -> None:
        with open(sink, "wb", buffering=0) as pipe:
            for start in range(0, len(data), 997):
                pipe.write(data[start : start + 997])

    threading.Thread(target=drip).start()
    with open(source, "rb", buffering=0) as pipe:
        found = evlift.predict(run, pipe, **asked)
        assert shown(found) == expected
    assert found.endless
    assert found.summary.events == whole.summary.events == 4000
    assert found.summary.ended == "the stream ended"


def test_a_stream_in_memory_of_a_format_that_states_itself_needs_no_options(run, tmp_path):
    found = evlift.predict(run, io.BytesIO(written(tmp_path, events()).read_bytes()))
    assert {one.stop_us - one.start_us for one in found} == {100_000}  # the default of endless sources
    with pytest.raises(FormatError, match="format="):
        list(evlift.predict(run, io.BytesIO(b"0 1 2 1\n" * 100)))
    with pytest.raises(ConfigError, match="while it is written, but got npz"):
        list(evlift.predict(run, io.BytesIO(b""), format="npz"))


def grow(path: Path, data: bytes, pieces: int) -> threading.Thread:
    """Append `data` piece by piece, in a thread."""

    def work() -> None:
        step = -(-len(data) // pieces)
        for start in range(0, len(data), step):
            with path.open("ab", buffering=0) as file:
                file.write(data[start : start + step])
            time.sleep(0.01)

    (thread := threading.Thread(target=work)).start()
    return thread


def test_a_followed_file_gives_what_the_finished_one_gives_and_says_why_it_ended(run, tmp_path):
    path = written(tmp_path, events())
    expected = shown(evlift.predict(run, path, duration_us=30_000))
    growing = tmp_path / "growing.raw"
    thread = grow(growing, path.read_bytes() + b"\x01", pieces=7)  # it does not exist yet; ends within a word
    found = evlift.predict(run, growing, duration_us=30_000, follow=True, idle_s=1.5)
    with pytest.warns(RecordingWarning, match="1 byte at the end dropped"):
        made = shown(found)
    assert made == expected
    thread.join()
    assert found.summary.ended == f"{growing} has not grown for 1.5 s"
    assert found.summary.dropped["dropped_bytes"] == 1
    assert found.summary.waited_s > 1


def test_following_ends_when_asked_and_when_the_file_is_replaced_or_cut(run, tmp_path):
    path = written(tmp_path, events())
    found = evlift.predict(run, path, duration_us=30_000, follow=True, idle_s=60)
    starts = []
    for one in found:
        starts.append(one.start_us)
        found.stop()
    assert found.summary.ended == "stopped"
    assert len(starts) == 7  # what was read is predicted on
    found = evlift.predict(run, path, duration_us=30_000, follow=True, idle_s=60)
    next(found)
    path.unlink()
    list(found)
    assert "removed or replaced" in found.summary.ended
    path = written(tmp_path, events())
    found = evlift.predict(run, path, duration_us=30_000, follow=True, idle_s=60)
    next(found)
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(FormatError, match="was cut from"):
        list(found)
    with pytest.raises(FormatError, match=r"no such file appeared within 0\.01 s"):
        list(evlift.predict(run, tmp_path / "never.raw", follow=True, idle_s=0.01))


def test_a_folder_is_predicted_on_by_name_and_one_bad_file_does_not_end_it(run, tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("c.raw", "b/a.raw", "a.raw"):
        shutil.copy(written(tmp_path / "b", events()), tmp_path / name)
    (tmp_path / "b" / "evt3.raw").unlink()
    (tmp_path / "bad.raw").write_bytes(b"nothing")
    (tmp_path / "readme.md").write_text("no recording")
    (tmp_path / ".part.raw").write_bytes(b"hidden")
    found = evlift.predict(run, tmp_path)
    with pytest.warns(RecordingWarning, match="bad.raw is left out"):
        names = [one.recording for one in found]
    assert names == ["a.raw", "b/a.raw", "c.raw"]
    assert [name for name, _ in found.summary.failed] == ["bad.raw"]
    assert found.summary.recordings == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no file with one of"):
        evlift.predict(run, tmp_path / "empty")
    shutil.copy(tmp_path / "bad.raw", tmp_path / "empty")
    with pytest.warns(RecordingWarning), pytest.raises(DataError, match="not one could be read"):
        list(evlift.predict(run, tmp_path / "empty"))


class Pieces(io.RawIOBase):
    """A stream that hands out one piece a read."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, size: int = -1) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_events_that_are_late_or_outside_are_counted_and_none_is_lost(run):
    stream = events(n=8000)
    lines = [
        f"{t} {x} {y} {int(p)}\n" for t, x, y, p in zip(stream.t, stream.x, stream.y, stream.p, strict=True)
    ]
    first, second = "".join(lines[:6000]), "".join(lines[6000:])
    source = Pieces(first.encode(), ("2000 1 1 1\n" * 3 + "200999 99 1 1\n" * 2 + second).encode())
    found = evlift.predict(run, source, duration_us=5_000, format="text", sensor_size=SIZE)
    with pytest.warns(RecordingWarning, match="2 events outside .* 3 events dropped for coming"):
        predicted = sum(one.events for one in found)
    dropped = found.summary.dropped
    assert (dropped["late_events"], dropped["out_of_range"]) == (3, 2)
    assert predicted == found.summary.events == len(stream)
    assert dict(found.summary.rows())["dropped"] == "out of range 2, late events 3"


def test_two_windows_with_kept_state_are_one_whole_window(run, tmp_path):
    stream = events(duration_us=59_000)
    path = written(tmp_path, stream)
    trained = open_run(run)
    t0 = int(stream.t[0])
    frames = Frames(steps=6, size=(28, 28))(stream, window_us=(t0, t0 + 60_000))
    halves = [normalised(half, "quantile", trained.record["count_scale"]) for half in frames.split(3)]
    with torch.no_grad():
        logits = trained.network(torch.cat(halves)[None]).logits[0]  # [6, K]
    kept = list(evlift.predict(run, path, duration_us=30_000, keep_state=True))
    for one, part in zip(kept, logits.split(3), strict=True):
        chances = (part.mean(0) / trained.temperature).softmax(0)
        torch.testing.assert_close(torch.tensor(one.probabilities), chances)
    forgotten = list(evlift.predict(run, path, duration_us=30_000))
    assert not np.allclose(kept[1].probabilities, forgotten[1].probabilities)


def test_the_state_starts_anew_with_every_recording(run, tmp_path):
    for name in "ab":
        shutil.copy(written(tmp_path, events()), tmp_path / f"{name}.raw")
    (tmp_path / "evt3.raw").unlink()
    found = list(evlift.predict(run, tmp_path, duration_us=50_000, keep_state=True))
    assert shown(found[:4]) == shown(found[4:])


def test_a_recipe_may_ask_for_kept_state_without_being_another_recipe(run, tmp_path):
    asking = tmp_path / "run"
    shutil.copytree(run, asking)
    recipe = parse_recipe(SPIKING)
    kept = replace(recipe, input=replace(recipe.input, keep_state=True))
    assert kept.digest == recipe.digest
    (asking / "config.yaml").write_text(kept.to_yaml())
    path = written(tmp_path, events())
    found = shown(evlift.predict(asking, path, duration_us=30_000))
    assert found == shown(evlift.predict(run, path, duration_us=30_000, keep_state=True))
    assert found != shown(evlift.predict(asking, path, duration_us=30_000, keep_state=False))


def test_confidence_is_that_of_the_calibrated_logits_and_low_ones_are_unknown(run, tmp_path):
    path = written(tmp_path, events())
    (plain,) = evlift.predict(run, path)
    warm = tmp_path / "run"
    shutil.copytree(run, warm)
    change_record(warm, temperature=2.5)
    (found,) = evlift.predict(warm, path)
    scores = np.exp(np.log(plain.probabilities) * open_run(run).temperature / 2.5)
    np.testing.assert_allclose(found.probabilities, scores / scores.sum(), rtol=1e-4)
    (unknown,) = evlift.predict(run, path, unknown_below=plain.confidence + 1e-4)
    assert (unknown.label, unknown.index) == ("unknown", plain.index)
    (known,) = evlift.predict(run, path, unknown_below=plain.confidence - 1e-4)
    assert known.label == plain.label


def test_auto_is_the_threshold_that_evaluation_suggests(run, mask_run, tmp_path):
    path = written(tmp_path, events())
    (plain,) = evlift.predict(run, path)
    strict = tmp_path / "run"
    shutil.copytree(run, strict)
    calibration = open_run(run).record["calibration"]
    for below, label in ((plain.confidence + 1e-4, "unknown"), (plain.confidence - 1e-4, plain.label)):
        change_record(strict, calibration=calibration | {"unknown_below": below})
        (found,) = evlift.predict(strict, path, unknown_below="auto")
        assert (found.label, found.index) == (label, plain.index)
    change_record(strict, calibration=None)
    for folder in (strict, mask_run):
        with pytest.raises(ConfigError, match="a calibrated run for --unknown-below auto"):
            evlift.predict(folder, path, unknown_below="auto")


def test_masks_are_those_of_evaluation(mask_run, tmp_path):
    trained = open_run(mask_run)
    task = create_task(trained.recipe)
    (batch, *_) = evaluation_feeder(trained, task).evaluation("val", batch_size=3)
    with torch.no_grad():
        expected = trained.network(batch.events).logits.mean(1).argmax(1)
    for index in range(3):
        stream = task.val.load(index).stream
        # a window starts at its first event: put one at its very start
        first = EventStream.from_columns([0], [0], [0], [True], sensor_size=stream.sensor_size)
        joined = EventStream.from_columns(
            *(np.concatenate([getattr(first, c), getattr(stream, c)]) for c in "txyp"),
            sensor_size=stream.sensor_size,
        )
        evlift.write_events(tmp_path / "a.npz", joined)
        found, *_ = evlift.predict(mask_run, tmp_path / "a.npz")
        assert found.stop_us - found.start_us == task.duration_us
        assert (found.mask == expected[index].numpy()).mean() > 0.99  # the added event moves a few pixels
    assert abs(sum(found.shares.values()) - 1) < 1e-9
    unknown, *_ = evlift.predict(mask_run, tmp_path / "a.npz", unknown_below=1.0)
    assert unknown.shares == {"unknown": 1.0}
    assert (unknown.mask == UNKNOWN_PIXEL).all()


def test_runs_turn_back_into_the_mask():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (3, 5), (20, 7)):
        mask = rng.integers(0, 3, size).astype(np.uint8)
        assert (mask_of(size, runs_of(mask)) == mask).all()
    assert runs_of(np.array([[0, 0], [0, 255]], np.uint8)) == [0, 3, 255, 1]


def test_recordings_of_another_sensor_are_shown_as_evaluation_shows_them(run, tmp_path):
    rng = np.random.default_rng(1)
    small = events(2000)
    x, y = small.x.astype(int) * 2 + rng.integers(0, 2, 2000), small.y.astype(int) * 2 + 20
    large = EventStream.from_columns(small.t, x + 70, y, small.p, sensor_size=(120, 160))
    (tmp_path / "0").mkdir()
    path = written(tmp_path / "0", large)
    said = set()
    for fit in ("auto", "crop-to-events", "cover", "letterbox", "stretch"):
        (found,) = evlift.predict(run, path, fit=fit)
        (verdict,) = evlift.evaluate_recordings(run, tmp_path, fit=fit).verdicts
        assert verdict.confidence == pytest.approx(found.confidence, abs=1e-5)
        assert verdict.predicted == found.label
        assert found.stream == large
        said.add(round(found.confidence, 5))
    assert len(said) == 4  # auto crops
    with path.open("rb") as pipe:
        (live,) = evlift.predict(run, io.BytesIO(pipe.read()), duration_us=300_000)
    (whole,) = evlift.predict(run, path)
    assert shown([live])[0][3:] == shown([whole])[0][3:]


def test_kept_state_and_masks_see_the_whole_sensor(run, mask_run, tmp_path):
    path = written(tmp_path, events(size=(68, 68)))
    for folder, how in ((run, {"duration_us": 60_000, "keep_state": True}), (mask_run, {})):
        stretched = [one.row() for one in evlift.predict(folder, path, fit="stretch", **how)]
        assert [one.row() for one in evlift.predict(folder, path, **how)] == stretched
        with pytest.raises(ConfigError, match=r"Expected (a fit whose frame stands still|the fit .stretch.)"):
            evlift.predict(folder, path, fit="crop-to-events", **how)


def test_memory_does_not_grow_with_the_stream(run):
    def peak(rounds: int) -> int:
        round_us = 50_000
        words = np.empty((20_000, 2), "<u4")
        words[:, 1] = np.arange(20_000) % 34

        class Endless(io.RawIOBase):
            sent = 0

            def read(self, size: int = -1) -> bytes:
                if self.sent == 0:
                    self.sent += 1
                    return b"% Height 34\n% Width 34\n" + bytes([12, 8])
                if self.sent > rounds:
                    return b""
                words[:, 0] = np.arange(20_000) * round_us // 20_000 + self.sent * round_us
                self.sent += 1
                return words.tobytes()

        tracemalloc.start()
        found = evlift.predict(run, Endless(), duration_us=20_000, format="dat")
        count = sum(1 for _ in found)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count > 2 * rounds
        assert found.summary.events == 20_000 * rounds
        return used

    peak(3)  # what is imported and compiled first
    assert peak(40) < 1.2 * peak(8)


def test_quantiles_are_within_one_percent():
    times = np.random.default_rng(0).lognormal(-5, 2, 20_000)
    found = Quantiles()
    for seconds in times:
        found.add(seconds)
    for q in (0.01, 0.5, 0.99, 1.0):
        expected = np.quantile(times, q, method="inverted_cdf")
        assert found.quantile(q) == pytest.approx(max(expected, 1e-6), rel=0.011)
    assert found.longest == times.max()
    assert Quantiles().quantile(0.5) == 0


def test_the_latency_in_a_file_holds_all_stages_and_the_opening(run, tmp_path, monkeypatch):
    found = evlift.predict(run, written(tmp_path, events()))
    (source,) = found._sources.items

    def slowly():
        time.sleep(0.05)
        return source.open()

    monkeypatch.setattr(found, "_sources", Sources((Source(source.name, slowly),)))
    assert len(list(found)) == 1
    stages = sum(times.total for times in found.summary.stages.values())
    assert found.summary.latency.total >= stages >= 0.05


def test_times_and_counts_of_a_pass(run, tmp_path):
    stream = events()
    found = evlift.predict(run, written(tmp_path, stream), duration_us=30_000, overlap=0.5)
    for _ in found:
        time.sleep(0.002)
    summary = found.summary.to_dict()
    assert summary["events"] == len(stream)
    assert summary["recorded_s"] == pytest.approx(stream.duration_us / 1e6)
    assert summary["windows"] == len(list(stream.windows(duration_us=30_000, stride=15_000)))
    assert summary["stages_ms"]["write"]["median"] >= 1.9
    assert summary["latency_ms"]["median"] >= 1.9
    assert summary["real_time_factor"] == pytest.approx(summary["recorded_s"] / summary["busy_s"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration_us": 1000, "n_events": 5}, "but got both"),
        ({"overlap": 0.5}, "a window length for the overlap, but got none. Give one: --duration-ms"),
        ({"duration_us": 1000, "overlap": 1.0}, "below 1"),
        ({"unknown_below": 1.5}, "unknown_below"),
        ({"idle_s": 0}, "idle_s"),
        ({"duration_us": 1000, "overlap": 0.5, "keep_state": True}, "see events twice"),
    ],
)
def test_contradictions_are_refused_before_anything_is_read(run, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        evlift.predict(run, tmp_path / "nothing.raw", **options)


def test_state_needs_a_spiking_network_and_following_a_file(run, mask_run, tmp_path):
    with pytest.raises(ConfigError, match="a spiking network to keep the state of"):
        evlift.predict(mask_run, tmp_path / "a.raw", keep_state=True)
    for source in (tmp_path, io.BytesIO(b"")):
        with pytest.raises(ConfigError, match="a file to follow"):
            evlift.predict(run, source, follow=True)


def test_masks_of_a_run_without_a_known_window_need_a_length(mask_run, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(mask_run, old)
    change_record(old, duration_us=None)
    with pytest.raises(ConfigError, match="a window length"):
        evlift.predict(old, tmp_path / "a.raw")


def test_a_window_without_events_is_unknown(run, tmp_path):
    early, late = events(duration_us=20_000), events(duration_us=20_000)
    gap = EventStream.from_columns(
        np.concatenate([early.t, late.t + 200_000]),
        *(np.concatenate([getattr(early, c), getattr(late, c)]) for c in "xyp"),
        sensor_size=early.sensor_size,
    )
    found = list(evlift.predict(run, written(tmp_path, gap), duration_us=50_000))
    assert [one.label == "unknown" for one in found] == [one.events == 0 for one in found]
    assert {one.events == 0 for one in found} == {True, False}
