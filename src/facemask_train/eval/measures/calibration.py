"""Calibration: whether detections with a confidence of 0.8 are right 8 times out of 10."""

from __future__ import annotations

from dataclasses import dataclass

from facemask_train.eval.measures.bootstrap import Estimate, clustered_proportion, per_group
from facemask_train.eval.measures.metrics import ScoredSplit

BIN_COUNT = 10
MIN_CONFIDENCE = 0.05
"""Detections below it are left out: there are so many near 0 that they would dominate the error."""


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The detections between two confidences: their number, mean confidence, and precision."""

    low: float
    high: float
    n: int
    confidence: float
    precision: Estimate


@dataclass(frozen=True, slots=True)
class Calibration:
    """The bins that contain a detection, and the expected calibration error.

    The error is the mean of |precision - confidence| over the `n` detections, bin by bin; None without detections.
    """

    error: float | None
    n: int
    bins: tuple[CalibrationBin, ...]
    min_confidence: float = MIN_CONFIDENCE


def calibration(split: ScoredSplit) -> Calibration:
    """Compare confidences with precision (right class, IoU 0.5)."""
    import numpy as np

    detections, right, images = split.table.detections, split.matches[0] >= 0, split.table.image_count
    bins = []
    for number in range(BIN_COUNT):
        low, high = max(number / BIN_COUNT, MIN_CONFIDENCE), (number + 1) / BIN_COUNT
        below = (detections.confidence < high) | (number == BIN_COUNT - 1)
        inside = (detections.confidence >= low) & below
        if inside.any():
            hits, trials = (
                per_group(np.bincount(detections.image[mask], minlength=images), split.groups)
                for mask in (inside & right, inside)
            )
            precision = clustered_proportion(hits, trials, split.scene_weights)
            mean = float(detections.confidence[inside].mean())
            bins.append(CalibrationBin(low, high, int(inside.sum()), mean, precision))
    total = sum(one.n for one in bins)
    error = sum(one.n * abs((one.precision.value or 0.0) - one.confidence) for one in bins)
    return Calibration(error / total if total else None, total, tuple(bins))
