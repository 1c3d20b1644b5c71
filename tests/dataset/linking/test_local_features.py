"""Local features: bounded, in order, and mirrored without the image."""

from __future__ import annotations

import numpy as np

from facemask_train.dataset.linking.local_features import (
    LENGTH,
    MAX_POINTS,
    MAX_SIDE,
    detect,
    mirrored,
    reduced,
)
from helpers.photographs import photograph


def test_features_are_bounded_and_lie_in_the_image() -> None:
    found = detect(photograph(1, (900, 1200)))
    assert found.size == (MAX_SIDE, 300)
    assert 100 < len(found.points) <= MAX_POINTS
    assert found.descriptors.shape == (len(found.points), LENGTH)
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    assert np.array_equal(detect(photograph(1, (900, 1200))).descriptors, found.descriptors)


def test_descriptors_have_length_255_so_that_sums_of_products_are_exact() -> None:
    squares = (detect(photograph(2)).descriptors.astype(np.int64) ** 2).sum(axis=1)
    assert np.all(np.abs(squares - 255**2) < 2500)
    assert squares.max() * 4 < 2**24


def test_a_plain_image_has_no_features() -> None:
    found = detect(np.full((60, 80), 120, np.uint8))
    assert found.points.shape == (0, 2)
    assert found.descriptors.shape == (0, LENGTH)


def test_mirrored_features_are_those_of_the_mirrored_image() -> None:
    image = photograph(3)
    made, wanted = mirrored(detect(image)), detect(np.ascontiguousarray(image[:, ::-1]))
    distance = np.linalg.norm(
        made.descriptors[:, None].astype(np.float32) - wanted.descriptors[None].astype(np.float32), axis=2
    )
    nearest = distance.argmin(axis=1)
    close = distance.min(axis=1) < 40
    assert close.mean() > 0.7
    assert np.linalg.norm(made.points - wanted.points[nearest], axis=1)[close].mean() < 0.01


def test_small_images_are_not_enlarged() -> None:
    assert reduced(np.zeros((30, 20), np.uint8)).shape == (30, 20)
    assert reduced(np.zeros((2, 2000), np.uint8)).shape == (1, MAX_SIDE)
