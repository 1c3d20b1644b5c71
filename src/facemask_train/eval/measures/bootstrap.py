"""Intervals at 95 % by resampling images: what a number may be on other images of the same kind.

A resample draws as many images as there are, with replacement: faces of one image stay together. Where the same
image was kept once for its whole group of copies, an image is its group. Other images of the same scene (a burst)
count as images of their own, so with bursts the intervals are too narrow.

How an interval is made of the resamples: their spread, widened for few images (Student's t), and their shift, the
bias that the number has of itself (average precision takes the best of noise, so it is too high on few images). Both
go into Wilson's interval, which keeps to 0 and 1 and does not vanish where nothing went wrong among the few seen.
`bench/coverage.py` measures how often it holds the truth.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facemask_train.core.types import Array

LEVEL = 0.95
RESAMPLES = 1000
SEED = 0

Interval = tuple[float, float]

_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


def resample(units: int, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Return how often each of `units` stands in each resample: (units, resamples) float32."""
    import numpy as np

    rng = np.random.default_rng([seed, units])
    weights = np.empty((units, resamples), np.float32)
    for column in range(resamples):
        weights[:, column] = np.bincount(rng.integers(0, units, units), minlength=units)
    return weights


def student(freedom: int) -> float:
    """Return the 97.5 % point of Student's t (Cornish and Fisher's expansion, to 0.01 from 4 degrees on)."""
    z, v = _Z, max(freedom, 1)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum((term / float(v) ** (power + 1) for power, term in enumerate(terms)), 0.0)


def interval(
    estimate: float, resampled: Array, units: int, *, bias: float | None = None, coarse: float = 0.0
) -> Interval | None:
    """Return the interval of a share (0 to 1).

    Args:
        resampled: (b,) the same number of each resample; those that are not numbers are left out.
        units: how many images were resampled.
        bias: how much too high the number is; without it, how much the resamples' mean is above the estimate.
        coarse: what the number jumps about by itself, as a standard deviation.

    Returns:
        None where next to no resample has the number.
    """
    import numpy as np

    values = resampled[np.isfinite(resampled)]
    if len(values) < len(resampled) / 2 or units < 2:
        return None
    bias = float(values.mean()) - estimate if bias is None else bias
    spread = math.sqrt(float(values.var()) * units / (units - 1) + bias**2 + coarse**2)
    variance = estimate * (1 - estimate)
    count = variance / spread**2 if spread > 1e-9 and variance > 1e-9 else float(units)
    low, high = wilson(min(max(estimate - bias, 0.0), 1.0), count, student(units - 1))
    return min(low, estimate), max(high, estimate)


def wilson(share: float, count: float, z: float = _Z) -> Interval:
    """Return Wilson's interval of a share that was seen on so many."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(hits: Array, asked: Array, weights: Array) -> tuple[float, Interval] | None:
    """Return a share with its interval, counted over images.

    Args:
        hits, asked: (images,) how many of how many, in each image.
        weights: (images, b) as `resample` returns them.

    Returns:
        None where nothing was asked.
    """
    import numpy as np

    total = float(asked.sum())
    if not total:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = (hits.astype(np.float32) @ weights) / (asked.astype(np.float32) @ weights)
    estimate = float(hits.sum()) / total
    found = interval(estimate, resampled, int((asked > 0).sum()), bias=0.0)
    return estimate, found or wilson(estimate, float((asked > 0).sum()))


def difference(estimate: float, resampled: Array, units: int) -> Interval:
    """Return the interval of a difference (-1 to 1) of two numbers on the same images."""
    import numpy as np

    values = resampled[np.isfinite(resampled)]
    bias = float(values.mean()) - estimate
    half = student(units - 1) * math.sqrt(float(values.var()) * units / max(units - 1, 1))
    return max(-1.0, estimate - bias - half), min(1.0, estimate - bias + half)
