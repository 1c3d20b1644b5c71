"""Geometry of boxes: overlap, matching, size relative to the image, and how rotating or mirroring an image acts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from facemask_train.core.types import CLASSES, Annotation, Box, Corners

RELATIVE_SIZES = (0.0, 0.1, 0.2, 0.3, 0.45, float("inf"))
"""Bounds of the relative sizes: the longer side of a face's box over the longer side of its image."""

SIZE_NAMES = ("below 0.1", "0.1 to 0.2", "0.2 to 0.3", "0.3 to 0.45", "0.45 or more")

LOPSIDED, ENOUGH_TO_LEAN = 5, 20
"""Training is lopsided at a size if a class has so many times the faces of another, and at least so many."""

CellCounts = Mapping[str, Mapping[str, int]]
"""Numbers of faces by class and by name of the relative size."""


def iou(one: Corners, other: Corners) -> float:
    """Return the intersection over the union of two boxes, from 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(x_max - x_min) * (y_max - y_min) for x_min, y_min, x_max, y_max in (one, other)]
    return shared / (sum(areas) - shared)


def match(
    some: Sequence[Annotation], others: Sequence[Annotation], *, least: float = 0.5
) -> list[tuple[int, int, float]]:
    """Match the boxes of two label sets regardless of class: the best overlap first, each box at most once.

    Returns:
        (index in `some`, index in `others`, IoU of at least `least`), in the order of `some`.
    """
    overlaps = [
        (iou(label.box.corners, other.box.corners), i, j)
        for i, label in enumerate(some)
        for j, other in enumerate(others)
    ]
    pairs: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for overlap, i, j in sorted(overlaps, key=lambda found: (-found[0], *found[1:])):
        if overlap >= least and i not in pairs and j not in taken:
            pairs[i] = (j, overlap)
            taken.add(j)
    return [(i, *pairs[i]) for i in sorted(pairs)]


def oriented(corners: Corners, width: float, height: float, orientation: int) -> Corners:
    """Return a box after its image of `width` x `height` was rotated or mirrored.

    Args:
        orientation: 0 to 3: rotated counterclockwise by this many quarter turns; 4 to 7: first mirrored left to right.
    """
    x_min, y_min, x_max, y_max = corners
    if orientation >= 4:
        x_min, x_max = width - x_max, width - x_min
    match orientation % 4:
        case 1:
            return y_min, width - x_max, y_max, width - x_min
        case 2:
            return width - x_max, height - y_max, width - x_min, height - y_min
        case 3:
            return height - y_max, x_min, height - y_min, x_max
        case _:
            return x_min, y_min, x_max, y_max


def inverse(orientation: int) -> int:
    """Return the orientation that undoes another one."""
    return orientation if orientation >= 4 else -orientation % 4


def laid_over(
    labels: Sequence[Annotation], size: tuple[int, int], target: tuple[int, int], orientations: Sequence[int]
) -> tuple[Annotation, ...]:
    """Transform the labels of an image to a copy of it.

    Args:
        size: (width, height) of the labeled image.
        target: (width, height) of the copy, which is the same image after rotating, mirroring and scaling.
        orientations: the rotations and mirrorings of the image, in order.
    """
    return tuple(
        replace(label, box=Box(*_laid_over(label.box.corners, size, target, orientations))) for label in labels
    )


def _laid_over(
    corners: Corners, size: tuple[int, int], target: tuple[int, int], orientations: Sequence[int]
) -> Corners:
    width, height = size
    for orientation in orientations:
        corners = oriented(corners, width, height, orientation)
        width, height = (height, width) if orientation % 2 else (width, height)
    across, down = target[0] / width, target[1] / height
    x_min, y_min, x_max, y_max = corners
    # rounding must not move a corner out of the image
    return x_min * across, y_min * down, min(x_max * across, target[0]), min(y_max * down, target[1])


# ---- sizes relative to the image ----


def size_index(label: Annotation, width: int, height: int) -> int:
    """Return the index in `SIZE_NAMES` of the relative size of a face in an image of these sides."""
    longer = max(label.box.width, label.box.height) / max(width, height)
    return next(index for index, (_, high) in enumerate(pairwise(RELATIVE_SIZES)) if longer < high)


def relative_size(label: Annotation, width: int, height: int) -> str:
    """Return the name of the relative size of a face in an image of these sides."""
    return SIZE_NAMES[size_index(label, width, height)]


def count_cells(labels: Iterable[tuple[Annotation, int, int]]) -> dict[str, dict[str, int]]:
    """Return the number of faces by class and relative size.

    Args:
        labels: each label with the width and height of its image.
    """
    counts = {name: dict.fromkeys(SIZE_NAMES, 0) for name in CLASSES}
    for label, width, height in labels:
        counts[label.name][relative_size(label, width, height)] += 1
    return counts


def lopsided(counts: CellCounts) -> list[tuple[str, str, str]]:
    """Return where training has far more faces of one class: the size, the class with few faces, that with many."""
    found = []
    for size in SIZE_NAMES:
        fewest, most = (choose(counts, key=lambda name: counts[name][size]) for choose in (min, max))
        if counts[most][size] >= max(ENOUGH_TO_LEAN, LOPSIDED * counts[fewest][size]):
            found.append((size, fewest, most))
    return found


def lopsided_sentence(counts: CellCounts) -> str:
    """Return a sentence that names the sizes at which training is lopsided; empty if there are none."""
    leans = [
        f"{counts[few][size]} {few} against {counts[many][size]} {many} faces at {size}"
        for size, few, many in lopsided(counts)
    ]
    if not leans:
        return ""
    return f"Training is lopsided: {'; '.join(leans)} of the image's longer side. There the model may go by size."


# ---- maps between images ----

UnitMap = tuple[float, float, float, float, float, float]
"""An affine map (a, b, c, d, e, f) of fractions of an image's sides: x' = a x + b y + c, y' = d x + e y + f."""

_LEAST_SEEN = 0.5  # of the area of a box: with less of it in the image, the box is cut off


def unit_map(orientation: int) -> UnitMap:
    """Return the map of an image onto itself, rotated or mirrored (see `oriented`), in fractions of its sides."""
    (c, f, *_), (a, d, *_), (b, e, *_) = (
        oriented((x, y, x, y), 1, 1, orientation) for x, y in ((0, 0), (1, 0), (0, 1))
    )
    return a - c, b - c, c, d - f, e - f, f


def composed(first: UnitMap, then: UnitMap) -> UnitMap:
    """Return the map that does one and then another."""
    a, b, c, d, e, f = first
    g, h, i, j, k, m = then
    return g * a + h * d, g * b + h * e, g * c + h * f + i, j * a + k * d, j * b + k * e, j * c + k * f + m


def inverted(transform: UnitMap) -> UnitMap:
    """Return the map that undoes another one, which must not be degenerate."""
    a, b, c, d, e, f = transform
    area = a * e - b * d
    return e / area, -b / area, (b * f - c * e) / area, -d / area, a / area, (c * d - a * f) / area


def mapped(
    labels: Sequence[Annotation], size: tuple[int, int], target: tuple[int, int], transform: UnitMap
) -> tuple[Annotation, ...]:
    """Transform the labels of an image to another image that shows part of it, or more than it.

    A box becomes the smallest one that contains its corners, cut at the sides of the target; one of which less than
    half remains is left out.

    Args:
        size, target: (width, height) of the labeled image and of the other one, in pixels.
    """
    moved = ((label, _mapped(label.box.corners, size, target, transform)) for label in labels)
    return tuple(replace(label, box=Box(*corners)) for label, corners in moved if corners is not None)


def _mapped(corners: Corners, size: tuple[int, int], target: tuple[int, int], transform: UnitMap) -> Corners | None:
    a, b, c, d, e, f = transform
    places = [(x / size[0], y / size[1]) for x in corners[::2] for y in corners[1::2]]
    across = [(a * x + b * y + c) * target[0] for x, y in places]
    down = [(d * x + e * y + f) * target[1] for x, y in places]
    left, right = max(min(across), 0.0), min(max(across), float(target[0]))
    top, bottom = max(min(down), 0.0), min(max(down), float(target[1]))
    area = (max(across) - min(across)) * (max(down) - min(down))
    seen = max(right - left, 0) * max(bottom - top, 0)
    return (left, top, right, bottom) if seen > 0 and seen >= _LEAST_SEEN * area else None
