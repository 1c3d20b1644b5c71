"""Solid objects in front of a face: modeled as heights above the image, lit like the face, and drawn onto it.

An object is as sharp and as grainy as the image, and casts a soft shadow on the face. Lengths are in half face widths,
as seen from the front: `x` to the right, `y` down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from facemask_train.augment.face_patch import Face, rounded, step

if TYPE_CHECKING:
    from facemask_train.augment.face_patch import Field, ImageArray, Window

Point = tuple[float, float]
Drawn = tuple["ImageArray", "Field"]
"""The edited pixels of a face, and how much of each pixel is covered (height, width; 0 to 1)."""

NEAR = 0.3
"""Half face widths; the shadow of an object on the face is shorter than this."""


@dataclass(frozen=True, slots=True)
class Relief:
    """Objects in front of the face, on the grid: lengths in half face widths.

    `inside` is the distance to the outline, positive inside; `height` rises toward the viewer; `color` is unlit.
    `part` is the region around the objects.
    """

    inside: Field
    height: Field
    color: Field
    part: Window = (slice(0, 9999), slice(0, 9999))


def plane(face: Face, x: float, y: float, angle: float, mirror: int) -> tuple[Field, Field]:
    """Return the coordinates of a rotated frame with its origin at (x, y), in half face widths."""
    across, down = (face.u - x) * mirror, face.v * face.aspect - y
    cos, sin = math.cos(angle), math.sin(angle)
    return across * cos + down * sin, down * cos - across * sin


def over(below: Relief, above: Relief) -> Relief:
    """Combine two objects, the second in front of the first."""
    import numpy as np

    part = above.part  # outside both outlines the nearer object is extended, so that edges are blended from both sides
    front = (above.inside[part] > 0) | ((below.inside[part] <= 0) & (above.inside[part] > below.inside[part]))
    inside, height, color = below.inside.copy(), below.height.copy(), np.array(below.color)
    np.maximum(inside[part], above.inside[part], out=inside[part])
    height[part][front] = above.height[part][front]
    color[part][front] = above.color[part][front]
    return Relief(inside, height, color, _around(below.part, part))


def _around(one: Window, other: Window) -> Window:
    rows, columns = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return rows, columns


def limbs(x: Field, y: Field, joints: Sequence[tuple[float, ...]], color: Field) -> Relief:
    """Return rounded limbs: each of `joints` is x, y, radius at one end, x, y, radius at the other, and its elevation.

    The highest limb is in front where two cross.
    """
    import numpy as np

    known = np.array(joints, np.float32)
    reach = NEAR + max(known[:, 2].max(), known[:, 5].max())
    part = _part(x, y, known[:, (0, 3)], known[:, (1, 4)], reach)
    inside, height = np.full(x.shape, -9, np.float32), np.zeros(x.shape, np.float32)
    inside[part], height[part] = _limbs(x[part], y[part], known)
    return Relief(inside, height, np.broadcast_to(color, (*x.shape, 3)), part)


def _part(x: Field, y: Field, xs: Field, ys: Field, reach: float) -> Window:
    """Return the rows and columns of the grid near the given positions."""
    import numpy as np

    near = (x > xs.min() - reach) & (x < xs.max() + reach) & (y > ys.min() - reach) & (y < ys.max() + reach)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _limbs(x: Field, y: Field, joints: Field) -> tuple[Field, Field]:
    import numpy as np

    inside, height = np.full(x.shape, -9, np.float32), np.full(x.shape, -9, np.float32)
    for x_0, y_0, r_0, x_1, y_1, r_1, lift in joints:
        along_x, along_y = x_1 - x_0, y_1 - y_0
        from_x, from_y = x - x_0, y - y_0
        part = np.clip((from_x * along_x + from_y * along_y) / (along_x**2 + along_y**2 + 1e-6), 0, 1)
        radius = r_0 + (r_1 - r_0) * part
        away = (from_x - part * along_x) ** 2 + (from_y - part * along_y) ** 2
        round_ = radius * radius
        np.maximum(inside, radius - np.sqrt(away), out=inside)
        np.maximum(height, lift + np.sqrt(np.maximum(round_ - away, 0.04 * round_)) - (away > round_) * 5, out=height)
    return inside, np.where(height < -3, height + 5, height)


def lit(face: Face, relief: Relief, *, ambient: float) -> Field:
    """Return the colors of a relief under the light of the image (rows, columns, 3)."""
    import cv2
    import numpy as np

    height, fine = relief.height[relief.part], face.fineness / 16
    right, down = (np.clip(cv2.Sobel(height, -1, *axis) * fine, -2.5, 2.5) for axis in ((1, 0), (0, 1)))
    toward = np.array([0.55 * face.slope, -0.45, 0.8])
    x, y, z = map(float, toward / np.linalg.norm(toward))
    facing = (z - x * right - y * down) / np.sqrt(right**2 + down**2 + 1)
    shade = ambient + (1 - ambient) / z * np.maximum(facing, 0)
    found = np.zeros(relief.color.shape, np.float32)
    found[relief.part] = relief.color[relief.part] * np.minimum(shade, 1.18)[..., None]
    return found


def draw_relief(face: Face, relief: Relief, rng: Random, *, ambient: float = 0.5, drop: float = 0.1) -> Drawn | None:
    """Draw a relief onto the image, as sharp and as grainy as the image; it casts a soft shadow on the face.

    `drop` is how far the shadow reaches, in half face widths.
    """
    import cv2
    import numpy as np

    window = face.window_of(relief.inside > -NEAR)
    if window is None:
        return None
    inside = cv2.GaussianBlur(relief.inside, (0, 0), 0.7)
    colors = face.enlarge(rounded(lit(face, relief, ambient=ambient)), window)
    cover = np.clip(face.enlarge(inside, window) * (face.half_width / (1.6 * face.softness)) + 0.5, 0, 1)
    on_face = step(1.15 - np.sqrt(face.u**2 + face.v**2), 0.3)
    dark = 0.45 * on_face * np.exp(np.minimum(inside, 0) / drop)
    return blended(face, window, colors, cover, rng, behind=_shaded(face, dark))


def _shaded(face: Face, dark: Field) -> ImageArray:
    """Return the face's pixels with less light, by `dark` (rows, columns; 0 to 1)."""
    import cv2

    window = face.window_of(dark > 0.01)
    if window is None:
        return face.pixels
    kept = 1 - face.enlarge(dark, window)
    return face.painted(window, cv2.multiply(face.pixels[window], cv2.merge([kept] * 3), dtype=cv2.CV_32F))


def blended(
    face: Face, window: Window, colors: ImageArray, cover: Field, rng: Random, *, behind: ImageArray | None = None
) -> Drawn:
    """Paint `colors` over a window of the face's pixels (or of `behind`), as sharp and grainy as the image."""
    import cv2
    import numpy as np

    if face.softness > 0.6:
        colors = cv2.GaussianBlur(colors, (0, 0), face.softness)
    if face.grain > 0.3:
        colors = cv2.add(colors, face.noise(rng, *cover.shape), dtype=cv2.CV_8U)
    pixels = (face.pixels if behind is None else behind).copy()
    pixels[window] = cv2.blendLinear(colors, np.ascontiguousarray(pixels[window]), cover, 1 - cover)
    covered = np.zeros(pixels.shape[:2], np.float32)
    covered[window] = cover
    return pixels, covered


def lathe(x: Field, y: Field, profile: Sequence[Point], color: Field, *, round_: float) -> Relief:
    """Return a solid of revolution: `profile` is its radius (second) at each `y` (first), top to bottom.

    `round_` is how much its ends are curved, as if seen from slightly above or below.
    """
    import numpy as np

    places, radii = zip(*profile, strict=True)
    at = y - round_ * (1 - np.minimum(1, (x / max(radii)) ** 2)) ** 0.5
    radius = np.interp(at, places, radii).astype(np.float32)
    inside = np.minimum(np.minimum(radius - np.abs(x), at - places[0]), places[-1] - at)
    height = np.sqrt(np.maximum(radius**2 - x**2, 0.03 * radius**2))
    return Relief(inside.astype(np.float32), height.astype(np.float32), np.broadcast_to(color, (*inside.shape, 3)))


def uneven(relief: Relief, rng: Random) -> Relief:
    """Return a relief with a slightly uneven color, like skin."""
    import cv2
    import numpy as np

    rough = np.random.default_rng(rng.getrandbits(64)).standard_normal((14, 14)).astype(np.float32)
    uneven = cv2.resize(rough, relief.inside.shape[::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    return Relief(relief.inside, relief.height, relief.color * (1 + 0.035 * uneven), relief.part)
