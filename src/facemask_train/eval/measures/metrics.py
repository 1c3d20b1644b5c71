"""The headline numbers of a scored split with their intervals: average precision, precision, recall and F1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.average_precision import Ranked, average_precision, coarseness, match, rank, resampled
from facemask_train.eval.measures.bootstrap import Interval, interval, resample
from facemask_train.eval.measures.boxes_table import Flat, Overlaps, overlaps

if TYPE_CHECKING:
    from facemask_train.core.types import Array

ENOUGH_IMAGES = 100
ENOUGH_FACES = 72
"""A recall of 0.75 over 72 faces has a 95 % interval of 0.1 to either side: with fewer, one number says little."""

NUMBERS = ("map50", "map50_95", "precision", "recall", "f1")

_GRID = 100  # confidences among which a resample chooses its own best F1
_SMOOTH = 9  # of them, over which F1 is averaged before the best is taken: a tenth, as in the validator


@dataclass(frozen=True, slots=True)
class Number:
    """A number from 0 to 1 with its 95 % interval; both are None where there is nothing to measure."""

    value: float | None
    interval: Interval | None


NOTHING = Number(None, None)


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A scored split made ready: arrays, overlaps, matches at ten IoUs, rankings by class, and resamples.

    `answers` is (10, detections) as `precision.match` returns it; `units` is how many images have a say.
    """

    flat: Flat
    pairs: Overlaps
    answers: Array
    ranked: Mapping[str, Ranked]
    weights: Array = field(repr=False)
    units: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that have a label."""
        return tuple(name for name in CLASSES if self.ranked[name].labels.any())

    def few(self, name: str) -> bool:
        """Say if a class (or `all`) has too few images or faces to measure much."""
        faces = {one: int(self.ranked[one].labels.sum()) for one in CLASSES}
        least = faces[name] if name in faces else min((faces[one] for one in self.classes), default=0)
        return self.units < ENOUGH_IMAGES or least < ENOUGH_FACES


def prepare(flat: Flat, weights: Array | None = None) -> Sample:
    """Match and rank all detections of a split, and draw its resamples."""
    pairs = overlaps(flat)
    answers = match(flat, pairs)
    ranked = {name: rank(flat, answers, index) for index, name in enumerate(CLASSES)}
    weights = resample(flat.images) if weights is None else weights
    return Sample(flat, pairs, answers, ranked, weights, flat.images)


Table = dict[str, dict[str, Number]]
"""By class, and `all` (the mean over the classes that have a label): by name, the number."""


def average_precisions(sample: Sample) -> Table:
    """Return mAP 0.5 and mAP 0.5:0.95, as COCO defines them."""
    import numpy as np

    rows: dict[str, tuple[Array, Array, Array]] = {}
    for name in sample.classes:
        areas = average_precision(sample.ranked[name])
        if areas is not None:
            ranked = sample.ranked[name]
            rows[name] = areas, resampled(ranked, sample.weights), coarseness(ranked)
    table: Table = {name: {"map50": NOTHING, "map50_95": NOTHING} for name in ("all", *CLASSES)}
    if rows:
        each, many, coarse = (list(part) for part in zip(*rows.values(), strict=True))
        together = np.sqrt(np.square(coarse).sum(axis=0)) / len(rows)
        for name, row in {**rows, "all": (np.mean(each, axis=0), _mean(many), together)}.items():
            area, drawn, jumps = row
            over_all = float(np.sqrt(np.square(jumps).sum())) / len(jumps)
            table[name] = {
                "map50": _number(area[0], drawn[0], sample.units, coarse=float(jumps[0])),
                "map50_95": _number(area.mean(), drawn.mean(axis=0), sample.units, coarse=over_all),
            }
    return table


def _number(estimate: Any, many: Array, units: int, bias: float | None = None, coarse: float = 0.0) -> Number:
    return Number(float(estimate), interval(float(estimate), many, units, bias=bias, coarse=coarse))


def _mean(rows: list[Array]) -> Array:
    """Return the mean over classes; a class that a resample happens not to hold is left out of its mean."""
    import warnings

    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean: Array = np.nanmean(np.stack(rows), axis=0)
    return mean


# ---- at one confidence ----


@dataclass(frozen=True, eq=False, slots=True)
class Counts:
    """Per image, (images,) each: the right detections of a class above a confidence, all of them, the labels."""

    hits: Array
    found: Array
    labels: Array


def counts_at(sample: Sample, name: str, confidence: float) -> Counts:
    import numpy as np

    ranked, images = sample.ranked[name], sample.flat.images
    above = ranked.confidence > confidence
    hits = np.bincount(ranked.image[above & ranked.hit[0]], minlength=images)
    return Counts(hits, np.bincount(ranked.image[above], minlength=images), ranked.labels)


def rates(hits: Array, found: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return precision, recall and F1 of counts; precision without a detection is not a number."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return hits / found, hits / labels, 2 * hits / (found + labels)


def at_confidence(sample: Sample, confidence: float, *, chosen_here: bool = False) -> Table:
    """Return precision, recall and F1 at IoU 0.5 of the detections above a confidence.

    Args:
        chosen_here: the confidence is the one with the best F1 on these same images. What that flatters is
            estimated (each resample chooses its own best, and is scored on the whole) and taken into the interval.
    """
    import numpy as np

    flattery = _flattery(sample) if chosen_here and sample.classes else {}
    rows = {}
    for name in sample.classes:
        counts = counts_at(sample, name, confidence)
        parts = (counts.hits, counts.found, counts.labels)
        whole = rates(*(np.asarray(part.sum(), np.float64) for part in parts))
        rows[name] = whole, rates(*(part.astype(np.float32) @ sample.weights for part in parts))
    table: Table = {name: dict.fromkeys(("precision", "recall", "f1"), NOTHING) for name in ("all", *CLASSES)}
    if rows:
        means = tuple(_mean([np.asarray(whole[i]) for whole, _ in rows.values()]) for i in range(3))
        many = tuple(_mean([one[i] for _, one in rows.values()]) for i in range(3))
        for name, (values, resamples) in {**rows, "all": (means, many)}.items():
            for i, key in enumerate(("precision", "recall", "f1")):
                bias = flattery.get(name, (0.0, 0.0, 0.0))[i]
                if np.isfinite(values[i]):
                    table[name][key] = _number(values[i], resamples[i], sample.units, bias)
    return table


def _flattery(sample: Sample) -> dict[str, tuple[float, float, float]]:
    """Return how much choosing the confidence of the best F1 raises precision, recall and F1 on average."""
    import numpy as np

    names = sample.classes
    ones = np.ones((sample.flat.images, 1), np.float32)
    here, there = (
        {name: rates(*_along(sample, name, weights)) for name in names} for weights in (sample.weights, ones)
    )
    smooth = np.ones(_SMOOTH) / _SMOOTH
    mean = _mean([here[name][2] for name in names])
    best = np.array([np.convolve(column, smooth, mode="same").argmax() for column in np.nan_to_num(mean).T])
    each = np.arange(len(best))

    def gained(own: tuple[Array, ...], whole: tuple[Array, ...]) -> tuple[float, float, float]:
        gains = [_mean([own[i][best, each] - whole[i][best, 0]]) for i in range(3)]
        return tuple(float(np.nanmean(gain)) if np.isfinite(gain).any() else 0.0 for gain in gains)  # type: ignore[return-value]

    found = {name: gained(here[name], there[name]) for name in names}
    found["all"] = tuple(float(np.mean([found[name][i] for name in names])) for i in range(3))  # type: ignore[assignment]
    return found


def _along(sample: Sample, name: str, weights: Array) -> tuple[Array, Array, Array]:
    """Return hits, detections and labels of each resample above each confidence of a grid: (grid, b) and (1, b)."""
    import numpy as np

    ranked = sample.ranked[name]
    step = np.minimum((ranked.confidence * _GRID).astype(np.int64), _GRID - 1)

    def above(chosen: Array) -> Array:
        table = np.zeros((_GRID, sample.flat.images), np.float32)
        np.add.at(table, (step[chosen], ranked.image[chosen]), 1)
        return (table @ weights)[::-1].cumsum(axis=0)[::-1]

    everything = np.ones(len(step), bool)
    return above(ranked.hit[0]), above(everything), (ranked.labels.astype(np.float32) @ weights)[None]
