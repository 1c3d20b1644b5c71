"""The typed settings of an ensemble recipe, read from `configs/ensembles/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from facemask_train.core.config import Settings, config_file, parse, read_yaml


class Split(Settings):
    """The fraction of the images in each split. They must add up to 1."""

    train: float = Field(0.85, gt=0, le=1)
    """For training."""
    val: float = Field(0.10, ge=0, lt=1)
    """For choosing the best epoch and the confidence threshold."""
    test: float = Field(0.05, ge=0, lt=1)
    """Held out for evaluation."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError(f"the fractions must add up to 1, found {self.train + self.val + self.test:g}")
        return self


def _ascending(value: tuple[Any, Any]) -> tuple[Any, Any]:
    if value[0] > value[1]:
        raise ValueError(f"the lower value comes first, found {list(value)}")
    return value


Value = TypeVar("Value", int, float)
Range = Annotated[tuple[Value, Value], AfterValidator(_ascending)]
"""The lower and upper bound of a value that is sampled for each image."""

Factor = Annotated[float, Field(ge=0.1, le=4)]
Share = Annotated[float, Field(ge=0, le=1)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Step(Settings):
    """Settings that all transforms share."""

    p: float = Field(1.0, gt=0, le=1)
    """The probability that the step is applied to an image."""


class Rotate90(Step):
    """Rotate by a multiple of 90 degrees, counterclockwise, without resampling."""

    degrees: tuple[Literal[90, 180, 270], ...] = Field((90, 180, 270), min_length=1)
    """The angles to choose from."""


class Scale(Step):
    """Resize the whole image. No face becomes too small to be recognized."""

    factor: Range[Factor] = (0.5, 1.5)
    """The scale factor of both sides."""


class ColorJitter(Step):
    """Change brightness, contrast and gamma, each sampled for each image."""

    brightness: float = Field(0.25, ge=0, lt=1)
    """The largest change, as a fraction: 0.3 means -30 % to +30 %."""
    contrast: float = Field(0.25, ge=0, lt=1)
    """Likewise for contrast."""
    gamma: float = Field(0.2, ge=0, lt=1)
    """Likewise for gamma."""


class Blur(Step):
    """Gaussian or motion blur."""

    kernel: Range[int] = (3, 7)
    """The kernel size in pixels; must be odd."""
    motion: float = Field(0.5, ge=0, le=1)
    """The probability of motion blur rather than Gaussian blur."""

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] < 3 or not (value[0] % 2 and value[1] % 2):
            raise ValueError(f"a kernel size must be odd and at least 3 pixels, found {list(value)}")
        return value


class Noise(Step):
    """Gaussian noise."""

    strength: Range[Share] = (0.02, 0.08)
    """The standard deviation, as a fraction of white."""


class Compression(Step):
    """Compress as JPEG and decompress."""

    quality: Range[Quality] = (30, 80)
    """The JPEG quality, 1 to 100."""


class Weather(Step):
    """Add one kind of weather."""

    kinds: tuple[Literal["rain", "fog", "snow", "sun"], ...] = Field(("rain", "fog", "snow", "sun"), min_length=1)
    """The kinds to choose from."""


FaceKind = Literal["recolor", "relight", "beard", "hand", "cup", "tint", "cap", "shadow"]


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Faces(Step):
    """Edit labeled faces, so that a model cannot learn the shortcut "two tones mean a mask".

    On a bare face: `recolor` or `relight` its lower half, or cover it with a `beard`, a `hand` or a `cup`. On a masked
    face: `tint` the mask toward the skin color of the face. On either: add a `cap`, or a `shadow` over the upper half.
    """

    share: float = Field(0.9, gt=0, le=1)
    """The fraction of faces that are edited, once each."""
    min_side: float = Field(20, ge=8)
    """The smallest face that is edited: its shorter side in pixels."""
    kinds: dict[FaceKind, Weight] = Field(
        {"recolor": 2, "relight": 1, "beard": 1, "hand": 1, "cup": 1, "tint": 6, "cap": 1, "shadow": 1}
    )
    """The weight of each edit among those that apply to the class of the face."""

    @field_validator("kinds")
    @classmethod
    def _at_least_one_weight(cls, value: dict[FaceKind, float]) -> dict[FaceKind, float]:
        if not any(value.values()):
            raise ValueError(f"at least one kind needs a weight above 0, found {value}")
        return value


class Transform(Settings):
    """One step of a copy. Has exactly one of these keys."""

    rotate90: Rotate90 | None = None
    """Rotate by a multiple of 90 degrees."""
    scale: Scale | None = None
    """Resize."""
    color_jitter: ColorJitter | None = None
    """Change brightness, contrast and gamma."""
    blur: Blur | None = None
    """Gaussian or motion blur."""
    noise: Noise | None = None
    """Gaussian noise."""
    compression: Compression | None = None
    """JPEG artifacts."""
    weather: Weather | None = None
    """Rain, fog, snow or sun."""
    faces: Faces | None = None
    """Edit labeled faces."""

    @model_validator(mode="before")
    @classmethod
    def _empty_key_means_defaults(cls, value: Any) -> Any:
        return {key: {} if step is None else step for key, step in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a step has exactly one of: {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """The key that is set."""
        return next(iter(self.model_fields_set))

    @property
    def step(self) -> Step:
        """The settings under the key that is set."""
        found: Step = getattr(self, self.kind)
        return found


ZOOMED = "zoomed"
"""The name of the copies that `balance` adds."""


class Balance(Settings):
    """Zoomed copies: crops around faces of the rarer class, so that size does not tell the classes apart.

    Added to the training split until, at each relative size with enough faces, the rarer class has its share.
    """

    share: float = Field(0.35, gt=0, le=0.5)
    """The share that the rarer class shall have of the faces drawn at a relative size, all copies counted."""
    min_faces: int = Field(30, ge=1)
    """Relative sizes with fewer faces, all copies counted, stay as they are."""
    min_side: float = Field(24, ge=8)
    """Pixels of the shorter side of a face that is zoomed; a smaller one would be a blur."""
    max_copies: int = Field(4, ge=1)
    """Zoomed copies of any one face."""


class Augment(Settings):
    """Augmented copies that are added to the training split: one per training image for each entry of `copies`."""

    seed: int = Field(0, ge=0)
    """Seeds every random choice, together with the content of the image."""
    quality: int = Field(92, ge=50, le=100)
    """The quality of the JPEGs that are written."""
    copies: dict[str, tuple[Transform, ...]] = Field(default_factory=dict)
    """The name of each copy and its steps, in order."""
    balance: Balance | None = None
    """Zoomed copies that balance the classes at each relative size."""

    @field_validator("copies")
    @classmethod
    def _valid_names(cls, value: dict[str, tuple[Transform, ...]]) -> dict[str, tuple[Transform, ...]]:
        for name, steps in value.items():
            if not name.isalnum() or name != name.lower():
                raise ValueError(f"the name of a copy must consist of lowercase letters and digits, found {name!r}")
            if not steps:
                raise ValueError(f"copy '{name}' has no steps: it would repeat the original")
        return value

    @model_validator(mode="after")
    def _adds_copies(self) -> Self:
        if not self.copies and self.balance is None:
            raise ValueError("augment needs copies, balance, or both")
        if self.balance is not None and ZOOMED in self.copies:
            raise ValueError(f"balance adds copies named '{ZOOMED}'; give the copy '{ZOOMED}' another name")
        return self


class Duplicates(Settings):
    """When two images count as copies or near-duplicates. bench/README.md shows how the defaults were measured."""

    distance: int = Field(16, ge=0, le=24)
    """The largest Hamming distance between the 64 lowest-frequency bits of two perceptual hashes."""
    similarity: float = Field(0.8, gt=0, le=1)
    """The lowest correlation that any window of two copies may have."""
    near_duplicate: float = Field(0.85, gt=0, le=1)
    """The mean correlation from which two images count as near-duplicates and share a split."""
    local_features: bool = True
    """Also find crops, rotations, collages and other shots of a scene by local features, which takes longer."""


class Prefer(Settings):
    """Resolve contradicting copies in favor of one source."""

    prefer: str
    """The source whose image and labels are kept."""


class Recipe(Settings):
    """The recipe of an ensemble: `configs/ensembles/NAME.yaml`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """The name of the ensemble (default: the name of the file)."""
    description: str = ""
    """A sentence that describes it."""
    sources: tuple[str, ...] = Field(min_length=1)
    """Source names from `sources.yaml`. Of equal copies, that of the earlier source is kept."""
    worn_incorrectly: Literal["drop-image", "drop-box", "as-no-mask"] = "drop-image"
    """What to do with an image that shows a mask worn incorrectly."""
    split: Split | Literal["published"] = Split()
    """Fractions, or `published` to keep the splits of the sources."""
    conflicts: Prefer | Literal["quarantine"] = "quarantine"
    """What to do with copies whose labels contradict each other."""
    leaks: Literal["remove", "keep"] = "remove"
    """With published splits: remove the images that have a copy in a later split, or report them and keep them."""
    duplicates: Duplicates = Duplicates()
    """When two images count as copies or near-duplicates."""
    augment: Augment | None = None
    """Augmented copies for the training split."""

    @field_validator("sources")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"each source may be listed only once, found {list(value)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.conflicts, Prefer) and self.conflicts.prefer not in self.sources:
            raise ValueError(
                f"conflicts: prefer must name one of {', '.join(self.sources)}, found {self.conflicts.prefer!r}"
            )
        if isinstance(self.conflicts, Prefer) and self.split == "published":
            raise ValueError("conflicts: prefer cannot be combined with split: published; remove one of them")
        if self.leaks == "keep" and self.split != "published":
            raise ValueError("leaks: keep requires split: published; other splits have no leaks")
        return self


def read_recipe(root: Path, version: str) -> Recipe:
    """Return the recipe for a version number (`5`), a name (`v5`), or the path of a yaml file.

    Raises:
        MissingError: there is no such recipe; the message lists those that exist.
        UsageError: a key or value is invalid.
    """
    if _is_path(version):
        path = Path(version)
    else:
        path = config_file(root, f"ensembles/{'v' if version.isdecimal() else ''}{version}.yaml")
    return parse(Recipe, {"name": path.stem, **read_yaml(path)}, where=str(path))


def fixes_folder(root: Path, version: str) -> Path:
    """Return the folder of a recipe's `fixes.yaml`: the recipe's own if it is given by path, else the project's."""
    return Path(version).parent if _is_path(version) else root / "configs" / "ensembles"


def _is_path(version: str) -> bool:
    return version.endswith((".yaml", ".yml"))
