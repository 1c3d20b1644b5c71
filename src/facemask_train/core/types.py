"""The vocabulary: boxes, labels, and the rows that a source publishes. Knows no file format.

All boxes are in pixels of the image as a person sees it (EXIF orientation applied), as corners, with the origin
at the top left corner of the top left pixel: a box that covers a whole image is (0, 0, width, height).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

CLASSES = ("mask", "no_mask")
"""The ensemble's classes; the index is the class id in every file that fmask writes."""

WORN_INCORRECTLY = "worn_incorrectly"
"""A third meaning that a source's class may have; the recipe decides what happens to it."""

WORN_INCORRECTLY_CAUSE = WORN_INCORRECTLY.replace("_", "-")
"""The cause of a refusal, spelled with hyphens as all causes are."""

SPLITS = ("train", "val", "test")

Corners = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels, not yet checked."""

Progress = Callable[[str, int, int], None]
"""What long work calls: (what is being done, how much is done, how much there is)."""


def no_progress(what: str, done: int, total: int) -> None:
    """Say nothing: the default of everything that can report progress."""


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle with a positive area, in pixels.

    Raises:
        ValueError: a corner is not finite, or the area is not positive.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.corners)):
            raise ValueError(f"a box needs finite corners, found {self.corners}")
        if self.x_max <= self.x_min or self.y_max <= self.y_min:
            raise ValueError(f"a box needs a positive width and height, found {self.corners}")

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
    """One face: its class, one of `CLASSES`, and its box."""

    name: str
    box: Box

    def __post_init__(self) -> None:
        if self.name not in CLASSES:
            raise ValueError(f"a label's class is one of {CLASSES}, found {self.name!r}")

    @property
    def class_id(self) -> int:
        return CLASSES.index(self.name)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One annotation row as published, not yet believed.

    `file` is relative to the source's folder; `number` counts the file's rows (lines or objects) from 1. `name` is
    the class as published: a name, or the id as text where the source has no names. A row that could not be read at
    all has no `corners` and says why in `cause` (a short word such as `wrong-columns`) and `detail`.
    """

    file: str
    number: int
    name: str = ""
    corners: Corners | None = None
    cause: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """One image as published, with its annotation rows.

    `path` is relative to the source's folder. `cause` and `detail` say why its annotation could not be read (no
    label file, XML that does not parse). `declared` is the size (width, height) that the annotation itself claims.
    """

    path: str
    rows: tuple[PublishedRow, ...] = ()
    cause: str = ""
    detail: str = ""
    declared: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class SourceReading:
    """All that a format's reader found in a source's folder.

    `names` are the published class names in the order of their ids, empty where the format has names in its rows
    (VOC), and None where rows have ids and no names file was found. `orphans` are rows of images that are absent.
    """

    images: tuple[PublishedImage, ...]
    orphans: tuple[PublishedRow, ...] = ()
    names: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image that can be trained on: what it is, and its faces. Boxes lie inside the image.

    `path` is relative to the source's folder; `sha256` is of the published file; `width` and `height` are of the
    image as displayed.
    """

    source: str
    path: str
    sha256: str
    width: int
    height: int
    labels: tuple[Annotation, ...]
