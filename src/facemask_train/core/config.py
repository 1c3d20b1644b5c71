"""The typed settings of each stage, read from `configs/`: a typo is an error that names the known keys.

A file under `<root>/configs/` goes before the one of the same name that ships with the package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from facemask_train.core.errors import MissingError, UsageError, nearest
from facemask_train.core.types import CLASSES, WORN_INCORRECTLY

Target = Literal["mask", "no_mask", "worn_incorrectly"]
TrackerKind = Literal["wandb", "none"]
SampleLayout = Literal["voc", "yolo-beside", "darknet"]
Switch = Literal["auto", True, False]


class Settings(BaseModel):
    """Settings cannot be changed once read, and hold no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Source(Settings):
    """One source of images: where it comes from, how it is laid out, and what its classes mean.

    Exactly one of `handle`, `path` and `sample` is given.
    """

    handle: str | None = None
    """Kaggle's owner/name."""
    path: str | None = None
    """A folder or an archive of your own."""
    sample: SampleLayout | None = None
    """Drawn by fmask, in this published layout."""
    version: int | None = Field(None, ge=1)
    """Kaggle's version number; the newest where it is left out."""
    licence: str = ""
    """Said in the ensemble's card."""
    format: Literal["probe", "voc", "yolo", "coco"] = "probe"
    """How it is laid out; `probe` finds out."""
    classes: dict[str, Target] = Field(default_factory=dict)
    """What a published class name means; where a source publishes ids without names, the keys are the ids."""
    digest: str | None = Field(None, pattern=r"^sha256:[0-9a-f]{64}$")
    """What the content has to be."""
    optional: bool = False
    """Not fetched unless it is named."""

    @field_validator("classes", mode="before")
    @classmethod
    def _ids_are_names(cls, value: Any) -> Any:
        return {str(key): target for key, target in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.handle, self.path, self.sample)) != 1:
            raise ValueError("a source has exactly one of: handle, path, sample")
        if self.handle is not None and self.handle.count("/") != 1:
            raise ValueError(f"a handle is Kaggle's owner/name, found {self.handle!r}")
        return self

    @property
    def archive_name(self) -> str:
        """The file name that Kaggle gives this source's archive."""
        return f"{(self.handle or '').rpartition('/')[2]}.zip"


class TrainSettings(Settings):
    """What training is asked for: `configs/train.yaml`. What is `auto` is chosen for the machine, told and recorded."""

    weights: str = "yolov5s.pt"
    """What training starts from: a checkpoint, a COCO checkpoint's name, or a model's yaml (from scratch)."""
    epochs: int = Field(300, ge=1)
    """How often the training images are gone through at most."""
    patience: int = Field(100, ge=0)
    """Epochs without a better mAP 0.5:0.95 after which training stops; 0: never."""
    imgsz: int = Field(640, ge=32)
    """Pixels of the longer side."""
    batch: int = Field(64, ge=1)
    """Images at once."""
    device: str = ""
    """`cpu` or a GPU's number; empty: the GPU where there is one."""
    seed: int = Field(0, ge=0)
    """What makes every random choice."""
    workers: int = Field(8, ge=0)
    """Processes that read images, on a GPU."""
    loader: Literal["auto", "device", "stock"] = "auto"
    """Who puts images together: the device itself, or the package's own loader."""
    optimizer: Literal["SGD", "AdamW", "Adam", "NAdam", "RAdam", "RMSProp"] = "SGD"
    """How weights are changed."""
    lr0: float = Field(0.01, gt=0)
    """The learning rate at the start."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The numbers that the model computes in; losses are in float32."""
    channels_last: Switch = "auto"
    """The order of an image's numbers in memory."""
    fused: Switch = "auto"
    """The optimiser in one kernel."""
    compile: Switch = "auto"
    """`torch.compile`, on a GPU; `auto` is off."""
    threads: int = Field(0, ge=0)
    """Threads on a CPU; 0: one for each core."""
    val_every: int = Field(1, ge=1)
    """Epochs from one validation to the next; the last epoch always has one."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Any other setting of the `ultralytics` trainer, by its own name."""


_FOLDER = re.compile(r"\w[\w .-]{0,99}")

Model = TypeVar("Model", bound=Settings)


def config_file(root: Path, name: str) -> Path:
    """Return the path of `configs/NAME`: the user's own under `root`, or else the one that ships with fmask.

    Raises:
        MissingError: neither is there; the message names those that are.
    """
    for folder in config_folders(root):
        if (folder / name).is_file():
            return folder / name
    stems = [path.stem for path in config_files(root, str(Path(name).parent))]
    raise MissingError(
        f"{root / 'configs' / name}: no such file{nearest(Path(name).stem, stems)}",
        next_step=f"use one of: {', '.join(stems)}; or write this file",
    )


def config_folders(root: Path) -> tuple[Path, ...]:
    """Return the folders that hold settings, the user's own first."""
    package = Path(__file__).parents[1]
    return root / "configs", package / "configs", package.parents[1] / "configs"


def config_files(root: Path, folder: str) -> list[Path]:
    """Return every yaml of `configs/FOLDER` that can be named, the user's own before the shipped."""
    found: dict[str, Path] = {}
    for base in config_folders(root):
        for path in sorted((base / folder).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return [found[stem] for stem in sorted(found)]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a yaml file holds.

    Raises:
        UsageError: it is not valid yaml, or not a mapping.
        MissingError: there is no such file.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingError(f"{path}: no such file", next_step="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid yaml: {_in_a_line(error)}", next_step="mend the file") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected keys and values, found {type(data).__name__}", next_step="mend the file")
    return data


def _in_a_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '')}"


def parse(model: type[Model], data: Any, *, where: str, mend: str = "mend the file") -> Model:
    """Check `data` against a settings model.

    Args:
        where: the file, and the place in it, that messages name.
        mend: what they say to do next.

    Raises:
        UsageError: an unknown key (the known ones are named), a missing one, or a value out of range.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first(error, model)}", next_step=mend) from error


def _first(error: ValidationError, model: type[Settings]) -> str:
    errors = error.errors()
    # where a key takes a word or a mapping and has neither right, the words that it takes say most
    words = [one for one in errors if one["type"] == "literal_error"] if errors[0]["type"] == "model_type" else []
    found = (words or errors)[0]
    *parents, key = found["loc"] or ("",)
    if found["type"] == "extra_forbidden":
        known = _known_keys(model, parents)
        return f"unknown key '{key}'{nearest(str(key), known)}; known keys: {', '.join(known)}"
    place = ".".join(str(part) for part in found["loc"] if not _is_tag(part))
    given = "" if found["type"] in ("missing", "value_error") else f", found {found['input']!r}"
    if found["type"] == "literal_error":
        given += nearest(str(found["input"]), re.findall(r"'(.*?)'", found["msg"]))
    said = found["msg"].removeprefix("Value error, ") + given
    return f"{place}: {said}" if place else said


def _is_tag(part: int | str) -> bool:
    """Say if a part of an error's place is no key, but the name of one of the types that a key takes."""
    types = [one.__name__ for one in Settings.__subclasses__()]
    return isinstance(part, str) and (part in types or part.startswith(("literal[", "function-", "[key]")))


def _known_keys(model: type[Settings], parents: list[Any]) -> list[str]:
    """Return the keys that are known at a place: inside mappings, lists and alternatives too."""
    known: list[Any] = [model]
    for parent in parents:
        fields = [one.model_fields[parent].annotation for one in known if parent in one.model_fields]
        named = [one for one in known if one.__name__ == parent]
        known = [one for field in fields for one in _settings_in(field)] or named or known
    return list(dict.fromkeys(key for one in known for key in one.model_fields))


def _settings_in(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _settings_in(inner)]


def read_sources(root: Path) -> dict[str, Source]:
    """Return the sources of `configs/sources.yaml`, in its order.

    Raises:
        UsageError: a source, a key or a value is not as it should be.
    """
    path = config_file(root, "sources.yaml")
    entries = read_yaml(path).get("sources")
    if not isinstance(entries, dict) or not entries:
        raise UsageError(f"{path}: expected a mapping under 'sources', found none", next_step="mend the file")
    wrong = next((str(name) for name in entries if not _FOLDER.fullmatch(str(name))), None)
    if wrong is not None:
        raise UsageError(
            f"{path}: expected a source's name to be one that a folder can have, found {wrong!r}",
            next_step="use letters, digits, spaces and . _ - in it, a letter or digit first",
        )
    return {str(name): parse(Source, entry, where=f"{path}: {name}") for name, entry in entries.items()}


def pick_source(sources: dict[str, Source], name: str) -> Source:
    """Return a source by name.

    Raises:
        UsageError: no source has this name; the nearest one is named.
    """
    if name not in sources:
        raise UsageError(
            f"no source is named '{name}'{nearest(name, sources)}; known sources: {', '.join(sources)}",
            next_step="name one of them, or add yours to configs/sources.yaml",
        )
    return sources[name]


def read_train_settings(root: Path, name: str, changes: Mapping[str, Any]) -> TrainSettings:
    """Return the training settings of `configs/NAME.yaml` (or of a yaml's path), with `changes` on top.

    Args:
        changes: by key; one that is not a key of `TrainSettings` goes to `extra`, a None is left out.

    Raises:
        MissingError: there is no such file.
        UsageError: a key or value is not as it should be.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else config_file(root, f"{name}.yaml")
    settings = parse(TrainSettings, read_yaml(path), where=str(path)).model_dump(exclude_unset=True)
    given = {key: value for key, value in changes.items() if value is not None}
    own = {key: value for key, value in given.items() if key in TrainSettings.model_fields}
    extra = {**settings.get("extra", {}), **{key: given[key] for key in given if key not in own}}
    return parse(TrainSettings, {**settings, **own, "extra": extra}, where="the options", mend="mend the option")


def set_option(text: str) -> tuple[str, Any]:
    """Parse `--set KEY=VALUE`; the value is read as yaml, so `0.5`, `true` and `[1, 2]` are what they look like.

    Raises:
        UsageError: there is no key, or the value is not valid yaml.
    """
    key, equals, value = text.partition("=")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text!r}: the value is not valid yaml", next_step="--set lr0=0.005") from error
    if not equals or not key.isidentifier():
        raise UsageError(f"--set {text!r}: expected KEY=VALUE", next_step="for example --set lr0=0.005")
    return key, parsed


def class_map(text: str) -> tuple[str, dict[str, Target]]:
    """Parse `SOURCE=0:mask,1:no_mask` into a source's name and its class map.

    Raises:
        UsageError: the text has another form, or a class that fmask does not have.
    """
    source, _, pairs = text.partition("=")
    classes = dict(pair.partition(":")[::2] for pair in pairs.split(",") if pair)
    targets = (*CLASSES, WORN_INCORRECTLY)
    if not source or not classes or not set(classes.values()) <= set(targets):
        raise UsageError(
            f"--class-map {text!r}: expected SOURCE=ID:CLASS,ID:CLASS with CLASS one of {', '.join(targets)}",
            next_step="for example: --class-map karm1a=0:mask,1:no_mask",
        )
    return source, classes  # type: ignore[return-value]
