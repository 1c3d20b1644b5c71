"""Proportions and mean counts from clustered data, with confidence distributions.

Faces in the same image are correlated. A proportion is given an effective sample size, at which independent faces would
vary as much as it varies between images (Rao and Scott 1992; Korn and Graubard 1998), reduced with Student's t where
images are few. Its uncertainty is a lower and an upper confidence distribution: the beta distributions of Clopper and
Pearson for proportions, the gamma distributions of Garwood for counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.eval.measures.bootstrap import LEVEL, Interval

if TYPE_CHECKING:
    import numpy as np

    from facemask_train.core.types import Array

MIN_CORRELATION = 0.05
"""The smallest intracluster correlation that is assumed, also where the data show less."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """A proportion (0 to 1) with its effective sample size."""

    value: float
    n: float

    def _beta(self, *, upper: bool) -> tuple[float, float]:
        hits, rest = self.value * self.n, (1 - self.value) * self.n
        return (hits + 1, rest) if upper else (hits, rest + 1)

    def draw(self, rng: np.random.Generator, draws: int, *, upper: bool) -> Array:
        """Draw from the upper or the lower confidence distribution."""
        import numpy as np

        a, b = self._beta(upper=upper)
        if min(a, b) < 1e-9:
            return np.full(draws, float(upper))
        return rng.beta(a, b, draws)

    def bounds(self) -> Interval:
        """Return the 95 % confidence interval."""
        from scipy.stats import beta

        tail = (1 - LEVEL) / 2
        (a, b), (c, d) = self._beta(upper=False), self._beta(upper=True)
        low = float(beta.ppf(tail, a, b)) if min(a, b) > 1e-9 else 0.0
        high = float(beta.ppf(1 - tail, c, d)) if min(c, d) > 1e-9 else 1.0
        return min(low, self.value), max(high, self.value)


@dataclass(frozen=True, slots=True)
class MeanCount:
    """A mean count per image, with the effective number of images."""

    value: float
    images: float

    def draw(self, rng: np.random.Generator, draws: int, *, upper: bool) -> Array:
        """Draw from the upper or the lower confidence distribution."""
        import numpy as np

        shape = self.value * self.images + upper
        return np.zeros(draws) if shape < 1e-9 else rng.gamma(shape, 1 / max(self.images, 1e-9), draws)


def clustered_proportion(
    hit: Array,
    cluster: Array,
    weight: Array | None = None,
    *,
    min_correlation: float = MIN_CORRELATION,
    correlation_known: bool = False,
) -> Proportion:
    """Return the weighted proportion of hits, with the effective sample size that its clusters leave.

    Args:
        hit: (n,) bool.
        cluster: (n,) integers; equal ones belong together.
        weight: (n,), 1 if it is None.
        min_correlation: the smallest intracluster correlation that is assumed.
        correlation_known: it was estimated from many clusters, so that few clusters here need no correction.
    """
    import numpy as np

    weight = np.ones(len(hit)) if weight is None else weight
    total = float(weight.sum())
    value = float((weight * hit).sum()) / total
    _, cluster = np.unique(cluster, return_inverse=True)
    squares, cluster_squares = float((weight**2).sum()), float((np.bincount(cluster, weight) ** 2).sum())
    n = total**2 / ((1 - min_correlation) * squares + min_correlation * cluster_squares)
    clusters = int(cluster.max()) + 1
    if clusters > 1:
        residuals = np.bincount(cluster, weight * (hit - value))
        variance = float((residuals**2).sum()) * clusters / (clusters - 1) / total**2
        n = min(n, value * (1 - value) / variance) if variance > 1e-12 else n
    return Proportion(value, n if correlation_known else n * _small_sample_factor(clusters))


def mean_count(counts: Array) -> MeanCount:
    """Return the mean of counts (n,) over images; overdispersed counts have fewer effective images."""
    mean, images = float(counts.mean()), len(counts)
    dispersion = float(counts.var()) * images / max(images - 1, 1) / mean if mean else 1.0
    return MeanCount(mean, images / max(1.0, dispersion) * _small_sample_factor(images))


def _small_sample_factor(clusters: int) -> float:
    """Return the factor for the sample size where the variance is estimated from few clusters: (z / t) squared."""
    from scipy.stats import norm, t

    if clusters < 2:
        return 0.0
    tail = (1 + LEVEL) / 2
    return float(norm.ppf(tail) / t.ppf(tail, clusters - 1)) ** 2
