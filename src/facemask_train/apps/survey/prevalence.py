"""Misclassification-corrected prevalence: the share of faces with a mask, with the detector's errors removed.

A detector that finds masked faces more often than bare ones, misclassifies some, and reports boxes without a face gives
a biased share, and more images do not reduce the bias. The reference set (the detector's test set) tells how it errs:

    v           the share of the classified boxes that are called masked, in the survey
    d           classified boxes per image, in the survey
    f_c         the share of faces of class c (m masked, b bare) that are found and classified, in the reference set
    w_c         the share of those that are given the other class
    g_m, g_b    classified boxes per image without a face, by the class they are given

Of the boxes with a face, u = (v - g_m / d) / (1 - (g_m + g_b) / d) are called masked. The rate p that explains this
solves the two equations of finding and classifying the faces of each class; it is limited to 0 to 1:

    p / (1 - p)  =  (f_b / f_m) * (u - w_b) / (1 - w_m - u)

With f_b = f_m and no false boxes this is the estimator of Rogan and Gladen (1978).

**Sizes.** Small faces are missed and misclassified more often. The faces of the reference set are weighted so that the
boxes found among them have the size distribution of the survey's boxes: `samples.size_weights`.

**Confidence interval** (95 %): a melded interval (Bayer, Fay and Graubard 2022, for prevalence with estimated
sensitivity and specificity; see also Lang and Reiczigel 2014). Each quantity above has a lower and an upper confidence
distribution, and the rate is monotone in each. For the lower limit, each quantity is drawn from the distribution that
makes the rate lower, and the limit is the 2.5 % quantile of the rates; likewise for the upper limit. The interval is
valid where a count is 0, and somewhat wide where all counts are small.

**Clusters.** Faces in one image (or in images of one moment) are correlated: `proportions`.

**Assumptions.** Faces of one class and size are found and classified as in the reference set (same lighting, kind of
camera and kind of mask). Whether a face is missed or unknown depends on nothing else that is related to wearing a mask.
False boxes are as frequent per image as in the reference set. The images are a fair sample of their place and time.
`bench/survey.py` measures the coverage of the interval with clustered faces and errors that depend on size.

**Where there is no estimate.** Without a classified box there is neither a rate nor an interval. If there are no more
boxes than the false boxes of the reference set explain, or the detector's classes carry no information, there is no
rate, and the interval is 0 to 1. With a single image the interval is 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.apps.records.survey import PrevalenceEstimate
from facemask_train.apps.survey.caveats import estimate_caveats
from facemask_train.apps.survey.proportions import (
    MIN_CORRELATION,
    MeanCount,
    Proportion,
    clustered_proportion,
    mean_count,
)
from facemask_train.apps.survey.samples import (
    MASK,
    NO_MASK,
    UNKNOWN,
    ReferenceFaces,
    SurveySample,
    check_reference,
    size_weights,
)
from facemask_train.eval.measures.bootstrap import LEVEL, SEED, Interval

if TYPE_CHECKING:
    from facemask_train.core.types import Array

DRAWS = 4000
MAX_ASSUMED_CORRELATION = 0.5
"""The correlation that is assumed where few images hold a face of the rarer class, so that it cannot be estimated."""

_CORRELATION_DECAY = 8  # images with a face of the rarer class, after which most of the assumed correlation is gone


def estimate_prevalence(
    reference: ReferenceFaces, sample: SurveySample, *, correlation: float | None = None, draws: int = DRAWS
) -> PrevalenceEstimate:
    """Return the share of masked faces in a sample: see the module's docstring.

    Args:
        correlation: the intracluster correlation (0 to 1) where it was estimated from more data than this sample;
            estimated from the sample alone if it is None.
        draws: of the confidence distributions.

    Raises:
        DataError: the reference set has no face of a class, or the detector classified none of them.
    """
    check_reference(reference)
    boxes = sample.boxes
    classified = boxes.outcome < UNKNOWN
    n, unknown = int(classified.sum()), int(len(classified) - classified.sum())
    images, clusters = int(sample.images.sum()), len(sample.images)
    if not n:
        no_face = ("no face was classified, so there is no rate",)
        return PrevalenceEstimate(None, None, None, None, n, unknown, None, images, clusters, no_face)
    observed, errors = _observe(sample, correlation), _errors(reference, size_weights(reference, boxes.size))
    rate = _rate(observed, errors)
    low, high = _interval(observed, errors, draws)
    return PrevalenceEstimate(
        rate,
        (low, high) if rate is None else (min(low, rate), max(high, rate)),
        observed.masked.value,
        observed.masked.bounds(),
        n,
        unknown,
        None if rate is None else _unknown_bounds(rate, observed, errors, unknown, images),
        images,
        clusters,
        tuple(estimate_caveats(reference, sample, errors.wrong, rate, correlation_known=correlation is not None)),
    )


# ---- the quantities, each with its uncertainty ----


@dataclass(frozen=True, slots=True)
class _Observed:
    """A sample's share called masked, its classified boxes per image, and the latter's relative standard error."""

    masked: Proportion
    density: float
    spread: float


@dataclass(frozen=True, slots=True)
class _Errors:
    """A detector's errors; pairs are (masked, bare).

    Attributes:
        classified: the share of faces that are found and classified.
        wrong: of those, the share that are given the other class.
        false_boxes: classified boxes without a face, per image.
        unknown: the share of faces that are found but not classified.
        false_unknown: unclassified boxes without a face, per image.
    """

    classified: tuple[Proportion, Proportion]
    wrong: tuple[Proportion, Proportion]
    false_boxes: tuple[MeanCount, MeanCount]
    unknown: tuple[float, float]
    false_unknown: float


def _observe(sample: SurveySample, correlation: float | None) -> _Observed:
    import numpy as np

    classified = sample.boxes.outcome < UNKNOWN
    cluster = sample.boxes.cluster[classified]
    hit = sample.boxes.outcome[classified] == MASK
    assumed = _assumed_correlation(hit, cluster) if correlation is None else correlation
    masked = clustered_proportion(hit, cluster, min_correlation=assumed, correlation_known=correlation is not None)
    total, clusters = float(len(cluster)), len(sample.images)
    density = total / float(sample.images.sum())
    residuals = np.bincount(cluster, minlength=clusters) - density * sample.images
    spread = math.sqrt(float((residuals**2).sum()) * clusters / max(clusters - 1, 1)) / total
    return _Observed(masked, density, min(1.0, max(spread, total**-0.5)))


def _assumed_correlation(hit: Array, cluster: Array) -> float:
    """Return the intracluster correlation to assume: the fewer clusters hold the rarer class, the higher."""
    import numpy as np

    rarer = min(len(np.unique(cluster[hit])), len(np.unique(cluster[~hit])))
    return MIN_CORRELATION + (MAX_ASSUMED_CORRELATION - MIN_CORRELATION) * math.exp(-rarer / _CORRELATION_DECAY)


def _errors(reference: ReferenceFaces, weights: Array) -> _Errors:
    import numpy as np

    classified, wrong, unknown = [], [], []
    outcome, false_boxes = reference.outcome, reference.false_boxes
    for label in (MASK, NO_MASK):
        own = reference.label == label
        answered = own & (outcome < UNKNOWN)
        classified.append(clustered_proportion(outcome[own] < UNKNOWN, reference.cluster[own], weights[own]))
        wrong.append(clustered_proportion(outcome[answered] != label, reference.cluster[answered], weights[answered]))
        unknown.append(float(np.average(outcome[own] == UNKNOWN, weights=weights[own])))
    masked, bare, unclassified = (
        np.bincount(false_boxes.cluster[false_boxes.outcome == one], minlength=reference.images)
        for one in (MASK, NO_MASK, UNKNOWN)
    )
    return _Errors(
        (classified[MASK], classified[NO_MASK]),
        (wrong[MASK], wrong[NO_MASK]),
        (mean_count(masked), mean_count(bare)),
        (unknown[MASK], unknown[NO_MASK]),
        float(unclassified.mean()),
    )


# ---- from the quantities to the rate ----


@dataclass(frozen=True, slots=True)
class _Quantities:
    """Values of all quantities, scalars or one for each draw; pairs are (masked, bare)."""

    masked: Array
    density: Array
    classified: tuple[Array, Array]
    wrong: tuple[Array, Array]
    false_boxes: tuple[Array, Array]


def _solve(values: _Quantities, undefined: float) -> Array:
    """Return the rate for each draw, and `undefined` if there is none."""
    import numpy as np

    masked = np.maximum(values.masked - values.false_boxes[MASK] / values.density, 0.0)
    bare = np.maximum(1 - values.masked - values.false_boxes[NO_MASK] / values.density, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = masked / (masked + bare)
        with_mask = values.classified[NO_MASK] * np.maximum(share - values.wrong[NO_MASK], 0.0)
        without = values.classified[MASK] * np.maximum(1 - values.wrong[MASK] - share, 0.0)
        rate = with_mask / (with_mask + without)
    known = (values.wrong[MASK] + values.wrong[NO_MASK] < 1) & np.isfinite(rate)
    return np.where(known, rate, undefined)


def _rate(observed: _Observed, errors: _Errors) -> float | None:
    import numpy as np

    def values(pair: tuple[Proportion, Proportion] | tuple[MeanCount, MeanCount]) -> tuple[Array, Array]:
        return np.asarray(pair[MASK].value), np.asarray(pair[NO_MASK].value)

    quantities = _Quantities(
        np.asarray(observed.masked.value),
        np.asarray(observed.density),
        values(errors.classified),
        values(errors.wrong),
        values(errors.false_boxes),
    )
    rate = float(_solve(quantities, math.nan))
    return None if math.isnan(rate) else rate


def _interval(observed: _Observed, errors: _Errors, draws: int) -> Interval:
    """Return the melded interval: for each limit, all quantities are drawn toward it."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    limits = []
    for upper in (False, True):
        masked = observed.masked.draw(rng, draws, upper=upper)
        density = observed.density * rng.gamma(observed.spread**-2, observed.spread**2, draws)
        classified, wrong, false_boxes = (
            (pair[MASK].draw(rng, draws, upper=up), pair[NO_MASK].draw(rng, draws, upper=not up))
            for pair, up in ((errors.classified, not upper), (errors.wrong, upper), (errors.false_boxes, not upper))
        )
        rates = _solve(_Quantities(masked, density, classified, wrong, false_boxes), float(upper))
        limits.append(float(np.quantile(rates, (1 + LEVEL) / 2 if upper else (1 - LEVEL) / 2)))
    return limits[0], limits[1]


def _unknown_bounds(rate: float, observed: _Observed, errors: _Errors, unknown: int, images: int) -> Interval:
    """Return the rate if none, and if all, of the unknown faces wore a mask."""
    masked_false, bare_false = (one.value for one in errors.false_boxes)
    classified = errors.classified
    with_face = max(images * (observed.density - masked_false - bare_false), 0.0)
    faces = with_face / (rate * classified[MASK].value + (1 - rate) * classified[NO_MASK].value)
    masked = faces * rate * (1 - errors.unknown[MASK])
    bare = faces * (1 - rate) * (1 - errors.unknown[NO_MASK])
    unclear = unknown - images * errors.false_unknown
    if unclear <= 0:
        return rate, rate
    total = masked + bare + unclear
    return min(rate, masked / total), max(rate, (masked + unclear) / total)
