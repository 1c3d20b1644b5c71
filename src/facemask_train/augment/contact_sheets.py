"""Contact sheets that show what each transform of an augmented copy does, before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from facemask_train.augment import faces, transforms
from facemask_train.core.contact_sheet import Tile, TileSection, save_contact_sheet, tile_image
from facemask_train.core.recipe import FaceKind, Transform
from facemask_train.core.types import Annotation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ImageArray = NDArray[np.uint8]

Example = tuple[str, "ImageArray", "ImageArray"]
"""The name of a transform, an image (height, width, 3; RGB) before it, and after it."""

TILE = 160
"""Width and height in pixels of each half of a before/after pair."""

PAIRS = 8
"""Pairs in a section: enough to see what a transform does."""

AROUND = {"hand": 0.9, "cup": 0.9, "cap": 0.8}
"""The margin shown around a face, as a multiple of its longer side; 0.35 for all other kinds."""


def transform_sheet(examples: Sequence[Example], target: Path, title: str) -> None:
    """Save a contact sheet with a section of (before, after) pairs for each transform, in the order of the examples."""
    pairs: dict[str, list[tuple[ImageArray, ImageArray]]] = defaultdict(list)
    for name, before, after in examples:
        pairs[name].append((before, after))
    sections = [
        TileSection(name, [_pair(*pair) for pair in found[:PAIRS]], _shown(len(found))) for name, found in pairs.items()
    ]
    columns = max((len(section.tiles) for section in sections), default=1)
    save_contact_sheet(target, sections, title=title, tile_size=(2 * TILE, TILE), columns=columns)


def _shown(count: int) -> str:
    return f"before | after, {PAIRS} of {count}" if count > PAIRS else "before | after"


def _pair(before: ImageArray, after: ImageArray) -> Tile:
    from PIL import Image

    tile = Image.new("RGB", (2 * TILE, TILE))
    for half, pixels in enumerate((before, after)):
        tile.paste(tile_image(Image.fromarray(pixels), size=(TILE, TILE)), (half * TILE, 0))
    return Tile(tile)


# ---- examples ----


def examples_of(
    images: Sequence[tuple[ImageArray, Sequence[Annotation]]],
    steps: Sequence[Transform],
    seed: int,
    *,
    most: int = PAIRS,
) -> Iterator[Example]:
    """Yield what each step of a copy does to some images, at most `most` examples of each transform.

    Each step is shown alone and always applied. The faces step is shown by kind, on crops around suitable faces, the
    largest of each image; the other steps are shown on whole images.

    Args:
        images: (image, labels) pairs (height, width, 3; RGB), upright; a few dozen give examples of every kind.
        seed: of the examples; the same seed gives the same examples.
    """
    for transform in steps:
        if transform.faces is None:
            alone = Transform.model_validate({transform.kind: {**transform.step.model_dump(), "p": 1.0}})
            yield from _whole(images[:most], alone, seed)
            continue
        for kind, weight in transform.faces.kinds.items():
            if weight > 0:
                yield from _faces(images, kind, transform.faces.min_side, seed, most)


def _whole(images: Sequence[tuple[ImageArray, Sequence[Annotation]]], step: Transform, seed: int) -> Iterator[Example]:
    for number, (image, labels) in enumerate(images):
        yield step.kind, image, transforms.render(image, labels, (step,), seed + number).image


def _faces(
    images: Sequence[tuple[ImageArray, Sequence[Annotation]]], kind: FaceKind, min_side: float, seed: int, most: int
) -> Iterator[Example]:
    shown = 0
    for number, (image, labels) in enumerate(images):
        if shown == most:
            return
        index = _largest(labels, kind, min_side)
        if index is None:
            continue
        change, _ = faces.edit_face(image, labels, index, kind, Random(seed + number))
        if change is not None:
            shown += 1
            after = image.copy()
            after[change.window] = change.pixels
            yield kind, _around(image, labels[index], kind), _around(after, labels[index], kind)


def _largest(labels: Sequence[Annotation], kind: FaceKind, min_side: float) -> int | None:
    """Return the index of the largest face that an edit of this kind fits, or None if there is none."""
    fitting = [
        (min(label.box.width, label.box.height), index)
        for index, label in enumerate(labels)
        if kind in faces.kinds_for(label.name, {kind: 1.0})
    ]
    side, index = max(fitting, default=(0.0, 0))
    return index if fitting and side >= min_side else None


def _around(image: ImageArray, label: Annotation, kind: str) -> ImageArray:
    """Return a square crop around a face, clipped to the image."""
    box, height, width = label.box, *image.shape[:2]
    half = max(box.width, box.height) * (0.5 + AROUND.get(kind, 0.35))
    x, y = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2
    y += {"hand": 0.6, "cup": 0.6, "cap": -0.5}.get(kind, 0.0) * box.height
    rows = slice(max(0, round(y - half)), min(height, round(y + half)))
    return image[rows, max(0, round(x - half)) : min(width, round(x + half))]
