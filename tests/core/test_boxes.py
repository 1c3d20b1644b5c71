"""Boxes compared and moved: against rendered images, and whatever the numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.boxes import inverse, iou, laid_over, match, oriented
from facemask_train.core.types import Annotation, Box
from facemask_train.dataset.grouping.hashing import ORIENTATIONS, turned

WIDTH, HEIGHT = 40, 24


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return Box(left, top, draw(st.integers(left + 1, WIDTH)), draw(st.integers(top + 1, HEIGHT)))


def extent(image: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(image)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@given(boxes(), st.sampled_from(ORIENTATIONS))
def test_a_box_turns_as_its_image_does(box: Box, orientation: int) -> None:
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    image[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = 1
    assert oriented(box.corners, WIDTH, HEIGHT, orientation) == extent(turned(image, orientation))


@given(boxes(), st.sampled_from(ORIENTATIONS))
def test_an_orientation_and_its_inverse_leave_a_box_where_it_was(box: Box, orientation: int) -> None:
    label = Annotation("mask", box)
    ways = (orientation, inverse(orientation))
    assert laid_over([label], (WIDTH, HEIGHT), (WIDTH, HEIGHT), ways) == (label,)


@given(boxes(), boxes())
def test_iou_is_that_of_counted_pixels(one: Box, other: Box) -> None:
    pixels = np.zeros((2, HEIGHT, WIDTH), bool)
    for layer, box in zip(pixels, (one, other), strict=True):
        layer[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = True
    counted = (pixels[0] & pixels[1]).sum() / (pixels[0] | pixels[1]).sum()
    assert iou(one.corners, other.corners) == pytest.approx(counted)


@given(st.lists(boxes(), max_size=8), st.lists(boxes(), max_size=8))
def test_a_match_takes_each_box_once_and_leaves_no_free_pair(some: list[Box], others: list[Box]) -> None:
    mine, theirs = ([Annotation("mask", box) for box in found] for found in (some, others))
    pairs = match(mine, theirs)
    taken, given_away = {i for i, _, _ in pairs}, {j for _, j, _ in pairs}
    assert len(taken) == len(given_away) == len(pairs)
    assert all(overlap >= 0.5 for *_, overlap in pairs)
    free = [(i, j) for i in range(len(some)) for j in range(len(others)) if i not in taken and j not in given_away]
    assert all(iou(some[i].corners, others[j].corners) < 0.5 for i, j in free)


def test_the_best_overlap_is_matched_first() -> None:
    mine = [Annotation("mask", Box(0, 0, 10, 10)), Annotation("mask", Box(2, 0, 12, 10))]
    theirs = [Annotation("no_mask", Box(2, 0, 12, 10))]
    assert match(mine, theirs) == [(1, 0, 1.0)]
