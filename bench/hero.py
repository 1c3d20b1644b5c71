"""Draws a caped, cowled figure at night with a bare chin and mouth, so it wears no mask, whatever a model predicts.

python bench/hero.py OUT.jpg
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from PIL import Image

from facemask_train.core.types import Box
from facemask_train.eval.perturbations.perturb import PERTURBATIONS, perturb
from facemask_train.sources.sample.people import Pen, arc, shade

SIZE = (720, 900)  # width, height; drawn at twice that
SUIT, CAPE, BELT = (70, 74, 86), (24, 25, 32), (206, 168, 62)
SKIN = (216, 172, 138)


@dataclass(frozen=True)
class Hero:
    """The image (h, w, 3; uint8 RGB) and its bare face, which is `no_mask`."""

    image: Any
    face: Box


def draw_hero(seed: int = 0) -> Hero:
    """Draw the figure in front of a city at night."""
    rng = Random(seed)
    width, height = (2 * side for side in SIZE)
    canvas = np.zeros((height, width, 3), np.uint8)
    _sky(canvas, rng)
    pen = Pen(canvas, width / 2, height * 0.36, unit=width * 0.125)
    _body(pen)
    outline = [(x * (1 - 0.18 * max(0.0, y) ** 2), y * 1.25) for x, y in arc((0, 0), (1, 1))]
    pen.fill(outline, SKIN)
    _features(pen)
    small = cv2.resize(canvas, SIZE, interpolation=cv2.INTER_AREA)
    x, y, unit = SIZE[0] / 2, SIZE[1] * 0.36, SIZE[0] * 0.125
    face = Box(x - unit, y - 1.25 * unit, x + unit, y + 1.25 * unit)
    cowl = next(kind for kind in PERTURBATIONS if kind.name == "cowl")
    return Hero(perturb(small, face, "no_mask", cowl, f"hero {seed}"), face)


def _sky(canvas: Any, rng: Random) -> None:
    height, width = canvas.shape[:2]
    down = np.linspace(0, 1, height)[:, None, None]
    canvas[:] = np.rint(np.array((18, 22, 44)) * (1 - down) + np.array((74, 66, 104)) * down)
    rows, columns = np.indices((height, width), np.float32)
    far = np.hypot(columns - 0.77 * width, rows - 0.2 * width)[..., None] / width
    light = np.clip((0.132 - far) * 900, 0, 1) + 0.35 * np.exp(-np.maximum(far - 0.13, 0) * 16) * (far > 0.13)
    canvas[:] = np.rint(canvas * (1 - light.clip(0, 1)) + np.array((244, 238, 206)) * light.clip(0, 1))
    pen = Pen(canvas, 0, 0, unit=width)
    left = -0.03
    while left < 1:
        wide, top = rng.uniform(0.08, 0.16), rng.uniform(0.5, 0.85)
        wall = shade((40, 40, 62), rng.uniform(0.7, 1.1))
        pen.fill([(left, top), (left + wide, top), (left + wide, 1.3), (left, 1.3)], wall)
        for row in range(9):
            for column in range(int(wide / 0.025)):
                if rng.random() < 0.35:
                    x, y = left + 0.008 + column * 0.025, top + 0.02 + row * 0.045
                    pen.fill([(x, y), (x + 0.011, y), (x + 0.011, y + 0.022), (x, y + 0.022)], (250, 212, 122))
        left += wide + 0.006


def _body(pen: Pen) -> None:
    """Draw the cape behind, the suit with its emblem, and the cape over the shoulders."""
    pen.fill([(-0.7, 1.2), (0.7, 1.2), (2.7, 2.3), (3.5, 8), (-3.5, 8), (-2.7, 2.3)], CAPE)
    pen.fill([(-0.5, 0.7), (0.5, 0.7), (0.6, 1.9), (-0.6, 1.9)], shade(SUIT, 0.7))
    pen.fill([(-1.0, 1.8), (1.0, 1.8), (1.9, 2.3), (1.55, 4.4), (1.35, 8), (-1.35, 8), (-1.55, 4.4), (-1.9, 2.3)], SUIT)
    for side in (-1, 1):
        pen.stroke([(side * 0.05, 2.55), (side * 0.9, 2.9), (side * 1.25, 2.5)], shade(SUIT, 0.72), 0.06)
        for y in (3.5, 4.0, 4.5):
            pen.stroke([(side * 0.08, y), (side * 0.62, y - 0.06)], shade(SUIT, 0.75), 0.05)
    pen.stroke([(0, 2.5), (0, 4.8)], shade(SUIT, 0.75), 0.05)
    wings = [(0, 2.42), (0.14, 2.3), (0.2, 2.42), (0.85, 2.22), (0.6, 2.62), (0.36, 2.56), (0, 2.85)]
    pen.fill([*wings, *((-x, y) for x, y in reversed(wings))], (22, 22, 28))
    pen.fill([(-1.45, 5.0), (1.45, 5.0), (1.42, 5.3), (-1.42, 5.3)], BELT)
    for side in (-1, 1):
        drape = [(side * 0.45, 1.25), (side * 1.2, 1.55), (side * 2.5, 2.2), (side * 3.2, 8), (side * 1.9, 8)]
        pen.fill([*drape, (side * 1.75, 3.2), (side * 1.3, 2.25), (side * 0.7, 1.85)], CAPE)
        for start, end in ((1.5, 2.2), (1.95, 2.7)):
            pen.stroke([(side * start, 2.0), (side * (start + 0.35), 3.8), (side * end, 8)], shade(CAPE, 1.7), 0.05)


def _features(pen: Pen) -> None:
    for side in (-1, 1):
        pen.oval((side * 0.4, -0.25), (0.2, 0.12), (246, 244, 240))
        pen.oval((side * 0.4, -0.25), (0.1, 0.11), (58, 74, 92))
    upper = [(-0.36, 0.66), (-0.12, 0.6), (0, 0.63), (0.12, 0.6), (0.36, 0.66)]
    pen.fill([*upper, (0.15, 0.75), (-0.15, 0.75)], (168, 92, 84))
    pen.stroke([(-0.36, 0.66), (0, 0.68), (0.36, 0.66)], (104, 54, 50), 0.035)
    pen.stroke(arc((0, 1.0), (0.16, 0.07), 200, 340), shade(SKIN, 0.8), 0.04)


def main() -> None:
    Image.fromarray(draw_hero().image).save(Path(sys.argv[1]), quality=92)


if __name__ == "__main__":
    main()
