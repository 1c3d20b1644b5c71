"""Average precision and the numbers around it: as pycocotools and the validator have them, by hand and at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemask_train.eval.measures import average_precision as measure
from facemask_train.eval.measures.average_precision import (
    IOUS,
    RankedDetections,
    average_precision,
    bootstrap_average_precision,
    interpolation_error,
    match_detections,
    rank_detections,
)
from facemask_train.eval.measures.boxes_table import Boxes, BoxesTable, boxes_from_rows, iou, overlaps
from facemask_train.eval.measures.metrics import average_precisions, rates_at_confidence, score_split
from helpers import coco
from helpers.records import is_fixed, records

Rows = list[tuple[int, int, tuple[float, float, float, float], float]]


def flat(images: int, labels: Rows, found: Rows) -> BoxesTable:
    return BoxesTable(
        images, boxes_from_rows(labels), boxes_from_rows(sorted(found, key=lambda row: (row[0], -row[3])))
    )


def areas(one: BoxesTable, name: int = 0, **rule: str) -> list[float] | None:
    found = average_precision(rank_detections(one, match_detections(one, overlaps(one)), name), **rule)  # type: ignore[arg-type]
    return None if found is None else found.tolist()


BOX, BESIDE, FAR = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 8.0), (50.0, 50.0, 60.0, 60.0)
AWAY = (100.0, 0.0, 110.0, 10.0)


def test_one_face_found_is_one_and_not_found_is_nothing() -> None:
    assert areas(flat(1, [(0, 0, BOX, 1)], [(0, 0, BOX, 0.9)])) == [1.0] * 10
    assert areas(flat(1, [(0, 0, BOX, 1)], [])) == [0.0] * 10
    assert areas(flat(1, [(0, 0, BOX, 1)], [(0, 1, BOX, 0.9)])) == [0.0] * 10
    assert areas(flat(1, [], [(0, 0, BOX, 0.9)])) is None


def test_an_overlap_of_0_8_counts_up_to_0_8() -> None:
    found = areas(flat(1, [(0, 0, BOX, 1)], [(0, 0, BESIDE, 0.9)]))
    assert found == [1.0] * 7 + [0.0] * 3


def test_a_false_box_that_is_surer_costs_half_and_one_that_is_less_sure_nothing() -> None:
    label = [(0, 0, BOX, 1.0)]
    assert areas(flat(1, label, [(0, 0, FAR, 0.9), (0, 0, BOX, 0.8)]))[0] == pytest.approx(0.5)  # type: ignore[index]
    assert areas(flat(1, label, [(0, 0, BOX, 0.9), (0, 0, FAR, 0.8)]))[0] == 1.0  # type: ignore[index]


def test_a_second_box_on_a_face_is_false_and_the_best_overlap_is_not_what_decides() -> None:
    one = flat(1, [(0, 0, BOX, 1)], [(0, 0, BESIDE, 0.9), (0, 0, BOX, 0.8)])
    assert match_detections(one, overlaps(one))[:, 0].tolist() == [0] * 7 + [-1] * 3
    assert match_detections(one, overlaps(one))[:, 1].tolist() == [-1] * 7 + [0] * 3


def test_half_of_the_faces_is_half_of_the_recalls() -> None:
    one = flat(2, [(0, 0, BOX, 1), (1, 0, BOX, 1)], [(0, 0, BOX, 0.9)])
    assert areas(one)[0] == pytest.approx(51 / 101)  # type: ignore[index]
    # The validator draws a line from the last point straight down, so it has half a step less.
    assert areas(one, rule="validator")[0] == pytest.approx(0.5, abs=0.006)  # type: ignore[index]


corner = st.integers(0, 30)
side = st.integers(4, 20)


def _row(image: int, name: int, place: tuple[int, int, int, int], sure: int) -> tuple[Any, ...]:
    x, y, wide, high = map(float, place)
    return image, name, (x, y, x + wide, y + high), sure / 10


row = st.builds(_row, st.integers(0, 3), st.integers(0, 1), st.tuples(corner, corner, side, side), st.integers(1, 10))
scenes = st.builds(flat, st.just(4), st.lists(row, max_size=14).map(sorted), st.lists(row, max_size=30))


@settings(max_examples=60, deadline=None)
@given(scenes)
def test_equal_to_pycocotools_on_crowds_ties_duplicates_and_nothing(one: BoxesTable) -> None:
    """Few places, few confidences: boxes that overlap, tie and repeat; images without labels or detections."""
    theirs = coco.areas(one)
    for name in (0, 1):
        ours = areas(one, name)
        assert (ours is None) == (theirs[name] is None)
        if ours is not None:
            assert ours == pytest.approx(theirs[name], abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(scenes)
def test_equal_to_the_validators_interpolation(one: BoxesTable) -> None:
    from facemask_train.model.ultralytics_compat import open_ultralytics

    open_ultralytics()
    from ultralytics.utils.metrics import ap_per_class

    answers = match_detections(one, overlaps(one))
    order = np.lexsort((np.arange(len(one.detections)), -one.detections.confidence))
    hits = (answers >= 0)[:, order].T
    *_, theirs, classes, _, _, _, _, _ = ap_per_class(
        hits,
        one.detections.confidence[order] - np.arange(len(order)) * 1e-9,
        one.detections.class_id[order],
        one.labels.class_id,
    )
    for place, name in enumerate(classes):
        assert areas(one, int(name), rule="validator") == pytest.approx(theirs[place].tolist(), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(scenes)
def test_matches_are_one_to_one_of_one_class_in_one_image(one: BoxesTable) -> None:
    for row_, least in zip(
        match_detections(one, overlaps(one)), (0.5 + 0.05 * step for step in range(10)), strict=True
    ):
        found = np.flatnonzero(row_ >= 0)
        taken = row_[found]
        assert len(set(taken.tolist())) == len(taken)
        assert (one.detections.image[found] == one.labels.image[taken]).all()
        assert (one.detections.class_id[found] == one.labels.class_id[taken]).all()
        assert (iou(one.detections.corners[found], one.labels.corners[taken]) >= least - 1e-9).all()


@pytest.mark.parametrize("labels", [1, 10, 14, 25, 100])
def test_a_recall_on_a_point_of_the_grid_counts_alike_in_a_resample(labels: int) -> None:
    """0.07 * 100 is not 7 in binary: pycocotools does not count 0.7 as reached by 7 of 10, so no resample does."""
    boxes = [(0.0 + 20 * place, 0.0, 10.0 + 20 * place, 10.0) for place in range(labels)]
    for hits in range(1, labels + 1):
        one = flat(
            1, [(0, 0, box, 1.0) for box in boxes], [(0, 0, box, 0.9 - at / 1e3) for at, box in enumerate(boxes[:hits])]
        )
        ranked = rank_detections(one, match_detections(one, overlaps(one)), 0)
        found = bootstrap_average_precision(ranked, np.ones((1, 1), np.float32))
        assert found[:, 0].tolist() == pytest.approx(average_precision(ranked).tolist(), abs=1e-6)  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None)
@given(scenes, st.integers(0, 1000))
def test_a_resample_is_the_area_of_the_images_drawn_so_often(one: BoxesTable, seed: int) -> None:
    """The fast way with weights gives what copies of the images would give, one after the other."""
    one = untied(one)
    times = np.bincount(np.random.default_rng(seed).integers(0, 4, 4), minlength=4)
    weights = np.stack([np.ones(4), times], axis=1).astype(np.float32)
    many = repeated(one, times)
    for name in (0, 1):
        found = bootstrap_average_precision(rank_detections(one, match_detections(one, overlaps(one)), name), weights)
        for column, expected in ((0, areas(one, name)), (1, areas(many, name))):
            if expected is None:
                assert np.isnan(found[:, column]).all()
            else:
                assert found[:, column].tolist() == pytest.approx(expected, abs=2e-5)


def repeated(one: BoxesTable, times: np.ndarray) -> BoxesTable:
    """Return images as often as they were drawn."""
    order = [image for image, count in enumerate(times) for _ in range(count)]

    def of(side: Boxes) -> Rows:
        return [
            (place, int(side.class_id[i]), tuple(side.corners[i].tolist()), float(side.confidence[i]))  # type: ignore[misc]
            for place, image in enumerate(order)
            for i in np.flatnonzero(side.image == image)
        ]

    return BoxesTable(len(order), boxes_from_rows(of(one.labels)), boxes_from_rows(of(one.detections)))


def untied(one: BoxesTable) -> BoxesTable:
    """Return a scene in which no two detections are equally sure: copies of tied ones depend on their order."""
    sure = one.detections.confidence - np.arange(len(one.detections)) * 1e-4
    return BoxesTable(
        one.image_count, one.labels, Boxes(one.detections.image, one.detections.class_id, one.detections.corners, sure)
    )


@settings(max_examples=30, deadline=None)
@given(scenes)
def test_numbers_stay_within_their_intervals_and_both_within_0_and_1(one: BoxesTable) -> None:
    sample = score_split(one)
    for table in (
        average_precisions(sample),
        rates_at_confidence(sample, 0.45),
        rates_at_confidence(sample, 0.45, chosen_here=True),
    ):
        for numbers in table.values():
            for number in numbers.values():
                if number.value is not None and number.interval is not None:
                    low, high = number.interval
                    assert 0 <= low <= number.value <= high <= 1


def test_precision_and_recall_by_hand() -> None:
    labels: Rows = [(0, 0, BOX, 1.0), (1, 0, BOX, 1.0), (2, 1, BOX, 1.0)]
    found: Rows = [(0, 0, BOX, 0.9), (1, 0, FAR, 0.8), (2, 1, BOX, 0.4)]
    table = rates_at_confidence(score_split(flat(3, labels, found)), 0.5)
    assert (table["mask"]["precision"].value, table["mask"]["recall"].value) == (0.5, 0.5)
    assert (table["no_mask"]["precision"].value, table["no_mask"]["recall"].value) == (None, 0.0)
    assert table["all"]["recall"].value == 0.25


def test_the_overlaps_are_those_of_coco() -> None:
    assert IOUS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_the_validators_area_by_hand() -> None:
    """Trapezoids over 100 steps of 0.01: the last step before recall drops goes down to the next precision."""
    label: Rows = [(0, 0, BOX, 1.0)]
    second = areas(flat(1, label, [(0, 0, FAR, 0.9), (0, 0, BOX, 0.8)]), rule="validator")
    assert second[0] == pytest.approx(0.99 * 0.5 + 0.01 * 0.25)  # type: ignore[index]
    labels: Rows = [(0, 0, BOX, 1.0), (0, 0, AWAY, 1.0)]
    half = areas(flat(1, labels, [(0, 0, BOX, 0.9)]), rule="validator")
    assert half[0] == pytest.approx(0.49 + 0.01 * 0.5)  # type: ignore[index]
    both = areas(flat(1, labels, [(0, 0, BOX, 0.9), (0, 0, FAR, 0.8), (0, 0, AWAY, 0.7)]), rule="validator")
    # 1 up to recall 0.49, 2/3 from 0.5 to 0.99, and 0 at 1
    assert both[0] == pytest.approx(0.49 + 0.01 * (1 + 2 / 3) / 2 + 0.49 * 2 / 3 + 0.01 / 3)  # type: ignore[index]
    assert areas(flat(1, label, []), rule="validator") == [0.0] * 10


def test_cocos_area_by_hand() -> None:
    labels: Rows = [(0, 0, BOX, 1.0), (0, 0, AWAY, 1.0)]
    both = areas(flat(1, labels, [(0, 0, BOX, 0.9), (0, 0, FAR, 0.8), (0, 0, AWAY, 0.7)]))
    assert both[0] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)  # type: ignore[index]
    late = areas(flat(1, labels, [(0, 0, FAR, 0.9), (0, 0, BOX, 0.8), (0, 0, AWAY, 0.7)]))
    assert late[0] == pytest.approx(2 / 3)  # type: ignore[index]  # 1/2 at the first, but 2/3 is reached later


def test_one_class_is_ranked_by_confidence_and_ties_by_image() -> None:
    labels: Rows = [(0, 0, BOX, 1.0), (2, 0, BOX, 1.0), (2, 0, FAR, 1.0), (2, 1, AWAY, 1.0)]
    found: Rows = [(0, 0, BOX, 0.5), (0, 1, BOX, 0.9), (1, 0, BOX, 0.7), (2, 0, FAR, 0.7), (2, 0, AWAY, 0.2)]
    one = flat(3, labels, found)
    ranked = rank_detections(one, match_detections(one, overlaps(one)), 0)
    assert (ranked.index.tolist(), ranked.image.tolist()) == ([2, 3, 1, 4], [1, 2, 0, 2])
    assert ranked.confidence.tolist() == [0.7, 0.7, 0.5, 0.2]
    assert ranked.true_positive[0].tolist() == [False, True, True, False]
    assert ranked.labels.tolist() == [1, 0, 2]


def test_classes_and_images_are_matched_apart() -> None:
    """The same box everywhere: each class of each image has its own label, and its own turn."""
    labels: Rows = [(0, 0, BOX, 1.0), (0, 1, BOX, 1.0), (1, 0, BOX, 1.0)]
    found: Rows = [(0, 1, BOX, 0.9), (0, 0, BOX, 0.8), (0, 0, BOX, 0.7), (1, 0, BOX, 0.6), (1, 1, BOX, 0.5)]
    one = flat(2, labels, found)
    assert match_detections(one, overlaps(one)).tolist() == [[1, 0, -1, 2, -1]] * 10


def test_a_detection_takes_the_label_that_it_overlaps_most_of_those_still_free() -> None:
    """Two labels, nested: the surest takes the one that it equals, the next what is left, where that is enough."""
    labels: Rows = [(0, 0, BESIDE, 1.0), (0, 0, BOX, 1.0)]
    one = flat(1, labels, [(0, 0, BOX, 0.9), (0, 0, BOX, 0.8), (0, 0, BOX, 0.7)])
    found = match_detections(one, overlaps(one))
    assert found[:, 0].tolist() == [1] * 10
    assert found[:, 1].tolist() == [0] * 7 + [-1] * 3  # an IoU of 0.8
    assert found[:, 2].tolist() == [-1] * 10
    # in the second image too: a detection that overlaps two labels takes one of them
    labels = [(0, 0, BOX, 1.0)] + [(1, *rest) for _, *rest in labels]  # type: ignore[misc]
    two = flat(2, labels, [(0, 0, BOX, 0.9), (1, 0, BOX, 0.9), (1, 0, BOX, 0.8)])
    assert match_detections(two, overlaps(two))[:7].tolist() == [[0, 2, 1]] * 7
    assert match_detections(one, overlaps(one), (0.8,)).tolist() == [[1, 0, -1]]
    assert match_detections(one, overlaps(one), (0.81,)).tolist() == [[1, -1, -1]]


def test_how_coarse_the_101_recalls_are_by_hand() -> None:
    """Half a step of the precision at the last hit, taken as evenly spread: its width through the root of 12."""
    labels: Rows = [(0, 0, BOX, 1.0), (0, 0, AWAY, 1.0)]
    found: Rows = [(0, 0, BOX, 0.9), (0, 0, FAR, 0.8), (0, 0, AWAY, 0.7), (0, 0, FAR, 0.6)]
    one = flat(1, labels, found)
    assert interpolation_error(rank_detections(one, match_detections(one, overlaps(one)), 0)).tolist() == pytest.approx(
        [2 / 3 / 101 / 12**0.5] * 10
    )
    assert interpolation_error(rank_detections(one, match_detections(one, overlaps(one)), 1)).tolist() == [0.0] * 10
    late = flat(1, labels, [(0, 0, FAR, 0.9), (0, 0, BOX, 0.8), (0, 0, FAR, 0.7), (0, 0, FAR, 0.6)])
    assert interpolation_error(
        rank_detections(late, match_detections(late, overlaps(late)), 0)
    ).tolist() == pytest.approx([1 / 2 / 101 / 12**0.5] * 10)


def test_many_resamples_are_each_as_one_alone() -> None:
    """More than are worked on together, and one in which no image with a label was drawn."""
    labels: Rows = [(0, 0, BOX, 1.0), (1, 0, BOX, 1.0), (1, 0, AWAY, 1.0), (2, 0, BOX, 1.0)]
    found: Rows = [(0, 0, BOX, 0.9), (1, 0, FAR, 0.8), (1, 0, AWAY, 0.7), (2, 0, BESIDE, 0.6), (3, 0, BOX, 0.5)]
    one = flat(4, labels, found)
    ranked = rank_detections(one, match_detections(one, overlaps(one)), 0)
    weights = np.random.default_rng(0).integers(0, 3, (4, 150)).astype(np.float32)
    weights[:, 149] = (0, 0, 0, 4)
    together = bootstrap_average_precision(ranked, weights)
    assert together.shape == (10, 150)
    assert together.dtype == np.float32
    assert np.isnan(together[:, 149]).all()
    for column in range(149):
        expected = areas(repeated(one, weights[:, column].astype(int)))
        if expected is None:
            assert np.isnan(together[:, column]).all()
        else:
            assert together[:, column].tolist() == pytest.approx(expected, abs=2e-5)


def test_a_resample_by_hand() -> None:
    """Image 0 (found) drawn twice and image 1 (missed) once: 2 of 3 labels, so 67 of 101 recalls; and no hit at all."""
    one = flat(2, [(0, 0, BOX, 1), (1, 0, BOX, 1)], [(0, 0, BOX, 0.9)])
    found = bootstrap_average_precision(
        rank_detections(one, match_detections(one, overlaps(one)), 0), np.array([[2, 0], [1, 2]], np.float32)
    )
    assert found.tolist() == [[pytest.approx(67 / 101, abs=1e-6), 0.0]] * 10
    none = bootstrap_average_precision(rank_detections(one, np.full((10, 1), -1), 0), np.ones((2, 3), np.float32))
    assert none.tolist() == [[0.0] * 3] * 10


def test_records_are_fixed() -> None:
    assert RankedDetections in records(measure)
    assert all(map(is_fixed, records(measure)))
