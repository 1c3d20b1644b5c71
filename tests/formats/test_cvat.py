"""CVAT for images: its shapes, its causes, and where its images are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train import formats
from facemask_train.core.config import Limits
from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES, Annotation, Box, PublishedRow, SourceReading
from facemask_train.formats import cvat


def document(*images: str) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{"".join(images)}</annotations>'


def image(*shapes: str, name: str = "a.jpg") -> str:
    return f'<image id="0" name="{name}" width="100" height="80">{"".join(shapes)}</image>'


def read(folder: Path, files: dict[str, str | bytes], limits: Limits | None = None) -> SourceReading:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return formats.read(folder, "cvat", {}, limits)


def only_row(shape: str) -> PublishedRow:
    ((row,),) = (one.rows for one in cvat.parse(document(image(shape)).encode(), "x.xml", Path("x.xml")))
    return row


@pytest.mark.parametrize(
    ("shape", "corners", "repair"),
    [
        ('<box label="m" xtl="1.5" ytl="2" xbr="30" ybr="40"/>', (1.5, 2, 30, 40), ""),
        ('<box label="m" xtl="30" ytl="40" xbr="1.5" ybr="2"/>', (1.5, 2, 30, 40), "corners-reordered"),
        ('<box label="m" xtl="10" ytl="20" xbr="30" ybr="24" rotation="90.0"/>', (18, 12, 22, 32), "rotated"),
        ('<box label="m" xtl="1" ytl="2" xbr="3" ybr="4" rotation="0.0"/>', (1, 2, 3, 4), ""),
        ('<polygon label="m" points="10,20;30,20.5;15,40"/>', (10, 20, 30, 40), "polygon"),
        ('<ellipse label="m" cx="10" cy="20" rx="3" ry="4"/>', (7, 16, 13, 24), "ellipse"),
        ('<mask label="m" rle="3,1" left="5" top="6" width="10" height="20"/>', (5, 6, 15, 26), "mask"),
    ],
)
def test_each_shape_has_its_box(shape: str, corners: tuple[float, ...], repair: str) -> None:
    row = only_row(shape)
    assert (row.name, row.cause, row.repair) == ("m", "", repair)
    assert row.corners == pytest.approx(corners)


@pytest.mark.parametrize(
    ("shape", "cause"),
    [
        ('<points label="m" points="1,2"/>', "no-box"),
        ('<polyline label="m" points="1,2;3,4;5,6"/>', "no-box"),
        ('<skeleton label="m"><points points="1,2"/></skeleton>', "no-box"),
        ('<cuboid label="m" xtl1="1"/>', "no-box"),
        ('<box label="m" xtl="1" ytl="2" xbr="3"/>', "not-a-number"),
        ('<box label="m" xtl="nan" ytl="2" xbr="3" ybr="4"/>', "not-a-number"),
        ('<box label="m" xtl="1" ytl="2" xbr="3" ybr="4" rotation="left"/>', "not-a-number"),
        ('<polygon label="m" points="1,2;3,4"/>', "not-a-number"),
        ('<polygon label="m" points="1,2;3;5,6"/>', "not-a-number"),
        ('<ellipse label="m" cx="1e308" cy="0" rx="1e308" ry="1"/>', "not-a-number"),
        ('<mask label="m" left="1"/>', "not-a-number"),
        ('<box xtl="1" ytl="2" xbr="3" ybr="4"/>', "unknown-class"),
    ],
)
def test_a_row_that_has_no_corners_says_why(shape: str, cause: str) -> None:
    row = only_row(shape)
    assert (row.corners, row.cause) == (None, cause)
    assert row.detail


def test_images_are_found_by_name_and_rows_are_numbered_through(tmp_path: Path) -> None:
    box = '<box label="m" xtl="1" ytl="2" xbr="3" ybr="4"/>'
    text = document(
        image(box, '<tag label="night"/>', box, name="train/a.jpg"),
        image(name=r"train\b.jpg"),
        image(box, name="gone.jpg"),
    )
    reading = read(tmp_path, {"annotations.xml": text, "images/train/a.jpg": "", "images/train/b.jpg": "", "c.jpg": ""})
    a, b, c = sorted(reading.images, key=lambda one: one.path[-5:])
    assert [(row.file, row.number, row.corners) for row in a.rows] == [
        ("annotations.xml", 1, (1, 2, 3, 4)),
        ("annotations.xml", 2, (1, 2, 3, 4)),
    ]
    assert (a.declared, b.rows, b.cause, c.cause) == ((100, 80), (), "", "no-label-file")
    assert [(row.number, row.cause) for row in reading.orphans] == [(3, "no-image")]


@given(
    st.dictionaries(
        st.sampled_from(["a.jpg", "b c.png", "é/d.jpg"]),
        st.lists(
            st.tuples(st.sampled_from(CLASSES), st.integers(0, 50), st.integers(0, 50), st.floats(0.001, 50)),
            max_size=4,
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, labels: dict[str, list[tuple[str, int, int, float]]]
) -> None:
    written = {
        path: (640, 480, [Annotation(name, Box(x, y, x + side, y + side)) for name, x, y, side in found])
        for path, found in labels.items()
    }
    folder = tmp_path_factory.mktemp("round")
    reading = read(folder, {"annotations.xml": cvat.to_xml(written), **dict.fromkeys(written, "")})
    assert not reading.orphans
    for one in reading.images:
        assert one.declared == (640, 480)
        assert [row.name for row in one.rows] == [label.name for label in written[one.path][2]]
        for row, label in zip(one.rows, written[one.path][2], strict=True):
            assert row.corners == pytest.approx(label.box.corners, abs=1e-8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<annotations><image", "not valid XML"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>', "a DOCTYPE is refused"),
        ('<?xml version="1.0" encoding="none"?><annotations/>', "not valid XML"),
        ('<annotations><track id="0" label="m"><box frame="0"/></track></annotations>', "CVAT for video"),
    ],
)
def test_a_file_that_cannot_be_used_stops(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, {"annotations.xml": content, "a.jpg": ""})
    assert "annotations.xml" in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = document(image('<box label="m" xtl="1" ytl="2" xbr="3" ybr="4"/>')).split("\n")[1]
    reading = read(tmp_path, {"annotations.xml": text.encode(encoding), "a.jpg": ""})
    assert len(reading.images[0].rows) == 1


def test_the_limits_hold(tmp_path: Path) -> None:
    box = '<box label="m" xtl="1" ytl="2" xbr="3" ybr="4"/>'
    files: dict[str, str | bytes] = {"annotations.xml": document(image(box * 3)), "a.jpg": ""}
    assert read(tmp_path, files, Limits(rows=2)).images[0].cause == "too-many-rows"
    with pytest.raises(DataError, match="at most 20 bytes"):
        read(tmp_path, files, Limits(json_bytes=20))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = cvat.parse(b"<annotations><image name='a'>" + data, "x.xml", Path("x.xml"))
    except DataError:
        return
    assert all(row.corners or row.cause for one in found for row in one.rows)
