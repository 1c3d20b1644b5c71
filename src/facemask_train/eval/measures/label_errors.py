"""Finds labels that are probably wrong, by comparing them with the detections of a model.

After ObjectLab (Tkachenko et al., 2023), a label can be `swapped` (a confident detection of the other class is on
it), `overlooked` (a confident detection where nothing is labelled), `badly placed` (a confident detection of its class
beside it), or `not a face` (nothing detected there at any confidence, by a model that finds most faces). Each
suspicion has a score from 0 to 1. A person has to decide: a confident model can be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from facemask_train.core.types import CLASSES, Corners, ImageResult
from facemask_train.eval.measures.boxes_table import MIN_OVERLAP
from facemask_train.eval.measures.error_types import BACKGROUND, CLASS, LOCALIZATION, assign_error_types
from facemask_train.eval.measures.metrics import ScoredSplit

if TYPE_CHECKING:
    from facemask_train.core.types import Array

LabelErrorKind = Literal["swapped", "overlooked", "badly placed", "not a face"]

MIN_SCORE = 0.5
"""Suspicions with a lower score are not reported."""

_NEAR_IOU, _FOUND_CONFIDENCE = 0.3, 0.25  # what counts as a detection of a label when asking how often faces are found


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
    """Return the most suspicious label of each image that has one, the most suspicious image first."""
    worst: dict[str, LabelError] = {}
    for one in [*_contradicted(split, images), *_undetected(split, images)]:
        if one.score >= MIN_SCORE and (one.image not in worst or one.score > worst[one.image].score):
            worst[one.image] = one
    return sorted(worst.values(), key=lambda one: (-one.score, one.image))


def _contradicted(split: ScoredSplit, images: Sequence[ImageResult]) -> Iterator[LabelError]:
    """Yield the labels, or missing labels, that confident detections speak against."""
    import numpy as np

    errors, pairs, table = assign_error_types(split), split.overlaps, split.table
    keys = zip(pairs.detection.tolist(), pairs.label.tolist(), strict=True)
    overlap = dict(zip(keys, pairs.iou.tolist(), strict=True))
    for index in np.flatnonzero(table.detections.confidence >= MIN_SCORE).tolist():
        kind, label, confidence = int(errors.kind[index]), int(errors.label[index]), _confidence(split, index)
        image = images[int(table.detections.image[index])].image
        name, box = CLASSES[int(table.detections.class_id[index])], _corners(table.detections.corners[index])
        if kind == CLASS and not _label_confirmed(split, index, label):
            yield LabelError(image, "swapped", confidence, _corners(table.labels.corners[label]), box, name)
        elif kind == LOCALIZATION:
            score = confidence * ((1 - overlap[index, label]) / (1 - MIN_OVERLAP))
            yield LabelError(image, "badly placed", score, _corners(table.labels.corners[label]), box, name)
        elif kind == BACKGROUND:
            yield LabelError(image, "overlooked", confidence, None, box, name)


def _confidence(split: ScoredSplit, index: int) -> float:
    return float(split.table.detections.confidence[index])


def _label_confirmed(split: ScoredSplit, index: int, label: int) -> bool:
    """Return whether a detection at least as confident matches the label with the label's own class."""
    import numpy as np

    matching = np.flatnonzero(split.matches[0] == label)
    confidence = split.table.detections.confidence
    return bool(len(matching) and confidence[matching].max() >= confidence[index])


def _undetected(split: ScoredSplit, images: Sequence[ImageResult]) -> Iterator[LabelError]:
    """Yield labels where nothing is detected.

    The score is the share of labels of this size or smaller that are found: a large face that is missed is
    suspicious only if the model finds small ones.
    """
    import numpy as np

    labels, pairs = split.table.labels, split.overlaps
    highest = np.zeros(len(labels))
    near = pairs.iou >= _NEAR_IOU
    np.maximum.at(highest, pairs.label[near], split.table.detections.confidence[pairs.detection[near]])
    by_size = np.argsort(labels.area, kind="stable")
    found = (highest[by_size] >= _FOUND_CONFIDENCE).astype(float)
    usually_found = np.cumsum(found) / np.arange(1, len(found) + 1) if len(found) else found
    for place, index in enumerate(by_size.tolist()):
        score = float(usually_found[place] * (1 - highest[index]))
        image, name = images[int(labels.image[index])].image, CLASSES[int(labels.class_id[index])]
        yield LabelError(image, "not a face", score, _corners(labels.corners[index]), None, name)


def _corners(row: Array) -> Corners:
    x_min, y_min, x_max, y_max = map(float, row)
    return x_min, y_min, x_max, y_max
