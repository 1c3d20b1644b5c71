"""Two sets of detections on the same images: differences with paired intervals, and faces on which they disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.core.types import Annotation, Detection, ImageResult
from facemask_train.eval.measures.average_precision import average_precision, resampled
from facemask_train.eval.measures.bootstrap import Interval, difference, resample, student
from facemask_train.eval.measures.boxes_table import flatten
from facemask_train.eval.measures.matching import pairs
from facemask_train.eval.measures.metrics import NUMBERS, Sample, counts_at, prepare, rates

if TYPE_CHECKING:
    from facemask_train.core.types import Array


@dataclass(frozen=True, eq=False, slots=True)
class Side:
    """One model at its own operating point: its sample, and by name the number and its resamples, (b,)."""

    sample: Sample
    values: Mapping[str, float]
    resamples: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more the second model has than the first (-1 to 1), with its 95 % interval."""

    value: float
    interval: Interval


def side(images: Sequence[ImageResult], threshold: float, weights: Array) -> Side:
    """Score one model's detections on all images and on each resample.

    Args:
        weights: (images, b) as `intervals.resample` returns them: the same for every model.
    """
    import numpy as np

    sample = prepare(flatten(images), weights)
    values: dict[str, list[float]] = {key: [] for key in NUMBERS}
    many: dict[str, list[Array]] = {key: [] for key in NUMBERS}
    for name in sample.classes:
        areas = average_precision(sample.ranked[name])
        assert areas is not None
        drawn = resampled(sample.ranked[name], weights)
        counts = counts_at(sample, name, threshold)
        parts = (counts.hits, counts.found, counts.labels)
        whole = rates(*(np.asarray(part.sum(), np.float64) for part in parts))
        each = rates(*(part.astype(np.float32) @ weights for part in parts))
        for key, value, row in zip(
            NUMBERS, (areas[0], areas.mean(), *whole), (drawn[0], drawn.mean(axis=0), *each), strict=True
        ):
            values[key].append(float(value))
            many[key].append(row)
    return Side(
        sample,
        {key: float(np.mean(np.nan_to_num(row))) for key, row in values.items()},
        {key: np.nanmean(np.stack(row), axis=0) for key, row in many.items()},
    )


def differences(first: Side, second: Side) -> dict[str, Difference]:
    """Return the difference of each metric, second minus first, resampled in pairs."""
    found = {}
    for key in NUMBERS:
        value = second.values[key] - first.values[key]
        drawn = second.resamples[key] - first.resamples[key]
        found[key] = Difference(value, difference(value, drawn, first.sample.flat.images))
    return found


def of_recipes(first: Sequence[Side], second: Sequence[Side], metric: str) -> Difference:
    """Return the difference of two recipes' means over their seeds; the seeds' spread and the images' both count.

    Needs two seeds or more on each side (three, to be worth saying); Welch's degrees of freedom.
    """
    import numpy as np

    means, spread, freedom = [], 0.0, 0.0
    for runs in (first, second):
        values = np.array([run.values[metric] for run in runs])
        part = float(values.var(ddof=1)) / len(runs)
        means.append(float(values.mean()))
        spread += part
        freedom += part**2 / (len(runs) - 1)
    drawn = [np.mean([run.resamples[metric] for run in runs], axis=0) for runs in (first, second)]
    images = float(np.nanvar(drawn[1] - drawn[0]))
    total = spread + images
    degrees = total**2 / freedom if freedom > 0 else 1000.0
    half = student(max(1, math.floor(degrees))) * math.sqrt(total)
    value = means[1] - means[0]
    return Difference(value, (max(-1.0, value - half), min(1.0, value + half)))


def flipped_difference(
    first: Mapping[str, tuple[int, int]], second: Mapping[str, tuple[int, int]]
) -> Difference | None:
    """Return the difference of two shortcut rates, resampled by image; None where either asked nothing.

    Args:
        first, second: by image, how many edits flipped, of how many.
    """
    import numpy as np

    images = sorted({*first, *second})
    tables = [np.array([one.get(image, (0, 0)) for image in images], np.float32) for one in (first, second)]
    if not images or not all(table[:, 1].sum() for table in tables):
        return None
    weights = resample(len(images))
    values, drawn = [], []
    for table in tables:
        values.append(float(table[:, 0].sum() / table[:, 1].sum()))
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn.append((table[:, 0] @ weights) / (table[:, 1] @ weights))
    value = values[1] - values[0]
    return Difference(value, difference(value, drawn[1] - drawn[0], len(images)))


# ---- where they disagree ----


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A labelled face that one model has right and the other has not: `right` is 0 (the first) or 1.

    `answers` are both models' detections on it, None where it was missed.
    """

    result: ImageResult
    label: Annotation
    right: int
    answers: tuple[Detection | None, Detection | None]


def disagreements(
    first: Sequence[ImageResult], second: Sequence[ImageResult], thresholds: tuple[float, float]
) -> list[Disagreement]:
    """Return the faces on which two models disagree: wrong classes first, then misses, the surest and largest first.

    Args:
        first, second: the same images in the same order, with either model's detections.
    """
    found = []
    for one, other in zip(first, second, strict=True):
        answers = [_answers(image, at) for image, at in zip((one, other), thresholds, strict=True)]
        for index, label in enumerate(one.labels):
            both = (answers[0][index], answers[1][index])
            right = [answer is not None and answer.name == label.name for answer in both]
            if right[0] != right[1]:
                found.append(Disagreement(one, label, right.index(True), both))
    return sorted(found, key=_telling)


def _answers(image: ImageResult, threshold: float) -> list[Detection | None]:
    """Return the detection that answers each label, in the labels' order."""
    answered = {id(pair.label): pair.detection for pair in pairs(image, threshold) if pair.label is not None}
    return [answered[id(label)] for label in image.labels]


def _telling(one: Disagreement) -> tuple[int, float, str]:
    wrong = one.answers[1 - one.right]
    return (0, -wrong.confidence, one.result.image) if wrong else (1, -one.label.box.area, one.result.image)
