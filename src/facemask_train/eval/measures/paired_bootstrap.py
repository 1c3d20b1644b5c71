"""Compares models on the same images: differences with paired bootstrap intervals, and faces they disagree on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from facemask_train.core.types import Annotation, Detection, ImageResult
from facemask_train.eval.measures.average_precision import average_precision, bootstrap_average_precision
from facemask_train.eval.measures.bootstrap import (
    LEVEL,
    Interval,
    bootstrap_weights,
    difference_interval,
    effective_units,
    per_group,
    t_quantile,
)
from facemask_train.eval.measures.boxes_table import boxes_table
from facemask_train.eval.measures.matching import match_boxes
from facemask_train.eval.measures.metrics import (
    METRICS,
    ScoredSplit,
    counts_at,
    mean_over_classes,
    precision_recall_f1,
    score_split,
)

if TYPE_CHECKING:
    from facemask_train.core.types import Array


POWER = 0.8
"""The chance with which a difference is to be found, where the page says how large it has to be."""

_NORMAL = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True, eq=False, slots=True)
class ScoredModel:
    """A model at its own operating point: each metric by name, for all images and for each resample, (b,)."""

    split: ScoredSplit
    values: Mapping[str, float]
    resamples: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much the second model is better than the first (-1 to 1), with the 95 % interval."""

    difference: float
    interval: Interval


def score_model(
    images: Sequence[ImageResult], threshold: float, weights: Array, groups: Array | None = None
) -> ScoredModel:
    """Score one model's detections on all images and on each resample.

    Args:
        weights: (images, b) as `group_weights` returns them; the same for every model.
        groups: (images,) the scene group of each image, as `group_codes` returns them; each image alone if not given.
    """
    return score_resamples(score_split(boxes_table(images), weights, groups), threshold)


def score_resamples(split: ScoredSplit, threshold: float) -> ScoredModel:
    """Score a split at an operating point, on all images and on each resample."""
    import numpy as np

    weights = split.weights
    values: dict[str, list[float]] = {key: [] for key in METRICS}
    resamples: dict[str, list[Array]] = {key: [] for key in METRICS}
    for name in split.classes:
        areas = average_precision(split.ranked[name])
        assert areas is not None
        resampled = bootstrap_average_precision(split.ranked[name], weights)
        counts = counts_at(split, name, threshold)
        parts = (counts.true_positives, counts.detections, counts.labels)
        rates = precision_recall_f1(*(np.asarray(part.sum(), np.float64) for part in parts))
        resampled_rates = precision_recall_f1(*(part.astype(np.float32) @ weights for part in parts))
        own = (areas[0], areas.mean(), *rates)
        drawn = (resampled[0], resampled.mean(axis=0), *resampled_rates)
        for key, value, row in zip(METRICS, own, drawn, strict=True):
            values[key].append(float(value))
            resamples[key].append(row)
    return ScoredModel(
        split,
        {key: float(np.mean(np.nan_to_num(row))) for key, row in values.items()},
        {key: mean_over_classes(row) for key, row in resamples.items()},
    )


def paired_differences(
    first: ScoredModel, second: ScoredModel, shown: Sequence[ScoredModel] = ()
) -> dict[str, Difference]:
    """Return the difference of each metric, second minus first, on the same resamples.

    The intervals hold together: all of them cover in 95 % of test sets (max-T), however many are looked at.

    Args:
        shown: every model that is compared with the first, if there are others than the second.
    """
    critical = _critical_value(first, shown or (second,))
    found = {}
    for key in METRICS:
        value = second.values[key] - first.values[key]
        middle, error = _middle_and_error(first, second, key)
        half = critical * error
        interval = (max(-1.0, value - (middle - value) - half), min(1.0, value - (middle - value) + half))
        found[key] = Difference(value, interval)
    return found


def detectable_differences(
    first: ScoredModel, second: ScoredModel, shown: Sequence[ScoredModel] = ()
) -> dict[str, float]:
    """Return how large a difference of each metric has to be to be found on such a test set with a chance of `POWER`.

    Args:
        shown: as in `paired_differences`.
    """
    reach = _critical_value(first, shown or (second,)) + NormalDist().inv_cdf(POWER)
    return {key: reach * _middle_and_error(first, second, key)[1] for key in METRICS}


def _middle_and_error(first: ScoredModel, second: ScoredModel, key: str) -> tuple[float, float]:
    """Return the mean over resamples of a difference, and its standard error."""
    import numpy as np

    drawn, units = second.resamples[key] - first.resamples[key], _units(first)
    drawn = drawn[np.isfinite(drawn)]
    return float(drawn.mean()), math.sqrt(float(drawn.var()) * units / max(units - 1, 1))


def _critical_value(first: ScoredModel, others: Sequence[ScoredModel]) -> float:
    """Return by how many standard errors the farthest of all differences is off in at most 5 % of test sets.

    That is the 95 % quantile of the largest studentized deviation over resamples, widened for few scene groups.
    """
    import numpy as np

    deviations = []
    for other in others:
        for key in METRICS:
            drawn = np.asarray(other.resamples[key] - first.resamples[key], float)
            spread = float(np.nanstd(drawn))
            if spread > 1e-9:
                deviations.append(abs(drawn - np.nanmean(drawn)) / spread)
    student = t_quantile(_units(first) - 1)
    if not deviations:
        return student
    largest = np.nan_to_num(np.stack(deviations)).max(axis=0)
    return max(float(np.quantile(largest, LEVEL)), _NORMAL) * student / _NORMAL


def _units(model: ScoredModel) -> float:
    """Return the effective number of scene groups, at least 2."""
    import numpy as np

    split = model.split
    labels = np.sum([ranked.labels for ranked in split.ranked.values()], axis=0)
    return max(effective_units(per_group(labels, split.groups)), 2.0)


def recipe_difference(first: Sequence[ScoredModel], second: Sequence[ScoredModel], metric: str) -> Difference:
    """Return the difference of the means of two recipes over their seeds.

    The interval covers both the seeds' and the images' variance, with Welch's degrees of freedom.

    Args:
        first, second: one model for each seed, two or more on each side.
    """
    import numpy as np

    means, seed_variance, squares = [], 0.0, 0.0
    for runs in (first, second):
        values = np.array([run.values[metric] for run in runs])
        part = float(values.var(ddof=1)) / len(runs)
        means.append(float(values.mean()))
        seed_variance += part
        squares += part**2 / (len(runs) - 1)
    resampled = [np.mean([run.resamples[metric] for run in runs], axis=0) for runs in (first, second)]
    image_variance = float(np.nanvar(resampled[1] - resampled[0]))
    total = seed_variance + image_variance
    degrees = total**2 / squares if squares > 0 else 1000.0
    half = t_quantile(max(1, math.floor(degrees))) * math.sqrt(total)
    value = means[1] - means[0]
    return Difference(value, (max(-1.0, value - half), min(1.0, value + half)))


def rate_difference(
    first: Mapping[str, tuple[float, int]], second: Mapping[str, tuple[float, int]]
) -> Difference | None:
    """Return the difference of two rates, resampled by scene group; None if either model has no trials.

    Args:
        first, second: by scene group, how many trials failed (less those of controls), and how many there were.
    """
    import numpy as np

    groups = sorted({*first, *second})
    tables = [np.array([one.get(group, (0, 0)) for group in groups], np.float32) for one in (first, second)]
    if not groups or not all(table[:, 1].sum() for table in tables):
        return None
    weights = bootstrap_weights(len(groups))
    values, resampled = [], []
    for table in tables:
        values.append(float(table[:, 0].sum() / table[:, 1].sum()))
        with np.errstate(divide="ignore", invalid="ignore"):
            resampled.append((table[:, 0] @ weights) / (table[:, 1] @ weights))
    value = values[1] - values[0]
    return Difference(value, difference_interval(value, resampled[1] - resampled[0], len(groups)))


# ---- where they disagree ----


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A labeled face that one model gets right and the other gets wrong.

    Attributes:
        right: which model is right, 0 or 1.
        detections: each model's detection of the face; None if the model misses it.
    """

    result: ImageResult
    label: Annotation
    right: int
    detections: tuple[Detection | None, Detection | None]


def disagreements(
    first: Sequence[ImageResult], second: Sequence[ImageResult], thresholds: tuple[float, float]
) -> list[Disagreement]:
    """Return the faces that two models disagree on: wrong classes by confidence, then missed faces by size.

    Args:
        first, second: the same images in the same order, with the detections of each model.
    """
    found = []
    for one, other in zip(first, second, strict=True):
        own, others = _detections_of_labels(one, thresholds[0]), _detections_of_labels(other, thresholds[1])
        for label, *pair in zip(one.labels, own, others, strict=True):
            right = [detection is not None and detection.name == label.name for detection in pair]
            if right[0] != right[1]:
                found.append(Disagreement(one, label, right.index(True), (pair[0], pair[1])))
    return sorted(found, key=_worst_first)


def _detections_of_labels(image: ImageResult, threshold: float) -> list[Detection | None]:
    """Return the detection that matches each label, in the order of the labels."""
    matched = {id(one.label): one.detection for one in match_boxes(image, threshold) if one.label is not None}
    return [matched[id(label)] for label in image.labels]


def _worst_first(one: Disagreement) -> tuple[int, float, str]:
    wrong = one.detections[1 - one.right]
    return (0, -wrong.confidence, one.result.image) if wrong else (1, -one.label.box.area, one.result.image)
