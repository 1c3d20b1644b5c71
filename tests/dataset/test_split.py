"""Splits: thresholds on the content, and linked images that share a split, source by source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.recipe import Split
from facemask_train.dataset.grouping import split as module
from facemask_train.dataset.grouping.split import assign_splits, published_split, split_of
from helpers.records import is_fixed, records

HALVES = Split(train=0.5, val=0.25, test=0.25)
TRAIN, VAL, TEST = ("0" * 64, "a" * 64, "f" * 64)  # 0, 10/15 and 1 of the way through


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("0" * 16, "train"),
        ("7" + "f" * 11 + "0" * 4, "train"),
        ("8" + "0" * 15, "val"),  # exactly one half
        ("b" + "f" * 11 + "0" * 4, "val"),
        ("c" + "0" * 15, "test"),  # exactly three quarters
        ("f" * 16, "test"),
    ],
)
def test_a_split_is_a_threshold_on_the_first_64_bits(start: str, expected: str) -> None:
    assert split_of(start + "0" * 48, HALVES) == split_of(start + "f" * 48, HALVES) == expected


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [
        ((0.25, 0.25, 0.5), ["train", "val", "test", "test"]),
        ((0.25, 0.5, 0.25), ["train", "val", "val", "test"]),
        ((1.0, 0.0, 0.0), ["train"] * 4),
        ((0.75, 0.0, 0.25), ["train", "train", "train", "test"]),
    ],
)
def test_the_thresholds_are_those_of_the_recipe(fractions: tuple[float, float, float], expected: list[str]) -> None:
    """Contents at 1/16, 5/16, 9/16 and 13/16."""
    train, val, test = fractions
    shares = Split(train=train, val=val, test=test)
    assert [split_of(digit + "0" * 63, shares) for digit in "159d"] == expected


@pytest.mark.parametrize(("train", "val", "expected"), [(1.0, 0.0, "train"), (0.5, 0.5, "val")])
def test_the_highest_digest_is_below_one(train: float, val: float, expected: str) -> None:
    assert split_of("f" * 64, Split(train=train, val=val, test=0.0)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train/a.jpg", "train"),
        ("x/valid/a.jpg", "val"),
        ("Validation/images/a.jpg", "val"),
        ("VAL/a.jpg", "val"),
        ("test/a.jpg", "test"),
        ("test/train/a.jpg", "train"),  # the nearest folder
        ("train/test/images/a.jpg", "test"),
        ("a/train", ""),  # a file
        ("trains/a.jpg", ""),
        ("a.jpg", ""),
        ("", ""),
    ],
)
def test_the_published_split_is_the_nearest_folders(path: str, expected: str) -> None:
    assert published_split(path) == expected


def test_images_without_links_are_assigned_alone() -> None:
    found = assign_splits([TRAIN, VAL, TEST], [0, 0, 1], [], HALVES)
    assert (found.first.tolist(), found.splits, found.joined) == ([0, 1, 2], ["train", "val", "test"], 0)
    assert (assign_splits([], [], [], HALVES).splits, assign_splits([], [], [], HALVES).joined) == ([], 0)


@pytest.mark.parametrize(
    ("digests", "ranks", "links", "first", "splits", "joined"),
    [
        # of one source: all go where the first goes, also over several steps
        ([TEST, VAL, TRAIN], [0, 0, 0], [(1, 2), (0, 1)], [0, 0, 0], ["test"] * 3, 0),
        ([TEST, VAL, TRAIN], [0, 0, 0], [(1, 2)], [0, 1, 1], ["test", "val", "val"], 0),
        # a later source follows what stands
        ([TEST, TRAIN], [0, 1], [(0, 1)], [0, 0], ["test", "test"], 0),
        ([TEST, VAL, TRAIN, TRAIN], [0, 0, 1, 1], [(1, 2), (2, 3)], [0, 1, 1, 1], ["test", "val", "val", "val"], 0),
        # among itself, a later source goes where its first goes
        ([TEST, VAL, TRAIN], [0, 1, 1], [(1, 2)], [0, 1, 1], ["test", "val", "val"], 0),
        # what it links together of two splits goes to train, once
        ([TEST, VAL, TEST], [0, 0, 1], [(0, 2), (1, 2)], [0, 0, 0], ["train"] * 3, 1),
        ([TEST, TEST, VAL], [0, 0, 1], [(0, 2), (1, 2)], [0, 0, 0], ["test"] * 3, 0),
        ([TEST, VAL, TEST, VAL, VAL, VAL], [0, 0, 0, 0, 1, 1], [(0, 4), (1, 4), (2, 5), (3, 5)],
         [0, 0, 2, 2, 0, 2], ["train"] * 6, 2),
        # and stays there; the next source links it to a third split
        ([TEST, VAL, VAL, TEST, TEST], [0, 0, 0, 1, 2], [(0, 3), (1, 3), (2, 4), (3, 4)],
         [0, 0, 0, 0, 0], ["train"] * 5, 2),
        ([TEST, VAL, TEST, VAL], [0, 0, 1, 2], [(0, 2), (1, 2), (2, 3)], [0] * 4, ["train"] * 4, 1),
        # two sources that link nothing of what stands
        ([TRAIN, VAL, TEST, VAL], [0, 1, 2, 2], [(1, 2)], [0, 1, 1, 3], ["train", "val", "val", "val"], 0),
    ],
)  # fmt: skip
def test_groups_by_hand(
    digests: list[str], ranks: list[int], links: list[tuple[int, int]], first: list[int], splits: list[str], joined: int
) -> None:
    found = assign_splits(digests, ranks, links, HALVES)
    assert (found.first.tolist(), found.splits, found.joined) == (first, splits, joined)
    backwards = assign_splits(digests, ranks, reversed(links), HALVES)
    assert (backwards.first.tolist(), backwards.splits, backwards.joined) == (first, splits, joined)


def components(count: int, links: list[tuple[int, int]]) -> list[int]:
    """Return the lowest index that each image is linked to, by taking the lower of each pair until nothing changes."""
    lowest = list(range(count))
    changed = True
    while changed:
        changed = False
        for one, other in links:
            least = min(lowest[one], lowest[other])
            changed |= lowest[one] != least or lowest[other] != least
            lowest[one] = lowest[other] = least
    return lowest


linked = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda link: link[0] < link[1]), max_size=14)


@given(st.lists(st.sampled_from("05af"), min_size=12, max_size=12), linked)
def test_a_group_is_what_is_linked_and_shares_a_split(digits: list[str], links: list[tuple[int, int]]) -> None:
    """Of one source: the first image of a group gives the split of all."""
    found = assign_splits([digit * 64 for digit in digits], [0] * 12, links, HALVES)
    assert found.first.tolist() == components(12, links)
    assert found.splits == [split_of(digits[first] * 64, HALVES) for first in components(12, links)]
    assert found.joined == 0


def test_records_are_fixed() -> None:
    assert records(module)
    assert all(map(is_fixed, records(module)))
