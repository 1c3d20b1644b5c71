"""The types that all rooms share: classes, boxes, annotations, detections. Does not depend on any file format.

All boxes are corners in pixels of the image as displayed (with its EXIF orientation applied). The origin is the top
left corner of the top left pixel, so a box that covers a whole image is (0, 0, width, height).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

CLASSES = ("mask", "no_mask")
"""The classes, in the order of their ids in all files that fmask writes."""

WORN_INCORRECTLY = "worn_incorrectly"
"""A third meaning that a source's class may have; the recipe decides what happens to it."""

WORN_INCORRECTLY_CAUSE = WORN_INCORRECTLY.replace("_", "-")
"""The cause of a refusal, spelled with hyphens as all causes are."""

SPLITS = ("train", "val", "test")

Corners = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels, not validated."""

Progress = Callable[[str, int, int], None]
"""A progress callback: (description, done, total)."""


def no_progress(what: str, done: int, total: int) -> None:
    """Ignore progress; the default of all functions that report it."""


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle in pixels.

    Raises:
        ValueError: a corner is not finite, or the area is not positive.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.corners)):
            raise ValueError(f"a box must have finite corners, found {self.corners}")
        if self.x_max <= self.x_min or self.y_max <= self.y_min:
            raise ValueError(f"a box must have a positive width and height, found {self.corners}")

    @property
    def corners(self) -> Corners:
        return (self.x_min, self.y_min, self.x_max, self.y_max)

    @property
    def width(self) -> float:
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        return self.y_max - self.y_min

    @property
    def area(self) -> float:
        return self.width * self.height


@dataclass(frozen=True, slots=True, order=True)
class Annotation:
    """One labeled face: its class, one of `CLASSES`, and its box."""

    name: str
    box: Box

    def __post_init__(self) -> None:
        if self.name not in CLASSES:
            raise ValueError(f"the class of a label must be one of {CLASSES}, found {self.name!r}")

    @property
    def class_id(self) -> int:
        return CLASSES.index(self.name)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One annotation row as published, not validated.

    `file` is relative to the folder of the source. `number` counts the rows of the file (lines or objects) from 1.
    `name` is the published class name, or the id as text if the source has no names. A row that could not be read
    has no `corners`; `cause` (a short code such as `wrong-columns`) and `detail` say why. `repair` says what had to be
    done to read it, empty for a row in the plain form.
    """

    file: str
    number: int
    name: str = ""
    corners: Corners | None = None
    cause: str = ""
    detail: str = ""
    repair: str = ""


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """One image as published, with its annotation rows.

    `path` is relative to the folder of the source. If its annotation could not be read (no label file, invalid XML),
    `cause` and `detail` say why. `declared` is the (width, height) that the annotation states.
    """

    path: str
    rows: tuple[PublishedRow, ...] = ()
    cause: str = ""
    detail: str = ""
    declared: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class SourceReading:
    """Everything that a reader found in the folder of a source.

    `names` are the published class names in the order of their ids: empty if the rows have names themselves (VOC),
    None if the rows have ids and there is no names file. `orphans` are the rows of missing images.
    """

    images: tuple[PublishedImage, ...]
    orphans: tuple[PublishedRow, ...] = ()
    names: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One usable image and its labels. All boxes lie inside the image.

    `path` is relative to the folder of the source. `sha256` is the digest of the published file. `width` and `height`
    are those of the image as displayed.
    """

    source: str
    path: str
    sha256: str
    width: int
    height: int
    labels: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class Detection:
    """One detected face: its class, its confidence from 0 to 1, and its box.

    The corners are clipped to the image, so the box may have no area at an edge.
    """

    name: str
    confidence: float
    corners: Corners


def by_confidence(detections: Iterable[Detection]) -> tuple[Detection, ...]:
    """Return detections in a fixed order, the most confident first."""
    return tuple(sorted(detections, key=lambda one: (-one.confidence, one.name, one.corners)))


@dataclass(frozen=True, slots=True)
class ImageResult:
    """An evaluated image: its labels as the validator read them, and its detections, the most confident first.

    `image` is its path relative to the folder of data.yaml.
    """

    image: str
    width: int
    height: int
    labels: tuple[Annotation, ...]
    detections: tuple[Detection, ...]
