"""The command line: exit codes, messages, and every command that the help names."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time

import pytest

import evlift
from evlift.cli import build_parser, main
from evlift.config import parse_recipe
from evlift.engine.checkpoint import load_resume
from helpers import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return evlift.train(tiny(), folder).folder


@pytest.mark.parametrize(
    "verb", ["demo", "info", "train", "evaluate", "predict", "export", "bench", "report", "view", "convert"]
)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with contextlib.suppress(SystemExit):
        assert main([verb, "--help"]) == 0
    assert f"evlift {verb}" in capsys.readouterr().out


def test_help_of_a_recipe_lists_its_fields(capsys):
    assert main(["train", "tmkt-digits", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--method.r_m" in said
    assert "--train.steps" in said


def test_help_of_a_recipe_follows_its_flags_and_needs_the_names_of_its_sections(tmp_path, capsys):
    assert main(["train", "tmkt-digits", "--method.name", "evdistill", "--help"]) == 0
    assert "--method.reconstruction_share" in capsys.readouterr().out
    (tmp_path / "part.yaml").write_text("data: {name: digits}\nmodel: {name: scnn}\nmethod: kt\n")
    assert main(["train", str(tmp_path / "part.yaml"), "--help"]) == 2
    assert "`method:` with a `name:`" in capsys.readouterr().err


def test_wrong_arguments_exit_with_2(capsys):
    assert main(["train", "no-such-recipe"]) == 2
    assert "shipped recipe: " in capsys.readouterr().err
    assert main(["train", "tmkt-digits", "--method.rm", "0.3"]) == 2
    assert "method.r_m" in capsys.readouterr().err
    assert main(["train", "--train.steps", "20", "tmkt-digits"]) == 2
    assert "recipe before its fields" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["predict"])
    assert left.value.code == 2


def test_failures_exit_with_1_and_one_message(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("evlift: Expected a run")
    (tmp_path / "file").touch()
    (tmp_path / "tiny.yaml").write_text(parse_recipe(tiny()).to_yaml())
    assert main(["train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "file" / "run")]) == 1
    assert capsys.readouterr().err.startswith("evlift: ")
    assert main(["info", str(tmp_path / "nothing.raw")]) == 1
    assert "nothing.raw" in capsys.readouterr().err


def test_train_evaluate_predict(tmp_path, capsys, random_stream):
    (tmp_path / "tiny.yaml").write_text(parse_recipe(tiny()).to_yaml())
    assert (
        main(["train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run"), "--train.steps", "4"])
        == 0
    )
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "per time step" in capsys.readouterr().out
    evlift.write_events(tmp_path / "a.npz", random_stream)
    assert (
        main(["predict", str(tmp_path / "run"), str(tmp_path / "a.npz"), "--duration-ms", "50", "--json"])
        == 0
    )
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 2
    assert sum(one["events"] for one in found) == 5000


@pytest.mark.parametrize("verb", ["convert", "evaluate", "predict", "simulate"])
def test_a_sensor_is_height_by_width_in_every_verb(verb):
    places = ["run"] if verb == "evaluate" else ["a", "b"]
    found = vars(build_parser().parse_args([verb, *places, "--sensor", "260x346"]))
    assert (260, 346) in found.values()


def test_brackets_in_names_are_printed_as_they_are(capsys):
    from evlift.progress import work_bar
    from evlift.verbs.common import open_console, print_table

    print_table("runs/[new]", ("a [red]",), [("[/old]",), ("[class]",)])
    with work_bar(open_console(), "of [blue]", "files") as report:
        report(1, 1)
    said = capsys.readouterr().out
    assert all(name in said for name in ("runs/[new]", "a [red]", "[/old]", "[class]", "of [blue]"))


@pytest.mark.parametrize(
    "length", [["--duration-ms", "0"], ["--duration-ms", "-5"], ["--duration-ms", "nan"], ["--events", "0"]]
)
def test_windows_without_a_length_are_wrong_arguments(length, capsys):
    with pytest.raises(SystemExit) as left:
        main(["predict", "run", "recording.npz", *length])
    assert left.value.code == 2
    assert "at least" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_says_so_and_goes_on_where_it_stopped(tmp_path, number):
    (tmp_path / "tiny.yaml").write_text(
        parse_recipe(tiny(train={"steps": 5000, "checkpoint_every": 5000})).to_yaml()
    )
    command = [sys.executable, "-m", "evlift", "train", str(tmp_path / "tiny.yaml"), "--out"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "run")], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    log = tmp_path / "run" / "metrics.csv"
    while process.poll() is None and not (log.exists() and ",loss," in log.read_text()):
        time.sleep(0.05)
    time.sleep(0.2)  # into the loop, past the first report
    process.send_signal(number)
    said = process.communicate(timeout=120)[1].strip().splitlines()
    assert process.returncode == 128 + number
    step = load_resume(tmp_path / "run" / "last.ckpt")["state"]["step"]
    assert said == [f"evlift: stopped after step {step} of 5000; the same command goes on from there"]


def test_info_goes_on_after_a_file_that_cannot_be_read(tmp_path, capsys, random_stream):
    good = str(tmp_path / "good.npz")
    evlift.write_events(good, random_stream)
    assert main(["info", str(tmp_path / "none.raw"), good, "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["events"] == len(random_stream)
    assert "none.raw" in said.err
    assert "1 of 2 recordings" in said.err


def test_evaluate_as_json(run, capsys):
    assert main(["evaluate", str(run), "--json", "--window", "first300"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 20
    assert len(found["per_step"]) == 3


def test_info_on_a_file(tmp_path, capsys, random_stream):
    evlift.write_events(tmp_path / "a.npz", random_stream)
    picture = tmp_path / "a.png"
    assert main(["info", str(tmp_path / "a.npz"), "--json", "--picture", str(picture)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["events"] == 5000
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_demo_writes_a_whole_page(tmp_path, capsys):
    assert main(["demo", "--embedded", "--steps", "2", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    page = (tmp_path / "index.html").read_text()
    for name in ("events-only", "source-only", "KT", "TMKT"):
        assert name in said
        assert name in page
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert "https://" not in page


def test_importing_evlift_loads_nothing_heavy():
    code = "import sys, evlift, evlift.cli; evlift.cli.build_parser(); print([m for m in %r if m in sys.modules])"
    heavy = ["torch", "numba", "h5py", "matplotlib", "scipy", "pandas", "timm"]
    done = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
