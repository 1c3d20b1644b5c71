"""Faces made unrecognisable: nothing of what was there is left under a cover. Knows pixels and boxes, no model.

A cover is one flat colour. Pixelation and blur leave a face's blocks behind, from which who it is can be guessed.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from facemask_train.apps.media import Frame
from facemask_train.core.types import Corners, Detection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DOUBTFUL = 0.01
"""The confidence from which a box is covered: far below where it counts as a face."""

LARGER = 2
"""How much larger images are shown to the model a second time, for the faces that are too small the first time."""

MARGIN = 0.25
"""How much wider a cover is than its box, as a share of the box, on each side: a box ends at the chin and the brow."""

LASTING = 0.5
"""Seconds for which a video's covers stay before and after: a model loses a face for a frame, and finds it again."""

_COLOUR = (107, 114, 128)
_LEAST = 2  # pixels of margin, for the smallest faces
_HELD = 16  # frames that wait for what comes after them

Looked = tuple[Frame, tuple[Detection, ...], tuple[Corners, ...]]
"""A frame, what counts as found in it, and the boxes to cover."""


def cover(pixels: NDArray[np.uint8], boxes: Iterable[Corners]) -> NDArray[np.uint8]:
    """Return an image (h, w, 3) in which each box, enlarged by `MARGIN`, is one flat colour."""
    covered = pixels.copy()
    for box in boxes:
        left, top, right, bottom = enlarged(box)
        covered[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = _COLOUR
    return covered


def enlarged(box: Corners) -> tuple[int, int, int, int]:
    """Return the pixels that a box's cover takes, whole ones: left, top, right, bottom (the last two are outside)."""
    x_min, y_min, x_max, y_max = box
    across, down = (max(MARGIN * side, _LEAST) for side in (x_max - x_min, y_max - y_min))
    return math.floor(x_min - across), math.floor(y_min - down), math.ceil(x_max + across), math.ceil(y_max + down)


def lasting(looked: Iterable[Looked]) -> Iterator[Looked]:
    """Yield each frame with the boxes to cover in it: also those of the frames around it in time."""
    held: deque[Looked] = deque()
    past: list[Looked] = []
    for one in looked:
        while held and (_apart(held[0][0], one[0]) or len(held) == _HELD):
            yield _released(held, past)
        held.append(one)
    while held:
        yield _released(held, past)


def _released(held: deque[Looked], past: list[Looked]) -> Looked:
    """Take the first of the frames that are held, with the boxes of those near it; it joins the past."""
    frame, found, boxes = held.popleft()
    past[:] = [one for one in past if not _apart(one[0], frame)]
    around = [*past, *(one for one in held if not _apart(frame, one[0]))]
    past.append((replace(frame, pixels=frame.pixels[:0].copy()), (), boxes))
    return frame, found, tuple(itertools.chain(boxes, *(others for _, _, others in around)))


def _apart(one: Frame, other: Frame) -> bool:
    """Tell whether two frames say nothing of each other: other files, images, or too far apart in time."""
    if one.name != other.name or one.time is None or other.time is None:
        return True
    return abs(one.time - other.time) > LASTING
