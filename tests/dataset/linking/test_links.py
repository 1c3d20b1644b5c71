"""Links: stored features, verdicts, what they tie, and the independent check of the splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from facemask_train.core.errors import DataError
from facemask_train.core.fixes import Fixes
from facemask_train.core.parallel import WorkerPool
from facemask_train.dataset.grouping.duplicates import Pair
from facemask_train.dataset.grouping.label_agreement import SourceImage
from facemask_train.dataset.linking import links as module
from facemask_train.dataset.linking.feature_store import FeatureStore, feature_store
from facemask_train.dataset.linking.independent_check import CheckResult, CrossSplitCopy, find_copies
from facemask_train.dataset.linking.link_sources import apply_fixes, stop_at_copies
from facemask_train.dataset.linking.links import Link, StoredImages, find_links, with_links
from facemask_train.dataset.loading.images import ImageFacts, examine
from helpers.photographs import Gray, captioned, photograph, turned

ALONE = WorkerPool(workers=1)
UNIT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
IMAGE = photograph(5)
IMAGES = {
    "0.png": IMAGE,
    "1.png": np.ascontiguousarray(IMAGE[40:252, 60:343]),
    "2.png": captioned(photograph(6)),
    "3.png": captioned(photograph(7)),
    "4.png": turned(photograph(8), 10),
    "5.png": photograph(8),
    "6.png": np.ascontiguousarray(photograph(9)[:, ::-1]),
    "7.png": photograph(9),
}


def stored(
    root: Path, images: Mapping[str, Gray], name: str = "s", digest: str = "1"
) -> tuple[FeatureStore, list[ImageFacts]]:
    files = root / name
    files.mkdir(exist_ok=True)
    for path, image in images.items():
        cv2.imwrite(str(files / path), image)
    facts = [examine(files, path).facts for path in sorted(images)]
    return feature_store(root, name, files, facts, digest, pool=ALONE), facts


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredImages, list[ImageFacts]]:
    store, facts = stored(tmp_path_factory.mktemp("links"), IMAGES)
    return StoredImages.of([store], [0] * len(facts), [one.sha256 for one in facts]), facts


def names(facts: list[ImageFacts]) -> list[tuple[str, str]]:
    return [("s", one.path) for one in facts]


def test_copies_are_linked_and_marked_images_are_not(given: tuple[StoredImages, list[ImageFacts]]) -> None:
    images, facts = given
    found = {(one.first, one.second): one for one in find_links(images, names(facts), [], pool=ALONE)}
    assert {key: one.verdict for key, one in found.items()} == {(0, 1): "same", (4, 5): "same", (6, 7): "same"}
    a, b, c, d, e, f = found[6, 7].transform  # mirrored
    assert (a, b, c, d, e, f) == pytest.approx((-1, 0, 1, 0, 1, 0), abs=0.02)


def test_the_number_of_workers_changes_nothing(given: tuple[StoredImages, list[ImageFacts]]) -> None:
    images, facts = given
    several = find_links(images, names(facts) * 1, [], pool=WorkerPool(workers=2))
    assert several == find_links(images, names(facts), [], pool=ALONE)


def test_what_hashes_know_is_not_looked_for_again(given: tuple[StoredImages, list[ImageFacts]]) -> None:
    images, facts = given
    known = [Pair(0, 1, 0, 1.0, 1.0, same=True)]
    assert (0, 1) not in {(one.first, one.second) for one in find_links(images, names(facts), known, pool=ALONE)}


def test_a_store_is_read_again_from_its_folder_and_mended(tmp_path: Path) -> None:
    some = {path: IMAGES[path] for path in ("0.png", "1.png")}
    store, facts = stored(tmp_path, some)
    first = store.described(0)
    assert first.features.points.dtype == np.float32
    again, _ = stored(tmp_path, {**some, "2.png": IMAGES["2.png"]}, digest="2")
    assert np.array_equal(
        again.described(again.places[facts[0].sha256]).features.descriptors, first.features.descriptors
    )
    assert np.array_equal(again.described(0).orb.bits, first.orb.bits)
    (again.folder / "points.bin").write_bytes(b"1234")
    with pytest.raises(DataError, match="expected local features, found damaged ones"):
        FeatureStore(again.folder).check()
    mended, _ = stored(tmp_path, some, digest="3")
    assert np.array_equal(mended.described(0).thumbnail, first.thumbnail)


def test_images_without_points_can_be_stored(tmp_path: Path) -> None:
    store, facts = stored(tmp_path, {"plain.png": np.full((40, 40), 90, np.uint8)})
    assert len(store.described(0).features.points) == len(store.described(0).orb.points) == 0
    images = StoredImages.of([store], [0], [facts[0].sha256])
    assert find_links(images, names(facts), [], pool=ALONE) == ()


def link(first: int, second: int, verdict: str = "scene") -> Link:
    return Link(first, second, verdict, 20, 0.5, UNIT)  # type: ignore[arg-type]


def test_a_weak_link_ties_no_two_large_groups() -> None:
    one = [link(first, first + 1) for first in range(4)]
    other = [link(first, first + 1) for first in range(10, 14)]
    settled = module._settled([*one, link(4, 10, "weak"), *other, link(4, 20, "weak")], [], [0] * 21)
    assert {(found.first, found.second) for found in settled if not found.ties} == {(4, 10)}
    smaller = module._settled([*one, link(4, 10, "weak"), *other[1:]], [], [0] * 21)
    assert all(found.ties for found in smaller)


def test_groups_are_counted_without_later_sources() -> None:
    known = [Pair(first, first + 1, 0, 1.0, 1.0, same=True) for first in (0, 1, 2, 4, 5, 6)]
    later = [link(3, 8), link(4, 9)]
    settled = module._settled([link(3, 4, "weak"), *later], known, [0] * 8 + [1] * 2)
    assert settled[0].ties


def test_links_of_one_photograph_merge_and_others_only_tie() -> None:
    near = Pair(0, 2, 0, 0.3, 0.9, same=False)
    pairs, ties = with_links([near], [link(0, 1, "same"), link(0, 2, "same"), link(1, 3), link(2, 3, "weak")])
    assert [(one.first, one.second, one.same) for one in pairs] == [(0, 1, True), (0, 2, False)]
    assert pairs[0].transform == UNIT
    assert ties == {(1, 3), (2, 3)}


def image(name: str, digest: str) -> SourceImage:
    return SourceImage("s", name, digest * 64, None)


def test_a_person_ties_and_parts() -> None:
    images = [image(name, name) for name in "abcd"]
    pairs = [Pair(0, 1, 0, 1.0, 1.0, same=True)]
    fixes = Fixes(tie=(("c" * 64, "d" * 64),), part=(("a" * 64, "b" * 64), ("a" * 64, "c" * 64)))
    found = apply_fixes(images, pairs, [link(0, 2)], fixes)
    assert (found.pairs, found.links, found.ties) == ([], (), {(2, 3)})
    assert found.parted == {(0, 1), (0, 2)}
    assert found.counts() is None
    assert found.prove([]) == (None, None)


def test_the_independent_check_finds_a_copy_in_an_earlier_split(given: tuple[StoredImages, list[ImageFacts]]) -> None:
    images, facts = given
    digests = [one.sha256 for one in facts]
    found = find_copies(images, digests, [0, 1, 0, 2, 0, 2, 0, 0], frozenset())
    assert (found.checked, found.of) == (3, 3)
    assert {(one.later, one.earlier) for one in found.copies} == {(1, 0), (5, 4)}
    assert find_copies(images, digests, [0, 1, 0, 2, 0, 2, 0, 0], {(0, 1), (4, 5)}).copies == ()
    assert find_copies(images, digests, [0] * 8, frozenset()) == CheckResult(0, 0, ())


def test_a_build_with_copies_across_splits_stops_with_the_lines_that_settle_it() -> None:
    images = [image("a.jpg", "a"), image("b.jpg", "b")]
    stop_at_copies("x", images, CheckResult(1, 1, ()))
    with pytest.raises(DataError, match=r"found 1: s/b.jpg and s/a.jpg \(40 agreeing points\)") as error:
        stop_at_copies("x", images, CheckResult(1, 1, (CrossSplitCopy(1, 0, 40, 0.9),)))
    assert f"tie: [[{'b' * 64}, {'a' * 64}]]" in str(error.value.next_step)
