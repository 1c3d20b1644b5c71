"""A beard for a bare face: hair along the jaw and the cheeks, with the mouth free."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from facemask_train.augment.face_patch import MIN_FLESH, MOUTH, Face, rounded, step, to_lab
from facemask_train.augment.relief import Drawn, blended

if TYPE_CHECKING:
    from facemask_train.augment.face_patch import Field, Window

HAIRS: tuple[tuple[int, int, int], ...] = (
    (24, 20, 19), (38, 30, 27), (58, 40, 30), (84, 58, 40), (120, 82, 52), (150, 108, 66), (176, 138, 92),
    (122, 62, 36), (110, 106, 104), (170, 168, 166), (214, 212, 208),
)  # fmt: skip


HAIR_CHROMA = 28.0
"""Lab units; anything above the brow that is more colorful is a hat."""


def beard(face: Face, rng: Random) -> Drawn | None:
    """Draw a beard: hair along the jaw and the cheeks, with the mouth free."""
    import cv2
    import numpy as np

    where = _growth(face, rng)
    window = face.window_of(where > 0.01)
    if window is None or face.bare_below < MIN_FLESH:
        return None
    thick, strands = rng.uniform(0.7, 1.0), _strands(face, rng, window)
    dense = face.enlarge(where, window)
    cover = np.clip((dense + 0.3 * strands) * 1.7 - 0.35, 0, 1) * thick * np.minimum(dense * 4, 1)
    shape = np.clip(0.5 + 0.5 * face.lab[..., 0] / face.skin[0], 0.55, 1.15).astype(np.float32)
    shades = face.enlarge(shape, window)
    gain, glow = shades * (1 + 0.32 * strands), shades * strands * (16 * float(face.light.mean()))
    hairs = cv2.merge([gain * float(part) + glow for part in _hair_color(face, rng)])
    return blended(face, window, rounded(hairs), cover, rng)


def _growth(face: Face, rng: Random) -> Field:
    """Return how dense the beard is, 0 to 1 (rows, columns)."""
    import numpy as np

    u, v = face.u - face.turned * 0.6, face.v
    cheek, length = rng.uniform(0.12, 0.34), rng.uniform(0.0, 0.3)
    line = cheek - 0.75 * np.maximum(np.abs(u) - 0.5, 0) * 1.4 - 0.06 * np.cos(4 * u)
    jaw = 1 - (np.abs(u) / 1.02) ** 2.4 - (np.maximum(v - 0.1, 0) / (0.98 + length)) ** 2.4
    found = step(v - line, rng.uniform(0.1, 0.3)) * step(jaw, 0.22)
    lips = face.turned * 0.9 if abs(face.turned) > 0.12 else 0.0
    mouth = ((u - lips) / rng.uniform(0.3, 0.38)) ** 2 + (
        (v - MOUTH - 0.02 + 0.35 * (u - lips) ** 2) / rng.uniform(0.08, 0.13)
    ) ** 2
    nose = (u / 0.3) ** 2 + ((v - 0.08) / 0.2) ** 2
    return found * step(mouth - 1, 0.9) * step(nose - 1, 0.5)


def _hair_color(face: Face, rng: Random) -> Field:
    """Return the color of the beard: that of the hair above the brow if it is dark, or a random one (3,; RGB)."""
    import numpy as np

    top = face.small[face.v[:, 0] < -0.8].reshape(-1, 3)
    if top.size and rng.random() < 0.6:
        level = top.mean(axis=1)
        darkest = top[level <= np.quantile(level, 0.15)]
        hair = np.median(darkest, axis=0).astype(np.float32)
        light, *tone = to_lab(hair[None, None])[0, 0]
        if light < 60 and math.hypot(*tone) < HAIR_CHROMA:
            found: Field = hair * 1.05 + 3
            return found
    return face.color(*rng.choice(HAIRS)) * 0.9


def _strands(face: Face, rng: Random, window: Window) -> Field:
    """Return slightly wavy hairs that run from the nose down and outward: -1 to 1, in the window's size."""
    import cv2
    import numpy as np

    rows, columns = window
    count = max(90, min(1200, round(HAIR_LINES * face.half_width)))
    drawn = np.random.default_rng(rng.getrandbits(64))
    rough = cv2.GaussianBlur(drawn.standard_normal((count, 64), np.float32), (0, 0), sigmaX=1.6, sigmaY=0.5)
    size = columns.stop - columns.start, rows.stop - rows.start
    waves = cv2.resize(drawn.standard_normal((9, 9), np.float32), size, interpolation=cv2.INTER_CUBIC)
    across = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - face.x) / face.half_width - face.turned
    down = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - face.y)[:, None] / face.half_height + 0.35
    away, angle = cv2.cartToPolar(across + 0 * down, down + 0 * across)
    along = (angle + 0.1 * waves) * (count / (2 * math.pi))
    found = cv2.remap(rough, away * 32, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    found = cv2.GaussianBlur(found, (0, 0), face.softness)
    result: Field = np.clip(found * (0.55 / (float(found.std()) + 1e-3)), -1, 1) * min(1.0, 1.2 / face.softness)
    return result


HAIR_LINES = 4.5
"""Hairs around a beard per pixel of half the face width: each is one or two pixels wide."""
