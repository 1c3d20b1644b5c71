"""Small images with their boxes drawn on them, for a page. One that is gone is said to be, and fails nothing."""

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
from facemask_train.report.html import SERIES, Shown, embed

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN_CLASSES = (*CLASSES, "worn_incorrectly", "other")
"""What the colours of boxes mean, in the order of `pages.SERIES`."""

LONGEST = 320  # pixels of the longer side: sharp at the 150 to 200 px that a page shows, some 15 KB
_LARGEST_PIXELS = 200_000_000
_AROUND = 2  # pixels between a face and its box, so that a small face is not hidden by it
_SMALL = 20  # pixels; a smaller box has a thin line

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Mark:
    """A box to draw: its class by name, corners in pixels of the image, and if it is the one to look at."""

    name: str
    corners: Corners
    strong: bool = True


def marks_of(labels: Iterable[Annotation]) -> list[Mark]:
    return [Mark(label.name, label.box.corners) for label in labels]


def spread(items: Sequence[Item], count: int, *, seed: int = 0) -> list[Item]:
    """Return up to `count` of the items at even steps from a seeded start: all parts of a sorted list have a share."""
    if len(items) <= count:
        return list(items)
    start = random.Random(seed).random()
    return [items[int((place + start) * len(items) / count)] for place in range(count)]


def draw(
    path: Path,
    marks: Iterable[Mark],
    frame: tuple[int, int] | None = None,
    *,
    caption: str,
    mark: str = "",
    orientations: Sequence[int] = (),
    sha256: str = "",
    longest: int = LONGEST,
) -> Shown:
    """Return an image for a grid, with boxes.

    Args:
        frame: the width and height that the boxes are in pixels of; a copy is stretched to it. The image's own where
            left out.
        mark: what stands before the caption.
        orientations: what is done to the image, in order, before anything is drawn (see `geometry.oriented`).
        sha256: what the file is known by; another file under its name is not shown.
        longest: pixels of the longer side, at most.
    """
    shape = frame[0] / frame[1] if frame else 1.5
    try:
        if sha256 and digest_file(path) != sha256:
            return Shown(None, caption, mark, "another file has this name now", shape)
        image, own = _open(path, longest, orientations)
    except FileNotFoundError:
        return Shown(None, caption, mark, "the file is no longer there", shape)
    except (OSError, ValueError, SyntaxError):
        return Shown(None, caption, mark, "the file cannot be read as an image", shape)
    width, height = frame or own
    if frame:
        image = image.resize(_within(frame, longest))
    _draw_marks(image, marks, image.width / width, image.height / height)
    return Shown(embed(image, caption), caption, mark)


def _open(path: Path, longest: int, orientations: Sequence[int]) -> tuple[Image, tuple[int, int]]:
    """Return an image as displayed, turned and made small, and its size before it was made small."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = _LARGEST_PIXELS
    with Image.open(path) as opened:
        full = opened.size
        opened.draft("RGB", (2 * longest, 2 * longest))  # a large JPEG is decoded small: four times as fast
        opened.load()
        turned = orientation_of(opened) >= 5
        image = plain_rgb(ImageOps.exif_transpose(opened))
    own = full[::-1] if turned else full
    image.thumbnail((longest, longest))
    for orientation in orientations:
        image = _oriented(image, orientation)
        own = own[::-1] if orientation % 2 else own
    return image, own


def _oriented(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = (None, Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)
    if orientation >= 4:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    turn = turns[orientation % 4]
    return image if turn is None else image.transpose(turn)


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size of the same shape that is no longer than `longest`."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _draw_marks(image: Image, marks: Iterable[Mark], across: float, down: float) -> None:
    """Draw boxes on an image that was scaled by `across` and `down`; those to look at come last, on top."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    for mark in sorted(marks, key=lambda one: one.strong):
        x_min, y_min, x_max, y_max = mark.corners
        around = _AROUND if mark.strong else 0
        corners = (x_min * across - around, y_min * down - around, x_max * across + around, y_max * down + around)
        thick = mark.strong and min(corners[2] - corners[0], corners[3] - corners[1]) >= _SMALL
        outline(pen, corners, _colour(mark.name), 2 if thick else 1)


def _colour(name: str) -> str:
    return SERIES[SHOWN_CLASSES.index(name if name in SHOWN_CLASSES else "other")]
