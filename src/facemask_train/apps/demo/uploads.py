"""Read what visitors upload, delete it at once, and refuse what is too large or not an image."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from facemask_train.apps import media
from facemask_train.core.errors import DataError
from facemask_train.formats.media_types import VIDEO_SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Limits:
    """What is accepted.

    Attributes:
        megabytes: of a file.
        megapixels: of an image or video frame.
        seconds: of a video, and of the work on it.
        frames: of a video.
        waiting_megabytes: of all uploads that wait to be processed.
    """

    megabytes: int = 10
    megapixels: int = 40
    seconds: int = 60
    frames: int = 30
    waiting_megabytes: int = 500

    @property
    def pixels(self) -> int:
        return self.megapixels * 1_000_000


class Frame(NamedTuple):
    """A frame of a video, (h, w, 3) uint8 RGB, and its time in seconds."""

    time: float
    image: NDArray[np.uint8]


# ---- files ----


def inside(folder: Path, path: str | None) -> Path:
    """Return an upload's path.

    Raises:
        DataError: there is none, or it is outside the folder (which only a forged request can ask for).
    """
    if not path or not Path(path).resolve().is_relative_to(folder.resolve()):
        raise DataError("No file was sent. Choose one.")
    return Path(path)


def take(path: Path) -> bytes:
    """Return an upload's content, and delete the file.

    Raises:
        DataError: the file does not exist any more.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError("The file you sent has been deleted. Send it again.") from error
    finally:
        discard(path)


def discard(path: Path) -> None:
    """Remove an upload, and its folder."""
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:  # it contains an equal upload of another visitor
        return


def discard_inside(folder: Path, path: str | None) -> None:
    """Remove a file if it is an upload."""
    try:
        discard(inside(folder, path))
    except DataError:
        return


def sweep(folder: Path, age: float) -> None:
    """Remove files that are older than `age` seconds: uploads that were never processed."""
    oldest = time.time() - age
    for path in sorted(folder.rglob("*"), reverse=True):
        try:
            if path.is_dir():
                path.rmdir()
            elif path.lstat().st_mtime < oldest:
                path.unlink()
        except OSError:  # removed in the meantime, or not empty
            continue


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


# ---- images and videos ----


def read_image(content: bytes, limits: Limits) -> NDArray[np.uint8]:
    """Return an image as displayed, (h, w, 3) uint8 RGB. Its size is checked before it is decoded.

    Raises:
        DataError: it is too large, or cannot be read as an image.
    """
    found = media.decode(content, max_pixels=limits.pixels)
    if isinstance(found, media.Problem):
        raise _refusal("image", found)
    return found.pixels


def read_video(path: Path, limits: Limits) -> Iterator[Frame]:
    """Yield frames at equal intervals, up to `limits.seconds`.

    Raises:
        DataError: its frames are too large, or it cannot be read as a video.
    """
    source = media.Source(path, f"video{path.suffix if path.suffix.lower() in VIDEO_SUFFIXES else '.mp4'}")
    began = time.monotonic()
    for number, frame in enumerate(
        media.frames([source], frame_interval=_interval(path, limits), max_pixels=limits.pixels)
    ):
        if isinstance(frame, media.Problem):
            if not number:
                raise _refusal("video", frame)
            return  # the frames before that are used
        at = frame.time or 0.0
        if number == limits.frames or at > limits.seconds or time.monotonic() - began > limits.seconds:
            return
        yield Frame(at, frame.pixels)


def _interval(path: Path, limits: Limits) -> float:
    """Return the seconds between frames, at least 0.5, at which the allowed number of frames covers the video."""
    import cv2

    video = media.open_video(path)
    try:
        rate, count = (video.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()
    length = count / rate if rate > 0 and count > 0 else limits.seconds
    return max(0.5, min(length, limits.seconds) / limits.frames)


def _refusal(what: str, found: media.Problem) -> DataError:
    return DataError(f"This {what} was not accepted: {found.reason}.")
