"""Contact sheets of a copy's transforms, before and after, for people to look at. Knows no file but the sheet's own."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from facemask_train.augment import faces, transforms
from facemask_train.core import drawing
from facemask_train.core.files import write_bytes
from facemask_train.core.recipe import FaceKind, Transform
from facemask_train.core.types import Annotation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    ImageArray = NDArray[np.uint8]

Example = tuple[str, "ImageArray", "ImageArray"]
"""The name of a transform, an image (height, width, 3; RGB) before it, and after it."""

TILE, GAP, HEAD, TOP = 160, 6, 30, 44  # pixels
PAIRS = 8
"""Pairs of a band; a person sees in as many what a transform does."""

AROUND = {"hand": 0.9, "cup": 0.9, "cap": 0.8}
"""What is shown around a face, in its larger sides; 0.35 for the kinds that stay within it."""


def transform_sheet(examples: Sequence[Example], target: Path, title: str) -> None:
    """Write a JPEG with a band of pairs (before, after) for each transform, in the order of their first examples."""
    from PIL import Image, ImageDraw

    bands: dict[str, list[tuple[ImageArray, ImageArray]]] = {}
    for name, before, after in examples:
        bands.setdefault(name, []).append((before, after))
    columns = max((min(PAIRS, len(pairs)) for pairs in bands.values()), default=1)
    size = max(3, columns) * (2 * TILE + GAP) + GAP, TOP + len(bands) * (HEAD + TILE + GAP) + GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 10), title, fill=drawing.INK, font=drawing.font(20, bold=True))
    for row, (name, pairs) in enumerate(bands.items()):
        _band(sheet, draw, TOP + row * (HEAD + TILE + GAP), name, pairs)
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=90)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, stream.getvalue())


def _band(sheet: Image, draw: ImageDraw, top: int, name: str, pairs: Sequence[tuple[ImageArray, ImageArray]]) -> None:
    draw.text((GAP, top + 6), name, fill=drawing.INK, font=drawing.font(15, bold=True))
    said = f"before | after, {min(PAIRS, len(pairs))} of {len(pairs)}" if len(pairs) > PAIRS else "before | after"
    room = GAP + round(draw.textlength(name, font=drawing.font(15, bold=True))) + 12
    draw.text((room, top + 8), said, fill=drawing.GREY, font=drawing.font(13))
    for column, pair in enumerate(pairs[:PAIRS]):
        for half, image in enumerate(pair):
            tile = _tile(image)
            left = GAP + column * (2 * TILE + GAP) + half * TILE
            sheet.paste(tile, (left + (TILE - tile.width) // 2, top + HEAD + (TILE - tile.height) // 2))


def _tile(pixels: ImageArray) -> Image:
    """Return an image as large as a tile holds, its sides in proportion."""
    from PIL import Image

    image = Image.fromarray(pixels)
    factor = TILE / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)


# ------------------------------------------------------------------ examples


def examples_of(
    images: Sequence[tuple[ImageArray, Sequence[Annotation]]],
    steps: Sequence[Transform],
    seed: int,
    *,
    most: int = PAIRS,
) -> Iterator[Example]:
    """Yield what each step of a copy does to some images, at most `most` examples of each transform.

    A step is shown alone and always applied. The faces step is shown by kind, each on crops around faces that fit,
    the largest first and no more than one of an image; the others on whole images.

    Args:
        images: (image, labels) pairs (height, width, 3; RGB), upright; a few dozen give every kind its examples.
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
    """Return which is the largest face that a kind fits, or None where there is none."""
    fitting = [
        (min(label.box.width, label.box.height), index)
        for index, label in enumerate(labels)
        if kind in faces.kinds_for(label.name, {kind: 1.0})
    ]
    side, index = max(fitting, default=(0.0, 0))
    return index if fitting and side >= min_side else None


def _around(image: ImageArray, label: Annotation, kind: str) -> ImageArray:
    """Return a square cut around a face; what would be outside the image is left off."""
    box, height, width = label.box, *image.shape[:2]
    half = max(box.width, box.height) * (0.5 + AROUND.get(kind, 0.35))
    x, y = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2
    y += {"hand": 0.6, "cup": 0.6, "cap": -0.5}.get(kind, 0.0) * box.height
    rows = slice(max(0, round(y - half)), min(height, round(y + half)))
    return image[rows, max(0, round(x - half)) : min(width, round(x + half))]
