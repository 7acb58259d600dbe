"""Recipes: flags win over files, contradictions and typing errors are refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from evlift.config import TrainOptions, find_recipe, parse_recipe, shipped_recipes
from evlift.errors import ConfigError
from helpers import tiny

ROOT = Path(__file__).parents[1]


def test_flags_override_fields_of_every_section():
    flags = ["--method.r_m", "0.3", "--train.steps", "500", "--input.size", "[20, 24]", "--data.fold=2"]
    recipe = parse_recipe(tiny(method={"name": "tmkt"}), flags)
    assert recipe.method["r_m"] == 0.3
    assert (recipe.train.steps, recipe.input.size, recipe.data["fold"]) == (500, (20, 24), 2)


def test_a_recipe_survives_the_way_through_its_yaml(tmp_path):
    recipe = parse_recipe(tiny(method={"name": "tmkt", "r_m": 0.4}))
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    again = parse_recipe(tmp_path / "again.yaml")
    assert again == recipe
    assert again.digest == recipe.digest


def test_every_option_changes_the_digest():
    recipe = parse_recipe(tiny())
    for flag in (
        ["--train.seed", "1"],
        ["--data.fold", "1"],
        ["--method.tet_lambda", "0.5"],
        ["--model.width", "1"],
    ):
        assert parse_recipe(tiny(), flag).digest != recipe.digest, flag


def test_another_name_by_flag_drops_the_options_of_the_former():
    recipe = parse_recipe(tiny(method={"name": "tmkt", "r_m": 0.4}), ["--method.name", "source-only"])
    assert recipe.method["name"] == "source-only"
    assert "r_m" not in recipe.method


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        ({"method": {"name": "tmtk"}}, [], "Did you mean 'tmkt'"),
        ({"method": {"name": "tmkt", "rm": 0.3}}, [], "rm"),
        ({}, ["--train.stepz", "3"], "stepz"),
        ({}, ["--train.steps", "many"], "steps"),
        ({}, ["--train.steps", "0"], "train.steps"),
        ({}, ["--train.ema", "1.5"], "train.ema"),
        ({}, ["--train.patience", "2", "--train.eval_every", "0"], "train.patience"),
        ({}, ["--input.window", "halves"], "window"),
        ({}, ["--train.step", "9"], "unrecognized.*train.steps"),
        ({"method": {"name": "tmkt", "r_n": 0.3}}, [], "Did you mean method.r_m"),
        ({"model": {"name": "scnn", "width": None}}, [], "model.width.*null"),
        ({}, ["--train.lr", "-1"], "train.lr"),
        ({}, ["--train.seed", "-1"], "train.seed"),
        ({}, ["--train.patience", "-1"], "train.patience"),
        ({}, ["--train.eval_every", "-1"], "train.eval_every"),
        ({}, ["--train.threads", "-1"], "train.threads"),
        ({}, ["--train.warmup", "-1"], "train.warmup"),
        ({}, ["--train.weight_decay", "-1"], "train.weight_decay"),
        ({}, ["--train.final_lr", "2"], "train.final_lr"),
        ({}, ["--input.steps", "0"], "input.steps"),
        ({}, ["--input.zoom", "-1"], "input.zoom"),
        ({}, ["--input.drop", "-0.1"], "input.drop"),
        ({}, ["--input.shift", "100"], "input.shift"),
        ({}, ["--input.quantile", "0"], "input.quantile"),
        ({}, ["--input.amplitude", "[9, 2]"], "input.amplitude"),
        ({}, ["--input.threshold", "[-0.1, 0.5]"], "input.threshold"),
        ({}, ["--input.leak", "[0, .inf]"], "input.leak"),
    ],
)
def test_wrong_settings_are_refused(change, flags, said):
    with pytest.raises(ConfigError, match=said):
        parse_recipe(tiny(**change), flags)


def test_a_section_without_fields_has_its_defaults_and_the_last_flag_wins():
    recipe = parse_recipe({**tiny(), "train": None}, ["--method.name", "kt", "--method.name", "source-only"])
    assert recipe.train == TrainOptions()
    assert recipe.method["name"] == "source-only"
    with pytest.raises(ConfigError, match="`train:`"):
        parse_recipe({**tiny(), "train": 5})


def test_a_recipe_without_a_section_says_which():
    with pytest.raises(ConfigError, match="`model:`"):
        parse_recipe({"data": {"name": "digits"}, "method": {"name": "tmkt"}})


def test_an_unknown_recipe_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match="tmkt-digits"):
        find_recipe("tmkt-digitz")


def test_a_yaml_file_cannot_run_code(tmp_path):
    (tmp_path / "evil.yaml").write_text(
        "!!python/object/apply:os.system ['touch " + str(tmp_path / "done") + "']"
    )
    with pytest.raises(ConfigError):
        parse_recipe(tmp_path / "evil.yaml")
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("path", sorted(shipped_recipes().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_parses_by_path_and_by_name(path):
    assert parse_recipe(path) == parse_recipe(path.stem)
    assert f"`{path.stem}`" in (ROOT / "docs/recipes.md").read_text("utf-8")
