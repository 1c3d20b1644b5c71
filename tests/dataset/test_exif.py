"""Images with an EXIF orientation: what says whether their labels were drawn as displayed or as stored."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from facemask_train.core.config import ExifSetting
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import Corners, PublishedImage, PublishedRow, SourceReading
from facemask_train.dataset.build import build
from facemask_train.dataset.contents import EnsembleImage, read_contents
from facemask_train.dataset.loading.exif import read_oriented, upright
from facemask_train.dataset.loading.images import ImageFacts
from facemask_train.formats import Sizes
from facemask_train.sources.fetch import fetch
from helpers.worlds import image, make_root, write

STORED, DISPLAYED = (200, 100), (100, 200)


def facts(path: str, orientation: int = 6) -> ImageFacts:
    width, height = DISPLAYED if orientation >= 5 else STORED
    return ImageFacts(path, "00", width, height, STORED, orientation, ".jpg", ("exif-orientation",))


def published(path: str, corners: Corners, declared: tuple[int, int] | None = None) -> PublishedImage:
    return PublishedImage(path, (PublishedRow(f"{path}.xml", 1, "mask", corners),), declared=declared)


def drawn(
    *images: PublishedImage, setting: ExifSetting = "auto", orientation: int = 6, relative: bool = False
) -> dict[str, str]:
    """Return what the labels of each image were drawn on; labels in pixels, or as fractions of the image."""

    def read(sizes: Sizes) -> SourceReading:
        if not relative:
            return SourceReading(images)
        return SourceReading(
            tuple(
                published(one.path, (0.1 * sizes[one.path][0], 0.1, 0.9 * sizes[one.path][0], 0.9 * sizes[one.path][1]))
                for one in images
            )
        )

    found = read_oriented(read, {one.path: facts(one.path, orientation) for one in images}, setting)
    return {
        one.path: "stored" if one.path in found.stored else "?" if one.path in found.unsettled else "displayed"
        for one in images
    }


FITS_BOTH, FITS_STORED, FITS_DISPLAYED = (5, 5, 50, 50), (120, 20, 190, 90), (20, 120, 90, 190)


@pytest.mark.parametrize(
    ("box", "declared", "expected"),
    [
        (FITS_BOTH, STORED, "stored"),
        (FITS_BOTH, DISPLAYED, "displayed"),
        (FITS_BOTH, None, "?"),
        (FITS_STORED, None, "stored"),
        (FITS_DISPLAYED, None, "displayed"),
        ((120, 120, 190, 190), None, "?"),  # fits neither
        (FITS_STORED, (7, 7), "stored"),  # a size of something else says nothing; the image is refused later
        ((1, 1, 101.5, 99), None, "?"),  # past the edge by no more than boxes often are
    ],
)
def test_the_stated_size_and_the_extent_of_the_boxes_settle_it(
    box: Corners, declared: tuple[int, int] | None, expected: str
) -> None:
    assert drawn(published("a", box, declared)) == {"a": expected}


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_an_orientation_that_keeps_the_sides_leaves_no_evidence(orientation: int) -> None:
    assert drawn(published("a", FITS_BOTH, STORED), orientation=orientation) == {"a": "?"}


def test_fractions_leave_no_evidence() -> None:
    assert drawn(published("a", FITS_BOTH), published("b", FITS_BOTH), relative=True) == {"a": "?", "b": "?"}


def test_the_other_images_of_a_source_follow_evidence_that_agrees() -> None:
    said = published("a", FITS_STORED), published("b", FITS_BOTH, STORED)
    assert drawn(*said, published("c", FITS_BOTH)) == dict.fromkeys("abc", "stored")
    assert drawn(said[0], published("c", FITS_BOTH)) == {"a": "stored", "c": "?"}  # one alone may be a slip
    against = published("d", FITS_DISPLAYED)
    assert drawn(*said, against, published("c", FITS_BOTH)) == {
        "a": "stored",
        "b": "stored",
        "d": "displayed",
        "c": "?",
    }


def test_the_setting_of_the_source_decides() -> None:
    images = published("a", FITS_BOTH), published("b", FITS_DISPLAYED, DISPLAYED)
    assert drawn(*images, setting="ignore") == {"a": "stored", "b": "stored"}
    assert drawn(*images, setting="apply") == {"a": "displayed", "b": "displayed"}


def test_images_without_boxes_are_not_asked_about() -> None:
    assert drawn(PublishedImage("a")) == {"a": "displayed"}


@pytest.mark.parametrize(
    ("orientation", "transpose"),
    [
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_270),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_90),
    ],
)
def test_a_box_turns_as_its_pixels_do(orientation: int, transpose: Image.Transpose) -> None:
    stored = Image.new("L", STORED)
    stored.paste(255, (10, 20, 40, 60))
    assert upright((10, 20, 40, 60), facts("a", orientation)) == stored.transpose(transpose).getbbox()


def turned(seed: int) -> bytes:
    """Return a JPEG of 64 x 96 px that is stored as 96 x 64."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.open(io.BytesIO(image(seed))).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def shown(one: EnsembleImage) -> tuple[float, ...]:
    return tuple(round(side, 3) for side in one.labels[0].box.corners)


def test_a_build_tells_of_both_readings_and_follows_the_setting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_root(tmp_path, images=4, recipe={"sources": ["second"], "split": {"train": 1, "val": 0, "test": 0}})
    write(root / "own/second", {f"pics/b {index}.jpg": turned(index) for index in range(4)})
    write(root / "own/second", {f"pics/b {index}.txt": "1 0.25 0.5 0.2 0.4\n" for index in range(4)})
    fetch(root, ["second"])
    built = build(root, "tiny", pool=WorkerPool(workers=1))
    sentence = next(note for note in built.card.notes if "EXIF" in note)
    assert sentence.startswith("second: 4 labeled images have an EXIF orientation, and nothing says")
    assert "exif: apply" in caplog.text
    assert (root / "data/class-maps/second-exif.jpg").is_file()
    assert {shown(one) for one in read_contents(root, "tiny").images} == {(9.6, 28.8, 22.4, 67.2)}

    sources = root / "configs/sources.yaml"
    sources.write_text(sources.read_text().replace("  second:\n", "  second:\n    exif: ignore\n"))
    caplog.clear()
    built = build(root, "tiny", pool=WorkerPool(workers=1))
    assert not built.up_to_date
    assert "EXIF" not in " ".join(built.card.notes) + caplog.text
    assert {shown(one) for one in read_contents(root, "tiny").images} == {(19.2, 14.4, 44.8, 33.6)}
