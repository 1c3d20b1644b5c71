"""What visitors send: taken from the disk at once, refused where it is too large or no picture. Knows no page."""

from __future__ import annotations

import io
import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from facemask_train.ensemble.pictures import plain_rgb
from facemask_train.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken: megabytes of a file, megapixels of a picture or frame, seconds of a video (and of work on it)."""

    megabytes: int = 10
    megapixels: int = 40
    seconds: int = 60
    frames: int = 30


class Frame(NamedTuple):
    """A frame of a video (h, w, 3; RGB), and its time in seconds."""

    time: float
    picture: NDArray[Any]


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


# ---- pictures and videos ----


def read_picture(content: bytes, limits: Limits) -> NDArray[Any]:
    """Return a picture as displayed, (h, w, 3) RGB; its size is judged before it is decoded.

    Raises:
        DataError: it is too large, or no picture that can be read.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # the size is judged here, with the visitor's limit and in the visitor's words
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")) as image:
                _check_size(image.size, limits)
                return np.asarray(plain_rgb(ImageOps.exif_transpose(image)))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError("This file is no picture that can be read.") from error


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.megapixels * 1_000_000:
        raise DataError(
            f"This picture has {width:,} x {height:,} pixels ({width * height / 1e6:,.0f} megapixels). "
            f"At most {limits.megapixels} megapixels are taken: make it smaller."
        )


def read_video(path: Path, limits: Limits) -> Iterator[Frame]:
    """Yield frames at equal distances in time; later ones than `limits.seconds` are left out.

    Raises:
        DataError: its frames are too large, or it is no video that can be read.
    """
    import cv2

    video = cv2.VideoCapture(str(path))
    try:
        size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
        _check_size(size, limits)
        rate = video.get(cv2.CAP_PROP_FPS) or 25.0
        total = min(video.get(cv2.CAP_PROP_FRAME_COUNT), limits.seconds * rate)
        step = max(1, int(max(total, 1) / limits.frames), round(rate / 2))
        began, number, found = time.monotonic(), 0, 0
        while number <= limits.seconds * rate and found < limits.frames and time.monotonic() - began < limits.seconds:
            if not video.grab():
                break
            if number % step == 0:
                good, frame = video.retrieve()
                if good:
                    found += 1
                    yield Frame(number / rate, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            number += 1
        if not found:
            raise DataError("This file is no video that can be read.")
    finally:
        video.release()
