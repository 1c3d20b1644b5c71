"""YOLO: rows and their causes, which files are label files, the names of the ids, and geometry there and back."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from facemask_train import formats
from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES, Annotation, Box, Corners, PublishedRow, SourceReading
from facemask_train.formats import yolo

NAMES = ("bare", "masked")
ROW = "1 0.5 0.25 0.5 0.5\n"


def only_row(
    text: str, names: tuple[str, ...] | None = NAMES, size: tuple[int, int] | None = (200, 100)
) -> PublishedRow:
    (row,) = yolo.rows(text, "a.txt", names=names, size=size)
    return row


def read(folder: Path, files: Mapping[str, str | bytes]) -> SourceReading:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return formats.read(folder, "yolo", dict.fromkeys(formats.list_images(folder), (200, 100)))


def test_a_row_is_a_normalized_center_and_size() -> None:
    assert only_row(ROW) == PublishedRow("a.txt", 1, "masked", (50, 0, 150, 50))


@pytest.mark.parametrize(
    ("text", "name", "cause", "detail"),
    [
        ("1 0.5 0.5 0.5", "masked", "wrong-columns", "expected 5 columns, found 4"),
        ("1 0.5 0.5 0.5 0.5 1.5", "masked", "wrong-columns", "expected 5 columns, found 6"),
        ("1 0.5 0.5 0.5 0.5 x", "masked", "wrong-columns", "expected 5 columns, found 6"),
        ("1 0 0 1 0 1 1 4.5", "masked", "wrong-columns", "expected 5 columns, found 8"),
        ("1,0.5,0.5,0.5", "", "wrong-columns", "expected 5 columns, found 1"),
        ("2 0.5 0.5 0.5 0.5", "2", "unknown-class", "expected an id, 0 to 1, found '2'"),
        ("-1 0.5 0.5 0.5 0.5", "-1", "unknown-class", "expected an id, 0 to 1, found '-1'"),
        ("1.5 0.5 0.5 0.5 0.5", "1.5", "unknown-class", "expected an id, 0 to 1, found '1.5'"),
        ("mask 0.5 0.5 0.5 0.5", "mask", "unknown-class", "expected an id, 0 to 1, found 'mask'"),
        ("1 0.5 nan 0.5 0.5", "masked", "not-a-number", "'0.5 nan 0.5 0.5'"),
        ("1 0.5 inf 0.5 0.5", "masked", "not-a-number", "'0.5 inf 0.5 0.5'"),
        ("1 0.5 o.5 0.5 0.5", "masked", "not-a-number", "'0.5 o.5 0.5 0.5'"),
        ("1 1e308 0.5 0.5 0.5", "masked", "not-a-number", "a corner out of range: '1e+308 0.5 0.5 0.5'"),
    ],
)
def test_a_row_that_has_no_corners_says_why(text: str, name: str, cause: str, detail: str) -> None:
    assert only_row(text) == PublishedRow("a.txt", 1, name, cause=cause, detail=detail)


@pytest.mark.parametrize(
    ("text", "corners", "repair"),
    [
        ("1 0.5 0.5 0.5 0.5 0.9", (50, 25, 150, 75), "confidence"),
        ("1 0 0 1 0 1 0.5", (0, 0, 200, 50), "polygon"),
        ("1 .1 .2 .3 .2 .3 .4 .1 .4", (20, 20, 60, 40), "polygon"),
        ("1 .1 .2 .3 .2 .3 .4 .1 .4 .87", (20, 20, 60, 40), "polygon+confidence"),
        ("1 0.5 0.5 0.5 0.5 .4 .5 2 .6 .5 1 0 0 0", (50, 25, 150, 75), "keypoints"),
        ("1,0.5,0.5,0.5,0.5", (50, 25, 150, 75), "separators"),
        ("1, 0.5, 0.5, 0.5, 0.5", (50, 25, 150, 75), "separators"),
        ("1;0,5;0,5;0,5;0,5", (50, 25, 150, 75), "separators+decimal-comma"),
        ("1 0,5 0,5 0,5 0,5", (50, 25, 150, 75), "decimal-comma"),
        ("masked 0.5 0.5 0.5 0.5", (50, 25, 150, 75), "class-name"),
    ],
)
def test_a_row_of_another_form_is_read_and_says_so(text: str, corners: Corners, repair: str) -> None:
    row = only_row(text)
    assert (row.name, row.repair, row.cause) == ("masked", repair, "")
    assert row.corners == pytest.approx(corners)


LAYOUTS = {
    "box-as-corners-in-fractions": lambda x, y, w, h: (x / 200, y / 100, (x + w) / 200, (y + h) / 100),
    "box-as-centers-in-pixels": lambda x, y, w, h: (x + w / 2, y + h / 2, w, h),
    "box-as-corners-in-pixels": lambda x, y, w, h: (x, y, x + w, y + h),
    "": lambda x, y, w, h: ((x + w / 2) / 200, (y + h / 2) / 100, w / 200, h / 100),
}


@pytest.mark.parametrize("repair", LAYOUTS)
def test_boxes_that_are_throughout_in_pixels_or_corners_are_read_and_say_so(tmp_path: Path, repair: str) -> None:
    boxes = [(0, 0, 40, 30), (150, 60, 50, 40), (60, 5, 130, 50), (170, 70, 20, 29)]
    lines = [f"1 {' '.join(map(str, LAYOUTS[repair](*box)))}" for box in boxes]
    files = {f"{n}.jpg": "" for n in range(4)} | {f"{n}.txt": line for n, line in enumerate(lines)}
    rows = [image.rows[0] for image in read(tmp_path, {**files, "classes.txt": "bare\nmasked\n"}).images]
    assert [row.repair for row in rows] == [repair] * 4
    assert [row.corners for row in rows] == [pytest.approx((x, y, x + w, y + h)) for x, y, w, h in boxes]


def test_boxes_that_could_be_two_things_stop(tmp_path: Path) -> None:
    """Wide boxes in pixels: as centers and as the upper left corner they lie inside."""
    files = {f"{n}.jpg": "" for n in range(4)} | {f"{n}.txt": f"1 {90 + n} 50 10 10" for n in range(4)}
    with pytest.raises(DataError, match="but fit as center x, center y, width, height in pixels; or x min, y min, w"):
        read(tmp_path, {**files, "classes.txt": "bare\nmasked\n"})


def test_keypoints_without_visibility_take_kpt_shape(tmp_path: Path) -> None:
    row = "1 0.5 0.5 0.5 0.5 .4 .5 .6 .5"
    found = read(tmp_path, {"a.jpg": "", "a.txt": row, "data.yaml": "kpt_shape: [2, 2]\nnames: [bare, masked]\n"})
    assert [(one.repair, one.corners) for one in found.images[0].rows] == [("keypoints", (50, 25, 150, 75))]


@pytest.mark.parametrize("text", ["1", "01", "1.0", "1.", "1.000000"])
def test_ids_that_mean_one(text: str) -> None:
    assert only_row(f"{text} 0.5 0.5 0.5 0.5").name == "masked"
    assert only_row(f"{text} 0.5 0.5 0.5 0.5", names=None).name == "1"


def test_boxes_past_the_edge_are_not_our_business() -> None:
    assert only_row("0 0 0 1 -1").corners == (-100, 50, 100, -50)


def test_a_image_that_cannot_be_read_keeps_its_rows_in_the_count(tmp_path: Path) -> None:
    for name, text in {"a.jpg": "", "a.txt": ROW * 2}.items():
        (tmp_path / name).write_text(text)
    (image,) = formats.read(tmp_path, "yolo", {}).images
    assert [row.cause for row in image.rows] == ["no-image-size"] * 2


def test_line_ends_marks_blank_lines_and_odd_bytes(tmp_path: Path) -> None:
    odd = b"\xef\xbb\xbf0 .5 .5 1 1\r\n\r\n  \t\r0\t.5 .5  1 1 \n\n0 .5 .5 1 1 \xe9\x85\n0 .5 .5 1 1"
    (image,) = read(tmp_path, {"a.jpg": "", "a.txt": odd, "obj.names": "masked\r\n"}).images
    assert [(row.number, row.cause) for row in image.rows] == [(1, ""), (4, ""), (6, "wrong-columns"), (7, "")]


def test_files_that_are_no_label_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reading = read(
        tmp_path,
        {
            "images/a.jpg": "",
            "images/a.txt": ROW,
            "images/train.jpg": "",
            "images/train.txt": "images/a.jpg\nimages/train.jpg\n",
            "images/classes.jpg": "",
            "images/classes.txt": "bare\nmasked\n",
            "images/test.jpg": "",
            "images/test.txt": ROW,
            "README.txt": "1 of 2",
            "README.dataset.txt": "# masks",
            "notes.txt": "2 images are still to be drawn\nby hand\n",
        },
    )
    assert {one.path: (one.cause, len(one.rows)) for one in reading.images} == {
        "images/a.jpg": ("", 1),
        "images/classes.jpg": ("no-label-file", 0),
        "images/test.jpg": ("", 1),
        "images/train.jpg": ("no-label-file", 0),
    }
    assert not reading.orphans
    assert [record.args for record in caplog.records] == [("notes.txt",)]


def test_label_files_of_absent_images_are_orphans(tmp_path: Path) -> None:
    broken = "1 0.5 0.5\n"
    files = {"images/a.jpg": "", "labels/a.txt": ROW, "labels/gone.txt": ROW + broken, "gone/b.txt": ROW + "\n" + ROW}
    orphans = read(tmp_path, files).orphans
    assert [(row.file, row.number, row.cause, row.corners) for row in orphans] == [
        ("gone/b.txt", 1, "no-image", None),
        ("gone/b.txt", 3, "no-image", None),
        ("labels/gone.txt", 1, "no-image", None),
        ("labels/gone.txt", 2, "no-image", None),
    ]


@pytest.mark.parametrize(
    "names",
    [
        {"data.yaml": "names: [bare, masked]\nnc: 2\n"},
        {"data.yaml": "names:\n  1: masked\n  0: bare\n"},
        {"classes.txt": "bare\nmasked"},
        {"deep/down/classes.txt": "\ufeffbare\r\nmasked\r\n\r\n"},
        {"data/obj.names": "bare\nmasked\n"},
        {"obj.data": "classes = 2\nnames = data/faces.lst\n", "cfg/faces.lst": "bare\nmasked\n"},
        {"train/_darknet.labels": "bare\nmasked\n"},
        {"data.yaml": "names: ['bare', 'masked']", "classes.txt": "bare\nmasked\n", "hyp.yaml": "lr0: 0.01"},
    ],
)
def test_names_files(tmp_path: Path, names: dict[str, str]) -> None:
    reading = read(tmp_path, {"a.jpg": "", "a.txt": ROW, **names})
    assert reading.names == NAMES
    assert [row.name for row in reading.images[0].rows] == ["masked"]


def test_a_class_called_no_stays_no(tmp_path: Path) -> None:
    assert read(tmp_path, {"a.jpg": "", "a.txt": ROW, "data.yaml": "names: [no, yes]"}).names == ("no", "yes")


@pytest.mark.parametrize("names", [{}, {"classes.txt": "\n"}, {"obj.data": "names = gone.names"}, {"x.yaml": "[1]"}])
def test_without_names_a_row_has_its_id(tmp_path: Path, names: dict[str, str]) -> None:
    reading = read(tmp_path, {"a.jpg": "", "a.txt": ROW, **names})
    assert reading.names is None
    assert [row.name for row in reading.images[0].rows] == ["1"]


def test_names_files_that_contradict_each_other_are_both_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes\.txt says bare, masked; data\.yaml says masked, bare"):
        read(tmp_path, {"a.jpg": "", "a.txt": ROW, "classes.txt": "bare\nmasked", "data.yaml": "names: [masked, bare]"})


BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.txt", "bare\n\nmasked\n", "found line 2 blank"),
        ("data.yaml", "names: {0: bare, 2: masked}", "expected `names` to name each id from 0"),
        ("data.yaml", "names: [bare, [masked]]", "expected `names` to name each id from 0"),
        ("data.yaml", BOMB + "names: *j\n", "expected `names` to name each id from 0"),
        ("data.yaml", "names: [", "not valid yaml"),
        ("data.yaml", "[" * 1000, "not valid yaml"),
    ],
)
def test_a_names_file_that_cannot_be_trusted_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        read(tmp_path, {"a.jpg": "", "a.txt": ROW, name: text})


PIECES = st.sampled_from(
    ["0", "1", "7", "0.5", "nan", "1e999", "1_0", " ", "\t", "\n", "\r\n", "\r", "\x0c", "\x85", "é"]
)


@given(st.text() | st.lists(PIECES).map("".join), st.sampled_from([NAMES, None, ()]))
def test_any_text_gives_one_row_for_each_line_that_is_not_blank(text: str, names: tuple[str, ...] | None) -> None:
    rows = yolo.rows(text, "a.txt", names=names, size=(640, 480))
    lines = list(io.StringIO(text, newline=None))  # the standard library's own idea of a line
    assert [row.number for row in rows] == [place for place, line in enumerate(lines, start=1) if line.strip()]
    assert all((row.corners is None) == bool(row.cause) for row in rows)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_in_a_label_or_names_file_are_read_or_refused_cleanly(
    tmp_path_factory: pytest.TempPathFactory, label: bytes, names: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    try:
        reading = read(folder, {"a.jpg": "", "a.txt": label, "data.yaml": names})
    except DataError:
        return
    assert [one.path for one in reading.images] == ["a.jpg"]


EDGES = st.sampled_from([0.0, 1.0, 1e-9, 1 - 1e-9, 1 / 3, 0.5])
SHARES = st.tuples(EDGES | st.floats(0, 1), EDGES | st.floats(0, 1)).filter(lambda pair: pair[0] != pair[1])
SIDES = st.integers(1, 10_000)


@st.composite
def spans(draw: st.DrawFn, side: int) -> tuple[float, float]:
    low, high = sorted(share * side for share in draw(SHARES))
    return (low, high) if low < high else (0.0, float(side))


@st.composite
def images(draw: st.DrawFn) -> tuple[int, int, list[Annotation]]:
    width, height = draw(SIDES), draw(SIDES)
    labels = []
    for name in draw(st.lists(st.sampled_from(CLASSES), max_size=4)):
        (x_min, x_max), (y_min, y_max) = draw(spans(width)), draw(spans(height))
        labels.append(Annotation(name, Box(x_min, y_min, x_max, y_max)))
    return width, height, labels


@given(images())
@example(
    (
        10_000,
        10_000,
        [Annotation("mask", Box(0.0, 5e-324, 1e-300, 1e-300)), Annotation("mask", Box(9999.9999999, 0, 10_000, 1e-9))],
    )
)
def test_a_round_trip_stays_within_a_thousandth_of_a_pixel(image: tuple[int, int, list[Annotation]]) -> None:
    width, height, labels = image
    for again, label in zip(yolo.labels_from(yolo.lines(labels, width, height), width, height), labels, strict=True):
        assert again.name == label.name
        assert again.box.corners == pytest.approx(label.box.corners, rel=0, abs=1e-3)


@given(images())
def test_no_written_corner_is_outside_the_image_in_any_precision(image: tuple[int, int, list[Annotation]]) -> None:
    text = yolo.lines(image[2], image[0], image[1])
    for line in text.splitlines():
        for precision in (np.float64, np.float32):
            x, y, width, height = (precision(column) for column in line.split()[1:])
            for center, side in ((x, width), (y, height)):
                assert side > 0
                assert precision(0) <= center - side / 2 < center + side / 2 <= precision(1)


def test_the_written_text_itself() -> None:
    labels = [Annotation("no_mask", Box(0, 0, 3, 7)), Annotation("mask", Box(1, 2, 2, 3))]
    assert yolo.lines(labels, 3, 7) == (
        "1 0.50000000 0.50000000 1.00000000 1.00000000\n0 0.50000000 0.35714285 0.33333340 0.14285710\n"
    )
    assert yolo.lines([], 3, 7) == ""


@pytest.mark.parametrize("box", [Box(-1e-9, 0, 1, 1), Box(0, -1, 1, 1), Box(0, 0, 10.001, 1), Box(0, 0, 1, 11)])
def test_a_box_past_the_edge_is_never_written(box: Box) -> None:
    with pytest.raises(ValueError, match="inside its image of 10 x 10 px"):
        yolo.lines([Annotation("mask", box)], 10, 10)


@pytest.mark.parametrize("text", ["0 0.5 0.5 0.5", "2 0.5 0.5 0.5 0.5", "0 0.5 0.5 0 0.5"])
def test_a_line_that_fmask_did_not_write_is_an_error(text: str) -> None:
    with pytest.raises(DataError, match=r"line 2: "):
        yolo.labels_from(f"0 0.5 0.5 0.5 0.5\n{text}\n", 10, 10)


def face(x: float, y: float, w: float, h: float, *, turned: float = 0) -> str:
    """Return a row of a box and five points, which are shifted to one side in a face in profile."""
    spots = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    points = " ".join(f"{x + (a - 0.5 + turned) * w:.6f} {y + (b - 0.5) * h:.6f}" for a, b in spots)
    return f"0 {x} {y} {w} {h} {points}\n"


def heptagon(x: float, y: float, size: float, turn: float) -> str:
    angles = [turn + 2 * math.pi * k / 7 for k in range(7)]
    return "0 " + " ".join(f"{x + size * math.cos(a):.6f} {y + size * math.sin(a):.6f}" for a in angles) + "\n"


def read_rows(folder: Path, text: str) -> list[PublishedRow]:
    (folder / "a.jpg").write_bytes(b"")
    (folder / "a.txt").write_text(text)
    (folder / "classes.txt").write_text("mask\n")
    return list(formats.read(folder, "yolo", {"a.jpg": (100, 100)}).images[0].rows)


@pytest.mark.parametrize("box", [(0.5, 0.5, 0.2, 0.3), (0.2, 0.7, 0.05, 0.08), (0.8, 0.2, 0.3, 0.3)])
def test_five_points_in_a_box_are_no_polygon(tmp_path: Path, box: tuple[float, float, float, float]) -> None:
    (row,) = read_rows(tmp_path, face(*box))
    x, y, w, h = (100 * value for value in box)
    assert row.repair == "keypoints"
    assert row.corners == pytest.approx((x - w / 2, y - h / 2, x + w / 2, y + h / 2))


def test_faces_in_profile_follow_the_others_of_their_source(tmp_path: Path) -> None:
    rows = read_rows(
        tmp_path, face(0.3, 0.3, 0.2, 0.2) + face(0.7, 0.7, 0.2, 0.2) + face(0.5, 0.2, 0.2, 0.2, turned=0.2)
    )
    assert [row.repair for row in rows] == ["keypoints"] * 3
    assert rows[2].corners == pytest.approx((40, 10, 60, 30))


@given(st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.floats(0.02, 0.19), st.floats(0, 7))
def test_a_polygon_of_seven_points_stays_one(x: float, y: float, size: float, turn: float) -> None:
    (parsed,) = yolo.parsed_rows(heptagon(x, y, size, turn), "a.txt", ("mask",))
    assert parsed.row.repair == "polygon"
