"""The controls of the audit: the same image touched as much where it cannot matter.

What a model does on them is what any change of the image does to it. Only what a perturbation does beyond that can be
blamed on what it shows.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from facemask_train.core.types import Box

if TYPE_CHECKING:
    from facemask_train.core.types import Array

BESIDE, REENCODED, SHIFTED = "patch beside the face", "re-encoded", "shifted by a pixel"
CONTROLS = (BESIDE, REENCODED, SHIFTED)

QUALITY = 75
"""The JPEG quality of the control that re-encodes, below that of all copies."""

_VISIBLE = 8  # levels: a smaller change is not part of the patch
_GAP = 0.08  # between the face and the patch, in sides of the face's box
_INSIDE = 0.9  # the share of the patch that has to lie within the image


def patch_beside(image: Array, perturbed: Array, box: Box) -> Array | None:
    """Return an image that is changed beside a face as much as a perturbation changes it on the face.

    The change moves aside as a whole: the same pixels by the same number of levels, up or down, whichever stays within
    0 to 255. It may cover other faces, and lies on the side that has room for it.

    Args:
        image, perturbed: (h, w, 3) uint8 RGB; they differ around the face.
        box: of the face, which no change touches.

    Returns:
        None if there is no room, as around a close-up.
    """
    import numpy as np

    change = perturbed.astype(np.int16) - image
    visible = abs(change).max(axis=2) >= _VISIBLE
    rows, columns = np.nonzero(visible)
    if not len(rows):
        return None
    extent = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    strength = abs(change).sum(axis=2) * visible
    moved = max(_moves(box, extent), key=lambda move: _inside(strength, move))
    if _inside(strength, moved) < _INSIDE:
        return None
    return _add(image, _shift(change * visible[..., None], *moved))


def _moves(box: Box, extent: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Return the moves (right, down) that put an extent to the right, left, bottom and top of a box."""
    x_min, y_min, x_max, y_max = extent
    wide, high = _GAP * box.width, _GAP * box.height
    right, left = round(box.x_max + wide) - x_min, round(box.x_min - wide) - x_max
    bottom, top = round(box.y_max + high) - y_min, round(box.y_min - high) - y_max
    return [(right, 0), (left, 0), (0, bottom), (0, top)]


def _inside(strength: Array, move: tuple[int, int]) -> float:
    """Return the share of a change that is still within the image after a move."""
    return float(_shift(strength, *move).sum() / strength.sum())


def _shift(array: Array, right: int, down: int) -> Array:
    """Return an (h, w) or (h, w, c) array whose content is moved; what leaves it is lost, zeros come in."""
    import numpy as np

    height, width = array.shape[:2]
    moved = np.zeros_like(array)
    if abs(right) < width and abs(down) < height:
        rows, columns = height - abs(down), width - abs(right)
        to, start = (max(down, 0), max(right, 0)), (max(-down, 0), max(-right, 0))
        moved[to[0] : to[0] + rows, to[1] : to[1] + columns] = array[
            start[0] : start[0] + rows, start[1] : start[1] + columns
        ]
    return moved


def _add(image: Array, change: Array) -> Array:
    """Add a change to an image, with the other sign where it would leave 0 to 255."""
    import numpy as np

    added = image + change
    outside = (added < 0) | (added > 255)
    changed: Array = np.clip(np.where(outside, image - change, added), 0, 255).astype(np.uint8)
    return changed


def reencode(image: Array, quality: int = 92) -> Array:
    """Return an image after JPEG compression, which both untouched and perturbed copies go through."""
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(stream).convert("RGB"))


def shift_by_pixel(image: Array, box: Box) -> tuple[Array, Box]:
    """Return an image moved by a pixel to the right and down, its edge repeated, and a face's box there."""
    import numpy as np

    moved = np.pad(image, ((1, 0), (1, 0), (0, 0)), mode="edge")[:-1, :-1]
    return moved, Box(box.x_min + 1, box.y_min + 1, box.x_max + 1, box.y_max + 1)
