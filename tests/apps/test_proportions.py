"""Proportions and mean counts with their uncertainty: scipy's exact intervals, and small tables worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from facemask_train.apps.survey import proportions
from facemask_train.apps.survey.caveats import RangeShift, range_shift
from facemask_train.apps.survey.proportions import MeanCount, Proportion, clustered_proportion, mean_count
from helpers.records import is_fixed, records

DRAWS = 40_000


def fewer(clusters: int) -> float:
    """Return (z / t)^2: the part of the faces that counts where their spread is known from so few clusters."""
    return float((stats.norm.ppf(0.975) / stats.t.ppf(0.975, clusters - 1)) ** 2)


# ---- proportions ----


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (3, 200), (199, 200)])
def test_the_bounds_of_a_proportion_are_clopper_and_pearsons(hits: int, n: int) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    assert Proportion(hits / n, n).bounds() == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_proportion_without_data_has_the_full_interval() -> None:
    assert Proportion(0.4, 0.0).bounds() == (0.0, 1.0)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize(("value", "n"), [(0.25, 8.0), (0.25, 40.0), (0.9, 20.0)])
def test_draws_of_a_proportion_are_betas(value: float, n: float, upper: bool) -> None:
    drawn = Proportion(value, n).draw(np.random.default_rng(1), DRAWS, upper=upper)
    a, b = value * n + upper, (1 - value) * n + (not upper)
    assert drawn.shape == (DRAWS,)
    assert drawn.mean() == pytest.approx(a / (a + b), abs=0.003)
    assert np.quantile(drawn, 0.9) == pytest.approx(stats.beta.ppf(0.9, a, b), abs=0.006)


def test_draws_of_proportions_0_and_1() -> None:
    rng = np.random.default_rng(1)
    assert Proportion(0.0, 9.0).draw(rng, 4, upper=False).tolist() == [0.0] * 4
    assert Proportion(1.0, 9.0).draw(rng, 4, upper=True).tolist() == [1.0] * 4
    # with no hit of nine, half of the draws lie above 1 - 0.5 ** (1 / 9): the chance of none is 0.5 there
    assert np.median(Proportion(0.0, 9.0).draw(rng, DRAWS, upper=True)) == pytest.approx(1 - 0.5 ** (1 / 9), abs=0.003)
    assert np.median(Proportion(1.0, 9.0).draw(rng, DRAWS, upper=False)) == pytest.approx(0.5 ** (1 / 9), abs=0.003)


# ---- counts ----


@pytest.mark.parametrize("tail", [0.025, 0.5, 0.975])
def test_draws_of_a_count_are_garwoods(tail: float) -> None:
    """Of 12 in 40 images: chi squared of 24 and of 26 degrees, halved."""
    count = MeanCount(0.3, 40.0)
    for upper, degrees in ((False, 24), (True, 26)):
        drawn = count.draw(np.random.default_rng(2), DRAWS, upper=upper)
        assert np.quantile(drawn, tail) == pytest.approx(stats.chi2.ppf(tail, degrees) / 2 / 40, rel=0.03)


def test_draws_of_a_count_of_zero() -> None:
    rng = np.random.default_rng(2)
    assert MeanCount(0.0, 40.0).draw(rng, 3, upper=False).tolist() == [0.0] * 3
    assert MeanCount(0.0, 40.0).draw(rng, DRAWS, upper=True).mean() == pytest.approx(1 / 40, rel=0.03)
    assert MeanCount(0.0, 0.0).draw(rng, 100, upper=True).min() > 1e3  # no image was looked at: there may be any number


@pytest.mark.parametrize(
    ("counts", "mean", "images"),
    [
        ([0, 1, 2, 1], 1.0, 4),  # variance 2/3: chance alone would have 1
        ([0, 0, 4, 0], 1.0, 1),  # variance 4: as one image of four
        ([0, 0, 8, 0], 2.0, 0.5),  # variance 16 by 2
        ([0, 0, 0, 0], 0.0, 4),
    ],
)
def test_a_mean_count_by_hand(counts: list[int], mean: float, images: float) -> None:
    found = mean_count(np.array(counts))
    assert (found.value, found.images) == (mean, pytest.approx(images * fewer(4)))


def test_a_count_in_one_image_has_no_effective_images() -> None:
    assert mean_count(np.array([3])) == MeanCount(3.0, 0.0)
    assert mean_count(np.array([0])) == MeanCount(0.0, 0.0)


# ---- how many independent faces ----

ALONE, PAIRS = [0, 1, 2, 3], [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("hit", "cluster", "weight", "value", "n"),
    [
        # each its own cluster: 4 x 0.25 x 4/3 / 16 is the variance, 0.25 through that
        ([1, 0, 1, 0], ALONE, None, 0.5, 3),
        ([1, 1, 0, 0], PAIRS, None, 0.5, 1),  # two clusters, 1 above and 1 below: 2 x 2/1 / 16
        ([1, 0, 1, 0], PAIRS, None, 0.5, 16 / 4.2),  # clusters that do not differ: 0.95 x 4 + 0.05 x (4 + 4)
        ([1, 1, 1, 1], PAIRS, None, 1.0, 16 / 4.2),
        ([0, 0, 0, 0], ALONE, None, 0.0, 4),
        ([1, 0], [7, 9], [3.0, 1.0], 0.75, 4 / 3),  # 0.1875 through (0.75^2 + 0.75^2) x 2 / 16
        ([1, 1], [7, 9], [3.0, 1.0], 1.0, 1.6),  # 4^2 / (3^2 + 1^2)
        ([1, 1, 1], [5, 5, 2], [1.0, 2.0, 1.0], 1.0, 16 / (0.95 * 6 + 0.05 * 10)),
    ],
)
def test_a_proportion_by_hand(
    hit: list[int], cluster: list[int], weight: list[float] | None, value: float, n: float
) -> None:
    weights = None if weight is None else np.array(weight)
    known = clustered_proportion(np.array(hit), np.array(cluster), weights, correlation_known=True)
    assert (known.value, known.n) == (pytest.approx(value), pytest.approx(n))
    found = clustered_proportion(np.array(hit), np.array(cluster), weights)
    assert (found.value, found.n) == (pytest.approx(value), pytest.approx(n * fewer(len(set(cluster)))))


def test_a_higher_assumed_correlation_lowers_the_sample_size() -> None:
    hit, cluster = np.ones(4), np.array(PAIRS)
    assert clustered_proportion(hit, cluster, min_correlation=0.5, correlation_known=True).n == pytest.approx(
        16 / (0.5 * 4 + 0.5 * 8)
    )
    assert clustered_proportion(hit, cluster, min_correlation=1.0, correlation_known=True).n == pytest.approx(2)
    assert clustered_proportion(hit, cluster, min_correlation=0.0, correlation_known=True).n == pytest.approx(4)


def test_one_cluster_has_no_sample_size_unless_the_correlation_is_known() -> None:
    hit, cluster = np.array([1, 0]), np.array([3, 3])
    assert clustered_proportion(hit, cluster) == Proportion(0.5, 0.0)
    assert clustered_proportion(hit, cluster, correlation_known=True) == Proportion(
        0.5, pytest.approx(4 / (0.95 * 2 + 0.05 * 4))
    )  # type: ignore[arg-type]


def test_two_clusters_leave_a_fortieth_of_the_sample_size() -> None:
    """t of one degree is 12.706: (1.960 / 12.706)^2."""
    assert clustered_proportion(np.array([1, 1]), np.array([0, 1])).n == pytest.approx(
        2 * (1.95996 / 12.7062) ** 2, rel=1e-4
    )


def test_values_outside_the_middle_95_percent() -> None:
    """Of 0 to 1000 the middle ends at 25 and 975."""
    found = range_shift(np.arange(1001), np.array([0, 24, 25, 26, 500, 974, 975, 976, 2000, 3000]))
    assert found == RangeShift(0.2, 0.3, 25.0, 975.0)


def test_records_are_fixed() -> None:
    assert {Proportion, MeanCount} == set(records(proportions))
    assert all(map(is_fixed, records(proportions)))
