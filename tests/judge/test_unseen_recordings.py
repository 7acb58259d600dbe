"""Folders of recordings that a run has never heard of."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

import evlift
from evlift.assembly import open_run
from evlift.cli import main
from evlift.errors import ConfigError, DataError
from evlift.events import EventStream, write_events
from evlift.events.readers.windowing import join
from evlift.judge.windows import window_rule

FORMATS = ("npz", "txt", "raw", "dat", "h5", "bin", "csv")


def write_folder(root, val, names=str, change=lambda stream: stream, formats=FORMATS):
    """Val as files, in the formats in turn."""
    for i, item in enumerate(val):
        folder = root / names(val.classes[item.target])
        folder.mkdir(parents=True, exist_ok=True)
        write_events(folder / f"{i:03}.{formats[i % len(formats)]}", change(val.load(i)))
    return root


def enlarged(stream, k=4, size=(260, 346), corner=(60, 130)):
    """The same as a larger sensor sees it."""
    rng = np.random.default_rng(len(stream))
    t, x, y, p = (np.repeat(getattr(stream, name), 6) for name in "txyp")
    x = ((x + rng.random(len(x))) * k).astype(int) + corner[1]
    y = ((y + rng.random(len(y))) * k).astype(int) + corner[0]
    return EventStream.from_columns(t + rng.integers(0, 2000, len(t)), x, y, p, sensor_size=size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, val):
    return write_folder(tmp_path_factory.mktemp("same"), val)


@pytest.mark.filterwarnings("error")
def test_the_own_recordings_in_any_format_are_judged_as_the_split_is(run, val, folder):
    judged = evlift.evaluate(run)
    found = evlift.evaluate_recordings(run, folder)
    by_name = dict(zip((v.file for v in found.verdicts), found.evaluation.logits, strict=True))
    for i, item in enumerate(val):
        name = f"{val.classes[item.target]}/{i:03}.{FORMATS[i % len(FORMATS)]}"
        np.testing.assert_allclose(by_name[name], judged.logits[i], atol=1e-4)
    assert found.evaluation.metrics.accuracy == judged.metrics.accuracy
    assert found.accuracy_of_all == judged.metrics.accuracy
    assert {v.format for v in found.verdicts} == {"npz", "text", "evt3", "dat", "dsec", "atis"}
    assert found.data.unmatched == ()


def test_another_sensor_sees_nearly_the_same(run, val, tmp_path):
    large = tuple(name for name in FORMATS if name != "bin")  # which has 8 bits a coordinate
    write_folder(tmp_path, val, change=enlarged, formats=large)
    own = evlift.evaluate(run).predicted
    agreed = {}
    for fit in ("auto", "stretch"):
        found = evlift.evaluate_recordings(run, tmp_path, fit=fit)
        numbers = [int(v.file.split("/")[1][:3]) for v in found.verdicts]
        agreed[fit] = np.mean(found.evaluation.predicted == own[numbers])
    assert agreed["auto"] >= 0.75
    assert agreed["auto"] > agreed["stretch"]


def test_names_strangers_and_junk_are_reported(run, val, tmp_path):
    words = dict(enumerate(["zero", "one", "two", "Three", "four", "five", "six", "seven", "eight", "nine"]))
    write_folder(tmp_path, val, names=lambda digit: words[int(digit)])
    shutil.rmtree(tmp_path / "nine")
    write_events(tmp_path / "zero" / "silent.npz", EventStream.empty((34, 34)))
    (tmp_path / "zero" / "junk.raw").write_bytes(np.random.default_rng(0).bytes(999))
    (tmp_path / "zero" / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "bird").mkdir()
    write_events(tmp_path / "bird" / "a.npz", enlarged(val.load(0)))
    found = evlift.evaluate_recordings(run, tmp_path)
    assert [found.count(state) for state in ("unreadable", "no events")] == [2, 1]
    assert found.evaluation.metrics.samples == len(val) - np.sum(val.targets == 9)
    assert len(found.confidence.unknown) == 1
    lost = found.evaluation.metrics.samples + 3
    assert found.accuracy_of_all == pytest.approx(np.trace(found.evaluation.metrics.confusion) / lost)
    said = "\n".join(found.remarks)
    for text in (
        "folder 'Three' was taken for the class '3'",
        "1 file in folders of no known class (bird)",
        "no recordings of the classes 9",
        "2 files could not be read: zero/cut.h5, zero/junk.raw",
        "1 file without events: zero/silent.npz",
    ):
        assert text in said
    summary = found.summary(unknown_below=1.0)
    assert summary["rejecting"]["open_set_called_unknown"] == 1
    assert json.loads(json.dumps(summary, allow_nan=False))["files"]["unreadable"] == 2


def test_a_crash_of_a_reader_costs_one_file(run, folder, monkeypatch):
    from evlift.judge import recordings

    def crash(path, *rest):
        if path.name.startswith("000"):
            raise ZeroDivisionError("a defect")
        return window_reader(path, *rest)

    window_reader = recordings.reader_of
    monkeypatch.setattr(recordings, "reader_of", crash)
    found = evlift.evaluate_recordings(run, folder)
    (lost,) = (v for v in found.verdicts if v.state == "unreadable")
    assert lost.remark == "ZeroDivisionError('a defect')"


def test_long_recordings_are_cut_and_their_windows_vote(run, val, tmp_path):
    stream = val.load(0)
    noise = EventStream(stream.t[::50], stream.x[::50], stream.y[::50], stream.p[::50], (34, 34))
    parts = [
        EventStream(s.t - s.t[0] + n * 320_000, s.x, s.y, s.p, s.sensor_size)
        for n, s in enumerate([stream, stream, noise, stream])
    ]
    (tmp_path / "0").mkdir()
    write_events(tmp_path / "0" / "a.npz", join(parts))
    (found,) = evlift.evaluate_recordings(run, tmp_path, duration_us=320_000).verdicts
    assert found.windows == 3
    assert found.events == 3 * len(stream) + len(noise)
    whole = evlift.evaluate_recordings(run, tmp_path, window="full").verdicts[0]
    assert (whole.windows, whole.events) == (1, found.events)
    found = evlift.evaluate_recordings(run, tmp_path, duration_us=100, max_windows=5)
    assert "only the first 5 windows" in " ".join(found.remarks)
    assert found.verdicts[0].remark == "only its first 5 windows were read"


def test_a_jump_of_the_clock_does_not_use_up_the_windows(run, val, tmp_path):
    stream = val.load(0)
    late = EventStream(stream.t + 50_000_000, stream.x, stream.y, stream.p, stream.sensor_size)
    (tmp_path / "0").mkdir()
    write_events(tmp_path / "0" / "a.npz", join([stream[:1], late]))
    (found,) = evlift.evaluate_recordings(run, tmp_path).verdicts
    assert found.state == "judged"
    assert found.events == len(stream) + 1


def test_an_odd_unit_of_time_is_remarked(run, val, tmp_path):
    stream = val.load(0)
    (tmp_path / "0").mkdir()
    write_events(
        tmp_path / "0" / "ns.npz", EventStream(stream.t * 1000, stream.x, stream.y, stream.p, (34, 34))
    )
    assert "is their unit of time right?" in " ".join(evlift.evaluate_recordings(run, tmp_path).remarks)


def test_an_odd_unit_of_time_is_remarked_where_windows_were_left_out(run, val, tmp_path):
    rng, steps = np.random.default_rng(0), 40_000
    t = np.linspace(0, 300_000_000, steps).astype(np.int64)  # events in every window
    x, y = rng.integers(0, 34, (2, steps))
    (tmp_path / "0").mkdir()
    write_events(tmp_path / "0" / "long.npz", EventStream(t, x, y, x > y, (34, 34)))
    write_events(tmp_path / "0" / "usual.npz", val.load(0))
    said = " ".join(evlift.evaluate_recordings(run, tmp_path).remarks)
    assert "of 1 recording only the first 100 windows were read" in said
    assert "1 of 2 recordings last" in said


def test_a_recording_of_as_many_windows_as_are_read_is_not_called_cut(run, val, tmp_path):
    (tmp_path / "0").mkdir()
    write_events(tmp_path / "0" / "a.npz", val.load(0))
    last = int(val.load(0).t[-1] - val.load(0).t[0])
    whole = evlift.evaluate_recordings(run, tmp_path, duration_us=last // 2 + 1, max_windows=2)
    assert whole.verdicts[0].remark == ""
    cut = evlift.evaluate_recordings(run, tmp_path, duration_us=last // 2 + 1, max_windows=1)
    assert cut.verdicts[0].remark == "only its first window was read"


def test_windows_follow_training(run):
    trained = open_run(run)
    assert window_rule(trained).duration_us == trained.framing.duration_us
    saccade = open_run(run)
    object.__setattr__(saccade.recipe.input, "window", "saccade")
    assert window_rule(saccade).duration_us == trained.framing.duration_us // 3
    object.__setattr__(saccade.recipe.input, "window", "first300")
    assert window_rule(saccade).n_events == 300
    del trained.record["framing"]
    assert "whole" in window_rule(trained).text
    with pytest.raises(ConfigError, match="a window or a duration"):
        window_rule(trained, "full", 1000)


def test_where_nothing_can_be_judged_it_fails(run, tmp_path, capsys):
    (tmp_path / "0").mkdir()
    with pytest.raises(DataError, match="none of 0 files could be judged"):
        evlift.evaluate_recordings(run, tmp_path)
    (tmp_path / "0" / "a.raw").write_bytes(b"nonsense")
    assert main(["evaluate", str(run), "--data", f"recordings:{tmp_path}"]) == 1
    assert "First: 0/a.raw: Expected" in capsys.readouterr().err


def test_the_command_writes_what_it_prints(run, folder, tmp_path, capsys):
    command = ["evaluate", str(run), "--data", f"recordings:{folder}", "--unknown-below", "auto"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    for text in ("recordings of known classes", "per class", "most frequent mistakes", "unknown below"):
        assert text in said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (tmp_path / "out" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "out" / "recordings.csv").read_text().splitlines()))
    assert len(rows) == report["samples"]
    assert rows[0]["sensor_size"] == "34x34"
    right = np.mean([row["predicted"] == row["true"] for row in rows])
    assert right == pytest.approx(report["accuracy"])
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "recordings:"], "recordings:FOLDER"),
        (["--data", "digits"], "recordings:FOLDER"),
        (["--class-map", "map.yaml"], "--data recordings:FOLDER with --class-map"),
        (["--fit", "stretch"], "with --fit"),
        (["--data", "recordings:x", "--split", "val"], "--data or --split"),
        (["--data", "recordings:x", "--robustness"], "--data or --robustness"),
        (["--robustness", "--unknown-below", "0.5"], "--robustness alone"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_arguments(run, options, message, capsys):
    assert main(["evaluate", str(run), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--unknown-below", "1.5"], ["--sensor", "34"], ["--max-windows", "0"]])
def test_values_out_of_range_are_wrong_arguments(option, capsys):
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "run", *option])
    assert left.value.code == 2


def test_recordings_of_the_own_data_are_recognised(run, folder, tmp_path):
    from evlift.datasets.items import hash_of_file
    from evlift.datasets.manifest import Manifest, Row

    moved = shutil.copytree(run, tmp_path / "run")
    assert "own data" not in " ".join(evlift.evaluate_recordings(moved, folder).remarks)
    files = sorted(folder.glob("*/*"))[:3]
    rows = tuple(
        Row(f"o{i}", "recording", f"r{i}", "train", "0", hash_of_file(file)) for i, file in enumerate(files)
    )
    Manifest(rows).save(moved / "manifest.jsonl")
    assert "are among the judged: 3 of train" in " ".join(evlift.evaluate_recordings(moved, folder).remarks)
    (moved / "manifest.jsonl").write_text("damaged")
    assert "is not known: it has no readable manifest" in " ".join(
        evlift.evaluate_recordings(moved, folder).remarks
    )


def test_sensors_in_tables_are_height_by_width(tmp_path):
    from evlift.verbs.judged import write_csv

    write_csv(tmp_path / "a.csv", [{"sensor_size": (260, 346), "interval": (0.1, 0.2)}])
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "260x346,0.1 0.2"


def test_a_class_without_recordings_is_said_to_be_unjudged(capsys: pytest.CaptureFixture[str]) -> None:
    from evlift.engine.evaluate import Evaluation
    from evlift.verbs.evaluate import print_classes

    logits = np.eye(3, dtype=np.float32)[[0, 1]][:, None]
    print_classes(Evaluation(logits, np.array([0, 1]), ("a", "b")), ("zero", "one", "two"))
    said = capsys.readouterr().out
    assert "none judged" in said
    assert "nan" not in said
