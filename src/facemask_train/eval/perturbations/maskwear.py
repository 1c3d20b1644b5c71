"""Perturbations of masks: recolor a worn mask, print a pattern on it, or put a mask on a bare face."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from facemask_train.eval.perturbations.canvas import Canvas, Color, curve, jitter_color, mirrored
from facemask_train.eval.perturbations.lowerface import PAINTS, scale_color, skin

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MASKS: tuple[Color, ...] = ((150, 196, 222), (238, 242, 244), (40, 42, 48), (236, 178, 190), (160, 208, 190))


def put_mask_on(canvas: Canvas, rng: Random, _: str) -> None:
    """Put a surgical mask, a cloth mask or a respirator on a bare face: the perturbation that must flip the class."""
    color = jitter_color(rng, rng.choice(MASKS), 8)
    top, shift = rng.uniform(-0.06, 0.06), rng.uniform(-0.03, 0.03)
    outline = [
        (x + shift, y)
        for x, y in mirrored(
            (
                (0, -0.04 + top),
                (0.3, 0.0 + top),
                (0.6, 0.1 + top),
                (0.86, 0.16 + top),
                (0.88, 0.5),
                (0.66, 0.88),
                (0.36, 1.08),
                (0, 1.14),
            )
        )
    ]
    for side in (-1, 1):
        for y, ear in ((0.2 + top, -0.2), (0.62, 0.12)):
            canvas.paint(
                canvas.line(
                    curve([(side * 0.84, y), (side * 0.95, (y + ear) / 2), (side * 1.02, ear)], closed=False),
                    0.035,
                    0.008,
                )
                * 0.95,
                scale_color(color, 1.1) if sum(color) > 200 else (70, 70, 76),
            )
    area = canvas.shape(curve(outline, steps=6), 0.012)
    canvas.darken(canvas.soften(area, 0.05) * (1 - area) * 0.35)
    canvas.paint(area, color)
    canvas.shade(area * (0.1 - 0.38 * canvas.x**2 - 0.14 * (canvas.y - 0.4)))
    rng.choice((_pleats, _pleats, _seam))(canvas, area, top)
    edge = canvas.line(curve(outline, steps=6), 0.035, 0.012, closed=True)
    canvas.darken(edge * area * 0.28)
    nose = canvas.line(curve([(-0.36, 0.06 + top), (0, 0.0 + top), (0.36, 0.06 + top)], closed=False), 0.045, 0.02)
    canvas.paint(nose * area * 0.35, (255, 255, 255))


def _pleats(canvas: Canvas, area: Array, top: float) -> None:
    for y in (0.3, 0.5, 0.7):
        ends = ((-0.86, y - 0.02), (-0.4, y + 0.05), (0, y + 0.07 + top / 2), (0.4, y + 0.05), (0.86, y - 0.02))
        canvas.darken(canvas.line(curve(ends, closed=False), 0.03, 0.018) * area * 0.42)
        lifted = [(x, at - 0.05) for x, at in ends]
        canvas.paint(canvas.line(curve(lifted, closed=False), 0.035, 0.022) * area * 0.3, (255, 255, 255))


def _seam(canvas: Canvas, area: Array, top: float) -> None:
    """Draw a molded mask: a ridge down the middle, dimples beside it."""
    ridge = canvas.line(curve([(0, top), (0.02, 0.4), (0, 1.1)], closed=False), 0.03, 0.02)
    canvas.darken(ridge * area * 0.35)
    for side in (-1, 1):
        cheek = canvas.line(curve([(side * 0.12, 0.1), (side * 0.3, 0.5), (side * 0.22, 1.0)], closed=False), 0.1, 0.09)
        canvas.paint(cheek * area * 0.22, (255, 255, 255))
        canvas.darken(
            canvas.line(curve([(side * 0.85, 0.3), (side * 0.5, 0.75), (side * 0.3, 1.05)], closed=False), 0.05, 0.05)
            * area
            * 0.3
        )


def mask_area(canvas: Canvas) -> Array:
    """Return where the mask of a masked face is: coverage (h, w), 0 to 1.

    The first guess is the pixels whose color is that of the middle of a usual mask; GrabCut refines it. If the result
    is far smaller or larger than a usual mask, the usual mask is returned.
    """
    import cv2
    import numpy as np

    usual = canvas.shape(curve(mirrored(((0, 0.0), (0.5, 0.08), (0.88, 0.12), (0.9, 0.5), (0.62, 0.95), (0, 1.12)))), 0)
    size = (round(canvas.alpha.shape[1] * 30 / canvas.scale), round(canvas.alpha.shape[0] * 30 / canvas.scale))
    small = np.rint(cv2.resize(canvas.background, size, interpolation=cv2.INTER_AREA)).astype(np.uint8)
    guess, across, down = (cv2.resize(one, size) for one in (usual, canvas.x, canvas.y))
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32) * np.array([0.5, 1, 1], np.float32)
    core = (across / 0.5) ** 2 + ((down - 0.5) / 0.34) ** 2 < 1
    color = np.median(lab[core], axis=0)
    apart = np.linalg.norm(lab - color, axis=2)
    alike = apart < max(14.0, 2.2 * float(np.percentile(apart[core], 60)))
    within = (abs(across) < 1.2) & (down > -0.3) & (down < 1.3)
    marks = np.where(alike & within, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    marks[~within] = cv2.GC_BGD
    marks[core & alike] = cv2.GC_FGD
    if int((marks == cv2.GC_FGD).sum()) > 20:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)
        cv2.grabCut(small, marks, None, *models, 3, cv2.GC_INIT_WITH_MASK)
    found = _largest(((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)).astype(np.uint8))
    if not 0.5 < float(found.sum()) / float(guess.sum()) < 1.9:
        found = guess
    scaled = cv2.resize(found.astype(np.float32), canvas.alpha.shape[::-1], interpolation=cv2.INTER_LINEAR)
    area: Array = np.clip((canvas.soften(scaled, 0.03) - 0.2) * 2, 0, 1)
    return area


def _largest(marks: Array) -> Array:
    """Return the largest connected part of a mask (uint8) with its holes filled."""
    import cv2
    import numpy as np

    outlines, _ = cv2.findContours(marks, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(marks)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled


def mask_to_skin(canvas: Canvas, rng: Random, _: str) -> None:
    """Give the mask the color of the skin."""
    canvas.paint(mask_area(canvas) * 0.96, _cloth(canvas, jitter_color(rng, skin(canvas), 5)))


def mask_to_black(canvas: Canvas, rng: Random, _: str) -> None:
    """Make the mask black."""
    canvas.paint(mask_area(canvas) * 0.97, _cloth(canvas, jitter_color(rng, (40, 41, 46), 8)))


def mask_to_pattern(canvas: Canvas, rng: Random, _: str) -> None:
    """Print stripes, dots or checks on the mask."""
    import numpy as np

    ground, print_ = rng.sample([*PAINTS, *MASKS], 2)
    size = rng.uniform(0.2, 0.32)
    across, down = canvas.x / size, (canvas.y + 0.12 * canvas.x**2) / size
    turn = rng.uniform(0, math.pi)
    along = across * math.cos(turn) + down * math.sin(turn)
    patterns = (
        np.mod(along, 1) < 0.45,
        (np.mod(across, 1) - 0.5) ** 2 + (np.mod(down, 1) - 0.5) ** 2 < 0.09,
        (np.mod(across, 1) < 0.5) ^ (np.mod(down, 1) < 0.5),
    )
    printed = canvas.soften(rng.choice(patterns).astype(np.float32), 0.015)[..., None]
    color = np.asarray(ground, np.float32) * (1 - printed) + np.asarray(print_, np.float32) * printed
    canvas.paint(mask_area(canvas) * 0.96, _cloth(canvas, (255, 255, 255)) * color / 255)


def _cloth(canvas: Canvas, color: Color) -> Array:
    """Return the image in one color that keeps the folds of the mask: light relative to its middle."""
    import numpy as np

    gray = canvas.background @ np.array([0.299, 0.587, 0.114], np.float32)
    middle = (abs(canvas.x) < 0.5) & (abs(canvas.y - 0.55) < 0.35)
    relative = (gray / max(float(np.median(gray[middle])), 1.0)).clip(0.35, 1.6)
    cloth: Array = np.clip(np.asarray(color, np.float32) * relative[..., None], 0, 255)
    return cloth
