"""Render a batch on a GPU with two Triton kernels: as `render` does in torch operations, but without a canvas.

Each output pixel finds its tile and the four source pixels there, so that only the tiles are read and only the image
is written. Triton comes with torch where there is CUDA; its interpreter runs them on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from facemask_train.training.loading.mosaic import GRAY, Floats, Layout, Ranges, batch_generator, draw_layout

_BLOCK = 1024


def try_out(device: torch.device) -> None:
    """Run both kernels once, on an image of 32 pixels. Raises whatever keeps them from running here."""
    image = torch.zeros(3, 32, 32, dtype=torch.uint8, device=device)
    layout = draw_layout(np.zeros(1, np.int64), np.full((1, 2), 32), Ranges(32), batch_generator(0, 0, 0, 0))
    recolor(views(layout, lambda numbers: [image] * len(numbers), 32, device), layout.gains)


def views(
    layout: Layout, tiles: Callable[[Sequence[int]], list[torch.Tensor]], size: int, device: torch.device
) -> torch.Tensor:
    """Return the layout's views, uint8 of (V, 3, size, size), bilinear, with gray outside of images."""
    count = len(layout.images)
    found = torch.empty(count, 3, size, size, dtype=torch.uint8, device=device)
    seen = tiles(layout.images[layout.used].tolist())  # keeps them alive until the kernel has started
    numbers = np.zeros((count, 4, 5), dtype=np.int64)  # unused tiles have no width
    numbers[layout.used] = [
        (tile.data_ptr(), left, top, tile.shape[2], tile.shape[1])
        for tile, (left, top) in zip(seen, layout.corners[layout.used].tolist(), strict=True)
    ]
    back = np.linalg.inv(layout.matrices).astype(np.float32)
    grid = (triton.cdiv(size * size, _BLOCK), count)
    _view[grid](copy_to_device(numbers, device), copy_to_device(back, device), found, size, gray=GRAY, block=_BLOCK)
    return found


def recolor(images: torch.Tensor, gains: Floats) -> torch.Tensor:
    """Change RGB images, contiguous uint8 of (B, 3, h, w), in place as `render.recolor` does, and return them."""
    area = images.shape[2] * images.shape[3]
    grid = (triton.cdiv(area, _BLOCK), len(images))
    _recolor[grid](images, copy_to_device(gains.astype(np.float32), images.device), area, block=_BLOCK)
    return images


def copy_to_device(numbers: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy numbers to the device without changing their type or waiting for a GPU."""
    found = torch.from_numpy(np.ascontiguousarray(numbers))
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found


@triton.jit
def _whole(value):
    """Round to the nearest integer, halves to even: float32 has only integers beyond 2^23."""
    return (value + 12582912.0) - 12582912.0


@triton.jit
def _view(numbers, back, found, size, gray: tl.constexpr, block: tl.constexpr):
    view = tl.program_id(1)
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < size * size
    x = (place % size).to(tl.float32) + 0.5
    y = (place // size).to(tl.float32) + 0.5
    matrix = back + view * 9
    depth = tl.load(matrix + 6) * x + tl.load(matrix + 7) * y + tl.load(matrix + 8)
    ahead = depth > 1e-6  # there is no image behind the horizon
    depth = tl.where(ahead, depth, 1.0)
    across = (tl.load(matrix) * x + tl.load(matrix + 1) * y + tl.load(matrix + 2)) / depth - 0.5
    down = (tl.load(matrix + 3) * x + tl.load(matrix + 4) * y + tl.load(matrix + 5)) / depth - 0.5
    across = tl.where(ahead, tl.clamp(across, -2.0, 2.0 * size + 1), -2.0)  # outside is outside, however far
    down = tl.where(ahead, tl.clamp(down, -2.0, 2.0 * size + 1), -2.0)
    left, top = tl.floor(across), tl.floor(down)
    red = tl.zeros([block], tl.float32)
    green = tl.zeros([block], tl.float32)
    blue = tl.zeros([block], tl.float32)
    for corner in tl.static_range(4):
        column = left.to(tl.int32) + corner % 2
        row = top.to(tl.int32) + corner // 2
        beside = across - left if corner % 2 else 1.0 - (across - left)
        below = down - top if corner // 2 else 1.0 - (down - top)
        start = tl.zeros([block], tl.int64)
        plane = tl.zeros([block], tl.int64)
        there = tl.zeros([block], tl.int1)
        for tile in tl.static_range(4):
            one = numbers + (view * 4 + tile) * 5
            wide, high = tl.load(one + 3), tl.load(one + 4)
            i, j = column - tl.load(one + 1), row - tl.load(one + 2)
            hit = (i >= 0) & (i < wide) & (j >= 0) & (j < high)
            start = tl.where(hit, tl.load(one) + j * wide + i, start)
            plane = tl.where(hit, wide * high, plane)
            there = there | hit
        there = there & inside & (column >= 0) & (column < 2 * size) & (row >= 0) & (row < 2 * size)
        pixel = start.to(tl.pointer_type(tl.uint8))
        weight = beside * below
        red += weight * (tl.load(pixel, mask=there, other=gray).to(tl.float32) - gray)
        green += weight * (tl.load(pixel + plane, mask=there, other=gray).to(tl.float32) - gray)
        blue += weight * (tl.load(pixel + 2 * plane, mask=there, other=gray).to(tl.float32) - gray)
    target = found + view.to(tl.int64) * 3 * size * size + place
    tl.store(target, _whole(red + gray).to(tl.uint8), mask=inside)
    tl.store(target + size * size, _whole(green + gray).to(tl.uint8), mask=inside)
    tl.store(target + 2 * size * size, _whole(blue + gray).to(tl.uint8), mask=inside)


@triton.jit
def _recolor(images, gains, area, block: tl.constexpr):
    image = tl.program_id(1)
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < area
    pixel = images + image.to(tl.int64) * 3 * area + place
    turn = tl.load(gains + image * 3)
    richer = tl.load(gains + image * 3 + 1)
    brighter = tl.load(gains + image * 3 + 2)
    red = tl.load(pixel, mask=inside, other=0).to(tl.float32)
    green = tl.load(pixel + area, mask=inside, other=0).to(tl.float32)
    blue = tl.load(pixel + 2 * area, mask=inside, other=0).to(tl.float32)
    value = tl.maximum(tl.maximum(red, green), blue)
    spread = tl.maximum(value - tl.minimum(tl.minimum(red, green), blue), 1e-6)
    hue = tl.where(value == green, (blue - red) / spread + 2, (red - green) / spread + 4)
    hue = tl.where(value == red, (green - blue) / spread, hue) + 6 * turn
    brightest = tl.minimum(value * (1 + brighter), 255.0)
    depth = tl.clamp(spread / tl.maximum(value, 1e-6) * (1 + richer), 0.0, 1.0) * brightest
    for channel in tl.static_range(3):
        sector = hue + (5 - 2 * channel)
        sector = sector - 6 * tl.floor(sector / 6)
        share = tl.clamp(tl.minimum(sector, 4 - sector), 0.0, 1.0)
        tl.store(pixel + channel * area, _whole(brightest - depth * share).to(tl.uint8), mask=inside)
