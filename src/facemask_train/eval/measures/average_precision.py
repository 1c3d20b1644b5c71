"""Average precision, as COCO defines it and as the `ultralytics` validator does, for one sample and for resamples.

Both match alike: class by class, the most confident detection first, each takes the label that it overlaps most of
those still free. They differ in the area under the curve of precision p against recall r, p made non-increasing:

- COCO (`pycocotools`, the headline here) takes the mean of p at the 101 recalls 0, 0.01, ..., 1, each p being that of
  the first detection that reaches the recall, and 0 above the highest recall reached.
- The validator puts p = 1 at r = 0, draws straight lines between the detections, and takes the trapezoid rule over
  the same 101 recalls. On a handful of faces the two are points apart, either way; with many faces they meet.

Crowd regions (COCO's `iscrowd`) do not occur: no source here has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from facemask_train.eval.measures.boxes_table import Flat, Overlaps

if TYPE_CHECKING:
    from facemask_train.core.types import Array

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The overlaps over which mAP 0.5:0.95 is the mean."""

_RECALLS = 101
_AT_ONCE = 64  # resamples that are worked on together: what the processor's cache holds


@dataclass(frozen=True, eq=False, slots=True)
class Ranked:
    """The detections of one class, the most confident first.

    `found` (n,) are their indices in the flat detections, `image` (n,) their images, `hit` (t, n) whether each
    answers a label at each of t overlaps, `labels` (images,) how many labels of the class each image has.
    """

    found: Array
    image: Array
    confidence: Array
    hit: Array
    labels: Array


def match(flat: Flat, pairs: Overlaps, ious: tuple[float, ...] = IOUS) -> Array:
    """Match detections with labels of their own class.

    Args:
        pairs: at least every pair whose IoU reaches the lowest of `ious`.

    Returns:
        (t, detections) int64: the label that each detection answers at each overlap, or -1.
    """
    import numpy as np

    same = flat.found.name[pairs.found] == flat.labels.name[pairs.label]
    pairs = pairs.where(same & (pairs.iou >= min(ious) - 1e-10))
    least = np.array(ious)[:, None] - 1e-10
    answers = np.full((len(ious), len(flat.found)), -1, np.int64)
    free = np.ones((len(ious), len(flat.labels)), bool)
    for chosen in _rounds(flat, pairs):
        found, label, shared = pairs.found[chosen], pairs.label[chosen], pairs.iou[chosen]
        starts = np.flatnonzero(np.r_[True, found[1:] != found[:-1]])
        able = free[:, label] & (shared >= least)
        # The pairs of a detection stand in the order of their IoU, so the last one that is able is the best.
        best = np.maximum.reduceat(np.where(able, np.arange(len(found)), -1), starts, axis=1)
        row, column = np.nonzero(best >= 0)
        taken = label[best[row, column]]
        answers[row, found[starts][column]] = taken
        free[row, taken] = False
    return answers


def _rounds(flat: Flat, pairs: Overlaps) -> Iterator[Array]:
    """Yield indices of pairs: first those of each image's and class's most confident detection, then the next."""
    import numpy as np

    if not len(pairs.found):
        return
    found = np.unique(pairs.found)
    order = np.lexsort((found, -flat.found.confidence[found], flat.found.name[found], flat.found.image[found]))
    ordered = found[order]
    group = flat.found.image[ordered] * (1 + flat.found.name.max()) + flat.found.name[ordered]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    turn = np.empty(len(flat.found), np.int64)
    turn[ordered] = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    by_turn = np.lexsort((pairs.label, pairs.iou, pairs.found, turn[pairs.found]))
    yield from np.split(by_turn, np.flatnonzero(np.diff(turn[pairs.found[by_turn]])) + 1)


def rank(flat: Flat, answers: Array, name: int) -> Ranked:
    """Return one class's detections by confidence; ties keep the order of the images, as in pycocotools."""
    import numpy as np

    mine = np.flatnonzero(flat.found.name == name)
    found = mine[np.lexsort((mine, -flat.found.confidence[mine]))]
    labels = np.bincount(flat.labels.image[flat.labels.name == name], minlength=flat.images)
    return Ranked(found, flat.found.image[found], flat.found.confidence[found], answers[:, found] >= 0, labels)


def average_precision(ranked: Ranked, *, rule: Literal["coco", "validator"] = "coco") -> Array | None:
    """Return the average precision at each overlap, (t,) 0 to 1; None where the class has no label."""
    import numpy as np

    labels = int(ranked.labels.sum())
    if not labels:
        return None
    area = _coco_area if rule == "coco" else _validator_area
    count = np.arange(1, len(ranked.found) + 1)
    hits = ranked.hit.cumsum(axis=1)
    return np.array([area(row / labels, row / count) if len(row) else 0.0 for row in hits])


def coarseness(ranked: Ranked) -> Array:
    """Return by how much COCO's 101 recalls make an average precision jump about, as a standard deviation: (t,).

    The curve ends between two of the recalls, anywhere: the number is off by up to half a step of the precision there.
    """
    import numpy as np

    ends = [(row.sum() / (np.flatnonzero(row)[-1] + 1)) if row.any() else 0.0 for row in ranked.hit]
    jumps: Array = np.array(ends) / _RECALLS / np.sqrt(12)
    return jumps


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


def resampled(ranked: Ranked, weights: Array) -> Array:
    """Return COCO's average precision of each resample.

    Args:
        weights: (images, b) float32: how often each image stands in each of b resamples.

    Returns:
        (t, b) float32, not a number where a resample has no label of the class.
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    starts = range(0, weights.shape[1], _AT_ONCE)
    with ThreadPoolExecutor() as pool:
        parts = pool.map(lambda start: _resampled(ranked, weights[:, start : start + _AT_ONCE]), starts)
        return np.concatenate(list(parts), axis=1)


def _resampled(ranked: Ranked, weights: Array) -> Array:
    """Work on resamples side by side, so that a step along the detections is one step along all of them.

    Only hits can raise recall, so only they are visited: the curve falls in between.
    """
    import numpy as np

    weights = np.ascontiguousarray(weights)
    labels = ranked.labels.astype(np.float32) @ weights
    out = np.full((len(ranked.hit), weights.shape[1]), np.nan, np.float32)
    mine = weights[ranked.image]
    seen = np.cumsum(mine, axis=0)
    steps = np.float32(_RECALLS - 1) / np.maximum(labels, 1)
    for row, hit in enumerate(ranked.hit):
        at = np.flatnonzero(hit)
        out[row] = _area(mine[at].cumsum(axis=0), seen[at], steps)
    out[:, labels == 0] = np.nan
    return out


def _area(hits: Array, seen: Array, steps: Array) -> Array | float:
    """Return COCO's area from the counts of hits and of detections at each hit, (n, b), for b resamples."""
    import numpy as np

    if not len(hits):
        return 0.0
    envelope = hits / np.maximum(seen, 1)
    np.maximum.accumulate(envelope[::-1], axis=0, out=envelope[::-1])
    reached = np.floor(hits * steps + np.float32(1e-4))  # how many of the 100 recalls above 0 have been reached
    reached[1:] -= reached[:-1].copy()
    reached[0] += 1  # and recall 0, by the first
    total: Array = np.einsum("nb,nb->b", envelope, reached) / _RECALLS
    return total
