"""The same face closer or farther: its image cropped or padded. No pixel of what stays is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facemask_train.core.types import Box

if TYPE_CHECKING:
    from facemask_train.core.types import Array

PADDING = 114
"""The level of the padding: the gray with which detectors letterbox their images."""

_AIR = 0.05  # what a crop has to leave around the face on each side, in sides of its box


def at_distance(image: Array, box: Box, factor: float) -> tuple[Array, Box] | None:
    """Return an image in which a face is `factor` times as large relative to the image, and the face's box there.

    Args:
        image: (h, w, 3) uint8 RGB.
        factor: above 1 the image is cropped around the face, below 1 it is padded; its aspect ratio stays.

    Returns:
        None if the crop would cut the face: it is too large already.
    """
    return _cropped(image, box, factor) if factor > 1 else _padded(image, box, factor)


def _cropped(image: Array, box: Box, factor: float) -> tuple[Array, Box] | None:
    height, width = image.shape[:2]
    wide, high = round(width / factor), round(height / factor)
    visible = (max(box.x_min, 0), max(box.y_min, 0), min(box.x_max, width), min(box.y_max, height))
    if visible[2] - visible[0] > wide * (1 - 2 * _AIR) or visible[3] - visible[1] > high * (1 - 2 * _AIR):
        return None
    left = _start((visible[0] + visible[2]) / 2, wide, width)
    top = _start((visible[1] + visible[3]) / 2, high, height)
    return image[top : top + high, left : left + wide], _moved(box, -left, -top)


def _start(middle: float, side: int, whole: int) -> int:
    """Return where a window of `side` pixels starts that has its middle there, but stays within the image."""
    return min(max(round(middle - side / 2), 0), whole - side)


def _padded(image: Array, box: Box, factor: float) -> tuple[Array, Box]:
    import numpy as np

    height, width = image.shape[:2]
    wide, high = round(width / factor), round(height / factor)
    left, top = (wide - width) // 2, (high - height) // 2
    padded = np.full((high, wide, 3), PADDING, np.uint8)
    padded[top : top + height, left : left + width] = image
    return padded, _moved(box, left, top)


def _moved(box: Box, right: float, down: float) -> Box:
    return Box(box.x_min + right, box.y_min + down, box.x_max + right, box.y_max + down)
