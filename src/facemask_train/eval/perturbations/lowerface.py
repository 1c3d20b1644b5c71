"""Edits of the lower half of a face: what is on it, before it, or worn on it. Drawn on a `canvas.Sheet`."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from facemask_train.eval.perturbations.canvas import FACE, Colour, Point, Sheet, curve, oval, tone, vary

if TYPE_CHECKING:
    from facemask_train.core.types import Array

PAINTS: tuple[Colour, ...] = (
    (46, 92, 168),
    (176, 42, 48),
    (38, 120, 74),
    (32, 32, 38),
    (236, 236, 232),
    (120, 66, 140),
)
HAIRS: tuple[Colour, ...] = (
    (30, 24, 22),
    (62, 42, 30),
    (104, 68, 40),
    (150, 104, 58),
    (120, 116, 112),
    (206, 202, 196),
)
WOOLS: tuple[Colour, ...] = ((150, 44, 50), (52, 70, 110), (196, 186, 168), (70, 96, 70), (60, 58, 62), (198, 146, 60))
CUPS: tuple[Colour, ...] = ((244, 240, 232), (160, 116, 76), (206, 60, 56), (46, 110, 92), (60, 60, 66))


def skin(sheet: Sheet) -> Colour:
    """Return the colour of the skin above the nose: of pixels that are reddish there, or of all in the middle."""
    import numpy as np

    upper = (abs(sheet.across) < 0.6) & (sheet.down > -0.75) & (sheet.down < -0.02)
    pixels = sheet.below[upper]
    red, green, blue = pixels.T
    likely = pixels[(red > green * 1.04) & (green > blue * 0.95) & (red > blue * 1.12) & (red > 40)]
    pixels = likely if len(likely) > 0.15 * len(pixels) else pixels
    grey = pixels.mean(axis=1)
    middle = pixels[(grey >= np.percentile(grey, 40)) & (grey <= np.percentile(grey, 85))]
    found = np.median(middle, axis=0).tolist()
    return float(found[0]), float(found[1]), float(found[2])


def scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255.0, part * factor) for part in colour)
    return red, green, blue


def _lower(sheet: Sheet, rng: Random, soft: float) -> Array:
    """Return the lower half of the face: from the nose down."""
    level, tilt = rng.uniform(-0.02, 0.12), rng.uniform(-0.06, 0.06)
    half = sheet.shape([(-3, level - tilt * 3), (3, level + tilt * 3), (3, 3), (-3, 3)], soft)
    area: Array = half * sheet.shape(curve(FACE), 0.03)
    return area


# ---- colour and light ----


def recolour(sheet: Sheet, rng: Random, _: str) -> None:
    """Paint the lower half in one colour; mouth, nose and every shadow stay."""
    sheet.lay(_lower(sheet, rng, 0.03) * 0.9, tone(sheet, vary(rng, rng.choice(PAINTS)), texture=1.1))


def relight(sheet: Sheet, rng: Random, _: str) -> None:
    """Light the lower half anew, from below or hardly at all."""
    import numpy as np

    gain = rng.choice((rng.uniform(0.35, 0.5), rng.uniform(1.45, 1.8)))
    warm = rng.uniform(-0.12, 0.12)
    lit = np.clip(sheet.below * np.array([gain * (1 + warm), gain, gain * (1 - warm)], np.float32), 0, 255)
    sheet.lay(_lower(sheet, rng, 0.12), lit)


# ---- what is on or before a bare mouth ----

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


def beard(sheet: Sheet, rng: Random, _: str) -> None:
    """Grow a full beard with a moustache, hair by hair."""
    import cv2
    import numpy as np

    hair = vary(rng, rng.choice(HAIRS))
    area = sheet.shape(curve(_BEARD, steps=4), 0.045)
    area *= 1 - sheet.shape(oval((0, 0.6), (0.3, 0.1)), 0.03) * 0.95
    sheet.lay(area * 0.82, scaled(hair, 0.8))
    strands = np.zeros((*area.shape, 3), np.float32)
    drawn = np.zeros(area.shape, np.float32)
    thick = max(1, round(0.016 * sheet.scale))
    for _number in range(1500):
        x, y = rng.uniform(-1, 1), rng.uniform(-0.25, 1.25)
        length, lean = rng.uniform(0.08, 0.18), 0.7 * x + rng.uniform(-0.25, 0.25)
        ends = sheet._fixed([(x, y), (x + lean * length, y + length)])
        cv2.polylines(strands, [ends], False, scaled(hair, rng.uniform(0.55, 1.6)), thick, cv2.LINE_8, shift=4)
        cv2.polylines(drawn, [ends], False, 1.0, thick, cv2.LINE_8, shift=4)
    sheet.lay(sheet.soften(drawn, 0.006) * area * 0.85, sheet.soften(strands, 0.004))


def hand(sheet: Sheet, rng: Random, _: str) -> None:
    """Hold a hand before the mouth, its fingers towards the other cheek."""
    side = rng.choice((-1, 1))
    colour = vary(rng, scaled(skin(sheet), rng.uniform(0.9, 1.05)), 6)
    drop = rng.uniform(-0.05, 0.08)

    def at(*points: Point) -> list[Point]:
        return [(side * x, y + drop) for x, y in points]

    sheet.darken(sheet.shape(curve(at((-0.8, 0.3), (0.7, 0.25), (1.1, 1.1), (0, 1.35), (-0.75, 1.0))), 0.1) * 0.35)
    sheet.lay(sheet.shape(at((0.5, 1.1), (1.05, 0.8), (2.0, 2.6), (1.2, 2.9))), (64, 72, 92))  # the sleeve
    sheet.lay(
        sheet.shape(
            curve(at((0.3, 0.5), (0.85, 0.45), (1.15, 0.9), (1.45, 1.7), (0.95, 1.9), (0.5, 1.4), (0.1, 1.15)))
        ),
        colour,
    )
    for index, length in enumerate((0.72, 0.82, 0.78, 0.6)):
        y = 0.42 + 0.2 * index
        tip = (-length, y - 0.1 + 0.03 * index)
        _finger(sheet, at((0.5, y + 0.06), tip), colour)
    _finger(sheet, at((0.75, 0.7), (0.62, 0.0)), colour, 0.23)


def _finger(sheet: Sheet, ends: list[Point], colour: Colour, width: float = 0.2) -> None:
    (x, y), (to_x, to_y) = ends
    sheet.darken(sheet.line([(x, y + 0.05), (to_x, to_y + 0.05)], width, 0.03) * 0.4)
    sheet.lay(sheet.line(ends, width, 0.012), colour)
    sheet.lay(sheet.line([(x, y - 0.04), (to_x, to_y - 0.04)], width * 0.3, 0.03) * 0.45, scaled(colour, 1.18))
    middle = ((x + to_x * 1.2) / 2.2, (y + to_y * 1.2) / 2.2)
    sheet.darken(
        sheet.line([(middle[0], middle[1] - width / 3), (middle[0], middle[1] + width / 3)], 0.02, 0.012) * 0.35
    )
    nail = (to_x + (x - to_x) * 0.02, to_y - 0.015)
    sheet.lay(sheet.shape(oval(nail, (width * 0.33, width * 0.25)), 0.008) * 0.7, (232, 196, 186))


def cup(sheet: Sheet, rng: Random, _: str) -> None:
    """Drink from a paper cup that hides the mouth, a hand around it."""
    side, colour = rng.choice((-1, 1)), vary(rng, rng.choice(CUPS))
    top = rng.uniform(0.38, 0.46)
    sheet.darken(sheet.shape(curve([(-0.6, top), (0.6, top), (0.6, 1.3), (-0.6, 1.3)]), 0.1) * 0.35)
    body = sheet.shape([(-0.46, top + 0.08), (0.46, top + 0.08), (0.33, 1.75), (-0.33, 1.75)])
    sheet.lay(body, colour)
    band = sheet.shape([(-0.43, 0.8), (0.43, 0.8), (0.375, 1.35), (-0.375, 1.35)])
    sheet.lay(band * 0.9, vary(rng, rng.choice(CUPS)))
    sheet.shade(body * (0.22 - 1.5 * (sheet.across + 0.12) ** 2))
    lid = rng.choice(((248, 248, 246), (36, 34, 34)))
    sheet.lay(
        sheet.shape(
            curve([(-0.52, top + 0.1), (-0.47, top - 0.03), (0.47, top - 0.03), (0.52, top + 0.1), (0, top + 0.16)])
        ),
        lid,
    )
    sheet.lay(
        sheet.line([(-0.45, top), (0.45, top)], 0.03, 0.012) * 0.6, scaled(lid, 1.3) if lid[0] < 99 else (214, 214, 212)
    )
    own = vary(rng, skin(sheet), 6)
    sheet.lay(
        sheet.shape(
            curve(
                [(side * x, y) for x, y in ((0.3, 0.95), (0.6, 0.9), (0.85, 1.3), (1.5, 2.6), (0.95, 2.8), (0.4, 1.6))]
            )
        ),
        own,
    )
    for index in range(4):
        y = 0.92 + 0.17 * index
        _finger(sheet, [(side * 0.42, y + 0.04), (-side * (0.26 - 0.05 * (index == 3)), y)], own, 0.165)


def scarf(sheet: Sheet, rng: Random, _: str) -> None:
    """Wrap a knitted scarf around the neck, up to the nose."""
    colour, rim = vary(rng, rng.choice(WOOLS)), rng.uniform(0.2, 0.34)
    other = scaled(colour, rng.choice((0.62, 1.45)))
    side = rng.choice((-1, 1))
    lower = sheet.shape(
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
    _knit(sheet, lower, colour, other, 0.0)
    end = sheet.shape([(side * 0.35, 1.5), (side * 0.95, 1.4), (side * 1.1, 2.6), (side * 0.45, 2.6)])
    sheet.darken(sheet.soften(end, 0.06) * 0.4)
    _knit(sheet, end, colour, other, 0.4)
    top = [(-1.3, rim - 0.2), (-0.75, rim - 0.12), (0, rim + 0.06), (0.75, rim - 0.12), (1.3, rim - 0.2)]
    bottom = [(1.5, 0.9), (0.9, 1.32), (0, 1.46), (-0.9, 1.32), (-1.5, 0.9)]
    upper = sheet.shape(curve([*top, *bottom]))
    sheet.darken(sheet.soften(upper, 0.08) * 0.45)
    _knit(sheet, upper, colour, other, 0.12)
    for start, stop in (((-1.3, 0.35), (1.2, 0.75)), ((-1.3, 0.62), (1.3, 1.12)), ((-1.0, 0.2), (0.9, 0.42))):
        middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2 + 0.14)
        fold = sheet.line(curve([start, middle, stop], closed=False), 0.07, 0.045)
        sheet.darken(fold * upper * 0.5)
        sheet.lay(
            sheet.line(curve([(x, y - 0.08) for x, y in (start, middle, stop)], closed=False), 0.05, 0.04)
            * upper
            * 0.25,
            (255, 250, 240),
        )
    sheet.lay(sheet.line(curve(top, closed=False), 0.06, 0.02) * upper * 0.6, scaled(colour, 1.25))


def _knit(sheet: Sheet, area: Array, colour: Colour, other: Colour, phase: float) -> None:
    """Lay wool: stripes across, ribs along, darker at the sides."""
    import numpy as np

    bend = sheet.down + 0.28 * sheet.across**2
    sheet.lay(area, colour)
    stripe = (np.mod(bend + phase, 0.62) < 0.16).astype(np.float32)
    sheet.lay(area * sheet.soften(stripe, 0.012), other)
    ribs = np.sin(sheet.across * 62 + np.sin(bend * 31) * 0.9)
    sheet.shade(area * (0.13 * ribs - 0.16 * sheet.across**2))
