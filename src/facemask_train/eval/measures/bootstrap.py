"""Confidence intervals (95 %) by the bootstrap over scene groups.

A resample draws as many scene groups as there are, with replacement: the images of a burst stay together, and so do the
faces of an image. An image without a group is one of its own.

An interval is made from the resamples' standard deviation, widened for few groups (Student's t), and from their
mean's shift, the bias of the estimate (average precision is biased upward on few images). Both enter Wilson's
interval, which stays inside 0 to 1 and has a width even if no error was observed. Groups that hold many of the faces
count for fewer than they are (`effective_units`). `bench/coverage.py` measures how often an interval covers the true
value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def bootstrap_weights(units: int, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Return how often each unit is in each resample: (units, resamples) float32."""
    import numpy as np

    rng = np.random.default_rng([seed, units])
    weights = np.empty((units, resamples), np.float32)
    for column in range(resamples):
        weights[:, column] = np.bincount(rng.integers(0, units, units), minlength=units)
    return weights


def group_codes(groups: Sequence[str]) -> Array:
    """Return the number of each image's group, 0 to groups - 1, by the group's first image: (images,) int64."""
    import numpy as np

    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


def group_weights(codes: Array, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Return how often each image is in each resample of the groups: (images, resamples) float32.

    Args:
        codes: (images,) as `group_codes` returns them.
    """
    count = int(codes.max()) + 1 if len(codes) else 0
    weights: Array = bootstrap_weights(count, resamples, seed)[codes]
    return weights


def per_group(counts: Array, codes: Array) -> Array:
    """Return the sum of each group of the counts of its images: (groups,) float64."""
    import numpy as np

    return np.bincount(codes, counts)


def effective_units(sizes: Array) -> float:
    """Return how many units of equal size tell as much as these of unequal size do: (sum)^2 / sum of squares (Kish).

    Args:
        sizes: (units,) the number of faces of each; a unit without one does not count.
    """
    squares = float((sizes.astype(float) ** 2).sum())
    return float(sizes.sum()) ** 2 / squares if squares else 0.0


def t_quantile(degrees: float) -> float:
    """Return the 97.5 % quantile of Student's t (Cornish-Fisher expansion, within 0.01 from 4 degrees on)."""
    z, v = _Z, max(degrees, 1)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum((term / float(v) ** (power + 1) for power, term in enumerate(terms)), 0.0)


def confidence_interval(
    estimate: float, resampled: Array, units: float, *, bias: float | None = None, extra_std: float = 0.0
) -> Interval | None:
    """Return the interval of a number from 0 to 1.

    Args:
        resampled: (b,) the number in each resample; values that are not finite are ignored.
        units: the effective number of units that were resampled.
        bias: how much the estimate is too high; by default the resamples' mean minus the estimate.
        extra_std: a standard deviation to add that resampling does not show.

    Returns:
        None if fewer than half of the resamples have a finite value.
    """
    import numpy as np

    values = resampled[np.isfinite(resampled)]
    if len(values) < len(resampled) / 2 or units <= 1:
        return None
    bias = float(values.mean()) - estimate if bias is None else bias
    spread = math.sqrt(float(values.var()) * units / (units - 1) + bias**2 + extra_std**2)
    variance = estimate * (1 - estimate)
    effective_count = variance / spread**2 if spread > 1e-9 and variance > 1e-9 else float(units)
    corrected = min(max(estimate - bias, 0.0), 1.0)
    low, high = wilson_interval(corrected, effective_count, t_quantile(units - 1))
    return min(low, estimate), max(high, estimate)


def wilson_interval(proportion: float, count: float, z: float = _Z) -> Interval:
    """Return Wilson's interval of a proportion observed among `count` trials."""
    middle = (proportion + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(proportion * (1 - proportion) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def clustered_proportion(hits: Array, trials: Array, weights: Array) -> Estimate:
    """Return a proportion with its interval, clustered by unit.

    Args:
        hits, trials: (units,) counts of each unit, such as a scene group.
        weights: (units, b) as `bootstrap_weights` returns them.

    Returns:
        `UNDEFINED` if there are no trials.
    """
    import numpy as np

    total = float(trials.sum())
    if not total:
        return UNDEFINED
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = (hits.astype(np.float32) @ weights) / (trials.astype(np.float32) @ weights)
    estimate, units = float(hits.sum()) / total, effective_units(trials)
    interval = confidence_interval(estimate, resampled, units, bias=0.0)
    return Estimate(estimate, interval or wilson_interval(estimate, units))


def difference_interval(estimate: float, resampled: Array, units: float) -> Interval:
    """Return the interval of a difference (-1 to 1) of two numbers on the same images.

    Args:
        resampled: (b,) the difference in each resample.
        units: the number of units that were resampled.
    """
    import numpy as np

    values = resampled[np.isfinite(resampled)]
    bias = float(values.mean()) - estimate
    half = t_quantile(units - 1) * math.sqrt(float(values.var()) * units / max(units - 1, 1))
    return max(-1.0, estimate - bias - half), min(1.0, estimate - bias + half)
