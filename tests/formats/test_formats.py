"""Which annotation belongs to which image, which layout a folder has, and the real archives, counted twice."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from facemask_train import formats
from facemask_train.core.errors import DataError, UsageError
from facemask_train.core.types import PublishedImage, SourceReading
from facemask_train.formats.pairing import number, pair, text_of

ROW = "0 0.5 0.5 0.5 0.5\n"
XML = "<annotation><object><name>m</name></object></annotation>"
COCO = '{"images": [], "annotations": [], "categories": []}'


def lay_out(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def causes(reading: SourceReading) -> dict[str, str]:
    return {image.path: image.cause for image in reading.images}


def read_yolo(folder: Path, files: Mapping[str, str | bytes]) -> SourceReading:
    lay_out(folder, files)
    return formats.read(folder, "yolo", dict.fromkeys(formats.list_images(folder), (10, 10)))


def test_images_are_listed_by_extension_sorted_and_without_hidden_files(tmp_path: Path) -> None:
    names = ["b.JPG", "a/é 1.jpeg", "a/z.png", "c.bmp", "d.webp", "e.gif", "f.tif", "g.TIFF"]
    others = ["a.txt", "a.jpg.txt", ".hidden.jpg", ".cache/a.jpg", "__MACOSX/a.jpg", "x/__MACOSX/._a.jpg", "jpg"]
    lay_out(tmp_path, dict.fromkeys(names + others, ""))
    assert formats.list_images(tmp_path) == ["a/z.png", "a/é 1.jpeg", *names[:1], *names[3:]]


def test_a_source_inside_a_hidden_folder_is_still_read(tmp_path: Path) -> None:
    lay_out(tmp_path / ".raw.partial", {"a.jpg": ""})
    assert formats.list_images(tmp_path / ".raw.partial") == ["a.jpg"]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.jpg", "images/train/a.txt"),
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("x/images/y/images/a.b.jpg", "x/images/y/labels/a.b.txt"),
        ("JPEGImages/a.jpg", "Annotations/a.xml"),
        ("a.png", "annotations/a.xml"),
        ("photos/a.jpg", "boxes/a.txt"),
        ("photos/train/a.jpg", "boxes/a.txt"),
    ],
)
def test_a_label_file_finds_its_image(image: str, label: str) -> None:
    decoys = ["train/b.jpg", "other/c.jpg"]
    assert pair([*decoys, image], {label: ""}) == {label: [image]}


def test_equal_names_in_two_splits_stay_apart() -> None:
    images = ["train/images/1.jpg", "valid/images/1.jpg"]
    assert pair(images, {"train/labels/1.txt": "", "valid/labels/1.txt": ""}) == {
        "train/labels/1.txt": ["train/images/1.jpg"],
        "valid/labels/1.txt": ["valid/images/1.jpg"],
    }


@pytest.mark.parametrize("images", [["valid/1.jpg"], ["valid/images/1.jpg"]])
def test_a_label_of_one_split_never_takes_an_image_of_another(images: list[str]) -> None:
    assert pair(images, {"train/1.txt": ""}) == {"train/1.txt": []}


def test_a_mask_folder_of_the_same_names_is_not_taken_for_the_images() -> None:
    images = ["JPEGImages/a.jpg", "SegmentationClass/a.png"]
    assert pair(images, {"Annotations/a.xml": "a.jpg"}) == {"Annotations/a.xml": ["JPEGImages/a.jpg"]}


def test_the_stem_goes_before_the_name_and_the_name_before_nothing() -> None:
    named = {"x/a.xml": "b.jpg", "x/b.xml": "b.jpg", "x/7.xml": "c.png", "x/8.xml": "d.jpg"}
    assert pair(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], named) == {
        "x/a.xml": ["a.jpg"],  # copied from b.xml, its inner name left behind
        "x/b.xml": ["b.jpg"],
        "x/7.xml": ["c.jpg"],  # re-encoded after it was named
        "x/8.xml": ["d.jpg"],
    }


def test_a_name_does_not_take_an_image_that_has_an_annotation_of_its_own() -> None:
    assert pair(["a.jpg"], {"x/a.xml": "a.jpg", "x/9.xml": "a.jpg"}) == {"x/a.xml": ["a.jpg"], "x/9.xml": []}


def test_the_nearest_of_two_images_is_meant() -> None:
    named = {"a.txt": "", "images/a.txt": "", "day/annotations/7.xml": "b.jpg"}
    assert pair(["a.jpg", "images/a.jpg", "day/images/b.jpg", "night/images/b.jpg"], named) == {
        "a.txt": ["a.jpg"],
        "images/a.txt": ["images/a.jpg"],
        "day/annotations/7.xml": ["day/images/b.jpg"],
    }


def test_the_name_decides_between_two_images_of_one_stem() -> None:
    assert pair(["a.jpg", "a.png"], {"a.xml": "a.png"}) == {"a.xml": ["a.png"]}


def test_one_label_file_of_two_images_is_counted_once_and_believed_for_neither(tmp_path: Path) -> None:
    reading = read_yolo(tmp_path, {"a.jpg": "", "a.png": "", "a.txt": ROW})
    assert causes(reading) == {"a.jpg": "shared-annotation", "a.png": "shared-annotation"}
    assert [len(image.rows) for image in reading.images] == [1, 0]


def test_two_label_files_of_one_image_have_to_agree(tmp_path: Path) -> None:
    reading = read_yolo(
        tmp_path,
        {
            "images/a.jpg": "",
            "images/a.txt": ROW,
            "labels/a.txt": "1 0.5 0.5 0.5 0.5",
            "images/b.jpg": "",
            "images/b.txt": ROW,
            "labels/b.txt": ROW.replace(" ", "\t"),
        },
    )
    assert causes(reading) == {"images/a.jpg": "two-annotations", "images/b.jpg": ""}
    assert [[row.file for row in image.rows] for image in reading.images] == [
        ["images/a.txt", "labels/a.txt"],
        ["images/b.txt", "labels/b.txt"],
    ]


def test_a_image_without_a_label_file_says_so(tmp_path: Path) -> None:
    reading = read_yolo(tmp_path, {"a.jpg": "", "b.jpg": "", "a.txt": ""})
    assert reading.images[0] == PublishedImage("a.jpg")
    assert causes(reading)["b.jpg"] == "no-label-file"


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        ({"a.xml": XML, "readme.txt": "5 masks"}, "voc"),
        ({"deep/down/a.txt": ROW, "classes.txt": "mask\n"}, "yolo"),
        ({"train/_annotations.coco.json": COCO, "source.json": "{}"}, "coco"),
    ],
)
def test_probe(tmp_path: Path, files: dict[str, str], layout: str) -> None:
    assert formats.probe(lay_out(tmp_path, files)) == layout


def test_probe_names_both_layouts_and_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found voc \(x/a.xml\), yolo \(y/a.txt\)") as caught:
        formats.probe(lay_out(tmp_path, {"x/a.xml": XML, "y/a.txt": ROW}))
    assert "`format:`" in caught.value.next_step


def test_probe_says_what_it_looked_for_and_what_it_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a \.txt of label rows.*found 2 \.csv, 1 \.jpg, 1 no extension"):
        formats.probe(lay_out(tmp_path, {"a.jpg": "", "a.csv": ROW, "b.csv": "", "LICENSE": ""}))


def test_read_probes_when_asked_to(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a.jpg": "", "a.xml": XML})
    assert formats.read(tmp_path, "probe", {}) == formats.read(tmp_path, "voc", {})


@pytest.mark.parametrize("layout", ["voc", "yolo", "coco"])
def test_a_folder_of_another_layout_is_an_error(tmp_path: Path, layout: str) -> None:
    with pytest.raises(DataError, match="found none") as caught:
        formats.read(lay_out(tmp_path, {"a.jpg": "", "a.csv": ROW}), layout, {})
    assert "format:" in caught.value.next_step


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images, found none"):
        formats.read(lay_out(tmp_path, {"a.xml": XML}), "voc", {})


def test_an_unknown_layout_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'yolo'"):
        formats.read(tmp_path, "yolov5", {})


@pytest.mark.parametrize("text", ["1", "-0.5", "+.5", "5.", "1e-3", "0" * 400 + "1"])
def test_numbers(text: str) -> None:
    assert number(text) == float(text)


@pytest.mark.parametrize("text", ["", "nan", "inf", "-Infinity", "1e999", "1_0", "0,5", "0x1", "\u0661", "1 2", "."])
def test_not_numbers(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_text_of_any_encoding(encoding: str) -> None:
    assert text_of("0 Gesichtsmaske für é\r\n".encode(encoding)) == "0 Gesichtsmaske für é\r\n"


@pytest.fixture(scope="module")
def unpacked(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for archive in sorted((shared / "kaggle").glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder / archive.stem)
    return folder


def read_real(folder: Path) -> SourceReading:
    sizes = {}
    for path in formats.list_images(folder):
        with Image.open(folder / path) as image:
            sizes[path] = image.size
    reading = formats.read(folder, "probe", sizes)
    beyond = [
        max(-row.corners[0], -row.corners[1], row.corners[2] - width, row.corners[3] - height)
        for image in reading.images
        for row in image.rows
        for width, height in [sizes[image.path]]
        if row.corners is not None
    ]
    assert max(beyond) < 0.001, "with the right origin, every published box is inside its image"
    return reading


def check_all_read(reading: SourceReading, folder: Path) -> Counter[str]:
    images = [path for path in folder.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png")]
    assert [image.path for image in reading.images] == sorted(path.relative_to(folder).as_posix() for path in images)
    rows = [row for image in reading.images for row in image.rows]
    assert not reading.orphans
    assert {row.cause for row in rows} == {image.cause for image in reading.images} == {""}
    return Counter(row.name for row in rows)


def test_source_1_is_read_whole(unpacked: Path) -> None:
    folder = unpacked / "face-mask-detection"
    reading = read_real(folder)
    text = "".join(path.read_text() for path in folder.rglob("*.xml"))
    assert check_all_read(reading, folder) == Counter(re.findall(r"<name>(.*?)</name>", text))
    assert reading.names == ()
    assert all(image.declared is not None for image in reading.images)


def test_source_2_is_read_whole(unpacked: Path) -> None:
    folder = unpacked / "face-mask-dataset-yolo-format"
    reading = read_real(folder)
    labels = list(folder.glob("images/*/*.txt"))
    ids = Counter(line.split()[0] for path in labels for line in path.read_text().splitlines() if line.strip())
    assert check_all_read(reading, folder) == {"no_mask": ids["0"], "mask": ids["1"]}
    assert reading.names == ("no_mask", "mask")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/caf\u00e9 1.jpg", "labels/cafe\u0301 1.txt"),
        ("images/Capture_d\u00e9cran.jpg", "labels/Capture_d%C3%A9cran.txt"),
        ("images/a b.jpg", "labels/a%20b.txt"),
        ("images/IMG_1.JPG", "labels/img_1.txt"),
        ("images/q1.jpg", "labels/q1.jpg.txt"),
        ("Images/train/q1.png", "labels/Train/Q1.PNG.TXT"),
    ],
)
def test_names_that_differ_as_systems_and_exporters_write_them_are_paired(image: str, label: str) -> None:
    assert pair([image, "images/other.jpg"], {label: ""}) == {label: [image]}


def test_an_exact_name_goes_before_one_that_differs_in_case() -> None:
    found = pair(["images/A.jpg", "images/a.jpg"], {"labels/a.txt": "", "labels/A.txt": ""})
    assert found == {"labels/a.txt": ["images/a.jpg"], "labels/A.txt": ["images/A.jpg"]}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-8", "utf-8-sig"])
def test_text_in_utf_16_is_read_with_and_without_a_mark(encoding: str) -> None:
    assert text_of("0 0.5 0.5 0.1 0.2\n".encode(encoding)) == "0 0.5 0.5 0.1 0.2\n"
