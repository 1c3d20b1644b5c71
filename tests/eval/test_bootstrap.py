"""Intervals: what they hold, where they do not vanish, and that they are the same on every call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from facemask_train.eval.measures.bootstrap import (
    RESAMPLES,
    UNDEFINED,
    Estimate,
    bootstrap_weights,
    clustered_proportion,
    confidence_interval,
    difference_interval,
    t_quantile,
    wilson_interval,
)


def test_a_resample_draws_as_many_images_as_there_are_and_always_the_same() -> None:
    weights = bootstrap_weights(30, 200)
    assert weights.shape == (30, 200)
    assert (weights.sum(axis=0) == 30).all()
    assert (weights == bootstrap_weights(30, 200)).all()
    assert weights.mean() == pytest.approx(1)
    assert not (weights == bootstrap_weights(30, 200, seed=1)).all()


@pytest.mark.parametrize(("freedom", "expected"), [(4, 2.776), (9, 2.262), (29, 2.045), (99, 1.984), (10**6, 1.960)])
def test_students_t(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=0.011)


def test_wilson_by_hand() -> None:
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson_interval(0.0, 20)[0] == 0
    assert wilson_interval(0.0, 20)[1] == pytest.approx(0.1611, abs=1e-4)


def test_nothing_went_wrong_on_a_few_is_no_certainty() -> None:
    found = clustered_proportion(np.zeros(25), np.ones(25), bootstrap_weights(25))
    low, high = found.interval or (1, 1)
    assert (found.value, low) == (0, 0)
    assert 0.10 < high < 0.20
    assert clustered_proportion(np.zeros(3), np.zeros(3), bootstrap_weights(3)) == UNDEFINED


def test_faces_of_one_image_count_less_than_as_many_images() -> None:
    """The same 40 of 100: on 100 images, and on 10 images that go wrong as a whole."""
    alone = clustered_proportion(np.r_[np.ones(40), np.zeros(60)], np.ones(100), bootstrap_weights(100))
    together = clustered_proportion(np.r_[np.full(4, 10.0), np.zeros(6)], np.full(10, 10.0), bootstrap_weights(10))
    widths = [high - low for low, high in (alone.interval or (0, 1), together.interval or (0, 0))]
    assert widths[1] > 2.5 * widths[0]


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.integers(2, 500), st.integers(0, 10**6), st.floats(0, 0.3))
def test_an_interval_holds_its_number_and_keeps_to_0_and_1(value: float, units: int, seed: int, spread: float) -> None:
    drawn = np.clip(value + np.random.default_rng(seed).normal(0, spread, 200), 0, 1)
    found = confidence_interval(value, drawn, units)
    assert found is not None
    assert 0 <= found[0] <= value <= found[1] <= 1


def test_no_interval_of_what_most_resamples_lack() -> None:
    assert confidence_interval(0.5, np.r_[np.full(60, np.nan), np.full(40, 0.5)], 50) is None
    assert confidence_interval(1.0, np.ones(10), 1) is None


def test_a_bias_that_the_resamples_show_moves_the_interval() -> None:
    drawn = np.random.default_rng(0).normal(0.63, 0.02, 2000)
    low, high = confidence_interval(0.6, drawn, 200)  # type: ignore[misc]
    assert (low + high) / 2 < 0.6


def test_the_difference_of_equal_models_is_nothing() -> None:
    assert difference_interval(0.0, np.zeros(100), 50) == (0.0, 0.0)
    low, high = difference_interval(0.1, np.random.default_rng(0).normal(0.1, 0.02, 4000), 300)
    assert (low, high) == (pytest.approx(0.061, abs=0.002), pytest.approx(0.139, abs=0.002))


@pytest.mark.parametrize(("images", "rate"), [(100, 0.9), (200, 0.5)])
def test_95_of_100_intervals_hold_the_truth(images: int, rate: float) -> None:
    """Images with 1 to 5 faces that go wrong together more often than apart (bench/coverage.py: at length)."""
    rng, held, times = np.random.default_rng(images), 0, 300
    weights = bootstrap_weights(images, 300)
    for _ in range(times):
        asked = rng.integers(1, 6, images)
        hits = rng.binomial(asked, rng.beta(3 * rate, 3 * (1 - rate), images))
        found = clustered_proportion(hits, asked, weights)
        low, high = found.interval or (1, 0)
        held += low <= rate <= high
    assert 0.91 <= held / times <= 0.985


def test_a_resample_is_a_draw_with_replacement() -> None:
    """How often one of n images is drawn in n draws has mean 1 and variance 1 - 1 / n (binomial)."""
    weights = bootstrap_weights(20)
    assert weights.shape == (20, RESAMPLES) == (20, 1000)
    assert weights.dtype == np.float32
    assert (weights == bootstrap_weights(20, 1000, seed=0)).all()
    assert (weights >= 0).all()
    assert (weights == weights.round()).all()
    assert weights.var() == pytest.approx(1 - 1 / 20, rel=0.05)
    assert len(np.unique(weights, axis=1).T) > 990
    assert not (bootstrap_weights(20, 50)[:19] == bootstrap_weights(19, 50)).all()


@pytest.mark.parametrize("freedom", [4, 5, 7, 10, 15, 30, 100, 1000])
def test_students_t_as_scipy_has_it(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=min(0.01, 2 / freedom**4 + 1e-9))


def test_students_t_by_its_expansion() -> None:
    """Abramowitz and Stegun 26.7.5 at z = 1.959964: the three terms are 2.372271, 2.822499 and 2.555850."""
    assert t_quantile(1) == t_quantile(0) == pytest.approx(1.959964 + 2.372271 + 2.822499 + 2.555850, abs=2e-5)
    assert t_quantile(2) == pytest.approx(1.959964 + 2.372271 / 2 + 2.822499 / 4 + 2.555850 / 8, abs=2e-5)


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (1, 5), (3, 20), (10, 20), (19, 20), (20, 20), (100, 101)])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_wilson_as_scipy_has_it(hits: int, count: int, level: float) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(level, "wilson")
    z = stats.norm.ppf((1 + level) / 2)
    assert wilson_interval(hits / count, count, z) == pytest.approx((expected.low, expected.high), abs=1e-12)
    if level == 0.95:
        assert wilson_interval(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


NAN = float("nan")


@pytest.mark.parametrize(
    ("estimate", "values", "given", "center", "count"),
    [
        # variance 0.01 of the resamples, times 5 / 4 for five images; the count is 0.25 through the sum of squares
        (0.5, [0.4, 0.6], {}, 0.5, 0.25 / 0.0125),
        (0.5, [0.5, 0.7], {}, 0.4, 0.25 / (0.0125 + 0.01)),  # their mean is 0.1 too high
        (0.5, [0.5, 0.7], {"bias": 0.0}, 0.5, 0.25 / 0.0125),
        (0.5, [0.4, 0.6], {"bias": 0.1}, 0.4, 0.25 / (0.0125 + 0.01)),
        (0.5, [0.4, 0.6], {"extra_std": 0.1}, 0.5, 0.25 / (0.0125 + 0.01)),
        (0.5, [0.4, 0.6], {"bias": -0.1, "extra_std": 0.2}, 0.6, 0.25 / (0.0125 + 0.01 + 0.04)),
        (0.2, [0.1, 0.3], {}, 0.2, 0.16 / 0.0125),
        (0.5, [NAN, 0.4, NAN, 0.6], {}, 0.5, 0.25 / 0.0125),  # half of them are enough
        (0.5, [0.5, 0.5], {}, 0.5, 5),  # no spread: as many as there are images
        (1.0, [0.8, 1.0], {}, 1.0, 5),  # no variance; 1.1 is held at 1
        (0.0, [0.0, 0.2], {}, 0.0, 5),
    ],
)
def test_an_interval_by_hand(
    estimate: float, values: list[float], given: dict[str, float], center: float, count: float
) -> None:
    found = confidence_interval(estimate, np.array(values), 5, **given)
    assert found == pytest.approx(wilson_interval(center, count, t_quantile(4)))


def test_an_interval_needs_two_images_and_half_of_the_resamples() -> None:
    values = np.array([0.4, 0.6])
    assert confidence_interval(0.5, values, 2) == pytest.approx(wilson_interval(0.5, 0.25 / 0.02, t_quantile(1)))
    assert confidence_interval(0.5, values, 1) is None
    assert confidence_interval(0.5, np.r_[values, NAN, NAN], 5) is not None
    assert confidence_interval(0.5, np.r_[values, NAN, NAN, NAN], 5) is None


def test_a_share_by_hand() -> None:
    """Two images of two faces, all right and all wrong, and one without: resamples of 1/2, 1 and 0."""
    hits, asked = np.array([2, 0, 0]), np.array([2, 2, 0])
    weights = np.array([[1, 2, 0], [1, 0, 2], [1, 1, 1]], np.float32)
    expected = wilson_interval(0.5, 0.25 / (1 / 6 * 2), t_quantile(1))
    assert clustered_proportion(hits, asked, weights) == Estimate(0.5, pytest.approx(expected))
    assert clustered_proportion(hits, asked, np.c_[weights, [0, 0, 3]].astype(np.float32)) == Estimate(
        0.5, pytest.approx(expected)
    )


def test_a_share_without_an_interval_of_its_own_has_wilsons() -> None:
    one = clustered_proportion(np.array([3, 0]), np.array([4, 0]), bootstrap_weights(2, 50))
    assert one == Estimate(0.75, pytest.approx(wilson_interval(0.75, 1)))
    unseen = clustered_proportion(np.array([1, 0]), np.array([1, 1]), np.zeros((2, 8), np.float32))
    assert unseen == Estimate(0.5, pytest.approx(wilson_interval(0.5, 2)))


def test_a_single_face_is_enough_to_ask() -> None:
    found = clustered_proportion(np.array([1.0]), np.array([1.0]), np.ones((1, 4), np.float32))
    assert found == Estimate(1.0, pytest.approx(wilson_interval(1.0, 1)))


@pytest.mark.parametrize(
    ("estimate", "values", "units", "middle", "root"),
    [
        (0.1, [0.0, 0.2], 5, 0.1, 0.0125),
        (0.1, [0.2, 0.4, NAN], 5, -0.1, 0.0125),  # the resamples are 0.2 too high
        (0.3, [0.29, 0.31], 2, 0.3, 0.0002),
        (0.3, [0.29, 0.31], 1, 0.3, 0.0001),
    ],
)
def test_a_difference_by_hand(estimate: float, values: list[float], units: int, middle: float, root: float) -> None:
    half = t_quantile(units - 1) * root**0.5
    assert difference_interval(estimate, np.array(values), units) == pytest.approx((middle - half, middle + half))


def test_a_difference_keeps_to_minus_1_and_1() -> None:
    assert difference_interval(0.0, np.array([-1.0, 1.0]), 2) == (-1.0, 1.0)
