"""Perturbations of the lower half of a face: its color and light, a beard, a hand, a cup, a scarf."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from facemask_train.eval.perturbations.canvas import (
    FACE,
    Canvas,
    Color,
    Point,
    curve,
    ellipse,
    jitter_color,
    tint,
)

if TYPE_CHECKING:
    from facemask_train.core.types import Array

PAINTS: tuple[Color, ...] = (
    (46, 92, 168),
    (176, 42, 48),
    (38, 120, 74),
    (32, 32, 38),
    (236, 236, 232),
    (120, 66, 140),
)
HAIRS: tuple[Color, ...] = (
    (30, 24, 22),
    (62, 42, 30),
    (104, 68, 40),
    (150, 104, 58),
    (120, 116, 112),
    (206, 202, 196),
)
WOOLS: tuple[Color, ...] = ((150, 44, 50), (52, 70, 110), (196, 186, 168), (70, 96, 70), (60, 58, 62), (198, 146, 60))
CUPS: tuple[Color, ...] = ((244, 240, 232), (160, 116, 76), (206, 60, 56), (46, 110, 92), (60, 60, 66))


def skin(canvas: Canvas) -> Color:
    """Return the color of the skin above the nose: the median of the reddish pixels, or of all if few are reddish."""
    import numpy as np

    upper = (abs(canvas.x) < 0.6) & (canvas.y > -0.75) & (canvas.y < -0.02)
    pixels = canvas.background[upper]
    red, green, blue = pixels.T
    likely = pixels[(red > green * 1.04) & (green > blue * 0.95) & (red > blue * 1.12) & (red > 40)]
    pixels = likely if len(likely) > 0.15 * len(pixels) else pixels
    gray = pixels.mean(axis=1)
    middle = pixels[(gray >= np.percentile(gray, 40)) & (gray <= np.percentile(gray, 85))]
    found = np.median(middle, axis=0).tolist()
    return float(found[0]), float(found[1]), float(found[2])


def scale_color(color: Color, factor: float) -> Color:
    """Return a lighter (`factor` > 1) or darker color."""
    red, green, blue = (min(255.0, part * factor) for part in color)
    return red, green, blue


def _lower(canvas: Canvas, rng: Random, soft: float) -> Array:
    """Return the lower half of the face, from the nose down: coverage (h, w)."""
    level, tilt = rng.uniform(-0.02, 0.12), rng.uniform(-0.06, 0.06)
    half = canvas.shape([(-3, level - tilt * 3), (3, level + tilt * 3), (3, 3), (-3, 3)], soft)
    area: Array = half * canvas.shape(curve(FACE), 0.03)
    return area


# ---- color and light ----


def recolor(canvas: Canvas, rng: Random, _: str) -> None:
    """Paint the lower half in one opaque color; only the light and shade of mouth and nose stay."""
    canvas.paint(_lower(canvas, rng, 0.03) * 0.9, tint(canvas, jitter_color(rng, rng.choice(PAINTS)), texture=1.1))


def tint_skin(canvas: Canvas, rng: Random, _: str) -> None:
    """Tint the skin of the lower half, as paint or colored light does: mouth, nose and skin show through."""
    canvas.paint(_lower(canvas, rng, 0.1) * 0.34, tint(canvas, jitter_color(rng, rng.choice(PAINTS)), texture=1.1))


def relight(canvas: Canvas, rng: Random, _: str) -> None:
    """Make the lower half much brighter or much darker."""
    import numpy as np

    gain = rng.choice((rng.uniform(0.35, 0.5), rng.uniform(1.45, 1.8)))
    warm = rng.uniform(-0.12, 0.12)
    lit = np.clip(canvas.background * np.array([gain * (1 + warm), gain, gain * (1 - warm)], np.float32), 0, 255)
    canvas.paint(_lower(canvas, rng, 0.12), lit)


# ---- things on or in front of a bare mouth ----

_BEARD: tuple[Point, ...] = (
    (-0.97, -0.2),
    (-0.84, -0.12),
    (-0.74, 0.22),
    (-0.46, 0.4),
    (-0.3, 0.31),
    (0, 0.36),
    (0.3, 0.31),
    (0.46, 0.4),
    (0.74, 0.22),
    (0.84, -0.12),
    (0.97, -0.2),
    (0.93, 0.4),
    (0.68, 0.92),
    (0.3, 1.2),
    (0, 1.26),
    (-0.3, 1.2),
    (-0.68, 0.92),
    (-0.93, 0.4),
)


def beard(canvas: Canvas, rng: Random, _: str) -> None:
    """Grow a full beard with a moustache, hair by hair."""
    import cv2
    import numpy as np

    hair = jitter_color(rng, rng.choice(HAIRS))
    area = canvas.shape(curve(_BEARD, steps=4), 0.045)
    area *= 1 - canvas.shape(ellipse((0, 0.6), (0.3, 0.1)), 0.03) * 0.95
    canvas.paint(area * 0.82, scale_color(hair, 0.8))
    strands = np.zeros((*area.shape, 3), np.float32)
    drawn = np.zeros(area.shape, np.float32)
    thick = max(1, round(0.016 * canvas.scale))
    for _number in range(1500):
        x, y = rng.uniform(-1, 1), rng.uniform(-0.25, 1.25)
        length, lean = rng.uniform(0.08, 0.18), 0.7 * x + rng.uniform(-0.25, 0.25)
        ends = canvas.pixels([(x, y), (x + lean * length, y + length)])
        cv2.polylines(strands, [ends], False, scale_color(hair, rng.uniform(0.55, 1.6)), thick, cv2.LINE_8, shift=4)
        cv2.polylines(drawn, [ends], False, 1.0, thick, cv2.LINE_8, shift=4)
    canvas.paint(canvas.soften(drawn, 0.006) * area * 0.85, canvas.soften(strands, 0.004))


def hand(canvas: Canvas, rng: Random, _: str) -> None:
    """Hold a hand in front of the mouth, its fingers toward the other cheek."""
    side = rng.choice((-1, 1))
    color = jitter_color(rng, scale_color(skin(canvas), rng.uniform(0.9, 1.05)), 6)
    drop = rng.uniform(-0.05, 0.08)

    def at(*points: Point) -> list[Point]:
        return [(side * x, y + drop) for x, y in points]

    canvas.darken(canvas.shape(curve(at((-0.8, 0.3), (0.7, 0.25), (1.1, 1.1), (0, 1.35), (-0.75, 1.0))), 0.1) * 0.35)
    canvas.paint(canvas.shape(at((0.5, 1.1), (1.05, 0.8), (2.0, 2.6), (1.2, 2.9))), (64, 72, 92))  # the sleeve
    canvas.paint(
        canvas.shape(
            curve(at((0.3, 0.5), (0.85, 0.45), (1.15, 0.9), (1.45, 1.7), (0.95, 1.9), (0.5, 1.4), (0.1, 1.15)))
        ),
        color,
    )
    for index, length in enumerate((0.72, 0.82, 0.78, 0.6)):
        y = 0.42 + 0.2 * index
        tip = (-length, y - 0.1 + 0.03 * index)
        _finger(canvas, at((0.5, y + 0.06), tip), color)
    _finger(canvas, at((0.75, 0.7), (0.62, 0.0)), color, 0.23)


def _finger(canvas: Canvas, ends: list[Point], color: Color, width: float = 0.2) -> None:
    (x, y), (to_x, to_y) = ends
    canvas.darken(canvas.line([(x, y + 0.05), (to_x, to_y + 0.05)], width, 0.03) * 0.4)
    canvas.paint(canvas.line(ends, width, 0.012), color)
    canvas.paint(canvas.line([(x, y - 0.04), (to_x, to_y - 0.04)], width * 0.3, 0.03) * 0.45, scale_color(color, 1.18))
    middle = ((x + to_x * 1.2) / 2.2, (y + to_y * 1.2) / 2.2)
    canvas.darken(
        canvas.line([(middle[0], middle[1] - width / 3), (middle[0], middle[1] + width / 3)], 0.02, 0.012) * 0.35
    )
    nail = (to_x + (x - to_x) * 0.02, to_y - 0.015)
    canvas.paint(canvas.shape(ellipse(nail, (width * 0.33, width * 0.25)), 0.008) * 0.7, (232, 196, 186))


def cup(canvas: Canvas, rng: Random, _: str) -> None:
    """Drink from a paper cup that hides the mouth, with a hand around it."""
    side, color = rng.choice((-1, 1)), jitter_color(rng, rng.choice(CUPS))
    top = rng.uniform(0.38, 0.46)
    canvas.darken(canvas.shape(curve([(-0.6, top), (0.6, top), (0.6, 1.3), (-0.6, 1.3)]), 0.1) * 0.35)
    body = canvas.shape([(-0.46, top + 0.08), (0.46, top + 0.08), (0.33, 1.75), (-0.33, 1.75)])
    canvas.paint(body, color)
    band = canvas.shape([(-0.43, 0.8), (0.43, 0.8), (0.375, 1.35), (-0.375, 1.35)])
    canvas.paint(band * 0.9, jitter_color(rng, rng.choice(CUPS)))
    canvas.shade(body * (0.22 - 1.5 * (canvas.x + 0.12) ** 2))
    lid = rng.choice(((248, 248, 246), (36, 34, 34)))
    canvas.paint(
        canvas.shape(
            curve([(-0.52, top + 0.1), (-0.47, top - 0.03), (0.47, top - 0.03), (0.52, top + 0.1), (0, top + 0.16)])
        ),
        lid,
    )
    canvas.paint(
        canvas.line([(-0.45, top), (0.45, top)], 0.03, 0.012) * 0.6,
        scale_color(lid, 1.3) if lid[0] < 99 else (214, 214, 212),
    )
    own = jitter_color(rng, skin(canvas), 6)
    canvas.paint(
        canvas.shape(
            curve(
                [(side * x, y) for x, y in ((0.3, 0.95), (0.6, 0.9), (0.85, 1.3), (1.5, 2.6), (0.95, 2.8), (0.4, 1.6))]
            )
        ),
        own,
    )
    for index in range(4):
        y = 0.92 + 0.17 * index
        _finger(canvas, [(side * 0.42, y + 0.04), (-side * (0.26 - 0.05 * (index == 3)), y)], own, 0.165)


def scarf(canvas: Canvas, rng: Random, _: str) -> None:
    """Wrap a knitted scarf around the neck, up to the nose."""
    color, rim = jitter_color(rng, rng.choice(WOOLS)), rng.uniform(0.2, 0.34)
    other = scale_color(color, rng.choice((0.62, 1.45)))
    side = rng.choice((-1, 1))
    lower = canvas.shape(
        curve(
            [
                (-1.35, 0.9),
                (-0.6, 1.12),
                (0.6, 1.12),
                (1.35, 0.9),
                (1.6, 1.6),
                (1.1, 2.1),
                (0, 2.3),
                (-1.1, 2.1),
                (-1.6, 1.6),
            ]
        )
    )
    _knit(canvas, lower, color, other, 0.0)
    end = canvas.shape([(side * 0.35, 1.5), (side * 0.95, 1.4), (side * 1.1, 2.6), (side * 0.45, 2.6)])
    canvas.darken(canvas.soften(end, 0.06) * 0.4)
    _knit(canvas, end, color, other, 0.4)
    top = [(-1.3, rim - 0.2), (-0.75, rim - 0.12), (0, rim + 0.06), (0.75, rim - 0.12), (1.3, rim - 0.2)]
    bottom = [(1.5, 0.9), (0.9, 1.32), (0, 1.46), (-0.9, 1.32), (-1.5, 0.9)]
    upper = canvas.shape(curve([*top, *bottom]))
    canvas.darken(canvas.soften(upper, 0.08) * 0.45)
    _knit(canvas, upper, color, other, 0.12)
    for start, stop in (((-1.3, 0.35), (1.2, 0.75)), ((-1.3, 0.62), (1.3, 1.12)), ((-1.0, 0.2), (0.9, 0.42))):
        middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2 + 0.14)
        fold = canvas.line(curve([start, middle, stop], closed=False), 0.07, 0.045)
        canvas.darken(fold * upper * 0.5)
        canvas.paint(
            canvas.line(curve([(x, y - 0.08) for x, y in (start, middle, stop)], closed=False), 0.05, 0.04)
            * upper
            * 0.25,
            (255, 250, 240),
        )
    canvas.paint(canvas.line(curve(top, closed=False), 0.06, 0.02) * upper * 0.6, scale_color(color, 1.25))


def _knit(canvas: Canvas, area: Array, color: Color, other: Color, phase: float) -> None:
    """Paint knitted wool: stripes across, ribs along, darker at the sides."""
    import numpy as np

    bend = canvas.y + 0.28 * canvas.x**2
    canvas.paint(area, color)
    stripe = (np.mod(bend + phase, 0.62) < 0.16).astype(np.float32)
    canvas.paint(area * canvas.soften(stripe, 0.012), other)
    ribs = np.sin(canvas.x * 62 + np.sin(bend * 31) * 0.9)
    canvas.shade(area * (0.13 * ribs - 0.16 * canvas.x**2))
