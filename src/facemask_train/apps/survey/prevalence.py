"""The share of faces with a mask, with the detector's own errors taken out of it. Knows counts: no files, no model.

A detector that finds masked faces more often than bare ones, names some wrongly and sees faces where none are gives a
share that is off, and more images do not mend it. What its test set says of it is turned around. Let `v` be the share
called masked of the boxes that were judged, `d` the judged boxes an image, and, from the test set,

    f_c         the share of faces of class c (m masked, b bare) that are found and judged,
    w_c         of those, the share that are called by the other class's name,
    g_m, g_b    judged boxes an image that answer no face, by what they are called.

Of the boxes that answer a face, u = (v - g_m / d) / (1 - (g_m + g_b) / d) are called masked, and the rate p that
explains them solves the two equations for the faces of each class (found, then confused), held at 0 and 1:

    p / (1 - p)  =  (f_b / f_m) * (u - w_b) / (1 - w_m - u)

With f_b = f_m and no false boxes that is Rogan and Gladen's estimator (1978).

**Sizes.** Small faces are missed and confused more. The test set's faces are weighted so that the boxes found in them
have the sizes that the material's boxes have (in five bins, drawn towards no weighting where boxes are few).

**The interval** (95 %) is a melded one (Bayer, Fay and Graubard 2022: prevalence with estimated sensitivity and
specificity; the problem as in Lang and Reiczigel 2014). Each part has a lower and an upper confidence distribution, and
the rate falls or rises with each part alone. So for the lower end each part is drawn from the one that makes the rate
lower, many times; 2.5 % of the rates lie below it. Likewise the upper end. That is safe where a count is 0, and
somewhat wide where all counts are small.

**Clusters.** Faces of one image (or block of video) come together, and go wrong together: `shares.py`.

**It rests on** this: faces of one class and size are found and named as in the test set (same light, same kind of
camera and of mask), and whether one is missed or unknown depends on nothing else that goes with wearing a mask; false
boxes come with images as they do there; images are a fair sample of their place and time. `bench/survey.py`
measures how often the interval holds the truth where faces come in groups and errors follow sizes.

**Where nothing can be said.** No judged box: no rate, no interval. No more boxes than the test set's false ones, or a
detector whose names say nothing of the class: no rate, and the interval is 0 to 1. One image: the interval is 0 to 1.
A class that the test set lacks, or of which it judges no face: refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facemask_train.apps.survey.proportions import LEAST_CORRELATION, Count, Share, count_of, outside, share_of
from facemask_train.core.errors import DataError
from facemask_train.eval.measures.bootstrap import LEVEL, SEED, Interval
from facemask_train.eval.measures.metrics import ENOUGH_FACES

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MASK, BARE, UNKNOWN, MISSED = range(4)
"""What becomes of a face: called masked, called bare, found but not judged, not found. The first two are classes."""

DRAWS = 4000
MOST_ASSUMED = 0.5
"""Where few images hold a face of the rarer kind, nothing tells how alike faces of one image are: in the material
they are taken to be up to this alike."""

FEW_FACES, FEW_IMAGES = 30, 10
MANY_UNKNOWN = 1 / 3
ODD_SIZES = 0.2
"""The share of boxes outside the sizes of the test set's middle 95 % from which a warning is due."""

_BINS = 5  # of face sizes, with as many boxes of the test set in each
_PULL = 20  # boxes' worth of the test set's own sizes, in what the material's sizes are taken to be
_MOST_WEIGHT = 10.0
_TELLING = 8  # images with a face of the rarer kind, from which on most of what is assumed goes


@dataclass(frozen=True, eq=False, slots=True)
class Boxes:
    """Detections, (n,) each: the cluster (image) that each is in, what it was called, and its size.

    `answer` is MASK, BARE or UNKNOWN; `size` is a side in pixels of the image as the detector sees it.
    """

    cluster: Array
    answer: Array
    size: Array


@dataclass(frozen=True, eq=False, slots=True)
class Measured:
    """What a test set says of a detector: every labelled face, and the boxes that answer none, in so many images.

    The faces are (n,) each: `cluster` (image), `name` (MASK or BARE, as labelled), `answer` (what became of it: any
    of the four), `size`.
    """

    images: int
    cluster: Array
    name: Array
    answer: Array
    size: Array
    false: Boxes


@dataclass(frozen=True, eq=False, slots=True)
class Stream:
    """What was seen in the material: (clusters,) how many images each cluster has, and all boxes.

    A cluster is what is independent of the others: an image, or a block of a video.
    """

    images: Array
    boxes: Boxes


@dataclass(frozen=True, slots=True)
class Estimate:
    """The share of faces with a mask, 0 to 1, with its 95 % interval.

    `uncorrected` is the share called masked of the `n` judged boxes. `bounds` is the rate if none, and if all, of the
    `unknown` faces wore one. `rate` is None where nothing can be said of it; `warnings` say why, and what weakens it.
    """

    rate: float | None
    interval: Interval | None
    uncorrected: float | None
    uncorrected_interval: Interval | None
    bounds: Interval | None
    n: int
    unknown: int
    images: int
    clusters: int
    warnings: tuple[str, ...] = ()


def estimate(test: Measured, stream: Stream, *, correlation: float | None = None, draws: int = DRAWS) -> Estimate:
    """Return the share of masked faces in a stream, as the module's docstring says.

    Args:
        correlation: how alike the answers of one cluster are (0 to 1), where more material than this tells it; without
            it the stream alone tells, as far as its clusters go.

    Raises:
        DataError: the test set has no face of a class, or the detector judges none of them.
    """
    check(test)
    boxes = stream.boxes
    judged = boxes.answer < UNKNOWN
    n, unknown = int(judged.sum()), int(len(judged) - judged.sum())
    counts = (n, unknown, int(stream.images.sum()), len(stream.images))
    if not n:
        return Estimate(None, None, None, None, None, *counts, ("no face was judged: there is no rate",))
    seen, errors = _seen(stream, correlation), _errors(test, size_weights(test, boxes.size))
    rate = _point(seen, errors)
    low, high = _ends(seen, errors, draws)
    uncorrected = seen.masked.value
    return Estimate(
        rate,
        (low, high) if rate is None else (min(low, rate), max(high, rate)),
        uncorrected,
        seen.masked.bounds(),
        None if rate is None else _bounds(rate, seen, errors, unknown, counts[2]),
        *counts,
        tuple(_warnings(test, stream, errors, rate, alone=correlation is None)),
    )


def check(test: Measured) -> None:
    """Make sure that a detector's errors can be told from its test set.

    Raises:
        DataError: the test set has no face of a class, or the detector judges none of them.
    """
    for index, name in ((MASK, "with a mask"), (BARE, "without a mask")):
        answers = test.answer[test.name == index]
        if not len(answers):
            raise DataError(f"the test set has no face {name}: what the detector makes of one is not known")
        if not (answers < UNKNOWN).any():
            raise DataError(f"the detector judged none of the {len(answers)} faces {name} in the test set")


def correlation_within(streams: Iterable[Stream]) -> float | None:
    """Return how alike the answers of one cluster are (0 to 1), over streams of different rates.

    Returns:
        None where fewer than 20 clusters, beside one for each stream, have two judged boxes or more.
    """
    import numpy as np

    above = within = clusters = 0.0
    for stream in streams:
        judged = stream.boxes.answer < UNKNOWN
        cluster, masked = stream.boxes.cluster[judged], stream.boxes.answer[judged] == MASK
        asked = np.bincount(cluster, minlength=len(stream.images))
        several = int((asked > 1).sum())
        if several < 2:
            continue
        share = masked.mean()
        off = np.bincount(cluster, masked - share, minlength=len(asked))
        above += float((off**2).sum()) * several / (several - 1) - len(masked) * share * (1 - share)
        within += float((asked * (asked - 1)).sum()) * share * (1 - share)
        clusters += several - 1
    if clusters < 20 or not within:
        return None
    return min(1.0, max(LEAST_CORRELATION, above / within))


def size_weights(test: Measured, sizes: Array) -> Array:
    """Return a weight for each face of the test set, so that what was found in it has the sizes of the material.

    Args:
        sizes: (n,) of the material's boxes.
    """
    import numpy as np

    found = np.r_[test.size[test.answer < MISSED], test.false.size]
    edges = np.quantile(found, np.arange(1, _BINS) / _BINS)
    own = np.bincount(np.searchsorted(edges, found), minlength=_BINS) / len(found)
    counted = np.bincount(np.searchsorted(edges, sizes), minlength=_BINS)
    theirs = (counted + _PULL * own) / (len(sizes) + _PULL)
    ratio = np.divide(theirs, own, out=np.ones(_BINS), where=own > 0)
    weights: Array = ratio.clip(0, _MOST_WEIGHT)[np.searchsorted(edges, test.size)]
    return weights


# ---- parts, each with what is not known of it ----


@dataclass(frozen=True, slots=True)
class _Seen:
    """Of a stream: the share called masked, judged boxes an image, and the latter's relative standard error."""

    masked: Share
    density: float
    spread: float


@dataclass(frozen=True, slots=True)
class _Errors:
    """Of a detector, for masked and bare: faces judged, of those called by the other name, boxes without a face.

    `unknown` is the share of faces found but not judged; `idle` unknown boxes an image that answer no face.
    """

    judged: tuple[Share, Share]
    wrong: tuple[Share, Share]
    false: tuple[Count, Count]
    unknown: tuple[float, float]
    idle: float


def _seen(stream: Stream, correlation: float | None) -> _Seen:
    import numpy as np

    judged = stream.boxes.answer < UNKNOWN
    cluster = stream.boxes.cluster[judged]
    hit = stream.boxes.answer[judged] == MASK
    alike = _assumed(hit, cluster) if correlation is None else correlation
    masked = share_of(hit, cluster, alike=alike, well_known=correlation is not None)
    total, clusters = float(len(cluster)), len(stream.images)
    density = total / float(stream.images.sum())
    off = np.bincount(cluster, minlength=clusters) - density * stream.images
    spread = math.sqrt(float((off**2).sum()) * clusters / max(clusters - 1, 1)) / total
    return _Seen(masked, density, min(1.0, max(spread, total**-0.5)))


def _assumed(hit: Array, cluster: Array) -> float:
    """Return how alike faces of one cluster are taken to be: the more, the fewer clusters could show otherwise."""
    import numpy as np

    rarer = min(len(np.unique(cluster[hit])), len(np.unique(cluster[~hit])))
    return LEAST_CORRELATION + (MOST_ASSUMED - LEAST_CORRELATION) * math.exp(-rarer / _TELLING)


def _errors(test: Measured, weights: Array) -> _Errors:
    import numpy as np

    judged, wrong, unknown = [], [], []
    for name in (MASK, BARE):
        own = test.name == name
        answered = own & (test.answer < UNKNOWN)
        judged.append(share_of(test.answer[own] < UNKNOWN, test.cluster[own], weights[own]))
        wrong.append(share_of(test.answer[answered] != name, test.cluster[answered], weights[answered]))
        unknown.append(float(np.average(test.answer[own] == UNKNOWN, weights=weights[own])))
    false = [
        np.bincount(test.false.cluster[test.false.answer == name], minlength=test.images)
        for name in (MASK, BARE, UNKNOWN)
    ]
    counts = (count_of(false[MASK]), count_of(false[BARE]))
    return _Errors(_pair(judged), _pair(wrong), counts, (unknown[0], unknown[1]), float(false[UNKNOWN].mean()))


def _pair(shares: list[Share]) -> tuple[Share, Share]:
    return shares[MASK], shares[BARE]


# ---- from the parts to the rate ----


def _solve(
    seen: tuple[Any, Any], judged: tuple[Any, Any], wrong: tuple[Any, Any], false: tuple[Any, Any], unclear: float
) -> Array:
    """Return the rate (of each draw), and `unclear` where there is none.

    Args:
        seen: the share called masked, and judged boxes an image.
    """
    import numpy as np

    masked = np.maximum(seen[0] - false[MASK] / seen[1], 0.0)
    bare = np.maximum(1 - seen[0] - false[BARE] / seen[1], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = masked / (masked + bare)
        with_mask = judged[BARE] * np.maximum(share - wrong[BARE], 0.0)
        without = judged[MASK] * np.maximum(1 - wrong[MASK] - share, 0.0)
        rate = with_mask / (with_mask + without)
    known = (wrong[MASK] + wrong[BARE] < 1) & np.isfinite(rate)
    return np.where(known, rate, unclear)


def _point(seen: _Seen, errors: _Errors) -> float | None:
    judged, wrong, false = (tuple(part.value for part in one) for one in (errors.judged, errors.wrong, errors.false))
    rate = float(_solve((seen.masked.value, seen.density), judged, wrong, false, math.nan))  # type: ignore[arg-type]
    return None if math.isnan(rate) else rate


def _ends(seen: _Seen, errors: _Errors, draws: int) -> Interval:
    """Return the ends of the interval: quantiles of rates whose parts are all drawn towards the one end."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    ends = []
    for upper in (False, True):
        called = seen.masked.draw(rng, draws, upper=upper)
        density = seen.density * rng.gamma(seen.spread**-2, seen.spread**2, draws)
        judged, wrong, false = (
            (masked.draw(rng, draws, upper=up), bare.draw(rng, draws, upper=not up))
            for (masked, bare), up in ((errors.judged, not upper), (errors.wrong, upper), (errors.false, not upper))
        )
        rates = _solve((called, density), judged, wrong, false, float(upper))
        ends.append(float(np.quantile(rates, (1 + LEVEL) / 2 if upper else (1 - LEVEL) / 2)))
    return ends[0], ends[1]


def _bounds(rate: float, seen: _Seen, errors: _Errors, unknown: int, images: int) -> Interval:
    """Return the rate if none, and if all, of the unknown faces wore a mask."""
    real = images * (seen.density - errors.false[MASK].value - errors.false[BARE].value)
    faces = max(real, 0.0) / (rate * errors.judged[MASK].value + (1 - rate) * errors.judged[BARE].value)
    masked = faces * rate * (1 - errors.unknown[MASK])
    bare = faces * (1 - rate) * (1 - errors.unknown[BARE])
    unsure = unknown - images * errors.idle
    if unsure <= 0:
        return rate, rate
    total = masked + bare + unsure
    return min(rate, masked / total), max(rate, (masked + unsure) / total)


# ---- what a reader has to know beside the numbers ----


def _warnings(test: Measured, stream: Stream, errors: _Errors, rate: float | None, *, alone: bool) -> Iterator[str]:
    """Yield warnings; `alone` says that only this stream tells how alike the faces of one cluster are."""
    judged = stream.boxes.answer < UNKNOWN
    faces, boxes, clusters = int(judged.sum()), len(judged), len(stream.images)
    if rate is None:
        yield _why_no_rate(errors)
    elif rate in (0.0, 1.0):
        name = "masked" if rate == 0 else "bare"
        yield f"no more faces were called {name} than the detector's errors explain: the rate is held at {rate:.0f}"
    if rate is not None and sum(one.bounds()[1] for one in errors.wrong) >= 1:
        yield "the detector names so many faces wrongly, or is tested on so few, that the correction is unstable"
    if clusters == 1 and alone:
        yield "one image (or block of video) says who came together, not how many wear masks: the interval is 0 to 1"
    elif clusters < FEW_IMAGES or faces < FEW_FACES:
        yield f"few: {faces:,} faces in {clusters:,} images (or blocks of video)"
    if boxes - faces > MANY_UNKNOWN * boxes:
        yield f"{boxes - faces:,} of {boxes:,} faces are too small or too uncertain to judge: look at the bounds"
    yield from odd_sizes(test, stream.boxes.size)


def _why_no_rate(errors: _Errors) -> str:
    if errors.wrong[MASK].value + errors.wrong[BARE].value >= 1:
        return "on its test set the detector's names say nothing of masks: no rate can be told from them"
    return "there are no more boxes than the detector sees where no face is: no rate can be told from them"


def thin(test: Measured) -> list[str]:
    """Return what makes the test set itself too small to tell the detector's errors well."""
    counts = {name: int((test.name == index).sum()) for index, name in ((MASK, "with"), (BARE, "without"))}
    return [
        f"the test set has {count} faces {name} a mask: how the detector errs on such faces is hardly known"
        for name, count in counts.items()
        if count < ENOUGH_FACES
    ]


def odd_sizes(test: Measured, sizes: Array) -> list[str]:
    """Return a warning where many boxes have a size that few or none of the test set have."""
    smaller, larger, (low, high) = outside(test.size[test.answer < MISSED], sizes)
    if smaller + larger < ODD_SIZES:
        return []
    what, share = ("smaller", smaller) if smaller > larger else ("larger", larger)
    return [
        f"{100 * share:.0f} % of the faces are {what} than nearly all that the detector was tested on ({low:.0f} to "
        f"{high:.0f} pixels as the detector sees them): its errors here are a guess"
    ]
