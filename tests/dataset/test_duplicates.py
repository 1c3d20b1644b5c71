"""Duplicates are found at each severity and in each orientation, other images are not, by either search."""

from __future__ import annotations

import hashlib
from functools import cache
from random import Random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemask_train.core.boxes import inverse
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Duplicates
from facemask_train.dataset.grouping import duplicates
from facemask_train.dataset.grouping.duplicates import Pair, find_candidates, find_pairs, groups_of
from facemask_train.dataset.grouping.hashing import (
    ORIENTATIONS,
    SIDE,
    hash_image,
    orient_hashes,
    orient_image,
    stack_hashes,
)
from facemask_train.dataset.grouping.similarity import has_structure
from facemask_train.sources.sample.scenes import Scene, draw_scene
from helpers.copies import copy_of, encoded, moment, wall

ALONE = WorkerPool(workers=1)


@cache
def scenes() -> tuple[Scene, ...]:
    return tuple(draw_scene(Random(f"duplicates {number}")) for number in range(24))


def gray(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def pairs_of(images: list[np.ndarray], **changes: float) -> list[Pair]:
    prints = [hash_image(gray(image)) for image in images]
    thumbnails = [np.frombuffer(one.thumbnail, np.uint8).reshape(SIDE, SIDE) for one in prints]
    digests = [hashlib.sha256(encoded(image, kind=".png")).hexdigest() for image in images]
    hashes = stack_hashes([one.hash for one in prints])
    return find_pairs(hashes, thumbnails.__getitem__, digests, Duplicates(**changes), pool=ALONE)


# ---- hashes ----


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_hash_of_an_oriented_image_follows_from_one(orientation: int) -> None:
    for scene in scenes()[:6]:
        plain = stack_hashes([hash_image(gray(scene.image)).hash])
        there = stack_hashes([hash_image(gray(orient_image(scene.image, orientation))).hash])
        assert (
            np.bitwise_count(orient_hashes(plain, orientation) ^ there).sum() <= 2
        )  # a sign of almost nothing may flip


@given(st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4), st.sampled_from(ORIENTATIONS))
def test_an_orientation_has_an_inverse(hash_words: list[int], orientation: int) -> None:
    hashes = np.array([hash_words], np.uint64)
    assert (orient_hashes(orient_hashes(hashes, orientation), inverse(orientation)) == hashes).all()


def planted(count: int, seed: int) -> np.ndarray:
    """Return random hashes, a third of them near another one in some orientation, by 0 to 19 of the first 64 signs."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (count, 4), dtype=np.uint64)
    for index in range(count // 3):
        near = orient_hashes(hashes[index : index + 1], int(rng.integers(8)))[0]
        for bit in rng.choice(64, int(rng.integers(20)), replace=False):
            near[0] ^= np.uint64(1) << np.uint64(bit)
        hashes[count - 1 - index] = near
    return hashes


@pytest.mark.parametrize("distance", [0, 7, 16])
def test_the_index_finds_the_same_pairs_as_a_comparison_of_all(monkeypatch: pytest.MonkeyPatch, distance: int) -> None:
    hashes = planted(900, seed=distance)
    by_hand = [
        (i, j, orientation)
        for orientation in ORIENTATIONS
        for turned_hashes in [orient_hashes(hashes, orientation)]
        for i in range(len(hashes))
        for j in np.flatnonzero(np.bitwise_count(turned_hashes[:, 0] ^ hashes[i, 0]) <= distance).tolist()
        if i < j and _a_third_is_near(int(turned_hashes[j, 0] ^ hashes[i, 0]))
        if np.bitwise_count(turned_hashes[j] ^ hashes[i]).sum() <= 96
    ]
    all_pairs = find_candidates(hashes, distance)
    assert all_pairs == sorted(by_hand)
    assert len(all_pairs) > (30 if distance else 5)
    monkeypatch.setattr(duplicates, "ALL_PAIRS", 10)
    assert find_candidates(hashes, distance) == all_pairs


def _a_third_is_near(differing: int) -> bool:
    signs = [differing >> bit & 1 for bit in range(63)]
    thirds = [signs[:21], signs[21:42], signs[42:], signs[::3], signs[1::3], signs[2::3]]
    return min(map(sum, thirds)) <= 2


# ---- copies and look-alikes ----


@pytest.mark.parametrize(
    ("crop", "scale", "quality"),
    [(0, 1, 30), (0, 0.25, 95), (0, 2, 85), (0.02, 1, 85), (0.02, 0.25, 30), (0.02, 2, 50)],
)
def test_copies_are_duplicates_in_any_orientation(crop: float, scale: float, quality: int) -> None:
    rng = Random(f"{crop} {scale} {quality}")
    originals = [scene.image for scene in scenes()]
    copies = [
        copy_of(image, rng, crop=crop, scale=scale, quality=quality, orientation=number % 8)
        for number, image in enumerate(originals)
    ]
    found = {(pair.first, pair.second): pair for pair in pairs_of(originals + copies) if pair.same}
    wanted = {(number, number + len(originals)) for number in range(len(originals))}
    assert set(found) <= wanted
    assert len(found) >= len(wanted) - (
        crop > 0 and scale < 1
    )  # 80 px across, 4 % cut off, quality 30: one may be lost
    for (number, _), pair in found.items():
        assert pair.orientation == inverse(number % 8)


def test_another_shot_of_a_scene_is_at_most_a_near_duplicate() -> None:
    rng = Random(5)
    originals, moments = [], []
    for scene in scenes():
        box = max((face.box for face in scene.faces), key=lambda box: box.area)
        if box.area > 0.015 * scene.image.shape[0] * scene.image.shape[1]:
            originals.append(scene.image)
            moments.append(moment(scene.image, box.corners, rng))
    pairs = pairs_of(originals + moments)
    assert len(originals) >= 12
    assert not [pair for pair in pairs if pair.same]
    assert len(pairs) >= len(originals) // 2  # and most are recognized as one scene


def test_near_uniform_images_are_duplicates_only_with_equal_bytes() -> None:
    walls = [wall(seed) for seed in range(12)]
    assert pairs_of(walls) == []
    (pair,) = pairs_of([*walls, walls[3]])
    assert (pair.first, pair.second, pair.same, pair.orientation) == (3, 12, True, 0)


def test_images_without_structure_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(hash_image(gray(wall(seed))).hash.strip(b"\0") for seed in range(6))
    assert all(has_structure(cv2.resize(gray(scene.image), (SIDE, SIDE))) for scene in scenes())
    searched: list[int] = []
    monkeypatch.setattr(duplicates, "find_candidates", lambda hashes, distance: searched.append(len(hashes)) or [])
    pairs_of([wall(1), scenes()[0].image, wall(2), scenes()[1].image])
    assert searched == [2]


def test_equal_images_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an image that a source holds a thousand times would be compared with itself half a million times."""
    compared = []
    stock = duplicates.measure_similarity
    monkeypatch.setattr(duplicates, "measure_similarity", lambda *pair: compared.append(1) or stock(*pair))
    scene = scenes()[0].image
    near = copy_of(scene, Random(1), crop=0, scale=0.5, quality=60, orientation=2)
    pairs = pairs_of([scene, near, scene, scenes()[1].image, near, *[scene] * 20])
    assert len(compared) <= 2
    # the first of equal images stands for all: it is tied to each of its twins, and to each of its copy's
    assert [(pair.first, pair.second) for pair in pairs] == [
        (0, 1), (0, 2), (0, 4), *((0, twin) for twin in range(5, 25)), (1, 4),
    ]  # fmt: skip
    assert {pair.orientation for pair in pairs} == {0, 2}
    assert set(groups_of(pairs).values()) == {0}


def test_thresholds_are_settings() -> None:
    scene = scenes()[0].image
    near = copy_of(scene, Random(1), crop=0.02, scale=0.5, quality=40, orientation=0)
    (pair,) = pairs_of([scene, near])
    assert pair.same
    (pair,) = pairs_of([scene, near], similarity=1.0)
    assert not pair.same
    assert pairs_of([scene, near], similarity=1.0, near_duplicate=1.0) == []


# ---- groups ----


def tie(first: int, second: int, *, same: bool = True) -> Pair:
    return Pair(first, second, 0, 1.0, 1.0, same)


def test_a_chain_whose_ends_differ_makes_two_groups() -> None:
    assert groups_of([tie(0, 1), tie(1, 2), tie(2, 3)]) == {1: 0, 3: 2}
    assert groups_of([tie(0, 1), tie(1, 2), tie(0, 2)]) == {1: 0, 2: 0}
    assert groups_of([tie(0, 1, same=False)]) == {}


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] < pair[1]), max_size=60))
@settings(max_examples=200)
def test_every_image_of_a_group_is_a_duplicate_of_its_first(edges: list[tuple[int, int]]) -> None:
    leaders = groups_of([tie(*edge) for edge in edges])
    assert all((leader, image) in edges and leader not in leaders for image, leader in leaders.items())
