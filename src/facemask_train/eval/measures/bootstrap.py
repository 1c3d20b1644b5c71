"""Confidence intervals (95 %) by the bootstrap over images.

A resample draws as many images as there are, with replacement, so the faces of one image stay together. Duplicates
were merged into one image when the ensemble was built. Images of the same scene (a burst) still count separately,
so intervals are too narrow on data with bursts.

An interval is made from the resamples' standard deviation, widened for few images (Student's t), and from their
mean's shift, the bias of the estimate (average precision is biased upward on few images). Both enter Wilson's
interval, which stays inside 0 to 1 and has a width even if no error was observed. `bench/coverage.py` measures how
often an interval covers the true value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facemask_train.core.types import Array

LEVEL = 0.95
RESAMPLES = 1000
SEED = 0

Interval = tuple[float, float]

_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number from 0 to 1 with its 95 % interval; both are None if there is nothing to measure."""

    value: float | None
    interval: Interval | None


UNDEFINED = Estimate(None, None)


def bootstrap_weights(images: int, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Return how often each image is in each resample: (images, resamples) float32."""
    import numpy as np

    rng = np.random.default_rng([seed, images])
    weights = np.empty((images, resamples), np.float32)
    for column in range(resamples):
        weights[:, column] = np.bincount(rng.integers(0, images, images), minlength=images)
    return weights


def t_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t (Cornish-Fisher expansion, within 0.01 from 4 degrees on)."""
    z, v = _Z, max(degrees, 1)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum((term / float(v) ** (power + 1) for power, term in enumerate(terms)), 0.0)


def confidence_interval(
    estimate: float, resampled: Array, images: int, *, bias: float | None = None, extra_std: float = 0.0
) -> Interval | None:
    """Return the interval of a number from 0 to 1.

    Args:
        resampled: (b,) the number in each resample; values that are not finite are ignored.
        images: the number of images that were resampled.
        bias: how much the estimate is too high; by default the resamples' mean minus the estimate.
        extra_std: a standard deviation to add that resampling does not show.

    Returns:
        None if fewer than half of the resamples have a finite value.
    """
    import numpy as np

    values = resampled[np.isfinite(resampled)]
    if len(values) < len(resampled) / 2 or images < 2:
        return None
    bias = float(values.mean()) - estimate if bias is None else bias
    spread = math.sqrt(float(values.var()) * images / (images - 1) + bias**2 + extra_std**2)
    variance = estimate * (1 - estimate)
    effective_count = variance / spread**2 if spread > 1e-9 and variance > 1e-9 else float(images)
    corrected = min(max(estimate - bias, 0.0), 1.0)
    low, high = wilson_interval(corrected, effective_count, t_quantile(images - 1))
    return min(low, estimate), max(high, estimate)


def wilson_interval(proportion: float, count: float, z: float = _Z) -> Interval:
    """Return Wilson's interval of a proportion observed among `count` trials."""
    middle = (proportion + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(proportion * (1 - proportion) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def clustered_proportion(hits: Array, trials: Array, weights: Array) -> Estimate:
    """Return a proportion with its interval, clustered by image.

    Args:
        hits, trials: (images,) counts of each image.
        weights: (images, b) as `bootstrap_weights` returns them.

    Returns:
        `UNDEFINED` if there are no trials.
    """
    import numpy as np

    total = float(trials.sum())
    if not total:
        return UNDEFINED
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = (hits.astype(np.float32) @ weights) / (trials.astype(np.float32) @ weights)
    estimate, images = float(hits.sum()) / total, int((trials > 0).sum())
    interval = confidence_interval(estimate, resampled, images, bias=0.0)
    return Estimate(estimate, interval or wilson_interval(estimate, float(images)))


def difference_interval(estimate: float, resampled: Array, images: int) -> Interval:
    """Return the interval of a difference (-1 to 1) of two numbers on the same images.

    Args:
        resampled: (b,) the difference in each resample.
        images: the number of images that were resampled.
    """
    import numpy as np

    values = resampled[np.isfinite(resampled)]
    bias = float(values.mean()) - estimate
    half = t_quantile(images - 1) * math.sqrt(float(values.var()) * images / max(images - 1, 1))
    return max(-1.0, estimate - bias - half), min(1.0, estimate - bias + half)
