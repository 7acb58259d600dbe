"""Recipes: one YAML file says data, input, model, method and training; flags override any field."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evlift.checks import check_range
from evlift.errors import ConfigError
from evlift.files import load_yaml
from evlift.registry import Registry
from evlift.wording import of_parser

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

SKIPPED: dict[str, set[str | int]] = {  # what evlift fills in itself
    "data": set(),
    "model": {"classes", "input_size", "channels", "image_head", "steps"},
    "method": {"student", "steps", "picture_channels"},
}
UNDECISIVE = (
    ("input", "cache"),
    ("input", "keep_state"),
    ("train", "tensorboard"),
    ("train", "log_every"),
    ("train", "checkpoint_every"),
)
Window = Literal["full", "saccade", "first300", "mixed"]


@dataclass(frozen=True)
class InputOptions:
    """How recordings and pictures become the sequences [T, 2, H, W] that a network reads.

    Args:
        steps: time steps T.
        size: height and width of the network's input.
        window: the stretch of a recording that is read: full; saccade (one third of it, at random); first300 (300
            events from the start of a random third on); mixed (one of these at random; evaluation reads full windows).
        encoding: still pictures as sequences: constant (V of HSV copied to all steps; KT's released code) or saccade
            (set in motion through the event simulator; decided here).
        motion: path of the simulated motion: random3, nmnist, pan, shake, affine or varied.
        negative: simulated pictures are shown as negatives, as N-MNIST's digits were; false for photographs.
        amplitude: smallest and largest extent of the simulated motion in sensor pixels; null for N-MNIST's.
        threshold: smallest and largest contrast threshold of the simulator in log units; null for N-MNIST's.
        noise: smallest and largest background of the simulator, events a second and pixel; null for its own.
        leak: smallest and largest leak of the simulator, ON events a second and pixel; null for its own.
        takes: simulated motions a picture in segmentation, which later epochs see again in turn and need not simulate;
            0 for a new one at every step.
        colour: pictures beside the sequences have three channels; false for one, grey.
        crop_to_events: cut to the bounding box of the events before resizing (N-Caltech101 in the papers).
        normalise: counts in frames: quantile (of the training recordings), none (KT's released code), max, p99.9 or
            log1p, the last three clip by clip.
        quantile: which quantile of the non-zero counts maps to 1, with `normalise: quantile`.
        shift: training sequences move by at most this many pixels of the input (the papers' crop with padding 4).
        flip: training sequences are mirrored at random (CEP-DVS in the papers; wrong for digits).
        rotation: training sequences turn by at most this many degrees (15 for CEP-DVS in the papers).
        zoom: training sequences grow or shrink by at most this share.
        drop: at most this share of the training events is dropped at random.
        cache: folder for encoded evaluation sequences, keyed by content and recipe; null keeps none.
        keep_state: at prediction on a stream, potentials of spiking neurons go on from window to window.
    """

    steps: int = 10
    size: tuple[int, int] = (28, 28)
    window: Window = "full"
    encoding: Literal["constant", "saccade"] = "constant"
    motion: Literal["random3", "nmnist", "pan", "shake", "affine", "varied"] = "random3"
    negative: bool = True
    amplitude: tuple[float, float] | None = None
    threshold: tuple[float, float] | None = None
    noise: tuple[float, float] | None = None
    leak: tuple[float, float] | None = None
    takes: int = 0
    colour: bool = False
    crop_to_events: bool = False
    normalise: Literal["quantile", "none", "max", "p99.9", "log1p"] = "quantile"
    quantile: float = 0.99
    shift: int = 2
    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    drop: float = 0.0
    cache: str | None = None
    keep_state: bool = False

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("size", min(self.size))):
            check_range(f"input.{name}", value, 1)
        for name in ("rotation", "zoom", "takes"):
            check_range(f"input.{name}", getattr(self, name), 0)
        check_range("input.shift", self.shift, 0, min(self.size) - 1)
        check_range("input.drop", self.drop, 0, 1)
        for name in ("amplitude", "threshold", "noise", "leak"):
            low, high = getattr(self, name) or (0.0, 0.0)
            if not 0 <= low <= high < float("inf"):
                raise ConfigError(f"Expected input.{name} as [low, high] from 0 up, but got [{low}, {high}].")
        if not 0 < self.quantile <= 1:
            raise ConfigError(f"Expected input.quantile in (0, 1], but got {self.quantile}.")

    @property
    def camera(self) -> dict[str, Any]:
        """The ranges that replace the simulator's own, by its names for them."""
        given = {
            "amplitude_px": self.amplitude,
            "threshold": self.threshold,
            "noise_hz": self.noise,
            "leak_hz": self.leak,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class TrainOptions:
    """Optimisation, checkpoints and logs.

    Args:
        steps: optimiser steps over all phases.
        batch_size: samples of each modality a step.
        optimizer: adamw or sgd (momentum 0.9, Nesterov).
        lr: peak learning rate; 0 moves nothing, whatever rate of its own a part has.
        weight_decay: decoupled for adamw.
        schedule: cosine (to `final_lr`), poly (power 0.9) or constant, after the warm-up.
        warmup: steps of linear warm-up in each phase.
        final_lr: where the cosine ends, as a share of lr.
        clip: largest gradient norm; 0 switches clipping off.
        precision: auto (bf16 where the processor or GPU has it), 32-true or bf16-mixed.
        channels_last: memory layout of the convolutions; on CPUs max pools are a tenth as costly in it.
        compile: torch.compile the student (needs a C++ compiler at run time, costs a minute).
        lsuv: scale the first weights on the first batch so that every layer's output has unit variance, for networks
            without batch normalisation (Mishkin and Matas, ICLR 2016).
        ema: decay of the averaged student that is evaluated and kept; 0 switches it off.
        eval_every: steps between evaluations on val; 0: at the end alone.
        patience: evaluations of the last phase without a better val accuracy before training stops; 0: never.
        keep: the weights that are kept: best (on val) or last.
        checkpoint_every: steps between resume points.
        log_every: steps between rows of the log.
        threads: CPU threads; 0 leaves torch's choice.
        seed: of weights, data order, augmentation and mixing.
        tensorboard: write TensorBoard events too (needs the extra `tensorboard`).
    """

    steps: int = 1000
    batch_size: int = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    warmup: int = 20
    final_lr: float = 0.002
    clip: float = 1.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    channels_last: bool = True
    compile: bool = False
    lsuv: bool = False
    ema: float = 0.0
    eval_every: int = 100
    patience: int = 0
    keep: Literal["best", "last"] = "best"
    checkpoint_every: int = 100
    log_every: int = 10
    threads: int = 0
    seed: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "log_every"):
            check_range(f"train.{name}", getattr(self, name), 1)
        for name in ("lr", "weight_decay", "warmup", "clip", "eval_every", "patience", "threads"):
            check_range(f"train.{name}", getattr(self, name), 0)
        check_range("train.final_lr", self.final_lr, 0, 1)
        check_range("train.seed", self.seed, 0, 2**32 - 1)
        if not 0 <= self.ema < 1:
            raise ConfigError(f"Expected train.ema in [0, 1), but got {self.ema}.")
        if self.patience and not self.eval_every:
            raise ConfigError(
                "train.patience counts evaluations: set train.eval_every > 0, or patience to 0."
            )


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run.

    Args:
        data, model, method: the registered name under ``name`` and that entry's options.
        input: see :class:`InputOptions`.
        train: see :class:`TrainOptions`.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    method: dict[str, Any]
    input: InputOptions = field(default_factory=InputOptions)
    train: TrainOptions = field(default_factory=TrainOptions)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dictionaries and numbers, as in the YAML file."""
        return json.loads(json.dumps(asdict(self), default=str))

    def to_yaml(self) -> str:
        """The recipe as a file that :func:`load_recipe` reads back."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    @property
    def digest(self) -> str:
        """Hash of all that decides the result; logging, checkpoints and the cache do not."""
        content = self.to_dict()
        for section, name in UNDECISIVE:
            del content[section][name]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def registries() -> dict[str, Registry]:
    """The registry behind each named section of a recipe, filled."""
    from evlift.datasets.suites import SUITES
    from evlift.methods import METHODS
    from evlift.models import MODELS, model_names

    model_names()  # fills the registry
    return {"data": SUITES, "model": MODELS, "method": METHODS}


def recipe_parser(names: Mapping[str, str], *, prog: str = "evlift train") -> ArgumentParser:
    """A parser for the fields of a recipe whose data, model and method carry these names."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="the recipe, a YAML file")
    for section, registry in registries().items():
        entry = registry[names[section]]
        parser.add_argument(
            f"--{section}.name", type=str, default=names[section], help=f"one of {registry.names()}"
        )
        add = parser.add_class_arguments if inspect.isclass(entry) else parser.add_function_arguments
        add(entry, section, skip=SKIPPED[section])
    parser.add_class_arguments(InputOptions, "input")
    parser.add_class_arguments(TrainOptions, "train")
    return parser


def parse_recipe(source: Mapping[str, Any] | str | Path, flags: Sequence[str] = ()) -> Recipe:
    """Read a recipe and override its fields with command-line flags.

    Example:
        >>> recipe = parse_recipe("recipes/tmkt-digits.yaml", ["--train.steps", "500"])  # doctest: +SKIP

    Args:
        source: a YAML file, the bare name of a shipped recipe, or the same as a dictionary.
        flags: ``["--section.field", "value", ...]``.

    Raises:
        ConfigError: an unknown name or field, a value of the wrong type, contradictory settings.
    """
    recipe = dict(source) if isinstance(source, Mapping) else read_yaml(find_recipe(source))
    recipe.pop("tune", None)  # a search space, which decides nothing of a run
    _refuse_classes(recipe, flags)
    for section in ("input", "train"):
        content = {} if recipe.get(section) is None else recipe[section]  # nothing under a heading of a file
        if not isinstance(content, Mapping):
            raise ConfigError(
                f"Expected a section `{section}:` with fields in the recipe, but got {content!r}."
            )
        recipe[section] = dict(content)
    names = entry_names(recipe, flags)
    for section, name in names.items():
        if isinstance(recipe[section], Mapping) and recipe[section]["name"] != name:
            recipe[section] = {
                "name": name
            }  # another entry has other options: the recipe's do not carry over
    parser = recipe_parser(names)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            config = parser.parse_args(["--config", json.dumps(recipe), *flags])
    except SystemExit as error:
        if error.code == 0:  # --help was printed
            raise
        raise ConfigError(said.getvalue().strip()) from None
    except Exception as error:
        raise ConfigError(of_parser(error, dict(parser.get_defaults().items()))) from None
    for name, default in parser.get_defaults().items():
        if default is not None and config[name] is None:
            raise ConfigError(
                f"Expected {name} to have a value, but got null. Leave the field out for its default."
            )
        _refuse_infinite(name, config[name])
    plain = config.as_dict()
    options: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in plain["input"].items()
    }
    return Recipe(
        plain["data"],
        plain["model"],
        plain["method"],
        InputOptions(**options),
        TrainOptions(**plain["train"]),
    )


def _refuse_infinite(name: str, value: Any) -> None:
    for number in value if isinstance(value, list | tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(
                f"Expected {name} to be a finite number, but got {value}. Leave it out for its default."
            )


def _refuse_classes(recipe: Any, flags: Sequence[str] = ()) -> None:
    """A recipe, which may come with somebody's run, never has a class imported: the parser would do so."""
    values = list(recipe.values()) if isinstance(recipe, Mapping) else recipe
    named = isinstance(recipe, Mapping) and "class_path" in recipe
    if named or any("class_path" in flag for flag in flags):
        raise ConfigError(
            "Expected names, numbers and texts in a recipe, but got `class_path`, which would import Python. Register "
            "what you need under a name, or build it in Python (docs/adding.md)."
        )
    for value in values if isinstance(values, list | tuple) else ():
        _refuse_classes(value)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping, safely loaded."""
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"Expected a recipe with sections data, model, method, input, train in {path}.")
    return content


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe: a path, or the name of one that is shipped with evlift."""
    path = Path(source)
    if path.is_file():
        return path
    folder = shipped_recipes()
    shipped = folder / f"{path.name.removesuffix('.yaml')}.yaml"
    if shipped.is_file():
        return shipped
    known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
    raise ConfigError(f"No recipe at {path}. Give a YAML file, or the name of a shipped recipe: {known}.")


def shipped_recipes() -> Path:
    """The folder of the recipes that come with the package."""
    return Path(__file__).parent / "recipes"


def entry_names(recipe: Mapping[str, Any], flags: Sequence[str] = ()) -> dict[str, str]:
    """The registered name that each named section of a recipe asks for.

    Raises:
        ConfigError: a section without a name.
    """
    return {section: _section_name(recipe, section, flags) for section in registries()}


def _section_name(recipe: Mapping[str, Any], section: str, flags: Sequence[str]) -> str:
    """The registered name that a section asks for; a flag wins over the file."""
    flag = f"--{section}.name"
    for position, given in reversed(list(enumerate(flags))):  # the last one wins, as with every flag
        if given == flag and position + 1 < len(flags):
            return flags[position + 1]
        if given.startswith(f"{flag}="):
            return given.split("=", 1)[1]
    content = recipe.get(section)
    if not isinstance(content, Mapping) or "name" not in content:
        raise ConfigError(
            f"Expected a section `{section}:` with a `name:` in the recipe, but got {content!r}."
        )
    return str(content["name"])
