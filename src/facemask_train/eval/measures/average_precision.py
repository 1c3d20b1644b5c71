"""Average precision as COCO defines it and as the `ultralytics` validator does, for one sample and for resamples.

Both match in the same way: class by class, the most confident detection first; each detection takes the free label
that it overlaps most. They integrate the precision-recall curve differently, after making precision non-increasing:

- COCO (`pycocotools`; the headline number here) averages the precision at the 101 recalls 0, 0.01, ..., 1. The
  precision at a recall is that of the first detection that reaches it, and 0 above the highest recall reached.
- The validator starts at precision 1 for recall 0, connects the detections with straight lines, and applies the
  trapezoid rule over the same 101 recalls. On few faces the two differ by several points, in either direction.

No source has COCO's crowd regions (`iscrowd`), so they are not implemented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from facemask_train.eval.measures.boxes_table import BoxesTable, Overlaps

if TYPE_CHECKING:
    from facemask_train.core.types import Array

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The IoU thresholds that mAP 0.5:0.95 averages over."""

_RECALLS = 101
_RESAMPLES_PER_CHUNK = 64  # resamples that are computed together, so that they fit the processor's cache
_AT_GRID = 1e-4  # hundredths: a recall is on a point of the grid, whatever the error of 32 bits
_ROUNDING = 1e-10  # an IoU counts as equal to a threshold within this error, as in pycocotools


@dataclass(frozen=True, eq=False, slots=True)
class RankedDetections:
    """The detections of one class, the most confident first.

    Attributes:
        index: (n,) row of each detection in the table.
        image: (n,) its image.
        confidence: (n,) its confidence.
        true_positive: (t, n) whether it matches a label at each of t IoU thresholds.
        labels: (images,) the number of labels of the class in each image.
    """

    index: Array
    image: Array
    confidence: Array
    true_positive: Array
    labels: Array


def match_detections(table: BoxesTable, pairs: Overlaps, ious: tuple[float, ...] = IOUS) -> Array:
    """Match detections with labels of their own class.

    Args:
        pairs: at least every pair whose IoU reaches the lowest of `ious`.

    Returns:
        (t, detections) int64: the label that each detection matches at each IoU threshold, or -1.
    """
    import numpy as np

    same_class = table.detections.class_id[pairs.detection] == table.labels.class_id[pairs.label]
    pairs = pairs.where(same_class & (pairs.iou >= min(ious) - _ROUNDING))
    thresholds = np.array(ious)[:, None] - _ROUNDING
    matches = np.full((len(ious), len(table.detections)), -1, np.int64)
    free = np.ones((len(ious), len(table.labels)), bool)
    for chosen in _rounds(table, pairs):
        detection, label, shared = pairs.detection[chosen], pairs.label[chosen], pairs.iou[chosen]
        starts = np.flatnonzero(np.r_[True, detection[1:] != detection[:-1]])
        possible = free[:, label] & (shared >= thresholds)
        # The pairs of a detection are sorted by IoU, so the last possible one is the best.
        best = np.maximum.reduceat(np.where(possible, np.arange(len(detection)), -1), starts, axis=1)
        row, column = np.nonzero(best >= 0)
        taken = label[best[row, column]]
        matches[row, detection[starts][column]] = taken
        free[row, taken] = False
    return matches


def _rounds(table: BoxesTable, pairs: Overlaps) -> Iterator[Array]:
    """Yield indices of pairs: first those of the most confident detection of each image and class, then the next."""
    import numpy as np

    if not len(pairs.detection):
        return
    boxes = table.detections
    detection = np.unique(pairs.detection)
    order = np.lexsort((detection, -boxes.confidence[detection], boxes.class_id[detection], boxes.image[detection]))
    ordered = detection[order]
    group = boxes.image[ordered] * (1 + boxes.class_id.max()) + boxes.class_id[ordered]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    rank = np.empty(len(boxes), np.int64)
    rank[ordered] = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    by_rank = np.lexsort((pairs.label, pairs.iou, pairs.detection, rank[pairs.detection]))
    yield from np.split(by_rank, np.flatnonzero(np.diff(rank[pairs.detection[by_rank]])) + 1)


def rank_detections(table: BoxesTable, matches: Array, class_id: int) -> RankedDetections:
    """Return the detections of one class by confidence; ties keep the order of the images, as in pycocotools."""
    import numpy as np

    boxes = table.detections
    of_class = np.flatnonzero(boxes.class_id == class_id)
    index = of_class[np.lexsort((of_class, -boxes.confidence[of_class]))]
    labels = np.bincount(table.labels.image[table.labels.class_id == class_id], minlength=table.image_count)
    return RankedDetections(index, boxes.image[index], boxes.confidence[index], matches[:, index] >= 0, labels)


def average_precision(ranked: RankedDetections, *, rule: Literal["coco", "validator"] = "coco") -> Array | None:
    """Return the average precision at each IoU threshold: (t,), 0 to 1; None if the class has no label."""
    import numpy as np

    labels = int(ranked.labels.sum())
    if not labels:
        return None
    area = _coco_area if rule == "coco" else _validator_area
    rank = np.arange(1, len(ranked.index) + 1)
    hits = ranked.true_positive.cumsum(axis=1)
    return np.array([area(row / labels, row / rank) if len(row) else 0.0 for row in hits])


def interpolation_error(ranked: RankedDetections) -> Array:
    """Return the standard deviation that COCO's grid of 101 recalls adds to an average precision: (t,).

    The curve may end anywhere between two recalls of the grid, so the area is off by up to half a step times the
    precision there; a uniform error of one step has this standard deviation.
    """
    import numpy as np

    final_precision = [
        (row.sum() / (np.flatnonzero(row)[-1] + 1)) if row.any() else 0.0 for row in ranked.true_positive
    ]
    error: Array = np.array(final_precision) / _RECALLS / np.sqrt(12)
    return error


def _coco_area(recall: Array, precision: Array) -> float:
    import numpy as np

    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, _RECALLS), side="left")
    return float(envelope[at[at < len(envelope)]].sum() / _RECALLS)


def _validator_area(recall: Array, precision: Array) -> float:
    import numpy as np

    recall = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    precision = np.concatenate(([1.0], precision, [0.0, 0.0]))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.linspace(0, 1, _RECALLS)
    return float(np.trapezoid(np.interp(at, recall, envelope), at))


# ---- the same for many resamples at once ----


def bootstrap_average_precision(ranked: RankedDetections, weights: Array) -> Array:
    """Return COCO's average precision of each resample.

    Args:
        weights: (images, b) float32: how often each image is in each of b resamples.

    Returns:
        (t, b) float32, NaN where a resample has no label of the class.
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    starts = range(0, weights.shape[1], _RESAMPLES_PER_CHUNK)
    with ThreadPoolExecutor() as pool:
        chunks = pool.map(lambda start: _chunk(ranked, weights[:, start : start + _RESAMPLES_PER_CHUNK]), starts)
        return np.concatenate(list(chunks), axis=1)


def _chunk(ranked: RankedDetections, weights: Array) -> Array:
    """Compute several resamples side by side: one step along the detections serves all of them.

    Only true positives raise the recall, so only they are visited; the curve falls in between.
    """
    import numpy as np

    weights = np.ascontiguousarray(weights)
    labels = ranked.labels.astype(np.float32) @ weights
    areas = np.full((len(ranked.true_positive), weights.shape[1]), np.nan, np.float32)
    own = weights[ranked.image]
    detections = np.cumsum(own, axis=0)
    steps = np.float32(_RECALLS - 1) / np.maximum(labels, 1)
    for row, true_positive in enumerate(ranked.true_positive):
        at = np.flatnonzero(true_positive)
        areas[row] = _areas(own[at].cumsum(axis=0), detections[at], steps)
    areas[:, labels == 0] = np.nan
    return areas


def _areas(hits: Array, detections: Array, steps: Array) -> Array | float:
    """Return COCO's areas of b resamples from the counts of hits and of detections at each hit, (n, b) each.

    Some points of pycocotools' grid, such as 0.07 and 0.7, are rounded up, so that a recall of exactly 7 / 10 does not
    reach them.
    """
    import numpy as np

    if not len(hits):
        return 0.0
    envelope = hits / np.maximum(detections, 1)
    np.maximum.accumulate(envelope[::-1], axis=0, out=envelope[::-1])
    recall = hits * steps
    reached = np.floor(recall + _AT_GRID)  # how many of the 100 recalls above 0 are reached
    above = np.arange(_RECALLS) / (_RECALLS - 1) < np.linspace(0, 1, _RECALLS)
    reached -= above[reached.astype(np.int8)] & (recall < reached + _AT_GRID)
    reached[1:] -= reached[:-1].copy()
    reached[0] += 1  # recall 0 is reached by the first hit
    areas: Array = np.einsum("nb,nb->b", envelope, reached) / _RECALLS
    return areas
