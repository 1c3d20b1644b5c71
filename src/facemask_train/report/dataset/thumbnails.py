"""Small images with boxes for a page. A missing or unreadable image gets a message in its place."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from facemask_train.core.drawing import outline
from facemask_train.core.files import digest_file
from facemask_train.core.types import CLASSES, Annotation, Corners
from facemask_train.dataset.loading.images import orientation_of, plain_rgb
from facemask_train.report.html import SERIES, GridImage, embed

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN_CLASSES = (*CLASSES, "worn_incorrectly", "other")
"""The classes that boxes are colored by, in the order of `html.SERIES`."""

LONGEST = 320  # pixels of the longer side: sharp at the 150 to 200 px that a page shows; about 15 KB
_LARGEST_PIXELS = 200_000_000
_AROUND = 2  # pixels between a face and its box, so that the box does not hide a small face
_SMALL = 20  # pixels; smaller boxes have a thin line

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Mark:
    """A box to draw: its class, its corners in pixels of the image, and whether it is drawn strongly."""

    name: str
    corners: Corners
    strong: bool = True


def marks_of(labels: Iterable[Annotation]) -> list[Mark]:
    return [Mark(label.name, label.box.corners) for label in labels]


def sample_evenly(items: Sequence[Item], count: int, *, seed: int = 0) -> list[Item]:
    """Return up to `count` items at even steps from a seeded start, so that every part of a sorted list is covered."""
    if len(items) <= count:
        return list(items)
    start = random.Random(seed).random()
    return [items[int((place + start) * len(items) / count)] for place in range(count)]


def thumbnail(
    path: Path,
    marks: Iterable[Mark],
    frame: tuple[int, int] | None = None,
    *,
    caption: str,
    mark: str = "",
    orientations: Sequence[int] = (),
    sha256: str = "",
    longest: int = LONGEST,
) -> GridImage:
    """Return an image for a grid, with boxes.

    Args:
        frame: width and height of the image that the boxes refer to; the image is stretched to it. Default: the
            image's own size.
        mark: a text before the caption.
        orientations: applied to the image, in order, before boxes are drawn (see `core.boxes.oriented`).
        sha256: the expected digest; a file with other content is not shown.
        longest: maximum of the longer side in pixels.
    """
    shape = frame[0] / frame[1] if frame else 1.5
    try:
        if sha256 and digest_file(path) != sha256:
            return GridImage(None, caption, mark, "the file has changed", shape)
        image, own = _open(path, longest, orientations)
    except FileNotFoundError:
        return GridImage(None, caption, mark, "the file is missing", shape)
    except (OSError, ValueError, SyntaxError):
        return GridImage(None, caption, mark, "the file cannot be read as an image", shape)
    width, height = frame or own
    if frame:
        image = image.resize(_within(frame, longest))
    _draw_marks(image, marks, image.width / width, image.height / height)
    return GridImage(embed(image, caption), caption, mark)


def _open(path: Path, longest: int, orientations: Sequence[int]) -> tuple[Image, tuple[int, int]]:
    """Return an image as displayed, oriented and reduced, and its size before it was reduced."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = _LARGEST_PIXELS
    with Image.open(path) as opened:
        full = opened.size
        opened.draft("RGB", (2 * longest, 2 * longest))  # decodes a large JPEG at reduced size: four times as fast
        opened.load()
        swapped = orientation_of(opened) >= 5
        image = plain_rgb(ImageOps.exif_transpose(opened))
    own = full[::-1] if swapped else full
    image.thumbnail((longest, longest))
    for orientation in orientations:
        image = _oriented(image, orientation)
        own = own[::-1] if orientation % 2 else own
    return image, own


def _oriented(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    rotations = (None, Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)
    if orientation >= 4:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    rotation = rotations[orientation % 4]
    return image if rotation is None else image.transpose(rotation)


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size of the same proportions with sides of at most `longest`."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _draw_marks(image: Image, marks: Iterable[Mark], across: float, down: float) -> None:
    """Draw boxes on an image scaled by `across` and `down`; strong ones last, on top."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    for mark in sorted(marks, key=lambda one: one.strong):
        x_min, y_min, x_max, y_max = mark.corners
        around = _AROUND if mark.strong else 0
        corners = (x_min * across - around, y_min * down - around, x_max * across + around, y_max * down + around)
        thick = mark.strong and min(corners[2] - corners[0], corners[3] - corners[1]) >= _SMALL
        outline(pen, corners, _color(mark.name), 2 if thick else 1)


def _color(name: str) -> str:
    return SERIES[SHOWN_CLASSES.index(name if name in SHOWN_CLASSES else "other")]
