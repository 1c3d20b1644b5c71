"""Does a confidence of 0.8 mean that 8 in 10 are right? The reliability of detections, and the calibration error."""

from __future__ import annotations

from dataclasses import dataclass

from facemask_train.eval.measures.bootstrap import share
from facemask_train.eval.measures.metrics import Number, Sample

BINS = 10
FROM = 0.05
"""Less sure detections are left out: there are so many, near 0, that they would drown the rest."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Detections between two confidences: how many, their mean confidence, and the share that is right."""

    low: float
    high: float
    n: int
    confidence: float
    right: Number


@dataclass(frozen=True, slots=True)
class Calibration:
    """The bins that hold a detection, and the expected calibration error: the mean of |right - confidence| over n."""

    bins: tuple[Bin, ...]
    n: int
    error: float | None


def calibration(sample: Sample) -> Calibration:
    """Compare confidences with how often they are right (the right class at IoU 0.5)."""
    import numpy as np

    found, right = sample.flat.found, sample.answers[0] >= 0
    bins = []
    for number in range(BINS):
        low, high = max(number / BINS, FROM), (number + 1) / BINS
        inside = (found.confidence >= low) & ((found.confidence < high) | (number == BINS - 1))
        if not inside.any():
            continue
        images = sample.flat.images
        of = share(
            np.bincount(found.image[inside & right], minlength=images),
            np.bincount(found.image[inside], minlength=images),
            sample.weights,
        )
        assert of is not None
        bins.append(Bin(low, high, int(inside.sum()), float(found.confidence[inside].mean()), Number(*of)))
    total = sum(one.n for one in bins)
    off = sum(one.n * abs((one.right.value or 0.0) - one.confidence) for one in bins)
    return Calibration(tuple(bins), total, off / total if total else None)
