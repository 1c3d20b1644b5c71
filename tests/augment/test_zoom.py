"""Crops around a face: its size, and that no face is cut."""

from __future__ import annotations

from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from facemask_train.augment.zoom import Crop, crop_around
from facemask_train.core.types import Annotation, Box

FACE = Annotation("no_mask", Box(40, 30, 60, 60))


def test_the_longer_side_of_the_crop_is_that_of_the_face_over_the_size() -> None:
    for seed in range(20):
        crop = crop_around([FACE], 0, 200, 150, size=0.5, rng=Random(seed))
        assert crop is not None
        assert max(crop.width, crop.height) == 60
        assert 45 <= min(crop.width, crop.height) <= 60
        (label,) = crop.labels([FACE])
        assert (label.name, label.box.width, label.box.height) == ("no_mask", 20, 30)


def test_labels_are_in_pixels_of_the_crop_and_only_those_inside() -> None:
    far = Annotation("mask", Box(150, 100, 170, 120))
    assert Crop(35, 25, 95, 85).labels([far, FACE]) == (Annotation("no_mask", Box(5, 5, 25, 35)),)


def test_a_face_cannot_be_made_smaller_or_left_as_it_is() -> None:
    assert crop_around([FACE], 0, 200, 150, size=0.1, rng=Random(0)) is None
    assert crop_around([FACE], 0, 60, 60, size=0.5, rng=Random(0)) is None


def test_no_crop_where_every_one_would_cut_a_face() -> None:
    crowd = [FACE, *(Annotation("mask", Box(x, 0, x + 30, 150)) for x in (5, 65))]
    assert crop_around(crowd, 0, 200, 150, size=0.4, rng=Random(0)) is None


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Annotation], int, int]:
    width, height = draw(st.integers(20, 400)), draw(st.integers(20, 400))
    labels = []
    for _ in range(draw(st.integers(1, 5))):
        x, y = draw(st.floats(0, width - 2)), draw(st.floats(0, height - 2))
        right, low = draw(st.floats(x + 1, width)), draw(st.floats(y + 1, height))
        labels.append(Annotation("mask", Box(x, y, right, low)))
    return labels, width, height


@given(scenes(), st.floats(0.02, 0.8), st.integers(0, 99))
def test_a_crop_lies_in_its_image_holds_its_face_and_cuts_none(
    scene: tuple[list[Annotation], int, int], size: float, seed: int
) -> None:
    labels, width, height = scene
    crop = crop_around(labels, 0, width, height, size=size, rng=Random(seed))
    assume(crop is not None)
    assert crop is not None
    assert 0 <= crop.x_min < crop.x_max <= width
    assert 0 <= crop.y_min < crop.y_max <= height
    assert max(crop.width, crop.height) < max(width, height)
    inside = crop.labels(labels)
    assert labels[0].name in {one.name for one in inside}
    assert len(inside) == sum(crop.meets(one.box) for one in labels)
    for one in inside:
        assert 0 <= one.box.x_min < one.box.x_max <= crop.width
        assert 0 <= one.box.y_min < one.box.y_max <= crop.height
