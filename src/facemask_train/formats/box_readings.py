"""What the four numbers of a box mean: centers, corners or the top left corner; fractions or pixels.

Each format defines one reading. Real files of that format sometimes have another one, throughout. `choose` keeps the
defined reading unless the boxes of a source contradict it and exactly one other reading fits all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from facemask_train.core.errors import DataError
from facemask_train.core.types import Corners

Layout = Literal["centers", "corners", "top-left"]
Unit = Literal["fractions", "pixels"]
Values = tuple[float, float, float, float]

FITS_BY_DEFAULT = 0.9
"""The fraction of boxes inside their images from which the defined reading is not questioned."""
FITS_OTHERWISE = 0.98
"""The fraction of boxes that must lie inside their images under another reading."""
_MARGIN = 0.02  # of each side of the image; published boxes often reach a little past the edge


class BoxReading(NamedTuple):
    """A layout of four numbers, and their unit."""

    layout: Layout
    unit: Unit

    def corners(self, values: Values, size: tuple[int, int]) -> Corners:
        """Return the corners in pixels of a box in an image of `size` (width, height)."""
        a, b, c, d = values
        if self.unit == "fractions":
            a, b, c, d = a * size[0], b * size[1], c * size[0], d * size[1]
        if self.layout == "corners":
            return a, b, c, d
        if self.layout == "top-left":
            return a, b, a + c, b + d
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2

    def describe(self) -> str:
        """Return the reading in words, for messages."""
        meaning = {
            "centers": "center x, center y, width, height",
            "corners": "x min, y min, x max, y max (corners, not width and height)",
            "top-left": "x min, y min, width, height",
        }[self.layout]
        return f"{meaning} in {self.unit}"


READINGS = tuple(
    BoxReading(layout, unit) for unit in ("fractions", "pixels") for layout in ("centers", "corners", "top-left")
)


def choose(boxes: Sequence[tuple[Values, tuple[int, int]]], default: BoxReading) -> tuple[BoxReading, ...]:
    """Return the reading of a source's boxes: one, or several if they cannot be told apart.

    Args:
        boxes: the four numbers of each box, and the size (width, height) of its image.
        default: the reading that the format defines. It is returned unless another one fits better.
    """
    if len(boxes) < 2 or _share(boxes, default) >= FITS_BY_DEFAULT:
        return (default,)
    fitting = tuple(one for one in READINGS if one != default and _share(boxes, one) >= FITS_OTHERWISE)
    return fitting or (default,)


def _share(boxes: Sequence[tuple[Values, tuple[int, int]]], reading: BoxReading) -> float:
    return sum(_fits(reading.corners(values, size), size) for values, size in boxes) / len(boxes)


def _fits(corners: Corners, size: tuple[int, int]) -> bool:
    """Return whether a box has at least a pixel of each side, and lies inside its image but for a small margin."""
    x_min, y_min, x_max, y_max = corners
    across, down = _MARGIN * size[0], _MARGIN * size[1]
    inside = x_min >= -across and y_min >= -down and x_max <= size[0] + across and y_max <= size[1] + down
    return inside and x_max - x_min >= 1 and y_max - y_min >= 1


class AmbiguousBoxesError(DataError):
    """The boxes of a source are not as its format defines them, and fit several other readings.

    `examples` are images, each with the four numbers of one of its boxes; `readings` what they can mean.
    """

    def __init__(
        self,
        folder: Path,
        default: BoxReading,
        readings: Sequence[BoxReading],
        examples: Sequence[tuple[str, Values]],
    ) -> None:
        listed = "; or ".join(one.describe() for one in readings)
        super().__init__(
            f"{folder}: expected boxes as {default.describe()}; these reach outside their images, but fit as {listed}",
            next_step="look at a few images, convert the labels to the defined form, and fetch the source again",
        )
        self.readings = tuple(readings)
        self.examples = tuple(examples)
