"""Finds labels that are probably wrong, by comparing them with the detections of a model.

The causes are those of ObjectLab (Tkachenko et al., 2023): a label can be `swapped` (a detection of the other class is
on it), `overlooked` (a detection where nothing is labeled), `badly placed` (a detection of its class beside it), or
`not a face` (nothing detected there, by a model that finds faces of this size).

Each cause has its own evidence, and evidence of different causes does not compare: a model may miss every tenth face
and yet hardly ever see one where there is none. So the score is calibrated by cause. Let `a` labels show at least this
much evidence as they are, and `w` labels would if this error were made on them. If a share `RATE` of the labels had the
error, `RATE * w` of those would be expected among the `a`, so the score is `RATE * w / (RATE * w + a)`. Only the order
matters. The model must not have been trained on these labels, or it repeats their errors. A person has to decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from facemask_train.core.types import CLASSES, Corners, ImageResult
from facemask_train.eval.measures.boxes_table import MIN_OVERLAP
from facemask_train.eval.measures.metrics import ScoredSplit

if TYPE_CHECKING:
    from facemask_train.core.types import Array

LabelErrorKind = Literal["swapped", "overlooked", "badly placed", "not a face"]

RATE = 0.02
"""The share of labels that is assumed to have each kind of error."""

MIN_EVIDENCE = 0.25
"""Suspicions with less evidence, such as a less confident detection, are not reported."""

_NEAR_IOU, _FOUND_CONFIDENCE = 0.3, 0.25  # what counts as a detection of a label when asking how often faces are found
_NEIGHBORS = 50  # labels of the most similar size that say how often such a face is found


@dataclass(frozen=True, slots=True)
class LabelError:
    """A label that is probably wrong.

    Attributes:
        score: 0 to 1, how suspicious it is.
        label, detection: corners in pixels; None where there is no label, or no detection.
        name: the class of the detection, or of the label where there is no detection.
    """

    image: str
    kind: LabelErrorKind
    score: float
    label: Corners | None
    detection: Corners | None
    name: str


def find_label_errors(split: ScoredSplit, images: Sequence[ImageResult]) -> list[LabelError]:
    """Return the suspicious boxes, the most suspicious first: at most one suspicion of each label."""
    import numpy as np

    evidence, class_id = _evidence(split), split.table.labels.class_id
    missing = np.where(evidence.near < _FOUND_CONFIDENCE, evidence.expected - evidence.near, 0)
    suspects = [
        *_of_labels(split, images, "badly placed", evidence.beside, evidence.own, evidence.beside_detection),
        *_of_labels(split, images, "not a face", missing, evidence.expected, None),
        *_overlooked(split, images, evidence),
    ]
    for index in range(len(CLASSES)):  # a model may confuse one class more often than the other
        swapped = np.where(class_id == index, evidence.other - evidence.own, 0)
        wrong = evidence.own[class_id != index]
        suspects += _of_labels(split, images, "swapped", swapped, wrong, evidence.other_detection)
    found, seen = [], set()
    for one in sorted(suspects, key=lambda one: (-one.score, one.image, one.kind, one.label or one.detection)):
        key = (one.image, one.label, one.detection if one.label is None else None)
        if key not in seen:
            seen.add(key)
            found.append(one)
    return found


@dataclass(frozen=True, eq=False, slots=True)
class _Evidence:
    """What the detections say about each label.

    Attributes:
        own, other: (labels,) the highest confidence on the label, of its class and of another; 0 if there is none.
        beside: (labels,) the highest confidence of its class beside a label that no detection of any class is on.
        near: (labels,) the highest confidence near the label, of any class.
        expected: (labels,) the share of labels of similar size that the model finds.
        free: (detections,) whether no label is near.
    """

    own: Array
    other: Array
    other_detection: Array
    beside: Array
    beside_detection: Array
    near: Array
    expected: Array
    free: Array


def _evidence(split: ScoredSplit) -> _Evidence:
    import numpy as np

    table, pairs = split.table, split.overlaps
    same = table.detections.class_id[pairs.detection] == table.labels.class_id[pairs.label]
    on, near = pairs.iou >= 0.5, pairs.iou >= _NEAR_IOU
    own, _ = _highest(split, on & same)
    other, other_detection = _highest(split, on & ~same)
    beside, beside_detection = _highest(split, ~on & (pairs.iou >= MIN_OVERLAP) & same)
    highest, _ = _highest(split, near)
    beside = np.where(np.maximum(own, other) < _FOUND_CONFIDENCE, beside, 0)
    free = np.ones(len(table.detections), bool)
    free[pairs.detection[near]] = False
    expected = _expected(table.labels.area, highest >= _FOUND_CONFIDENCE)
    return _Evidence(own, other, other_detection, beside, beside_detection, highest, expected, free)


def _highest(split: ScoredSplit, mask: Array) -> tuple[Array, Array]:
    """Return the highest confidence of each label among some pairs, and its detection: 0 and -1 if there is none."""
    import numpy as np

    pairs, count = split.overlaps, len(split.table.labels)
    label, detection = pairs.label[mask], pairs.detection[mask]
    confidence = split.table.detections.confidence[detection]
    order = np.lexsort((-detection, confidence))
    highest, best = np.zeros(count), np.full(count, -1, np.int64)
    highest[label[order]], best[label[order]] = confidence[order], detection[order]  # the last one stays
    return highest, best


def _expected(area: Array, found: Array) -> Array:
    """Return how often the labels of the most similar area are found, (labels,)."""
    import numpy as np

    order = np.argsort(area, kind="stable")
    total = np.r_[0, np.cumsum(found[order])]
    place = np.arange(len(order))
    low = np.clip(place - _NEIGHBORS // 2, 0, max(0, len(order) - _NEIGHBORS - 1))
    high = np.minimum(low + _NEIGHBORS + 1, len(order))
    share = np.zeros(len(order))
    share[order] = (total[high] - total[low]) / np.maximum(high - low, 1)
    return share


# ---- suspicions ----


def _calibrated(evidence: Array, actual: Array, wrong: Array) -> Array:
    """Return the score of some evidence.

    Args:
        actual: the evidence against every label, or detection, as it is.
        wrong: the evidence that there would be against each label with this error.
    """
    import numpy as np

    def at_least(values: Array) -> Array:
        return len(values) - np.searchsorted(np.sort(values), evidence, side="left")

    expected = RATE * at_least(wrong)
    score: Array = expected / np.maximum(expected + at_least(actual), 1e-9)
    order = np.argsort(evidence, kind="stable")
    score[order] = np.maximum.accumulate(score[order])  # more evidence is never less suspicious
    return score


def _of_labels(
    split: ScoredSplit,
    images: Sequence[ImageResult],
    kind: LabelErrorKind,
    evidence: Array,
    wrong: Array,
    detection: Array | None,
) -> Iterator[LabelError]:
    import numpy as np

    labels, detections = split.table.labels, split.table.detections
    chosen = np.flatnonzero(evidence >= MIN_EVIDENCE)
    scores = _calibrated(evidence[chosen], evidence, wrong)
    for index, score in zip(chosen.tolist(), scores.tolist(), strict=True):
        image, label = images[int(labels.image[index])].image, _corners(labels.corners[index])
        if detection is None:
            yield LabelError(image, kind, score, label, None, CLASSES[int(labels.class_id[index])])
            continue
        name, box = CLASSES[int(detections.class_id[detection[index]])], detections.corners[detection[index]]
        yield LabelError(image, kind, score, label, _corners(box), name)


def _overlooked(split: ScoredSplit, images: Sequence[ImageResult], evidence: _Evidence) -> Iterator[LabelError]:
    import numpy as np

    detections = split.table.detections
    chosen = np.flatnonzero(evidence.free & (detections.confidence >= MIN_EVIDENCE))
    actual = detections.confidence[evidence.free]
    scores = _calibrated(detections.confidence[chosen], actual, np.maximum(evidence.own, evidence.other))
    for index, score in zip(chosen.tolist(), scores.tolist(), strict=True):
        image, name = images[int(detections.image[index])].image, CLASSES[int(detections.class_id[index])]
        yield LabelError(image, "overlooked", score, None, _corners(detections.corners[index]), name)


def _corners(row: Array) -> Corners:
    x_min, y_min, x_max, y_max = map(float, row)
    return x_min, y_min, x_max, y_max
