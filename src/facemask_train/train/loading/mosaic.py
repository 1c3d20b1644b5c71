"""Where each image of a batch goes, and its boxes with it: numbers drawn from a seed. Knows neither pixels nor torch.

Images lie on a canvas of twice the batch's image size, four around a point (mosaic) or one in the middle; a matrix
takes the canvas to the finished image. Coordinates are those of pixels' edges: pixel 0 reaches from 0 to 1.
The distributions are those of the `ultralytics` package's own augmentation, hyper-parameter by hyper-parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
GREY = 114  # what is where no image is
_LEAST_SIDE, _LEAST_SHARE, _LARGEST_ASPECT = 2, 0.1, 100  # pixels, share of the area: what is left of a box that stays


@dataclass(frozen=True, slots=True)
class Ranges:
    """How far images are changed. `scale` holds the smallest and the largest factor, `hsv` the three gains."""

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
        """Return what holds for the last epochs: no images are put together any more."""
        return replace(self, mosaic=0.0, mixup=0.0)


def ranges_of(args: Mapping[str, Any]) -> Ranges:
    """Return the ranges that the trainer's settings ask for."""
    alike = ("mosaic", "mixup", "degrees", "translate", "shear", "perspective", "fliplr", "flipud")
    gain = args["scale"]
    low, high = gain if isinstance(gain, (list, tuple)) else (1 - gain, 1 + gain)
    return Ranges(
        int(args["imgsz"]),
        scale=(float(low), float(high)),
        hsv=(float(args["hsv_h"]), float(args["hsv_s"]), float(args["hsv_v"])),
        **{key: float(args[key]) for key in alike},
    )


@dataclass(frozen=True, slots=True)
class Faces:
    """All labels: rows (K, 5) of class and corners in pixels; those of image i are `starts[i]` to `starts[i + 1]`."""

    rows: Floats
    starts: Ints

    @classmethod
    def of(cls, tables: Sequence[Floats]) -> Faces:
        """Return the labels of images, each an array (n, 5)."""
        counts = np.array([len(table) for table in tables], dtype=np.int64)
        rows = np.concatenate([np.zeros((0, 5)), *tables])
        return cls(rows, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Layout:
    """What a batch of B images is made of: V views, the first B of which are its own, the rest to be mixed in.

    Attributes:
        images: (V, 4) which image each tile shows, those of the first column being the batch's own.
        used: (V, 4) whether the tile is there at all.
        corners: (V, 4, 2) where a tile's left upper corner lies on the canvas, in whole pixels.
        matrices: (V, 3, 3) from the canvas to the finished image, mirroring included.
        factors: (V,) by how much the matrix enlarges.
        mixed: (V - B,) the image of the batch that each further view is mixed into.
        weights: (V - B,) what share of the mixture that image keeps.
        gains: (B, 3) of hue (in turns), saturation and value; 0 leaves them as they are.
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
    """Return the order in which an epoch goes through `count` images."""
    return np.random.default_rng([1, seed, epoch]).permutation(count)


def batch_generator(seed: int, epoch: int, number: int, rank: int) -> np.random.Generator:
    """Return the generator of one batch, independent of every other's and of all global ones."""
    return np.random.default_rng([2, seed, epoch, number, rank])


def draw_layout(own: Ints, shapes: Ints, ranges: Ranges, rng: np.random.Generator) -> Layout:
    """Draw how a batch is put together.

    Args:
        own: (B,) the images of the batch.
        shapes: (N, 2) height and width of every image that can be part of a mosaic.
    """
    count = len(own)
    mixed = np.flatnonzero(rng.random(count) < ranges.mixup)
    weights = rng.beta(32.0, 32.0, len(mixed))
    mirrored = np.stack([rng.random(count) < ranges.fliplr, rng.random(count) < ranges.flipud], axis=1)
    gains = rng.uniform(-1, 1, (count, 3)) * ranges.hsv
    first = np.concatenate([own, rng.integers(0, len(shapes), len(mixed))])
    images = np.column_stack([first, rng.integers(0, len(shapes), (len(first), 3))])
    mosaic = rng.random(len(first)) < ranges.mosaic
    corners = _corners(shapes[images], mosaic, ranges.size, rng)
    matrices, factors = _matrices(len(first), ranges, rng)
    mirrors = _mirrors(np.concatenate([mirrored, mirrored[mixed]]), ranges.size)
    used = np.stack([np.ones_like(mosaic), mosaic, mosaic, mosaic], axis=1)
    return Layout(images, used, corners, mirrors @ matrices, factors, mixed, weights, gains)


def _corners(shapes: Ints, mosaic: NDArray[np.bool_], size: int, rng: np.random.Generator) -> Ints:
    """Place four tiles around a point, or the first one in the middle, on whole pixels as letterboxing does.

    Args:
        shapes: (V, 4, 2) height and width of the tiles: left upper, right upper, left lower, right lower.
    """
    centres = rng.integers(size // 2, size + size // 2, (len(shapes), 2))
    heights, widths = shapes[..., 0], shapes[..., 1]
    lefts = centres[:, :1] - widths * np.array([1, 0, 1, 0])
    tops = centres[:, 1:] - heights * np.array([1, 1, 0, 0])
    around = np.stack([lefts, tops], axis=2)
    middle = (2 * size - shapes[..., ::-1]) // 2
    return np.where(mosaic[:, None, None], around, middle)


def _matrices(count: int, ranges: Ranges, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw perspective, rotation with scale, shear and translation, applied in this order about the canvas' middle."""
    size = ranges.size
    centre, perspective, rotation, shear, translation = (np.tile(np.eye(3), (count, 1, 1)) for _ in range(5))
    centre[:, :2, 2] = -size
    perspective[:, 2, :2] = rng.uniform(-1, 1, (count, 2)) * ranges.perspective
    angles = np.deg2rad(rng.uniform(-1, 1, count) * ranges.degrees)
    factors = rng.uniform(*ranges.scale, count)
    rotation[:, 0, 0] = rotation[:, 1, 1] = factors * np.cos(angles)
    rotation[:, 0, 1] = factors * np.sin(angles)
    rotation[:, 1, 0] = -rotation[:, 0, 1]
    slants = np.tan(np.deg2rad(rng.uniform(-1, 1, (count, 2)) * ranges.shear))
    shear[:, 0, 1], shear[:, 1, 0] = slants[:, 0], slants[:, 1]
    translation[:, :2, 2] = (0.5 + rng.uniform(-1, 1, (count, 2)) * ranges.translate) * size
    return translation @ shear @ rotation @ perspective @ centre, factors


def _mirrors(mirrored: NDArray[np.bool_], size: int) -> Floats:
    """Return the matrices (V, 3, 3) that mirror left to right and top to bottom where asked to."""
    mirrors = np.tile(np.eye(3), (len(mirrored), 1, 1))
    for axis in range(2):
        mirrors[:, axis, axis] = np.where(mirrored[:, axis], -1, 1)
        mirrors[:, axis, 2] = np.where(mirrored[:, axis], size, 0)
    return mirrors


def batch_boxes(layout: Layout, faces: Faces, size: int) -> tuple[Floats, Floats, Ints]:
    """Return the classes (n,), corners (n, 4) in pixels, and places in the batch (n,), ascending, of all boxes.

    What of a box is outside the image is cut off, and a box of which too little is left is left out.
    """
    tiles, rows = _tile_rows(layout, faces)
    view = tiles // 4
    shift = np.tile(layout.corners.reshape(-1, 2)[tiles], 2)
    placed = np.clip(faces.rows[rows, 1:] + shift, 0, 2 * size)
    finished = np.clip(_through(layout.matrices[view], placed), 0, size)
    keep = _stays(placed * layout.factors[view, None], finished)
    place = np.concatenate([np.arange(layout.count), layout.mixed])[view[keep]]
    order = np.argsort(place, kind="stable")  # the loss counts on it: what is mixed in comes behind
    return faces.rows[rows, 0][keep][order], finished[keep][order], place[order]


def _tile_rows(layout: Layout, faces: Faces) -> tuple[Ints, Ints]:
    """Return for every label of every tile that is used the tile's number (4 to a view) and the label's row."""
    images = layout.images.ravel()
    counts = (faces.starts[images + 1] - faces.starts[images]) * layout.used.ravel()
    tiles = np.repeat(np.arange(len(images)), counts)
    nth = np.arange(len(tiles)) - np.repeat(np.cumsum(counts) - counts, counts)
    return tiles, nth + faces.starts[images][tiles]


def _through(matrices: Floats, boxes: Floats) -> Floats:
    """Return the boxes (n, 4) around the boxes' corners behind their matrices (n, 3, 3)."""
    corners = np.stack([boxes[:, [0, 1]], boxes[:, [2, 1]], boxes[:, [2, 3]], boxes[:, [0, 3]]], axis=2)
    moved = matrices @ np.concatenate([corners, np.ones_like(corners[:, :1])], axis=1)
    flat = moved[:, :2] / moved[:, 2:]
    return np.concatenate([flat.min(axis=2), flat.max(axis=2)], axis=1)


def _stays(before: Floats, after: Floats) -> NDArray[np.bool_]:
    """Say which boxes are still large enough, in pixels and of their own area, to be learnt from."""
    wide, high = (after[:, 2:] - after[:, :2]).T
    area = (before[:, 2:] - before[:, :2]).prod(axis=1)
    big = (wide > _LEAST_SIDE) & (high > _LEAST_SIDE) & (wide * high > _LEAST_SHARE * area)
    slender = np.maximum(wide, high) >= _LARGEST_ASPECT * np.minimum(wide, high)
    found: NDArray[np.bool_] = big & (area > 0) & ~slender
    return found
