"""Groups of duplicates: outcomes, label conflicts, mapped labels and splits."""

from __future__ import annotations

from dataclasses import astuple, replace

from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.config import parse
from facemask_train.core.recipe import Recipe, Split
from facemask_train.core.types import Annotation, Box, ImageRecord
from facemask_train.dataset.grouping import groups
from facemask_train.dataset.grouping.duplicates import Pair
from facemask_train.dataset.grouping.groups import Decisions, decide
from facemask_train.dataset.grouping.label_agreement import SourceImage
from facemask_train.dataset.grouping.split import assign_splits, published_split
from helpers.records import is_fixed, records

TRAIN, VAL, TEST = "0" * 64, "b" * 64, "f" * 64  # contents that fall into each split of 0.5 / 0.25 / 0.25
MASK, BARE = Annotation("mask", Box(10, 10, 30, 40)), Annotation("no_mask", Box(60, 10, 80, 40))


def digest(split: str, number: int) -> str:
    return f"{split[:60]}{number:04x}"


def image(
    name: str, sha256: str, *labels: Annotation, cause: str = "", size: tuple[int, int] = (100, 50), path: str = ""
) -> SourceImage:
    source, _, stem = name.partition("/")
    found = path or f"{stem}.jpg"
    record = None if cause else ImageRecord(source, found, sha256, *size, labels)
    return SourceImage(source, found, sha256, record, cause)


def recipe(**changes: object) -> Recipe:
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    return parse(Recipe, {"name": "x", "sources": ["a", "b", "c"], "split": shares, **changes}, where="test")


def duplicate_pair(first: int, second: int, orientation: int = 0) -> Pair:
    return Pair(first, second, orientation, 0.95, 0.99, same=True)


def near_duplicate(first: int, second: int) -> Pair:
    return Pair(first, second, 0, 0.2, 0.95, same=False)


def splits(found: Decisions) -> dict[str, str]:
    return {f"{one.record.source}/{one.record.path}": one.split for one in found.kept}


def outcomes(found: Decisions) -> dict[str, tuple[str, str]]:
    return {outcome.image.name: (outcome.action, outcome.cause) for outcome in found.outcomes}


def test_the_first_duplicate_is_kept_and_determines_the_split() -> None:
    images = [image("a/1", digest(TEST, 1), MASK), image("b/1", digest(TRAIN, 2), MASK), image("b/2", VAL, BARE)]
    found = decide(images, [duplicate_pair(0, 1)], recipe())
    assert splits(found) == {"a/1.jpg": "test", "b/2.jpg": "val"}
    assert outcomes(found) == {"b/1.jpg": ("merged", "copy")}
    assert found.outcomes[0].detail == "of a/1.jpg"
    assert found.overlap == {"a": {"a": 0, "b": 1, "c": 0}, "b": {"a": 1, "b": 0, "c": 0}, "c": dict.fromkeys("abc", 0)}
    assert (found.counts.groups, found.counts.images, found.leaks) == (1, 2, 0)
    assert {one.split_group for one in found.kept} == {digest(TEST, 1), VAL}


def test_a_first_duplicate_without_labels_determines_the_split_and_the_next_is_kept() -> None:
    images = [image("a/1", digest(TEST, 1), cause="no-label-file"), image("b/1", digest(TRAIN, 2), MASK)]
    found = decide(images, [duplicate_pair(0, 1)], recipe())
    assert splits(found) == {"b/1.jpg": "test"}
    assert [(one.role, one.cause) for one in found.duplicates] == [("refused", "no-label-file"), ("kept", "")]


def test_an_incorrectly_worn_mask_excludes_duplicates_but_no_image_two_links_away() -> None:
    images = [
        image("a/1", TRAIN, cause="worn-incorrectly"),
        image("b/1", digest(TRAIN, 1), MASK),
        image("b/2", digest(TRAIN, 2), MASK),  # the same image as b/1, not as a/1
        image("c/1", digest(TRAIN, 3), MASK),  # of one scene with a/1
    ]
    found = decide(images, [duplicate_pair(0, 1), duplicate_pair(1, 2), near_duplicate(0, 3)], recipe())
    assert outcomes(found) == dict.fromkeys(("b/1.jpg", "c/1.jpg"), ("refused", "copy-of-worn-incorrectly"))
    assert found.outcomes[0].detail == "duplicate or near-duplicate of a/1.jpg"
    assert set(splits(found)) == {"b/2.jpg"}
    lenient = decide(
        images, [duplicate_pair(0, 1), duplicate_pair(1, 2), near_duplicate(0, 3)], recipe(worn_incorrectly="drop-box")
    )
    assert set(splits(lenient)) == {"b/1.jpg", "b/2.jpg", "c/1.jpg"}


def test_a_duplicate_of_an_excluded_image_is_excluded_outside_its_group() -> None:
    images = [
        image("a/1", TRAIN, MASK),
        image("b/1", digest(TRAIN, 1), cause="worn-incorrectly"),  # a copy of a/1
        image("c/1", digest(TRAIN, 2), MASK),  # the same as b/1 alone, so of no group
    ]
    found = decide(images, [duplicate_pair(0, 1), duplicate_pair(1, 2)], recipe())
    assert set(outcomes(found)) == {"a/1.jpg", "c/1.jpg"}
    assert not found.kept


def test_a_label_conflict_is_resolved_by_the_policy() -> None:
    flipped = Annotation("no_mask", Box(11, 10, 30, 41))
    images = [image("a/1", TRAIN, MASK, BARE), image("b/1", digest(TRAIN, 1), flipped, BARE)]
    found = decide(images, [duplicate_pair(0, 1)], recipe())
    assert outcomes(found) == dict.fromkeys(("a/1.jpg", "b/1.jpg"), ("refused", "class-conflict"))
    assert found.outcomes[0].detail == "(10, 10, 30, 40) is mask in a/1.jpg and no_mask in b/1.jpg"
    assert found.counts.conflicts == 1
    preferred = decide(images, [duplicate_pair(0, 1)], recipe(conflicts={"prefer": "b"}))
    assert outcomes(preferred) == {"a/1.jpg": ("merged", "copy")}
    assert preferred.kept[0].record.labels == (flipped, BARE)
    absent = decide(images, [duplicate_pair(0, 1)], recipe(conflicts={"prefer": "c"}))
    assert set(outcomes(absent)) == {"a/1.jpg", "b/1.jpg"}


def test_a_preferred_source_in_conflict_with_itself_resolves_nothing() -> None:
    flipped = Annotation("no_mask", MASK.box)
    images = [
        image("a/1", TRAIN, MASK),
        image("b/1", digest(TRAIN, 1), MASK),
        image("b/2", digest(TRAIN, 2), flipped),
    ]
    found = decide(images, [duplicate_pair(0, 1), duplicate_pair(0, 2)], recipe(conflicts={"prefer": "b"}))
    assert set(outcomes(found).values()) == {("refused", "class-conflict")}
    assert not found.kept


def test_links_hold_for_all_images_with_equal_bytes() -> None:
    """Of equal images only the first is in the pairs with others."""
    worn, other = digest(TRAIN, 1), digest(TRAIN, 2)
    images = [
        image("a/1", worn, MASK),
        image("a/2", other, MASK),
        image("b/1", worn, cause="worn-incorrectly"),
        image("b/2", other, MASK),
    ]
    found = decide(
        images, [near_duplicate(0, 1), duplicate_pair(0, 2), near_duplicate(0, 3), duplicate_pair(1, 3)], recipe()
    )
    assert not found.kept
    assert {name for name, _ in outcomes(found).items()} == {"a/1.jpg", "a/2.jpg", "b/2.jpg"}


@given(st.data())
def test_published_images_with_a_duplicate_in_a_later_split_are_removed(data: st.DataObject) -> None:
    """Against all pairs of images, written out."""
    content = data.draw(st.lists(st.integers(0, 4), min_size=2, max_size=9))
    parts = [data.draw(st.sampled_from(["train", "valid", "test"])) for _ in content]
    alike = data.draw(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda link: link[0] < link[1])))
    images = [
        image(f"a/{index}", digest(TRAIN, known), MASK, path=f"{part}/{index}.jpg")
        for index, (known, part) in enumerate(zip(content, parts, strict=True))
    ]
    first = {known: content.index(known) for known in content}
    pairs = [duplicate_pair(first[known], index) for index, known in enumerate(content) if first[known] != index]
    for one, other in alike & {(a, b) for a in first for b in first}:
        low, high = sorted((one, other), key=first.__getitem__)
        pairs += [near_duplicate(first[low], index) for index, known in enumerate(content) if known == high]
    linked = {
        (i, j)
        for i, one in enumerate(content)
        for j, other in enumerate(content)
        if i != j and (one == other or (one, other) in alike or (other, one) in alike)
    }
    order = ["train", "valid", "test"]
    later = {i for i, j in linked if order.index(parts[j]) < order.index(parts[i])}
    assert decide(images, pairs, recipe(split="published", leaks="keep")).leaks == len(later)
    found = decide(images, pairs, recipe(split="published"))
    left = [int(one.record.path.rpartition("/")[2][:-4]) for one in found.kept]
    assert found.leaks == 0
    assert all(parts[i] == parts[j] for i, j in linked if i in left and j in left)
    assert {i for i, part in enumerate(parts) if part == "test"} <= set(left)


def test_labels_of_a_rotated_and_smaller_duplicate_are_mapped_to_the_kept_image() -> None:
    # the copy is 25 x 50: turned by a quarter counter-clockwise (orientation 1) it is as the kept one, at half its size
    turned = Annotation("mask", Box(5, 5, 20, 15))
    images = [image("a/1", TRAIN, MASK), image("b/1", digest(TRAIN, 1), turned, size=(25, 50))]
    found = decide(images, [duplicate_pair(0, 1, orientation=1)], recipe())
    duplicate = found.duplicates[1]
    assert duplicate.labels == (Annotation("mask", Box(10, 10, 30, 40)),)
    assert (duplicate.matched, duplicate.overlaps) == ((0,), (1.0,))
    (agreement,) = found.agreements
    assert (agreement.kept, agreement.merged, agreement.matched, agreement.median_iou) == ("a", "b", 1, 1.0)


def test_agreement_counts_flips_and_boxes_that_only_one_has() -> None:
    images = [
        image("a/1", TRAIN, MASK, BARE),
        image("b/1", digest(TRAIN, 1), Annotation("mask", Box(10, 10, 30, 34)), Annotation("mask", Box(85, 0, 99, 9))),
    ]
    (agreement,) = decide(images, [duplicate_pair(0, 1)], recipe()).agreements
    assert (agreement.images, agreement.matched, agreement.flipped) == (1, 1, 0)
    assert (agreement.only_kept, agreement.only_merged, agreement.median_iou) == (1, 1, 0.8)


# ---- splits ----


def test_near_duplicates_share_a_split_and_are_kept() -> None:
    images = [image("a/1", TEST, MASK), image("b/1", digest(TRAIN, 1), MASK)]
    found = decide(images, [near_duplicate(0, 1)], recipe())
    assert splits(found) == {"a/1.jpg": "test", "b/1.jpg": "test"}
    assert (found.counts.split_groups, found.counts.groups, found.leaks) == (1, 0, 0)


def test_groups_in_two_splits_go_to_train_when_a_later_source_connects_them() -> None:
    images = [image("a/1", TEST, MASK), image("a/2", VAL, MASK), image("b/1", digest(TEST, 1), MASK)]
    apart = decide(images[:2], [], recipe())
    assert splits(apart) == {"a/1.jpg": "test", "a/2.jpg": "val"}
    found = decide(images, [near_duplicate(0, 2), near_duplicate(1, 2)], recipe())
    assert set(splits(found).values()) == {"train"}
    assert (found.counts.joined, found.leaks) == (1, 0)


def test_linked_images_of_one_source_follow_the_first() -> None:
    images = [image("a/1", TEST, MASK), image("a/2", VAL, MASK)]
    found = decide(images, [near_duplicate(0, 1)], recipe())
    assert (set(splits(found).values()), found.counts.joined) == ({"test"}, 0)


linked = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)).filter(lambda link: link[0] < link[1]), max_size=25)


@given(st.lists(st.sampled_from("0123456789abcdef"), min_size=20, max_size=20), st.integers(1, 19), linked)
def test_a_source_at_the_end_moves_only_what_it_alone_connects(
    first_digits: list[str], known: int, links: list[tuple[int, int]]
) -> None:
    digests = [digit * 64 for digit in first_digits]
    ranks = [0] * known + [1] * (20 - known)
    share = Split(train=0.5, val=0.25, test=0.25)
    before = assign_splits(digests[:known], ranks[:known], [link for link in links if max(link) < known], share)
    after = assign_splits(digests, ranks, links, share)
    for one in range(known):
        split_group = [other for other in range(known) if after.first[other] == after.first[one]]
        crossed = len({before.splits[other] for other in split_group}) > 1
        assert after.splits[one] == ("train" if crossed else before.splits[one])
    assert all(after.splits[one] == after.splits[other] for one, other in links)


def test_the_published_split_is_read_from_the_path() -> None:
    paths = [
        "images/train/a.jpg",
        "valid/images/a.jpg",
        "x/Test/a.jpg",
        "val/train/a.jpg",
        "a/train.jpg",
        "validation/a.png",
    ]
    assert [published_split(path) for path in paths] == ["train", "val", "test", "train", "", "val"]


def published(**changes: object) -> tuple[list[SourceImage], Decisions]:
    images = [
        image("a/1", digest(TRAIN, 1), MASK, path="train/1.jpg"),
        image("a/2", digest(TRAIN, 2), MASK, path="train/2.jpg"),
        image("a/3", digest(TRAIN, 3), MASK, path="valid/3.jpg"),
        image("a/4", digest(TRAIN, 4), MASK, path="test/4.jpg"),
        image("a/5", digest(TRAIN, 5), BARE, path="test/5.jpg"),  # a copy of test/4 with another class
    ]
    pairs = [duplicate_pair(0, 3), near_duplicate(1, 2), duplicate_pair(2, 3), duplicate_pair(3, 4)]
    return images, decide(images, pairs, recipe(split="published", **changes))


def test_published_splits_are_kept_without_leaks() -> None:
    _, found = published()
    # valid/3 leaves for test/4; train/2 was only linked to valid/3, so it may stay; test keeps its own copies
    assert splits(found) == {"a/train/2.jpg": "train", "a/test/4.jpg": "test", "a/test/5.jpg": "test"}
    assert outcomes(found) == dict.fromkeys(("a/train/1.jpg", "a/valid/3.jpg"), ("refused", "copy-in-later-split"))
    assert found.leaks == 0


def test_published_leaks_can_be_counted_and_kept() -> None:
    images, found = published(leaks="keep")
    assert len(found.kept) == len(images)
    assert found.leaks == 2  # valid/3 (train/2), and test/4 (train/1 and valid/3)


def test_copies_of_one_published_split_stay() -> None:
    """In each split, two copies and a near-duplicate; nothing ties one split to another."""
    names = ["train/1", "train/2", "valid/1", "valid/2", "test/1", "test/2"]
    images = [image(f"a/{name}", digest(TRAIN, number), MASK, path=f"{name}.jpg") for number, name in enumerate(names)]
    for leaks in ("remove", "keep"):
        found = decide(
            images,
            [duplicate_pair(0, 1), near_duplicate(2, 3), duplicate_pair(4, 5)],
            recipe(split="published", leaks=leaks),
        )
        assert (len(found.kept), found.outcomes, found.leaks) == (6, (), 0)


def test_classes_are_equal_by_their_letters() -> None:
    """A class that was read from a file is another string than the one in the code."""
    read = Annotation("".join(["ma", "sk"]), MASK.box)
    images = [image("a/1", TRAIN, MASK), image("b/1", digest(TRAIN, 1), read)]
    assert outcomes(decide(images, [duplicate_pair(0, 1)], recipe())) == {"b/1.jpg": ("merged", "copy")}


def test_a_contradiction_is_sought_in_the_pixels_of_the_first_copy() -> None:
    """The second copy is half as large, the third a quarter and without a face."""
    flipped = Annotation("no_mask", Box(5, 5, 15, 20))
    images = [
        image("a/1", TRAIN, MASK),
        image("b/1", digest(TRAIN, 1), flipped, size=(50, 25)),
        image("c/1", digest(TRAIN, 2), size=(25, 12)),
    ]
    found = decide(images, [duplicate_pair(0, 1), duplicate_pair(0, 2)], recipe())
    assert set(outcomes(found).values()) == {("refused", "class-conflict")}
    assert len(found.outcomes) == 3


def test_each_copy_says_how_it_lies_and_what_it_covers() -> None:
    turned = Annotation("mask", Box(5, 5, 20, 15))
    other = Annotation("no_mask", Box(0, 20, 5, 30))  # on the kept image (40, 40, 60, 50): nobody there
    images = [image("a/1", TRAIN, BARE, MASK), image("b/1", digest(TRAIN, 1), other, turned, size=(25, 50))]
    first, second = decide(images, [duplicate_pair(0, 1, orientation=1)], recipe()).duplicates
    assert astuple(first)[4:6] == (0, 1.0)
    assert (first.labels, first.matched, first.overlaps) == ((BARE, MASK), (0, 1), (1.0, 1.0))
    assert astuple(second)[4:6] == (1, 0.95)
    assert second.labels == (Annotation("no_mask", Box(40, 40, 60, 50)), Annotation("mask", Box(10, 10, 30, 40)))
    assert (second.matched, second.overlaps) == ((-1, 1), (0.0, 1.0))
    assert [one.group for one in (first, second)] == [0, 0]


def test_labels_are_laid_over_a_kept_image_that_is_turned_itself() -> None:
    """The first has no labels, so the second is kept: what was turned toward the first is turned back from there.

    The second is the first on its side (orientation 1 sets it upright), the third is as the first. A box of the third
    at (10, 10, 30, 40) of 100 x 50 lies on the second, 50 x 100, where a quarter clockwise takes it: x is 50 - y.
    """
    images = [
        image("a/1", TRAIN, cause="no-label-file"),
        image("b/1", digest(TRAIN, 1), Annotation("mask", Box(10, 10, 40, 30)), size=(50, 100)),
        image("c/1", digest(TRAIN, 2), MASK),
    ]
    found = decide(images, [duplicate_pair(0, 1, orientation=1), duplicate_pair(0, 2)], recipe())
    assert [one.role for one in found.duplicates] == ["refused", "kept", "merged"]
    assert found.duplicates[0].labels == ()
    assert found.duplicates[1].labels == (Annotation("mask", Box(10, 10, 40, 30)),)
    assert found.duplicates[2].labels == (Annotation("mask", Box(10, 10, 40, 30)),)
    assert found.duplicates[2].matched == (0,)


def test_the_figures_of_groups_by_hand() -> None:
    images = [image(f"a/{number}", digest(TRAIN, number), MASK) for number in range(8)]
    found = decide(
        images,
        [duplicate_pair(0, 1), duplicate_pair(0, 2), duplicate_pair(3, 4), near_duplicate(2, 5), near_duplicate(6, 7)],
        recipe(),
    )
    assert astuple(found.counts) == (2, 5, 3, 3, 4, 0, 0, 0)
    assert astuple(decide(images, [], recipe()).counts) == (0,) * 8
    worn = [replace(one, record=None, cause="worn-incorrectly") if i in (0, 6) else one for i, one in enumerate(images)]
    flipped = [replace(one, record=replace(one.record, labels=(replace(MASK, name="no_mask"),))) for one in images[4:5]]  # type: ignore[type-var]
    found = decide(
        [*worn[:4], *flipped, *worn[5:]], [duplicate_pair(0, 1), duplicate_pair(3, 4), near_duplicate(6, 7)], recipe()
    )
    assert astuple(found.counts) == (2, 4, 2, 3, 2, 1, 1, 0)
    assert outcomes(found) == {
        "a/1.jpg": ("refused", "copy-of-worn-incorrectly"),
        "a/3.jpg": ("refused", "class-conflict"),
        "a/4.jpg": ("refused", "class-conflict"),
        "a/7.jpg": ("refused", "copy-of-worn-incorrectly"),
    }


def test_records_are_fixed() -> None:
    assert Decisions in records(groups)
    assert all(map(is_fixed, records(groups)))


def test_labels_travel_through_the_map_of_a_crop() -> None:
    cropped = replace(duplicate_pair(0, 1), transform=(0.5, 0.0, 0.0, 0.0, 0.5, 0.0))  # the upper left quarter
    face = Annotation("no_mask", Box(20, 20, 60, 80))
    here = Annotation("mask", Box(10, 5, 30, 20))  # where the crop's face is in the whole image
    images = [image("a/1", digest(TRAIN, 1), here, BARE), image("b/1", digest(TEST, 2), face, size=(100, 100))]
    assert outcomes(decide(images, [cropped], recipe())) == {
        "a/1.jpg": ("refused", "class-conflict"),
        "b/1.jpg": ("refused", "class-conflict"),
    }
    same = [images[0], image("b/1", digest(TEST, 2), replace(face, name="mask"), size=(100, 100))]
    found = decide(same, [cropped], recipe())
    assert outcomes(found) == {"b/1.jpg": ("merged", "copy")}
    (merged,) = (one for one in found.duplicates if one.role == "merged")
    assert (merged.labels, merged.matched) == ((here,), (0,))


def test_ties_share_a_split_and_nothing_else() -> None:
    worn = image("a/1", digest(TRAIN, 1), cause="worn-incorrectly")
    images = [worn, image("a/2", digest(TEST, 2), MASK), image("b/1", digest(VAL, 3), BARE)]
    found = decide(images, [], recipe(), ties={(0, 1), (1, 2)})
    assert outcomes(found) == {}
    assert splits(found) == {"a/2.jpg": "train", "b/1.jpg": "train"}
    leaks = decide([replace(one, split=split) for one, split in zip(images[1:], ("train", "test"), strict=True)],
                   [], recipe(split="published", leaks="keep"), ties={(0, 1)})  # fmt: skip
    assert leaks.leaks == 1
