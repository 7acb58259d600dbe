"""`evlift predict` as people and programs call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from evlift.cli import main
from streams import events, written


def test_lines_summary_and_files(run, tmp_path, capsys):
    path = str(written(tmp_path, events()))
    assert main(["predict", str(run), path, "--duration-ms", "50"]) == 0
    said = capsys.readouterr()
    header, *rows = said.out.splitlines()
    assert len(rows) == 4  # 200 ms
    assert header.split() == ["from", "to", "ms", "events", "conf.", "label"]
    for word in ("real-time factor", "dropped", "p99", "network", "4,000"):
        assert word in said.err
    out = tmp_path / "labels.jsonl"
    assert main(["predict", str(run), path, "--events", "1000", "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 4
    assert f"Written: {out}" in capsys.readouterr().err


def test_json_lines_and_the_summary_apart(run, tmp_path, capsys):
    path = str(written(tmp_path, events()))
    options = ["--duration-ms", "50", "--overlap", "0.5", "--json", "--probabilities", "--unknown-below", "1"]
    assert main(["predict", str(run), path, *options]) == 0
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert {row["label"] for row in rows} == {"unknown"}
    assert all(len(row["probabilities"]) == 10 for row in rows)
    summary = json.loads(said.err)["summary"]
    assert summary["windows"] == len(rows)
    assert set(summary["stages_ms"]) == {"decode", "represent", "network", "write"}


def test_exit_codes(run, tmp_path, capsys):
    written(tmp_path, events())
    (tmp_path / "bad.raw").write_bytes(b"nothing")
    assert main(["predict", str(run), str(tmp_path)]) == 1
    assert "1 recording could not be read (bad.raw); the others are done" in capsys.readouterr().err
    assert main(["predict", str(run), str(tmp_path), "--follow"]) == 2
    assert main(["predict", str(tmp_path), str(tmp_path / "evt3.raw")]) == 1
    assert main(["predict", str(run), str(tmp_path / "evt3.raw"), "--out", str(tmp_path / "a.gif")]) == 2
    for wrong in (["--overlap", "2"], ["--idle-s", "0"], ["--unknown-below", "x"], ["--sensor", "34"]):
        with pytest.raises(SystemExit) as left:
            main(["predict", str(run), str(tmp_path / "evt3.raw"), *wrong])
        assert left.value.code == 2


def test_what_cannot_be_read_leaves_nothing_on_standard_output_and_no_folder(run, tmp_path, capsys):
    bad = tmp_path / "bad.raw"
    bad.write_bytes(b"nothing")
    out = tmp_path / "deep" / "er" / "out.jsonl"
    (tmp_path / "kept").mkdir()
    for more in ([], ["--out", str(out)], ["--out", str(tmp_path / "kept" / "new" / "out.csv")]):
        assert main(["predict", str(run), str(bad), *more]) == 1
        assert capsys.readouterr().out == ""
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.raw", "kept"]


def test_ctrl_c_ends_a_pipe_with_whole_files(run, tmp_path):
    data = written(tmp_path, events()).read_bytes()
    out = tmp_path / "labels.jsonl"
    options = ["-", "--duration-ms", "20", "--json", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "evlift", "predict", str(run), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(data)
    process.stdin.flush()
    first = json.loads(process.stdout.readline())
    time.sleep(0.1)
    assert not out.exists()
    process.send_signal(signal.SIGINT)
    rest, said = process.stdout.read(), process.stderr.read()
    assert process.wait(timeout=120) == 0, said
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()
    summary = json.loads(said)["summary"]
    assert summary["ended"] == "stopped"
    assert summary["events"] == 4000
    rows = [first, *map(json.loads, rest.splitlines())]
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows
    assert sum(row["events"] for row in rows) == 4000


def test_a_followed_file_that_is_cut_leaves_what_was_predicted(run, tmp_path):
    path, out = written(tmp_path, events()), tmp_path / "labels.jsonl"
    command = [sys.executable, "-m", "evlift", "predict", str(run), str(path), "--follow", "--json"]
    process = subprocess.Popen(
        [*command, "--duration-ms", "20", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # what `readline` took in advance would be lost to `communicate`
    )
    first = process.stdout.readline()
    os.truncate(path, 20)
    rest, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"but it was cut from" in said
    assert out.read_bytes() == first + rest
    assert first.startswith(b'{"recording"')


def test_closed_standard_input_is_said_so(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["predict", str(run), "-"]) == 2
    assert "but it is closed" in capsys.readouterr().err


def test_a_reader_that_leaves_ends_it_quietly(run, tmp_path, monkeypatch, capfd):
    path = written(tmp_path, events())
    source, sink = os.pipe()
    with os.fdopen(sink, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        os.close(source)
        out = tmp_path / "labels.jsonl"
        code = main(["predict", str(run), str(path), "--duration-ms", "10", "--json", "--out", str(out)])
        monkeypatch.undo()
    assert code == 1
    assert capfd.readouterr().err == ""
    assert not out.exists()
