"""The warnings of a survey: what weakens an estimate, or makes the reference set differ from the survey's images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.apps.records.survey import FEW
from facemask_train.apps.survey.proportions import Proportion
from facemask_train.apps.survey.samples import MASK, MISSED, NO_MASK, UNKNOWN, ReferenceFaces, SurveySample

if TYPE_CHECKING:
    from facemask_train.core.types import Array

FEW_FACES, FEW_IMAGES = 30, 10
REFERENCE_FACES = 72
"""With fewer faces of a class in the test set the detector's errors on it are hardly known: a rate of 0.75 over 72
faces has a 95 % interval of 0.1 to either side."""
MANY_UNKNOWN = 1 / 3
SHIFTED = 0.2
"""The share of sizes or brightnesses outside the middle 95 % of the reference set that gives a warning."""


def estimate_caveats(
    reference: ReferenceFaces,
    sample: SurveySample,
    wrong: tuple[Proportion, Proportion],
    rate: float | None,
    *,
    correlation_known: bool,
) -> Iterator[str]:
    """Yield the warnings of one estimate.

    Args:
        wrong: the share of classified faces that are given the wrong class: masked, bare.
        correlation_known: the intracluster correlation was estimated from more data than this sample.
    """
    classified = sample.boxes.outcome < UNKNOWN
    faces, boxes, clusters = int(classified.sum()), len(classified), len(sample.images)
    if rate is None:
        yield _why_no_rate(wrong)
    elif rate in (0.0, 1.0):
        name = "masked" if rate == 0 else "bare"
        yield (
            f"the detector's errors alone explain all faces that were classified as {name}, so the rate is limited to "
            f"{rate:.0f}"
        )
    if rate is not None and sum(one.bounds()[1] for one in wrong) >= 1:
        yield "the correction is unstable: the detector misclassifies many faces, or its reference set has too few"
    if clusters == 1 and not correlation_known:
        yield "there is only one image (or cluster of images), so the interval is 0 to 1"
    elif clusters < FEW_IMAGES or faces < FEW_FACES:
        yield f"{FEW}{faces:,} faces in {clusters:,} clusters of images"
    if boxes - faces > MANY_UNKNOWN * boxes:
        yield (
            f"{boxes - faces:,} of {boxes:,} faces are too small or too uncertain to classify: see the bounds for "
            "unknown faces"
        )
    yield from size_caveats(reference, sample.boxes.size)


def _why_no_rate(wrong: tuple[Proportion, Proportion]) -> str:
    if wrong[MASK].value + wrong[NO_MASK].value >= 1:
        return "there is no rate: on its reference set, the detector's classes carry no information about masks"
    return "there is no rate: the detector's false boxes alone explain all boxes"


def reference_caveats(reference: ReferenceFaces) -> list[str]:
    """Return a warning for each class with too few faces in the reference set."""
    counts = {name: int((reference.label == index).sum()) for index, name in ((MASK, "with"), (NO_MASK, "without"))}
    return [
        f"the reference set has only {count} faces {name} a mask, so the detector's errors on them are hardly known"
        for name, count in counts.items()
        if count < REFERENCE_FACES
    ]


def size_caveats(reference: ReferenceFaces, sizes: Array) -> list[str]:
    """Return a warning where many boxes have a size that is rare in the reference set."""
    shift = range_shift(reference.size[reference.outcome < MISSED], sizes)
    if not shift.large:
        return []
    what, share = ("smaller", shift.below) if shift.below > shift.above else ("larger", shift.above)
    return [
        f"{100 * share:.0f} % of the faces are {what} than nearly all faces of the reference set ({shift.low:.0f} to "
        f"{shift.high:.0f} pixels at the detector's input size), so the detector's errors on them are extrapolated"
    ]


def brightness_caveats(reference: Sequence[float], seen: Sequence[float]) -> list[str]:
    """Return a warning where many images are darker or brighter than nearly all images of the reference set.

    Args:
        reference, seen: the mean luma of each image, 0 to 255.
    """
    import numpy as np

    shift = range_shift(np.asarray(reference), np.asarray(seen))
    if not shift.large:
        return []
    what, share = ("darker", shift.below) if shift.below > shift.above else ("brighter", shift.above)
    return [
        f"{100 * share:.0f} % of the images are {what} than nearly all images of the reference set (mean luma "
        f"{shift.low:.0f} to {shift.high:.0f}), so the detector's errors in this light are not known"
    ]


@dataclass(frozen=True, slots=True)
class RangeShift:
    """The shares of values below and above the middle 95 % of reference values, and the ends of that range."""

    below: float
    above: float
    low: float
    high: float

    @property
    def large(self) -> bool:
        return self.below + self.above >= SHIFTED


def range_shift(reference: Array, seen: Array) -> RangeShift:
    """Compare values (n,) with reference values (m,)."""
    import numpy as np

    low, high = np.quantile(reference, [0.025, 0.975]).tolist()
    return RangeShift(float((seen < low).mean()), float((seen > high).mean()), low, high)
