"""Records of a suite: runs that are in them are done, they are small, exact, mergeable, and refuse to be damaged."""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from bench_suites import SUITE, fake_results, write_suite
from evlift.bench import runner as running
from evlift.bench.jobs import plan
from evlift.bench.records import Records, note_session, read_sessions
from evlift.bench.results import Results
from evlift.bench.suite import load_suite
from evlift.bench.tables import summary, tables
from evlift.bench.worker import read_result
from evlift.cli import main
from evlift.errors import DataError


@pytest.fixture
def suite(tmp_path):
    return load_suite(write_suite(tmp_path / "tiny.yaml"))


def recorded(suite, tmp_path):
    """Jobs with results in their folders, and records of them."""
    jobs = plan(suite, tmp_path / "here")
    fake_results(jobs, np.random.default_rng(0))
    records = Records(tmp_path / "results", suite.name)
    records.add([job.result() for job in jobs])
    return jobs, records


def test_a_run_in_the_records_is_done_on_another_machine_with_the_same_tables(suite, tmp_path):
    jobs, _ = recorded(suite, tmp_path)
    elsewhere = plan(suite, tmp_path / "there", records=Records(tmp_path / "results", suite.name))
    assert all(job.done for job in elsewhere)
    assert not any(job.folder.exists() for job in elsewhere)
    ours, theirs = (Results.read(suite, found) for found in (jobs, elsewhere))
    assert tables(ours) == tables(theirs)
    assert summary(ours) == summary(theirs)
    assert not any(job.done for job in plan(suite, tmp_path / "there"))


def test_records_give_back_what_was_judged_bit_by_bit(suite, tmp_path):
    jobs, records = recorded(suite, tmp_path)
    again = Records(tmp_path / "results", suite.name)
    for job in jobs:
        digest, result = job.content["digest"], job.result()
        assert {**again.result(digest)}["judged"] == result["judged"]
        assert again.result(digest)["names"] == result["names"]
        assert again.result(digest)["seconds"] == result["seconds"]
    assert again.result("unknown") == {}
    lines = [json.loads(line) for line in records.path.read_text().splitlines()]
    assert [line["of"][-3:] for line in lines if "of" in line] == ["val"] * len(
        {job.result()["split"] for job in jobs}
    )
    digests = [line["digest"] for line in lines if "digest" in line]
    assert digests == sorted(digests)
    assert len(digests) == len(jobs)


def test_a_hundred_runs_stay_under_a_megabyte(tmp_path):
    names = [f"{i % 10}/{i:05d}" for i in range(800)]
    right = np.random.default_rng(0).integers(0, 2, 800).tolist()
    confusion = np.full((10, 10), 12).tolist()
    said = {"score": 0.123456789, "metric": "accuracy", "samples": 800, "class_mean": 0.123456789}
    said |= {
        "per_class": [0.123456789] * 10,
        "confusion": confusion,
        "right": right,
        "per_step": [0.123456] * 6,
    }
    windows = ("val/full", "val/saccade", "val/first300", "test/full", "test/saccade", "test/first300")
    result = {"split": "x" * 64, "names": {"val": names, "test": names}, "environment": {"machine": "m" * 60}}
    results = [{**result, "digest": f"{i:016d}", "judged": dict.fromkeys(windows, said)} for i in range(100)]
    records = Records(tmp_path, "large")
    records.add(results)
    assert records.path.stat().st_size < 1_000_000


def test_two_writers_keep_each_others_runs(suite, tmp_path):
    jobs = plan(suite, tmp_path / "here")
    fake_results(jobs, np.random.default_rng(0))
    first, second = (Records(tmp_path / "results", suite.name) for _ in range(2))
    first.add([jobs[0].result()])
    second.add([jobs[1].result()])
    assert len(Records(tmp_path / "results", suite.name).runs) == 2
    changed = first.path.stat().st_mtime_ns
    second.add([jobs[0].result(), {}])
    assert first.path.stat().st_mtime_ns == changed


def test_a_folder_that_says_more_wins_and_is_recorded(suite, tmp_path):
    jobs, records = recorded(suite, tmp_path)
    shutil.rmtree(tmp_path / "here")
    tested = plan(suite, tmp_path / "here", test=True, records=records)
    assert not any(job.done for job in tested)
    fake_results(tested, np.random.default_rng(1), splits=("val", "test"))
    assert all(job.done for job in tested)
    records.add([job.result() for job in tested])
    kept = Records(tmp_path / "results", suite.name).result(jobs[0].content["digest"])
    assert set(kept["names"]) == {"val", "test"}


def test_a_folder_that_says_other_things_takes_nothing_from_the_records(suite, tmp_path):
    jobs, records = recorded(suite, tmp_path)
    known = jobs[0].result()["judged"]
    shutil.rmtree(tmp_path / "here")
    (job, *_) = plan(suite, tmp_path / "here", test=True, records=records)
    fake_results([job], np.random.default_rng(1), splits=("test",))
    assert set(job.result()["judged"]) > set(known)
    records.add([read_result(job.folder, job.content["digest"])])
    kept = Records(tmp_path / "results", suite.name).result(job.content["digest"])["judged"]
    assert {key: kept[key] for key in known} == known
    assert set(kept) == {one for key in known for one in (key, key.replace("val/", "test/"))}


def test_writers_at_the_same_time_lose_nothing(suite, tmp_path):
    jobs = plan(suite, tmp_path / "here")
    fake_results(jobs, np.random.default_rng(0))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        places = [(tmp_path / "results", suite.name, job.result()) for job in jobs]
        list(pool.map(_add_often, places))
    assert len(Records(tmp_path / "results", suite.name).runs) == 21 * len(jobs)


def _add_often(place):
    """Add a run under many digests, then under its own."""
    folder, name, result = place
    records = Records(folder, name)
    for i in range(20):
        records.add([{**result, "digest": f"{result['digest']}{i}"}])
    records.add([result])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"version":1', '"version":9'),
        lambda text: text.replace('"score":', '"scores":'),
        lambda text: text.replace('"environment":', '"env":'),
        lambda text: re.sub(r'"judged":\{.*\}', '"judged":[]', text),
        lambda text: text.replace('"names":["val0",', '"names":['),
        lambda text: "",
    ],
)
def test_damaged_records_are_refused(damage, suite, tmp_path):
    _, records = recorded(suite, tmp_path)
    records.path.write_text(damage(records.path.read_text()))
    with pytest.raises(
        DataError, match=r"to hold records of runs, but: .* Restore it, or give another --records"
    ):
        Records(tmp_path / "results", suite.name)


def test_sessions_are_added_up(suite, tmp_path):
    import time

    out = tmp_path / "out"
    for start in (0, 3600):
        note_session(out, time.gmtime(start), 1800.04, workers=2, runs=3)
    sessions = read_sessions(out)
    assert [(one["started"], one["seconds"], one["runs"]) for one in sessions] == [
        ("1970-01-01T00:00:00Z", 1800.0, 3),
        ("1970-01-01T01:00:00Z", 1800.0, 3),
    ]
    records = Records(tmp_path / "results", suite.name)
    records.add([], sessions)
    records.add([], sessions)
    assert list(Records(tmp_path / "results", suite.name).sessions.values()) == sessions
    jobs, _ = recorded(suite, tmp_path)
    said = "\n".join(summary(Results.read(suite, jobs, sessions)))
    assert "Wall time: 1.00 hours in 2 sessions, 2 at a time." in said


def test_the_command_records_and_starts_nothing_that_is_recorded(tmp_path, monkeypatch, capsys):
    path = write_suite(tmp_path / "tiny.yaml", rows={"events": SUITE["rows"]["events"]}, reference=None)
    command = ["bench", str(path), "--quick", "--records", str(tmp_path / "results"), "--workers", "1"]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    lines = (tmp_path / "results" / "tiny-quick.jsonl").read_text().splitlines()
    run = next(line for line in map(json.loads, lines) if "digest" in line)
    assert run["environment"]["packages"]["evlift"]
    assert run["seconds"] > 0
    assert len(run["judged"]["val/full"]["per_step"]) == 1
    assert any("started" in json.loads(line) for line in lines)

    def refuse(job):
        raise AssertionError(f"{job} was started")

    monkeypatch.setattr(running, "launch", refuse)
    assert main([*command, "--out", str(tmp_path / "two")]) == 0
    assert "0 of 1 runs to go" in capsys.readouterr().out
    text, again = ((tmp_path / out / "table.md").read_text() for out in ("one", "two"))
    assert text == again
    assert "1 of 1 runs are done." in text
