"""A pen for the built-in sample: smooth shapes on an image in a local coordinate system, and variations of colors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from facemask_train.core.types import Corners

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ImageArray = NDArray[np.uint8]

Color = tuple[int, int, int]
Point = tuple[float, float]


def shade(color: Color, factor: float) -> Color:
    """Return a color made darker (below 1) or lighter (above 1)."""
    red, green, blue = (min(255, round(part * factor)) for part in color)
    return red, green, blue


def vary(rng: Random, color: Color, amount: int = 14) -> Color:
    """Return a color close to the given one."""
    red, green, blue = (min(255, max(0, part + rng.randint(-amount, amount))) for part in color)
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws smooth shapes on an image (RGB) in local coordinates: an origin and a unit in pixels, and a tilt."""

    image: ImageArray
    x: float = 0.0
    y: float = 0.0
    unit: float = 1.0
    tilt: float = 0.0

    def place(self, points: Sequence[Point]) -> list[Point]:
        """Return the points in pixels."""
        cos, sin = math.cos(self.tilt) * self.unit, math.sin(self.tilt) * self.unit
        return [(self.x + x * cos - y * sin, self.y + x * sin + y * cos) for x, y in points]

    def fill(self, points: Sequence[Point], color: Color) -> None:
        import cv2

        cv2.fillPoly(self.image, [self._fixed(points)], color, cv2.LINE_AA, shift=4)

    def stroke(self, points: Sequence[Point], color: Color, width: float, *, closed: bool = False) -> None:
        import cv2

        thick = max(1, round(width * self.unit))
        cv2.polylines(self.image, [self._fixed(points)], closed, color, thick, cv2.LINE_AA, shift=4)

    def oval(self, center: Point, radii: Point, color: Color) -> None:
        self.fill(arc(center, radii), color)

    def _fixed(self, points: Sequence[Point]) -> NDArray[np.int32]:
        import numpy as np

        return np.array([[round(x * 16), round(y * 16)] for x, y in self.place(points)], np.int32)


def arc(center: Point, radii: Point, start: float = 0.0, end: float = 360.0) -> list[Point]:
    """Return points along an ellipse, from `start` to `end` degrees (0 is right, 90 is down)."""
    steps = max(8, round(abs(end - start) / 12))
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(center[0] + radii[0] * math.cos(a), center[1] + radii[1] * math.sin(a)) for a in angles]


def box_of(points: Sequence[Point]) -> Corners:
    """Return the corners around some points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
