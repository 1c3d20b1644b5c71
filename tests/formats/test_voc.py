"""Pascal VOC: the origin, the causes, and XML that nobody should trust."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train import formats
from facemask_train.core.errors import FmaskError
from facemask_train.core.types import Annotation, Box, PublishedRow
from facemask_train.formats import voc
from facemask_train.formats.pairing import ImageAnnotation

OBJECT = (
    "<object><name>with_mask</name><bndbox>"
    "<xmin>1</xmin><ymin>3</ymin><xmax>401</xmax><ymax>20.5</ymax></bndbox></object>"
)


def parsed(text: str | bytes) -> ImageAnnotation:
    annotation = voc.parse(text if isinstance(text, bytes) else text.encode(), "a.xml")
    assert annotation is not None
    return annotation


def only_row(inside: str) -> PublishedRow:
    (row,) = parsed(f"<annotation><object>{inside}</object></annotation>").rows
    return row


def test_corners_count_from_one_on_both_sides() -> None:
    (row,) = parsed(f"<annotation>{OBJECT}</annotation>").rows
    assert row == PublishedRow("a.xml", 1, "with_mask", (0, 2, 400, 19.5))


@pytest.mark.parametrize(
    ("inside", "cause", "detail"),
    [
        ("<name>m</name>", "no-box", "no <bndbox>"),
        ("<name>m</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax></bndbox>", "no-box", "no <ymax>"),
        (OBJECT[8:-9].replace("401", "NaN"), "not-a-number", "'1 3 NaN 20.5'"),
        (OBJECT[8:-9].replace("401", "4O1"), "not-a-number", "'1 3 4O1 20.5'"),
        (OBJECT[8:-9].replace("401", "1e999"), "not-a-number", "'1 3 1e999 20.5'"),
        (OBJECT[8:-9].replace("with_mask", " "), "unknown-class", "no <name>"),
    ],
)
def test_a_row_that_has_no_corners_says_why(inside: str, cause: str, detail: str) -> None:
    row = only_row(inside)
    assert (row.corners, row.cause, row.detail) == (None, cause, detail)


@pytest.mark.parametrize(
    ("size", "declared"),
    [
        ("<size><width>400</width><height>267</height></size>", (400, 267)),
        ("<size><width>0</width><height>0</height></size>", None),
        ("<size><width>wide</width><height>267</height></size>", None),
        ("", None),
    ],
)
def test_the_declared_size(size: str, declared: tuple[int, int] | None) -> None:
    assert parsed(f"<annotation>{size}</annotation>").declared == declared


def test_xml_that_does_not_parse_keeps_its_rows_in_the_count(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "b.xml"):
        (tmp_path / name).write_text(f"<annotation>{OBJECT}</annotation>")
    (tmp_path / "a.xml").write_text(f"<annotation>{OBJECT}{OBJECT}<object><objects></annotation>")
    first, second = formats.read(tmp_path, "voc", {}).images
    assert (first.cause, [row.cause for row in first.rows]) == ("unreadable-annotation", ["unreadable-annotation"] * 3)
    assert first.detail.startswith("a.xml: mismatched tag")
    assert (second.cause, len(second.rows)) == ("", 1)


def test_rows_of_an_absent_image_are_orphans(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    for name in ("a", "gone"):
        named = f"<filename>C:\\old\\{name}.png</filename>"
        (tmp_path / f"{name}.xml").write_text(f"<annotation>{named}{OBJECT}{OBJECT}</annotation>")
    reading = formats.read(tmp_path, "voc", {})
    assert [len(image.rows) for image in reading.images] == [2]
    assert reading.orphans == tuple(
        PublishedRow("gone.xml", place, "with_mask", cause="no-image", detail="no image 'gone.png'") for place in (1, 2)
    )


def test_an_xml_of_something_else_is_passed_over_and_told(caplog: pytest.LogCaptureFixture) -> None:
    assert voc.parse(b"<project/>", "pom.xml") is None
    assert "pom.xml" in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        f"\r\n <?xml version='1.0'?><annotation>{OBJECT}</annotation>".encode(),
        f"<annotation>{OBJECT}</annotation>".encode("utf-8-sig"),
        f"<annotation>{OBJECT}</annotation>".encode("utf-16"),
        f"<?xml version='1.0' encoding='iso-8859-1'?><annotation><!-- \xe9 -->{OBJECT}</annotation>".encode("latin-1"),
        f"<annotation><!-- {OBJECT} -->{OBJECT}</annotation>".encode(),
    ],
)
def test_encodings_blank_lines_and_comments(data: bytes) -> None:
    assert [row.cause for row in parsed(data).rows] == [""]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_doctype_is_refused_before_its_entities_grow(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Watched(voc._NoDoctype):
        def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:  # type: ignore[override]
            seen.append(tag)
            return super().start(tag, attrs)  # type: ignore[arg-type]

        def data(self, text: str) -> None:  # type: ignore[override]
            seen.append(text)
            super().data(text)

    monkeypatch.setattr(voc, "_NoDoctype", Watched)
    assert parsed(f"<annotation>{OBJECT}</annotation>".encode(encoding)).cause == ""
    assert seen[0] == "annotation"
    seen.clear()
    grow = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 100}">' for n in range(1, 9))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "ha">{grow}]><annotation><object><name>&e8;</name></object></annotation>'
    annotation = parsed(bomb.encode(encoding))
    assert seen == []
    assert annotation.cause == "unreadable-annotation"
    assert annotation.detail == "a.xml: a DOCTYPE is refused"
    assert len(annotation.rows) == 1


def test_an_unknown_encoding_is_a_cause() -> None:
    annotation = parsed(f"<?xml version='1.0' encoding='klingon'?><annotation>{OBJECT}</annotation>")
    assert (annotation.cause, len(annotation.rows)) == ("unreadable-annotation", 1)


def test_deep_nesting_does_no_harm() -> None:
    assert parsed(b"<annotation>" + b"<a>" * 50_000).cause == "unreadable-annotation"
    assert parsed(b"<annotation>" + b"<a>" * 50_000 + b"</a>" * 50_000 + b"</annotation>").rows == ()


PIECES = [
    "<annotation>", "</annotation>", "<object>", "</object>", "<bndbox>", "</bndbox>", "<xmin>", "</xmin>", "1", "nan",
    "<name>", "</name>", "<size><width>", "&amp;", "&x;", "<!DOCTYPE a>", "<?xml version='1.0'?>", "<![CDATA[", "]]>",
    OBJECT, "\0", "\ufffe", "<filename>", "<!--", "-->",
]  # fmt: skip


@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode()))
def test_any_bytes_give_rows_or_causes(data: bytes) -> None:
    try:
        annotation = voc.parse(data, "a.xml")
    except FmaskError:
        return
    for row in annotation.rows if annotation else ():
        assert (row.corners is None) == bool(row.cause)


@given(st.integers(0, 4), st.data())
def test_cut_anywhere_an_xml_keeps_every_object_that_has_begun(count: int, data: st.DataObject) -> None:
    whole = f"<annotation>{OBJECT * count}</annotation>"
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert len(parsed(cut).rows) == cut.count("<object")


@given(
    st.lists(st.tuples(*[st.floats(0, 5000)] * 2, *[st.floats(0.001, 5000)] * 2), max_size=4),
    st.sampled_from(["mask", "no_mask"]),
)
def test_round_trip(boxes: list[tuple[float, float, float, float]], name: str) -> None:
    labels = [Annotation(name, Box(x, y, x + w, y + h)) for x, y, w, h in boxes]
    annotation = parsed(voc.to_xml("a & b.jpg", labels, width=10_000, height=9_000))
    assert (annotation.named, annotation.declared) == ("a & b.jpg", (10_000, 9_000))
    for row, label in zip(annotation.rows, labels, strict=True):
        assert (row.name, row.corners) == (name, pytest.approx(label.box.corners, abs=1e-6))


@pytest.mark.parametrize("order", [("41", "61", "11", "21"), ("11", "61", "41", "21"), ("41", "21", "11", "61")])
def test_corners_in_any_order_are_put_in_order_and_say_so(order: tuple[str, ...]) -> None:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), order, strict=True)
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    data = f"<annotation><object><name>mask</name><bndbox>{box}</bndbox></object></annotation>".encode()
    found = voc.parse(data, "a.xml")
    assert found
    assert [(row.corners, row.repair) for row in found.rows] == [((10, 20, 40, 60), "corners-reordered")]
