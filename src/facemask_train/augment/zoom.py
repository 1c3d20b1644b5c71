"""Crops of an image in which one of its faces has a wanted size. Pure geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from facemask_train.core.types import Annotation, Box

MIN_ZOOM = 1.05
"""A crop that is less than this much smaller than its image shows next to nothing new."""

_TRIES = 8
_MIN_ASPECT = 0.75


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of an image in whole pixels, its right and lower end left out. It cuts no face."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int

    @property
    def width(self) -> int:
        return self.x_max - self.x_min

    @property
    def height(self) -> int:
        return self.y_max - self.y_min

    def holds(self, box: Box) -> bool:
        """Return whether a box lies wholly inside."""
        inside_x = self.x_min <= box.x_min and box.x_max <= self.x_max
        return inside_x and self.y_min <= box.y_min and box.y_max <= self.y_max

    def meets(self, box: Box) -> bool:
        """Return whether a box has a part inside."""
        meets_x = box.x_min < self.x_max and box.x_max > self.x_min
        return meets_x and box.y_min < self.y_max and box.y_max > self.y_min

    def labels(self, labels: Sequence[Annotation]) -> tuple[Annotation, ...]:
        """Return the labels inside, in pixels of the crop."""
        return tuple(replace(one, box=self._moved(one.box)) for one in labels if self.holds(one.box))

    def _moved(self, box: Box) -> Box:
        return Box(box.x_min - self.x_min, box.y_min - self.y_min, box.x_max - self.x_min, box.y_max - self.y_min)


def crop_around(
    labels: Sequence[Annotation], index: int, width: int, height: int, *, size: float, rng: Random
) -> Crop | None:
    """Return a crop whose longer side is that of a face divided by `size`.

    Args:
        labels: all faces of the image of `width` x `height` pixels; none is cut.
        index: the face that is zoomed.
        size: the relative size that it shall have.

    Returns:
        None if the image is too small for that, or if every try would cut another face.
    """
    box = labels[index].box
    longer = round(max(box.width, box.height) / size)
    if longer * MIN_ZOOM > max(width, height):
        return None
    for _ in range(_TRIES):
        sides = [longer, max(round(longer * rng.uniform(_MIN_ASPECT, 1)), 1)]
        across, down = sides if rng.random() < 0.5 else reversed(sides)
        x, y = _start(box.x_min, box.x_max, across, width, rng), _start(box.y_min, box.y_max, down, height, rng)
        if x is None or y is None:
            continue
        crop = Crop(x, y, x + min(across, width), y + min(down, height))
        if all(crop.holds(one.box) or not crop.meets(one.box) for one in labels) and crop.holds(box):
            return crop
    return None


def _start(low: float, high: float, side: int, limit: int, rng: Random) -> int | None:
    """Return where a crop of this side begins so that it holds `low` to `high`; None if it cannot."""
    side = min(side, limit)
    first, last = max(0, math.ceil(high - side)), min(int(low), limit - side)
    return rng.randint(first, last) if first <= last else None
