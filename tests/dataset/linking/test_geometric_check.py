"""The geometric check: copies in any shape are the same, and a common mark is no link."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facemask_train.core.boxes import UnitMap
from facemask_train.dataset.grouping.hashing import SIDE
from facemask_train.dataset.linking.geometric_check import (
    Agreement,
    Geometry,
    compare_pixels,
    find_geometry,
    match_points,
    verdict_of,
)
from facemask_train.dataset.linking.local_features import LocalFeatures, detect, mirrored
from helpers.photographs import Gray, captioned, photograph, turned


def thumbnail(image: Gray) -> Gray:
    small: Gray = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small


def judged(one: Gray, other: Gray) -> tuple[Geometry | None, str | None]:
    geometry = find_geometry(detect(one), detect(other))
    if geometry is None:
        return None, None
    return geometry, verdict_of(geometry.points, compare_pixels(thumbnail(one), thumbnail(other), geometry.transform))


def at(transform: UnitMap, x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = transform
    return a * x + b * y + c, d * x + e * y + f


IMAGE = photograph(5)
CHANGES = {
    "itself": IMAGE,
    "half of its area": np.ascontiguousarray(IMAGE[40:252, 60:343]),
    "a third of its area": np.ascontiguousarray(IMAGE[100:273, 30:261]),
    "turned by 5 degrees": turned(IMAGE, 5),
    "turned by 45 degrees": turned(IMAGE, 45),
    "stretched": cv2.resize(IMAGE, (400, 400)),
    "small": cv2.resize(IMAGE, (160, 120), interpolation=cv2.INTER_AREA),
    "noisy": np.clip(IMAGE + np.random.default_rng(0).normal(0, 12, IMAGE.shape), 0, 255).astype(np.uint8),
    "darker": (255 * (IMAGE / 255) ** 1.6).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_the_same_photograph(change: str) -> None:
    geometry, verdict = judged(IMAGE, CHANGES[change])
    assert geometry is not None
    assert verdict == "same"


def test_the_map_lays_a_crop_where_it_was_cut() -> None:
    geometry, _ = judged(IMAGE, CHANGES["half of its area"])
    assert geometry is not None
    assert at(geometry.transform, 0, 0) == pytest.approx((60 / 400, 40 / 300), abs=0.01)
    assert at(geometry.transform, 1, 1) == pytest.approx((343 / 400, 252 / 300), abs=0.01)


def test_an_image_in_a_collage_is_found_in_its_corner() -> None:
    collage = cv2.resize(
        np.vstack([np.hstack([photograph(6), photograph(7)]), np.hstack([IMAGE, photograph(8)])]), (400, 300)
    )
    geometry, verdict = judged(collage, IMAGE)
    assert geometry is not None
    assert verdict in ("same", "scene")
    assert at(geometry.transform, 0.5, 0.5) == pytest.approx((0.25, 0.75), abs=0.02)


def test_unrelated_images_under_one_caption_and_mark_are_not_linked() -> None:
    marked = [captioned(photograph(seed)) for seed in range(20, 26)]
    for number, one in enumerate(marked):
        for other in marked[number + 1 :]:
            assert judged(one, other)[1] is None


def test_one_backdrop_with_another_subject_is_one_scene() -> None:
    changed = IMAGE.copy()
    changed[60:240, 120:280] = photograph(9)[60:240, 120:280]
    assert judged(IMAGE, changed)[1] == "scene"


def test_a_mirrored_image_agrees_once_it_is_mirrored_back() -> None:
    flipped = np.ascontiguousarray(IMAGE[:, ::-1])
    assert judged(IMAGE, flipped)[1] is None
    geometry = find_geometry(detect(IMAGE), mirrored(detect(flipped)))
    assert geometry is not None
    assert geometry.points > 100


def test_matching_is_the_same_from_both_sides() -> None:
    one, other = detect(IMAGE), detect(CHANGES["turned by 5 degrees"])
    assert {tuple(pair) for pair in match_points(one, other).tolist()} == {
        tuple(pair[::-1]) for pair in match_points(other, one).tolist()
    }


def test_images_with_few_points_claim_nothing() -> None:
    empty = LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8), (40, 40))
    assert find_geometry(empty, detect(IMAGE)) is None
    plain = np.full((SIDE, SIDE), 90, np.uint8)
    assert compare_pixels(plain, plain, (1, 0, 0, 0, 1, 0)) is None


@pytest.mark.parametrize(
    ("points", "mean", "agreeing", "wanted"),
    [
        (16, 0.85, 0.93, "same"),
        (15, 0.99, 1.0, "scene"),
        (16, 0.84, 0.93, "scene"),
        (15, 0.3, 0.35, "scene"),
        (14, 0.3, 0.35, "weak"),
        (40, 0.2, 0.28, "scene"),
        (39, 0.2, 0.28, "weak"),
        (39, 0.2, 0.27, None),
        (11, 0.99, 1.0, None),
    ],
)
def test_thresholds_are_absolute(points: int, mean: float, agreeing: float, wanted: str | None) -> None:
    assert verdict_of(points, Agreement(mean, agreeing, 1.0)) == wanted


def test_without_pixels_there_is_no_verdict() -> None:
    assert verdict_of(100, None) is None
