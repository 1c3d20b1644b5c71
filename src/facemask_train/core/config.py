"""The typed settings of each stage, read from `configs/`. A typo is an error that lists the known keys.

A file under `<root>/configs/` takes precedence over the file of the same name that ships with the package.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from facemask_train.core.errors import MissingError, UsageError, nearest

Target = Literal["mask", "no_mask", "worn_incorrectly", "ignore"]
TrackerKind = Literal["wandb", "none"]
SampleLayout = Literal["voc", "yolo-beside", "darknet"]
Switch = Literal["auto", True, False]
ExifSetting = Literal["auto", "apply", "ignore"]


class Settings(BaseModel):
    """Base of all settings: frozen, and unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Limits(Settings):
    """Limits of the annotation files of a source. Larger files are refused before they are read."""

    label_bytes: int = Field(1024**2, ge=1)
    """Bytes of a label file of one image (.txt, .xml); that image is refused above."""
    rows: int = Field(10_000, ge=1)
    """Boxes of one image, and lines of its label file; that image is refused above."""
    names: int = Field(10_000, ge=1)
    """Class names; the source is refused above."""
    names_bytes: int = Field(256 * 1024, ge=1)
    """Bytes of a file of class names, or of a yaml file beside the images; the source is refused above."""
    json_bytes: int = Field(1024**3, ge=1)
    """Bytes of a COCO or CVAT file, and of a list of images; the source is refused above."""
    labelme_bytes: int = Field(64 * 1024**2, ge=1)
    """Bytes of a Labelme file, which may contain its image; that image is refused above."""


class Source(Settings):
    """A source of images: its origin, its annotation format, and what its classes mean.

    Exactly one of `handle`, `path` and `sample` must be set.
    """

    handle: str | None = None
    """The Kaggle dataset, as owner/name."""
    path: str | None = None
    """Your own folder or archive."""
    sample: SampleLayout | None = None
    """A built-in sample that fmask draws, in this layout."""
    version: int | None = Field(None, ge=1)
    """The Kaggle version (default: the newest)."""
    license: str = Field("", validation_alias=AliasChoices("license", "licence"))
    """The license, shown in the card of the ensemble."""
    format: Literal["probe", "voc", "yolo", "coco", "cvat", "labelme"] = "probe"
    """The annotation format; `probe` detects it."""
    classes: dict[str, Target] = Field(default_factory=dict)
    """What each published class name means. For a source without class names, the keys are the ids."""
    digest: str | None = Field(None, pattern=r"^sha256:[0-9a-f]{64}$")
    """The expected digest of the content."""
    max_unreadable: float = Field(0.05, ge=0, le=1)
    """The largest fraction of label rows that may be unreadable before a build stops."""
    exif: ExifSetting = "auto"
    """Whether the boxes were drawn on images with their EXIF orientation applied, or with it ignored."""
    limits: Limits = Field(default_factory=Limits)
    """The limits of its annotation files."""
    optional: bool = False
    """Fetch it only when it is named."""

    @field_validator("classes", mode="before")
    @classmethod
    def _keys_are_text(cls, value: Any) -> Any:
        return {str(key): target for key, target in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.handle, self.path, self.sample)) != 1:
            raise ValueError("a source must have exactly one of: handle, path, sample")
        if self.handle is not None and self.handle.count("/") != 1:
            raise ValueError(f"a handle must be Kaggle's owner/name, found {self.handle!r}")
        return self

    @property
    def archive_name(self) -> str:
        """The file name that Kaggle gives the archive of this source."""
        return f"{(self.handle or '').rpartition('/')[2]}.zip"


class TrainSettings(Settings):
    """Training settings: `configs/train.yaml`. `auto` values are chosen for the machine, reported and recorded."""

    weights: str = "yolov5s.pt"
    """The initial weights: a checkpoint, the name of a COCO checkpoint, or a model yaml (from scratch)."""
    epochs: int = Field(300, ge=1)
    """The maximum number of epochs."""
    patience: int = Field(100, ge=0)
    """Stop after this many epochs without a better mAP 0.5:0.95; 0: never."""
    imgsz: int = Field(640, ge=32)
    """The image size: the longer side in pixels."""
    batch: int = Field(64, ge=1)
    """The batch size, over all devices."""
    device: str = ""
    """`cpu` or the number of a GPU; empty: a GPU if there is one."""
    seed: int = Field(0, ge=0)
    """The random seed."""
    workers: int = Field(8, ge=0)
    """Data loader processes, on a GPU."""
    loader: Literal["auto", "device", "stock"] = "auto"
    """Who augments the images: the device itself, or the stock `ultralytics` loader."""
    optimizer: Literal["SGD", "AdamW", "Adam", "NAdam", "RAdam", "RMSProp"] = "SGD"
    """The optimizer."""
    lr0: float = Field(0.01, gt=0)
    """The initial learning rate."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The precision of the model; losses are computed in float32."""
    channels_last: Switch = "auto"
    """Use the channels-last memory format."""
    fused: Switch = "auto"
    """Use the fused optimizer."""
    compile: Switch = "auto"
    """Use `torch.compile`, on a GPU; `auto` is off."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0: one per core."""
    val_every: int = Field(1, ge=1)
    """Validate every this many epochs, and after the last one."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Any other setting of the `ultralytics` trainer, under its own name."""


MAX_YAML_DEPTH = 100
"""Levels of lists and mappings inside each other in a yaml file."""

_YAML_TYPES = {"timestamp": "date", "int": "number", "float": "number", "bool": "true or false"}
_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = 200
_shown.maxlist = _shown.maxtuple = _shown.maxdict = 20
_shown.maxlevel = 3

_FOLDER = re.compile(r"\w[\w .-]{0,99}")

Model = TypeVar("Model", bound=Settings)


def config_file(root: Path, name: str) -> Path:
    """Return the path of `configs/NAME`: the user's own under `root`, else the one that ships with fmask.

    Raises:
        MissingError: neither exists; the message lists those that do.
    """
    for folder in config_folders(root):
        if (folder / name).is_file():
            return folder / name
    stems = [path.stem for path in config_files(root, str(Path(name).parent))]
    raise MissingError(
        f"{root / 'configs' / name}: no such file{nearest(Path(name).stem, stems)}",
        next_step=f"use one of: {', '.join(stems)}; or create this file",
    )


def config_folders(root: Path) -> tuple[Path, ...]:
    """Return the folders to look for settings in, the user's own first."""
    package = Path(__file__).parents[1]
    return root / "configs", package / "configs", package.parents[1] / "configs"


FIXES = "fixes.yaml"


def config_files(root: Path, folder: str) -> list[Path]:
    """Return the yaml files of `configs/FOLDER`, one per stem; the user's own take precedence.

    `fixes.yaml` is none of them: it corrects what recipes make.
    """
    found: dict[str, Path] = {}
    for base in config_folders(root):
        for path in sorted((base / folder).glob("*.yaml")):
            if path.name != FIXES:
                found.setdefault(path.stem, path)
    return [found[stem] for stem in sorted(found)]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a yaml file.

    Raises:
        UsageError: the file is not valid yaml, or not a mapping.
        MissingError: the file does not exist.
    """
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingError(f"{path}: no such file", next_step="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid yaml: {_one_line(error)}", next_step="fix the file") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected keys and values, found {type(data).__name__}", next_step="fix the file")
    return data


class _Loader(yaml.SafeLoader):
    """A safe loader that raises a `YAMLError` with a line where the stock one raises any error without a line."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_YAML_DEPTH:
            problem = f"expected at most {MAX_YAML_DEPTH} levels of lists and mappings inside each other, found more"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            kind = _YAML_TYPES.get(node.tag.rpartition(":")[2], "value")
            problem = f"expected a valid {kind} (quote it if it is text), found {_shown.repr(node.value)}: {error}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def load_yaml(text: str) -> Any:
    """Return the content of a yaml text, as plain values.

    Raises:
        yaml.YAMLError: the text is not valid yaml, a value is not valid, or lists are nested too deeply.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except OverflowError as error:  # an escape of a character beyond Unicode
        problem = f"expected a character of Unicode, found another: {error}"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=loader.get_mark()) from error
    finally:
        loader.dispose()


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '')}"


def parse(model: type[Model], data: Any, *, where: str, fix: str = "fix the file") -> Model:
    """Validate `data` against a settings model.

    Args:
        where: the file, and the key in it, to name in messages.
        fix: the next step to name in messages.

    Raises:
        UsageError: a key is unknown (the known ones are listed) or missing, or a value is invalid.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_error(error, model)}", next_step=fix) from error


def _first_error(error: ValidationError, model: type[Settings]) -> str:
    errors = error.errors()
    # if a key accepts either a word or a mapping, listing the words helps most
    words = [one for one in errors if one["type"] == "literal_error"] if errors[0]["type"] == "model_type" else []
    found = (words or errors)[0]
    *parents, key = found["loc"] or ("",)
    if found["type"] == "extra_forbidden":
        known = _known_keys(model, parents)
        return f"unknown key '{key}'{nearest(str(key), known)}; known keys: {', '.join(known)}"
    place = ".".join(str(part) for part in found["loc"] if not _is_union_tag(part))
    given = "" if found["type"] in ("missing", "value_error") else f", found {_shown.repr(found['input'])}"
    if found["type"] == "literal_error":
        given += nearest(str(found["input"]), re.findall(r"'(.*?)'", found["msg"]))
    message = found["msg"].removeprefix("Value error, ") + given
    return f"{place}: {message}" if place else message


def _is_union_tag(part: int | str) -> bool:
    """Return whether a part of the location of an error is not a key but the name of a type in a union."""
    types = [one.__name__ for one in Settings.__subclasses__()]
    return isinstance(part, str) and (part in types or part.startswith(("literal[", "function-", "[key]")))


def _known_keys(model: type[Settings], parents: list[Any]) -> list[str]:
    """Return the known keys at a location, also inside mappings, lists and unions."""
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
    """Return the sources of `configs/sources.yaml`, in file order.

    Raises:
        UsageError: a source, a key or a value is invalid.
    """
    path = config_file(root, "sources.yaml")
    entries = read_yaml(path).get("sources")
    if not isinstance(entries, dict) or not entries:
        raise UsageError(f"{path}: expected a mapping under 'sources', found none", next_step="fix the file")
    wrong = next((str(name) for name in entries if not _FOLDER.fullmatch(str(name))), None)
    if wrong is not None:
        raise UsageError(
            f"{path}: expected a source name that can be a folder name, found {wrong!r}",
            next_step="use letters, digits, spaces and . _ -, starting with a letter or a digit",
        )
    return {str(name): parse(Source, entry, where=f"{path}: {name}") for name, entry in entries.items()}


def pick_source(sources: dict[str, Source], name: str) -> Source:
    """Return a source by name.

    Raises:
        UsageError: there is no such source; the message suggests the closest name.
    """
    if name not in sources:
        raise UsageError(
            f"there is no source '{name}'{nearest(name, sources)}; known sources: {', '.join(sources)}",
            next_step="use one of them, or add yours to configs/sources.yaml",
        )
    return sources[name]


def read_train_settings(root: Path, name: str, changes: Mapping[str, Any]) -> TrainSettings:
    """Return the training settings of `configs/NAME.yaml` (or of the path of a yaml file), updated with `changes`.

    Args:
        changes: values by key. A key that is not one of `TrainSettings` goes to `extra`; a None is ignored.

    Raises:
        MissingError: the file does not exist.
        UsageError: a key or value is invalid.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else config_file(root, f"{name}.yaml")
    settings = parse(TrainSettings, read_yaml(path), where=str(path)).model_dump(exclude_unset=True)
    given = {key: value for key, value in changes.items() if value is not None}
    own = {key: value for key, value in given.items() if key in TrainSettings.model_fields}
    extra = {**settings.get("extra", {}), **{key: given[key] for key in given if key not in own}}
    return parse(TrainSettings, {**settings, **own, "extra": extra}, where="the options", fix="fix the option")


def set_option(text: str) -> tuple[str, Any]:
    """Parse `--set KEY=VALUE`. The value is parsed as yaml, so `0.5`, `true` and `[1, 2]` keep their types.

    Raises:
        UsageError: the key is missing, or the value is not valid yaml.
    """
    key, equals, value = text.partition("=")
    try:
        parsed = load_yaml(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text!r}: the value is not valid yaml", next_step="--set lr0=0.005") from error
    if not equals or not key.isidentifier():
        raise UsageError(f"--set {text!r}: expected KEY=VALUE", next_step="for example --set lr0=0.005")
    return key, parsed


def class_map(text: str) -> tuple[str, dict[str, Target]]:
    """Parse `SOURCE=0:mask,1:no_mask` into the name of a source and its class map.

    Raises:
        UsageError: the text is malformed, or a class is unknown.
    """
    source, _, pairs = text.partition("=")
    classes = dict(pair.partition(":")[::2] for pair in pairs.split(",") if pair)
    targets: tuple[str, ...] = get_args(Target)
    undecided = [name for name, target in classes.items() if target == "?"]
    if source and undecided:
        raise UsageError(
            f"--class-map {text!r}: expected a class instead of each ?, found none for {', '.join(undecided)}",
            next_step=f"replace each ? by one of {', '.join(targets)}",
        )
    if not source or not classes or not set(classes.values()) <= set(targets):
        raise UsageError(
            f"--class-map {text!r}: expected SOURCE=ID:CLASS,ID:CLASS with CLASS one of {', '.join(targets)}",
            next_step="for example: --class-map karm1a=0:mask,1:no_mask",
        )
    return source, classes  # type: ignore[return-value]
