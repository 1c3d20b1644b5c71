"""Image files are examined and converted to plain images."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from facemask_train.apps.media import Problem, decode
from facemask_train.dataset.loading.images import decoded_plain, examine, examine_bytes, make_plain, plain_extension
from helpers.worlds import image

EXIF_6 = Image.Exif()
EXIF_6[0x0112] = 6


def plain(tmp_path: Path, name: str, content: bytes) -> tuple[tuple[str, ...], bytes, str]:
    """Return the repairs, the bytes and the extension of the plain image."""
    (tmp_path / name).write_bytes(content)
    facts = examine(tmp_path, name).facts
    assert facts.cause == "", facts
    made, extension = make_plain(content, facts)
    assert extension == plain_extension(facts)
    return facts.repairs, made, extension


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize(
    ("name", "kind", "mode"),
    [("a.jpg", "JPEG", "RGB"), ("a.jpeg", "JPEG", "L"), ("a.PNG", "PNG", "RGB"), ("a.webp", "WEBP", "RGB")],
)
def test_a_plain_image_keeps_every_byte(tmp_path: Path, name: str, kind: str, mode: str) -> None:
    content = image(1, kind, mode)
    assert plain(tmp_path, name, content)[:2] == ((), content)


def test_a_wrong_extension_is_corrected_without_reencoding(tmp_path: Path) -> None:
    content = image(1, "WEBP")
    assert plain(tmp_path, "a.jpg", content) == (("wrong-extension",), content, ".webp")


def test_bytes_after_the_end_of_a_jpeg_are_cut_off(tmp_path: Path) -> None:
    content = image(1)
    repairs, made, extension = plain(tmp_path, "a.jpg", content + b"\0\0sent from a phone")
    assert (repairs, made, extension) == (("bytes-after-end",), content, ".jpg")


def test_a_png_without_an_end_is_reencoded(tmp_path: Path) -> None:
    """Pillow reads it; OpenCV, and so whoever trains on it, does not."""
    content = image(1, "PNG")
    repairs, made, extension = plain(tmp_path, "a.png", content[:-12])
    assert (repairs, extension) == (("no-end",), ".png")
    facts = examine(tmp_path, "a.png").facts
    assert np.array_equal(decoded_plain(made, facts), np.asarray(opened(content)))


def test_exif_orientation_is_applied_to_the_pixels(tmp_path: Path) -> None:
    upright = opened(image(1, quality=100))
    repairs, made, extension = plain(tmp_path, "a.jpg", image(1, quality=100, exif=EXIF_6))
    assert (repairs, extension) == (("exif-orientation",), ".jpg")
    turned = opened(made)
    assert turned.getexif().get(0x0112, 1) == 1
    expected = np.asarray(upright.transpose(Image.Transpose.ROTATE_270), dtype=float)
    assert np.abs(np.asarray(turned, dtype=float) - expected).mean() < 3


def test_transparent_pixels_become_white_and_opaque_ones_stay(tmp_path: Path) -> None:
    image = Image.new("RGBA", (20, 20), (10, 20, 30, 255))
    image.paste((200, 0, 0, 0), (0, 0, 10, 20))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    repairs, made, extension = plain(tmp_path, "a.png", stream.getvalue())
    shown = opened(made)
    assert (repairs, extension, shown.mode) == (("alpha",), ".png", "RGB")
    assert (shown.getpixel((2, 2)), shown.getpixel((15, 2))) == ((255, 255, 255), (10, 20, 30))


@pytest.mark.parametrize(
    ("kind", "mode", "repair"),
    [
        ("PNG", "P", "palette"),
        ("PNG", "1", "unusual-mode"),
        ("PNG", "I;16", "unusual-mode"),
        ("JPEG", "CMYK", "unusual-mode"),
        ("BMP", "RGB", "unusual-format"),
        ("TIFF", "RGB", "unusual-format"),
    ],
)
def test_unusual_images_become_rgb(tmp_path: Path, kind: str, mode: str, repair: str) -> None:
    if mode == "I;16":
        stream = io.BytesIO()
        Image.fromarray(np.full((20, 20), 40000, dtype=np.uint16)).save(stream, kind)
        content = stream.getvalue()
    else:
        content = image(1, kind, mode)
    repairs, made, extension = plain(tmp_path, f"a.{kind.lower()}", content)
    assert repair in repairs
    assert opened(made).mode == "RGB"
    assert extension in (".jpg", ".png")
    if mode == "I;16":
        assert opened(made).getpixel((3, 3)) == (156, 156, 156)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "unreadable"),
        (b"not an image", "unreadable"),
        (image(1)[:700], "truncated"),
        (image(1, "PNG")[:400], "truncated"),
        (image(1, size=(9, 40)), "too-small"),
    ],
)
def test_unusable_files_have_a_cause(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    facts = examine(tmp_path, "a.jpg").facts
    assert (facts.cause, facts.width) == (cause, 0)
    assert facts.detail


@given(st.binary(max_size=300), st.integers(0, 900))
def test_no_content_makes_it_fail(tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int) -> None:
    folder = tmp_path_factory.mktemp("noise")
    for kind in ("JPEG", "PNG", "WEBP"):
        whole = image(3, kind)
        (folder / "a.jpg").write_bytes(whole[:place] + noise + whole[place + len(noise) :])
        facts = examine(folder, "a.jpg").facts
        assert bool(facts.cause) != bool(facts.width)


@pytest.mark.parametrize(
    "error", [RuntimeError, AttributeError, AssertionError, ZeroDivisionError, OverflowError, MemoryError, struct.error]
)
def test_any_error_of_a_decoder_refuses_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def load(_image: Image.Image) -> None:
        raise error("Failed to decode frame")

    (tmp_path / "a.png").write_bytes(image(1, "PNG"))
    monkeypatch.setattr(PngImageFile, "load", load)
    found = examine(tmp_path, "a.png")
    assert (found.facts.cause, found.facts.detail) == ("unreadable", "Failed to decode frame")
    assert found.image_hash is None
    assert isinstance(decode(image(1, "PNG")), Problem)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG", "PNG", "GIF", "TIFF", "BMP", "JPEG2000", "MPO", "PPM", "ICO"])
def test_no_bytes_stop_the_examination(kind: str) -> None:
    """Damage a sound image in 1 to 12 of its first 400 bytes, 300 times over."""
    if kind not in Image.SAVE and not Image.init() and kind not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (72, 96, 3), np.uint8)).save(stream, kind)
    sound = stream.getvalue()
    assert examine_bytes(sound, "a.png", "").facts.cause == ""
    random, causes = np.random.default_rng(1), set()
    for _ in range(300):
        damaged = bytearray(sound)
        for place in random.integers(0, min(len(damaged), 400), random.integers(1, 12)):
            damaged[place] = random.integers(0, 256)
        causes.add(examine_bytes(bytes(damaged), "a.png", "").facts.cause)
    assert causes - {""} and causes <= {"", "unreadable", "truncated", "too-large", "too-small"}
