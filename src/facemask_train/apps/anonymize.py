"""Anonymize faces: cover each box with a flat color, so that nothing of the face is left. Does not import torch.

Pixelation and blur are not used, because a person can be guessed from what they leave.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from facemask_train.apps.media import Frame
from facemask_train.core.types import Corners, Detection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_CONFIDENCE = 0.01
"""Boxes above this confidence are covered: far below the confidence at which a box counts as a face."""

SECOND_PASS_SCALE = 2
"""The input size of a second detection pass, relative to the first: it finds smaller faces."""

MARGIN = 0.25
"""How far a cover extends beyond its box on each side, relative to the box: a box ends at the chin and the forehead."""

HOLD_SECONDS = 0.5
"""How long a cover stays before and after its frame in a video: a detector loses a face for a frame now and then."""

_COLOR = (107, 114, 128)
_MIN_MARGIN = 2  # pixels, for the smallest faces
_LOOKAHEAD = 16  # frames that wait for those after them


@dataclass(frozen=True, eq=False, slots=True)
class CoveredFrame:
    """A frame, the detections in it, and the boxes to cover."""

    frame: Frame
    detections: tuple[Detection, ...]
    covers: tuple[Corners, ...] = ()


def cover_boxes(pixels: NDArray[np.uint8], boxes: Iterable[Corners]) -> NDArray[np.uint8]:
    """Return an image (h, w, 3) in which each box, enlarged by `MARGIN`, is one flat color."""
    covered = pixels.copy()
    for box in boxes:
        left, top, right, bottom = enlarge(box)
        covered[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = _COLOR
    return covered


def enlarge(box: Corners) -> tuple[int, int, int, int]:
    """Return the pixels that a box's cover takes: left, top, right, bottom; the last two are exclusive."""
    x_min, y_min, x_max, y_max = box
    across, down = (max(MARGIN * side, _MIN_MARGIN) for side in (x_max - x_min, y_max - y_min))
    return math.floor(x_min - across), math.floor(y_min - down), math.ceil(x_max + across), math.ceil(y_max + down)


def hold_covers(frames: Iterable[CoveredFrame]) -> Iterator[CoveredFrame]:
    """Add to each frame of a video the covers of the frames within `HOLD_SECONDS` of it."""
    waiting: deque[CoveredFrame] = deque()
    past: list[CoveredFrame] = []
    for one in frames:
        while waiting and (_unrelated(waiting[0].frame, one.frame) or len(waiting) == _LOOKAHEAD):
            yield _release(waiting, past)
        waiting.append(one)
    while waiting:
        yield _release(waiting, past)


def _release(waiting: deque[CoveredFrame], past: list[CoveredFrame]) -> CoveredFrame:
    """Take the first waiting frame, add the covers of its neighbors, and move its own covers to `past`."""
    first = waiting.popleft()
    past[:] = [one for one in past if not _unrelated(one.frame, first.frame)]
    neighbors = [*past, *(one for one in waiting if not _unrelated(first.frame, one.frame))]
    past.append(CoveredFrame(replace(first.frame, pixels=first.frame.pixels[:0].copy()), (), first.covers))
    return replace(first, covers=tuple(itertools.chain(first.covers, *(one.covers for one in neighbors))))


def _unrelated(one: Frame, other: Frame) -> bool:
    """Return whether two frames are from different files, from images, or too far apart in time."""
    if one.name != other.name or one.time is None or other.time is None:
        return True
    return abs(one.time - other.time) > HOLD_SECONDS
