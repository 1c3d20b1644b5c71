"""Reading images and videos as frames: in order, upright, with unique names, and despite broken files."""

from __future__ import annotations

import itertools
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facemask_train.apps import media
from facemask_train.apps.media import Frame, Problem, Source, find_sources, frames, output_names
from facemask_train.core.errors import MissingError
from helpers.untrained import scene


def image(width: int = 8, height: int = 6) -> Image.Image:
    """Return an image that is red at its left half and blue at its right."""
    image = Image.new("RGB", (width, height), "blue")
    image.paste((255, 0, 0), (0, 0, width // 2, height))
    return image


def video(path: Path, *, seconds: float, rate: int = 10, codec: str = "mp4v") -> Path:
    """Write a video whose frames grow brighter: frame i is of brightness 5 * i (as MJPG, images with detail)."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (64, 48))
    for index in range(round(seconds * rate)):
        frame = np.full((48, 64, 3), 5 * index, np.uint8)
        writer.write(scene(index, 48, 64) if codec == "MJPG" else frame)
    writer.release()
    return path


def read(path: Path) -> Frame:
    """Return the one frame of an image."""
    (one,) = frames(find_sources([path]))
    assert isinstance(one, Frame), one
    return one


# ---- which files ----


def test_files_folders_and_globs_are_found_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/10.PNG", "a/1.jpg", "a/.hidden.jpg", "a/notes.txt", "c/clip.MP4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["a/1.jpg", "b/10.PNG", "b/2.jpg", "c/clip.MP4"]
    assert [one.name for one in find_sources([tmp_path])] == names
    arguments = [str(tmp_path / "c"), tmp_path / "b", str(tmp_path / "?" / "*.jpg"), tmp_path / "a/1.jpg"]
    assert [one.name for one in find_sources(arguments)] == names
    assert [one.is_video for one in find_sources(arguments)] == [False, False, False, True]


def test_broken_links_are_reported_and_loops_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    Image.new("RGB", (2, 2)).save(folder / "a.png")
    for name, target in (("b.png", "b.png"), ("c.mp4", "gone.mp4"), ("again", "."), ("d.txt", "gone"), ("e", "e")):
        (folder / name).symlink_to(target)
    (folder / "f.jpg").mkdir()
    for arguments in (folder, folder / "*"):
        sources = find_sources([arguments])
        assert [one.name for one in sources] == ["a.png", "b.png", "c.mp4"]
        shown = list(frames(sources))
        assert [type(one) for one in shown] == [Frame, Problem, Problem]
        assert str(tmp_path) not in "".join(one.reason for one in shown if isinstance(one, Problem))


@pytest.mark.parametrize("argument", ["", " "])
def test_an_empty_path_is_not_the_current_folder(argument: str) -> None:
    with pytest.raises(MissingError, match="is not a file name"):
        find_sources([argument])


def test_one_file_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "one [1].jpg").touch()  # as a glob it would name another file
    assert [one.name for one in find_sources([tmp_path / "one [1].jpg"])] == ["one [1].jpg"]


@pytest.mark.parametrize("argument", ["absent.jpg", "*.jpg", "empty", "rtsp:"])
def test_an_argument_that_matches_nothing_is_an_error(argument: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(MissingError, match=argument.replace("*", r"\*")):
        find_sources([tmp_path / argument])


def test_equal_stems_get_different_names() -> None:
    names = ["a/1.jpg", "a/1.png", "a/1-png.jpg", "b/1.jpg", "B/1.jpg"]
    made = output_names([Source(Path(name), name) for name in names])
    assert made == {
        Path("a/1.jpg"): "a/1-jpg",
        Path("a/1.png"): "a/1-png-2",
        Path("a/1-png.jpg"): "a/1-png",
        Path("b/1.jpg"): "b/1-jpg",
        Path("B/1.jpg"): "B/1-jpg-2",
    }


def test_files_without_a_telling_name_are_known_by_their_bytes(tmp_path: Path) -> None:
    image().save(tmp_path / "DSC0001", "JPEG")
    image().save(tmp_path / "b.download", "PNG")
    video(tmp_path / "c.mp4", seconds=0.3).rename(tmp_path / "c.part")
    (tmp_path / "d.bin").write_bytes(b"\0\1")
    (tmp_path / "e.ts").write_text("const a = 1;")
    sources = find_sources([tmp_path])
    assert [(one.name, one.is_video) for one in sources] == [
        ("DSC0001", False),
        ("b.download", False),
        ("c.part", True),
    ]
    assert [type(one) for one in frames(sources)] == [Frame] * 5


def test_a_colon_in_the_name_of_a_video_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video(tmp_path / "a.mp4", seconds=0.3).rename(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert [type(one) for one in frames(find_sources(["12:30.mp4"]))] == [Frame] * 3


def test_a_heic_file_is_told_with_the_package_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.setattr(media, "enable_heic", lambda: False)
    (problem,) = frames(find_sources([tmp_path]))
    assert isinstance(problem, Problem)
    assert "pillow-heif" in problem.reason


@pytest.mark.parametrize(("limit", "kind"), [(48, Frame), (47, Problem)])
def test_the_largest_image_that_is_read_can_be_set(tmp_path: Path, limit: int, kind: type) -> None:
    image().save(tmp_path / "a.png")
    (one,) = frames(find_sources([tmp_path]), max_pixels=limit)
    assert isinstance(one, kind)


@given(st.sets(st.from_regex(r"[aA]/[1-]{1,3}\.(jpg|png|mp4)", fullmatch=True)))
def test_no_two_sources_get_the_same_name(names: set[str]) -> None:
    made = output_names([Source(Path(name), name) for name in sorted(names)])
    assert len({name.lower() for name in made.values()}) == len(names)


# ---- images ----


def test_exif_gives_orientation_and_time(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: what is stored as left is the top
    exif.get_ifd(0x8769)[0x9003] = "2021:03:04 05:06:07"
    image().save(tmp_path / "turned.png", exif=exif)
    one = read(tmp_path / "turned.png")
    assert one.pixels.shape == (8, 6, 3)
    assert one.pixels[0, 0].tolist() == [255, 0, 0]
    assert one.pixels[-1, 0].tolist() == [0, 0, 255]
    assert (one.taken, one.time, one.index) == (datetime(2021, 3, 4, 5, 6, 7), None, 0)


def test_the_time_of_an_unset_clock_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0132] = "0000:00:00 00:00:00"
    image().save(tmp_path / "a.png", exif=exif)
    assert read(tmp_path / "a.png").taken is None


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    image().convert(mode).save(tmp_path / "a.tif")
    one = read(tmp_path / "a.tif")
    assert (one.pixels.shape, one.pixels.dtype) == ((6, 8, 3), np.uint8)
    assert one.pixels[0, 0].tolist() != one.pixels[0, -1].tolist()


def test_sixteen_bits_keep_their_upper_eight_and_transparent_pixels_become_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert read(tmp_path / "deep.png").pixels[0, :, 0].tolist() == [0, 128, 255]
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read(tmp_path / "clear.png").pixels.min() == 255


def test_an_animation_gives_its_first_image(tmp_path: Path) -> None:
    image().save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (8, 6), "green")])
    assert read(tmp_path / "a.gif").pixels[0, 0].tolist() == [255, 0, 0]


def test_unreadable_files_are_reported_in_order_and_skipped(tmp_path: Path) -> None:
    image(80, 60).save(tmp_path / "a.jpg")
    (tmp_path / "b-cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:600])
    (tmp_path / "c-empty.jpg").touch()
    (tmp_path / "d-text.png").write_text("no image")
    (tmp_path / "e.dng").write_bytes((tmp_path / "a.jpg").read_bytes())  # what is found in it is a preview
    Image.new("1", (11_000, 10_000)).save(tmp_path / "f-large.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "g-bomb.png")
    (tmp_path / "h.mp4").write_bytes(b"\0" * 100)
    image().save(tmp_path / "i.png")
    found = list(frames(find_sources([tmp_path])))
    assert [one.name for one in found if isinstance(one, Frame)] == ["a.jpg", "i.png"]
    assert isinstance(found[0], Frame)
    assert isinstance(found[-1], Frame)
    assert [(one.path.name, one.reason) for one in found if isinstance(one, Problem)] == [
        ("b-cut.jpg", "truncated"),
        ("c-empty.jpg", "not an image, or not in a supported format"),
        ("d-text.png", "not an image, or not in a supported format"),
        ("e.dng", ".dng is not supported; save it as JPEG or PNG"),
        ("f-large.png", "too large: 11000 x 10000 px, more than 100,000,000 in all (--max-pixels)"),
        ("g-bomb.png", found[6].reason if isinstance(found[6], Problem) else ""),
        ("h.mp4", "not a video, truncated, or not in a supported format"),
    ]
    assert isinstance(found[6], Problem)
    assert "too large" in found[6].reason


def test_a_file_deleted_meanwhile_is_reported_by_its_relative_path(tmp_path: Path) -> None:
    image().save(tmp_path / "a.png")
    sources = find_sources([tmp_path])
    (tmp_path / "a.png").unlink()
    assert list(frames(sources)) == [Problem(tmp_path / "a.png", "No such file or directory")]


@pytest.mark.parametrize("workers", [1, 4])
def test_the_order_does_not_depend_on_threads(workers: int, tmp_path: Path) -> None:
    for index in range(30):
        image(8 if index % 2 else 800, 6 if index % 2 else 600).save(tmp_path / f"{index:02d}.png")
    found = list(frames(find_sources([tmp_path]), workers=workers))
    assert [one.name for one in found if isinstance(one, Frame)] == [f"{index:02d}.png" for index in range(30)]


def test_few_files_are_read_ahead_and_reading_stops_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[str] = []
    stock = media._read_image
    monkeypatch.setattr(
        media, "_read_image", lambda source, limit: (began.append(source.name), stock(source, limit))[1]
    )
    for index in range(50):
        image().save(tmp_path / f"{index:02d}.png")
    running = frames(find_sources([tmp_path]), workers=2)
    assert len(list(itertools.islice(running, 3))) == 3
    assert len(began) <= 3 + 2 * 2 + 1
    running.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


# ---- videos ----


def test_a_video_gives_each_frame_with_its_time(tmp_path: Path) -> None:
    found = list(frames(find_sources([video(tmp_path / "a.mp4", seconds=1.5)])))
    assert all(isinstance(one, Frame) for one in found)
    shown = [one for one in found if isinstance(one, Frame)]
    assert [(one.index, one.time) for one in shown] == [(index, pytest.approx(index / 10)) for index in range(15)]
    assert [abs(int(one.pixels.mean()) - 5 * one.index) <= 6 for one in shown] == [True] * 15
    assert media.frame_rate(tmp_path / "a.mp4") == pytest.approx(10)


@pytest.mark.parametrize(("every", "taken"), [(0.5, [0, 5, 10]), (0.4, [0, 4, 8, 12]), (0.05, [*range(15)]), (9, [0])])
def test_a_video_is_sampled_at_intervals(every: float, taken: list[int], tmp_path: Path) -> None:
    found = frames(find_sources([video(tmp_path / "a.mp4", seconds=1.5)]), frame_interval=every)
    assert [one.index for one in found if isinstance(one, Frame)] == taken


def test_a_truncated_video_keeps_its_readable_frames(tmp_path: Path) -> None:
    whole = video(tmp_path / "a.avi", seconds=3, codec="MJPG").read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    *shown, last = frames(find_sources([tmp_path / "a.avi"]))
    assert len(shown) > 5
    assert all(isinstance(one, Frame) for one in shown)
    assert isinstance(last, Problem)
    assert last.reason == f"ends after {len(shown)} of 30 frames; the frames before that are used"


def test_a_video_among_images_keeps_its_order(tmp_path: Path) -> None:
    image().save(tmp_path / "a.png")
    video(tmp_path / "b.mp4", seconds=0.2)
    image().save(tmp_path / "c.png")
    found = frames(find_sources([tmp_path]))
    assert [one.name for one in found if isinstance(one, Frame)] == ["a.png", "b.mp4", "b.mp4", "c.png"]
