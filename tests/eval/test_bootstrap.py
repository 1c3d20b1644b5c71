"""Intervals: what they hold, where they do not vanish, and that they are the same on every call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemask_train.eval.measures.bootstrap import difference, interval, resample, share, student, wilson


def test_a_resample_draws_as_many_images_as_there_are_and_always_the_same() -> None:
    weights = resample(30, 200)
    assert weights.shape == (30, 200)
    assert (weights.sum(axis=0) == 30).all()
    assert (weights == resample(30, 200)).all()
    assert weights.mean() == pytest.approx(1)
    assert not (weights == resample(30, 200, seed=1)).all()


@pytest.mark.parametrize(("freedom", "expected"), [(4, 2.776), (9, 2.262), (29, 2.045), (99, 1.984), (10**6, 1.960)])
def test_students_t(freedom: int, expected: float) -> None:
    assert student(freedom) == pytest.approx(expected, abs=0.011)


def test_wilson_by_hand() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0.0, 20)[0] == 0
    assert wilson(0.0, 20)[1] == pytest.approx(0.1611, abs=1e-4)


def test_nothing_went_wrong_on_a_few_is_no_certainty() -> None:
    asked = np.ones(25)
    found = share(np.zeros(25), asked, resample(25))
    assert found is not None
    rate, (low, high) = found
    assert (rate, low) == (0, 0)
    assert 0.10 < high < 0.20
    assert share(np.zeros(3), np.zeros(3), resample(3)) is None


def test_faces_of_one_image_count_less_than_as_many_images() -> None:
    """The same 40 of 100: on 100 images, and on 10 images that go wrong as a whole."""
    alone = share(np.r_[np.ones(40), np.zeros(60)], np.ones(100), resample(100))
    together = share(np.r_[np.full(4, 10.0), np.zeros(6)], np.full(10, 10.0), resample(10))
    assert alone
    assert together
    assert together[1][1] - together[1][0] > 2.5 * (alone[1][1] - alone[1][0])


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.integers(2, 500), st.integers(0, 10**6), st.floats(0, 0.3))
def test_an_interval_holds_its_number_and_keeps_to_0_and_1(value: float, units: int, seed: int, spread: float) -> None:
    drawn = np.clip(value + np.random.default_rng(seed).normal(0, spread, 200), 0, 1)
    found = interval(value, drawn, units)
    assert found is not None
    assert 0 <= found[0] <= value <= found[1] <= 1


def test_no_interval_of_what_most_resamples_lack() -> None:
    assert interval(0.5, np.r_[np.full(60, np.nan), np.full(40, 0.5)], 50) is None
    assert interval(1.0, np.ones(10), 1) is None


def test_a_bias_that_the_resamples_show_moves_the_interval() -> None:
    drawn = np.random.default_rng(0).normal(0.63, 0.02, 2000)
    low, high = interval(0.6, drawn, 200)  # type: ignore[misc]
    assert (low + high) / 2 < 0.6


def test_the_difference_of_equal_models_is_nothing() -> None:
    assert difference(0.0, np.zeros(100), 50) == (0.0, 0.0)
    low, high = difference(0.1, np.random.default_rng(0).normal(0.1, 0.02, 4000), 300)
    assert (low, high) == (pytest.approx(0.061, abs=0.002), pytest.approx(0.139, abs=0.002))


@pytest.mark.parametrize(("images", "rate"), [(100, 0.9), (200, 0.5)])
def test_95_of_100_intervals_hold_the_truth(images: int, rate: float) -> None:
    """Images with 1 to 5 faces that go wrong together more often than apart (bench/coverage.py: at length)."""
    rng, held, times = np.random.default_rng(images), 0, 300
    weights = resample(images, 300)
    for _ in range(times):
        asked = rng.integers(1, 6, images)
        hits = rng.binomial(asked, rng.beta(3 * rate, 3 * (1 - rate), images))
        found = share(hits, asked, weights)
        assert found
        held += found[1][0] <= rate <= found[1][1]
    assert 0.91 <= held / times <= 0.985
