"""The corrected prevalence: known solutions, invariants, and the coverage of its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import beta

from facemask_train.apps.records.survey import FEW, PrevalenceEstimate
from facemask_train.apps.survey import prevalence, samples
from facemask_train.apps.survey.caveats import brightness_caveats, reference_caveats, size_caveats
from facemask_train.apps.survey.prevalence import estimate_prevalence
from facemask_train.apps.survey.samples import (
    MASK,
    MISSED,
    NO_MASK,
    UNKNOWN,
    DetectedBoxes,
    ReferenceFaces,
    SurveySample,
    intracluster_correlation,
    size_weights,
)
from facemask_train.core.errors import DataError
from helpers.records import is_fixed, records

SIDE = 40.0
NO_BOXES = DetectedBoxes(np.array([], np.int64), np.array([], np.int64), np.array([]))

Counts = Mapping[tuple[int, int], int]
"""The number of faces by (label, outcome)."""


def reference(counts: Counts, *, false: Sequence[int] = (0, 0, 0), images: int = 200) -> ReferenceFaces:
    """Return a reference set with these numbers of faces, spread over its images, all of one size."""
    rows = [pair for pair, count in counts.items() for _ in range(count)]
    name, answer = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    kinds = np.repeat([MASK, NO_MASK, UNKNOWN], false)
    boxes = DetectedBoxes(np.arange(len(kinds)) % images, kinds, np.full(len(kinds), SIDE))
    return ReferenceFaces(images, np.arange(len(rows)) % images, name, answer, np.full(len(rows), SIDE), boxes)


def sample(masked: int, bare: int, unknown: int = 0, *, images: int = 0) -> SurveySample:
    """Return these numbers of boxes, spread over images (one image per box where it is 0)."""
    answer = np.repeat([MASK, NO_MASK, UNKNOWN], [masked, bare, unknown])
    many = images or len(answer)
    return SurveySample(np.ones(many), DetectedBoxes(np.arange(len(answer)) % many, answer, np.full(len(answer), SIDE)))


PERFECT: Counts = {(MASK, MASK): 20_000, (NO_MASK, NO_MASK): 20_000}
ERRING: Counts = {
    (MASK, MASK): 720, (MASK, NO_MASK): 80, (MASK, MISSED): 200,
    (NO_MASK, NO_MASK): 400, (NO_MASK, MASK): 100, (NO_MASK, MISSED): 500,
}  # fmt: skip


def ends(one: PrevalenceEstimate) -> tuple[float, float]:
    assert one.interval is not None
    return one.interval


def width(one: PrevalenceEstimate) -> float:
    low, high = ends(one)
    return high - low


# ---- known solutions ----


def test_the_spread_of_the_density_by_hand() -> None:
    """2, 8 and 2 faces in three images: density 4, residuals of -2, 4 and -2, so a spread of sqrt(24 * 3 / 2) / 12."""
    cluster = np.repeat([0, 1, 2], [2, 8, 2])
    boxes = DetectedBoxes(cluster, np.arange(12) % 2, np.full(12, SIDE))
    observed = prevalence._observe(SurveySample(np.ones(3), boxes), None)
    assert (observed.density, observed.spread) == (4.0, pytest.approx(0.5))


def test_the_assumed_correlation_by_hand() -> None:
    """A mask in 8 of 20 images: e^-1 of the way from what is always assumed to the most."""
    cluster, hit = np.arange(20), np.arange(20) < 8
    expected = prevalence.MIN_CORRELATION + (0.5 - prevalence.MIN_CORRELATION) * 0.36787944
    assert prevalence._assumed_correlation(hit, cluster) == pytest.approx(expected)
    assert prevalence._assumed_correlation(~hit, cluster) == pytest.approx(expected)


def test_the_side_that_most_images_lie_on_is_named() -> None:
    tested = [100.0 + 0.1 * n for n in range(100)]
    (message,) = brightness_caveats(tested, [20.0] * 3 + [105.0] * 6 + [200.0])
    assert "30 % of the images are darker" in message
    (message,) = brightness_caveats(tested, [20.0] + [105.0] * 6 + [200.0] * 3)
    assert "30 % of the images are brighter" in message


def test_a_perfect_detector_gives_the_share_and_nearly_the_binomial_interval() -> None:
    found = estimate_prevalence(reference(PERFECT), sample(30, 70))
    assert found.rate == found.uncorrected == pytest.approx(0.3)
    expected = (beta.ppf(0.025, 30, 71), beta.ppf(0.975, 31, 70))  # Clopper and Pearson's
    assert ends(found) == pytest.approx(expected, abs=0.012)
    assert found.unknown_bounds == pytest.approx((0.3, 0.3))
    assert (found.n, found.unknown, found.images, found.clusters) == (100, 0, 100, 100)


def test_missed_and_misclassified_faces_are_corrected_for() -> None:
    """600 masked: 480 found, 48 of them called bare. 400 bare: 200 found, 40 of them called masked."""
    found = estimate_prevalence(reference(ERRING), sample(432 + 40, 48 + 160))
    assert found.rate == pytest.approx(0.6)
    assert found.uncorrected == pytest.approx(472 / 680)
    low, high = ends(found)
    assert low < 0.6 < high < 472 / 680


def test_false_boxes_are_subtracted_per_image() -> None:
    """Half a false box an image, all called masked: 200 more in 400 images."""
    test = reference(ERRING, false=(100, 0, 0))
    found = estimate_prevalence(test, sample(472 + 200, 208, images=400))
    assert found.rate == pytest.approx(0.6)
    low, high = ends(found)
    assert low < 0.6 < high < 0.8


@pytest.mark.parametrize(("masked", "bare", "rate"), [(150, 850, 0.0), (900, 100, 1.0)])
def test_a_rate_is_limited_to_0_and_1(masked: int, bare: int, rate: float) -> None:
    found = estimate_prevalence(reference(ERRING), sample(masked, bare))
    assert found.rate == rate
    assert rate in ends(found)
    assert any("limited to" in one for one in found.warnings)


def test_unknown_faces_give_worst_case_bounds() -> None:
    found = estimate_prevalence(reference(PERFECT), sample(50, 50, 20))
    assert found.rate == pytest.approx(0.5)
    assert found.unknown_bounds == pytest.approx((50 / 120, 70 / 120))
    assert (found.n, found.unknown) == (100, 20)


def test_unknown_faces_of_the_reference_set_count_as_not_classified() -> None:
    """Half of the bare faces are classified: 100 classified ones stand for 200, as 100 masked ones do for 100."""
    counts = {(MASK, MASK): 1000, (NO_MASK, NO_MASK): 500, (NO_MASK, UNKNOWN): 500}
    found = estimate_prevalence(reference(counts), sample(100, 100, 100))
    assert found.rate == pytest.approx(1 / 3)
    assert found.unknown_bounds == pytest.approx((1 / 3, 2 / 3))


def test_the_reference_set_is_weighted_to_the_sizes_of_the_survey() -> None:
    """Large faces are all found; of small ones all masked and a third of the bare. The survey's faces are small."""
    small, large = (
        reference({(MASK, MASK): 300, (NO_MASK, NO_MASK): 100, (NO_MASK, MISSED): 200}),
        reference({(MASK, MASK): 300, (NO_MASK, NO_MASK): 300}),
    )
    size = np.r_[np.full(600, 10.0), np.full(600, 80.0)]
    both = ReferenceFaces(
        200, np.r_[small.cluster, large.cluster], np.r_[small.label, large.label],
        np.r_[small.outcome, large.outcome], size, NO_BOXES,
    )  # fmt: skip
    survey_sample = sample(3000, 1000)
    tiny = replace(survey_sample, boxes=replace(survey_sample.boxes, size=np.full(4000, 10.0)))
    assert estimate_prevalence(both, tiny).rate == pytest.approx(0.5, abs=0.01)
    assert size_weights(both, both.size[both.outcome < MISSED]) == pytest.approx(np.ones(1200))


# ---- where there is no estimate ----


def test_without_a_classified_face_there_is_no_rate() -> None:
    for survey_sample in (sample(0, 0, 5), SurveySample(np.ones(3), NO_BOXES)):
        found = estimate_prevalence(reference(ERRING), survey_sample)
        assert (found.rate, found.interval, found.uncorrected, found.n) == (None, None, None, 0)
        assert found.warnings


def test_a_detector_that_guesses_gives_no_rate() -> None:
    counts = {(name, answer): 100 for name in (MASK, NO_MASK) for answer in (MASK, NO_MASK)}
    found = estimate_prevalence(reference(counts), sample(70, 30))
    assert found.rate is None
    assert found.interval == (0, 1)
    assert any("carry no information" in one for one in found.warnings)


def test_no_more_boxes_than_false_ones_give_no_rate() -> None:
    found = estimate_prevalence(reference(ERRING, false=(100, 100, 0)), sample(10, 10, images=60))
    assert found.rate is None
    assert found.interval == (0, 1)
    assert any("false boxes alone" in one for one in found.warnings)


def test_one_image_gives_no_interval() -> None:
    found = estimate_prevalence(reference(ERRING), sample(30, 30, images=1))
    assert found.interval == (0, 1)
    assert any("only one image" in one for one in found.warnings)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({(MASK, MASK): 50}, "no face without a mask"),
        ({(NO_MASK, NO_MASK): 50}, "no face with a mask"),
        ({(NO_MASK, NO_MASK): 50, (MASK, MISSED): 7}, "classified none of the 7 faces with a mask"),
    ],
)
def test_a_reference_set_that_lacks_a_class_is_refused(counts: Counts, message: str) -> None:
    with pytest.raises(DataError, match=message):
        estimate_prevalence(reference(counts), sample(10, 10))


# ---- warnings ----


def test_shifted_sizes_few_faces_and_small_reference_sets_give_warnings() -> None:
    test = reference({(MASK, MASK): 300, (NO_MASK, NO_MASK): 71})
    assert [one for one in reference_caveats(test) if "71 faces without" in one]
    assert reference_caveats(reference(PERFECT)) == []
    assert size_caveats(test, np.full(100, SIDE)) == []
    (message,) = size_caveats(test, np.r_[np.full(30, 5.0), np.full(70, SIDE)])
    assert "30 % of the faces are smaller" in message
    assert any(one.startswith(FEW) for one in estimate_prevalence(test, sample(5, 5)).warnings)
    assert any("too uncertain" in one for one in estimate_prevalence(test, sample(50, 50, 90)).warnings)


# ---- what always holds ----

outcomes = st.lists(st.integers(0, 40), min_size=4, max_size=4)


@settings(max_examples=150)
@given(outcomes, outcomes, st.lists(st.integers(0, 30), min_size=3, max_size=3), outcomes, st.integers(1, 40))
def test_a_rate_lies_in_its_interval_and_both_within_0_and_1(
    masked: list[int], bare: list[int], false: list[int], seen: list[int], images: int
) -> None:
    counts = {(MASK, i): n for i, n in enumerate(masked)} | {(NO_MASK, i): n for i, n in enumerate(bare)}
    if not sum(masked[:2]) or not sum(bare[:2]):
        return
    found = estimate_prevalence(reference(counts, false=false, images=30), sample(*seen[:3], images=images), draws=200)
    if found.interval is None:
        assert sum(seen[:2]) == 0
        return
    low, high = found.interval
    assert 0 <= low <= high <= 1
    if found.rate is not None:
        assert low <= found.rate <= high
        assert found.unknown_bounds is not None
        assert 0 <= found.unknown_bounds[0] <= found.rate <= found.unknown_bounds[1] <= 1
    assert found.uncorrected_interval is not None
    assert found.uncorrected is not None
    assert 0 <= found.uncorrected_interval[0] <= found.uncorrected <= found.uncorrected_interval[1] <= 1


def test_swapping_the_classes_mirrors_the_estimate() -> None:
    swap = {MASK: NO_MASK, NO_MASK: MASK, UNKNOWN: UNKNOWN, MISSED: MISSED}
    mirrored = {(swap[name], swap[answer]): count for (name, answer), count in ERRING.items()}
    one = estimate_prevalence(reference(ERRING, false=(60, 20, 5)), sample(90, 40, 9, images=50), draws=20_000)
    other = estimate_prevalence(reference(mirrored, false=(20, 60, 5)), sample(40, 90, 9, images=50), draws=20_000)
    assert one.rate is not None
    assert one.unknown_bounds is not None
    assert other.rate == pytest.approx(1 - one.rate)
    assert other.unknown_bounds == pytest.approx((1 - one.unknown_bounds[1], 1 - one.unknown_bounds[0]))
    assert ends(other) == pytest.approx((1 - ends(one)[1], 1 - ends(one)[0]), abs=0.006)


def test_the_same_counts_give_the_same_interval() -> None:
    assert estimate_prevalence(reference(ERRING), sample(90, 40)) == estimate_prevalence(
        reference(ERRING), sample(90, 40)
    )


def test_more_data_narrows_the_interval_and_clusters_widen_it() -> None:
    small = {pair: count // 10 for pair, count in ERRING.items()}
    usual = width(estimate_prevalence(reference(ERRING), sample(140, 60)))
    assert width(estimate_prevalence(reference(ERRING), sample(1400, 600))) < 0.8 * usual
    assert width(estimate_prevalence(reference(small), sample(140, 60))) > 1.2 * usual
    together = SurveySample(
        np.ones(20),
        DetectedBoxes(np.repeat(np.arange(20), 10), np.repeat([MASK, NO_MASK], [140, 60]), np.full(200, SIDE)),
    )
    assert width(estimate_prevalence(reference(ERRING), together)) > 1.8 * usual


def test_the_interval_has_a_width_even_if_no_masked_face_was_seen() -> None:
    found = estimate_prevalence(reference(PERFECT), sample(0, 60))
    assert found.rate == 0
    assert ends(found)[0] == 0
    assert 0.05 < ends(found)[1] < 0.2


def test_the_intracluster_correlation_is_estimated() -> None:
    rng = np.random.default_rng(3)

    def survey_sample(together: bool, images: int) -> SurveySample:
        masked = np.repeat(rng.random(images) < 0.4, 5) if together else rng.random(5 * images) < 0.4
        answer = np.where(masked, MASK, NO_MASK)
        return SurveySample(
            np.ones(images), DetectedBoxes(np.repeat(np.arange(images), 5), answer, np.full(5 * images, SIDE))
        )

    assert intracluster_correlation([survey_sample(True, 40), survey_sample(True, 40)]) == pytest.approx(1, abs=0.05)
    assert intracluster_correlation([survey_sample(False, 400)]) == pytest.approx(0.05, abs=0.04)
    assert intracluster_correlation([survey_sample(True, 10), survey_sample(True, 8)]) is None
    known = estimate_prevalence(reference(PERFECT), survey_sample(True, 3), correlation=1.0)
    assert 0.2 < width(known) < 1.0


# ---- coverage ----


def world(images: int, rate: float, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Return faces, in pairs that mostly dress alike: the image of each, if it is bare, how hard its image is."""
    image = np.repeat(np.arange(images), 2 * rng.integers(1, 3, images))
    pairs = np.repeat(rng.random(len(image) // 2) >= rate, 2)
    alone = rng.random(len(image)) >= rate
    bare = np.where(rng.random(len(image)) < 0.6, pairs, alone).astype(np.int64)
    return image, bare, rng.normal(0, 0.4, images)[image]


def answers(bare: Any, hard: Any, rng: np.random.Generator) -> Any:
    found = rng.random(len(bare)) < 1 / (1 + np.exp(-(np.array([2.2, 1.2])[bare] - hard)))
    right = rng.random(len(bare)) < 1 / (1 + np.exp(-(2.2 - hard)))
    return np.where(found, np.where(right, bare, 1 - bare), MISSED)


@pytest.mark.parametrize("rate", [0.03, 0.5, 0.95])
def test_the_interval_has_its_nominal_coverage(rate: float) -> None:
    """The detector finds 90 % of masked and 77 % of bare faces, 90 % with the right class. See bench/survey.py."""
    held = counted = 0
    for seed in range(150):
        rng = np.random.default_rng([seed, round(100 * rate)])
        image, bare, hard = world(80, 0.5, rng)
        test = ReferenceFaces(80, image, bare, answers(bare, hard, rng), np.full(len(bare), SIDE), NO_BOXES)
        image, bare, hard = world(50, rate, rng)
        answer = answers(bare, hard, rng)
        seen = answer < MISSED
        survey_sample = SurveySample(
            np.ones(50), DetectedBoxes(image[seen], answer[seen], np.full(int(seen.sum()), SIDE))
        )
        found = estimate_prevalence(test, survey_sample, draws=500)
        held += ends(found)[0] <= rate <= ends(found)[1]
        assert found.uncorrected_interval is not None
        counted += found.uncorrected_interval[0] <= rate <= found.uncorrected_interval[1]
    assert held >= 0.93 * 150
    assert rate == 0.5 or counted < 0.8 * 150


# ---- by hand ----


def sized(*counts: tuple[float, int], false: Sequence[float] = ()) -> ReferenceFaces:
    """Return a reference set of masked faces of these (size, count), all found, and false boxes of these sizes."""
    size = np.repeat([one for one, _ in counts], [count for _, count in counts]).astype(float)
    zeros = np.zeros(len(size), np.int64)
    boxes = DetectedBoxes(np.zeros(len(false), np.int64), np.zeros(len(false), np.int64), np.array(false, float))
    return ReferenceFaces(10, zeros, zeros, zeros, size, boxes)


def test_size_weights_by_hand() -> None:
    """Five bins of a fifth each; 30 boxes of the largest size, 20 boxes of the reference set's own sizes: 4 a bin."""
    test = sized((10, 20), (20, 20), (30, 20), (40, 20), (50, 20))
    found = size_weights(test, np.full(30, 50.0))
    assert found.reshape(5, 20)[:, 0] == pytest.approx([0.4, 0.4, 0.4, 0.4, (34 / 50) / 0.2])
    assert (found.reshape(5, 20) == found.reshape(5, 20)[:, :1]).all()
    assert size_weights(test, np.array([])) == pytest.approx(np.ones(100))


def test_no_weight_is_more_than_ten() -> None:
    """4 of 100 are large, 180 of 180 in the survey: (180 + 0.8) / 200 to 0.04 would be 22.6."""
    found = size_weights(sized((10, 96), (50, 4)), np.full(180, 50.0))
    assert found[:96] == pytest.approx(20 * 0.96 / 200 / 0.96)
    assert found[96:] == pytest.approx(10)


def test_false_boxes_count_among_the_sizes_that_were_found() -> None:
    """Half of what was found is large, so the survey's half is no more than that."""
    test = sized((10, 50), false=[50.0] * 50)
    assert size_weights(test, np.r_[np.full(40, 10.0), np.full(40, 50.0)]) == pytest.approx(np.ones(50))
    missed = replace(test, outcome=np.r_[np.zeros(25, np.int64), np.full(25, MISSED)])
    assert size_weights(missed, np.full(10, 10.0)) == pytest.approx(
        (10 + 20 / 3) / 30 * 3 * np.ones(50)  # a third of what was found was small
    )


def in_pairs(both: int, neither: int, one: int, *, alone: int = 0) -> SurveySample:
    """Return clusters of two boxes, both masked, both bare or one of each; and clusters of one masked box."""
    answer = [MASK] * 2 * both + [NO_MASK] * 2 * neither + [MASK, NO_MASK] * one + [MASK] * alone
    clusters = both + neither + one
    cluster = np.r_[np.repeat(np.arange(clusters), 2), clusters + np.arange(alone)]
    return SurveySample(np.ones(clusters + alone), DetectedBoxes(cluster, np.array(answer), np.full(len(answer), SIDE)))


def test_the_correlation_of_pairs_by_hand() -> None:
    """12 of 22 pairs are one off: 12 x 22 / 21 - 44 / 4 = 11 / 7 above chance, of 11 at most."""
    assert intracluster_correlation([in_pairs(6, 6, 10)]) == pytest.approx(1 / 7)
    assert intracluster_correlation([in_pairs(6, 6, 10)] * 2) == pytest.approx(1 / 7)
    assert intracluster_correlation([in_pairs(11, 11, 0)]) == 1
    assert intracluster_correlation([in_pairs(0, 0, 22)]) == 0.05


def test_the_correlation_needs_20_clusters_besides_one_per_sample() -> None:
    assert intracluster_correlation([in_pairs(6, 5, 10)]) is not None
    assert intracluster_correlation([in_pairs(5, 5, 10)]) is None
    assert intracluster_correlation([in_pairs(5, 5, 1), in_pairs(5, 5, 1)]) is not None
    assert intracluster_correlation([in_pairs(5, 5, 1), in_pairs(5, 5, 0)]) is None
    assert intracluster_correlation([in_pairs(5, 5, 10, alone=30)]) is None  # a single box has no correlation
    assert intracluster_correlation([in_pairs(6, 6, 10), in_pairs(1, 0, 0)]) == pytest.approx(
        1 / 7
    )  # one pair is left out
    assert intracluster_correlation([in_pairs(25, 0, 0)]) is None  # all masked: there is nothing to compare
    assert intracluster_correlation([]) is None


def test_unknown_boxes_do_not_count_for_the_correlation() -> None:
    survey_sample = in_pairs(6, 6, 10)
    boxes = survey_sample.boxes
    more = DetectedBoxes(
        np.r_[boxes.cluster, boxes.cluster], np.r_[boxes.outcome, np.full(44, UNKNOWN)], np.r_[boxes.size, boxes.size]
    )
    assert intracluster_correlation([SurveySample(survey_sample.images, more)]) == pytest.approx(1 / 7)


@pytest.mark.parametrize(
    ("masked", "bare", "images", "few"),
    [(15, 15, 10, False), (15, 14, 10, True), (15, 15, 9, True), (100, 100, 9, True), (20, 9, 29, True)],
)
def test_a_small_sample_has_fewer_than_30_faces_or_10_images(masked: int, bare: int, images: int, few: bool) -> None:
    found = estimate_prevalence(reference(PERFECT), sample(masked, bare, images=images), draws=100)
    assert (f"{FEW}{masked + bare} faces in {images} clusters of images" in found.warnings) is few


def test_one_image_has_its_own_warning() -> None:
    alone = estimate_prevalence(reference(PERFECT), sample(20, 20, images=1), draws=100)
    assert [one for one in alone.warnings if one.startswith("there is only one image")]
    assert not [one for one in alone.warnings if one.startswith(FEW)]
    known = estimate_prevalence(reference(PERFECT), sample(20, 20, images=1), correlation=0.2, draws=100)
    assert [one for one in known.warnings if one.startswith(FEW)]
    assert not [one for one in known.warnings if one.startswith("there is only one image")]


@pytest.mark.parametrize(("unknown", "many"), [(50, False), (51, True)])
def test_many_unknown_are_more_than_a_third(unknown: int, many: bool) -> None:
    found = estimate_prevalence(reference(PERFECT), sample(50, 50, unknown), draws=100)
    text = f"{unknown} of {100 + unknown} faces are too small or too uncertain to classify"
    assert any(one.startswith(text) for one in found.warnings) is many


def test_an_unstable_correction_gives_a_warning() -> None:
    """10 of 30 and 12 of 30 wrong: the upper ends add up to more than 1; with 300 each they do not."""

    def wrong(times: int) -> list[str]:
        counts = {(MASK, MASK): 20, (MASK, NO_MASK): 10, (NO_MASK, NO_MASK): 18, (NO_MASK, MASK): 12}
        test = reference({pair: times * count for pair, count in counts.items()}, images=60 * times)
        found = estimate_prevalence(test, sample(50, 50), draws=100)
        return [one for one in found.warnings if "unstable" in one]

    assert stats.beta.ppf(0.975, 11, 20) + stats.beta.ppf(0.975, 13, 18) > 1
    assert len(wrong(1)) == 1
    assert wrong(10) == []


@pytest.mark.parametrize(("odd", "message"), [(20, True), (19, False)])
def test_a_fifth_of_shifted_sizes_gives_a_warning(odd: int, message: bool) -> None:
    test = reference({(MASK, MASK): 300, (NO_MASK, NO_MASK): 300})
    (larger,) = size_caveats(test, np.r_[np.full(odd, 90.0), np.full(100 - odd, SIDE)]) or [""]
    assert ("20 % of the faces are larger" in larger) is message
    (smaller,) = size_caveats(test, np.r_[np.full(odd, 9.0), np.full(100 - odd, SIDE)]) or [""]
    assert ("20 % of the faces are smaller" in smaller) is message


def test_smaller_and_larger_sizes_add_up() -> None:
    test = reference({(MASK, MASK): 300, (NO_MASK, NO_MASK): 300, (NO_MASK, MISSED): 30})
    test = replace(test, size=np.where(test.outcome == MISSED, 9.0, SIDE))  # a size that was always missed is odd
    (message,) = size_caveats(test, np.r_[np.full(11, 9.0), np.full(9, 90.0), np.full(80, SIDE)])
    assert "11 % of the faces are smaller" in message
    assert "(40 to 40 pixels at the detector's input size)" in message


def test_a_reference_set_is_small_below_72_faces_of_a_class() -> None:
    assert reference_caveats(reference({(MASK, MASK): 72, (NO_MASK, NO_MASK): 72})) == []
    assert reference_caveats(reference({(MASK, MASK): 71, (NO_MASK, NO_MASK): 72})) == [
        "the reference set has only 71 faces with a mask, so the detector's errors on them are hardly known"
    ]
    assert reference_caveats(reference({(MASK, MISSED): 80, (NO_MASK, NO_MASK): 5}))[0].startswith(
        "the reference set has only 5 faces without a mask"
    )


def test_unknown_boxes_without_a_face_are_subtracted_from_the_bounds() -> None:
    """A quarter of an unknown box an image that is no face: 25 of the 45 in 100 images."""
    test = reference(PERFECT, false=(0, 0, 50))
    assert estimate_prevalence(test, sample(50, 50, 45, images=100), draws=100).unknown_bounds == pytest.approx(
        (50 / 120, 70 / 120)
    )
    assert estimate_prevalence(test, sample(50, 50, 25, images=100), draws=100).unknown_bounds == pytest.approx(
        (0.5, 0.5)
    )
    assert estimate_prevalence(test, sample(50, 50, 9, images=100), draws=100).unknown_bounds == pytest.approx(
        (0.5, 0.5)
    )


def test_the_bounds_with_faces_missed_and_false_boxes_by_hand() -> None:
    """680 classified boxes stand for 600 masked and 400 bare faces; there are 120 false boxes and 100 unknown faces.

    Of 100 faces of each class the reference set finds 80 and 50, none of them unknown: the rate is 0.6. If none of the
    100 unknown faces wears a mask the rate is 600 of 1,100, if all do it is 700 of 1,100.
    """
    test = reference(ERRING, false=(40, 20, 0))  # 0.2 and 0.1 an image
    found = estimate_prevalence(test, sample(472 + 80, 208 + 40, 100, images=400), draws=100)
    assert found.rate == pytest.approx(0.6)
    assert found.unknown_bounds == pytest.approx((600 / 1100, 700 / 1100))


def test_unknown_faces_of_the_reference_set_are_subtracted_from_the_known_ones() -> None:
    """A fifth of the masked and a half of the bare faces are not classified.

    80 and 50 classified boxes stand for 100 faces of each class; of these 70 are unknown, 80 and 50 are known.
    """
    counts = {(MASK, MASK): 800, (MASK, UNKNOWN): 200, (NO_MASK, NO_MASK): 500, (NO_MASK, UNKNOWN): 500}
    found = estimate_prevalence(reference(counts), sample(80, 50, 70), draws=100)
    assert found.rate == pytest.approx(0.5)
    assert found.unknown_bounds == pytest.approx((80 / 200, 150 / 200))


def rogan_gladen(called: float, sensitivity: float, specificity: float) -> float:
    return (called + specificity - 1) / (sensitivity + specificity - 1)


@pytest.mark.parametrize("called", [0.2, 0.4, 0.7])
def test_with_full_recall_it_is_rogan_and_gladens_estimator(called: float) -> None:
    counts = {(MASK, MASK): 900, (MASK, NO_MASK): 100, (NO_MASK, NO_MASK): 850, (NO_MASK, MASK): 150}
    found = estimate_prevalence(reference(counts), sample(round(1000 * called), round(1000 - 1000 * called)), draws=100)
    assert found.rate == pytest.approx(rogan_gladen(called, 0.9, 0.85))


def test_the_melded_interval_by_hand() -> None:
    """All found, no false box, the reference set's errors known: then only the share called masked is uncertain.

    Its Clopper and Pearson ends, put through Rogan and Gladen's formula, are the ends of the rate.
    """
    counts = {(MASK, MASK): 180_000, (MASK, NO_MASK): 20_000, (NO_MASK, NO_MASK): 160_000, (NO_MASK, MASK): 40_000}
    test = reference(counts, images=400_000)
    found = estimate_prevalence(test, sample(50, 50), correlation=0.0, draws=40_000)
    exact = stats.binomtest(50, 100).proportion_ci(0.95, "exact")
    expected = [rogan_gladen(end, 0.9, 0.8) for end in (exact.low, exact.high)]
    assert ends(found) == pytest.approx(expected, abs=0.008)
    assert found.uncorrected_interval == pytest.approx((exact.low, exact.high), abs=1e-3)


def test_the_interval_where_only_the_reference_set_is_uncertain() -> None:
    """All are called masked of very many; 8 of 10 masked faces and 10 of 10 bare ones are called by their name.

    Then f and w are what is uncertain: the rate is p = u / (1 - w) at w_b = 0, held at 1, so its upper end is 1, and
    the lower end comes of the least that w_m and the most that w_b may be.
    """
    counts = {(MASK, MASK): 80_000, (MASK, NO_MASK): 20_000, (NO_MASK, NO_MASK): 100_000}
    found = estimate_prevalence(reference(counts, images=200_000), sample(40_000, 60_000), draws=4_000)
    assert found.rate == pytest.approx(0.5)
    assert ends(found) == pytest.approx((0.5, 0.5), abs=0.02)


def test_fewer_classified_faces_of_a_class_in_the_reference_set_widen_the_interval() -> None:
    """The fewer bare faces are known to be classified, the more there may be: the lower end falls, the upper stays."""
    many = reference({(MASK, MASK): 9000, (NO_MASK, NO_MASK): 4500, (NO_MASK, MISSED): 4500}, images=18_000)
    few = reference({(MASK, MASK): 9000, (NO_MASK, NO_MASK): 10, (NO_MASK, MISSED): 10}, images=9020)
    survey_sample = sample(4000, 2000)
    assert (
        estimate_prevalence(many, survey_sample).rate
        == estimate_prevalence(few, survey_sample).rate
        == pytest.approx(0.5)
    )
    wide, narrow = ends(estimate_prevalence(few, survey_sample)), ends(estimate_prevalence(many, survey_sample))
    assert narrow == pytest.approx((0.5, 0.5), abs=0.03)
    assert wide[0] < 0.43
    assert wide[1] > 0.56


def test_counts_are_those_of_the_sample() -> None:
    survey_sample = SurveySample(
        np.array([3, 1]), DetectedBoxes(np.array([0, 0, 1]), np.array([MASK, UNKNOWN, NO_MASK]), np.full(3, SIDE))
    )
    found = estimate_prevalence(reference(PERFECT), survey_sample, draws=100)
    assert (found.n, found.unknown, found.images, found.clusters) == (2, 1, 4, 2)
    assert found.uncorrected == 0.5


def test_false_boxes_count_by_image_not_by_cluster() -> None:
    """A tenth of a masked false box an image: 20 of the 60 boxes in 200 images, which make up 50 clusters."""
    test = reference(PERFECT, false=(20, 0, 0))
    answer = np.repeat([MASK, NO_MASK], [40, 20])
    survey_sample = SurveySample(np.full(50, 4), DetectedBoxes(np.arange(60) % 50, answer, np.full(60, SIDE)))
    assert estimate_prevalence(test, survey_sample, draws=100).rate == pytest.approx(0.5)


def test_records_are_fixed() -> None:
    found = [*records(samples), *records(prevalence)]
    assert ReferenceFaces in found
    assert all(map(is_fixed, found))
