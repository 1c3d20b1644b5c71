"""Labelme: its shapes, its causes, and which image a file belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train import formats
from facemask_train.core.config import Limits
from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES, Annotation, Box, PublishedRow, SourceReading
from facemask_train.formats import labelme

RECTANGLE = {"label": "m", "points": [[1, 2], [30, 40]], "shape_type": "rectangle"}


def document(*shapes: Any, **more: Any) -> str:
    about = {"imagePath": "a.jpg", "imageData": None, "imageHeight": 80, "imageWidth": 100}
    return json.dumps({"version": "5.5.0", "flags": {}, "shapes": shapes} | about | more)


def read(folder: Path, files: dict[str, str | bytes], limits: Limits | None = None) -> SourceReading:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return formats.read(folder, "labelme", {}, limits)


def only_row(shape: Any) -> PublishedRow:
    found = labelme.parse(document(shape).encode(), "a.json")
    assert found is not None
    (row,) = found.rows
    return row


@pytest.mark.parametrize(
    ("change", "corners", "repair"),
    [
        ({}, (1, 2, 30, 40), ""),
        ({"points": [[30, 40], [1, 2]]}, (1, 2, 30, 40), ""),  # drawn from the lower right
        ({"points": [[1, 2], [30, 2], [30, 40], [1, 40]]}, (1, 2, 30, 40), ""),  # X-AnyLabeling's
        ({"points": [["1", "2.5"], ["30", "40"]]}, (1, 2.5, 30, 40), ""),
        ({"shape_type": "polygon", "points": [[1, 2], [30, 9], [5, 40]]}, (1, 2, 30, 40), "polygon"),
        ({"shape_type": None, "points": [[1, 2], [30, 9], [5, 40]]}, (1, 2, 30, 40), "polygon"),
        ({"shape_type": "circle", "points": [[10, 20], [13, 24]]}, (5, 15, 15, 25), "circle"),
        ({"shape_type": "mask", "mask": "iVBO", "points": [[1, 2], [30, 40]]}, (1, 2, 30, 40), ""),
    ],
)
def test_each_shape_has_its_box(change: dict[str, Any], corners: tuple[float, ...], repair: str) -> None:
    assert only_row(RECTANGLE | change) == PublishedRow("a.json", 1, "m", corners, repair=repair)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "cause"),
    [
        (RECTANGLE | {"shape_type": "point", "points": [[1, 2]]}, "no-box"),
        (RECTANGLE | {"shape_type": "linestrip"}, "no-box"),
        (RECTANGLE | {"shape_type": ["rectangle"]}, "no-box"),
        (RECTANGLE | {"points": [[1, 2]]}, "not-a-number"),
        (RECTANGLE | {"points": [[1, 2], [3]]}, "not-a-number"),
        (RECTANGLE | {"points": [[1, 2], [3, "x"]]}, "not-a-number"),
        (RECTANGLE | {"points": [[1, 2], [3, 10**400]]}, "not-a-number"),
        (RECTANGLE | {"points": None}, "not-a-number"),
        (RECTANGLE | {"shape_type": "circle", "points": [[1e308, 0], [-1e308, 0]]}, "not-a-number"),
        (RECTANGLE | {"shape_type": "polygon"}, "not-a-number"),
        (RECTANGLE | {"label": " "}, "unknown-class"),
        (RECTANGLE | {"label": None}, "unknown-class"),
        ("rectangle", "unreadable-annotation"),
    ],
)
def test_a_row_that_has_no_corners_says_why(shape: Any, cause: str) -> None:
    row = only_row(shape)
    assert (row.corners, row.cause) == (None, cause)
    assert row.detail


def test_an_image_is_found_by_its_stem_or_by_the_name_in_the_file(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        {
            "shots/a.jpg": "",
            "shots/a.json": document(RECTANGLE, imagePath="a.jpg"),
            "img/B b.png": "",
            "json/0002.json": document(imagePath=r"..\img\B b.png"),
            "img/c.png": "",
            "json/gone.json": document(RECTANGLE, imagePath="gone.jpg"),
            "img/d.png": "",
            "img/d.json": "{broken",
            "classes.json": '["m"]',
        },
    )
    found = {one.path: (len(one.rows), one.cause) for one in reading.images}
    assert found == {
        "shots/a.jpg": (1, ""),
        "img/B b.png": (0, ""),
        "img/c.png": (0, "no-label-file"),
        "img/d.png": (0, "unreadable-annotation"),
    }
    assert [(row.file, row.cause) for row in reading.orphans] == [("json/gone.json", "no-image")]
    assert reading.images[-1].declared == (100, 80)


@given(
    st.lists(
        st.tuples(st.sampled_from(CLASSES), st.integers(0, 50), st.floats(0, 50), st.floats(0.001, 50)), max_size=5
    )
)
def test_what_is_written_is_read_back(found: list[tuple[str, int, float, float]]) -> None:
    labels = [Annotation(name, Box(x, y, x + side, y + side)) for name, x, y, side in found]
    parsed = labelme.parse(labelme.to_json("a b.jpg", labels, width=640, height=480).encode(), "a b.json")
    assert parsed is not None
    assert (parsed.named, parsed.declared) == ("a b.jpg", (640, 480))
    assert [(row.name, row.corners) for row in parsed.rows] == [(one.name, one.box.corners) for one in labels]


def test_a_file_with_its_image_inside_may_be_large_and_has_its_own_limit(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.jpg": "", "a.json": document(RECTANGLE, imageData="x" * 2000)}
    files |= {"b.jpg": "", "b.json": document(RECTANGLE)}
    assert [one.cause for one in read(tmp_path, files, Limits(label_bytes=10)).images] == ["", ""]
    assert [one.cause for one in read(tmp_path, files, Limits(labelme_bytes=1000)).images] == ["too-large", ""]
    many = {**files, "b.json": document(RECTANGLE, RECTANGLE, RECTANGLE)}
    assert read(tmp_path, many, Limits(rows=2)).images[1].cause == "too-many-rows"


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda x: document(x).encode())
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    found = labelme.parse(data, "x.json")
    assert found is None or all(row.corners or row.cause for row in found.rows)


LABEL_STUDIO = [{"id": 1, "annotations": [{"result": []}], "data": {"image": "/data/upload/a.jpg"}}]
SUPERVISELY = {"description": "", "tags": [], "size": {"height": 8, "width": 8}, "objects": []}


@pytest.mark.parametrize(
    ("content", "tool", "export"),
    [
        (LABEL_STUDIO, "Label Studio", "YOLO with Images"),
        ([{"id": 1, "annotator": 1, "annotation_id": 3, "image": "a.jpg"}], "Label Studio", "COCO with Images"),
        (SUPERVISELY, "Supervisely", "COCO"),
        ({"classes": [{"title": "m", "shape": "rectangle"}], "tags": []}, "Supervisely", "YOLO"),
        ({"_via_img_metadata": {"a.jpg1": {"filename": "a.jpg", "regions": []}}}, "VGG Image Annotator", "COCO"),
        ({"a.jpg1": {"filename": "a.jpg", "regions": []}}, "VGG Image Annotator", "COCO"),
        ([{"image": "a.jpg", "annotations": [{"label": "m", "coordinates": {}}]}], "Create ML", "COCO"),
    ],
)
@pytest.mark.parametrize("layout", ["probe", "coco", "labelme", "yolo"])
def test_the_json_of_another_tool_is_recognized(
    tmp_path: Path, content: Any, tool: str, export: str, layout: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "ds.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"found {tool}'s own JSON \(ds\.json\)") as caught:
        formats.read(tmp_path, layout, {})
    assert export in caught.value.next_step
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("head", "separator"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "commas"),
        ('"filename";"class";"xmin";"ymin";"xmax";"ymax"', "semicolons"),
        ("ImageID\tXMin\tXMax\tYMin\tYMax", "tabs"),
    ],
)
def test_a_table_of_boxes_is_recognized(tmp_path: Path, head: str, separator: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "boxes.csv").write_text(f"{head}\na.jpg")
    with pytest.raises(DataError, match=rf"found a table of boxes, separated by {separator} \(boxes\.csv\)"):
        formats.read(tmp_path, "probe", {})


@pytest.mark.parametrize(
    ("file", "content", "layout"),
    [
        ("a.json", document(RECTANGLE), "labelme"),
        ("annotations.xml", "<annotations><image name='a.jpg'/></annotations>", "cvat"),
        ("a.xml", "<annotation><object/></annotation>", "voc"),
        ("a.txt", "0 0.5 0.5 0.1 0.1", "yolo"),
    ],
)
def test_a_layout_is_detected_and_named_where_another_was_set(
    tmp_path: Path, file: str, content: str, layout: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / file).write_text(content)
    assert formats.probe(tmp_path) == layout
    with pytest.raises(DataError, match=rf"expected annotations in the format coco, found {layout}") as caught:
        formats.read(tmp_path, "coco", {})
    assert caught.value.next_step == f"set `format: {layout}` of this source in configs/sources.yaml"
