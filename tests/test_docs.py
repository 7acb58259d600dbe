"""README and docs: snippets and commands run, recipes parse, tables agree with the code, links lead somewhere.

Python and bash blocks of a page run in order in one folder, which holds a recording, pictures and recordings by class.
Trainings are cut to two steps on generated data; nothing else of a snippet is changed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import evlift
from evlift import api, cli, demo
from evlift.bench.checks import KNOWN
from evlift.bench.suite import load_suite, shipped_suites
from evlift.config import Recipe, parse_recipe, registries
from evlift.datasets import IMAGES, RECORDINGS
from evlift.datasets.download import DOWNLOADS
from evlift.events.filters import FILTERS
from evlift.events.readers import READERS
from evlift.events.writers import WRITERS
from evlift.methods import METHODS
from evlift.methods.mixing import solve_p
from evlift.models import MODELS, create_model
from evlift.models.neurons import SURROGATES
from evlift.representations import REPRESENTATIONS
from evlift.simulate import MOTIONS, Saccades
from helpers import benchmark

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
SUITES = registries()["data"]
HOMES = {  # page → registries whose every name it mentions
    "models.md": (MODELS, SURROGATES),
    "data.md": (SUITES, IMAGES, RECORDINGS, DOWNLOADS),
    "recipes.md": (SUITES, MODELS, METHODS),
    "formats.md": (READERS, WRITERS, FILTERS),
    "representations.md": (REPRESENTATIONS,),
    "simulation.md": (MOTIONS,),
}
NOT_RUN = ("pip ",)  # an installation changes the environment of the tests
pytestmark = pytest.mark.filterwarnings("ignore::evlift.events.RecordingWarning")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 2)


def with_blocks(*languages: str) -> list[Any]:
    return [pytest.param(p, id=p.name) for p in PAGES if any(b.language in languages for b in blocks(p))]


def small(recipe: Any, flags: Any = ()) -> Recipe:
    """The recipe that a snippet asks for, on few data and for two steps."""
    full = recipe if isinstance(recipe, Recipe) else parse_recipe(recipe, flags)
    data = full.data
    if data["name"].startswith(("digits", "simulated")):
        data = parse_recipe({**full.to_dict(), "data": {"name": "simulated-digits", "recordings": 100}}).data
    data = {**data, "labels_per_class": 2} if "labels_per_class" in data else data
    model = {**full.model, "width": 0.2} if "width" in full.model else full.model
    quick = {"steps": 2, "batch_size": 4, "threads": 1, "precision": "32-true", "eval_every": 0}
    return replace(full, data=data, model=model, train=replace(full.train, **quick))


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A folder as the pages presume it, small trainings, and registries as they were afterwards."""
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write = evlift.write_events
    write("recording.raw", recording(rng, "4"))
    for name in ("mug", "phone"):
        Path("pictures", name).mkdir(parents=True)
        for i in range(6):
            from PIL import Image

            Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(f"pictures/{name}/{i:03}.png")
        for letter in "abcdef":
            write(f"recordings/{name}/{letter}.raw", recording(rng, letter))
    train = api.train

    def quick_train(recipe, out=None, *, flags=(), report=None, found=None):
        return train(small(recipe, flags), out, report=report)

    for module in (api, demo):
        monkeypatch.setattr(module, "train", quick_train)
    kept = [(r, dict(r._entries)) for r in {id(r): r for group in HOMES.values() for r in group}.values()]
    yield tmp_path
    for registry, entries in kept:
        registry._entries = entries


def recording(rng: np.random.Generator, letter: str) -> evlift.EventStream:
    """A simulated recording of 0.3 s on 34x34 pixels."""
    picture = np.zeros((28, 28), np.uint8)
    picture[6:22, 8 + ord(letter) % 8 : 14 + ord(letter) % 8] = 255
    return Saccades()(picture, rng)


@pytest.mark.parametrize("page", with_blocks("python", "bash", "yaml"))
def test_what_a_page_shows_runs(page, scene, capsys):
    module = types.ModuleType("snippet")
    sys.modules["snippet"] = module
    for block in blocks(page):
        if block.language == "python":
            file = scene / f"{page.stem}_{block.line}.py"
            file.write_text(block.text)
            exec(compile(block.text, file, "exec"), module.__dict__)
        if block.language == "yaml":
            (scene / "mine.yaml").write_text(block.text)
            content = yaml.safe_load(block.text)
            assert load_suite("mine.yaml").entries() if "rows" in content else parse_recipe(content)
        if block.language == "bash":
            for line in block.text.splitlines():
                run_command(line)
    del sys.modules["snippet"]


def run_command(line: str) -> None:
    """One line of a bash block; `evlift` runs here, `make` is looked up, anything unknown fails."""
    words = shlex.split(line, comments=True)
    if not words or line.startswith(NOT_RUN):
        return
    if words[0] == "make":
        assert all(target_exists(word) for word in words[1:] if "=" not in word), line
        return
    assert words[0] == "evlift", f"unknown command: {line}"
    shortened = {
        "demo": ["--embedded", "--steps", "2"],
        "bench": ["--minutes", "0"],
        "tune": ["--minutes", "0"],
    }
    words = words[1:] + shortened.get(words[1], [])
    assert cli.main(words) == 0, line


def target_exists(name: str) -> bool:
    return bool(re.search(rf"^{re.escape(name)}:", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_code_spans_name_targets_and_verbs_that_exist():
    verbs = cli.build_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for page in PAGES:
        spans = re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))
        for span in spans:
            words = span.split()
            if words[0] == "make" and len(words) > 1:
                assert target_exists(words[1]), f"{page.name}: {span}"
            if words[0] == "evlift" and len(words) > 1:
                assert words[1] in verbs or words[1].startswith(("-", "VERB")), f"{page.name}: {span}"


def options_tables() -> Iterator[Any]:
    """(page, object, names left out, {option: default as printed}) of each table marked `options:`."""
    for page in PAGES:
        pattern = r"<!-- options: ([\w.:]+)(?:; without: ([\w, ]+))? -->\n\n((?:\|.*\n)+)"
        for found in re.finditer(pattern, page.read_text("utf-8")):
            rows = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in found[3].splitlines()[2:]]
            without = set((found[2] or "").split(", ")) - {""}
            yield pytest.param(
                found[1], without, {row[0]: row[1] for row in rows}, id=f"{page.name}:{found[1]}"
            )


def printed(default: Any) -> str:
    """A default as the tables print it: YAML, strings without quotation marks."""
    if default is inspect.Parameter.empty:
        return "–"
    return (
        default
        if isinstance(default, str)
        else json.dumps(list(default) if isinstance(default, tuple) else default)
    )


@pytest.mark.parametrize(("place", "without", "table"), list(options_tables()))
def test_tables_of_options_agree_with_the_code(place, without, table):
    module, name = place.split(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    assert table == {p.name: printed(p.default) for p in parameters if p.name not in without}


def test_every_option_has_a_table():
    """Methods, models, suites, representations, inputs and trainings: whatever a recipe can say is documented."""
    documented = {parameter.values[0] for parameter in options_tables()}
    assert {
        "evlift.config:InputOptions",
        "evlift.config:TrainOptions",
        "evlift.simulate:Saccades",
    } <= documented
    text = "".join(page.read_text("utf-8") for page in PAGES)
    for registry in (METHODS, MODELS, SUITES, REPRESENTATIONS, READERS):
        for name in registry:
            for parameter in inspect.signature(registry[name]).parameters.values():
                own = parameter.kind is not inspect.Parameter.VAR_KEYWORD
                assert not own or f"`{parameter.name}`" in text or f"`{parameter.name}=" in text, (
                    name,
                    parameter.name,
                )


@pytest.mark.parametrize(("page", "registry"), [(p, r) for p, group in HOMES.items() for r in group])
def test_every_registered_name_is_on_its_page(page, registry):
    text = (DOCS / page).read_text("utf-8")
    assert [name for name in registry if f"`{name}`" not in text] == []


def test_the_page_of_suites_names_every_key_and_every_shipped_suite():
    for kind, keys in KNOWN.items():
        assert {
            name.strip("`") for row in rows_of(DOCS / "bench.md", kind) for name in row[0].split(", ")
        } == {*keys}
    named = {row[0].strip("`") for row in rows_of(DOCS / "bench.md", "shipped suite")}
    assert named == {path.stem for path in shipped_suites()}


def test_the_table_of_formats_in_the_readme():
    reads, writes = set(), set()
    for row in rows_of(ROOT / "README.md", "format"):
        names = set(re.findall(r"`(\w+)`", row[1]))
        reads |= names if row[3] == "yes" else set()
        writes |= {"yes": names, "–": set()}.get(row[4], {row[4]})
    assert reads == set(READERS)
    assert writes == set(WRITERS)


def rows_of(page: Path, header: str) -> list[list[str]]:
    """Cells of the table whose first column has this header."""
    found = re.search(
        rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page.read_text("utf-8"), re.MULTILINE
    )
    assert found, f"no table '{header}' in {page.name}"
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in found[1].splitlines()]


def test_what_the_pages_say_about_the_demo():
    number = {1: "one", 2: "two", 3: "three", 5: "five"}[demo.LABELS]
    for page in (ROOT / "README.md", DOCS / "first-run.md"):
        assert f"{number} labelled recordings a" in " ".join(page.read_text("utf-8").split())
    named = {row[0] for row in rows_of(DOCS / "first-run.md", "row")}
    assert named == set(demo.METHODS)


def test_the_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (said,) = re.findall(r"^Extras: (.*)$", (DOCS / "first-run.md").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", said)) == set(extras)


def test_the_table_of_switch_probabilities():
    text = (DOCS / "tmkt.md").read_text("utf-8")
    ratios = [float(cell) for cell in re.search(r"^\| r_m \|(.*)\|$", text, re.MULTILINE)[1].split("|")]
    rows = re.findall(r"^\| p, T = (\d+) \|(.*)\|$", text, re.MULTILINE)
    assert len(rows) == 3
    for steps, cells in rows:
        assert [float(cell) for cell in cells.split("|")] == [
            round(solve_p(r, int(steps)), 4) for r in ratios
        ]


def test_the_table_of_parameters():
    rows = rows_of(DOCS / "models.md", "network")
    assert len(rows) >= 5
    for name, classes, size, total, inference in rows:
        net = create_model(name.strip("`"), classes=int(classes), input_size=int(size.split("×")[0]))
        assert f"{sum(p.numel() for p in net.parameters()):,}" == total
        assert f"{sum(p.numel() for p in net.event_parameters()):,}" == inference


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_local_files_lead_somewhere(page):
    targets = re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    )
    local = [target.split("#")[0] for target in targets if "://" not in target]
    assert [target for target in local if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CITATION.cff"], ids=lambda page: page.name
)
def test_pages_name_no_place_outside_of_the_project(page):
    assert re.search(r"(?<![\w.~-])/(work|home|tmp|root)/|\.\./shared", page.read_text("utf-8")) is None


def test_every_page_is_in_the_navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    named = set(re.findall(r"[\w/-]+\.md", json.dumps(config["nav"])))
    assert named == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_tables_of_results_are_those_of_the_records():
    pages = benchmark("tables").written(DOCS, ROOT / "results")
    assert {page.parent.name for page in pages} == {"docs", "tables"}
    stale = [page.name for page, text in pages.items() if page.read_text("utf-8") != text]
    assert stale == [], "python benchmarks/tables.py writes them anew"


def test_the_citation_file_is_whole():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    from importlib.metadata import version

    assert cited["version"] == version("evlift")
    assert {"cff-version", "message", "title", "authors", "license"} <= set(cited)


def test_the_site_builds_strictly_and_asks_for_nothing_outside(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = r"""<(?:script|img|link(?! rel="canonical")|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//"""
    for page in tmp_path.rglob("*.html"):
        assert re.search(loaded, page.read_text("utf-8")) is None, page
