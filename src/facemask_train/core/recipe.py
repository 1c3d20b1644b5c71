"""How an ensemble is made: the typed settings of a recipe, read from `configs/ensembles/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from facemask_train.core.config import Settings, config_file, parse, read_yaml


class Split(Settings):
    """The shares of the images that go to each split; they add up to 1."""

    train: float = Field(0.85, gt=0, le=1)
    """What the model learns from."""
    val: float = Field(0.10, ge=0, lt=1)
    """What the best epoch and the operating point are chosen on."""
    test: float = Field(0.05, ge=0, lt=1)
    """What is scored."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError(f"the shares add up to 1, found {self.train + self.val + self.test:g}")
        return self


def _rising(value: tuple[Any, Any]) -> tuple[Any, Any]:
    if value[0] > value[1]:
        raise ValueError(f"the lowest value comes first, found {list(value)}")
    return value


Value = TypeVar("Value", int, float)
Range = Annotated[tuple[Value, Value], AfterValidator(_rising)]
"""The lowest and the highest value of an amount that is drawn anew for each image."""

Factor = Annotated[float, Field(ge=0.1, le=4)]
Share = Annotated[float, Field(ge=0, le=1)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Step(Settings):
    """What every transform has."""

    p: float = Field(1.0, gt=0, le=1)
    """The chance that the step is applied to an image."""


class Turn(Step):
    """An exact turn, counter-clockwise; no pixel is resampled."""

    degrees: tuple[Literal[90, 180, 270], ...] = Field((90, 180, 270), min_length=1)
    """The angles, of which each image gets one."""


class Scale(Step):
    """The whole image made smaller or larger; no face becomes too small to judge."""

    factor: Range[Factor] = (0.5, 1.5)
    """What its sides are multiplied by."""


class Light(Step):
    """Brightness, contrast and gamma, each drawn anew for an image."""

    brightness: float = Field(0.25, ge=0, lt=1)
    """How far it may go, as a share: 0.3 is from -30 % to +30 %."""
    contrast: float = Field(0.25, ge=0, lt=1)
    """The same."""
    gamma: float = Field(0.2, ge=0, lt=1)
    """The same."""


class Blur(Step):
    """Gaussian or motion blur."""

    kernel: Range[int] = (3, 7)
    """The kernel's side in pixels, odd."""
    motion: float = Field(0.5, ge=0, le=1)
    """The share of motion blur."""

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] < 3 or not (value[0] % 2 and value[1] % 2):
            raise ValueError(f"a kernel is odd and at least 3 pixels, found {list(value)}")
        return value


class Noise(Step):
    """Gaussian noise."""

    strength: Range[Share] = (0.02, 0.08)
    """Its standard deviation, as a share of white."""


class Compression(Step):
    """JPEG, and back."""

    quality: Range[Quality] = (30, 80)
    """From 1 to 100."""


class Weather(Step):
    """One of these kinds of weather."""

    kinds: tuple[Literal["rain", "fog", "snow", "sun"], ...] = Field(("rain", "fog", "snow", "sun"), min_length=1)
    """What can be drawn."""


FaceKind = Literal["recolour", "relight", "beard", "hand", "cup", "tint", "cap", "shadow"]


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Faces(Step):
    """Face-aware edits, against the shortcut that a face of two tones wears a mask.

    A bare face: `recolour` and `relight` its lower half, cover it by a `beard`, a `hand` or a `cup`. A masked face:
    `tint` the mask toward the face's own skin. Either: a `cap`, or a `shadow` over the upper half.
    """

    share: float = Field(0.9, gt=0, le=1)
    """The share of faces that get one edit."""
    min_side: float = Field(20, ge=8)
    """The shorter side that a face has at least, in pixels."""
    kinds: dict[FaceKind, Weight] = Field(
        {"recolour": 2, "relight": 1, "beard": 1, "hand": 1, "cup": 1, "tint": 6, "cap": 1, "shadow": 1}
    )
    """The edits and their weights, among those that fit a face's class."""

    @field_validator("kinds")
    @classmethod
    def _one_can_be_drawn(cls, value: dict[FaceKind, float]) -> dict[FaceKind, float]:
        if not any(value.values()):
            raise ValueError(f"one of the kinds has a weight above 0, found {value}")
        return value


class Transform(Settings):
    """One step of a copy: exactly one of these keys."""

    turn: Turn | None = None
    """An exact turn."""
    scale: Scale | None = None
    """Smaller or larger."""
    light: Light | None = None
    """Brightness, contrast, gamma."""
    blur: Blur | None = None
    """Gaussian or motion blur."""
    noise: Noise | None = None
    """Gaussian noise."""
    compression: Compression | None = None
    """JPEG's traces."""
    weather: Weather | None = None
    """Rain, fog, snow or sun."""
    faces: Faces | None = None
    """Edits of labelled faces."""

    @model_validator(mode="before")
    @classmethod
    def _bare_key_means_defaults(cls, value: Any) -> Any:
        return {key: {} if step is None else step for key, step in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a step has exactly one of: {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """Return the one key that is set."""
        return next(iter(self.model_fields_set))

    @property
    def step(self) -> Step:
        """Return the settings of the one key that is set."""
        found: Step = getattr(self, self.kind)
        return found


class Augment(Settings):
    """What is added to the training part: for each of its images, one more for each of `copies`."""

    seed: int = Field(0, ge=0)
    """With the image's content, it makes every choice."""
    quality: int = Field(92, ge=50, le=100)
    """That of the JPEGs that are written."""
    copies: dict[str, tuple[Transform, ...]] = Field(min_length=1)
    """By name, the steps that a copy goes through."""

    @field_validator("copies")
    @classmethod
    def _named_plainly(cls, value: dict[str, tuple[Transform, ...]]) -> dict[str, tuple[Transform, ...]]:
        for name, steps in value.items():
            if not name.isalnum() or name != name.lower():
                raise ValueError(f"a copy's name is of small letters and digits, found {name!r}")
            if not steps:
                raise ValueError(f"copy '{name}' has no steps; it would repeat the original")
        return value


class Duplicates(Settings):
    """When two images are the same image, or kin. `ensemble/duplicates.py` says how the defaults were measured."""

    distance: int = Field(16, ge=0, le=24)
    """Signs of the lowest 64 frequencies that may differ."""
    likeness: float = Field(0.8, gt=0, le=1)
    """The correlation that the worst window of two copies has."""
    kin: float = Field(0.85, gt=0, le=1)
    """The mean correlation from which two images are of one scene, and share a split."""


class Prefer(Settings):
    """Where copies of one image contradict each other: take one source's word."""

    prefer: str
    """The source whose image and labels are taken."""


class Recipe(Settings):
    """How an ensemble is made: `configs/ensembles/NAME.yaml`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """What the ensemble is called; the file's name where it is left out."""
    description: str = ""
    """A sentence for people."""
    sources: tuple[str, ...] = Field(min_length=1)
    """Names in `sources.yaml`. The order matters: the better copies come first."""
    worn_incorrectly: Literal["drop-image", "drop-box", "as-no-mask"] = "drop-image"
    """What becomes of an image that shows a mask worn incorrectly."""
    split: Split | Literal["published"] = Split()
    """By shares, or `published`: each image stays where its source put it."""
    conflicts: Prefer | Literal["quarantine"] = "quarantine"
    """What becomes of copies that contradict each other."""
    leaks: Literal["remove", "keep"] = "remove"
    """With a published split: take what has a copy in a later split out of the earlier, or measure it and leave it."""
    duplicates: Duplicates = Duplicates()
    """When two images are the same image."""
    augment: Augment | None = None
    """What is added to the training part."""

    @field_validator("sources")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"a source is named once, found {list(value)}")
        return value

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if isinstance(self.conflicts, Prefer) and self.conflicts.prefer not in self.sources:
            raise ValueError(f"conflicts: prefer names one of {list(self.sources)}, found {self.conflicts.prefer!r}")
        if isinstance(self.conflicts, Prefer) and self.split == "published":
            raise ValueError(
                "conflicts: prefer merges copies, and split: published keeps each where it is: leave one out"
            )
        if self.leaks == "keep" and self.split != "published":
            raise ValueError("leaks: keep goes with split: published; any other split has none")
        return self


def read_recipe(root: Path, version: str) -> Recipe:
    """Return an ensemble's recipe by version number (`5`), name (`v5`), or path of a yaml.

    Raises:
        MissingError: there is no such recipe; those that exist are named.
        UsageError: a key or value is not as it should be.
    """
    if version.endswith((".yaml", ".yml")):
        path = Path(version)
    else:
        path = config_file(root, f"ensembles/{'v' if version.isdecimal() else ''}{version}.yaml")
    return parse(Recipe, {"name": path.stem, **read_yaml(path)}, where=str(path))
