"""Geometry of boxes: compared with rendered images, and for arbitrary numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.boxes import composed, inverse, inverted, iou, laid_over, mapped, match, oriented, unit_map
from facemask_train.core.types import Annotation, Box
from facemask_train.dataset.grouping.hashing import ORIENTATIONS, orient_image

WIDTH, HEIGHT = 40, 24


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return Box(left, top, draw(st.integers(left + 1, WIDTH)), draw(st.integers(top + 1, HEIGHT)))


def extent(image: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(image)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@given(boxes(), st.sampled_from(ORIENTATIONS))
def test_a_box_is_oriented_like_its_image(box: Box, orientation: int) -> None:
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    image[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = 1
    assert oriented(box.corners, WIDTH, HEIGHT, orientation) == extent(orient_image(image, orientation))


@given(boxes(), st.sampled_from(ORIENTATIONS))
def test_an_orientation_and_its_inverse_restore_a_box(box: Box, orientation: int) -> None:
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
def test_each_box_is_matched_once_and_no_pair_is_left(some: list[Box], others: list[Box]) -> None:
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


SMALL = Box(4, 2, 16, 10)  # on an image of 40 x 20


@pytest.mark.parametrize(
    ("target", "orientations", "expected"),
    [
        ((50, 30), (), (5, 3, 20, 15)),  # 1.25 and 1.5 times as large
        ((20, 10), (), (2, 1, 8, 5)),
        ((40, 20), (4,), (24, 2, 36, 10)),  # mirrored: x is 40 - x
        ((40, 20), (2,), (24, 10, 36, 18)),  # upside down: y is 20 - y too
        ((30, 50), (1,), (3, 30, 15, 45)),  # a quarter: (2, 24, 10, 36) on 20 x 40, then 1.5 and 1.25 times
        ((80, 20), (1, 5), (48, 2, 72, 10)),  # that, mirrored and a quarter on: (24, 2, 36, 10) on 40 x 20
        ((40, 20), (3, 3), (24, 10, 36, 18)),
    ],
)
def test_boxes_on_a_copy_by_hand(
    target: tuple[int, int], orientations: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    (found,) = laid_over([Annotation("no_mask", SMALL)], (40, 20), target, orientations)
    assert found == Annotation("no_mask", Box(*expected))


def test_rounding_moves_no_corner_out_of_the_image() -> None:
    """7 * (29 / 7) is a rounding error above 29."""
    assert 7 * (29 / 7) > 29
    (found,) = laid_over([Annotation("mask", Box(0, 0, 7, 7))], (7, 7), (29, 29), ())
    assert found.box.corners == (0, 0, 29, 29)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 4, 4), 1),
        ((0, 0, 4, 2), 0.5),
        ((1, 1, 3, 3), 0.25),  # inside
        ((2, 2, 6, 6), 4 / 28),
        ((4, 0, 8, 4), 0),  # side by side
        ((0, 4, 4, 8), 0),
        ((6, 0, 8, 4), 0),
        ((0, 6, 4, 8), 0),
        ((6, 6, 8, 8), 0),  # apart both ways: the product of two gaps is no overlap
        ((2, 2, 2, 2), 0),  # empty
    ],
)
def test_iou_by_hand(other: tuple[float, float, float, float], expected: float) -> None:
    assert iou((0, 0, 4, 4), other) == iou(other, (0, 0, 4, 4)) == pytest.approx(expected)


def test_two_empty_boxes_do_not_overlap() -> None:
    assert iou((1, 1, 1, 1), (1, 1, 1, 1)) == iou((1, 1, 1, 3), (1, 1, 1, 3)) == iou((1, 1, 3, 1), (1, 1, 3, 1)) == 0


@given(boxes(), boxes(), st.integers(-50, 50), st.integers(-50, 50))
def test_iou_is_symmetric_within_0_and_1_and_translation_invariant(
    one: Box, other: Box, across: int, down: int
) -> None:
    found = iou(one.corners, other.corners)
    assert 0 <= found <= 1
    assert iou(other.corners, one.corners) == found
    assert (found == 1) == (one == other)
    moved = [(box.x_min + across, box.y_min + down, box.x_max + across, box.y_max + down) for box in (one, other)]
    assert iou(*moved) == found


def test_a_pair_needs_the_least_overlap() -> None:
    mine, theirs = [Annotation("mask", Box(0, 0, 10, 10))], [Annotation("mask", Box(0, 0, 10, 5))]
    assert match(mine, theirs) == match(mine, theirs, least=0.5) == [(0, 0, 0.5)]
    assert match(mine, theirs, least=0.51) == []


def test_the_first_of_equal_overlaps_is_matched_and_pairs_are_ordered() -> None:
    box, apart = Box(0, 0, 10, 10), Box(20, 0, 30, 10)
    twice = [Annotation("mask", box), Annotation("no_mask", box)]
    assert match(twice, twice) == [(0, 0, 1.0), (1, 1, 1.0)]
    assert match([Annotation("mask", apart), *twice], [*twice, Annotation("mask", apart)]) == [
        (0, 2, 1.0),
        (1, 0, 1.0),
        (2, 1, 1.0),
    ]


def test_a_matched_box_is_not_matched_again() -> None:
    """Both of mine overlap the first of theirs most; the one that overlaps it less has to take the second."""
    mine = [Annotation("mask", Box(0, 0, 10, 8)), Annotation("mask", Box(0, 0, 10, 10))]
    theirs = [Annotation("mask", Box(0, 0, 10, 10)), Annotation("mask", Box(0, 0, 10, 6))]
    assert match(mine, theirs) == [(0, 1, pytest.approx(0.75)), (1, 0, 1.0)]


def test_unit_maps_turn_boxes_as_orientations_do() -> None:
    label = Annotation("mask", Box(10, 20, 30, 40))
    for orientation in range(8):
        target = (50, 100) if orientation % 2 else (100, 50)
        (wanted,) = laid_over([label], (100, 50), target, [orientation])
        (found,) = mapped([label], (100, 50), target, unit_map(orientation))
        assert found.box.corners == pytest.approx(wanted.box.corners)
        undone = composed(unit_map(orientation), inverted(unit_map(orientation)))
        assert undone == pytest.approx(unit_map(0))


def test_what_a_crop_cuts_off_is_left_out() -> None:
    crop = (2.0, 0.0, -0.5, 0.0, 2.0, -0.5)  # the middle half of both sides
    labels = [Annotation("mask", Box(*corners)) for corners in ((30, 30, 50, 50), (70, 40, 80, 60), (0, 0, 20, 20))]
    found = mapped(labels, (100, 100), (200, 200), crop)
    first, second = (one.box.corners for one in found)
    assert first == pytest.approx((20, 20, 100, 100))
    assert second == pytest.approx((180, 60, 200, 140))


def test_maps_are_done_one_after_the_other() -> None:
    first, then = (2.0, 0.1, -0.5, 0.2, 1.5, 0.0), (0.5, -0.2, 0.3, 0.0, 3.0, 0.1)
    a, b, c, d, e, f = composed(first, then)
    x, y = 0.3, 0.7
    u, v = first[0] * x + first[1] * y + first[2], first[3] * x + first[4] * y + first[5]
    assert a * x + b * y + c == pytest.approx(then[0] * u + then[1] * v + then[2])
    assert d * x + e * y + f == pytest.approx(then[3] * u + then[4] * v + then[5])
