"""Perturbations of the upper half of a face and its surroundings: cap, sunglasses, hood, cowl, a hard shadow."""

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
    mirrored,
)
from facemask_train.eval.perturbations.lowerface import scale_color

if TYPE_CHECKING:
    from facemask_train.core.types import Array

CLOTHS: tuple[Color, ...] = ((52, 58, 72), (110, 112, 116), (146, 48, 50), (44, 84, 66), (36, 36, 40), (168, 150, 120))
CAPS: tuple[Color, ...] = ((34, 52, 104), (176, 40, 44), (38, 38, 42), (232, 230, 224), (60, 98, 72), (206, 162, 66))
COWLS: tuple[Color, ...] = ((26, 26, 30), (36, 40, 54), (30, 42, 78), (62, 62, 68), (92, 26, 30))


def shadow(canvas: Canvas, rng: Random, _: str) -> None:
    """Cast a hard shadow on the upper half, as a roof or a brim does."""
    level, tilt, bow = rng.uniform(-0.02, 0.14), rng.uniform(-0.14, 0.14), rng.uniform(-0.05, 0.1)
    edge = [
        (-3, level - 3 * tilt),
        (-0.6, level - 0.6 * tilt),
        (0, level + bow),
        (0.6, level + 0.6 * tilt),
        (3, level + 3 * tilt),
    ]
    upper = canvas.shape([*curve(edge, closed=False), (3, -3), (-3, -3)], 0.018)
    head = canvas.shape(curve([(x * 1.02, y * (1.14 if y < 0 else 1)) for x, y in FACE]), 0.05)
    canvas.darken(upper * head * rng.uniform(0.55, 0.7))


def sunglasses(canvas: Canvas, rng: Random, _: str) -> None:
    """Put sunglasses on."""
    y, wide, high = rng.uniform(-0.24, -0.17), rng.uniform(0.33, 0.38), rng.uniform(0.22, 0.27)
    frame = jitter_color(rng, rng.choice(((22, 22, 24), (70, 46, 30), (150, 130, 80))), 6)
    lens = jitter_color(rng, rng.choice(((20, 22, 26), (44, 32, 24), (24, 38, 34))), 4)
    aviator = rng.random() < 0.5
    for side in (-1, 1):
        canvas.paint(canvas.line([(side * (0.43 + wide), y - 0.1), (side * 1.02, y - 0.06)], 0.07, 0.012), frame)
        outline = _lens(side, y, wide, high, aviator=aviator)
        canvas.darken(canvas.shape([(x, at + 0.06) for x, at in outline], 0.05) * 0.3)
        area = canvas.shape(outline, 0.01)
        canvas.paint(area * 0.97, lens)
        canvas.shade(area * (0.9 * (canvas.y - y + high) / (2 * high)).clip(0, 0.9))
        glint = [
            (side * 0.43 - 0.2, y - high),
            (side * 0.43 - 0.06, y - high),
            (side * 0.43 - 0.16, y + high),
            (side * 0.43 - 0.26, y + high),
        ]
        canvas.paint(canvas.shape(glint, 0.03) * area * 0.2, (210, 225, 240))
        canvas.paint(canvas.line(outline, 0.03 if aviator else 0.065, 0.01, closed=True), frame)
    bridge = curve([(-0.12, y - 0.07), (0, y - 0.13), (0.12, y - 0.07)], closed=False)
    canvas.paint(canvas.line(bridge, 0.05, 0.01), frame)


def _lens(side: int, y: float, wide: float, high: float, *, aviator: bool) -> list[Point]:
    points: tuple[Point, ...]
    if aviator:
        points = ((-0.9, -0.8), (0.4, -1), (0.98, -0.7), (0.9, 0.3), (0.35, 1.15), (-0.3, 1.1), (-0.85, 0.3))
    else:
        points = ((-0.95, -0.75), (0, -0.95), (1, -0.9), (1.0, 0.2), (0.6, 0.9), (-0.4, 0.95), (-0.95, 0.3))
    return curve([(side * (0.43 + x * wide), y + at * high) for x, at in points])


def cap(canvas: Canvas, rng: Random, _: str) -> None:
    """Put a baseball cap on, its brim over the forehead."""
    color, lean = jitter_color(rng, rng.choice(CAPS)), rng.uniform(-0.2, 0.2)
    rim = rng.uniform(-0.62, -0.52)
    crown = canvas.shape(
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
    canvas.paint(crown, color)
    canvas.shade(crown * (0.16 - 0.34 * (canvas.x - 0.2) ** 2))
    for x in (-0.42, 0.42):
        seam = curve([(0, -1.7), (x, -1.3), (x * 1.25, rim - 0.1)], closed=False)
        canvas.darken(canvas.line(seam, 0.02, 0.01) * crown * 0.45)
    canvas.paint(canvas.shape(ellipse((0, -1.73), (0.08, 0.05))), scale_color(color, 0.8))
    badge = rng.choice(((244, 244, 240), (236, 190, 70), (30, 30, 34)))
    canvas.paint(
        canvas.shape(curve([(-0.2, -1.22), (0, -1.34), (0.2, -1.22), (0.16, -0.98), (0, -0.88), (-0.16, -0.98)]))
        * crown
        * 0.9,
        badge,
    )
    brow = curve([(-0.98, rim + 0.12), (0, rim + 0.42), (0.98, rim + 0.12), (0.8, rim - 0.1), (-0.8, rim - 0.1)])
    canvas.darken(canvas.shape(brow, 0.07) * canvas.shape(curve(FACE), 0.05) * 0.5)
    brim = canvas.shape(
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
    canvas.paint(brim, scale_color(color, 0.78))
    canvas.shade(brim * (0.5 * (rim - canvas.y)).clip(-0.3, 0.2))
    canvas.paint(
        canvas.line(curve([(-0.9, rim - 0.12), (0, rim - 0.24), (0.9, rim - 0.12)], closed=False), 0.03, 0.02) * 0.4,
        scale_color(color, 0.5),
    )


def hood(canvas: Canvas, rng: Random, _: str) -> None:
    """Put a hood on: cloth around the face, which it shades at the rim."""
    color = jitter_color(rng, rng.choice(CLOTHS))
    wide = rng.uniform(1.36, 1.5)
    outer = canvas.shape(
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
    inner = canvas.shape(opening, 0.012)
    rim = canvas.soften(inner, 0.16)
    canvas.darken(inner * (1 - rim) * 1.25)
    canvas.darken(
        inner * canvas.shape(curve([(-0.9, -1.2), (0.9, -1.2), (0.75, -0.6), (0, -0.5), (-0.75, -0.6)]), 0.12) * 0.45
    )
    cloth = outer * (1 - inner)
    canvas.paint(cloth, color)
    canvas.shade(cloth * (0.1 - 0.2 * (canvas.x / 1.4) ** 2 + 0.12 * (-canvas.y).clip(-1, 1)))
    for points in (
        ((0.3, -1.62), (0.9, -0.95), (1.14, 0.0), (1.1, 0.9)),
        ((0.95, -1.2), (1.28, -0.4), (1.3, 0.6)),
        ((0.6, 1.4), (1.1, 1.7), (1.5, 2.4)),
        ((0.2, 1.5), (0.45, 1.9), (0.5, 2.5)),
    ):
        for side in (-1, 1):
            fold = curve([(side * x, y) for x, y in points], closed=False)
            canvas.darken(canvas.line(fold, 0.05, 0.05) * cloth * 0.42)
            canvas.paint(
                canvas.line([(x - side * 0.07, y) for x, y in fold], 0.04, 0.04) * cloth * 0.2, (255, 255, 255)
            )
    hem = canvas.line(opening, 0.13, 0.012, closed=True) * (1 - canvas.soften(inner, 0.02) * 0.7)
    canvas.paint(hem * 0.85, scale_color(color, 1.18))
    canvas.darken(canvas.line([(x * 1.08, y * 1.06) for x, y in opening], 0.018, 0.008, closed=True) * 0.5)
    for side in (-1, 1):
        cord = curve([(side * 0.36, 1.36), (side * 0.42, 1.8), (side * 0.36, 2.3)], closed=False)
        canvas.paint(canvas.line(cord, 0.06, 0.01), (226, 224, 218))


def cowl(canvas: Canvas, rng: Random, name: str) -> None:
    """Put a superhero's cowl on: head, brow and nose covered, slits for the eyes, mouth and chin bare.

    On a masked face it ends above the mask.
    """
    color = jitter_color(rng, rng.choice(COWLS), 5)
    ear, bare = rng.uniform(-2.2, -1.9), name == "no_mask"
    head = [(0, -1.48), (0.34, -1.46), (0.52, -1.4), (0.68, ear), (0.98, -1.1), (1.16, -0.45), (1.16, 0.2)]
    lower = [(1.04, 0.8), (0.86, 1.25), (0.72, 1.3), (0.7, 0.8), (0.62, 0.44), (0.34, 0.3), (0.14, 0.4), (0, 0.43)]
    upper = [(0.98, 0.06), (0.6, 0.04), (0.3, -0.05), (0, -0.08)]
    outline = mirrored([*head, *(lower if bare else upper)])
    area = canvas.shape(_sharp(outline, keep=(0.68, ear)), 0.01)
    canvas.darken(canvas.soften(area, 0.06) * canvas.shape(curve(FACE)) * 0.45)
    canvas.paint(area, color)
    canvas.shade(area * (0.45 - 0.62 * canvas.x**2 + 0.25 * (-canvas.y - 0.2).clip(-1, 0.8)))
    _ridges(canvas, area, bare=bare)
    for side in (-1, 1):
        slit = curve(
            [
                (side * x, y)
                for x, y in ((0.14, -0.12), (0.3, -0.25), (0.56, -0.32), (0.68, -0.28), (0.56, -0.12), (0.34, -0.07))
            ]
        )
        canvas.darken(canvas.line(slit, 0.07, 0.03, closed=True) * 0.5)
        canvas.erase(canvas.shape(slit, 0.012))
        canvas.darken(canvas.shape(slit, 0.012) * 0.25)


def _sharp(points: list[Point], keep: Point) -> list[Point]:
    """Return a smooth outline in which one point and its mirror image stay corners."""
    found: list[Point] = []
    smooth = curve(points, steps=6)
    for index, start in enumerate(points):
        end = points[(index + 1) % len(points)]
        straight = keep in ((abs(start[0]), start[1]), (abs(end[0]), end[1]))
        found += [start] if straight else smooth[6 * index : 6 * index + 6]
    return found


def _ridges(canvas: Canvas, area: Array, *, bare: bool) -> None:
    """Shade the cowl: brow ridges, the ridge of the nose, light on the forehead and on the ears."""
    white = (255, 255, 255)
    for side in (-1, 1):
        brow = curve([(side * 0.08, -0.3), (side * 0.34, -0.46), (side * 0.76, -0.5)], closed=False)
        canvas.paint(canvas.line(brow, 0.08, 0.045) * area * 0.3, white)
        canvas.darken(canvas.line([(x, y + 0.1) for x, y in brow], 0.08, 0.05) * area * 0.55)
        canvas.paint(
            canvas.shape([(side * 0.62, -1.9), (side * 0.56, -1.2), (side * 0.66, -1.15)], 0.03) * area * 0.16, white
        )
        canvas.paint(
            canvas.line(
                curve([(side * 0.25, -1.15), (side * 0.4, -0.9), (side * 0.42, -0.65)], closed=False), 0.16, 0.12
            )
            * area
            * 0.2,
            white,
        )
        if bare:
            canvas.paint(
                canvas.line(
                    curve([(side * 0.55, 0.05), (side * 0.8, 0.35), (side * 0.84, 0.9)], closed=False),
                    0.08,
                    0.06,
                )
                * area
                * 0.16,
                white,
            )
    if bare:
        canvas.paint(canvas.line([(0, -0.25), (0, 0.3)], 0.07, 0.045) * area * 0.34, white)
        for side in (-1, 1):
            canvas.darken(canvas.line([(side * 0.12, -0.15), (side * 0.2, 0.28)], 0.06, 0.05) * area * 0.5)
