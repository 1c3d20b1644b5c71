"""A sheet to draw on over one face: smooth shapes in the face's own units, lit like the image below. Knows no kinds.

A face's box is the square from -1 to 1 on both axes (y down): in boxes that end at the hairline and the chin, the
eyes are near y = -0.2, the tip of the nose near 0.25, the mouth near 0.55. The sheet reaches further, to what may
frame a face. It is drawn large, then reduced onto the image, so that a face of 32 pixels gets smooth edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.core.types import Box

if TYPE_CHECKING:
    from random import Random

    from facemask_train.core.types import Array

Point = tuple[float, float]
Colour = tuple[float, float, float]

REACH = (-2.3, -2.4, 2.3, 2.5)
"""The sheet's left, top, right and bottom, in the face's units."""

_FINER, _LEAST, _FINE = (
    2.0,
    36.0,
    60.0,
)  # how much finer than the image a sheet is; its pixels to a unit: least, enough
BLACK: Colour = (0.0, 0.0, 0.0)

FACE: tuple[Point, ...] = (
    (0, -1.04), (0.5, -0.95), (0.86, -0.55), (0.95, 0), (0.86, 0.46), (0.56, 0.86), (0.22, 1.04),
    (-0.22, 1.04), (-0.56, 0.86), (-0.86, 0.46), (-0.95, 0), (-0.86, -0.55), (-0.5, -0.95),
)  # fmt: skip
"""The outline of a face."""


@dataclass(frozen=True, eq=False, slots=True)
class Sheet:
    """What lies over a face, and the image below it at the same scale. Drawing changes `rgb` and `cover` in place.

    `below` and `rgb` are (h, w, 3) float32, 0 to 255; `cover` is (h, w) float32, 0 (the image shows) to 1; `across`
    and `down` are (h, w): each pixel's place in the face's units.
    """

    scale: float
    below: Array
    rgb: Array
    cover: Array
    across: Array
    down: Array

    def shape(self, points: Sequence[Point], soft: float = 0.0) -> Array:
        """Return how much of each pixel (h, w) lies within an outline; `soft` blurs its edge, in units."""
        import cv2
        import numpy as np

        area = np.zeros(self.cover.shape, np.float32)
        cv2.fillPoly(area, [self._fixed(points)], 1.0, cv2.LINE_8, shift=4)
        return self.soften(area, max(soft, 0.6 / self.scale))

    def line(self, points: Sequence[Point], width: float, soft: float = 0.0, *, closed: bool = False) -> Array:
        """Return how much of each pixel lies on a stroke."""
        import cv2
        import numpy as np

        area = np.zeros(self.cover.shape, np.float32)
        thick = max(1, round(width * self.scale))
        cv2.polylines(area, [self._fixed(points)], closed, 1.0, thick, cv2.LINE_8, shift=4)
        return self.soften(area, max(soft, 0.6 / self.scale))

    def soften(self, area: Array, soft: float) -> Array:
        """Return an (h, w) or (h, w, 3) array blurred by `soft` units."""
        import cv2

        blurred: Array = cv2.GaussianBlur(area, (0, 0), soft * self.scale)
        return blurred

    def lay(self, area: Array, colour: Colour | Array) -> None:
        """Lay a colour (or (h, w, 3) pixels) over what is there, as much as `area` says."""
        import numpy as np

        inside = _extent(area)
        part, under, below = area[inside], self.cover[inside], self.rgb[inside]
        over = np.asarray(colour, np.float32)
        over = over[inside] if over.ndim == 3 else over
        total = part + under * (1 - part)
        mixed = over * part[..., None] + below * (under * (1 - part))[..., None]
        self.rgb[inside] = mixed / np.maximum(total, 1e-6)[..., None]
        self.cover[inside] = total

    def shade(self, amount: Array) -> None:
        """Make what has been laid lighter (above 0) or darker (below 0), by this part of itself."""
        import numpy as np

        self.rgb[:] = np.clip(self.rgb * (1 + amount)[..., None], 0, 255)

    def darken(self, area: Array) -> None:
        """Cast a shadow on the image and on what has been laid."""
        self.lay(area, BLACK)

    def cut(self, area: Array) -> None:
        """Take away what has been laid, as much as `area` says."""
        self.cover[:] *= 1 - area

    def _fixed(self, points: Sequence[Point]) -> Array:
        import numpy as np

        placed = [((x - REACH[0]) * self.scale, (y - REACH[1]) * self.scale) for x, y in points]
        return np.array([[round(x * 16), round(y * 16)] for x, y in placed], np.int32)


def _extent(area: Array) -> tuple[slice, slice]:
    """Return the rows and columns that hold all of an area: most strokes are small."""
    rows, columns = (area.max(axis=axis) > 1e-3 for axis in (1, 0))
    if not rows.any():
        return slice(0, 0), slice(0, 0)
    top, left = int(rows.argmax()), int(columns.argmax())
    return slice(top, len(rows) - int(rows[::-1].argmax())), slice(left, len(columns) - int(columns[::-1].argmax()))


def curve(points: Sequence[Point], *, closed: bool = True, steps: int = 8) -> list[Point]:
    """Return a smooth curve through points (Catmull and Rom's)."""
    count = len(points)
    found: list[Point] = []
    for index in range(count if closed else count - 1):
        around = [index - 1, index, index + 1, index + 2]
        p = [points[i % count] if closed else points[min(max(i, 0), count - 1)] for i in around]
        found += [(_between(p, 0, step / steps), _between(p, 1, step / steps)) for step in range(steps)]
    return found if closed else [*found, points[-1]]


def _between(p: Sequence[Point], axis: int, t: float) -> float:
    a, b, c, d = (point[axis] for point in p)
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def oval(centre: Point, radii: Point, start: float = 0.0, end: float = 360.0) -> list[Point]:
    """Return points along an ellipse, from `start` to `end` degrees (0 is right, 90 is down)."""
    turns = [math.radians(start + (end - start) * step / 40) for step in range(41)]
    return [(centre[0] + radii[0] * math.cos(turn), centre[1] + radii[1] * math.sin(turn)) for turn in turns]


def mirrored(points: Sequence[Point]) -> list[Point]:
    """Return an outline whose right half is given from top to bottom: both halves, closed."""
    return [*points, *((-x, y) for x, y in reversed(points) if x)]


def vary(rng: Random, colour: Colour, amount: float = 12) -> Colour:
    """Return a colour near the given one."""
    red, green, blue = (min(255.0, max(0.0, part + rng.uniform(-amount, amount))) for part in colour)
    return red, green, blue


def tone(sheet: Sheet, colour: Colour, *, texture: float = 0.8) -> Array:
    """Return the image below in one colour: its light and dark stay, (h, w, 3)."""
    import numpy as np

    grey = sheet.below @ np.array([0.299, 0.587, 0.114], np.float32)
    inner = grey[(abs(sheet.across) < 0.7) & (abs(sheet.down) < 0.9)]
    relative = (grey / max(float(np.median(inner)), 1.0)).clip(0.2, 2.2) ** texture
    toned: Array = np.clip(np.asarray(colour, np.float32) * relative[..., None], 0, 255)
    return toned


def blank(image: Array, box: Box) -> Sheet:
    """Return an empty sheet over one face of an image (h, w, 3; uint8 RGB)."""
    import cv2
    import numpy as np

    unit = max(box.width, box.height) / 2
    scale = max(unit, _LEAST, min(_FINER * unit, _FINE))
    size = (round((REACH[2] - REACH[0]) * scale), round((REACH[3] - REACH[1]) * scale))
    below = cv2.warpAffine(
        image, _to_image(box, scale), size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    down, across = np.indices((size[1], size[0]), np.float32) / np.float32(scale)
    return Sheet(
        scale, below.astype(np.float32), np.zeros_like(below, np.float32), np.zeros(below.shape[:2], np.float32),
        across + np.float32(REACH[0]), down + np.float32(REACH[1]),
    )  # fmt: skip


def _to_image(box: Box, scale: float) -> Array:
    """Return the (2, 3) matrix from the sheet's pixels to the image's."""
    import numpy as np

    across, down = box.width / 2 / scale, box.height / 2 / scale
    left = (box.x_min + box.x_max) / 2 + REACH[0] * box.width / 2
    top = (box.y_min + box.y_max) / 2 + REACH[1] * box.height / 2
    return np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])


def put_down(sheet: Sheet, image: Array, box: Box, *, lit: bool = True) -> Array:
    """Return a copy of the image with the sheet on it.

    Args:
        lit: make what was laid as bright as the face, with the light from the same side, and as sharp.
    """
    import cv2
    import numpy as np

    rgb = _in_the_light(sheet) if lit else sheet.rgb
    layers = np.dstack([rgb * sheet.cover[..., None], sheet.cover])
    shrink = min(1.0, max(box.width, box.height) / 2 / sheet.scale)
    small = cv2.GaussianBlur(layers, (0, 0), 0.45 / shrink) if shrink < 1 else layers  # no pixel is skipped over
    flat = cv2.warpAffine(small, _to_image(box, sheet.scale), (image.shape[1], image.shape[0]), flags=cv2.INTER_LINEAR)
    laid = image * (1 - flat[..., 3:]) + flat[..., :3]
    found: Array = np.clip(np.rint(laid), 0, 255).astype(np.uint8)
    return found


def _in_the_light(sheet: Sheet) -> Array:
    """Return what was laid under the light that falls on the face: how bright, and from which side."""
    import numpy as np

    inner = (abs(sheet.across) < 0.8) & (abs(sheet.down) < 0.9)
    grey = sheet.below @ np.array([0.299, 0.587, 0.114], np.float32)
    bright = float(np.percentile(grey[inner], 70))
    left, right = (float(np.median(grey[inner & (sheet.across * side > 0.2)])) + 8 for side in (-1, 1))
    lean = float(np.clip((right - left) / (right + left), -0.35, 0.35))
    gain = float(np.clip((bright / 165) ** 0.7, 0.32, 1.12)) * (1 + lean * sheet.across.clip(-1.3, 1.3) * 0.7)
    lit: Array = np.clip(sheet.rgb * gain[..., None], 0, 255)
    return lit
