"""Labels and detections of many images as flat arrays, and which of them overlap. Knows pixels and ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES, ImageResult

if TYPE_CHECKING:
    from facemask_train.core.types import Array

LEAST_OVERLAP = 0.1
"""The overlap (IoU) from which a detection has something to do with a label (as in TIDE)."""


@dataclass(frozen=True, eq=False, slots=True)
class Faces:
    """Labels, or detections, of all images: rows sorted by `image`, an index into the images.

    `image` and `name` (an index into `CLASSES`) are (n,) int64, `box` is (n, 4) float64: corners in pixels.
    `confidence` is (n,) float64, all 1 for labels.
    """

    image: Array
    name: Array
    box: Array
    confidence: Array

    def __len__(self) -> int:
        return len(self.image)

    @property
    def area(self) -> Array:
        """(n,) areas in square pixels."""
        area: Array = (self.box[:, 2] - self.box[:, 0]) * (self.box[:, 3] - self.box[:, 1])
        return area


@dataclass(frozen=True, eq=False, slots=True)
class Flat:
    """All that a scored split holds: how many `images`, their labels and their detections."""

    images: int
    labels: Faces
    found: Faces


@dataclass(frozen=True, eq=False, slots=True)
class Overlaps:
    """Every detection and label of one image that overlap: (n,) indices of both, and (n,) their IoU."""

    found: Array
    label: Array
    iou: Array

    def where(self, chosen: Array) -> Overlaps:
        """Return those for which `chosen` (n,) is true."""
        return Overlaps(self.found[chosen], self.label[chosen], self.iou[chosen])


def flatten(images: Sequence[ImageResult]) -> Flat:
    """Return images as arrays. Within an image the order of labels and detections stays."""
    labels = [(i, CLASSES.index(one.name), one.box.corners, 1.0) for i, p in enumerate(images) for one in p.labels]
    found = [
        (i, CLASSES.index(one.name), one.corners, one.confidence) for i, p in enumerate(images) for one in p.detections
    ]
    return Flat(len(images), faces(labels), faces(found))


def faces(rows: Sequence[tuple[int, int, tuple[float, float, float, float], float]]) -> Faces:
    """Return rows (image, class id, corners, confidence), sorted by image, as arrays."""
    import numpy as np

    images, names, boxes, confidences = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Faces(
        np.array(images, np.int64),
        np.array(names, np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(confidences, np.float64),
    )


def overlaps(flat: Flat, least: float = LEAST_OVERLAP) -> Overlaps:
    """Return every pair of a detection and a label in the same image with an IoU of `least` or more.

    An IoU counts as `least` from one rounding error below on, as in pycocotools.
    """
    import numpy as np

    per_image = np.bincount(flat.labels.image, minlength=flat.images)
    first = np.concatenate([[0], np.cumsum(per_image)])[:-1]
    many = per_image[flat.found.image]
    found = np.repeat(np.arange(len(flat.found)), many)
    within = np.arange(len(found)) - np.repeat(np.cumsum(many) - many, many)
    label = first[flat.found.image[found]] + within
    shared = iou(flat.found.box[found], flat.labels.box[label])
    return Overlaps(found, label, shared).where(shared >= least - 1e-10)


def iou(one: Array, other: Array) -> Array:
    """Return the intersection over union of (n, 4) boxes with (n, 4) others, 0 where either is empty: (n,)."""
    import numpy as np

    width = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
    height = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    both = np.maximum(width, 0) * np.maximum(height, 0)
    areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (one, other)]
    shared: Array = np.where(both > 0, both / np.maximum(areas[0] + areas[1] - both, 1e-300), 0.0)
    return shared
