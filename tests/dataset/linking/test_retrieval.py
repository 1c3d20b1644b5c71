"""Candidates: related images are proposed, and a later source changes nothing among earlier ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facemask_train.dataset.linking.local_features import detect
from facemask_train.dataset.linking.retrieval import Candidate, find_candidates, named_alike
from helpers.photographs import Gray, photograph, turned


class Images:
    def __init__(self, images: Sequence[Gray]) -> None:
        self.found = [detect(image).descriptors for image in images]

    def descriptors(self, index: int) -> NDArray[np.uint8]:
        return self.found[index]


ORIGINALS = [photograph(seed) for seed in range(8)]
COPIES = [
    turned(ORIGINALS[1], 20),
    np.ascontiguousarray(ORIGINALS[3][50:270, 50:340]),
    np.ascontiguousarray(ORIGINALS[5][:, ::-1]),
]


def test_copies_are_proposed() -> None:
    found = find_candidates(Images([*ORIGINALS, *COPIES]), [0] * 8 + [1] * 3)
    assert {(1, 8, False), (3, 9, False), (5, 10, True)} <= set(found)
    assert found == sorted(set(found))


def test_a_source_at_the_end_changes_no_earlier_candidate() -> None:
    before = find_candidates(Images([*ORIGINALS, *COPIES]), [0] * 8 + [1] * 3)
    more = [*ORIGINALS, *COPIES, *(photograph(seed) for seed in (1, 30, 31))]
    after = find_candidates(Images(more), [0] * 8 + [1] * 3 + [2] * 3)
    assert [one for one in after if one.second < 11] == before


def test_images_without_features_propose_nothing() -> None:
    plain = np.full((40, 40), 90, np.uint8)
    assert find_candidates(Images([plain, plain]), [0, 0]) == []
    assert find_candidates(Images([]), []) == []


def test_names_of_exports_and_copies_propose_pairs_of_one_source() -> None:
    exported = f"a/x_jpg.rf.{'0' * 32}.jpg", f"b/x_jpg.rf.{'1' * 32}.jpg"
    names = [
        ("s", exported[0]),
        ("s", exported[1]),
        ("s", "cat.png"),
        ("s", "cat (1).png"),
        ("s", "cat copy.png"),
        ("t", "cat.png"),
    ]
    found = {(one.first, one.second) for one in named_alike(names)}
    assert found == {(0, 1), (2, 3), (2, 4), (3, 4)}
    assert Candidate(0, 1, mirrored=True) in named_alike(names)
    assert named_alike([("s", f"x ({number}).jpg") for number in range(40)]) == []
