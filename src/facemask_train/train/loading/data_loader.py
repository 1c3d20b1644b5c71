"""The device loader: training images kept as bytes on the device, and put together there, a batch at a time.

A batch depends on nothing but the seed, the epoch, its number and the rank, so a resumed run sees what the undisturbed
one would have seen, and the same whether the images lie on the device, in the host's memory or on the disk.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

from facemask_train.core.errors import DataError
from facemask_train.core.parallel import usable_cores
from facemask_train.train.loading.mosaic import (
    Faces,
    Ints,
    Ranges,
    batch_boxes,
    batch_generator,
    draw_layout,
    epoch_order,
    ranges_of,
)
from facemask_train.train.loading.render import on_device, render
from facemask_train.train.plan import Place, placement

_WHERE = {"device": "on the device", "host": "in the host's memory", "disk": "on the disk, and read for each batch"}
_AT_ONCE = 256  # images that wait, decoded, for their place
_log = logging.getLogger(__name__)


class Store(Protocol):
    """Images by number, each as RGB bytes of (3, height, width) on the device."""

    def tiles(self, numbers: Sequence[int]) -> list[torch.Tensor]: ...


@dataclass(frozen=True, slots=True)
class Resident:
    """Images one behind the other in one memory: the device's, or the host's, to be copied over when asked for."""

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
class OnDisk:
    """Images read from their files whenever they are asked for."""

    dataset: Any
    device: torch.device
    pool: ThreadPoolExecutor

    def tiles(self, numbers: Sequence[int]) -> list[torch.Tensor]:
        return [tile.to(self.device) for tile in self.pool.map(lambda number: decoded(self.dataset, number), numbers)]


class Share:
    """Which images this process goes through in an epoch: each rank as many, all of them together every image."""

    def __init__(self, count: int, *, seed: int, rank: int, world: int) -> None:
        self.count, self.seed, self.rank, self.world, self.epoch = count, seed, rank, world, 0
        self.of = functools.lru_cache(1)(self._of)

    def __len__(self) -> int:
        return math.ceil(self.count / self.world)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _of(self, epoch: int) -> Ints:
        order = epoch_order(self.seed, epoch, self.count)
        return np.resize(order, len(self) * self.world)[self.rank :: self.world]  # from the start again, to fill up


class DeviceLoader:
    """What the trainer takes for its training loader. `set_epoch` says which epoch the next iteration is.

    Args:
        dataset: the package's own, for its labels and file names.
        closes_at: the first epoch in which no images are put together any more.
        drop_last: leave out a last batch that is not full, if there is a full one.
    """

    num_workers = 0

    def __init__(
        self,
        dataset: Any,
        store: Store,
        ranges: Ranges,
        share: Share,
        *,
        device: torch.device,
        batch_size: int,
        closes_at: int,
        drop_last: bool = False,
    ) -> None:
        self.dataset, self.store, self.ranges, self.sampler, self.device = dataset, store, ranges, share, device
        self.batch_size = min(batch_size, len(dataset))
        self.closes_at = closes_at
        self.drop_last = drop_last and len(share) > self.batch_size and len(share) % self.batch_size != 0
        self.shapes = image_shapes(dataset)
        self.faces = Faces.of([pixel_rows(*pair) for pair in zip(dataset.labels, self.shapes, strict=True)])

    def __len__(self) -> int:
        full = len(self.sampler) / self.batch_size
        return math.floor(full) if self.drop_last else math.ceil(full)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the epoch's batches; on a GPU the next one is made in a thread and a stream of its own meanwhile."""
        epoch = self.sampler.epoch
        if self.device.type != "cuda":
            yield from (self.batch(epoch, number) for number in range(len(self)))
            return
        stream: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._made_aside, stream, epoch, 0)
            for number in range(len(self)):
                batch, ready = coming.result()
                if number + 1 < len(self):
                    coming = ahead.submit(self._made_aside, stream, epoch, number + 1)
                yield _taken_over(batch, ready, self.device)

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def reset(self) -> None:
        """Do nothing: the trainer calls this when it closes the mosaic, which the epoch's number says already."""

    def close(self) -> None:
        """Let go of the images: training is over, or a smaller loader takes this one's place."""
        self.store = OnDisk(quiet(self.dataset), self.device, ThreadPoolExecutor(1))

    def batch(self, epoch: int, number: int) -> dict[str, Any]:
        """Return a batch as the trainer wants it: bytes for the images, boxes as centres and sides from 0 to 1."""
        share = self.sampler
        own = share.of(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        ranges = self.ranges.closed() if epoch >= self.closes_at else self.ranges
        layout = draw_layout(own, self.shapes, ranges, batch_generator(share.seed, epoch, number, share.rank))
        classes, corners, places = batch_boxes(layout, self.faces, ranges.size)
        sides = corners[:, 2:] - corners[:, :2]
        return {
            "img": render(layout, self.store.tiles, ranges.size, self.device),
            "cls": on_device(classes[:, None], self.device),
            "bboxes": on_device(np.concatenate([corners[:, :2] + sides / 2, sides], axis=1) / ranges.size, self.device),
            "batch_idx": on_device(places, self.device),
            "im_file": [self.dataset.im_files[image] for image in own.tolist()],
        }

    def _made_aside(self, stream: Any, epoch: int, number: int) -> tuple[dict[str, Any], Any]:
        with torch.cuda.stream(stream):
            batch = self.batch(epoch, number)
            return batch, stream.record_event()


def _taken_over(batch: dict[str, Any], ready: Any, device: torch.device) -> dict[str, Any]:
    """Let the trainer's stream wait for a batch (the host does not), and keep its memory until that is done with it."""
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
    place: Place | None = None,
) -> DeviceLoader:
    """Return the loader of a training, its images read into the nearest memory that holds them.

    Args:
        dataset: the package's own, of the training split.
        args: the trainer's settings.
        batch_size: of this rank.
        place: where the images are to lie; found out where it is None.

    Raises:
        DataError: an image cannot be read.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    shapes = image_shapes(dataset)
    size = 3 * int(shapes.prod(axis=1).sum())
    place = place or placement(size, *_free(device, world))
    _log.info("%d training images (%.2f GiB) are kept %s", len(shapes), size / 2**30, _WHERE[place])
    pool = ThreadPoolExecutor(max(1, min(args.workers, usable_cores())))
    store = OnDisk(quiet(dataset), device, pool) if place == "disk" else _read(dataset, shapes, device, place, pool)
    share = Share(len(dataset), seed=args.seed, rank=rank, world=world)
    closes_at = epochs - args.close_mosaic if args.close_mosaic else epochs
    return DeviceLoader(
        dataset,
        store,
        ranges_of(vars(args)),
        share,
        device=device,
        batch_size=batch_size,
        closes_at=closes_at,
        drop_last=bool(args.compile),
    )


def _free(device: torch.device, world: int) -> tuple[int, int]:
    """Return the free memory of the device and this rank's share of the host's, in bytes."""
    import psutil

    host = int(psutil.virtual_memory().available) // world
    if device.type != "cuda":
        return host, host
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, to be used again
    return torch.cuda.mem_get_info(device)[0] + kept, host


def _read(dataset: Any, shapes: Ints, device: torch.device, place: Place, pool: ThreadPoolExecutor) -> Resident:
    """Return all images in one memory."""
    starts = np.concatenate([[0], np.cumsum(3 * shapes.prod(axis=1))])
    pinned = place == "host" and device.type == "cuda"
    where = device if place == "device" else torch.device("cpu")
    values = torch.empty(int(starts[-1]), dtype=torch.uint8, device=where, pin_memory=pinned)
    source = quiet(dataset)
    for first in range(0, len(shapes), _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, len(shapes)))
        for number, tile in zip(numbers, pool.map(lambda number: decoded(source, number), numbers), strict=True):
            values[starts[number] : starts[number + 1]] = tile.flatten()
    return Resident(values, starts, shapes, device)


def quiet(dataset: Any) -> Any:
    """Return the dataset without its memory of the images read last: the loader has its own."""
    other = copy(dataset)
    other.augment = False
    return other


def decoded(dataset: Any, number: int) -> torch.Tensor:
    """Return an image, its longer side as the training wants it, as RGB bytes of (3, height, width).

    Raises:
        DataError: it cannot be read, or is not of the size that the labels' scan found.
    """
    path = dataset.im_files[number]
    try:
        image, *_ = dataset.load_image(number)
    except FileNotFoundError as error:  # what the package raises for an image that it cannot decode, too
        raise DataError(
            f"{path}: cannot be read as an image", next_step="build the ensemble again: fmask build-dataset"
        ) from error
    expected = resized_shape(dataset.labels[number]["shape"], dataset.imgsz)
    if image.shape != (*expected, 3):
        raise DataError(f"{path}: expected an image of {expected} (height, width) in colour, found {image.shape}")
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))


def image_shapes(dataset: Any) -> Ints:
    """Return (N, 2): height and width of the training's images as they are read."""
    return np.array([resized_shape(label["shape"], dataset.imgsz) for label in dataset.labels], dtype=np.int64)


def resized_shape(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return height and width with the longer side of `size`, rounded as the package does."""
    height, width = int(shape[0]), int(shape[1])
    ratio = size / max(height, width)
    return min(math.ceil(height * ratio), size), min(math.ceil(width * ratio), size)


def pixel_rows(label: Any, shape: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return an image's labels as rows of class and corners in pixels."""
    height, width = shape.tolist()
    boxes = np.asarray(label["bboxes"], dtype=np.float64).reshape(-1, 4)
    middles, halves = boxes[:, :2], boxes[:, 2:] / 2
    corners = np.concatenate([middles - halves, middles + halves], axis=1) * [width, height, width, height]
    return np.concatenate([np.asarray(label["cls"], dtype=np.float64).reshape(-1, 1), corners], axis=1)
