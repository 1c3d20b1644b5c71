"""COCO: where its images are, its causes, and several files as one source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemask_train import formats
from facemask_train.core.errors import DataError
from facemask_train.core.types import Annotation, Box, PublishedImage, PublishedRow, SourceReading
from facemask_train.formats import coco

CATEGORIES = [{"id": 1, "name": "mask"}, {"id": 7, "name": "bare"}]


def document(images: list[Any], annotations: list[Any], categories: Any = CATEGORIES) -> str:
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def read(folder: Path, jsons: dict[str, str], images: list[str]) -> SourceReading:
    for name, text in {**jsons, **dict.fromkeys(images, "")}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return formats.read(folder, "coco", {})


def only_row(folder: Path, entry: Any) -> PublishedRow:
    text = document([{"id": 3, "file_name": "a.jpg"}], [entry])
    reading = read(folder, {"x.json": text}, ["a.jpg"])
    (row,) = (*reading.images[0].rows, *reading.orphans)
    return row


def test_a_box_is_x_y_width_height_from_zero(tmp_path: Path) -> None:
    row = only_row(tmp_path, {"image_id": 3, "category_id": 7, "bbox": [0, 1.5, 10, 20]})
    assert row == PublishedRow("x.json", 1, "bare", (0, 1.5, 10, 21.5))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"bbox": [0, 0, float("nan"), 1]}, "not-a-number"),
        ({"bbox": [0, 0, float("inf"), 1]}, "not-a-number"),
        ({"bbox": [1e308, 0, 1e308, 1]}, "not-a-number"),
        ({"bbox": [0, 0, 10**400, 1]}, "not-a-number"),
        ({"bbox": [0, 0, "5 px", 1]}, "not-a-number"),
        ({"bbox": [0, 0, 5]}, "wrong-columns"),
        ({"bbox": {"x": 0}}, "wrong-columns"),
        ({"bbox": []}, "no-box"),
        ({"bbox": None}, "no-box"),
        ({"category_id": 2}, "unknown-class"),
        ({"category_id": [1]}, "unknown-class"),
        ({"iscrowd": 1}, "crowd"),
        ({"image_id": 4}, "no-image"),
        ({"image_id": None}, "no-image"),
    ],
)
def test_a_row_that_has_no_corners_says_why(tmp_path: Path, change: dict[str, Any], cause: str) -> None:
    row = only_row(tmp_path, {"image_id": 3, "category_id": 1, "bbox": [0, 0, 5, 5], **change})
    assert (row.corners, row.cause, row.number) == (None, cause, 1)


def test_an_entry_that_is_no_object_is_still_a_row(tmp_path: Path) -> None:
    assert only_row(tmp_path, 5).cause == "no-image"


@pytest.mark.parametrize(
    ("file", "name", "image"),
    [
        ("annotations/instances_train2017.json", "1.jpg", "train2017/1.jpg"),
        ("annotations/instances_train.json", "1.jpg", "images/train/1.jpg"),
        ("train/_annotations.coco.json", "1.jpg", "train/1.jpg"),
        ("all.json", "1.jpg", "images/1.jpg"),
        ("annotations/all.json", "train/1.jpg", "images/train/1.jpg"),
        ("annotations/all.json", "C:\\mine\\1.jpg", "deep/down/1.jpg"),
        ("annotations/all.json", "/home/me/1.jpg", "deep/down/1.jpg"),
    ],
)
def test_where_images_are(tmp_path: Path, file: str, name: str, image: str) -> None:
    entry = {"image_id": 3, "category_id": 1, "bbox": [0, 0, 5, 5]}
    text = document([{"id": 3, "file_name": name, "width": 8, "height": 9}], [entry])
    reading = read(tmp_path, {file: text}, [image, "other/2.jpg"])
    found = {one.path: one for one in reading.images}
    assert found[image] == PublishedImage(image, (PublishedRow(file, 1, "mask", (0, 0, 5, 5)),), declared=(8, 9))
    assert found["other/2.jpg"].cause == "no-label-file"


def test_splits_are_merged_and_equal_names_stay_apart(tmp_path: Path) -> None:
    def split(category: int) -> str:
        entry = {"image_id": 1, "category_id": category, "bbox": [0, 0, 5, 5]}
        return document([{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}], [entry, entry])

    files = {"train/_annotations.coco.json": split(1), "valid/_annotations.coco.json": split(7)}
    reading = read(tmp_path, {**files, "source.json": "{}"}, ["train/1.jpg", "train/2.jpg", "valid/1.jpg"])
    assert [[row.name for row in one.rows] for one in reading.images] == [["mask", "mask"], [], ["bare", "bare"]]
    assert not any(one.cause for one in reading.images), "train/2.jpg is listed: it has no faces"


@pytest.mark.parametrize(
    ("file", "name", "images"),
    [
        ("train/_annotations.coco.json", "1.jpg", ["valid/1.jpg"]),
        ("all.json", "train/1.jpg", ["valid/1.jpg"]),
        ("all.json", "1.jpg", ["x/1.jpg", "y/1.jpg"]),
    ],
)
def test_an_absent_image_takes_no_other_of_its_name(tmp_path: Path, file: str, name: str, images: list[str]) -> None:
    entry = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}
    reading = read(tmp_path, {file: document([{"id": 1, "file_name": name}], [entry])}, images)
    assert [row.detail for row in reading.orphans] == [f"no image {name!r}"]
    assert {one.cause for one in reading.images} == {"no-label-file"}


def test_a_image_that_is_listed_by_its_path_is_not_taken_by_its_name(tmp_path: Path) -> None:
    entry = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}
    text = document([{"id": 1, "file_name": "gone/1.jpg"}, {"id": 2, "file_name": "x/1.jpg"}], [entry])
    reading = read(tmp_path, {"all.json": text}, ["x/1.jpg"])
    assert (len(reading.orphans), reading.images) == (1, (PublishedImage("x/1.jpg"),))


def test_half_a_surrogate_pair_in_a_name_can_be_written(tmp_path: Path) -> None:
    entry = {"image_id": 3, "category_id": 1, "bbox": [0, 0, 5, 5]}
    text = document([{"id": 3, "file_name": "a.jpg"}], [entry], [{"id": 1, "name": "mask\ud800"}])
    (image,) = read(tmp_path, {"x.json": text}, ["a.jpg"]).images
    assert [row.name for row in image.rows] == ["mask?"]


@pytest.mark.parametrize(
    ("images", "categories"),
    [
        ([{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], CATEGORIES),
        ([{"id": 1, "file_name": "a.jpg"}], [{"id": 1, "name": "mask"}, {"id": 1, "name": "bare"}]),
    ],
)
def test_an_id_of_two_meanings_is_an_error(tmp_path: Path, images: list[Any], categories: list[Any]) -> None:
    with pytest.raises(DataError, match=r"x\.json: expected one (file_name|name) for id 1, found"):
        read(tmp_path, {"x.json": document(images, [], categories)}, ["a.jpg"])


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"images": 1' + "0" * 5000 + "}"])
def test_broken_json_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"x\.json: not valid JSON"):
        read(tmp_path, {"x.json": text}, ["a.jpg"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from([1, 3, "a.jpg"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "bbox", "name"]), inner),
    max_leaves=5,
)
KEYS = ("id", "file_name", "width", "height", "image_id", "category_id", "bbox", "iscrowd", "name")
ENTRIES = st.lists(VALUES | st.dictionaries(st.sampled_from(KEYS), VALUES), max_size=4)


@settings(max_examples=50)
@given(ENTRIES, ENTRIES, ENTRIES)
def test_any_entries_give_a_row_each_or_a_clean_error(
    tmp_path_factory: pytest.TempPathFactory, images: list[Any], annotations: list[Any], categories: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("coco")
    try:
        reading = read(folder, {"x.json": document(images, annotations, categories)}, ["a.jpg", "b.jpg"])
    except DataError:
        return
    rows = [row for one in reading.images for row in one.rows] + list(reading.orphans)
    assert sorted(row.number for row in rows) == list(range(1, len(annotations) + 1))
    assert all((row.corners is None) == bool(row.cause) for row in rows)
    for row in rows:
        row.name.encode()


@given(st.lists(st.tuples(*[st.floats(0, 5000)] * 2, *[st.floats(0.001, 5000)] * 2), max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[float, float, float, float]]) -> None:
    labels = [Annotation("no_mask", Box(x, y, x + w, y + h)) for x, y, w, h in boxes]
    text = coco.to_json({"b.jpg": (10_000, 9_000, labels), "a.jpg": (5, 6, [])})
    bare, faces = read(tmp_path_factory.mktemp("coco"), {"x.json": text}, ["a.jpg", "b.jpg"]).images
    assert (bare, faces.declared) == (PublishedImage("a.jpg", declared=(5, 6)), (10_000, 9_000))
    for row, label in zip(faces.rows, labels, strict=True):
        assert (row.name, row.corners) == ("no_mask", pytest.approx(label.box.corners, abs=1e-6))


def variant(change: dict[str, object], count: int = 4, **image: object) -> str:
    """Return a COCO file of one image of 200 x 100 pixels with boxes (10 n, 20, 30, 40), changed."""
    entries = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [10 * n, 20, 30, 40], "area": 1200, **change}
        for n in range(count)
    ]
    one = {"id": 1, "file_name": "a.jpg", "width": 200, "height": 100, **image}
    return json.dumps({"images": [one], "annotations": entries, "categories": [{"id": 1, "name": "mask"}]})


def rows_of(tmp_path: Path, content: str) -> tuple[PublishedRow, ...]:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.json").write_text(content)
    reading = coco.read(tmp_path, ["a.jpg"], {"a.jpg": (200, 100)})
    assert not reading.orphans
    return reading.images[0].rows


@pytest.mark.parametrize("image_id", [1, 1.0, "1", " 1 ", "1.0", "01"])
def test_ids_that_mean_one(tmp_path: Path, image_id: object) -> None:
    assert len(rows_of(tmp_path, variant({"image_id": image_id}))) == 4


def test_numbers_may_be_texts(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, variant({"bbox": ["10", "20.5", " 30 ", "40"]}))
    assert [row.corners for row in rows] == [(10, 20.5, 40, 60.5)] * 4


@pytest.mark.parametrize("polygons", [[[10, 20, 50, 20, 30, 60]], [[10, 20, 20, 30, 15, 25], [50, 60, 40, 20, 30, 30]]])
def test_polygons_without_a_bbox_become_their_bounding_box(tmp_path: Path, polygons: object) -> None:
    rows = rows_of(tmp_path, variant({"bbox": None, "segmentation": polygons}))
    assert [(row.corners, row.repair) for row in rows] == [((10, 20, 50, 60), "polygon")] * 4


@pytest.mark.parametrize("polygons", [[], [[1, 2, 3, 4]], [["x"] * 6], {"counts": "RLE", "size": [1, 1]}])
def test_a_segmentation_that_is_no_polygon_has_no_box(tmp_path: Path, polygons: object) -> None:
    rows = rows_of(tmp_path, variant({"bbox": None, "segmentation": polygons}))
    assert [row.cause for row in rows] == ["no-box"] * 4


def test_areas_show_that_boxes_are_corners(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, variant({"bbox": [10, 20, 40, 60]}))
    assert [(row.corners, row.repair) for row in rows] == [((10, 20, 40, 60), "box-as-corners-in-pixels")] * 4


def test_boxes_that_fit_only_as_corners_are_corners(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, variant({"bbox": [150, 60, 190, 90], "area": None}))
    assert [(row.corners, row.repair) for row in rows] == [((150, 60, 190, 90), "box-as-corners-in-pixels")] * 4


def test_areas_of_polygons_say_nothing_of_boxes(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, variant({"area": 600, "segmentation": [[10, 20, 40, 20, 40, 60]]}))
    assert [row.repair for row in rows] == [""] * 4
