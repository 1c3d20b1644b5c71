"""Validation: the outcome of each defect, and totals that add up for any input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.types import Annotation, Box, Corners, PublishedImage, PublishedRow, SourceReading
from facemask_train.dataset.loading.images import ImageFacts
from facemask_train.dataset.loading.validate import Issue, LabelRules, validate

CLASSES = {"with": "mask", "without": "no_mask", "askew": "worn_incorrectly"}
FACTS = ImageFacts("a.png", "00", width=200, height=100, stored=(200, 100), extension=".png")


def rules(worn: str = "drop-image", *, stored: bool = False) -> LabelRules:
    return LabelRules("s", CLASSES, worn, frozenset({"a.png"} if stored else ()))  # type: ignore[arg-type]


def row(corners: Corners | None, name: str = "with", *, number: int = 1, **more: str) -> PublishedRow:
    return PublishedRow("a.xml", number, name, corners, **more)


def one(
    *rows: PublishedRow, facts: ImageFacts = FACTS, worn: str = "drop-image", stored: bool = False, **published: object
) -> tuple[tuple[Annotation, ...] | None, list[Issue]]:
    """Clean one image; return its labels (None: refused) and the issues."""
    reading = SourceReading((PublishedImage("a.png", rows, **published),))  # type: ignore[arg-type]
    cleaned = validate(reading, {"a.png": facts}, rules(worn, stored=stored))
    return (cleaned.records[0].labels if cleaned.records else None), list(cleaned.issues)


def listed(issues: list[Issue]) -> list[tuple[str, str, str, int]]:
    return [(issue.item, issue.action, issue.cause, issue.number) for issue in issues]


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
    labels, issues = one(row(corners))
    assert labels == (Annotation("mask", Box(*kept)),)
    assert listed(issues) == [("box", "repaired", "past-edge", 1)]


def test_rounding_to_six_decimals_is_not_an_issue() -> None:
    labels, issues = one(row((-0.0003, 5, 20, 100.0002)))
    assert labels == (Annotation("mask", Box(0, 5, 20, 100)),)
    assert issues == []


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (row((5, 5, 5, 20)), "no-area"),
        (row((30, 5, 10, 20)), "no-area"),
        (row((201, 5, 240, 20)), "outside"),
        (row((-20, 5, 0.4, 20)), "too-small"),
        (row((5, 5, 20, 20), "cat"), "unknown-class"),
    ],
)
def test_a_bad_row_is_quarantined_and_its_image_kept(bad: PublishedRow, cause: str) -> None:
    labels, issues = one(bad, row((5, 5, 20, 20), number=2))
    assert labels == (Annotation("mask", Box(5, 5, 20, 20)),)
    assert listed(issues) == [("box", "refused", cause, 1)]


@pytest.mark.parametrize("cause", ["wrong-columns", "not-a-number", "no-box", "unreadable-annotation"])
def test_an_image_with_a_row_that_was_not_understood_is_refused(cause: str) -> None:
    """It would stay as background, with a face in it that nobody can place."""
    labels, issues = one(row(None, cause=cause, detail="why"), row((5, 5, 20, 20), number=2))
    assert labels is None
    assert listed(issues) == [
        *(("image", "refused", "unreadable-rows", 0), ("box", "refused", cause, 1)),
        ("box", "refused", "in-refused-image", 2),
    ]
    assert issues[0].detail == f"a.xml, row 1: {cause}: why"


def test_an_unusual_row_is_listed_as_repaired() -> None:
    labels, issues = one(row((-5, 5, 20, 20), repair="polygon"))
    assert labels == (Annotation("mask", Box(0, 5, 20, 20)),)
    assert listed(issues) == [("box", "repaired", "polygon+past-edge", 1)]


def test_duplicate_boxes_are_refused() -> None:
    twice = one(row((5, 5, 20, 20)), row((5, 5, 20, 20.0001), number=2))
    assert listed(twice[1]) == [("box", "refused", "duplicate", 2)]
    both = one(row((5, 5, 20, 20)), row((5, 5, 20, 20), "without", number=2))
    assert listed(both[1]) == [("box", "refused", "contradicted", 2)]
    assert "also mask" in both[1][0].detail


def test_worn_incorrectly_follows_the_recipe() -> None:
    rows = (row((5, 5, 20, 20)), row((50, 5, 80, 20), "askew", number=2))
    labels, issues = one(*rows)
    assert labels is None
    assert listed(issues) == [
        ("image", "refused", "worn-incorrectly", 0),
        ("box", "refused", "in-refused-image", 1),
        ("box", "refused", "worn-incorrectly", 2),
    ]
    labels, issues = one(*rows, worn="drop-box")
    assert labels == (Annotation("mask", Box(5, 5, 20, 20)),)
    assert listed(issues) == [("box", "refused", "worn-incorrectly", 2)]
    labels, issues = one(*rows, worn="as-no-mask")
    assert labels is not None
    assert [label.name for label in labels] == ["mask", "no_mask"]
    assert issues == []


def test_rows_of_a_refused_image_are_refused_with_a_cause() -> None:
    broken = ImageFacts("a.png", "00", cause="truncated", detail="cut")
    labels, issues = one(row((5, 5, 20, 20)), row(None, number=2, cause="wrong-columns"), facts=broken)
    assert labels is None
    assert listed(issues) == [
        ("image", "refused", "truncated", 0),
        ("box", "refused", "in-refused-image", 1),
        ("box", "refused", "wrong-columns", 2),
    ]
    assert listed(one(cause="no-label-file")[1]) == [("image", "refused", "no-label-file", 0)]
    assert listed(one(declared=(300, 300))[1]) == [("image", "refused", "size-mismatch", 0)]


def test_an_image_without_rows_is_background() -> None:
    assert one() == ((), [])


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(5, (20, 10, 60, 40)), (6, (40, 10, 80, 40)), (7, (40, 160, 80, 190)), (8, (20, 160, 60, 190))],
)
def test_a_box_on_the_stored_image_is_oriented_with_it(orientation: int, turned: Corners) -> None:
    # stored 200 x 100, shown 100 x 200; the box is drawn on what is stored
    facts = ImageFacts("a.png", "00", 100, 200, (200, 100), orientation, ".jpg", ("exif-orientation",))
    labels, issues = one(row((10, 20, 40, 60)), facts=facts, stored=True)
    assert labels == (Annotation("mask", Box(*turned)),)
    assert listed(issues) == [("image", "repaired", "exif-orientation", 0), ("box", "repaired", "exif-turned", 1)]
    assert one(row((10, 20, 40, 60)), facts=facts, declared=(100, 200))[0] == (Annotation("mask", Box(10, 20, 40, 60)),)


def test_rows_of_absent_images_are_counted() -> None:
    reading = SourceReading((), orphans=(row(None, cause="no-image"),))
    assert listed(list(validate(reading, {}, rules()).issues)) == [("box", "refused", "no-image", 1)]


anything = st.floats(-300, 500) | st.sampled_from([0.0, 100.0, 200.0, 1e300, -1e300])
rows_of_any_kind = st.lists(
    st.tuples(
        st.one_of(st.none(), st.tuples(anything, anything, anything, anything)),
        st.sampled_from([*CLASSES, "cat", ""]),
    ),
    max_size=8,
)


@given(rows_of_any_kind, st.sampled_from(["drop-image", "drop-box", "as-no-mask"]), st.sampled_from(["", "truncated"]))
def test_totals_add_up_for_any_input(given_rows: list[tuple[Corners | None, str]], worn: str, cause: str) -> None:
    rows = [
        row(corners, name, number=n, cause="" if corners else "wrong-columns")
        for n, (corners, name) in enumerate(given_rows, 1)
    ]
    facts = ImageFacts("a.png", "00", cause=cause) if cause else FACTS
    labels, issues = one(*rows, facts=facts, worn=worn)
    refused = [issue.number for issue in issues if issue.item == "box" and issue.action == "refused"]
    repaired = [issue.number for issue in issues if issue.item == "box" and issue.action == "repaired"]
    assert len(refused) + len(labels or ()) == len(rows)
    assert len(set(refused)) == len(refused)
    assert len(repaired) <= len(labels or ())
    assert not set(refused) & set(repaired)
    for label in labels or ():
        assert 0 <= label.box.x_min < label.box.x_max <= 200
        assert 0 <= label.box.y_min < label.box.y_max <= 100


@pytest.mark.parametrize(
    ("corners", "cause", "detail"),
    [
        ((5, 20, 20, 20), "no-area", "found (5, 20, 20, 20)"),
        ((5, 30, 20, 20), "no-area", "found (5, 30, 20, 20)"),
        ((-20, 5, 0, 20), "outside", "found (-20, 5, 0, 20) in 200 x 100 px"),
        ((5, -20, 20, 0), "outside", "found (5, -20, 20, 0) in 200 x 100 px"),
        ((200, 5, 220, 20), "outside", "found (200, 5, 220, 20) in 200 x 100 px"),
        ((5, 100, 20, 120), "outside", "found (5, 100, 20, 120) in 200 x 100 px"),
        ((5, -20, 20, 0.5), "too-small", "found (5, -20, 20, 0.5), less than 1 px a side inside the image"),
        ((5, 5, 5.9, 20), "too-small", "found (5, 5, 5.9, 20), less than 1 px a side inside the image"),
        ((199.5, 5, 300, 20), "too-small", "found (199.5, 5, 300, 20), less than 1 px a side inside the image"),
        ((5, 99.5, 20, 300), "too-small", "found (5, 99.5, 20, 300), less than 1 px a side inside the image"),
    ],
)
def test_a_box_too_small_to_see_is_refused(corners: Corners, cause: str, detail: str) -> None:
    labels, (issue,) = one(row(corners))
    assert labels == ()
    assert (issue.action, issue.cause, issue.detail) == ("refused", cause, detail)


@pytest.mark.parametrize(
    ("corners", "kept", "cause"),
    [
        ((0, 0, 200, 100), (0, 0, 200, 100), ""),
        ((5, 5, 6, 6), (5, 5, 6, 6), ""),  # one pixel is enough
        ((-20, 5, 1, 20), (0, 5, 1, 20), "past-edge"),
        ((199, 5, 300, 20), (199, 5, 200, 20), "past-edge"),
        ((5, 99, 20, 101), (5, 99, 20, 100), "past-edge"),
        # two millionths of the longer side, 0.0004, are a rounding error
        ((-0.00039, 5, 20, 20), (0, 5, 20, 20), ""),
        ((-0.0005, 5, 20, 20), (0, 5, 20, 20), "past-edge"),
        ((5, 5, 20, 100.0003), (5, 5, 20, 100), ""),
        ((5, 5, 20, 100.0005), (5, 5, 20, 100), "past-edge"),
    ],
)
def test_a_box_at_the_edge_is_kept(corners: Corners, kept: Corners, cause: str) -> None:
    labels, issues = one(row(corners))
    assert labels == (Annotation("mask", Box(*kept)),)
    shown = "({:g}, {:g}, {:g}, {:g})".format(*corners)
    expected = [("repaired", cause, f"found {shown} in 200 x 100 px")] if cause else []
    assert [(issue.action, issue.cause, issue.detail) for issue in issues] == expected


def test_boxes_are_the_same_to_a_thousandth_of_a_pixel() -> None:
    for more, same in ((0.0004, True), (0.001, False)):
        for side in range(4):
            corners = [5.0, 5.0, 20.0, 20.0]
            corners[side] += more
            labels, issues = one(row((5, 5, 20, 20)), row(tuple(corners), number=2))  # type: ignore[arg-type]
            assert labels is not None
            assert (len(labels), len(issues)) == ((1, 1) if same else (2, 0))
    labels, issues = one(row((5, 5, 20, 20)), row((50, 5, 70, 20), number=2), row((50, 5, 70, 20), number=3))
    assert listed(issues) == [("box", "refused", "duplicate", 3)]


def test_the_meaning_of_a_row() -> None:
    found = rules()
    assert [found.meaning(row(None, name)) for name in ("with", "without", "askew", "cat")] == [
        *("mask", "no_mask", "worn_incorrectly", "unknown")
    ]
    assert found.meaning(row(None, cause="unknown-class")) == "unknown"
    assert found.meaning(row(None, cause="not-a-number")) == "mask"
    assert found.issue(row(None, "without", number=4), "b.png", "merged", "copy", "of c") == Issue(
        "s", "b.png", "box", "merged", "copy", "of c", "a.xml", 4, "no_mask", "without"
    )
    assert Issue("s", "b.png", "image", "refused", "x") == Issue(
        *("s", "b.png", "image", "refused", "x"), detail="", file="", number=0, label="", published=""
    )


def test_an_unknown_class_names_those_that_are_known() -> None:
    _, (issue,) = one(row((5, 5, 20, 20), "cat"))
    assert (issue.cause, issue.detail, issue.label) == (
        *("unknown-class", "found 'cat', known: with, without, askew", "unknown"),
    )


def test_a_refused_images_rows_keep_their_own_cause_but_not_that_of_its_size() -> None:
    broken = ImageFacts("a.png", "00", cause="truncated", detail="cut")
    rows = (row(None, number=1, cause="no-image-size"), row((5, 5, 20, 20), "askew", number=2))
    _, issues = one(*rows, facts=broken)
    assert listed(issues)[1:] == [("box", "refused", "in-refused-image", 1), ("box", "refused", "in-refused-image", 2)]
    assert [issue.detail for issue in issues] == ["cut", "truncated", "truncated"]


def test_an_images_own_cause_comes_before_its_annotations() -> None:
    broken = ImageFacts("a.png", "00", cause="truncated", detail="cut")
    assert listed(one(cause="no-label-file", facts=broken)[1]) == [("image", "refused", "truncated", 0)]
    worn = row((5, 5, 20, 20), "askew", number=3)
    assert listed(one(worn, cause="bad-xml")[1])[0] == ("image", "refused", "bad-xml", 0)
    assert listed(one(worn, declared=(300, 100))[1])[0] == ("image", "refused", "size-mismatch", 0)
    assert one(worn, row((50, 5, 70, 20), "askew", number=7))[1][0].detail == "in row 3, 7"


def test_a_declared_size_may_be_that_of_the_file_or_of_what_is_shown() -> None:
    turned = ImageFacts("a.png", "00", 100, 200, (200, 100), 6, ".jpg", ("exif-orientation",))
    for declared, sound in (((100, 200), True), ((200, 100), True), ((100, 100), False), (None, True)):
        labels, issues = one(row((10, 20, 40, 60)), facts=turned, declared=declared)
        assert (labels is not None) is sound
        assert sound or issues[0].detail == "annotated as (100, 100), found (100, 200)"


def test_an_oriented_box_past_the_edge_has_both_causes_and_a_bad_one_only_its_own() -> None:
    turned = ImageFacts("a.png", "00", 100, 200, (200, 100), 6, ".jpg", ("exif-orientation",))
    _, issues = one(row((10, 20, 40, 120)), row((10, 20, 10, 20), number=2), facts=turned, stored=True)
    assert listed(issues)[1:] == [
        ("box", "repaired", "exif-turned+past-edge", 1),
        ("box", "refused", "no-area", 2),
    ]


@pytest.mark.parametrize("corners", [(201.5, 5, 240, 20), (-40, 5, -1.5, 20), (5, 101.5, 20, 140), (5, -40, 20, -1.5)])
def test_an_image_whose_boxes_are_all_elsewhere_is_no_background(corners: Corners) -> None:
    labels, issues = one(row(corners))
    assert labels is None
    assert listed(issues) == [("image", "refused", "no-box-inside", 0), ("box", "refused", "far-outside", 1)]
    labels, issues = one(row(corners), row((10, 20, 40, 60), number=2))  # another face is where it should be
    assert labels == (Annotation("mask", Box(10, 20, 40, 60)),)
    assert listed(issues) == [("box", "refused", "far-outside", 1)]


def test_several_repairs_of_an_image_are_one_issue() -> None:
    mended = ImageFacts("a.png", "00", 200, 100, (200, 100), extension=".png", repairs=("bytes-after-end", "palette"))
    assert listed(one(facts=mended)[1]) == [("image", "repaired", "bytes-after-end+palette", 0)]


def test_images_keep_their_order_and_rows_of_refused_ones_are_not_labels() -> None:
    reading = SourceReading(
        tuple(
            PublishedImage(f"{name}.png", (row((5, 5, 20, 20)), row(None, number=2, cause="x")), cause)
            for name, cause in (("b", ""), ("c", "no-label-file"), ("a", ""))
        )
    )
    found = validate(reading, {f"{name}.png": FACTS for name in "abc"}, rules())
    assert [record.path for record in found.records] == ["b.png", "a.png"]
    assert {path: [one.number for one in rows] for path, rows in found.rows.items()} == {"b.png": [1], "a.png": [1]}
    assert [(one.image, one.item, one.number) for one in found.issues] == [
        *(("b.png", "box", 2), ("c.png", "image", 0), ("c.png", "box", 1), ("c.png", "box", 2), ("a.png", "box", 2))
    ]


def test_as_many_boxes_as_an_image_may_have_are_validated_in_one_pass() -> None:
    """10,000 different boxes, each of them twice: comparing all pairs would take minutes."""
    corners: list[Corners] = [(n % 100, n // 100 / 2, n % 100 + 5, n // 100 / 2 + 5) for n in range(10_000)]
    labels, issues = one(*[row(box, number=n) for n, box in enumerate([*corners, *corners], start=1)])
    assert labels is not None and len(labels) == 10_000
    assert listed(issues) == [("box", "refused", "duplicate", n) for n in range(10_001, 20_001)]
