"""The device loader: keeps the training images as bytes on the device and composes batches there.

A batch is a function of the seed, the epoch, its number and the rank. So a resumed run sees the batches of an
uninterrupted one, whether the images are on the device, in the host's memory or on the disk.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.distributed as dist

from facemask_train.core.errors import DataError
from facemask_train.core.parallel import usable_cores
from facemask_train.training.loading.mosaic import (
    BoxTable,
    Ints,
    Ranges,
    batch_boxes,
    batch_generator,
    draw_layout,
    epoch_order,
    ranges_of,
)
from facemask_train.training.loading.render import on_device, render
from facemask_train.training.plan import ImageMemory, choose_memory

_MEMORY_NAMES = {"device": "on the device", "host": "in the host's memory", "disk": "on the disk"}
_READ_AHEAD = 256  # decoded images that wait to be copied
_log = logging.getLogger(__name__)


class ImageStore(Protocol):
    """Images by number, each as RGB bytes of (3, height, width) on the device."""

    def tiles(self, numbers: Sequence[int]) -> list[torch.Tensor]: ...


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """Images in one contiguous tensor, on the device or in the host's memory. The latter are copied when needed."""

    values: torch.Tensor
    starts: Ints
    shapes: Ints
    device: torch.device

    def tiles(self, numbers: Sequence[int]) -> list[torch.Tensor]:
        return [self._view(number).to(self.device, non_blocking=True) for number in numbers]

    def _view(self, number: int) -> torch.Tensor:
        height, width = self.shapes[number].tolist()
        return self.values[self.starts[number] : self.starts[number + 1]].view(3, height, width)


@dataclass(frozen=True, slots=True)
class DiskStore:
    """Images that are read from their files for each batch."""

    dataset: Any
    device: torch.device
    pool: ThreadPoolExecutor

    def tiles(self, numbers: Sequence[int]) -> list[torch.Tensor]:
        return [tile.to(self.device) for tile in self.pool.map(lambda number: decoded(self.dataset, number), numbers)]


class EpochSampler:
    """The images of this process in an epoch. All ranks have equally many, and together they cover every image."""

    def __init__(self, count: int, *, seed: int, rank: int, world: int) -> None:
        self.count, self.seed, self.rank, self.world, self.epoch = count, seed, rank, world, 0
        self.indices = functools.lru_cache(1)(self._indices)

    def __len__(self) -> int:
        return math.ceil(self.count / self.world)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _indices(self, epoch: int) -> Ints:
        order = epoch_order(self.seed, epoch, self.count)
        return np.resize(order, len(self) * self.world)[self.rank :: self.world]  # repeats the first images to fill up


class DeviceLoader:
    """The trainer's training loader. `set_epoch` sets the epoch of the next iteration.

    Args:
        dataset: the package's dataset, for its labels and file names.
        closes_at: the first epoch without mosaic and mixup.
        drop_last: leave out an incomplete last batch, if there is a complete one.
    """

    num_workers = 0

    def __init__(
        self,
        dataset: Any,
        store: ImageStore,
        ranges: Ranges,
        sampler: EpochSampler,
        *,
        device: torch.device,
        batch_size: int,
        closes_at: int,
        drop_last: bool = False,
    ) -> None:
        self.dataset, self.store, self.ranges, self.sampler, self.device = dataset, store, ranges, sampler, device
        self.batch_size = min(batch_size, len(dataset))
        self.closes_at = closes_at
        self.drop_last = drop_last and len(sampler) > self.batch_size and len(sampler) % self.batch_size != 0
        self.shapes = image_shapes(dataset)
        self.boxes = BoxTable.of([pixel_rows(*pair) for pair in zip(dataset.labels, self.shapes, strict=True)])

    def __len__(self) -> int:
        full = len(self.sampler) / self.batch_size
        return math.floor(full) if self.drop_last else math.ceil(full)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the epoch's batches. On a GPU, the next one is made meanwhile in its own thread and stream."""
        epoch = self.sampler.epoch
        if self.device.type != "cuda":
            yield from (self.batch(epoch, number) for number in range(len(self)))
            return
        stream: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(self._prefetch, stream, epoch, 0)
            for number in range(len(self)):
                batch, ready = upcoming.result()
                if number + 1 < len(self):
                    upcoming = pool.submit(self._prefetch, stream, epoch, number + 1)
                yield _hand_over(batch, ready, self.device)

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def reset(self) -> None:
        """Do nothing: the trainer calls this when it closes the mosaic, which follows from the epoch here."""

    def close(self) -> None:
        """Release the images: training is over, or a loader with a smaller batch replaces this one."""
        self.store = DiskStore(without_buffer(self.dataset), self.device, ThreadPoolExecutor(1))

    def batch(self, epoch: int, number: int) -> dict[str, Any]:
        """Return a batch in the trainer's format: images as bytes, boxes as centers and sizes from 0 to 1."""
        sampler = self.sampler
        own = sampler.indices(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        ranges = self.ranges.closed() if epoch >= self.closes_at else self.ranges
        layout = draw_layout(own, self.shapes, ranges, batch_generator(sampler.seed, epoch, number, sampler.rank))
        classes, corners, places = batch_boxes(layout, self.boxes, ranges.size)
        sides = corners[:, 2:] - corners[:, :2]
        return {
            "img": render(layout, self.store.tiles, ranges.size, self.device),
            "cls": on_device(classes[:, None], self.device),
            "bboxes": on_device(np.concatenate([corners[:, :2] + sides / 2, sides], axis=1) / ranges.size, self.device),
            "batch_idx": on_device(places, self.device),
            "im_file": [self.dataset.im_files[image] for image in own.tolist()],
        }

    def _prefetch(self, stream: Any, epoch: int, number: int) -> tuple[dict[str, Any], Any]:
        with torch.cuda.stream(stream):
            batch = self.batch(epoch, number)
            return batch, stream.record_event()


def _hand_over(batch: dict[str, Any], ready: Any, device: torch.device) -> dict[str, Any]:
    """Make the trainer's stream wait for a batch, without blocking the host, and keep its memory until it is used."""
    current = torch.cuda.current_stream(device)
    current.wait_event(ready)
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.record_stream(current)
    return batch


def open_loader(
    dataset: Any,
    args: Any,
    device: torch.device,
    *,
    batch_size: int,
    epochs: int,
    memory: Literal["auto"] | ImageMemory = "auto",
) -> DeviceLoader:
    """Return the training loader, with its images read into memory.

    Args:
        dataset: the package's dataset of the training split.
        args: the trainer's settings.
        batch_size: images per batch of this rank.
        memory: where the images are kept; `auto` chooses the nearest memory with enough space.

    Raises:
        DataError: an image cannot be read.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    shapes = image_shapes(dataset)
    size = 3 * int(shapes.prod(axis=1).sum())
    where = choose_memory(size, *_free_memory(device, world)) if memory == "auto" else memory
    _log.info("%d training images (%.2f GiB) are kept %s", len(shapes), size / 2**30, _MEMORY_NAMES[where])
    pool = ThreadPoolExecutor(max(1, min(args.workers, usable_cores())))
    store = (
        DiskStore(without_buffer(dataset), device, pool)
        if where == "disk"
        else _read(dataset, shapes, device, where, pool)
    )
    sampler = EpochSampler(len(dataset), seed=args.seed, rank=rank, world=world)
    closes_at = epochs - args.close_mosaic if args.close_mosaic else epochs
    return DeviceLoader(
        dataset,
        store,
        ranges_of(vars(args)),
        sampler,
        device=device,
        batch_size=batch_size,
        closes_at=closes_at,
        drop_last=bool(args.compile),
    )


def _free_memory(device: torch.device, world: int) -> tuple[int, int]:
    """Return the free bytes of the device's memory, and this rank's share of the host's."""
    import psutil

    host = int(psutil.virtual_memory().available) // world
    if device.type != "cuda":
        return host, host
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(
        device
    )  # torch caches it and will use it again
    return torch.cuda.mem_get_info(device)[0] + kept, host


def _read(
    dataset: Any, shapes: Ints, device: torch.device, memory: ImageMemory, pool: ThreadPoolExecutor
) -> MemoryStore:
    """Read all images into one tensor."""
    starts = np.concatenate([[0], np.cumsum(3 * shapes.prod(axis=1))])
    pinned = memory == "host" and device.type == "cuda"
    where = device if memory == "device" else torch.device("cpu")
    values = torch.empty(int(starts[-1]), dtype=torch.uint8, device=where, pin_memory=pinned)
    source = without_buffer(dataset)
    for first in range(0, len(shapes), _READ_AHEAD):
        numbers = range(first, min(first + _READ_AHEAD, len(shapes)))
        for number, tile in zip(numbers, pool.map(lambda number: decoded(source, number), numbers), strict=True):
            values[starts[number] : starts[number + 1]] = tile.flatten()
    return MemoryStore(values, starts, shapes, device)


def without_buffer(dataset: Any) -> Any:
    """Return a copy of the dataset that does not buffer images for mosaics."""
    other = copy(dataset)
    other.augment = False
    return other


def decoded(dataset: Any, number: int) -> torch.Tensor:
    """Return an image with its longer side scaled to the training size, as RGB bytes of (3, height, width).

    Raises:
        DataError: the image cannot be read, or does not have the size that the label scan found.
    """
    path = dataset.im_files[number]
    try:
        image, *_ = dataset.load_image(number)
    except FileNotFoundError as error:  # the package also raises this for an image that it cannot decode
        raise DataError(
            f"{path}: cannot be read as an image", next_step="build the ensemble again: fmask build-dataset"
        ) from error
    expected = resized_shape(dataset.labels[number]["shape"], dataset.imgsz)
    if image.shape != (*expected, 3):
        raise DataError(f"{path}: expected a color image of {expected} (height, width), found {image.shape}")
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))


def image_shapes(dataset: Any) -> Ints:
    """Return the height and width of the training images after scaling, (N, 2)."""
    return np.array([resized_shape(label["shape"], dataset.imgsz) for label in dataset.labels], dtype=np.int64)


def resized_shape(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return height and width after scaling the longer side to `size`, rounded as in the package."""
    height, width = int(shape[0]), int(shape[1])
    ratio = size / max(height, width)
    return min(math.ceil(height * ratio), size), min(math.ceil(width * ratio), size)


def pixel_rows(label: Any, shape: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return an image's labels as rows of class id and corners in pixels, (n, 5)."""
    height, width = shape.tolist()
    boxes = np.asarray(label["bboxes"], dtype=np.float64).reshape(-1, 4)
    middles, halves = boxes[:, :2], boxes[:, 2:] / 2
    corners = np.concatenate([middles - halves, middles + halves], axis=1) * [width, height, width, height]
    return np.concatenate([np.asarray(label["cls"], dtype=np.float64).reshape(-1, 1), corners], axis=1)
