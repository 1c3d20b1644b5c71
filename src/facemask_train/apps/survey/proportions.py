"""Shares and counts, each with what is not known of it: how many independent faces or images it rests on.

Faces of one image come together, and go wrong together. A share is held to rest on as many independent faces as would
vary as much from image to image as it does (Rao and Scott 1992; Korn and Graubard 1998), fewer where images are
few (Student's t). What is not known is told by a lower and an upper confidence distribution: Clopper and Pearson's beta
for shares, Garwood's gamma for counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.eval.measures.bootstrap import LEVEL, Interval

if TYPE_CHECKING:
    import numpy as np

    from facemask_train.core.types import Array

LEAST_CORRELATION = 0.05
"""Faces of one image are taken to be at least this alike, also where they do not seem so."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share that rests on `n` independent faces."""

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
        from scipy.stats import beta

        tail = (1 - LEVEL) / 2
        (a, b), (c, d) = self._beta(upper=False), self._beta(upper=True)
        low = float(beta.ppf(tail, a, b)) if min(a, b) > 1e-9 else 0.0
        high = float(beta.ppf(1 - tail, c, d)) if min(c, d) > 1e-9 else 1.0
        return min(low, self.value), max(high, self.value)


@dataclass(frozen=True, slots=True)
class Count:
    """A mean count an image that rests on `images` independent ones."""

    value: float
    images: float

    def draw(self, rng: np.random.Generator, draws: int, *, upper: bool) -> Array:
        import numpy as np

        shape = self.value * self.images + upper
        return np.zeros(draws) if shape < 1e-9 else rng.gamma(shape, 1 / max(self.images, 1e-9), draws)


def share_of(
    hit: Array,
    cluster: Array,
    weight: Array | None = None,
    *,
    alike: float = LEAST_CORRELATION,
    well_known: bool = False,
) -> Share:
    """Return the weighted share of hits, with as many independent faces as vary as much between clusters.

    Args:
        alike: how alike faces of one cluster are at least.
        well_known: that is measured on many clusters: these need not be many.
    """
    import numpy as np

    weight = np.ones(len(hit)) if weight is None else weight
    total = float(weight.sum())
    value = float((weight * hit).sum()) / total
    _, cluster = np.unique(cluster, return_inverse=True)
    each, joint = float((weight**2).sum()), float((np.bincount(cluster, weight) ** 2).sum())
    n = total**2 / ((1 - alike) * each + alike * joint)
    clusters = int(cluster.max()) + 1
    if clusters > 1:
        off = np.bincount(cluster, weight * (hit - value))
        variance = float((off**2).sum()) * clusters / (clusters - 1) / total**2
        n = min(n, value * (1 - value) / variance) if variance > 1e-12 else n
    return Share(value, n if well_known else n * _fewer(clusters))


def count_of(counts: Array) -> Count:
    """Return the mean of counts over images; one that varies more than chance rests on fewer of them."""
    mean, images = float(counts.mean()), len(counts)
    excess = float(counts.var()) * images / max(images - 1, 1) / mean if mean else 1.0
    return Count(mean, images / max(1.0, excess) * _fewer(images))


def _fewer(clusters: int) -> float:
    """Return what part of the faces counts, where their spread is known from so few clusters."""
    from scipy.stats import norm, t

    if clusters < 2:
        return 0.0
    tail = (1 + LEVEL) / 2
    return float(norm.ppf(tail) / t.ppf(tail, clusters - 1)) ** 2


def outside(known: Array, seen: Array) -> tuple[float, float, tuple[float, float]]:
    """Return which shares of values are under and over the middle 95 % of the known ones, and where that ends."""
    import numpy as np

    low, high = np.quantile(known, [0.025, 0.975]).tolist()
    return float((seen < low).mean()), float((seen > high).mean()), (low, high)
