"""Geometry of boxes: overlap, matching, and how rotating or mirroring an image transforms them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from facemask_train.core.types import Annotation, Box, Corners


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
