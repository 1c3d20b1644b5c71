"""The headline metrics of a scored split with their intervals: average precision, precision, recall and F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.average_precision import (
    RankedDetections,
    average_precision,
    bootstrap_average_precision,
    interpolation_error,
    match_detections,
    rank_detections,
)
from facemask_train.eval.measures.bootstrap import UNDEFINED, Estimate, bootstrap_weights, confidence_interval
from facemask_train.eval.measures.boxes_table import BoxesTable, Overlaps, overlaps

if TYPE_CHECKING:
    from facemask_train.core.types import Array

ENOUGH_IMAGES = 100
ENOUGH_FACES = 72
"""With fewer faces a number says little: a recall of 0.75 over 72 faces has a 95 % interval of 0.1 to either side."""

METRICS = ("map50", "map50_95", "precision", "recall", "f1")
ALL = "all"
"""Stands for the mean over the classes that have a label, beside the names of the classes."""

_RATES = ("precision", "recall", "f1")
_GRID = 100  # confidences among which a resample chooses its own best F1
_SMOOTHING = 9  # grid steps over which F1 is averaged before the maximum is taken: a tenth, as in the validator

Triple = tuple[float, float, float]
Estimates = dict[str, dict[str, Estimate]]
"""By class name or `ALL`, then by metric."""


@dataclass(frozen=True, eq=False, slots=True)
class ScoredSplit:
    """A split whose detections are matched and ranked, with bootstrap weights for its images.

    Attributes:
        matches: (10, detections) as `match_detections` returns it.
        weights: (images, b) as `bootstrap_weights` returns it.
        images: the number of images that contribute; fewer than the table has in a slice.
    """

    table: BoxesTable
    overlaps: Overlaps
    matches: Array
    ranked: Mapping[str, RankedDetections]
    weights: Array = field(repr=False)
    images: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that have a label."""
        return tuple(name for name in CLASSES if self.ranked[name].labels.any())

    def too_few(self, name: str) -> bool:
        """Return whether a class (or `ALL`) has too few images or faces for a useful number."""
        faces = {one: int(self.ranked[one].labels.sum()) for one in CLASSES}
        fewest = faces[name] if name in faces else min((faces[one] for one in self.classes), default=0)
        return self.images < ENOUGH_IMAGES or fewest < ENOUGH_FACES


def score_split(table: BoxesTable, weights: Array | None = None) -> ScoredSplit:
    """Match and rank all detections of a split.

    Args:
        weights: (images, b) bootstrap weights; drawn if not given.
    """
    pairs = overlaps(table)
    matches = match_detections(table, pairs)
    ranked = {name: rank_detections(table, matches, index) for index, name in enumerate(CLASSES)}
    weights = bootstrap_weights(table.image_count) if weights is None else weights
    return ScoredSplit(table, pairs, matches, ranked, weights, table.image_count)


def average_precisions(split: ScoredSplit) -> Estimates:
    """Return mAP 0.5 and mAP 0.5:0.95 of each class and their mean, as COCO defines them."""
    import numpy as np

    rows: dict[str, tuple[Array, Array, Array]] = {}
    for name in split.classes:
        ranked = split.ranked[name]
        areas = average_precision(ranked)
        if areas is not None:
            rows[name] = areas, bootstrap_average_precision(ranked, split.weights), interpolation_error(ranked)
    table: Estimates = {name: {"map50": UNDEFINED, "map50_95": UNDEFINED} for name in (ALL, *CLASSES)}
    if rows:
        each, resampled, errors = (list(part) for part in zip(*rows.values(), strict=True))
        mean_error = np.sqrt(np.square(errors).sum(axis=0)) / len(rows)
        rows[ALL] = np.mean(each, axis=0), mean_over_classes(resampled), mean_error
    for name, (areas, resamples, error) in rows.items():
        error_of_mean = float(np.sqrt(np.square(error).sum())) / len(error)
        table[name] = {
            "map50": _estimate(float(areas[0]), resamples[0], split.images, extra_std=float(error[0])),
            "map50_95": _estimate(float(areas.mean()), resamples.mean(axis=0), split.images, extra_std=error_of_mean),
        }
    return table


def _estimate(
    value: float, resampled: Array, images: int, bias: float | None = None, extra_std: float = 0.0
) -> Estimate:
    return Estimate(value, confidence_interval(value, resampled, images, bias=bias, extra_std=extra_std))


def mean_over_classes(rows: Sequence[Array]) -> Array:
    """Return the mean over classes; a class that a resample happens to lack is left out of that resample's mean.

    Returns:
        NaN where a resample has none of the classes.
    """
    import numpy as np

    values = np.stack(rows)
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


# ---- precision, recall and F1 at one confidence ----


@dataclass(frozen=True, eq=False, slots=True)
class Counts:
    """Counts of one class in each image, (images,) each: right detections, all detections, labels."""

    true_positives: Array
    detections: Array
    labels: Array


def counts_at(split: ScoredSplit, name: str, confidence: float) -> Counts:
    """Return the counts of one class, with the detections above a confidence."""
    import numpy as np

    ranked, images = split.ranked[name], split.table.image_count
    above = ranked.confidence > confidence
    true_positives = np.bincount(ranked.image[above & ranked.true_positive[0]], minlength=images)
    return Counts(true_positives, np.bincount(ranked.image[above], minlength=images), ranked.labels)


def precision_recall_f1(true_positives: Array, detections: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return precision, recall and F1 of counts; the precision without a detection is NaN."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return true_positives / detections, true_positives / labels, 2 * true_positives / (detections + labels)


def rates_at_confidence(split: ScoredSplit, confidence: float, *, chosen_here: bool = False) -> Estimates:
    """Return precision, recall and F1 at IoU 0.5 of the detections above a confidence.

    Args:
        chosen_here: the confidence was chosen for the best F1 on these same images, which makes the numbers
            optimistic. That bias is estimated (each resample chooses its own best confidence, which is then scored
            on all images) and included in the interval.
    """
    import numpy as np

    biases = _selection_bias(split) if chosen_here and split.classes else {}
    rows: dict[str, tuple[tuple[Array, ...], tuple[Array, ...]]] = {}
    for name in split.classes:
        counts = counts_at(split, name, confidence)
        parts = (counts.true_positives, counts.detections, counts.labels)
        whole = precision_recall_f1(*(np.asarray(part.sum(), np.float64) for part in parts))
        rows[name] = whole, precision_recall_f1(*(part.astype(np.float32) @ split.weights for part in parts))
    table: Estimates = {name: dict.fromkeys(_RATES, UNDEFINED) for name in (ALL, *CLASSES)}
    if rows:
        means = tuple(mean_over_classes([np.asarray(whole[i]) for whole, _ in rows.values()]) for i in range(3))
        resampled = tuple(mean_over_classes([one[i] for _, one in rows.values()]) for i in range(3))
        rows[ALL] = means, resampled
    for name, (values, resamples) in rows.items():
        for i, key in enumerate(_RATES):
            if np.isfinite(values[i]):
                bias = biases.get(name, (0.0, 0.0, 0.0))[i]
                table[name][key] = _estimate(float(values[i]), resamples[i], split.images, bias)
    return table


def _selection_bias(split: ScoredSplit) -> dict[str, Triple]:
    """Return how much choosing the confidence with the best F1 raises precision, recall and F1 on average."""
    import numpy as np

    names = split.classes
    once = np.ones((split.table.image_count, 1), np.float32)
    resampled, whole = (
        {name: precision_recall_f1(*_counts_along_grid(split, name, weights)) for name in names}
        for weights in (split.weights, once)
    )
    kernel = np.ones(_SMOOTHING) / _SMOOTHING
    mean_f1 = mean_over_classes([resampled[name][2] for name in names])
    best = np.array([np.convolve(column, kernel, mode="same").argmax() for column in np.nan_to_num(mean_f1).T])
    each = np.arange(len(best))

    def gain(name: str, i: int) -> float:
        gains = mean_over_classes([resampled[name][i][best, each] - whole[name][i][best, 0]])
        return float(np.nanmean(gains)) if np.isfinite(gains).any() else 0.0

    biases: dict[str, Triple] = {name: (gain(name, 0), gain(name, 1), gain(name, 2)) for name in names}
    precision, recall, f1 = (float(np.mean([biases[name][i] for name in names])) for i in range(3))
    return {**biases, ALL: (precision, recall, f1)}


def _counts_along_grid(split: ScoredSplit, name: str, weights: Array) -> tuple[Array, Array, Array]:
    """Return the counts of each resample above each confidence of the grid.

    Returns:
        True positives and detections, (grid, b) each, and labels, (1, b).
    """
    import numpy as np

    ranked = split.ranked[name]
    step = np.minimum((ranked.confidence * _GRID).astype(np.int64), _GRID - 1)

    def above(mask: Array) -> Array:
        table = np.zeros((_GRID, split.table.image_count), np.float32)
        np.add.at(table, (step[mask], ranked.image[mask]), 1)
        return (table @ weights)[::-1].cumsum(axis=0)[::-1]

    everything = np.ones(len(step), bool)
    labels = (ranked.labels.astype(np.float32) @ weights)[None]
    return above(ranked.true_positive[0]), above(everything), labels
