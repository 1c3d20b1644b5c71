"""Check, repair, quarantine: what becomes of each defect, and books that balance whatever comes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.types import Annotation, Box, Corners, PublishedImage, PublishedRow, SourceReading
from facemask_train.dataset.loading.images import Facts
from facemask_train.dataset.loading.validate import Problem, Rules, clean

CLASSES = {"with": "mask", "without": "no_mask", "askew": "worn_incorrectly"}
FACTS = Facts("a.png", "00", width=200, height=100, stored=(200, 100), extension=".png")


def rules(worn: str = "drop-image") -> Rules:
    return Rules("s", CLASSES, worn)  # type: ignore[arg-type]


def row(corners: Corners | None, name: str = "with", *, number: int = 1, cause: str = "") -> PublishedRow:
    return PublishedRow("a.xml", number, name, corners, cause)


def one(
    *rows: PublishedRow, facts: Facts = FACTS, worn: str = "drop-image", **published: object
) -> tuple[tuple[Annotation, ...] | None, list[Problem]]:
    """Clean one image; return its labels (None: refused) and the problems."""
    reading = SourceReading((PublishedImage("a.png", rows, **published),))  # type: ignore[arg-type]
    cleaned = clean(reading, {"a.png": facts}, rules(worn))
    return (cleaned.records[0].labels if cleaned.records else None), list(cleaned.problems)


def told(problems: list[Problem]) -> list[tuple[str, str, str, int]]:
    return [(problem.item, problem.action, problem.cause, problem.number) for problem in problems]


def test_a_good_box_is_kept_as_it_is() -> None:
    assert one(row((1.5, 2, 30, 40.25))) == ((Annotation("mask", Box(1.5, 2, 30, 40.25)),), [])


@pytest.mark.parametrize(
    ("corners", "kept"),
    [
        ((-3, 5, 20, 30), (0, 5, 20, 30)),
        ((150, 60, 201, 101), (150, 60, 200, 100)),
        ((-9, -9, 300, 300), (0, 0, 200, 100)),
    ],
)
def test_a_box_past_the_edge_is_clipped_not_lost(corners: Corners, kept: Corners) -> None:
    labels, problems = one(row(corners))
    assert labels == (Annotation("mask", Box(*kept)),)
    assert told(problems) == [("box", "repaired", "past-edge", 1)]


def test_what_six_decimals_round_away_is_no_defect() -> None:
    labels, problems = one(row((-0.0003, 5, 20, 100.0002)))
    assert labels == (Annotation("mask", Box(0, 5, 20, 100)),)
    assert problems == []


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (row((5, 5, 5, 20)), "no-area"),
        (row((30, 5, 10, 20)), "no-area"),
        (row((220, 5, 240, 20)), "outside"),
        (row((-20, 5, 0.4, 20)), "too-small"),
        (row((5, 5, 20, 20), "cat"), "unknown-class"),
        (row(None, cause="wrong-columns"), "wrong-columns"),
        (row(None, cause="not-a-number"), "not-a-number"),
    ],
)
def test_a_bad_row_is_quarantined_and_its_image_kept(bad: PublishedRow, cause: str) -> None:
    labels, problems = one(bad, row((5, 5, 20, 20), number=2))
    assert labels == (Annotation("mask", Box(5, 5, 20, 20)),)
    assert told(problems) == [("box", "refused", cause, 1)]


def test_a_box_stands_once() -> None:
    twice = one(row((5, 5, 20, 20)), row((5, 5, 20, 20.0001), number=2))
    assert told(twice[1]) == [("box", "refused", "duplicate", 2)]
    both = one(row((5, 5, 20, 20)), row((5, 5, 20, 20), "without", number=2))
    assert told(both[1]) == [("box", "refused", "contradicted", 2)]
    assert "mask too" in both[1][0].detail


def test_worn_incorrectly_follows_the_recipe() -> None:
    rows = (row((5, 5, 20, 20)), row((50, 5, 80, 20), "askew", number=2))
    labels, problems = one(*rows)
    assert labels is None
    assert told(problems) == [
        ("image", "refused", "worn-incorrectly", 0),
        ("box", "refused", "in-refused-image", 1),
        ("box", "refused", "worn-incorrectly", 2),
    ]
    labels, problems = one(*rows, worn="drop-box")
    assert labels == (Annotation("mask", Box(5, 5, 20, 20)),)
    assert told(problems) == [("box", "refused", "worn-incorrectly", 2)]
    labels, problems = one(*rows, worn="as-no-mask")
    assert labels is not None
    assert [label.name for label in labels] == ["mask", "no_mask"]
    assert problems == []


def test_a_refused_image_takes_its_rows_along_each_with_a_cause() -> None:
    broken = Facts("a.png", "00", cause="truncated", detail="cut")
    labels, problems = one(row((5, 5, 20, 20)), row(None, number=2, cause="wrong-columns"), facts=broken)
    assert labels is None
    assert told(problems) == [
        ("image", "refused", "truncated", 0),
        ("box", "refused", "in-refused-image", 1),
        ("box", "refused", "wrong-columns", 2),
    ]
    assert told(one(cause="no-label-file")[1]) == [("image", "refused", "no-label-file", 0)]
    assert told(one(declared=(300, 300))[1]) == [("image", "refused", "size-mismatch", 0)]


def test_a_image_without_rows_is_background() -> None:
    assert one() == ((), [])


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(5, (20, 10, 60, 40)), (6, (40, 10, 80, 40)), (7, (40, 160, 80, 190)), (8, (20, 160, 60, 190))],
)
def test_a_box_drawn_before_the_exif_turn_turns_along(orientation: int, turned: Corners) -> None:
    # stored 200 x 100, shown 100 x 200; the box is drawn on what is stored, as the declared size tells
    facts = Facts("a.png", "00", 100, 200, (200, 100), orientation, ".jpg", ("exif-orientation",))
    labels, problems = one(row((10, 20, 40, 60)), facts=facts, declared=(200, 100))
    assert labels == (Annotation("mask", Box(*turned)),)
    assert told(problems) == [("image", "repaired", "exif-orientation", 0), ("box", "repaired", "exif-turned", 1)]
    assert one(row((10, 20, 40, 60)), facts=facts, declared=(100, 200))[0] == (Annotation("mask", Box(10, 20, 40, 60)),)


def test_rows_of_absent_images_are_counted() -> None:
    reading = SourceReading((), orphans=(row(None, cause="no-image"),))
    assert told(list(clean(reading, {}, rules()).problems)) == [("box", "refused", "no-image", 1)]


anything = st.floats(-300, 500) | st.sampled_from([0.0, 100.0, 200.0, 1e300, -1e300])
rows_of_any_kind = st.lists(
    st.tuples(
        st.one_of(st.none(), st.tuples(anything, anything, anything, anything)),
        st.sampled_from([*CLASSES, "cat", ""]),
    ),
    max_size=8,
)


@given(rows_of_any_kind, st.sampled_from(["drop-image", "drop-box", "as-no-mask"]), st.sampled_from(["", "truncated"]))
def test_the_books_balance_whatever_comes_in(
    given_rows: list[tuple[Corners | None, str]], worn: str, cause: str
) -> None:
    rows = [
        row(corners, name, number=n, cause="" if corners else "wrong-columns")
        for n, (corners, name) in enumerate(given_rows, 1)
    ]
    facts = Facts("a.png", "00", cause=cause) if cause else FACTS
    labels, problems = one(*rows, facts=facts, worn=worn)
    refused = [problem.number for problem in problems if problem.item == "box" and problem.action == "refused"]
    repaired = [problem.number for problem in problems if problem.item == "box" and problem.action == "repaired"]
    assert len(refused) + len(labels or ()) == len(rows)
    assert len(set(refused)) == len(refused)
    assert len(repaired) <= len(labels or ())
    assert not set(refused) & set(repaired)
    for label in labels or ():
        assert 0 <= label.box.x_min < label.box.x_max <= 200
        assert 0 <= label.box.y_min < label.box.y_max <= 100
