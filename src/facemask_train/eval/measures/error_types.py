"""Which types of errors cost the most mAP, after TIDE (Bolya et al., 2020), at IoU 0.5.

A detection that matches no label has the first of these types that applies:

- `duplicate`: it overlaps a label of its class by 0.5 or more, and a more confident detection matches that label;
- `localization`: it overlaps a label of its class by 0.1 to 0.5;
- `class`: it overlaps a label of another class by 0.5 or more;
- `class and localization`: it overlaps a label of another class by 0.1 to 0.5;
- `background`: it overlaps no label by 0.1.

A label is `missed` if no detection matches it and no `class` or `localization` error is on it. The cost of a type is
how much mAP 0.5 would gain if the errors of this type alone were corrected, at every confidence: `localization` and
`class` errors become matches where their label is free, errors of the other types are removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.average_precision import RankedDetections, average_precision
from facemask_train.eval.measures.metrics import ScoredSplit

if TYPE_CHECKING:
    from facemask_train.core.types import Array

ERROR_TYPES = ("class", "localization", "class and localization", "duplicate", "background", "missed")
CLASS, LOCALIZATION, CLASS_AND_LOCALIZATION, DUPLICATE, BACKGROUND, MISSED = range(len(ERROR_TYPES))
_NONE = -1  # a detection without an error, or without a label


@dataclass(frozen=True, slots=True)
class ErrorType:
    """One type of error: how many there are above the confidence, and how much mAP 0.5 would gain without it."""

    count: int
    cost: float


@dataclass(frozen=True, eq=False, slots=True)
class ErrorAssignment:
    """The error type of every detection and label.

    Attributes:
        kind: (detections,) an index into `ERROR_TYPES`, or -1 for a right detection.
        label: (detections,) the label that a `class` or `localization` error is about, or -1.
        missed: (labels,) bool.
    """

    kind: Array
    label: Array
    missed: Array


def assign_error_types(split: ScoredSplit, confidence: float = 0.0) -> ErrorAssignment:
    """Assign an error type to each detection, and decide which labels are missed above a confidence."""
    import numpy as np

    table, pairs, matches = split.table, split.overlaps, split.matches[0]
    same_class = table.detections.class_id[pairs.detection] == table.labels.class_id[pairs.label]
    own_iou, own_label = _best_overlap(split, same_class)
    other_iou, other_label = _best_overlap(split, ~same_class)
    kind = np.select(
        [matches >= 0, own_iou >= 0.5, own_iou >= 0.1, other_iou >= 0.5, other_iou >= 0.1],
        [_NONE, DUPLICATE, LOCALIZATION, CLASS, CLASS_AND_LOCALIZATION],
        default=BACKGROUND,
    )
    wrong_class = (kind == CLASS) | (kind == CLASS_AND_LOCALIZATION)
    label = np.select([kind == LOCALIZATION, wrong_class], [own_label, other_label], default=_NONE)
    above = table.detections.confidence > confidence
    found = np.zeros(len(table.labels), bool)
    found[matches[above & (matches >= 0)]] = True
    found[label[above & ((kind == CLASS) | (kind == LOCALIZATION))]] = True
    return ErrorAssignment(kind, label, ~found)


def _best_overlap(split: ScoredSplit, mask: Array) -> tuple[Array, Array]:
    """Return the largest IoU of each detection among some pairs, and its label: 0 and -1 where there is none."""
    import numpy as np

    pairs = split.overlaps.where(mask)
    order = np.lexsort((pairs.label, pairs.iou, pairs.detection))
    detection = pairs.detection[order]
    last = np.flatnonzero(np.r_[detection[1:] != detection[:-1], True]) if len(order) else order
    count = len(split.table.detections)
    best, label = np.zeros(count), np.full(count, _NONE, np.int64)
    best[detection[last]], label[detection[last]] = pairs.iou[order[last]], pairs.label[order[last]]
    return best, label


def error_types(split: ScoredSplit, confidence: float) -> dict[str, ErrorType]:
    """Count the errors of each type above a confidence, and compute their costs."""
    import numpy as np

    everything, above = assign_error_types(split), assign_error_types(split, confidence)
    confident = split.table.detections.confidence > confidence
    base = _map50(split.ranked.values())
    counts = [int(np.sum((above.kind == kind) & confident)) for kind in range(MISSED)] + [int(above.missed.sum())]
    costs = [_map50(_corrected(split, everything, kind)) - base for kind in range(len(ERROR_TYPES))]
    return {name: ErrorType(counts[kind], max(0.0, costs[kind])) for kind, name in enumerate(ERROR_TYPES)}


def _map50(ranked: Iterable[RankedDetections]) -> float:
    import numpy as np

    areas = [average_precision(replace(one, true_positive=one.true_positive[:1])) for one in ranked]
    return float(np.mean([area[0] for area in areas if area is not None] or [0.0]))


def _corrected(split: ScoredSplit, errors: ErrorAssignment, kind: int) -> list[RankedDetections]:
    """Return the rankings as they would be without one type of error."""
    import numpy as np

    table, matches = split.table, split.matches[0]
    class_id, hit = table.detections.class_id.copy(), matches >= 0
    keep, wanted = np.ones(len(class_id), bool), np.ones(len(table.labels), bool)
    if kind == MISSED:
        wanted = ~errors.missed
    else:
        of_kind = np.flatnonzero(errors.kind == kind)
        keep[of_kind] = False
        if kind in (CLASS, LOCALIZATION):
            right = _matches_of_free_labels(split, errors, of_kind)
            keep[right], hit[right] = True, True
            class_id[right] = table.labels.class_id[errors.label[right]]
    ranked = []
    for index in range(len(CLASSES)):
        chosen = np.flatnonzero((class_id == index) & keep)
        chosen = chosen[np.lexsort((chosen, -table.detections.confidence[chosen]))]
        labels = np.bincount(table.labels.image[(table.labels.class_id == index) & wanted], minlength=table.image_count)
        image, confidence = table.detections.image[chosen], table.detections.confidence[chosen]
        ranked.append(RankedDetections(chosen, image, confidence, hit[None, chosen], labels))
    return ranked


def _matches_of_free_labels(split: ScoredSplit, errors: ErrorAssignment, of_kind: Array) -> Array:
    """Return the detections that match a label once they are corrected: the most confident on each free label."""
    import numpy as np

    matches = split.matches[0]
    free = np.ones(len(split.table.labels), bool)
    free[matches[matches >= 0]] = False
    of_kind = of_kind[np.lexsort((of_kind, -split.table.detections.confidence[of_kind]))]
    first = np.unique(errors.label[of_kind], return_index=True)[1]
    right: Array = of_kind[first][free[errors.label[of_kind[first]]]]
    return right
