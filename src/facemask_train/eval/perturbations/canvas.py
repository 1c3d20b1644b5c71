"""A canvas to draw on over one face: smooth shapes in the face's own units, lit like the image.

The box of a face is the square from -1 to 1 on both axes, y pointing down. In boxes from the hairline to the chin, the
eyes are near y = -0.2, the tip of the nose near 0.25, and the mouth near 0.55. The canvas extends beyond the box, to
hoods and hats. It is drawn at a higher resolution and then scaled down, so even a face of 32 pixels gets smooth edges.
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
Color = tuple[float, float, float]

EXTENT = (-2.3, -2.4, 2.3, 2.5)
"""The left, top, right and bottom of the canvas, in the face's units."""

_OVERSAMPLING = 2.0  # canvas pixels to one image pixel, on small faces
_MIN_SCALE, _ENOUGH_SCALE = 36.0, 60.0  # canvas pixels to a unit
BLACK: Color = (0.0, 0.0, 0.0)

FACE: tuple[Point, ...] = (
    (0, -1.04), (0.5, -0.95), (0.86, -0.55), (0.95, 0), (0.86, 0.46), (0.56, 0.86), (0.22, 1.04),
    (-0.22, 1.04), (-0.56, 0.86), (-0.86, 0.46), (-0.95, 0), (-0.86, -0.55), (-0.5, -0.95),
)  # fmt: skip
"""The outline of a face."""


@dataclass(frozen=True, eq=False, slots=True)
class Canvas:
    """A layer of paint over one face. Drawing changes `rgb` and `alpha` in place.

    Attributes:
        scale: pixels to a unit of the face.
        background: (h, w, 3) float32, 0 to 255: the image below the canvas.
        rgb: (h, w, 3) float32, 0 to 255: the paint.
        alpha: (h, w) float32: how opaque the paint is, 0 to 1.
        x, y: (h, w): the position of each pixel in the face's units.
    """

    scale: float
    background: Array
    rgb: Array
    alpha: Array
    x: Array
    y: Array

    def shape(self, points: Sequence[Point], soft: float = 0.0) -> Array:
        """Return the coverage (h, w), 0 to 1, of a polygon; `soft` blurs its edge, in units."""
        import cv2
        import numpy as np

        area = np.zeros(self.alpha.shape, np.float32)
        cv2.fillPoly(area, [self.pixels(points)], 1.0, cv2.LINE_8, shift=4)
        return self.soften(area, max(soft, 0.6 / self.scale))

    def line(self, points: Sequence[Point], width: float, soft: float = 0.0, *, closed: bool = False) -> Array:
        """Return the coverage (h, w), 0 to 1, of a stroke."""
        import cv2
        import numpy as np

        area = np.zeros(self.alpha.shape, np.float32)
        thick = max(1, round(width * self.scale))
        cv2.polylines(area, [self.pixels(points)], closed, 1.0, thick, cv2.LINE_8, shift=4)
        return self.soften(area, max(soft, 0.6 / self.scale))

    def soften(self, area: Array, soft: float) -> Array:
        """Return an (h, w) or (h, w, 3) array blurred by `soft` units."""
        import cv2

        blurred: Array = cv2.GaussianBlur(area, (0, 0), soft * self.scale)
        return blurred

    def paint(self, area: Array, color: Color | Array) -> None:
        """Paint a color, or (h, w, 3) pixels, over what is there; `area` (h, w) is the opacity."""
        import numpy as np

        inside = _extent(area)
        part, under, below = area[inside], self.alpha[inside], self.rgb[inside]
        over = np.asarray(color, np.float32)
        over = over[inside] if over.ndim == 3 else over
        total = part + under * (1 - part)
        mixed = over * part[..., None] + below * (under * (1 - part))[..., None]
        self.rgb[inside] = mixed / np.maximum(total, 1e-6)[..., None]
        self.alpha[inside] = total

    def shade(self, amount: Array) -> None:
        """Make the paint lighter (`amount` > 0) or darker (< 0) by a fraction of itself, (h, w)."""
        import numpy as np

        self.rgb[:] = np.clip(self.rgb * (1 + amount)[..., None], 0, 255)

    def darken(self, area: Array) -> None:
        """Cast a shadow on the image and on the paint."""
        self.paint(area, BLACK)

    def erase(self, area: Array) -> None:
        """Remove paint; `area` (h, w) is the share to remove."""
        self.alpha[:] *= 1 - area

    def pixels(self, points: Sequence[Point]) -> Array:
        """Return points in sixteenths of a canvas pixel, as OpenCV draws them with `shift=4`."""
        import numpy as np

        placed = [((x - EXTENT[0]) * self.scale, (y - EXTENT[1]) * self.scale) for x, y in points]
        return np.array([[round(x * 16), round(y * 16)] for x, y in placed], np.int32)


def _extent(area: Array) -> tuple[slice[int, int, None], slice[int, int, None]]:
    """Return the rows and columns that contain an area, since most strokes are small."""
    rows, columns = (area.max(axis=axis) > 1e-3 for axis in (1, 0))
    if not rows.any():
        return slice(0, 0), slice(0, 0)
    top, left = int(rows.argmax()), int(columns.argmax())
    return slice(top, len(rows) - int(rows[::-1].argmax())), slice(left, len(columns) - int(columns[::-1].argmax()))


def curve(points: Sequence[Point], *, closed: bool = True, steps: int = 8) -> list[Point]:
    """Return a smooth curve through points (a Catmull-Rom spline)."""
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


def ellipse(center: Point, radii: Point, start: float = 0.0, end: float = 360.0) -> list[Point]:
    """Return points along an ellipse from `start` to `end` degrees (0 is right, 90 is down)."""
    angles = [math.radians(start + (end - start) * step / 40) for step in range(41)]
    return [(center[0] + radii[0] * math.cos(angle), center[1] + radii[1] * math.sin(angle)) for angle in angles]


def mirrored(points: Sequence[Point]) -> list[Point]:
    """Return a closed outline; its right half is given from top to bottom."""
    return [*points, *((-x, y) for x, y in reversed(points) if x)]


def jitter_color(rng: Random, color: Color, amount: float = 12) -> Color:
    """Return a color near the given one."""
    red, green, blue = (min(255.0, max(0.0, part + rng.uniform(-amount, amount))) for part in color)
    return red, green, blue


def tint(canvas: Canvas, color: Color, *, texture: float = 0.8) -> Array:
    """Return the image in one color, (h, w, 3); its light and shade stay."""
    import numpy as np

    gray = canvas.background @ np.array([0.299, 0.587, 0.114], np.float32)
    inner = gray[(abs(canvas.x) < 0.7) & (abs(canvas.y) < 0.9)]
    relative = (gray / max(float(np.median(inner)), 1.0)).clip(0.2, 2.2) ** texture
    toned: Array = np.clip(np.asarray(color, np.float32) * relative[..., None], 0, 255)
    return toned


def face_canvas(image: Array, box: Box) -> Canvas:
    """Return an empty canvas over a face of an image (h, w, 3; uint8 RGB)."""
    import cv2
    import numpy as np

    unit = max(box.width, box.height) / 2
    scale = max(unit, _MIN_SCALE, min(_OVERSAMPLING * unit, _ENOUGH_SCALE))
    size = (round((EXTENT[2] - EXTENT[0]) * scale), round((EXTENT[3] - EXTENT[1]) * scale))
    background = cv2.warpAffine(
        image, _to_image(box, scale), size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    down, across = np.indices((size[1], size[0]), np.float32) / np.float32(scale)
    return Canvas(
        scale, background.astype(np.float32), np.zeros_like(background, np.float32),
        np.zeros(background.shape[:2], np.float32),
        across + np.float32(EXTENT[0]), down + np.float32(EXTENT[1]),
    )  # fmt: skip


def _to_image(box: Box, scale: float) -> Array:
    """Return the (2, 3) matrix that maps canvas pixels to image pixels."""
    import numpy as np

    across, down = box.width / 2 / scale, box.height / 2 / scale
    left = (box.x_min + box.x_max) / 2 + EXTENT[0] * box.width / 2
    top = (box.y_min + box.y_max) / 2 + EXTENT[1] * box.height / 2
    return np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])


def composite(canvas: Canvas, image: Array, box: Box, *, lit: bool = True) -> Array:
    """Return a copy of the image with the canvas painted on it.

    Args:
        lit: light the paint like the face: as bright, and from the same side.
    """
    import cv2
    import numpy as np

    rgb = _lit_like_face(canvas) if lit else canvas.rgb
    layers = np.dstack([rgb * canvas.alpha[..., None], canvas.alpha])
    shrink = min(1.0, max(box.width, box.height) / 2 / canvas.scale)
    small = cv2.GaussianBlur(layers, (0, 0), 0.45 / shrink) if shrink < 1 else layers  # against aliasing
    layer = cv2.warpAffine(
        small, _to_image(box, canvas.scale), (image.shape[1], image.shape[0]), flags=cv2.INTER_LINEAR
    )
    blended: Array = np.clip(np.rint(image * (1 - layer[..., 3:]) + layer[..., :3]), 0, 255).astype(np.uint8)
    return blended


def _lit_like_face(canvas: Canvas) -> Array:
    """Return the paint in the light that falls on the face: as bright, and from the same side."""
    import numpy as np

    inner = (abs(canvas.x) < 0.8) & (abs(canvas.y) < 0.9)
    gray = canvas.background @ np.array([0.299, 0.587, 0.114], np.float32)
    bright = float(np.percentile(gray[inner], 70))
    left, right = (float(np.median(gray[inner & (canvas.x * side > 0.2)])) + 8 for side in (-1, 1))
    lean = float(np.clip((right - left) / (right + left), -0.35, 0.35))
    gain = float(np.clip((bright / 165) ** 0.7, 0.32, 1.12)) * (1 + lean * canvas.x.clip(-1.3, 1.3) * 0.7)
    lit: Array = np.clip(canvas.rgb * gain[..., None], 0, 255)
    return lit
