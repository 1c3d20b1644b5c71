"""The labels and detections of many images as arrays, and the overlaps between them.

Arrays make matching and resampling fast. Independent of any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES, Corners, ImageResult

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MIN_OVERLAP = 0.1
"""Below this IoU a detection and a label have nothing to do with each other (the threshold of TIDE)."""

_ROUNDING = 1e-10  # an IoU counts as equal to a threshold within this error, as in pycocotools


@dataclass(frozen=True, eq=False, slots=True)
class Boxes:
    """The labels, or the detections, of all images. Rows are sorted by `image`.

    Attributes:
        image: (n,) int64, the index of the image.
        class_id: (n,) int64, an index into `CLASSES`.
        corners: (n, 4) float64, in pixels: x_min, y_min, x_max, y_max.
        confidence: (n,) float64; 1 for labels.
    """

    image: Array
    class_id: Array
    corners: Array
    confidence: Array

    def __len__(self) -> int:
        return len(self.image)

    @property
    def area(self) -> Array:
        """(n,) areas in square pixels."""
        x_min, y_min, x_max, y_max = self.corners.T
        area: Array = (x_max - x_min) * (y_max - y_min)
        return area


@dataclass(frozen=True, eq=False, slots=True)
class BoxesTable:
    """All boxes of a scored split."""

    image_count: int
    labels: Boxes
    detections: Boxes


@dataclass(frozen=True, eq=False, slots=True)
class Overlaps:
    """Pairs of a detection and a label in the same image: (n,) indices of both, and (n,) their IoU."""

    detection: Array
    label: Array
    iou: Array

    def where(self, mask: Array) -> Overlaps:
        """Return the pairs for which `mask` (n,) is true."""
        return Overlaps(self.detection[mask], self.label[mask], self.iou[mask])


def boxes_table(images: Sequence[ImageResult]) -> BoxesTable:
    """Return scored images as arrays. The order of labels and detections within an image stays."""
    labels = [
        (index, CLASSES.index(label.name), label.box.corners, 1.0)
        for index, image in enumerate(images)
        for label in image.labels
    ]
    detections = [
        (index, CLASSES.index(one.name), one.corners, one.confidence)
        for index, image in enumerate(images)
        for one in image.detections
    ]
    return BoxesTable(len(images), boxes_from_rows(labels), boxes_from_rows(detections))


def boxes_from_rows(rows: Sequence[tuple[int, int, Corners, float]]) -> Boxes:
    """Return rows of (image, class id, corners, confidence), sorted by image, as arrays."""
    import numpy as np

    images, class_ids, corners, confidences = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Boxes(
        np.array(images, np.int64),
        np.array(class_ids, np.int64),
        np.array(corners, np.float64).reshape(-1, 4),
        np.array(confidences, np.float64),
    )


def overlaps(table: BoxesTable, min_iou: float = MIN_OVERLAP) -> Overlaps:
    """Return every pair of a detection and a label of the same image with an IoU of at least `min_iou`."""
    import numpy as np

    labels_per_image = np.bincount(table.labels.image, minlength=table.image_count)
    first_label = np.concatenate([[0], np.cumsum(labels_per_image)])[:-1]
    candidates = labels_per_image[table.detections.image]
    detection = np.repeat(np.arange(len(table.detections)), candidates)
    within = np.arange(len(detection)) - np.repeat(np.cumsum(candidates) - candidates, candidates)
    label = first_label[table.detections.image[detection]] + within
    shared = iou(table.detections.corners[detection], table.labels.corners[label])
    return Overlaps(detection, label, shared).where(shared >= min_iou - _ROUNDING)


def iou(first: Array, second: Array) -> Array:
    """Return the intersection over union of two sets of (n, 4) boxes, row by row: (n,), 0 where a box is empty."""
    import numpy as np

    width = np.minimum(first[:, 2], second[:, 2]) - np.maximum(first[:, 0], second[:, 0])
    height = np.minimum(first[:, 3], second[:, 3]) - np.maximum(first[:, 1], second[:, 1])
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (first, second)]
    union = np.maximum(areas[0] + areas[1] - intersection, 1e-300)
    ratio: Array = np.where(intersection > 0, intersection / union, 0.0)
    return ratio
