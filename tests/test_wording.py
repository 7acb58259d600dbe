"""Messages for people at a command line: counted nouns, fields of a recipe, options beside Python's arguments."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import evlift
from evlift.cli import main
from evlift.config import parse_recipe
from evlift.errors import ConfigError
from evlift.wording import as_fields, counted
from helpers import tiny

ARGUMENTS = re.compile(
    r"sensor_size|strict=|format=|fps=|overwrite=|duration_us|n_events|step_us|margin=|start_us|unknown_below|keep_state"
)
"""Python's arguments that are options of the command line, too."""
REACHED = ("events/readers", "events/writers", "events/convert.py", "streaming", "simulate/command.py")
FOR_PYTHON = ("Expected `sensor_size` to be (H, W) in whole pixels",)


def messages(tree: ast.AST) -> list[str]:
    """The text of every error and warning, with {} for what is filled in."""
    found = []
    for node in ast.walk(tree):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if name == "warn" or name.endswith("Error"):
            parts = [part for argument in node.args for part in ast.walk(argument)]
            found.append("".join(str(part.value) for part in parts if isinstance(part, ast.Constant)))
    return found


def test_messages_name_the_option_beside_the_argument():
    source, seen = Path(evlift.__file__).parent, 0
    for place in REACHED:
        for file in sorted((source / place).rglob("*.py")) or [source / place]:
            for message in messages(ast.parse(file.read_text("utf-8"))):
                if ARGUMENTS.search(message) and not message.startswith(FOR_PYTHON):
                    seen += 1
                    assert "--" in message, f"{file.name}: {message}"
    assert seen > 8


def test_one_of_a_thing_is_singular():
    assert [counted(n, "event") for n in (0, 1, 2, 1234)] == [
        "0 events",
        "1 event",
        "2 events",
        "1,234 events",
    ]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


def test_arguments_become_fields_and_other_words_stay():
    said = as_fields("Expected `p` or p2=1, but got 3. Set tet=True, q='a'.", "method", {"p", "tet", "q"})
    assert said == "Expected method.p or p2=1, but got 3. Set method.tet=true, method.q=a."
    assert as_fields("Expected `p`.", "method", {}) == "Expected `p`."


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--train.lr", "nan"], "Expected train.lr to be a finite number, but got nan.*default is 0.001"),
        (["--train.lr", ".nan"], "Expected train.lr to be a finite number, but got nan"),
        (["--model.width", ".inf"], "Expected model.width to be a finite number, but got inf"),
        (["--input.amplitude", "[.nan, 2]"], "Expected input.amplitude to be a finite number"),
        (["--input.amplitude", "[nan, 2]"], "input.amplitude to be null or a list of 2 finite numbers"),
        (["--data.labels_per_class", "nan"], "labels_per_class to be a whole number or null, but got nan"),
        (["--train.steps", "1.5"], "Expected train.steps to be a whole number, but got 1.5"),
        (["--input.window", "half"], "one of full, saccade, first300, mixed, but got half"),
    ],
)
def test_values_of_another_kind_are_refused_in_words(flags, said):
    with pytest.raises(ConfigError, match=said):
        parse_recipe(tiny(), flags)


@pytest.mark.parametrize(
    ("method", "flags", "said"),
    [
        ("events-only", ["--data.fold", "7"], "Expected data.fold in [0, 4], but got 7. Name one"),
        (
            "events-only",
            ["--data.labels_per_class", "1000"],
            "Expected data.labels_per_class (`k` in Python) in",
        ),
        (
            "events-only",
            ["--data.recordings", "5000"],
            "items from 'sklearn-digits', but got 5000. Ask for fewer",
        ),
        ("events-only", ["--model.width", "0"], "Expected model.width to be positive"),
        ("tmkt", ["--method.r_m", "2"], "Expected method.r_m to be in [0, 1]"),
        ("evdistill", ["--method.generator_width", "0"], "Expected method.generator_width to be at least 1"),
        ("evdistill", ["--method.mutual", "2"], "Set method.mutual to 0"),
    ],
)
def test_a_recipe_out_of_range_is_a_wrong_argument(tmp_path, capsys, method, flags, said):
    (tmp_path / "tiny.yaml").write_text(parse_recipe(tiny(method={"name": method})).to_yaml())
    assert main(["train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run"), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
