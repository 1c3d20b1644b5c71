"""The geometry of a batch: where images and boxes go, drawn from a seed. Does not import torch.

Images are placed on a canvas of twice the batch's image size: four around a point (mosaic), or one in the center. A
matrix maps the canvas to the output image. Coordinates refer to pixel edges: pixel 0 reaches from 0 to 1. The
distributions are those of the `ultralytics` package's own augmentation, hyperparameter by hyperparameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
GRAY = 114  # the fill value outside of images
_MIN_SIDE, _MIN_AREA_RATIO, _MAX_ASPECT = 2, 0.1, 100  # pixels, share of the original area: boxes that are kept


@dataclass(frozen=True, slots=True)
class Ranges:
    """The ranges of the augmentations. `scale` is the smallest and the largest factor, `hsv` the three gains."""

    size: int
    mosaic: float = 0.0
    mixup: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    perspective: float = 0.0
    fliplr: float = 0.0
    flipud: float = 0.0
    hsv: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def closed(self) -> Ranges:
        """Return the ranges for the last epochs, without mosaic and mixup."""
        return replace(self, mosaic=0.0, mixup=0.0)


def ranges_of(args: Mapping[str, Any]) -> Ranges:
    """Return the ranges from the trainer's settings."""
    same = ("mosaic", "mixup", "degrees", "translate", "shear", "perspective", "fliplr", "flipud")
    gain = args["scale"]
    low, high = gain if isinstance(gain, (list, tuple)) else (1 - gain, 1 + gain)
    return Ranges(
        int(args["imgsz"]),
        scale=(float(low), float(high)),
        hsv=(float(args["hsv_h"]), float(args["hsv_s"]), float(args["hsv_v"])),
        **{key: float(args[key]) for key in same},
    )


@dataclass(frozen=True, slots=True)
class BoxTable:
    """All boxes: rows (K, 5) of class id and corners in pixels. Image i has rows `starts[i]` to `starts[i + 1]`."""

    rows: Floats
    starts: Ints

    @classmethod
    def of(cls, tables: Sequence[Floats]) -> BoxTable:
        """Concatenate the boxes of each image, arrays of (n, 5)."""
        counts = np.array([len(table) for table in tables], dtype=np.int64)
        rows = np.concatenate([np.zeros((0, 5)), *tables])
        return cls(rows, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Layout:
    """The composition of a batch of B images: V views. The first B are its images, the others are mixed in (mixup).

    Attributes:
        images: (V, 4) the image of each tile; the first column has the batch's own.
        used: (V, 4) whether the view has this tile.
        corners: (V, 4, 2) the top left corner of each tile on the canvas, in whole pixels.
        matrices: (V, 3, 3) from the canvas to the output image, flips included.
        factors: (V,) the scale of each matrix.
        mixed: (V - B,) the image of the batch that each additional view is mixed into.
        weights: (V - B,) the weight of that image in the mixture.
        gains: (B, 3) changes of hue (in turns), saturation and value; 0 is no change.
    """

    images: Ints
    used: NDArray[np.bool_]
    corners: Ints
    matrices: Floats
    factors: Floats
    mixed: Ints
    weights: Floats
    gains: Floats

    @property
    def count(self) -> int:
        return len(self.gains)


def epoch_order(seed: int, epoch: int, count: int) -> Ints:
    """Return the order of `count` images in an epoch."""
    return np.random.default_rng([1, seed, epoch]).permutation(count)


def batch_generator(seed: int, epoch: int, number: int, rank: int) -> np.random.Generator:
    """Return the random generator of one batch, independent of other batches and of global state."""
    return np.random.default_rng([2, seed, epoch, number, rank])


def draw_layout(own: Ints, shapes: Ints, ranges: Ranges, rng: np.random.Generator) -> Layout:
    """Draw the composition of a batch.

    Args:
        own: (B,) the batch's images.
        shapes: (N, 2) height and width of all training images.
    """
    count = len(own)
    mixed = np.flatnonzero(rng.random(count) < ranges.mixup)
    weights = rng.beta(32.0, 32.0, len(mixed))
    flipped = np.stack([rng.random(count) < ranges.fliplr, rng.random(count) < ranges.flipud], axis=1)
    gains = rng.uniform(-1, 1, (count, 3)) * ranges.hsv
    first = np.concatenate([own, rng.integers(0, len(shapes), len(mixed))])
    images = np.column_stack([first, rng.integers(0, len(shapes), (len(first), 3))])
    mosaic = rng.random(len(first)) < ranges.mosaic
    corners = _corners(shapes[images], mosaic, ranges.size, rng)
    matrices, factors = _matrices(len(first), ranges, rng)
    flips = _flip_matrices(np.concatenate([flipped, flipped[mixed]]), ranges.size)
    used = np.stack([np.ones_like(mosaic), mosaic, mosaic, mosaic], axis=1)
    return Layout(images, used, corners, flips @ matrices, factors, mixed, weights, gains)


def _corners(shapes: Ints, mosaic: NDArray[np.bool_], size: int, rng: np.random.Generator) -> Ints:
    """Place four tiles around a point, or one in the center, on whole pixels as letterboxing does.

    Args:
        shapes: (V, 4, 2) height and width of the tiles: top left, top right, bottom left, bottom right.
    """
    centers = rng.integers(size // 2, size + size // 2, (len(shapes), 2))
    heights, widths = shapes[..., 0], shapes[..., 1]
    lefts = centers[:, :1] - widths * np.array([1, 0, 1, 0])
    tops = centers[:, 1:] - heights * np.array([1, 1, 0, 0])
    around = np.stack([lefts, tops], axis=2)
    middle = (2 * size - shapes[..., ::-1]) // 2
    return np.where(mosaic[:, None, None], around, middle)


def _matrices(count: int, ranges: Ranges, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw perspective, rotation with scale, shear and translation, applied in this order around the canvas center."""
    size = ranges.size
    center, perspective, rotation, shear, translation = (np.tile(np.eye(3), (count, 1, 1)) for _ in range(5))
    center[:, :2, 2] = -size
    perspective[:, 2, :2] = rng.uniform(-1, 1, (count, 2)) * ranges.perspective
    angles = np.deg2rad(rng.uniform(-1, 1, count) * ranges.degrees)
    factors = rng.uniform(*ranges.scale, count)
    rotation[:, 0, 0] = rotation[:, 1, 1] = factors * np.cos(angles)
    rotation[:, 0, 1] = factors * np.sin(angles)
    rotation[:, 1, 0] = -rotation[:, 0, 1]
    slants = np.tan(np.deg2rad(rng.uniform(-1, 1, (count, 2)) * ranges.shear))
    shear[:, 0, 1], shear[:, 1, 0] = slants[:, 0], slants[:, 1]
    translation[:, :2, 2] = (0.5 + rng.uniform(-1, 1, (count, 2)) * ranges.translate) * size
    return translation @ shear @ rotation @ perspective @ center, factors


def _flip_matrices(flipped: NDArray[np.bool_], size: int) -> Floats:
    """Return the matrices (V, 3, 3) of the horizontal and vertical flips."""
    flips = np.tile(np.eye(3), (len(flipped), 1, 1))
    for axis in range(2):
        flips[:, axis, axis] = np.where(flipped[:, axis], -1, 1)
        flips[:, axis, 2] = np.where(flipped[:, axis], size, 0)
    return flips


def batch_boxes(layout: Layout, boxes: BoxTable, size: int) -> tuple[Floats, Floats, Ints]:
    """Return the class ids (n,), corners (n, 4) in pixels, and batch indices (n,), ascending, of all boxes.

    Boxes are clipped to the image, and left out if too little of them remains.
    """
    tiles, rows = _tile_rows(layout, boxes)
    view = tiles // 4
    shift = np.tile(layout.corners.reshape(-1, 2)[tiles], 2)
    placed = np.clip(boxes.rows[rows, 1:] + shift, 0, 2 * size)
    finished = np.clip(_transform_boxes(layout.matrices[view], placed), 0, size)
    keep = _is_kept(placed * layout.factors[view, None], finished)
    place = np.concatenate([np.arange(layout.count), layout.mixed])[view[keep]]
    order = np.argsort(place, kind="stable")  # the loss relies on it: mixed-in boxes come last
    return boxes.rows[rows, 0][keep][order], finished[keep][order], place[order]


def _tile_rows(layout: Layout, boxes: BoxTable) -> tuple[Ints, Ints]:
    """Return the tile number (4 per view) and the row of every box of every used tile."""
    images = layout.images.ravel()
    counts = (boxes.starts[images + 1] - boxes.starts[images]) * layout.used.ravel()
    tiles = np.repeat(np.arange(len(images)), counts)
    nth = np.arange(len(tiles)) - np.repeat(np.cumsum(counts) - counts, counts)
    return tiles, nth + boxes.starts[images][tiles]


def _transform_boxes(matrices: Floats, boxes: Floats) -> Floats:
    """Return the boxes (n, 4) around the corners of boxes that were mapped by matrices (n, 3, 3)."""
    corners = np.stack([boxes[:, [0, 1]], boxes[:, [2, 1]], boxes[:, [2, 3]], boxes[:, [0, 3]]], axis=2)
    moved = matrices @ np.concatenate([corners, np.ones_like(corners[:, :1])], axis=1)
    flat = moved[:, :2] / moved[:, 2:]
    return np.concatenate([flat.min(axis=2), flat.max(axis=2)], axis=1)


def _is_kept(before: Floats, after: Floats) -> NDArray[np.bool_]:
    """Return which boxes are still large enough, in pixels and relative to their original area."""
    wide, high = (after[:, 2:] - after[:, :2]).T
    area = (before[:, 2:] - before[:, :2]).prod(axis=1)
    big = (wide > _MIN_SIDE) & (high > _MIN_SIDE) & (wide * high > _MIN_AREA_RATIO * area)
    slender = np.maximum(wide, high) >= _MAX_ASPECT * np.minimum(wide, high)
    found: NDArray[np.bool_] = big & (area > 0) & ~slender
    return found
