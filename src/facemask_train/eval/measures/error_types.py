"""What kinds of mistakes cost the most, in the manner of TIDE (Bolya and others, 2020), at IoU 0.5.

A detection that answers no label is, in this order:

- `duplicate`: it overlaps a label of its class by 0.5 or more, which a surer one has taken;
- `localisation`: it overlaps a label of its class by 0.1 to 0.5;
- `class`: it overlaps a label of another class by 0.5 or more;
- `class and localisation`: it overlaps one of another class by 0.1 to 0.5;
- `background`: it overlaps nothing by 0.1.

A label is `missed` where no detection answers it, nor goes wrong on it by class or by localisation.
The cost of a kind is what mAP 0.5 would gain if this kind alone were mended (over all detections, sure or not):
localisation and class errors become right answers where the label is still free, the others go away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.average_precision import Ranked, average_precision
from facemask_train.eval.measures.metrics import Sample

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MISTAKES = ("class", "localisation", "class and localisation", "duplicate", "background", "missed")
_RIGHT, _UNTOUCHED = -1, -1


@dataclass(frozen=True, slots=True)
class Mistake:
    """One kind: how many there are above the confidence, and what mAP 0.5 would gain without it."""

    count: int
    cost: float


@dataclass(frozen=True, eq=False, slots=True)
class Sorted:
    """Every detection's kind (an index into `MISTAKES`, or -1 where it is right) and the label that it went wrong on.

    `of` and `label` are (detections,), `label` -1 where there is none; `missed` is (labels,) bool.
    """

    of: Array
    label: Array
    missed: Array


def sort_mistakes(sample: Sample, confidence: float = 0.0) -> Sorted:
    """Say of each detection what kind of mistake it is, and of each label if it is missed above a confidence."""
    import numpy as np

    flat, pairs = sample.flat, sample.pairs
    same = flat.found.name[pairs.found] == flat.labels.name[pairs.label]
    best = {own: _best(pairs.found[same == own], pairs.label[same == own], pairs.iou[same == own], len(flat.found))
            for own in (True, False)}  # fmt: skip
    own, own_label = best[True]
    other, other_label = best[False]
    kinds = np.select(
        [sample.answers[0] >= 0, own >= 0.5, own >= 0.1, other >= 0.5, other >= 0.1], [_RIGHT, 3, 1, 0, 2], default=4
    )
    label = np.select([kinds == 1, (kinds == 0) | (kinds == 2)], [own_label, other_label], default=_UNTOUCHED)
    above = flat.found.confidence > confidence
    touched = np.zeros(len(flat.labels), bool)
    touched[sample.answers[0][above & (sample.answers[0] >= 0)]] = True
    touched[label[above & ((kinds == 0) | (kinds == 1))]] = True
    return Sorted(kinds, label, ~touched)


def _best(found: Array, label: Array, shared: Array, count: int) -> tuple[Array, Array]:
    """Return each detection's largest overlap and its label: 0 and -1 where it has none."""
    import numpy as np

    order = np.lexsort((label, shared, found))
    last = np.flatnonzero(np.r_[found[order][1:] != found[order][:-1], True]) if len(order) else order
    most, of = np.zeros(count), np.full(count, -1, np.int64)
    most[found[order[last]]], of[found[order[last]]] = shared[order[last]], label[order[last]]
    return most, of


def mistakes(sample: Sample, confidence: float) -> Mapping[str, Mistake]:
    """Count each kind above a confidence, and say what it costs."""
    import numpy as np

    everything, above = sort_mistakes(sample), sort_mistakes(sample, confidence)
    sure = sample.flat.found.confidence > confidence
    base = _map50(list(sample.ranked.values()))
    counts = [int(np.sum((above.of == kind) & sure)) for kind in range(5)] + [int(above.missed.sum())]
    costs = [_map50(_mended(sample, everything, kind)) - base for kind in range(6)]
    return {name: Mistake(counts[i], max(0.0, costs[i])) for i, name in enumerate(MISTAKES)}


def _map50(ranked: list[Ranked]) -> float:
    import numpy as np

    areas = [average_precision(replace(one, hit=one.hit[:1])) for one in ranked]
    return float(np.mean([area[0] for area in areas if area is not None] or [0.0]))


def _mended(sample: Sample, found: Sorted, kind: int) -> list[Ranked]:
    """Return the rankings as they were without one kind of mistake."""
    import numpy as np

    flat = sample.flat
    name, hit, labels = flat.found.name.copy(), sample.answers[0] >= 0, flat.labels
    keep, wanted = np.ones(len(name), bool), np.ones(len(labels), bool)
    if kind == 5:
        wanted = ~found.missed
    else:
        mine = np.flatnonzero(found.of == kind)
        keep[mine] = False
        if kind in (0, 1):
            free = np.ones(len(labels), bool)
            free[sample.answers[0][hit]] = False
            # The surest detection on a label that is still free answers it.
            mine = mine[np.lexsort((mine, -flat.found.confidence[mine]))]
            first = np.unique(found.label[mine], return_index=True)[1]
            right = mine[first][free[found.label[mine[first]]]]
            keep[right], hit[right] = True, True
            name[right] = labels.name[found.label[right]]
    made = []
    for index in range(len(CLASSES)):
        chosen = np.flatnonzero((name == index) & keep)
        chosen = chosen[np.lexsort((chosen, -flat.found.confidence[chosen]))]
        count = np.bincount(labels.image[(labels.name == index) & wanted], minlength=flat.images)
        made.append(Ranked(chosen, flat.found.image[chosen], flat.found.confidence[chosen], hit[None, chosen], count))
    return made
