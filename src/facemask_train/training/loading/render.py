"""Render a batch: paste tiles, warp them by a matrix, mix and recolor, in batched torch operations.

A `Layout` describes everything: nothing here is random, and nothing waits for the device. On a GPU with Triton, two
kernels (`kernels.py`) do the same without a canvas.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import grid_sample

from facemask_train.training.loading.mosaic import GRAY, Floats, Ints, Layout

_VALUES = {"cpu": 1 << 21, "cuda": 1 << 26}  # floats per chunk of canvases: a CPU's cache, a GPU's memory
_OUTSIDE = 9.0  # a coordinate far outside of the canvas, which extends from -1 to 1
Tiles = Callable[[Sequence[int]], list[torch.Tensor]]
_log = logging.getLogger(__name__)


def render(layout: Layout, tiles: Tiles, size: int, device: torch.device) -> torch.Tensor:
    """Return the batch's images, uint8 of (B, 3, size, size), on the device.

    Args:
        tiles: returns images by number, uint8 of (3, height, width) on the device.
    """
    kernels = load_kernels(device)
    views = kernels.views(layout, tiles, size, device) if kernels else _views(layout, tiles, size, device)
    batch = views[: layout.count]
    if len(layout.mixed):
        batch = mix(batch, views[layout.count :], layout.mixed, layout.weights)
    if not layout.gains.any():
        return batch
    return kernels.recolor(batch, layout.gains) if kernels else _recolor_in_chunks(batch, layout.gains)


@functools.cache
def load_kernels(device: torch.device) -> Any:
    """Return the module with the Triton kernels, or None on a CPU or where they do not run."""
    if device.type != "cuda":
        return None
    try:
        from facemask_train.training.loading import kernels

        kernels.try_out(device)
    except Exception as error:  # noqa: BLE001 - no Triton, no C compiler, an old GPU: torch operations do the same
        _log.warning("batches are rendered without Triton kernels: %s: %s", type(error).__name__, error)
        return None
    return kernels


def _views(layout: Layout, tiles: Tiles, size: int, device: torch.device) -> torch.Tensor:
    views = torch.empty(len(layout.images), 3, size, size, dtype=torch.uint8, device=device)
    step = _chunk_size(size, device)
    for start in range(0, len(views), step):
        part = slice(start, start + step)
        views[part] = _warp(layout, part, tiles, size, device)
    return views


def _recolor_in_chunks(batch: torch.Tensor, gains: Floats) -> torch.Tensor:
    step = 4 * _chunk_size(batch.shape[-1], batch.device)
    for start in range(0, len(batch), step):
        part = slice(start, start + step)
        batch[part] = recolor(batch[part], gains[part])
    return batch


def _chunk_size(size: int, device: torch.device) -> int:
    return max(1, _VALUES.get(device.type, 1 << 26) // (12 * size * size))


def _warp(layout: Layout, part: slice, tiles: Tiles, size: int, device: torch.device) -> torch.Tensor:
    """Return some of the views as whole numbers in floats: bilinear, gray outside of the canvas."""
    back: Floats = np.linalg.inv(layout.matrices[part]).astype(np.float64)
    flat = not layout.matrices[part, 2, :2].any()
    low, high = (0, 2 * size) if layout.used[part, 1:].any() else (size // 2, size + size // 2)
    left, top, right, bottom = window(back, size, (low, high)) if flat else (low, low, high, high)
    canvas = torch.full((len(back), 3, bottom - top, right - left), GRAY, dtype=torch.uint8, device=device)
    _paste(canvas, layout, part, tiles, (left, top))
    theta = on_device(_normalized(back, size, (left, top, right, bottom)), device)
    grid = _grid(theta, size, flat=flat)
    shifted = canvas - float(GRAY)  # the padding of the sampling is 0
    found = grid_sample(shifted, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.add_(GRAY).round_()


def window(back: Floats, size: int, ends: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of the canvas that is visible in any of the views: left, top, right, bottom in pixels.

    Args:
        back: (V, 3, 3) from the output image to the canvas, without perspective.
        ends: the part of the canvas that has images.
    """
    low, high = ends
    seen = back @ np.array([[0, size, 0, size], [0, 0, size, size], [1, 1, 1, 1]])
    first = np.clip(np.floor(seen[:, :2].min(axis=(0, 2))) - 1, low, high - 1).astype(int)
    last = np.clip(np.ceil(seen[:, :2].max(axis=(0, 2))) + 1, first + 1, high).astype(int)
    return int(first[0]), int(first[1]), int(last[0]), int(last[1])


def _paste(canvas: torch.Tensor, layout: Layout, part: slice, tiles: Tiles, origin: tuple[int, int]) -> None:
    """Copy the visible part of each tile to its canvas."""
    places = np.argwhere(layout.used[part])
    images = layout.images[part][tuple(places.T)]
    corners = layout.corners[part][tuple(places.T)] - np.array(origin)
    height, width = canvas.shape[2:]
    for (view, _), tile, (left, top) in zip(places.tolist(), tiles(images.tolist()), corners.tolist(), strict=True):
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + tile.shape[2], width), min(top + tile.shape[1], height)
        if x1 < x2 and y1 < y2:
            canvas[view, :, y1:y2, x1:x2] = tile[:, y1 - top : y2 - top, x1 - left : x2 - left]


def _normalized(back: Floats, size: int, seen: tuple[int, int, int, int]) -> Floats:
    """Return the matrices (V, 3, 3) in normalized coordinates: -1 to 1 over the image and over the visible part."""
    left, top, right, bottom = seen
    wide, high = right - left, bottom - top
    into = np.array([[2 / wide, 0, -1 - 2 * left / wide], [0, 2 / high, -1 - 2 * top / high], [0, 0, 1]])
    out = np.array([[size / 2, 0, size / 2], [0, size / 2, size / 2], [0, 0, 1]])
    found: Floats = into @ back @ out
    return found


def on_device(numbers: Floats | Ints, device: torch.device) -> torch.Tensor:
    """Copy numbers to the device as float32, without waiting for it."""
    found = torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32))
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found


def _grid(theta: torch.Tensor, size: int, *, flat: bool) -> torch.Tensor:
    """Return the position on the canvas of each pixel of the output images, (V, size, size, 2)."""
    along = (torch.arange(size, device=theta.device, dtype=torch.float32) + 0.5) * (2 / size) - 1

    def row(number: int) -> torch.Tensor:  # no matrix product: a GPU may round the factors of one to 10 bits
        x, y, one = theta[:, number, :, None, None].unbind(1)
        return torch.addcmul(y * along[:, None] + one, x, along)

    grid = torch.stack([row(0), row(1)], dim=-1)
    if flat:
        return grid
    depth = row(2)[..., None]
    return torch.where(depth > 1e-6, grid / depth, _OUTSIDE)  # there is no image behind the horizon


def mix(batch: torch.Tensor, others: torch.Tensor, mixed: Ints, weights: Floats) -> torch.Tensor:
    """Return the batch (B, 3, h, w) with some images blended (mixup), rounded down as in the package.

    Args:
        others: (M, 3, h, w) the images to mix in.
        mixed: (M,) the indices of the images that they are mixed into; `weights` (M,) are the weights of these.
    """
    batch = batch.clone()
    for other, place, weight in zip(others, mixed.tolist(), weights.tolist(), strict=True):
        batch[place] = (batch[place].float() * weight + other.float() * (1 - weight)).to(torch.uint8)
    return batch


def recolor(images: torch.Tensor, gains: Floats) -> torch.Tensor:
    """Return RGB images, uint8 of (V, 3, h, w), with their hue rotated and saturation and value scaled.

    Args:
        gains: (V, 3): the fraction of a turn for the hue; the others are multiplied by 1 plus the gain.
    """
    turn, richer, brighter = on_device(gains, images.device).view(-1, 3, 1, 1).unbind(1)
    colors = images.float()
    red, green, blue = colors.unbind(1)
    value, darkest = colors.amax(1), colors.amin(1)
    spread = (value - darkest).clamp_(min=1e-6)
    hue = torch.where(value == green, (blue - red) / spread + 2, (red - green) / spread + 4)
    hue = torch.where(value == red, (green - blue) / spread, hue).add_(6 * turn)
    brightest = (value * (1 + brighter)).clamp_(max=255)
    depth = (spread / value.clamp(min=1e-6) * (1 + richer)).clamp_(0, 1).mul_(brightest)
    found = torch.empty_like(images)
    for channel, offset in enumerate((5, 3, 1)):
        place = (hue + offset).remainder_(6)
        share = torch.minimum(place, 4 - place).clamp_(0, 1)
        found[:, channel] = torch.addcmul(brightest, depth, share, value=-1).round_()
    return found
