"""Boxes of many images as arrays, and their overlaps: by hand, and against pairs taken one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core import boxes
from facemask_train.core.types import Annotation, Box, Detection, ImageResult
from facemask_train.eval.measures import boxes_table as measure
from facemask_train.eval.measures.boxes_table import (
    MIN_OVERLAP,
    Boxes,
    BoxesTable,
    boxes_from_rows,
    boxes_table,
    iou,
    overlaps,
)
from helpers.records import is_fixed, records

Row = tuple[int, int, tuple[float, float, float, float], float]
TEN = (0.0, 0.0, 10.0, 10.0)


def test_rows_become_columns() -> None:
    found = boxes_from_rows([(0, 1, (1.0, 2.0, 4.0, 9.0), 0.5), (2, 0, TEN, 0.25)])
    assert len(found) == 2
    assert (found.image.tolist(), found.class_id.tolist(), found.confidence.tolist()) == ([0, 2], [1, 0], [0.5, 0.25])
    assert found.corners.tolist() == [[1, 2, 4, 9], [0, 0, 10, 10]]
    assert found.area.tolist() == [21, 100]
    assert (found.image.dtype, found.class_id.dtype, found.corners.dtype) == (np.int64, np.int64, np.float64)


def test_images_become_one_table() -> None:
    """Labels and detections in the order of their images, each with its place and the id of its class."""
    images = [
        ImageResult("a.jpg", 50, 40, (Annotation("no_mask", Box(1, 2, 4, 9)), Annotation("mask", Box(*TEN))), ()),
        ImageResult("b.jpg", 50, 40, (), ()),
        ImageResult(
            *("c.jpg", 50, 40, (Annotation("mask", Box(*TEN)),)),
            (Detection("no_mask", 0.75, (1.0, 2.0, 4.0, 9.0)), Detection("mask", 0.5, TEN)),
        ),
    ]
    found = boxes_table(images)
    assert found.image_count == 3
    assert (found.labels.image.tolist(), found.labels.class_id.tolist()) == ([0, 0, 2], [1, 0, 0])
    assert found.labels.corners.tolist() == [[1, 2, 4, 9], [0, 0, 10, 10], [0, 0, 10, 10]]
    assert found.labels.confidence.tolist() == [1, 1, 1]
    assert (found.detections.image.tolist(), found.detections.class_id.tolist()) == ([2, 2], [1, 0])
    assert (found.detections.corners.tolist(), found.detections.confidence.tolist()) == (
        [[1, 2, 4, 9], [0, 0, 10, 10]],
        [0.75, 0.5],
    )


def test_no_rows_are_empty_columns() -> None:
    found = boxes_from_rows([])
    assert (len(found), found.corners.shape, found.area.tolist()) == (0, (0, 4), [])
    assert len(overlaps(BoxesTable(3, found, boxes_from_rows([(1, 0, TEN, 0.9)]))).iou) == 0
    assert len(overlaps(BoxesTable(3, boxes_from_rows([(1, 0, TEN, 1.0)]), found)).iou) == 0


PAIRS = [
    (TEN, 1.0),
    ((0.0, 0.0, 10.0, 5.0), 0.5),
    ((5.0, 5.0, 15.0, 15.0), 25 / 175),
    ((2.0, 3.0, 7.0, 5.0), 0.1),  # 5 x 2, inside
    ((10.0, 0.0, 20.0, 10.0), 0.0),
    ((0.0, 10.0, 10.0, 20.0), 0.0),
    ((11.0, 11.0, 20.0, 20.0), 0.0),  # apart both ways
    ((5.0, 0.0, 5.0, 10.0), 0.0),  # empty
]


def test_iou_by_hand() -> None:
    others = np.array([other for other, _ in PAIRS])
    mine = np.tile(TEN, (len(PAIRS), 1))
    assert iou(mine, others).tolist() == pytest.approx([expected for _, expected in PAIRS])
    assert iou(others, mine).tolist() == pytest.approx([expected for _, expected in PAIRS])


def test_the_smallest_boxes_overlap_too() -> None:
    tiny = np.array([[0.0, 0.0, 1e-9, 1e-9]])
    assert iou(tiny, tiny).tolist() == pytest.approx([1.0])
    assert iou(tiny * 0, tiny * 0).tolist() == [0.0]


def test_an_overlap_counts_from_a_tenth_on() -> None:
    """In the same image alone, whatever the classes; as (detection, label, IoU)."""
    labels: list[Row] = [(0, 0, TEN, 1.0), (0, 1, (100.0, 0.0, 110.0, 10.0), 1.0), (2, 0, TEN, 1.0)]
    found: list[Row] = [(0, 1, (2.0, 3.0, 7.0, 5.0), 0.9), (1, 0, TEN, 0.9), (2, 0, TEN, 0.9), (2, 0, TEN, 0.8)]
    found += [(2, 0, (0.0, 0.0, 10.0, 0.9), 0.7)]
    one = BoxesTable(3, boxes_from_rows(labels), boxes_from_rows(found))
    assert MIN_OVERLAP == 0.1
    assert listed(one) == [(0, 0, pytest.approx(0.1)), (2, 2, 1.0), (3, 2, 1.0)]
    assert listed(one, min_iou=0.09)[-1] == (4, 2, pytest.approx(0.09))
    assert listed(one, min_iou=0.1 + 1e-11)[0] == (0, 0, pytest.approx(0.1))  # a rounding error is none
    assert listed(one, min_iou=0.1 + 1e-9) == [(2, 2, 1.0), (3, 2, 1.0)]


def listed(one: BoxesTable, **options: float) -> list[tuple[int, int, float]]:
    found = overlaps(one, **options)
    return list(zip(found.detection.tolist(), found.label.tolist(), found.iou.tolist(), strict=True))


corner = st.integers(0, 20)
side = st.integers(1, 15)


def _row(image: int, x: int, y: int, wide: int, high: int) -> Row:
    return image, 0, (float(x), float(y), float(x + wide), float(y + high)), 0.5


rows = st.lists(st.builds(_row, st.integers(0, 3), corner, corner, side, side), max_size=10).map(sorted)


@given(rows, rows)
def test_overlaps_are_those_of_all_pairs(labels: list[Row], found: list[Row]) -> None:
    one = BoxesTable(5, boxes_from_rows(labels), boxes_from_rows(found))
    pairs = [
        (i, j, pytest.approx(boxes.iou(mine[2], theirs[2])))
        for i, mine in enumerate(found)
        for j, theirs in enumerate(labels)
        if mine[0] == theirs[0] and boxes.iou(mine[2], theirs[2]) >= 0.1 - 1e-10
    ]
    assert listed(one) == pairs


def test_a_choice_of_overlaps_keeps_them_together() -> None:
    found = overlaps(
        BoxesTable(
            1,
            boxes_from_rows([(0, 0, TEN, 1.0)]),
            boxes_from_rows([(0, 0, TEN, 0.9), (0, 0, (0.0, 0.0, 10.0, 5.0), 0.8)]),
        )
    )
    chosen = found.where(found.iou < 1)
    assert (chosen.detection.tolist(), chosen.label.tolist(), chosen.iou.tolist()) == ([1], [0], [0.5])


def test_records_are_fixed() -> None:
    assert Boxes in records(measure)
    assert all(map(is_fixed, records(measure)))
