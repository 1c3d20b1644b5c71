"""Draws the images of the built-in sample: streets, wards, trains and markets with people. Does not write files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from facemask_train.core.types import Box, Corners
from facemask_train.sources.sample.pen import Color, Pen, arc, shade, vary
from facemask_train.sources.sample.people import CLOTHS, Kind, draw_person

if TYPE_CHECKING:
    from facemask_train.sources.sample.pen import ImageArray

SCALE = 2
"""Scenes are drawn at twice their size, then scaled down, so that edges are smooth."""

SIZES = ((320, 240), (320, 240), (336, 224), (300, 225), (320, 214), (288, 288), (240, 300))


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a scene, in the image's pixels."""

    kind: Kind
    box: Box


@dataclass(frozen=True, slots=True)
class Scene:
    """An image (height, width, 3; RGB) and its faces."""

    image: ImageArray
    faces: tuple[Face, ...]


def draw_scene(rng: Random, *, worn_incorrectly: bool = False, people: int | None = None) -> Scene:
    """Draw a place, the people in it (1 to 12 where `people` is None, possibly 0), and the light.

    Args:
        worn_incorrectly: the person drawn last wears the mask under the nose.
    """
    import cv2
    import numpy as np

    width, height = rng.choice(SIZES)
    canvas = np.zeros((height * SCALE, width * SCALE, 3), np.uint8)
    rng.choices(tuple(PLACES), weights=tuple(PLACES.values()))[0](Pen(canvas, unit=height * SCALE), rng, width / height)
    faces = []
    spots = _spots(rng, width, height, people)
    for number, (x, y, unit) in enumerate(spots):
        last = worn_incorrectly and number == len(spots) - 1
        kind: Kind = "worn_incorrectly" if last else rng.choice(("mask", "no_mask"))
        pen = Pen(canvas, x * SCALE, y * SCALE, unit * SCALE, rng.uniform(-0.2, 0.2))
        corners = draw_person(pen, rng, kind)
        faces.append(Face(kind, _inside(corners, width, height)))
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return Scene(_light(image, rng), tuple(faces))


def _inside(corners: Corners, width: int, height: int) -> Box:
    x_min, y_min, x_max, y_max = (corner / SCALE for corner in corners)
    return Box(max(0.0, x_min), max(0.0, y_min), min(float(width), x_max), min(float(height), y_max))


# ------------------------------------------------------------------ where people stand

Spot = tuple[float, float, float]
"""The center of a face, and half its width, in pixels."""


def _spots(rng: Random, width: int, height: int, people: int | None) -> list[Spot]:
    """Return where the faces are, from the back to the front, so that none hides another."""
    if people is None:
        people = rng.choices((1, 2, 3, 4, 5, 6, 9, 12), weights=(14, 24, 22, 14, 10, 8, 5, 3))[0]
    rows = 0 if people == 0 else 1 if people <= 3 else 2 if people <= 6 else 3
    spots: list[Spot] = []
    for row in range(rows):
        in_row = people * (row + 1) // rows - people * row // rows
        spots += _row(rng, width, height, in_row, (row + 0.5) / rows)
    return [spot for i, spot in enumerate(spots) if not any(_hides(other, spot) for other in spots[i + 1 :])]


def _row(rng: Random, width: int, height: int, people: int, depth: float) -> list[Spot]:
    column = width / people
    largest = min(column / 2.7, height / (4.6 if depth == 0.5 and people <= 3 else 7.2))
    spots = []
    for number in range(people):
        unit = max(9.0, largest * rng.uniform(0.72, 1.0) * (0.8 + 0.3 * depth))
        x = (number + 0.5) * column + rng.uniform(-0.12, 0.12) * column
        y = height * (0.1 + 0.76 * depth) + rng.uniform(-0.05, 0.05) * height
        spots.append((x, max(y, 1.5 * unit), unit))
    return spots


def _hides(near: Spot, far: Spot) -> bool:
    """Return whether the nearer person's head or shoulders cover part of the farther one's face."""
    apart = abs(near[0] - far[0])
    chin = far[1] + 1.3 * far[2]
    head = apart < 1.3 * near[2] + far[2] and near[1] - 1.9 * near[2] < chin
    shoulders = apart < 2.0 * near[2] + far[2] and near[1] + 1.4 * near[2] < chin
    return head or shoulders


# ------------------------------------------------------------------ places
#
# A place's pen has its origin at the top left corner, and the height of the image as its unit.


def _block(pen: Pen, x: float, y: float, width: float, height: float, color: Color) -> None:
    pen.fill([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], color)


def _fade(pen: Pen, top: Color, bottom: Color, until: float) -> None:
    """Fill the image from the top to `until` with a gradient."""
    import numpy as np

    rows = round(until * pen.unit)
    steps = np.linspace(0, 1, rows)[:, None, None]
    pen.image[:rows] = np.rint(np.array(top) * (1 - steps) + np.array(bottom) * steps).astype(np.uint8)


def _windows(pen: Pen, rng: Random, corners: Corners, colors: tuple[Color, ...]) -> None:
    """Fill a wall (x, y, width, height) with a grid of windows."""
    left, top, width, height = corners
    columns, rows = max(2, round(width / 0.1)), max(2, round(height / 0.13))
    for column in range(columns):
        for row in range(rows):
            x, y = left + (column + 0.25) * width / columns, top + (row + 0.25) * height / rows
            _block(pen, x, y, width / columns * 0.5, height / rows * 0.55, rng.choice(colors))


def _houses(pen: Pen, rng: Random, aspect: float, *, night: bool) -> None:
    walls: tuple[Color, ...] = (
        (214, 160, 130),
        (226, 206, 170),
        (176, 188, 200),
        (200, 130, 110),
        (160, 176, 160),
        (232, 220, 204),
    )
    panes: tuple[Color, ...] = (
        ((255, 214, 120), (60, 66, 90), (250, 190, 90)) if night else ((150, 190, 214), (120, 160, 190))
    )
    x = -rng.uniform(0, 0.15)
    while x < aspect:
        width, top = rng.uniform(0.28, 0.48), rng.uniform(0.06, 0.3)
        wall = shade(vary(rng, rng.choice(walls)), 0.45 if night else 1.0)
        _block(pen, x, top, width, 0.72 - top, wall)
        if rng.random() < 0.4:
            pen.fill([(x - 0.02, top), (x + width / 2, top - 0.12), (x + width + 0.02, top)], shade(wall, 0.7))
        _windows(pen, rng, (x, top, width, 0.5 - top), panes)
        _awning(pen, rng, x, 0.52, width, dim=0.55 if night else 1.0)
        x += width


def _awning(pen: Pen, rng: Random, x: float, y: float, width: float, *, dim: float) -> None:
    """Draw a shop's window under a striped awning."""
    _block(pen, x + 0.03, y + 0.06, width - 0.06, 0.12, shade((110, 130, 140), dim))
    color = rng.choice(CLOTHS)
    for stripe in range(6):
        cloth = shade(color if stripe % 2 else (244, 240, 232), dim)
        left, right = x + width * stripe / 6, x + width * (stripe + 1) / 6
        pen.fill([(left, y), (right, y), (right, y + 0.07), ((left + right) / 2, y + 0.09), (left, y + 0.07)], cloth)


def _street(pen: Pen, rng: Random, aspect: float) -> None:
    _fade(pen, rng.choice(((120, 180, 226), (170, 206, 232), (240, 190, 150))), (238, 236, 222), 0.72)
    if rng.random() < 0.5:
        pen.oval((rng.uniform(0.1, aspect), 0.1), (0.06, 0.06), (255, 240, 190))
    for _ in range(3):
        x, y = rng.uniform(0, aspect), rng.uniform(0.03, 0.16)
        for shift in (-0.06, 0.0, 0.06):
            pen.oval((x + shift, y), (0.07, 0.032), (252, 252, 250))
    _houses(pen, rng, aspect, night=False)
    _pavement(pen, aspect, dim=1.0)
    for _ in range(rng.randint(0, 2)):
        x = rng.uniform(0, aspect)
        _block(pen, x - 0.015, 0.5, 0.03, 0.24, (110, 80, 60))
        for shift_x, shift_y in ((-0.06, 0.0), (0.06, 0.0), (0.0, -0.07)):
            pen.oval((x + shift_x, 0.44 + shift_y), (0.1, 0.09), vary(rng, (96, 150, 90)))


def _pavement(pen: Pen, aspect: float, *, dim: float) -> None:
    _block(pen, 0, 0.7, aspect, 0.1, shade((206, 200, 190), dim))
    _block(pen, 0, 0.8, aspect, 0.2, shade((112, 114, 122), dim))
    for number in range(6):
        _block(pen, 0.05 + number * 0.28, 0.89, 0.14, 0.02, shade((240, 236, 220), dim))


def _night(pen: Pen, rng: Random, aspect: float) -> None:
    _fade(pen, (22, 26, 56), (70, 66, 110), 0.72)
    for _ in range(24):
        pen.oval((rng.uniform(0, aspect), rng.uniform(0, 0.3)), (0.004, 0.004), (240, 238, 220))
    pen.oval((rng.uniform(0.15, aspect - 0.15), 0.1), (0.055, 0.055), (248, 242, 214))
    _houses(pen, rng, aspect, night=True)
    _pavement(pen, aspect, dim=0.5)
    for number in range(3):
        x = (number + rng.uniform(0.2, 0.8)) * aspect / 3
        _block(pen, x - 0.008, 0.3, 0.016, 0.46, (40, 40, 50))
        pen.oval((x, 0.3), (0.05, 0.05), (250, 214, 130))
        pen.oval((x, 0.3), (0.03, 0.03), (255, 246, 214))


def _ward(pen: Pen, rng: Random, aspect: float) -> None:
    wall = rng.choice(((222, 234, 232), (230, 228, 214), (214, 226, 238)))
    _block(pen, 0, 0, aspect, 1, wall)
    _block(pen, 0, 0.5, aspect, 0.05, rng.choice(((120, 176, 170), (150, 170, 200), (220, 170, 150))))
    _block(pen, 0, 0.8, aspect, 0.2, (190, 196, 196))
    for number in range(8):
        pen.stroke([(number * 0.22, 1.0), (number * 0.19 + 0.1, 0.8)], (170, 178, 180), 0.006)
    _ward_window(pen, rng, rng.uniform(0.1, 0.4))
    pen.oval((aspect - 0.35, 0.14), (0.075, 0.075), (250, 250, 250))
    pen.stroke(arc((aspect - 0.35, 0.14), (0.075, 0.075)), (90, 100, 110), 0.012, closed=True)
    pen.stroke([(aspect - 0.35, 0.09), (aspect - 0.35, 0.14), (aspect - 0.31, 0.16)], (60, 66, 70), 0.01)
    left = rng.uniform(0.2, aspect - 0.6)
    _block(pen, left, 0.6, 0.6, 0.1, (250, 250, 248))
    _block(pen, left + 0.16, 0.62, 0.44, 0.14, rng.choice(CLOTHS))
    _block(pen, left - 0.02, 0.48, 0.03, 0.4, (140, 150, 156))
    _block(pen, left + 0.6, 0.58, 0.03, 0.3, (140, 150, 156))
    pen.stroke([(left + 0.75, 0.9), (left + 0.75, 0.2)], (150, 158, 164), 0.012)
    _block(pen, left + 0.71, 0.2, 0.08, 0.13, (206, 226, 236))


def _ward_window(pen: Pen, rng: Random, x: float) -> None:
    _block(pen, x, 0.06, 0.36, 0.34, (250, 250, 250))
    _block(pen, x + 0.02, 0.08, 0.32, 0.3, (160, 206, 232))
    pen.oval((x + 0.12, 0.36), (0.09, 0.07), (130, 176, 120))
    _block(pen, x + 0.02, 0.36, 0.32, 0.04, (250, 250, 250))
    _block(pen, x + 0.17, 0.08, 0.02, 0.3, (250, 250, 250))
    curtain = rng.choice(CLOTHS)
    for side in (-0.04, 0.34):
        _block(pen, x + side, 0.04, 0.07, 0.4, curtain)
        _block(pen, x + side + 0.03, 0.04, 0.012, 0.4, shade(curtain, 0.8))


def _train(pen: Pen, rng: Random, aspect: float) -> None:
    _block(pen, 0, 0, aspect, 1, rng.choice(((206, 210, 204), (190, 204, 214), (222, 206, 180))))
    _block(pen, 0, 0, aspect, 0.07, (236, 238, 236))
    hill = vary(rng, (120, 168, 110))
    for number in range(3):
        x = 0.06 + number * 0.5
        _block(pen, x - 0.015, 0.135, 0.43, 0.38, (130, 138, 146))
        _block(pen, x, 0.15, 0.4, 0.35, (176, 214, 236))
        pen.fill(
            [(x, 0.5), *arc((x + rng.uniform(0.1, 0.3), 0.5), (0.1, 0.14), 180, 360), (x + 0.4, 0.5)], shade(hill, 0.85)
        )
        _block(pen, x, 0.43, 0.4, 0.07, hill)
    seat = rng.choice(CLOTHS)
    _block(pen, 0, 0.62, aspect, 0.24, seat)
    for number in range(7):
        _block(pen, number * 0.26, 0.62, 0.012, 0.24, shade(seat, 0.75))
    _block(pen, 0, 0.86, aspect, 0.14, (120, 116, 112))
    pen.stroke([(0, 0.06), (aspect, 0.06)], (240, 200, 90), 0.014)
    for number in range(6):
        x = 0.12 + number * 0.26
        pen.stroke([(x, 0.06), (x, 0.12)], (90, 90, 90), 0.01)
        pen.stroke(arc((x, 0.15), (0.03, 0.03)), (245, 245, 240), 0.012, closed=True)


def _market(pen: Pen, rng: Random, aspect: float) -> None:
    _fade(pen, (250, 222, 180), (244, 236, 214), 0.75)
    _block(pen, 0, 0.7, aspect, 0.3, (196, 172, 142))
    x = -0.05
    while x < aspect:
        color, width = rng.choice(CLOTHS), rng.uniform(0.42, 0.56)
        for edge in (x + 0.02, x + width - 0.03):
            _block(pen, edge, 0.2, 0.015, 0.6, (130, 96, 66))
        for stripe in range(6):
            left, step = x + width * stripe / 6, width / 6
            cloth = color if stripe % 2 else (250, 246, 236)
            pen.fill([(left, 0.2), (left + step, 0.2), (left + step, 0.3), (left + step / 2, 0.33), (left, 0.3)], cloth)
        _block(pen, x + 0.02, 0.6, width - 0.04, 0.2, (168, 124, 84))
        fruit = rng.choice(((226, 90, 60), (244, 180, 60), (130, 180, 80), (150, 80, 150)))
        for number in range(8):
            pen.oval((x + 0.06 + number * (width - 0.12) / 7, 0.59), (0.034, 0.034), vary(rng, fruit))
        x += width + 0.03
    flag = [(i * aspect / 12, 0.06 + (0.03 if i % 2 else 0.0)) for i in range(13)]
    pen.stroke(flag, (120, 100, 90), 0.006)
    for one, other in pairwise(flag):
        middle = ((one[0] + other[0]) / 2, one[1] + 0.07)
        pen.fill([one, other, middle], rng.choice(CLOTHS))


PLACES: dict[Callable[[Pen, Random, float], None], int] = {_street: 32, _night: 12, _ward: 20, _train: 20, _market: 16}
"""The places, and how often they are drawn."""


# ------------------------------------------------------------------ light


def _light(image: ImageArray, rng: Random) -> ImageArray:
    """Return the image with random lighting, sometimes dim, blurred or grainy."""
    import cv2
    import numpy as np

    dim = (0.62, 0.66, 0.84) if rng.random() < 0.1 else (1.0, 1.0, 1.0)
    left, right = (np.array([part * rng.uniform(0.8, 1.12) for part in dim]) for _ in range(2))
    across = np.linspace(0, 1, image.shape[1])[None, :, None]
    gain = left * (1 - across) + right * across
    if rng.random() < 0.12:
        image = cv2.GaussianBlur(image, (3, 3), 0)
    grain = np.zeros(1, np.int64)
    if rng.random() < 0.3:
        reach = rng.randint(4, 12)
        grain = np.random.default_rng(rng.getrandbits(32)).integers(-reach, reach + 1, image.shape)
    lit: ImageArray = np.clip(np.rint(image * gain) + grain, 0, 255).astype(np.uint8)
    return lit
