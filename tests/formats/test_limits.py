"""Annotation files that are larger than any real one: refused with a cause, by lowered limits, never read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facemask_train import formats
from facemask_train.core.config import Limits, Source
from facemask_train.core.errors import DataError
from facemask_train.core.types import PublishedImage, SourceReading

ROW = "0 0.5 0.5 0.4 0.4\n"
OBJECT = "<object><name>a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
SIZES = {"a.jpg": (96, 72), "b.jpg": (96, 72)}


def folder_of(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in {"a.jpg": "", "b.jpg": "", **files}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def outcomes(reading: SourceReading) -> dict[str, tuple[str, int]]:
    """Return the cause and the number of rows of each image."""
    return {image.path: (image.cause, len(image.rows)) for image in reading.images}


def of(reading: SourceReading, path: str) -> PublishedImage:
    return next(image for image in reading.images if image.path == path)


@pytest.mark.parametrize("layout", ["yolo", "probe"])
def test_a_large_label_file_refuses_its_image_alone(tmp_path: Path, layout: str) -> None:
    folder = folder_of(tmp_path, {"a.txt": ROW * 20, "b.txt": ROW * 19})
    reading = formats.read(folder, layout, SIZES, Limits(label_bytes=len(ROW) * 19))
    assert outcomes(reading) == {"a.jpg": ("too-large", 0), "b.jpg": ("", 19)}
    assert of(reading, "a.jpg").detail == (
        "a.txt: expected at most 342 bytes, found 360; if the file is sound, "
        "raise `limits: {label_bytes: ...}` of this source in configs/sources.yaml"
    )
    assert outcomes(formats.read(folder, layout, SIZES)) == {"a.jpg": ("", 20), "b.jpg": ("", 19)}


def test_a_sparse_file_of_500_mb_is_refused_without_reading_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.txt": ROW, "b.txt": ROW})
    with (folder / "a.txt").open("r+b") as stream:
        stream.truncate(500_000_000)
    assert outcomes(formats.read(folder, "probe", SIZES)) == {"a.jpg": ("too-large", 0), "b.jpg": ("", 1)}


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("row", [ROW.strip(), ""])
def test_too_many_lines_refuse_their_image(tmp_path: Path, row: str, end: str) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    (tmp_path / "a.txt").write_bytes((row + end).encode() * 12)
    (tmp_path / "b.txt").write_bytes((ROW.strip() + end).encode() * 11)
    reading = formats.read(tmp_path, "yolo", SIZES, Limits(rows=11))
    assert outcomes(reading) == {"a.jpg": ("too-many-rows", 0), "b.jpg": ("", 11)}
    assert "a.txt: expected at most 11 lines, found 12; if the file" in of(reading, "a.jpg").detail


def test_a_large_text_without_an_image_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path, {"b.txt": ROW, "notes.txt": "x" * 100})
    reading = formats.read(folder, "yolo", SIZES, Limits(label_bytes=50))
    assert outcomes(reading) == {"a.jpg": ("no-label-file", 0), "b.jpg": ("", 1)}
    assert "notes.txt: not read, no image has this name" in caplog.text


@pytest.mark.parametrize("layout", ["voc", "probe"])
def test_a_large_xml_and_one_of_many_objects_refuse_their_images(tmp_path: Path, layout: str) -> None:
    folder = folder_of(tmp_path, {"a.xml": f"<annotation>{OBJECT * 3}</annotation>", "b.xml": "<annotation/>"})
    by_bytes = formats.read(folder, layout, SIZES, Limits(label_bytes=200))
    assert outcomes(by_bytes) == {"a.jpg": ("too-large", 0), "b.jpg": ("", 0)}
    by_rows = formats.read(folder, layout, SIZES, Limits(rows=2))
    assert outcomes(by_rows) == {"a.jpg": ("too-many-rows", 0), "b.jpg": ("", 0)}
    assert "a.xml: expected at most 2 boxes, found 3" in of(by_rows, "a.jpg").detail
    assert outcomes(formats.read(folder, layout, SIZES)) == {"a.jpg": ("", 3), "b.jpg": ("", 0)}


def test_a_large_coco_file_and_an_image_of_many_boxes_are_refused(tmp_path: Path) -> None:
    boxes = [{"id": n, "image_id": 1 + n // 3, "category_id": 1, "bbox": [1, 1, 9, 9 + n]} for n in range(5)]
    images = [{"id": n, "file_name": f"{name}.jpg", "width": 96, "height": 72} for n, name in ((1, "a"), (2, "b"))]
    data = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "mask"}]}
    folder = folder_of(tmp_path, {"c.json": json.dumps(data)})
    reading = formats.read(folder, "coco", SIZES, Limits(rows=2))
    assert outcomes(reading) == {"a.jpg": ("too-many-rows", 0), "b.jpg": ("", 2)}
    with pytest.raises(DataError, match=r"c\.json: expected at most 100 bytes, found \d+") as caught:
        formats.read(folder, "coco", SIZES, Limits(json_bytes=100))
    assert "limits: {json_bytes: ...}" in caught.value.next_step


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "a\nb\nc\n"),
        ("obj.names", "a\nb\nc\n"),
        ("data.yaml", "names: [a, b, c]"),
        ("data.yaml", "names: {0: a, 1: b, 2: c}"),
    ],
)
def test_too_many_names_refuse_the_source(tmp_path: Path, file: str, text: str) -> None:
    folder = folder_of(tmp_path, {"a.txt": ROW, file: text})
    assert formats.read(folder, "yolo", SIZES, Limits(names=3, names_bytes=len(text))).names == ("a", "b", "c")
    with pytest.raises(DataError, match=f"{file}: expected at most 2 class names, found 3"):
        formats.read(folder, "yolo", SIZES, Limits(names=2))
    with pytest.raises(DataError, match=f"{file}: expected at most 5 bytes, found {len(text)}") as caught:
        formats.read(folder, "yolo", SIZES, Limits(names_bytes=5))
    assert "limits: {names_bytes: ...}" in caught.value.next_step


def test_a_source_says_its_limits() -> None:
    source = Source.model_validate({"path": "x", "limits": {"rows": 50_000}})
    assert source.limits == Limits(rows=50_000)
    assert Source.model_validate({"path": "x"}).limits == Limits()
