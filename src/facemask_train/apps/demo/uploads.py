"""What visitors send: taken from the disk at once, refused where it is too large or no image. Knows no page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from facemask_train.apps import media
from facemask_train.core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken: megabytes of a file, megapixels of an image or frame, seconds of a video (and of work on it)."""

    megabytes: int = 10
    megapixels: int = 40
    seconds: int = 60
    frames: int = 30

    @property
    def pixels(self) -> int:
        return self.megapixels * 1_000_000


class Frame(NamedTuple):
    """A frame of a video (h, w, 3; RGB), and its time in seconds."""

    time: float
    image: NDArray[Any]


# ---- from the disk ----


def inside(folder: Path, path: str | None) -> Path:
    """Return where an upload lies.

    Raises:
        DataError: there is none, or it lies elsewhere (a request that no page of ours makes).
    """
    if not path or not Path(path).resolve().is_relative_to(folder.resolve()):
        raise DataError("No file came with this. Choose one.")
    return Path(path)


def take(path: Path) -> bytes:
    """Return an upload's content, and leave nothing of it on the disk.

    Raises:
        DataError: it is gone.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError("What you sent is no longer here. Send it again.") from error
    finally:
        discard(path)


def discard(path: Path) -> None:
    """Remove an upload, and the folder that was made for it."""
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:  # somebody else's upload of the same content is in it
        return


def discard_inside(folder: Path, path: str | None) -> None:
    """Remove an upload, if it is one."""
    try:
        discard(inside(folder, path))
    except DataError:
        return


def sweep(folder: Path, age: float) -> None:
    """Remove files that have lain in the folder for longer than `age` seconds: uploads that nobody asked about."""
    oldest = time.time() - age
    for path in sorted(folder.rglob("*"), reverse=True):
        try:
            if path.is_dir():
                path.rmdir()
            elif path.lstat().st_mtime < oldest:
                path.unlink()
        except OSError:  # gone in the meantime, or not empty
            continue


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


# ---- images and videos ----


def read_image(content: bytes, limits: Limits) -> NDArray[Any]:
    """Return an image as displayed, (h, w, 3) RGB; its size is judged before it is decoded.

    Raises:
        DataError: it is too large, or no image that can be read.
    """
    found = media.decode(content, max_pixels=limits.pixels)
    if isinstance(found, media.Problem):
        raise _refusal("image", found)
    return found.pixels


def read_video(path: Path, limits: Limits) -> Iterator[Frame]:
    """Yield frames at equal distances in time; later ones than `limits.seconds` are left out.

    Raises:
        DataError: its frames are too large, or it is no video that can be read.
    """
    source = media.Source(path, f"video{path.suffix if path.suffix.lower() in media.VIDEO_SUFFIXES else '.mp4'}")
    began = time.monotonic()
    for number, frame in enumerate(
        media.frames([source], frame_interval=_distance(path, limits), max_pixels=limits.pixels)
    ):
        if isinstance(frame, media.Problem):
            if not number:
                raise _refusal("video", frame)
            return  # what was read before it broke off counts
        at = frame.time or 0.0
        if number == limits.frames or at > limits.seconds or time.monotonic() - began > limits.seconds:
            return
        yield Frame(at, frame.pixels)


def _distance(path: Path, limits: Limits) -> float:
    """Return the seconds between frames, half a second or more, so that as many as are taken reach the end."""
    import cv2

    video = media.open_video(path)
    try:
        rate, count = (video.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()
    length = count / rate if rate > 0 and count > 0 else limits.seconds
    return max(0.5, min(length, limits.seconds) / limits.frames)


def _refusal(what: str, found: media.Problem) -> DataError:
    return DataError(f"This {what} was not taken: {found.reason}.")
