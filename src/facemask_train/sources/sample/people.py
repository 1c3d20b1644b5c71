"""Draws one person of the built-in sample, and returns where the face is.

Only the shape distinguishes a mask from a bare face. The colors of everything that covers the lower face (a mask, a
beard, face paint, a scarf, a hand) come from one palette, and so do those of its details (a hem, ear loops; lips, a
mustache).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from facemask_train.core.types import Corners
from facemask_train.sources.sample.pen import Color, Pen, Point, arc, box_of, shade, vary

Kind = Literal["mask", "no_mask", "worn_incorrectly"]

SKINS: tuple[Color, ...] = (
    (255, 219, 180), (241, 194, 140), (232, 190, 172), (224, 172, 120),
    (198, 134, 80), (170, 112, 75), (141, 85, 50), (100, 64, 42),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (35, 28, 26), (74, 48, 34), (120, 78, 46), (176, 132, 74),
    (222, 190, 120), (168, 84, 44), (150, 150, 155), (226, 226, 230),
)  # fmt: skip
CLOTHS: tuple[Color, ...] = (
    (124, 182, 216), (238, 240, 242), (44, 46, 54), (234, 156, 180), (146, 208, 176), (52, 74, 130), (192, 66, 62),
    (238, 204, 96), (132, 138, 144), (150, 110, 190), (240, 150, 80), (84, 140, 110),
)  # fmt: skip
LIPS: tuple[Color, ...] = (
    (150, 40, 48), (216, 92, 100), (188, 70, 82), (120, 52, 46), (226, 130, 120), (96, 34, 44),
    (206, 150, 120), (150, 96, 70), (90, 56, 44), (176, 112, 130),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Looks:
    """The appearance of one person. Everything is drawn in the same way for both classes.

    `cover` is the color of the lower face (a mask, a beard, paint, or in a third of the cases the skin), `fold`
    its lines. The other colors are for details: a mouth and its teeth, or a hem, ear loops and a print.
    """

    skin: Color
    hair: Color
    coat: Color
    cover: Color
    fold: Color
    lips: Color
    dark: Color
    white: Color
    like_skin: bool
    turn: float


def _looks(rng: Random) -> Looks:
    skin = vary(rng, rng.choice(SKINS))
    like_skin = rng.random() < 0.33
    cover = vary(rng, skin, 8) if like_skin else vary(rng, rng.choice(rng.choice((CLOTHS, CLOTHS, HAIRS, SKINS))))
    return Looks(
        skin=skin,
        hair=vary(rng, rng.choice(HAIRS)),
        coat=vary(rng, rng.choice(CLOTHS), 24),
        cover=cover,
        fold=shade(cover, 0.62) if sum(cover) > 240 else _lift(cover),
        lips=vary(rng, shade(skin, 0.72) if rng.random() < 0.4 else rng.choice(LIPS)),
        dark=vary(rng, (66, 40, 42), 26),
        white=vary(rng, (232, 228, 220), 22),
        like_skin=like_skin,
        turn=rng.uniform(-0.2, 0.2),
    )


def _lift(color: Color) -> Color:
    return color[0] + 62, color[1] + 62, color[2] + 62


def _outline() -> list[Point]:
    """Return the face: 2 units wide, 2.4 high, the chin narrower than the forehead."""
    return [(x * (1 - 0.16 * max(0.0, y) ** 2), y * 1.2) for x, y in arc((0, 0), (1, 1))]


def draw_person(pen: Pen, rng: Random, kind: Kind) -> Corners:
    """Draw a person whose face is centered at the pen's origin and is 2 units wide.

    Returns:
        the face, from the forehead to the chin, in pixels.
    """
    looks = _looks(rng)
    style = rng.choices(("short", "long", "bun", "curls", "bald", "veil"), weights=(5, 4, 2, 3, 1, 2))[0]
    _body(pen, rng, looks, style)
    pen.fill(_outline(), looks.skin)
    _eyes(pen, rng, looks)
    if kind == "no_mask":
        _bare(pen, rng, looks)
    else:
        _masked(pen, rng, looks, low=kind == "worn_incorrectly")
    _before(pen, rng, looks, kind)
    _glow(pen, rng)
    _hair(pen, rng, looks, style)
    return box_of(pen.place(_outline()))


def _body(pen: Pen, rng: Random, looks: Looks, style: str) -> None:
    if style == "long":
        pen.fill([*arc((0, -0.15), (1.25, 1.25), 180, 360), (1.3, 1.5), (-1.3, 1.5)], shade(looks.hair, 0.85))
    if style == "curls":
        for x, y in arc((0, -0.35), (1.05, 1.0), 150, 390):
            pen.oval((x, y), (0.42, 0.42), looks.hair)
    if style == "bun":
        pen.oval((0, -1.45), (0.42, 0.38), looks.hair)
    upright = Pen(pen.image, pen.x, pen.y, pen.unit)
    pen.fill([(-0.4, 0.8), (0.4, 0.8), (0.45, 1.7), (-0.45, 1.7)], shade(looks.skin, 0.82))
    upright.fill([*arc((0, 2.9), (1.85, 1.45), 180, 360), (2.0, 12), (-2.0, 12)], looks.coat)
    upright.stroke([(-0.5, 1.5), (0, 2.15), (0.5, 1.5)], shade(looks.coat, 0.7), 0.1)
    if rng.random() < 0.5:
        upright.stroke([(0, 2.15), (0, 12)], shade(looks.coat, 0.75), 0.08)
    for side in (-1, 1):
        upright.stroke([(side * 1.25, 2.9), (side * 1.35, 6)], shade(looks.coat, 0.75), 0.08)
        pen.oval((side * 1.02, 0.05), (0.17, 0.27), shade(looks.skin, 0.9))


def _eyes(pen: Pen, rng: Random, looks: Looks) -> None:
    glasses = rng.random() < 0.25
    for side in (-1, 1):
        x = side * 0.42 + looks.turn
        pen.oval((x, -0.28), (0.2, 0.15), (250, 250, 248))
        pen.oval((x + looks.turn * 0.3, -0.27), (0.1, 0.12), (40, 30, 28))
        pen.stroke(arc((x, -0.5), (0.24, 0.12), 205, 335), shade(looks.hair, 0.8), 0.09)
        if glasses:
            pen.stroke(arc((x, -0.27), (0.31, 0.27)), (50, 46, 50), 0.06, closed=True)
            pen.stroke([(x + side * 0.31, -0.3), (side * 1.0, -0.2)], (50, 46, 50), 0.06)


def _glow(pen: Pen, rng: Random) -> None:
    """Light the head from one side."""
    import numpy as np

    height, width = pen.image.shape[:2]
    reach = round(1.6 * pen.unit)
    left, top = max(0, round(pen.x) - reach), max(0, round(pen.y) - reach)
    head = pen.image[top : min(height, round(pen.y) + reach), left : min(width, round(pen.x) + reach)]
    rows, columns = np.indices(head.shape[:2], np.float32)
    across, down = (columns + left - pen.x) / pen.unit, (rows + top - pen.y) / pen.unit
    inside = np.clip(5 - 5 * np.sqrt((across / 1.15) ** 2 + (down / 1.35) ** 2), 0, 1)
    slope = rng.uniform(-0.5, 0.5) * across + rng.uniform(-0.5, 0.5) * down + rng.uniform(-0.4, 0.3)
    head[:] = np.clip(np.rint(head * (1 + inside * slope)[..., None]), 0, 255)


def _hair(pen: Pen, rng: Random, looks: Looks, style: str) -> None:
    cap = arc((0, -0.2), (1.1, 1.12), 180, 360)
    if style == "veil":
        inner = arc((0, 0.02), (0.98, 1.12), 360, 180)
        pen.fill(
            [*arc((0, -0.1), (1.25, 1.3), 170, 370), (1.0, 1.5), (0.85, 0.6), *inner, (-0.85, 0.6), (-1.0, 1.5)],
            looks.coat,
        )
        return
    if style != "bald":
        fringe = rng.uniform(-0.25, 0.25)
        pen.fill([*cap, (0.92, -0.42), (0.5, -0.72), (fringe, -0.62), (-0.5, -0.76), (-0.92, -0.42)], looks.hair)
    hat = rng.choices(("none", "beanie", "cap", "sun"), weights=(6, 2, 2, 1))[0]
    color = vary(rng, rng.choice(CLOTHS))
    if hat == "beanie":
        pen.fill([*arc((0, -0.6), (1.12, 1.05), 180, 360), (1.12, -0.58), (-1.12, -0.58)], color)
        pen.stroke([(-1.1, -0.66), (1.1, -0.66)], shade(color, 0.75), 0.24)
        pen.oval((0, -1.7), (0.24, 0.22), shade(color, 1.2))
    if hat == "cap":
        pen.fill([*arc((0, -0.6), (1.1, 0.95), 180, 360), (1.1, -0.6), (-1.1, -0.6)], color)
        pen.fill(arc((rng.choice((-0.45, 0.45)), -0.62), (1.05, 0.17)), shade(color, 0.7))
    if hat == "sun":
        pen.oval((0, -0.75), (1.75, 0.26), shade(color, 0.85))
        pen.fill(arc((0, -0.75), (0.95, 0.85), 180, 360), color)


# ------------------------------------------------------------------ the lower face
#
# A mask and what a bare face may wear instead have the same outline and the same amounts of each color.


def _brim(rng: Random, turn: float, *, low: bool) -> list[Point]:
    """Return the upper edge of a mask, from cheek to cheek over the nose (`low`: under it)."""
    top, dip = (0.5, 0.42) if low else (rng.uniform(0.0, 0.12), rng.uniform(-0.18, 0.02))
    middle = (top + dip) / 2 - 0.04
    return [(-0.9, top), (-0.45 + turn, middle), (turn, dip), (0.45 + turn, middle), (0.9, top)]


JAW: tuple[Point, ...] = ((0.76, 0.8), (0.4, 1.16), (0, 1.24), (-0.4, 1.16), (-0.76, 0.8))


def _ragged(rng: Random, points: Sequence[Point]) -> list[Point]:
    """Return an outline with teeth: three points that go in and out between any two points."""
    found: list[Point] = []
    for (x, y), (to_x, to_y) in zip(points, [*points[1:], points[0]], strict=True):
        for part in (0.0, 0.25, 0.5, 0.75):
            out = 1.0 + (0.07 if part in (0.25, 0.75) else -0.07) * rng.uniform(0.5, 1.5)
            found.append(((x + (to_x - x) * part) * out, 0.5 + (y + (to_y - y) * part - 0.5) * out))
    return found


def _masked(pen: Pen, rng: Random, looks: Looks, *, low: bool) -> None:
    """Draw a mask from the bridge of the nose (`low`: from under the nose) to under the chin."""
    if low:
        _nose(pen, looks)
    brim = _brim(rng, looks.turn, low=low)
    loop = rng.choice((looks.lips, looks.white, looks.dark, looks.fold))
    for side in (-1, 1):
        pen.stroke([(side * 0.9, brim[0][1] + 0.03), (side * 1.08, 0.0)], loop, 0.08)
        pen.stroke([(side * 0.76, 0.85), (side * 1.08, 0.2)], loop, 0.08)
    pen.fill([*brim, *JAW], looks.cover)
    levels = (0.68, 0.9) if low else (0.3, 0.56, 0.82)
    if not low and rng.random() < 0.9:
        _print(pen, rng, looks)
    for level in levels:
        reach = 0.9 * (1.0 - 0.14 * level)
        pen.stroke([(-reach, level - 0.02), (looks.turn, level + 0.1), (reach, level - 0.02)], looks.fold, 0.055)
    _edge(pen, rng, looks, brim)


def _edge(pen: Pen, rng: Random, looks: Looks, brim: Sequence[Point]) -> None:
    """Draw the hem of a mask, or the upper edge of a painted face."""
    if rng.random() < 0.7:
        pen.stroke(brim, rng.choice((looks.lips, looks.fold)), 0.07)


def _print(pen: Pen, rng: Random, looks: Looks) -> None:
    """Print dots on a mask, between its folds."""
    colors = rng.choice(((looks.dark, looks.white), (looks.dark, looks.lips), (looks.lips, looks.skin)))
    size = rng.uniform(0.05, 0.12)
    for row, y in enumerate((0.14, 0.4, 0.65, 0.92)):
        for column in (-0.48, 0.0, 0.48) if row < 3 else (0.0,):
            across = column + looks.turn * 0.5
            pen.oval((across, y + 0.1 * (1 - abs(across))), (size * 1.3, size), colors[row % 2])


def _bare(pen: Pen, rng: Random, looks: Looks) -> None:
    """Draw a bare lower face: always with a nose and a mouth."""
    brim = _brim(rng, looks.turn, low=False)
    if looks.like_skin:
        _plain(pen, rng, looks)
    else:
        pen.fill(_ragged(rng, [*brim, *JAW]), looks.cover)
        rng.choice((_stripes, _hairs))(pen, looks)
        _edge(pen, rng, looks, _ragged(rng, brim)[:-4])
    _nose(pen, looks)
    _mouth(pen, rng, looks)


def _plain(pen: Pen, rng: Random, looks: Looks) -> None:
    """Draw laugh lines, a chin, freckles, and lines on the cheeks."""
    for side in (-1, 1):
        start, end = (240, 180) if side < 0 else (300, 360)
        pen.stroke(arc((side * 0.55 + looks.turn, 0.6), (0.2, 0.34), start, end), looks.fold, 0.06)
        for number in range(3):
            pen.stroke([(side * (0.62 + 0.11 * number), 0.32), (side * (0.54 + 0.11 * number), 0.5)], looks.fold, 0.05)
        for _ in range(rng.randint(1, 4)):
            pen.oval((side * rng.uniform(0.4, 0.8), rng.uniform(0.05, 0.3)), (0.05, 0.05), looks.fold)
    pen.stroke(arc((looks.turn * 0.5, 0.94), (0.2, 0.12), 20, 160), looks.fold, 0.07)


def _stripes(pen: Pen, looks: Looks) -> None:
    """Draw a supporter's stripes on both cheeks."""
    for side in (-1, 1):
        for reach in (0.14, 0.4, 0.66):
            pen.stroke([(side * (0.9 - reach * 0.1), reach), (side * 0.5, reach + 0.16)], looks.fold, 0.08)


def _hairs(pen: Pen, looks: Looks) -> None:
    """Draw the hairs of a beard."""
    for number in range(13):
        x = -0.84 + 0.14 * number
        y = 1.0 - 0.72 * x * x
        pen.stroke([(x, y - 0.2), (x * 0.92, y + 0.12)], looks.fold, 0.06)


def _nose(pen: Pen, looks: Looks) -> None:
    x = looks.turn * 1.2
    pen.stroke([(x + 0.06, -0.15), (x + 0.17, 0.22), (x - 0.1, 0.27)], shade(looks.skin, 0.62), 0.08)
    for side in (-1, 1):
        pen.oval((x + side * 0.12, 0.25), (0.07, 0.05), shade(looks.skin, 0.4))


def _mouth(pen: Pen, rng: Random, looks: Looks) -> None:
    x, y, wide = looks.turn, rng.uniform(0.6, 0.68), rng.uniform(0.36, 0.5)
    match rng.choice(("smile", "laugh", "lips", "round")):
        case "smile":
            pen.stroke(arc((x, y - 0.18), (wide, 0.32), 10, 170), rng.choice((looks.lips, looks.dark)), 0.14)
        case "laugh":
            pen.fill(arc((x, y - 0.14), (wide, 0.38), 0, 180), looks.dark)
            teeth = [(x - wide * 0.9, y - 0.14), (x + wide * 0.9, y - 0.14), (x + wide * 0.7, y), (x - wide * 0.7, y)]
            pen.fill(teeth, looks.white)
            pen.stroke(arc((x, y - 0.14), (wide, 0.38), 0, 180), looks.lips, 0.07, closed=True)
        case "lips":
            pen.oval((x, y), (wide, 0.18), looks.lips)
            pen.stroke([(x - wide, y), (x, y + 0.03), (x + wide, y)], looks.dark, 0.07)
        case _:
            pen.oval((x, y + 0.02), (wide * 0.64, 0.26), looks.lips)
            pen.oval((x, y + 0.02), (wide * 0.42, 0.17), looks.dark)


# ------------------------------------------------------------------ what may be before any face


def _before(pen: Pen, rng: Random, looks: Looks, kind: Kind) -> None:
    """Draw a scarf, a mask that hangs under the chin, a hand or a cup; lower in front of a mask that is worn."""
    drop = rng.uniform(0.0, 0.1) if kind == "no_mask" else rng.uniform(0.25, 0.4)
    match rng.choices(("nothing", "scarf", "hand", "cup"), weights=(68, 18, 7, 7))[0]:
        case "scarf" if kind == "no_mask" and rng.random() < 0.5:
            _lowered(pen, rng, looks)
        case "scarf":
            _scarf(pen, rng)
        case "hand":
            _hand(pen, rng, looks, drop)
        case "cup":
            _cup(pen, rng, looks, drop)


def _scarf(pen: Pen, rng: Random) -> None:
    cloth, top = vary(rng, rng.choice(CLOTHS)), rng.uniform(0.9, 1.05)
    pen.fill([(-0.9, top - 0.15), (0, top + 0.05), (0.9, top - 0.15), (1.05, 1.6), (0, 1.8), (-1.05, 1.6)], cloth)
    for x in (-0.7, -0.35, 0.0, 0.35, 0.7):
        pen.stroke([(x, top), (x * 1.1, 1.7)], shade(cloth, 0.7), 0.1)


def _lowered(pen: Pen, rng: Random, looks: Looks) -> None:
    """Draw a mask or bandana that hangs under the mouth."""
    cloth, top = vary(rng, rng.choice(CLOTHS)), rng.uniform(0.9, 1.05)
    brim = [(-0.9, top - 0.15), (0, top + 0.05), (0.9, top - 0.15)]
    pen.fill([*brim, (0.95, 1.35), (0, 1.75), (-0.95, 1.35)], cloth)
    pen.stroke(brim, looks.lips, 0.08)
    pen.stroke([(-0.8, 1.2), (0, 1.45), (0.8, 1.2)], shade(cloth, 0.7), 0.08)


def _hand(pen: Pen, rng: Random, looks: Looks, drop: float) -> None:
    """Draw a hand, bare or in a glove, in front of the mouth."""
    side, color = rng.choice((-1, 1)), vary(rng, rng.choice((*CLOTHS, *SKINS)))
    pen.stroke([(side * 0.9, 2.6), (side * 0.4, 1.2 + drop)], looks.coat, 0.6)
    pen.oval((side * 0.2, 0.95 + drop), (0.55, 0.42), color)
    for i in range(4):
        y = 0.5 + drop + 0.17 * i
        pen.stroke([(side * 0.3, y + 0.08), (-side * 0.6, y)], color, 0.2)
        pen.stroke([(side * 0.2, y + 0.16), (-side * 0.62, y + 0.09)], shade(color, 0.66), 0.05)


def _cup(pen: Pen, rng: Random, looks: Looks, drop: float) -> None:
    """Draw a cup at the mouth, and the hand that holds it."""
    side, color = rng.choice((-1, 1)), vary(rng, rng.choice(CLOTHS))
    pen.fill([(-0.5, 0.45 + drop), (0.5, 0.45 + drop), (0.38, 1.5 + drop), (-0.38, 1.5 + drop)], color)
    pen.stroke([(-0.52, 0.47 + drop), (0.52, 0.47 + drop)], looks.white, 0.14)
    pen.stroke([(side * 1.0, 2.8), (side * 0.5, 1.6)], looks.coat, 0.55)
    pen.oval((side * 0.25, 1.2 + drop), (0.4, 0.34), shade(looks.skin, 0.95))
