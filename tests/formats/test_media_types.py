"""Images and videos are known by their names, or else by their first bytes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from facemask_train.formats.media_types import kind_of, kind_of_bytes, suffix

PILLOW = [
    *("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "MPO", "JPEG2000"),
    pytest.param("AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")),
]


@pytest.mark.parametrize("form", PILLOW)
def test_an_image_without_a_suffix_is_known_by_its_bytes(tmp_path: Path, form: str) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "shot", form)
    assert kind_of(tmp_path / "shot") == "image"
    assert Image.open(io.BytesIO((tmp_path / "shot").read_bytes())).size == (20, 20)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"\0\0\0\x14ftypqt  ", "video"),
        (b"\0\0\0\x18ftypheic", "image"),
        (b"\0\0\0\x18ftypcrx ", "image"),  # Canon's raw
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"RIFF\0\0\0\0WAVEfmt ", ""),
        (b"\x1aE\xdf\xa3", "video"),
        (b"FLV\x01\x05", "video"),
        ((b"\x47" + bytes(187)) * 3, "video"),
        (b"Good morning", ""),
        (b"BM is not a bitmap by these two letters alone", ""),
        (b"%PDF-1.7", ""),
        (b"PK\x03\x04", ""),
        (b"", ""),
    ],
)
def test_kinds_by_their_first_bytes(head: bytes, kind: str) -> None:
    assert kind_of_bytes(head) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.JFIF", "image"), ("a.heic", "image"), ("a.dng", "image"), ("b.FLV", "video"), ("a.txt", ""), ("a.ts", "")],
)
def test_a_name_goes_first(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"const a = 1;")
    assert kind_of(tmp_path / name) == kind
    assert suffix(name) == f".{name[2:].lower()}"


def test_label_files_are_not_opened_and_missing_files_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xd8\xff")
    assert kind_of(tmp_path / "a.txt") == kind_of(tmp_path / "gone") == ""


@given(st.binary(max_size=400))
def test_any_bytes_have_a_kind_or_none(head: bytes) -> None:
    assert kind_of_bytes(head) in ("image", "video", "")
