"""Boxes and annotations: their sizes, and invalid values."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from facemask_train.core import types
from facemask_train.core.types import Annotation, Box
from helpers.records import is_fixed, records


def test_a_box_measures_its_corners() -> None:
    box = Box(2.0, 3.0, 7.0, 15.0)
    assert box.corners == (2.0, 3.0, 7.0, 15.0)
    assert (box.width, box.height, box.area) == (5.0, 12.0, 60.0)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_box_needs_finite_corners(place: int, value: float) -> None:
    corners = [1.0, 1.0, 2.0, 2.0]
    corners[place] = value
    with pytest.raises(ValueError, match="finite"):
        Box(*corners)


@pytest.mark.parametrize(
    "corners",
    [
        (5.0, 1.0, 5.0, 9.0),  # no width
        (5.0, 1.0, 4.0, 9.0),  # right before left
        (1.0, 5.0, 9.0, 5.0),  # no height
        (1.0, 5.0, 9.0, 4.0),  # bottom above top
        (5.0, 5.0, 4.0, 4.0),  # both: the area would be positive
    ],
)
def test_a_box_needs_a_positive_width_and_height(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="positive width and height"):
        Box(*corners)


def test_an_annotation_has_the_id_of_its_class() -> None:
    box = Box(0.0, 0.0, 1.0, 1.0)
    assert [Annotation(name, box).class_id for name in ("mask", "no_mask")] == [0, 1]
    with pytest.raises(ValueError, match="hat"):
        Annotation("hat", box)


def test_boxes_and_annotations_have_an_order() -> None:
    """By their fields, from the first on: what sorts them gives the same files everywhere."""
    boxes = [Box(0, 0, 5, 5), Box(0, 0, 5, 6), Box(0, 1, 2, 2), Box(1, 0, 2, 2)]
    assert all(one < other for one, other in pairwise(boxes))
    annotations = [Annotation(name, box) for name in ("mask", "no_mask") for box in boxes]
    assert all(one < other for one, other in pairwise(annotations))


def test_records_are_fixed() -> None:
    found = records(types)
    assert {Box, Annotation} <= set(found)
    assert all(map(is_fixed, found))
