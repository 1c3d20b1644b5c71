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
from facemask_train.eval.measures.bootstrap import (
    UNDEFINED,
    Estimate,
    confidence_interval,
    effective_units,
    group_weights,
    per_group,
)
from facemask_train.eval.measures.boxes_table import BoxesTable, Overlaps, overlaps

if TYPE_CHECKING:
    from facemask_train.core.types import Array

ENOUGH_GROUPS, ENOUGH_FACES = 100, 50
"""With fewer scene groups, or fewer faces of a class, intervals are not what they claim to be (bench/coverage.py)."""

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
        groups: (images,) the number of each image's scene group.
        weights: (images, b) as `group_weights` returns it.
        images: the number of images that contribute; fewer than the table has in a slice.
        scenes: the number of scene groups that contribute.
    """

    table: BoxesTable
    overlaps: Overlaps
    matches: Array
    ranked: Mapping[str, RankedDetections]
    groups: Array
    weights: Array = field(repr=False)
    images: int
    scenes: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that have a label."""
        return tuple(name for name in CLASSES if self.ranked[name].labels.any())

    @property
    def scene_weights(self) -> Array:
        """(scenes, b) how often each scene group is in each resample."""
        import numpy as np

        _, first = np.unique(self.groups, return_index=True)
        weights: Array = self.weights[first]
        return weights

    def too_few(self, name: str) -> bool:
        """Return whether a class (or `ALL`) has too few images or faces for a useful number."""
        faces = {one: int(self.ranked[one].labels.sum()) for one in CLASSES}
        fewest = faces[name] if name in faces else min((faces[one] for one in self.classes), default=0)
        return self.scenes < ENOUGH_GROUPS or fewest < ENOUGH_FACES

    def units(self, name: str) -> float:
        """Return the effective number of scene groups that tell about a class."""
        return effective_units(per_group(self.ranked[name].labels, self.groups))


def score_split(table: BoxesTable, weights: Array | None = None, groups: Array | None = None) -> ScoredSplit:
    """Match and rank all detections of a split.

    Args:
        weights: (images, b) bootstrap weights; drawn if not given.
        groups: (images,) the scene group of each image, as `group_codes` returns them; each image alone if not given.
    """
    import numpy as np

    pairs = overlaps(table)
    matches = match_detections(table, pairs)
    ranked = {name: rank_detections(table, matches, index) for index, name in enumerate(CLASSES)}
    codes = np.arange(table.image_count) if groups is None else groups
    weights = group_weights(codes) if weights is None else weights
    return ScoredSplit(table, pairs, matches, ranked, codes, weights, table.image_count, len(np.unique(codes)))


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
    units = _units(split)
    for name, (areas, resamples, error) in rows.items():
        error_of_mean = float(np.sqrt(np.square(error).sum())) / len(error)
        table[name] = {
            "map50": _estimate(float(areas[0]), resamples[0], units[name], extra_std=float(error[0])),
            "map50_95": _estimate(float(areas.mean()), resamples.mean(axis=0), units[name], extra_std=error_of_mean),
        }
    return table


def _units(split: ScoredSplit) -> dict[str, float]:
    """Return the effective number of scene groups of each class, and of the mean over the classes.

    The classes share their groups, so what the mean rests on is the groups with the faces of all classes.
    """
    import numpy as np

    labels = np.sum([ranked.labels for ranked in split.ranked.values()], axis=0)
    return {
        ALL: effective_units(per_group(labels, split.groups)),
        **{name: split.units(name) for name in split.classes},
    }


def _estimate(
    value: float, resampled: Array, units: float, bias: float | None = None, extra_std: float = 0.0
) -> Estimate:
    return Estimate(value, confidence_interval(value, resampled, units, bias=bias, extra_std=extra_std))


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
        chosen_here: the confidence was chosen for the best F1 on these same images. Each resample then chooses its
            own, and the interval includes how much the choice flatters the numbers: what each resample's choice gives
            on the resample, less what it gives on all images.
    """
    import numpy as np

    chosen = _choices(split) if chosen_here and split.classes else {}
    rows: dict[str, tuple[tuple[Array, ...], tuple[Array, ...]]] = {}
    for name in split.classes:
        counts = counts_at(split, name, confidence)
        parts = (counts.true_positives, counts.detections, counts.labels)
        whole = precision_recall_f1(*(np.asarray(part.sum(), np.float64) for part in parts))
        fixed = precision_recall_f1(*(part.astype(np.float32) @ split.weights for part in parts))
        rows[name] = whole, chosen[name].resampled if name in chosen else fixed
    table: Estimates = {name: dict.fromkeys(_RATES, UNDEFINED) for name in (ALL, *CLASSES)}
    if rows:
        means = tuple(mean_over_classes([np.asarray(whole[i]) for whole, _ in rows.values()]) for i in range(3))
        resampled = tuple(mean_over_classes([one[i] for _, one in rows.values()]) for i in range(3))
        rows[ALL] = means, resampled
    units = _units(split)
    for name, (values, resamples) in rows.items():
        for i, key in enumerate(_RATES):
            if np.isfinite(values[i]):
                bias = chosen[name].bias[i] if name in chosen else 0.0
                table[name][key] = _estimate(float(values[i]), resamples[i], units[name], bias)
    return table


@dataclass(frozen=True, eq=False, slots=True)
class _Choice:
    """Precision, recall and F1 of a class at each resample's own best confidence, (b,) each, and their bias."""

    resampled: tuple[Array, Array, Array]
    bias: Triple


def _choices(split: ScoredSplit) -> dict[str, _Choice]:
    """Return what choosing the confidence with the best F1 does to each class and to the mean over the classes."""
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

    def choice(name: str) -> _Choice:
        own = [part[best, each] for part in resampled[name]]
        gains = [np.asarray(drawn - part[best, 0]) for drawn, part in zip(own, whole[name], strict=True)]
        bias = [float(gain[np.isfinite(gain)].mean()) if np.isfinite(gain).any() else 0.0 for gain in gains]
        return _Choice((own[0], own[1], own[2]), (bias[0], bias[1], bias[2]))

    found = {name: choice(name) for name in names}
    mean = [float(np.mean([one.bias[i] for one in found.values()])) for i in range(3)]
    over = [mean_over_classes([one.resampled[i] for one in found.values()]) for i in range(3)]
    return {**found, ALL: _Choice((over[0], over[1], over[2]), (mean[0], mean[1], mean[2]))}


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
