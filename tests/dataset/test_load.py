"""Loaded sources: every image and box is kept, merged or refused; and the meanings of a class map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.config import Source
from facemask_train.core.errors import ClassMapError, DataError, FmaskError
from facemask_train.core.recipe import Recipe
from facemask_train.core.types import Annotation, Box, ImageRecord, PublishedImage, PublishedRow, SourceReading
from facemask_train.dataset.card import ItemCounts
from facemask_train.dataset.grouping.groups import Outcome
from facemask_train.dataset.grouping.label_agreement import SourceImage
from facemask_train.dataset.loading import class_map, load, validate
from facemask_train.dataset.loading.image_index import ImageIndex
from facemask_train.dataset.loading.images import ImageFacts
from facemask_train.dataset.loading.load import LoadedSource, check_totals
from facemask_train.dataset.loading.validate import Issue, LabelRules
from facemask_train.dataset.loading.validate import validate as validate_source
from facemask_train.formats.box_readings import AmbiguousBoxesError, BoxReading
from helpers.records import is_fixed, records
from helpers.worlds import image, write

RULES = LabelRules("s", {"with": "mask", "without": "no_mask", "askew": "worn_incorrectly"}, "drop-image")
FACE = Annotation("mask", Box(1, 1, 9, 9))


def facts(path: str, **changes: object) -> ImageFacts:
    return ImageFacts(path, "00", width=96, height=64, stored=(96, 64), extension=".png", **changes)  # type: ignore[arg-type]


def index(*found: ImageFacts) -> ImageIndex:
    return ImageIndex(found, np.zeros((len(found), 4), np.uint64), np.zeros((len(found), 1, 1), np.uint8))  # type: ignore[arg-type]


def row(name: str, number: int = 1, *, file: str = "a.xml") -> PublishedRow:
    return PublishedRow(file, number, name, (1.0, 1.0, 9.0, 9.0))


def issue(path: str, action: str, cause: str = "x", label: str = "") -> Issue:
    return Issue("s", path, "box" if label else "image", action, cause, label=label)  # type: ignore[arg-type]


# ---- counts ----


def test_counts_add_up_field_by_field() -> None:
    assert ItemCounts(10, 6, 3, 2, 1) + ItemCounts(1, 1, 0, 1, 0) == ItemCounts(11, 7, 3, 3, 1)
    assert ItemCounts() == ItemCounts(0, 0, 0, 0, 0)


def books(*issues: Issue, images: int = 6, **came: int) -> LoadedSource:
    return LoadedSource(index(*(facts(f"{i}.png") for i in range(images))), (), {}, issues, RULES, came)


def test_outcomes_of_images_by_hand() -> None:
    """Of 6 images 2 were merged and 1 refused; 2 were repaired and kept. Problems of boxes count for nothing."""
    found = books(
        *(issue("0.png", "merged"), issue("1.png", "merged"), issue("2.png", "refused")),
        *(issue("3.png", "repaired"), issue("4.png", "repaired"), issue("5.png", "refused", label="mask")),
    )
    assert found.images() == ItemCounts(total=6, kept=3, merged=2, repaired=2, refused=1)


def test_outcomes_of_boxes_by_hand() -> None:
    found = books(
        *(issue("0.png", "merged", label="mask"), issue("0.png", "merged", label="mask")),
        *(issue("1.png", "refused", label="mask"), issue("1.png", "repaired", label="mask")),
        *(issue("1.png", "refused", label="no_mask"), issue("2.png", "refused", label="unknown")),
        issue("3.png", "refused"),
        mask=9,
        no_mask=1,
        unknown=1,
    )
    assert found.boxes() == {
        "mask": ItemCounts(total=9, kept=6, merged=2, repaired=1, refused=1),
        "no_mask": ItemCounts(total=1, kept=0, merged=0, repaired=0, refused=1),
        "unknown": ItemCounts(total=1, kept=0, merged=0, repaired=0, refused=1),
    }
    assert list(found.boxes()) == ["mask", "no_mask", "unknown"]
    assert books(worn_incorrectly=2).boxes() == {"worn_incorrectly": ItemCounts(2, 2)}
    assert books().boxes() == {}


@pytest.mark.parametrize(("images", "boxes"), [(5, 3), (4, 4), (4, 2), (3, 3)])
def test_totals_that_do_not_add_up_are_a_bug(images: int, boxes: int) -> None:
    found = books(issue("0.png", "merged"), issue("1.png", "refused"), mask=2, no_mask=1)
    check_totals("s", found, 4, 3)
    with pytest.raises(FmaskError, match=rf"\(4, 3\) .* found \({images}, {boxes}\)"):
        check_totals("s", found, images, boxes)


def source_image(path: str) -> SourceImage:
    return SourceImage("s", path, "00", ImageRecord("s", path, "00", 96, 64, (FACE,)), "")


def test_outcomes_of_groups_become_issues_row_by_row() -> None:
    """Image 0 is merged with its two boxes, image 1 refused with its one; repairs of either are struck out."""
    before = LoadedSource(
        index(*(facts(f"{i}.png") for i in range(4))),
        (),
        {"0.png": (row("with"), row("without", 2)), "1.png": (row("with"),), "2.png": (row("with"),)},
        (
            *(issue("0.png", "repaired"), issue("0.png", "repaired", label="mask")),
            *(issue("2.png", "repaired"), issue("3.png", "refused"), issue("0.png", "refused", label="mask")),
        ),
        RULES,
        {"mask": 4, "no_mask": 1},
    )
    after = before.with_outcomes(
        {
            "0.png": Outcome(source_image("0.png"), "merged", "copy", "of a/1.png"),
            "1.png": Outcome(source_image("1.png"), "refused", "class-conflict", "both"),
        }
    )
    assert after.issues == (
        *(issue("2.png", "repaired"), issue("3.png", "refused"), issue("0.png", "refused", label="mask")),
        Issue("s", "0.png", "image", "merged", "copy", "of a/1.png"),
        Issue("s", "0.png", "box", "merged", "copy", "of a/1.png", "a.xml", 1, "mask", "with"),
        Issue("s", "0.png", "box", "merged", "copy", "of a/1.png", "a.xml", 2, "no_mask", "without"),
        Issue("s", "1.png", "image", "refused", "class-conflict", "both"),
        Issue("s", "1.png", "box", "refused", "class-conflict", "both", "a.xml", 1, "mask", "with"),
    )
    assert after.images() == ItemCounts(4, 1, 1, 1, 2)
    assert after.boxes() == {"mask": ItemCounts(4, 1, 1, 0, 2), "no_mask": ItemCounts(1, 0, 1, 0, 0)}
    assert before.with_outcomes({}) == before


published = st.lists(
    st.tuples(
        st.sampled_from(["", "no-label-file"]),
        st.lists(st.tuples(st.sampled_from(["with", "without", "askew", "cat"]), st.integers(-2, 12)), max_size=4),
        st.sampled_from(["", "merged", "refused"]),
    ),
    max_size=6,
)


@given(published, st.sampled_from(["drop-image", "drop-box", "as-no-mask"]), st.integers(0, 2))
def test_totals_add_up_for_any_input_and_outcome(
    given_images: list[tuple[str, list[tuple[str, int]], str]], worn: str, orphans: int
) -> None:
    """In = kept + merged + refused, and what is kept is what the records hold."""
    rules = LabelRules("s", RULES.classes, worn)  # type: ignore[arg-type]
    images = [
        PublishedImage(
            f"{i}.png",
            tuple(PublishedRow(f"{i}.xml", n, name, (0, 0, x, 9)) for n, (name, x) in enumerate(rows, 1)),
            cause,
        )
        for i, (cause, rows, _) in enumerate(given_images)
    ]
    lost = tuple(PublishedRow("ghost.xml", n, "with", cause="no-image") for n in range(orphans))
    found = index(*(facts(one.path) for one in images))
    validated = validate_source(SourceReading(tuple(images), lost), found.by_path, rules)
    came: dict[str, int] = {}
    for one in [row for found_image in images for row in found_image.rows] + list(lost):
        came[rules.meaning(one)] = came.get(rules.meaning(one), 0) + 1
    loaded = LoadedSource(found, validated.records, validated.rows, validated.issues, rules, came)
    decided = {
        record.path: Outcome(source_image(record.path), action, "copy", "")  # type: ignore[arg-type]
        for record in validated.records
        if (action := given_images[int(record.path[:-4])][2])
    }
    after = loaded.with_outcomes(decided)
    kept = [record for record in validated.records if record.path not in decided]
    check_totals("s", after, len(kept), sum(len(record.labels) for record in kept))
    for counts, total in (
        (after.images(), len(images)),
        (sum(after.boxes().values(), ItemCounts()), sum(came.values())),
    ):
        assert counts.total == total == counts.kept + counts.merged + counts.refused
        assert 0 <= counts.repaired <= counts.kept


# ---- class maps ----


def reading(*names: str, published: tuple[str, ...] | None = ()) -> SourceReading:
    return SourceReading((PublishedImage("a.png", tuple(map(row, names))),), names=published)


def classes(found: SourceReading, given: dict[str, str]) -> dict[str, str]:
    return dict(class_map.class_meanings(Path("root"), "s", Source(path="x", classes=given), found))  # type: ignore[arg-type]


def test_a_class_map_is_of_names_or_of_ids() -> None:
    by_name = {"with": "mask", "without": "no_mask"}
    assert classes(reading("with", "without"), by_name) == by_name
    assert classes(reading("with", published=("without", "with")), by_name) == by_name
    by_id = {"0": "no_mask", "1": "mask"}
    assert classes(reading("1", published=None), by_id) == by_id
    # ids of a source with names stand for these, as far as there are any
    assert classes(reading("with", published=("without", "with")), {**by_id, "2": "mask"}) == {
        "without": "no_mask",
        "with": "mask",
    }
    assert classes(reading(), by_name) == by_name  # no row: nothing that the map could lack


@pytest.fixture
def on_sheet(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, PublishedRow]]:
    """Collect what the sheet of classes would show."""
    shown: list[tuple[str, PublishedRow]] = []
    name = next(one for one in vars(class_map) if one.endswith("class_sheet"))
    monkeypatch.setattr(class_map, name, lambda files, pairs, sheet: shown.extend(pairs))
    return shown


@pytest.mark.parametrize(
    ("found", "given", "message"),
    [
        (
            reading("0", "1", "1", published=None),
            {},
            "expected a class map (classes: in sources.yaml); found no names file",
        ),
        (reading("0", "1", "1", published=None), {"with": "mask"}, "expected classes named with; found no names file"),
        (
            reading("0", "1", "1"),
            {"with": "mask", "not": "no_mask"},
            "expected classes named with, not; found no meaning for 0, 1",
        ),
    ],
)
def test_rows_without_a_class_map_stop_with_counts(
    on_sheet: list[tuple[str, PublishedRow]], found: SourceReading, given: dict[str, str], message: str
) -> None:
    with pytest.raises(ClassMapError) as caught:
        classes(found, given)
    assert message in str(caught.value)
    assert str(caught.value).endswith("(0: 1 boxes, 1: 2 boxes)")
    assert str(Path("root/data/class-maps/s.jpg")) in caught.value.next_step
    assert "--class-map 's=0:?,1:?'" in caught.value.next_step
    assert [(path, one.name) for path, one in on_sheet] == [("a.png", "0"), ("a.png", "1"), ("a.png", "1")]


def test_an_incomplete_class_map_stops_and_suggests_spellings(on_sheet: list[tuple[str, PublishedRow]]) -> None:
    given = {"Mask": "mask", "No_Mask": "no_mask"}
    with pytest.raises(ClassMapError, match=r"No-Mask: 1 boxes \(did you mean 'No_Mask'\?\)") as caught:
        classes(reading("Mask", "No-Mask"), given)
    assert "'s=Mask:mask,No-Mask:?'" in caught.value.next_step
    assert len(on_sheet) == 2


def test_a_class_that_is_not_a_face_is_left_out_and_listed() -> None:
    rules = LabelRules("s", {"with": "mask", "cat": "ignore"}, "drop-image")
    found = validate.validate(reading("with", "cat"), {"a.png": facts("a.png")}, rules)
    assert [record.labels for record in found.records] == [(FACE,)]
    assert [(one.action, one.cause, one.published) for one in found.issues] == [("refused", "ignored-class", "cat")]


def test_rows_without_a_box_need_no_class(on_sheet: list[tuple[str, PublishedRow]]) -> None:
    broken = PublishedRow("a.txt", 1, "7", cause="wrong-columns")
    found = SourceReading((PublishedImage("a.png", (broken,)),), names=())
    assert classes(found, {"with": "mask"}) == {"with": "mask"}
    with pytest.raises(ClassMapError):
        classes(SourceReading(found.images, names=None), {"with": "mask"})
    assert on_sheet == []


# ---- a source as it is fetched ----

XML = """<annotation><size><width>96</width><height>64</height></size>
<object><name>{}</name><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>
<object><name>cat</name><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>
</annotation>"""


def loaded(root: Path, *known: ImageFacts) -> LoadedSource:
    source = Source(path="x", format="voc", classes={"with": "mask", "cat": "ignore"})
    recipe = Recipe(name="x", sources=("s",))
    return load.load_source(root, "s", source, index(*known), recipe)


def test_a_source_is_read_and_counted(tmp_path: Path) -> None:
    files = {f"{stem}.png": image(1, "PNG") for stem in "ab"} | {f"{stem}.xml": XML.format("with") for stem in "abc"}
    write(tmp_path / "data/raw/s/files", files)
    found = loaded(tmp_path, facts("a.png"), ImageFacts("b.png", "00", cause="truncated"))
    assert [record.path for record in found.records] == ["a.png"]
    assert [len(record.labels) for record in found.records] == [1]
    assert found.published == {"mask": 3, "unknown": 3}  # those of the absent c.png too
    assert found.images() == ItemCounts(2, 1, 0, 0, 1)
    assert found.boxes() == {"mask": ItemCounts(3, 1, 0, 0, 2), "unknown": ItemCounts(3, 0, 0, 0, 3)}


def test_images_added_or_removed_after_the_fetch_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "data/raw/s/files", {"a.png": image(1, "PNG"), "a.xml": XML.format("with")})
    with pytest.raises(DataError, match=r"b\.png.*none"):
        loaded(tmp_path, facts("a.png"), facts("b.png"))
    with pytest.raises(DataError, match=r"a\.png.*one that is new"):
        loaded(tmp_path)


def test_boxes_that_can_be_read_in_two_ways_are_shown_on_a_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = BoxReading("centers", "fractions"), BoxReading("top-left", "pixels")
    error = AmbiguousBoxesError(tmp_path, BoxReading("corners", "pixels"), readings, [("a.png", (0.5, 0.5, 0.2, 0.2))])

    def ambiguous(*_: object) -> None:
        raise error

    monkeypatch.setattr(load, "read_oriented", ambiguous)
    write(tmp_path / "data/raw/s/files", {"a.png": image(1, "PNG")})
    with pytest.raises(DataError, match="center x, center y") as caught:
        loaded(tmp_path, facts("a.png"))
    sheet = tmp_path / "data/class-maps/s-boxes.jpg"
    assert sheet.is_file()
    assert str(sheet) in caught.value.next_step


def test_a_list_decides_the_published_split_before_the_folder(tmp_path: Path) -> None:
    files = {name: image(1, "PNG") for name in ("train/a.png", "valid/b.png", "other/c.png")}
    write(tmp_path, files | {"test.txt": "train/a.png\n"})
    source = Source(path="x", format="voc", classes={"with": "mask"})
    found = load._published_splits(tmp_path, index(*map(facts, files)), source)
    assert found == {"train/a.png": "test", "valid/b.png": "val"}


def test_records_are_fixed() -> None:
    for module in (load, validate):
        assert records(module)
        assert all(map(is_fixed, records(module)))
