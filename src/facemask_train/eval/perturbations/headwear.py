"""Edits of the upper half of a face, and of what frames it: cap, sunglasses, hood, cowl, a hard shadow."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from facemask_train.eval.perturbations.canvas import FACE, Colour, Point, Sheet, curve, mirrored, oval, vary
from facemask_train.eval.perturbations.lowerface import scaled

if TYPE_CHECKING:
    from facemask_train.core.types import Array

CLOTHS: tuple[Colour, ...] = ((52, 58, 72), (110, 112, 116), (146, 48, 50), (44, 84, 66), (36, 36, 40), (168, 150, 120))
CAPS: tuple[Colour, ...] = ((34, 52, 104), (176, 40, 44), (38, 38, 42), (232, 230, 224), (60, 98, 72), (206, 162, 66))
COWLS: tuple[Colour, ...] = ((26, 26, 30), (36, 40, 54), (30, 42, 78), (62, 62, 68), (92, 26, 30))


def shadow(sheet: Sheet, rng: Random, _: str) -> None:
    """Let a hard shadow fall on the upper half, as from a roof or a brim."""
    level, tilt, bow = rng.uniform(-0.02, 0.14), rng.uniform(-0.14, 0.14), rng.uniform(-0.05, 0.1)
    edge = [
        (-3, level - 3 * tilt),
        (-0.6, level - 0.6 * tilt),
        (0, level + bow),
        (0.6, level + 0.6 * tilt),
        (3, level + 3 * tilt),
    ]
    upper = sheet.shape([*curve(edge, closed=False), (3, -3), (-3, -3)], 0.018)
    head = sheet.shape(curve([(x * 1.02, y * (1.14 if y < 0 else 1)) for x, y in FACE]), 0.05)
    sheet.darken(upper * head * rng.uniform(0.55, 0.7))


def sunglasses(sheet: Sheet, rng: Random, _: str) -> None:
    """Put dark glasses on."""
    y, wide, high = rng.uniform(-0.24, -0.17), rng.uniform(0.33, 0.38), rng.uniform(0.22, 0.27)
    frame = vary(rng, rng.choice(((22, 22, 24), (70, 46, 30), (150, 130, 80))), 6)
    lens = vary(rng, rng.choice(((20, 22, 26), (44, 32, 24), (24, 38, 34))), 4)
    aviator = rng.random() < 0.5
    for side in (-1, 1):
        sheet.lay(sheet.line([(side * (0.43 + wide), y - 0.1), (side * 1.02, y - 0.06)], 0.07, 0.012), frame)
        outline = _lens(side, y, wide, high, aviator=aviator)
        sheet.darken(sheet.shape([(x, at + 0.06) for x, at in outline], 0.05) * 0.3)
        area = sheet.shape(outline, 0.01)
        sheet.lay(area * 0.97, lens)
        sheet.shade(area * (0.9 * (sheet.down - y + high) / (2 * high)).clip(0, 0.9))
        glint = [
            (side * 0.43 - 0.2, y - high),
            (side * 0.43 - 0.06, y - high),
            (side * 0.43 - 0.16, y + high),
            (side * 0.43 - 0.26, y + high),
        ]
        sheet.lay(sheet.shape(glint, 0.03) * area * 0.2, (210, 225, 240))
        sheet.lay(sheet.line(outline, 0.03 if aviator else 0.065, 0.01, closed=True), frame)
    bridge = curve([(-0.12, y - 0.07), (0, y - 0.13), (0.12, y - 0.07)], closed=False)
    sheet.lay(sheet.line(bridge, 0.05, 0.01), frame)


def _lens(side: int, y: float, wide: float, high: float, *, aviator: bool) -> list[Point]:
    points: tuple[Point, ...]
    if aviator:
        points = ((-0.9, -0.8), (0.4, -1), (0.98, -0.7), (0.9, 0.3), (0.35, 1.15), (-0.3, 1.1), (-0.85, 0.3))
    else:
        points = ((-0.95, -0.75), (0, -0.95), (1, -0.9), (1.0, 0.2), (0.6, 0.9), (-0.4, 0.95), (-0.95, 0.3))
    return curve([(side * (0.43 + x * wide), y + at * high) for x, at in points])


def cap(sheet: Sheet, rng: Random, _: str) -> None:
    """Put a baseball cap on, its brim over the forehead."""
    colour, lean = vary(rng, rng.choice(CAPS)), rng.uniform(-0.2, 0.2)
    rim = rng.uniform(-0.62, -0.52)
    crown = sheet.shape(
        curve(
            [
                (-1.06, rim),
                (-1.1, -1.0),
                (-0.72, -1.55),
                (0, -1.74),
                (0.72, -1.55),
                (1.1, -1.0),
                (1.06, rim),
                (0, rim - 0.1),
            ]
        )
    )
    sheet.lay(crown, colour)
    sheet.shade(crown * (0.16 - 0.34 * (sheet.across - 0.2) ** 2))
    for x in (-0.42, 0.42):
        seam = curve([(0, -1.7), (x, -1.3), (x * 1.25, rim - 0.1)], closed=False)
        sheet.darken(sheet.line(seam, 0.02, 0.01) * crown * 0.45)
    sheet.lay(sheet.shape(oval((0, -1.73), (0.08, 0.05))), scaled(colour, 0.8))
    badge = rng.choice(((244, 244, 240), (236, 190, 70), (30, 30, 34)))
    sheet.lay(
        sheet.shape(curve([(-0.2, -1.22), (0, -1.34), (0.2, -1.22), (0.16, -0.98), (0, -0.88), (-0.16, -0.98)]))
        * crown
        * 0.9,
        badge,
    )
    brow = curve([(-0.98, rim + 0.12), (0, rim + 0.42), (0.98, rim + 0.12), (0.8, rim - 0.1), (-0.8, rim - 0.1)])
    sheet.darken(sheet.shape(brow, 0.07) * sheet.shape(curve(FACE), 0.05) * 0.5)
    brim = sheet.shape(
        curve(
            [
                (-1.1 + lean * 0.4, rim - 0.04),
                (-0.6 + lean, rim + 0.14),
                (lean, rim + 0.2),
                (0.6 + lean, rim + 0.14),
                (1.1 + lean * 0.4, rim - 0.04),
                (0.7, rim - 0.2),
                (0, rim - 0.26),
                (-0.7, rim - 0.2),
            ]
        )
    )
    sheet.lay(brim, scaled(colour, 0.78))
    sheet.shade(brim * (0.5 * (rim - sheet.down)).clip(-0.3, 0.2))
    sheet.lay(
        sheet.line(curve([(-0.9, rim - 0.12), (0, rim - 0.24), (0.9, rim - 0.12)], closed=False), 0.03, 0.02) * 0.4,
        scaled(colour, 0.5),
    )


def hood(sheet: Sheet, rng: Random, _: str) -> None:
    """Draw a hood up: cloth around the face, in its shade at the rim."""
    colour = vary(rng, rng.choice(CLOTHS))
    wide = rng.uniform(1.36, 1.5)
    outer = sheet.shape(
        curve(
            mirrored(
                (
                    (0, -1.72),
                    (0.62, -1.56),
                    (1.16, -1.02),
                    (wide, -0.1),
                    (1.42, 0.8),
                    (1.5, 1.35),
                    (1.95, 1.8),
                    (1.98, 2.12),
                    (1.2, 2.34),
                    (0, 2.42),
                )
            )
        )
    )
    opening = curve(
        mirrored(((0, -0.96), (0.46, -0.86), (0.84, -0.42), (0.93, 0.15), (0.82, 0.72), (0.5, 1.16), (0, 1.34)))
    )
    inner = sheet.shape(opening, 0.012)
    rim = sheet.soften(inner, 0.16)
    sheet.darken(inner * (1 - rim) * 1.25)
    sheet.darken(
        inner * sheet.shape(curve([(-0.9, -1.2), (0.9, -1.2), (0.75, -0.6), (0, -0.5), (-0.75, -0.6)]), 0.12) * 0.45
    )
    cloth = outer * (1 - inner)
    sheet.lay(cloth, colour)
    sheet.shade(cloth * (0.1 - 0.2 * (sheet.across / 1.4) ** 2 + 0.12 * (-sheet.down).clip(-1, 1)))
    for points in (
        ((0.3, -1.62), (0.9, -0.95), (1.14, 0.0), (1.1, 0.9)),
        ((0.95, -1.2), (1.28, -0.4), (1.3, 0.6)),
        ((0.6, 1.4), (1.1, 1.7), (1.5, 2.4)),
        ((0.2, 1.5), (0.45, 1.9), (0.5, 2.5)),
    ):
        for side in (-1, 1):
            fold = curve([(side * x, y) for x, y in points], closed=False)
            sheet.darken(sheet.line(fold, 0.05, 0.05) * cloth * 0.42)
            sheet.lay(sheet.line([(x - side * 0.07, y) for x, y in fold], 0.04, 0.04) * cloth * 0.2, (255, 255, 255))
    hem = sheet.line(opening, 0.13, 0.012, closed=True) * (1 - sheet.soften(inner, 0.02) * 0.7)
    sheet.lay(hem * 0.85, scaled(colour, 1.18))
    sheet.darken(sheet.line([(x * 1.08, y * 1.06) for x, y in opening], 0.018, 0.008, closed=True) * 0.5)
    for side in (-1, 1):
        cord = curve([(side * 0.36, 1.36), (side * 0.42, 1.8), (side * 0.36, 2.3)], closed=False)
        sheet.lay(sheet.line(cord, 0.06, 0.01), (226, 224, 218))


def cowl(sheet: Sheet, rng: Random, name: str) -> None:
    """Put a hero's cowl on: head, brow and nose covered, eyes in their slits, mouth and chin as they were.

    On a masked face it ends above the mask.
    """
    colour = vary(rng, rng.choice(COWLS), 5)
    ear, bare = rng.uniform(-2.2, -1.9), name == "no_mask"
    head = [(0, -1.48), (0.34, -1.46), (0.52, -1.4), (0.68, ear), (0.98, -1.1), (1.16, -0.45), (1.16, 0.2)]
    lower = [(1.04, 0.8), (0.86, 1.25), (0.72, 1.3), (0.7, 0.8), (0.62, 0.44), (0.34, 0.3), (0.14, 0.4), (0, 0.43)]
    upper = [(0.98, 0.06), (0.6, 0.04), (0.3, -0.05), (0, -0.08)]
    outline = mirrored([*head, *(lower if bare else upper)])
    area = sheet.shape(_sharp(outline, keep=(0.68, ear)), 0.01)
    sheet.darken(sheet.soften(area, 0.06) * sheet.shape(curve(FACE)) * 0.45)
    sheet.lay(area, colour)
    sheet.shade(area * (0.45 - 0.62 * sheet.across**2 + 0.25 * (-sheet.down - 0.2).clip(-1, 0.8)))
    _ridges(sheet, area, bare=bare)
    for side in (-1, 1):
        slit = curve(
            [
                (side * x, y)
                for x, y in ((0.14, -0.12), (0.3, -0.25), (0.56, -0.32), (0.68, -0.28), (0.56, -0.12), (0.34, -0.07))
            ]
        )
        sheet.darken(sheet.line(slit, 0.07, 0.03, closed=True) * 0.5)
        sheet.cut(sheet.shape(slit, 0.012))
        sheet.darken(sheet.shape(slit, 0.012) * 0.25)


def _sharp(points: list[Point], keep: Point) -> list[Point]:
    """Return a smooth outline in which one point, and its mirror image, stay corners."""
    found: list[Point] = []
    smooth = curve(points, steps=6)
    for index, start in enumerate(points):
        end = points[(index + 1) % len(points)]
        straight = keep in ((abs(start[0]), start[1]), (abs(end[0]), end[1]))
        found += [start] if straight else smooth[6 * index : 6 * index + 6]
    return found


def _ridges(sheet: Sheet, area: Array, *, bare: bool) -> None:
    """Model the cowl: brow ridges, the ridge of the nose, light on the forehead and on the ears."""
    white = (255, 255, 255)
    for side in (-1, 1):
        brow = curve([(side * 0.08, -0.3), (side * 0.34, -0.46), (side * 0.76, -0.5)], closed=False)
        sheet.lay(sheet.line(brow, 0.08, 0.045) * area * 0.3, white)
        sheet.darken(sheet.line([(x, y + 0.1) for x, y in brow], 0.08, 0.05) * area * 0.55)
        sheet.lay(
            sheet.shape([(side * 0.62, -1.9), (side * 0.56, -1.2), (side * 0.66, -1.15)], 0.03) * area * 0.16, white
        )
        sheet.lay(
            sheet.line(
                curve([(side * 0.25, -1.15), (side * 0.4, -0.9), (side * 0.42, -0.65)], closed=False), 0.16, 0.12
            )
            * area
            * 0.2,
            white,
        )
        if bare:
            sheet.lay(
                sheet.line(
                    curve([(side * 0.55, 0.05), (side * 0.8, 0.35), (side * 0.84, 0.9)], closed=False), 0.08, 0.06
                )
                * area
                * 0.16,
                white,
            )
    if bare:
        sheet.lay(sheet.line([(0, -0.25), (0, 0.3)], 0.07, 0.045) * area * 0.34, white)
        for side in (-1, 1):
            sheet.darken(sheet.line([(side * 0.12, -0.15), (side * 0.2, 0.28)], 0.06, 0.05) * area * 0.5)
