"""Find images and videos (files, folders, globs) and decode them into frames, oriented as displayed.

A file that cannot be read yields a `Problem` in its place. Files are decoded a little ahead in threads, while the model
works on earlier ones. Does not import torch, and writes nothing.
"""

from __future__ import annotations

import glob
import io
import itertools
import math
import os
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from facemask_train.core.errors import MissingError
from facemask_train.core.parallel import usable_cores
from facemask_train.dataset.loading.images import BROKEN, orientation_of, plain_rgb
from facemask_train.formats.media_types import (
    HEIC_HINT,
    HEIC_SUFFIXES,
    IMAGE_SUFFIXES,
    RAW_SUFFIXES,
    VIDEO_SUFFIXES,
    enable_heic,
    kind_of,
    suffix,
)
from facemask_train.formats.pairing import is_broken, list_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PilImage

MAX_PIXELS = 100_000_000
"""The largest image that is decoded: 300 MB of pixels. A few of them are in memory at the same time."""
_AHEAD = 2  # decoded images that wait, per thread
_EXIF_IFD, _DATE_TAKEN, _DATE_MODIFIED = 0x8769, 0x9003, 0x0132  # EXIF tags
_COMPLETE = 0.9  # a container's frame count is an estimate: a video with fewer frames than this share is truncated


@dataclass(frozen=True, slots=True)
class Source:
    """One image or video file. `name` is its path below the common folder of all files, and unique among them."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        return suffix(self.name) in VIDEO_SUFFIXES or kind_of(self.path) == "video"


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One image, or one frame of a video, oriented as displayed.

    Attributes:
        source: the file; an empty path for an image in memory.
        name: `Source.name` of the file.
        index: the frame's number in a video, from 0; 0 for an image.
        time: seconds from the start of the video; None for an image.
        taken: date and time from EXIF, in the camera's local time.
        pixels: (h, w, 3) uint8 RGB.
    """

    source: Path
    name: str
    index: int
    time: float | None
    taken: datetime | None
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that could not be read, or not to its end, and the reason."""

    path: Path
    reason: str


# ---- finding files ----


def find_sources(arguments: Sequence[str | Path]) -> tuple[Source, ...]:
    """Return every file that the arguments match, once, sorted by name.

    Args:
        arguments: files, folders (searched recursively, without hidden files), globs.

    Raises:
        MissingError: an argument matches no file, or there are no arguments.
    """
    found = {resolve(path): path for argument in arguments for path in _matches(argument)}
    if not found:
        raise MissingError("no images or videos were given", next_step="give files, folders or globs")
    paths = sorted(found)
    top = Path(os.path.commonpath([path.parent for path in paths]))
    sources = [Source(found[path], _printable(path.relative_to(top).as_posix())) for path in paths]
    return tuple(sorted(sources, key=lambda source: source.name))


def resolve(path: Path) -> Path:
    """Return a file's real path, by which duplicates are recognized; for a broken link, the link's own path."""
    return path.parent.resolve() / path.name if is_broken(path) else path.resolve()


def _matches(argument: str | Path) -> list[Path]:
    path = Path(argument)
    if not str(argument).strip():  # as a path it would be the current folder
        _no_files("''", "is not a file name")
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [path / file for file in list_files(path, broken=True) if _is_media(path / file)]
        return files or _no_files(argument, "no images or videos")
    globbed = sorted(glob.glob(str(argument), recursive=True))  # noqa: PTH207 - pathlib takes no absolute pattern
    paths = [path for match in globbed if _is_media(path := Path(match))]
    files = [path for path in paths if path.is_file() or is_broken(path)]
    return files or _no_files(argument, "no such file or folder, and no image or video matches it as a glob")


def _no_files(argument: str | Path, why: str) -> list[Path]:
    raise MissingError(
        f"{argument}: {why}", next_step="check the path; download web addresses and record streams to a file first"
    )


def _is_media(path: Path) -> bool:
    return suffix(path.name) in IMAGE_SUFFIXES | VIDEO_SUFFIXES or bool(kind_of(path))


def _printable(name: str) -> str:
    """Return a file's name as valid text: bytes that are not UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def output_names(sources: Iterable[Source]) -> dict[Path, str]:
    """Return a unique name without extension for each source's path, also for `a.jpg` beside `a.png`.

    Names that differ only in case count as equal, because some file systems treat them so.
    """
    listed = list(sources)
    stems = Counter(_stem(source.name).lower() for source in listed)
    taken = {stem for stem, count in stems.items() if count == 1}
    names: dict[Path, str] = {}
    for source in listed:
        stem = _stem(source.name)
        name = stem if stems[stem.lower()] == 1 else _unused(f"{stem}-{suffix(source.name).lstrip('.')}", taken)
        taken.add(name.lower())
        names[source.path] = name
    return names


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _unused(name: str, taken: set[str]) -> str:
    choices = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(choice for choice in choices if choice.lower() not in taken)


# ---- decoding ----


def frames(
    sources: Iterable[Source], *, frame_interval: float | None = None, workers: int = 0, max_pixels: int = MAX_PIXELS
) -> Iterator[Frame | Problem]:
    """Yield the frames of the sources in order, and a `Problem` in place of what cannot be read.

    Args:
        frame_interval: seconds between the frames that are read from a video; every frame if it is None.
        workers: decoding threads; 0 means one per core, up to 8.
        max_pixels: larger images are not decoded.
    """
    threads = workers or min(usable_cores(), 8)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for is_video, group in itertools.groupby(sources, key=lambda source: source.is_video):
            if is_video:
                for source in group:
                    yield from _prefetch_one(pool, _video_frames(source, frame_interval, max_pixels))
            else:
                coming = (pool.submit(_read_image, source, max_pixels) for source in group)
                yield from _prefetch(coming, _AHEAD * threads)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prefetch(coming: Iterable[Future[Frame | Problem]], count: int) -> Iterator[Frame | Problem]:
    """Yield the results in order, and keep up to `count` more in progress."""
    waiting: deque[Future[Frame | Problem]] = deque()
    for future in coming:
        waiting.append(future)
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _prefetch_one(pool: ThreadPoolExecutor, found: Iterator[Frame | Problem]) -> Iterator[Frame | Problem]:
    """Yield an iterator's items while a thread computes the next one."""
    coming = pool.submit(next, found, None)
    while (one := coming.result()) is not None:
        coming = pool.submit(next, found, None)
        yield one


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Frame | Problem:
    """Decode an image from bytes. The frame's `source` is an empty path."""
    try:
        return _decode_stream(Source(Path(), ""), io.BytesIO(content), max_pixels)
    except (*BROKEN, MemoryError) as error:
        return Problem(Path(), _reason(error))


def _read_image(source: Source, max_pixels: int) -> Frame | Problem:
    if suffix(source.name) in RAW_SUFFIXES:
        return Problem(source.path, f"{suffix(source.name)} is not supported; save it as JPEG or PNG")
    if suffix(source.name) in HEIC_SUFFIXES and not enable_heic():
        return Problem(source.path, HEIC_HINT)
    try:
        with source.path.open("rb") as stream:
            return _decode_stream(source, stream, max_pixels)
    except (*BROKEN, MemoryError) as error:
        return Problem(source.path, _reason(error))


def _decode_stream(source: Source, stream: Any, max_pixels: int) -> Frame | Problem:
    from PIL import Image

    # The limit below replaces Pillow's own, which would print a warning at half that size, and refuse twice that size.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    enable_heic()
    try:
        image = Image.open(stream)
    except Image.DecompressionBombError as error:
        return Problem(source.path, f"too large: {error}")
    with image:
        width, height = image.size
        if width * height > max_pixels:
            return Problem(source.path, f"too large: {width} x {height} px, {_limit(max_pixels)}")
        image.load()
        return Frame(source.path, source.name, 0, None, _date_taken(image), upright_rgb(image))


def _limit(max_pixels: int) -> str:
    return f"more than {max_pixels:,} in all (--max-pixels)"


def upright_rgb(image: PilImage) -> NDArray[np.uint8]:
    """Return a PIL image as displayed (EXIF orientation applied), as an (h, w, 3) RGB array."""
    import numpy as np
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
    return np.asarray(upright if upright.mode == "RGB" else plain_rgb(upright))


def _reason(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)  # without a path of this machine
    if "cannot identify" in text:
        return "not an image, or not in a supported format"
    if "truncated" in text.lower():
        return "truncated"
    return text.split("<_io.", maxsplit=1)[0].strip() or type(error).__name__


def _date_taken(image: PilImage) -> datetime | None:
    """Return an image's EXIF date, None if there is none. A camera whose clock was never set writes 0000:00:00."""
    try:
        exif = image.getexif()
        text = exif.get_ifd(_EXIF_IFD).get(_DATE_TAKEN) or exif.get(_DATE_MODIFIED)
        return datetime.strptime(str(text).strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S")
    except BROKEN:
        return None


def open_video(path: Path) -> Any:
    """Return OpenCV's reader of a video, with its messages off. It may not be opened; the caller releases it."""
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # else it prints to the terminal
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)  # in `12:30.mp4`, `12:` would be a protocol


def frame_rate(path: Path) -> float:
    """Return a video's frames per second; 25 where it does not say."""
    import cv2

    capture = open_video(path)
    try:
        return _valid_rate(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()


def _video_frames(source: Source, frame_interval: float | None, max_pixels: int) -> Iterator[Frame | Problem]:
    import cv2

    capture = open_video(source.path)
    try:
        width, height = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not capture.isOpened():
            yield Problem(source.path, "not a video, truncated, or not in a supported format")
        elif width * height > max_pixels:
            yield Problem(source.path, f"too large: {width:.0f} x {height:.0f} px, {_limit(max_pixels)}")
        else:
            yield from _sampled_frames(source, capture, frame_interval)
    finally:
        capture.release()


def _sampled_frames(source: Source, capture: Any, frame_interval: float | None) -> Iterator[Frame | Problem]:
    """Yield the frames of an open video: all, or the first one at or after each multiple of `frame_interval`."""
    import cv2

    expected, rate = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    index, due = 0, 0
    while capture.grab():
        time = _frame_time(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, index, rate)
        if frame_interval is None or time >= due * frame_interval - 1e-6:
            read, pixels = capture.retrieve()
            if read:
                yield Frame(source.path, source.name, index, time, None, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            due = due if frame_interval is None else math.floor((time + 1e-6) / frame_interval) + 1
        index += 1
    if not index:
        yield Problem(source.path, "no frame can be read")
    elif index < _COMPLETE * expected:
        yield Problem(source.path, f"ends after {index:,} of {expected:,.0f} frames; the frames before that are used")


def _frame_time(stamp: float, index: int, rate: float) -> float:
    """Return a frame's time in seconds: the container's own, or else the index divided by the rate."""
    return round(index / _valid_rate(rate), 6) if stamp <= 0 and index else max(round(stamp, 6), 0.0)


def _valid_rate(rate: float) -> float:
    return rate if 0 < rate < 1000 else 25.0
