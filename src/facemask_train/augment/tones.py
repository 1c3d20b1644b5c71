"""Edits that change the color or lighting of a face without drawing anything: recolor, relight, tint, shadow.

All of them preserve fine detail: folds, edges, lips and nostrils stay as they are. Each takes a face and a generator,
and returns the edited pixels of the face (height, width, 3; RGB), or None if there is nothing to change.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from facemask_train.augment.face_patch import MIN_FLESH, Face, step, to_lab, to_rgb

if TYPE_CHECKING:
    from facemask_train.augment.face_patch import Field, ImageArray

Color = tuple[int, int, int]

CLOTHS: tuple[Color, ...] = (
    (138, 186, 222), (112, 166, 206), (168, 206, 226), (150, 210, 196), (104, 178, 160), (242, 243, 244),
    (228, 230, 228), (30, 31, 35), (48, 48, 54), (92, 94, 100), (150, 152, 156), (36, 48, 92), (62, 92, 150),
    (190, 40, 46), (226, 120, 60), (240, 206, 72), (236, 160, 184), (206, 70, 130), (132, 90, 170), (60, 120, 74),
    (122, 132, 70), (120, 82, 54), (196, 170, 130), (70, 34, 40),
)  # fmt: skip
"""Colors of cloth, paper and paint: the blues, greens, whites and blacks of masks, and other colors."""

PATTERNED = 0.35
"""The share of recolored faces that get two colors, since masks and face paint can have prints."""

MIN_MASK = 0.12
"""The smallest share of the box that the mask can cover: with less, its estimated position is wrong."""

ALIKE = 9.0
"""Lab units; a mask whose color is this close to that of the skin needs no tint."""


def edge(face: Face, rng: Random, at: float) -> Field:
    """Return how far below a random line across the face each grid point is, in `v` (rows, columns).

    The line is tilted and curved, like the upper edge of a mask or a brim.
    """
    tilt, bow = rng.gauss(0, 0.12), rng.uniform(-0.2, 0.35)
    across = face.u - face.turned
    found: Field = face.v - at - tilt * across - bow * (across**2 - 0.3)
    return found


def softness(rng: Random) -> float:
    """Return how wide an edge is, in `v`: from as sharp as a mask's edge to a gradient over half the face."""
    return math.exp(rng.uniform(math.log(0.03), math.log(0.7)))


def _outline(face: Face) -> Field:
    """Return 1 inside the lower face and 0 outside: skin-colored areas behind the jaw are not the face."""
    import numpy as np

    across = (face.u - 0.5 * face.turned) / 0.96
    return step(1 - across**2 - (np.maximum(face.v, 0) / 1.06) ** 2, 0.25)


def _lower_flesh(face: Face, rng: Random) -> Field | None:
    """Return the skin below a random line, or None if there is too little skin."""
    if face.bare_below < MIN_FLESH:
        return None
    return face.flesh * _outline(face) * step(edge(face, rng, rng.uniform(-0.05, 0.3)), softness(rng))


def recolor(face: Face, rng: Random) -> ImageArray | None:
    """Change the color of the skin of the lower face, as paint or colored light would."""
    import numpy as np

    region = _lower_flesh(face, rng)
    if region is None:
        return None
    colors = [_reachable(face, to_lab(face.color(*rng.choice(CLOTHS))[None, None])[0, 0]) for _ in range(2)]
    target = colors[0]
    if rng.random() < PATTERNED:
        print_ = _pattern(face, rng)[..., None]
        target = (colors[0] * (1 - print_) + colors[1] * print_).astype(np.float32)
    return _dye(face, region * rng.uniform(0.55, 0.95), target, kept=rng.uniform(0.8, 1.0))


def _reachable(face: Face, target: Field) -> Field:
    """Return a color whose lightness leaves room above and below for the shades of the face."""
    import numpy as np

    room = 3.0 + float(np.quantile(np.abs(face.lab[..., 0] - face.skin[0]), 0.3))
    low, high = min(22.0, room + 6), 97 - min(room, 14.0)
    target[0] = min(max(float(target[0]), low), high)
    return target


def _pattern(face: Face, rng: Random) -> Field:
    """Return a print: stripes, checks, dots or blotches, 0 to 1 (rows, columns)."""
    import cv2
    import numpy as np

    angle, fine = rng.uniform(0, math.pi), rng.uniform(8, 22)
    along = (face.u * math.cos(angle) + face.v * math.sin(angle)) * fine + rng.uniform(0, 6)
    across = (face.v * math.cos(angle) - face.u * math.sin(angle)) * fine
    match rng.choice(("stripes", "checks", "dots", "blotches")):
        case "stripes":
            wave = np.sin(along)
        case "checks":
            wave = (np.sin(along) + np.sin(across)) / 2
        case "dots":
            wave = np.sin(along) * np.sin(across) - 0.3
        case _:
            rough = np.random.default_rng(rng.getrandbits(64)).standard_normal((9, 9)).astype(np.float32)
            wave = cv2.resize(rough, along.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return step(wave.astype(np.float32), 0.4)


def _dye(face: Face, region: Field, target: Field, *, kept: float) -> ImageArray | None:
    """Move the skin color to `target` (3,) or (rows, columns, 3), weighted by `region` (on the grid).

    `kept` is the fraction of the differences from the skin color that is kept.
    """
    window = face.window_of(region > 0)
    if window is None:
        return None
    lab = to_lab(face.pixels[window].astype("float32"))
    amount = face.enlarge(region, window)[..., None]
    wanted = target if target.ndim == 1 else face.enlarge(target, window)
    return face.painted(window, to_rgb(lab + amount * (wanted + kept * (lab - face.skin) - lab)))


def relight(face: Face, rng: Random) -> ImageArray | None:
    """Make the skin of the lower face darker or lighter, as a shadow, a lamp or a bright floor would."""
    region = _lower_flesh(face, rng)
    if region is None:
        return None
    bright = face.skin[0] < 45 or (face.skin[0] < 72 and rng.random() < 0.5)
    strength = rng.uniform(1.3, 1.65) if bright else rng.uniform(0.42, 0.72)
    return _shine(face, region, strength, warmth=rng.uniform(-0.08, 0.14) if bright else rng.uniform(-0.08, 0.03))


def shadow(face: Face, rng: Random) -> ImageArray | None:
    """Draw a slanted shadow on the upper half of the face."""
    import numpy as np

    limit = step(1.1 - np.sqrt(face.u**2 + (face.v / 1.05) ** 2), 0.2)
    crown = 1 - np.sqrt(((face.u - 0.4 * face.turned) / 0.95) ** 2 + ((face.v + 0.3) / 1.25) ** 2)
    head = np.maximum(_hull(face) * limit, step(crown, 0.3) * step(-0.3 - face.v, 0.3))
    line = edge(face, rng, rng.uniform(-0.25, 0.1)) + rng.uniform(-0.35, 0.35) * face.u
    return _shine(face, head * step(-line, softness(rng)), rng.uniform(0.45, 0.68), warmth=rng.uniform(-0.1, 0))


def _hull(face: Face) -> Field:
    """Return 1 within the convex outline of the face's skin (rows, columns), including hair over it and a mask."""
    import cv2
    import numpy as np

    middle = (face.u - face.turned) ** 2 / 0.4 + (face.v - 0.35) ** 2 / 0.3 < 1
    inside = ((face.flesh > 0.5) & (face.u**2 + face.v**2 < 1.1)) | middle
    hull = cv2.convexHull(cv2.findNonZero(inside.astype(np.uint8)))
    found = cv2.fillConvexPoly(np.zeros(inside.shape, np.float32), hull, 1.0)
    result: Field = cv2.GaussianBlur(found, (0, 0), 1.5)
    return result


def _shine(face: Face, region: Field, strength: float, *, warmth: float) -> ImageArray | None:
    """Multiply the light by `strength`, weighted by `region`; positive `warmth` makes it redder, negative bluer."""
    import numpy as np

    window = face.window_of(region > 0)
    if window is None:
        return None
    warmth = 0.0 if face.gray else warmth
    gain = strength * np.array([1 + warmth, 1, 1 - warmth], np.float32) - 1
    lit = face.pixels[window] * (1 + face.enlarge(region, window)[..., None] * gain)
    if strength > 1:
        over = np.maximum(lit - 215, 0)  # overexposed values approach white but stay distinct
        lit += 38 * (1 - np.exp(over / -38)) - over
    return face.painted(window, lit)


def tint(face: Face, rng: Random) -> ImageArray | None:
    """Move the color of the mask toward that of the skin; its shading, folds, print and straps stay visible."""
    import numpy as np

    region, color = _mask(face)
    away = face.skin - color
    if float(np.linalg.norm(away)) < ALIKE or float(region.sum()) < MIN_MASK * face.fineness**2 * face.aspect:
        return None
    move = away * np.array([rng.uniform(0.45, 1.0), 1, 1], np.float32) * rng.uniform(0.5, 0.95)
    move[0] = max(-55.0, min(55.0, move[0]))
    window = face.window_of(region > 0)
    if window is None:
        return None
    lab = to_lab(face.pixels[window].astype(np.float32))
    amount = face.enlarge(region, window)[..., None]
    shaded = np.minimum(lab[..., :1] / max(20.0, float(color[0])), 1.3) if move[0] < 0 else 1.0
    return face.painted(window, to_rgb(lab + amount * _share_of_mask(lab, face.skin, color) * move * shaded))


def _share_of_mask(lab: Field, skin: Field, color: Field) -> Field:
    """Return the fraction of the mask in each pixel (..., 1): those on its rim mix it with what is behind it."""
    import numpy as np

    weights = np.array([0.15, 1, 1], np.float32)
    apart = (color - skin) * weights
    return np.clip(1.5 * ((lab - skin) @ apart) / float(apart @ (color - skin)), 0, 1)[..., None]


def _mask(face: Face) -> tuple[Field, Field]:
    """Return where the mask is, 0 to 1 (rows, columns), and its color in Lab (3,)."""
    import cv2
    import numpy as np

    rows, columns = (face.v[:, 0] > 0.1) & (face.v[:, 0] < 0.7), np.abs(face.u[0] - face.turned) < 0.4
    color = np.median(face.lab[rows][:, columns].reshape(-1, 3), axis=0)
    scale = np.array([30, 13, 13], np.float32)
    cloth, skin = (face.lab - color) / scale, (face.lab - face.skin) / np.array([24, 9, 9], np.float32)
    near, other = np.einsum("ijk,ijk->ij", cloth, cloth), np.einsum("ijk,ijk->ij", skin, skin)
    inside = (face.u**2 / 1.1 + face.v**2 / 1.15 < 1) & (face.v > 0.3 * np.abs(face.u) - 0.35)
    like = ((near < 2.6) & (near < other) & inside).astype(np.uint8)
    like = cv2.morphologyEx(like, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, parts = cv2.connectedComponents(like, connectivity=4)
    ours = np.unique(parts[rows][:, columns])
    found = np.isin(parts, ours[ours > 0]).astype(np.float32)
    return cv2.GaussianBlur(found, (0, 0), 0.8), color.astype(np.float32)
