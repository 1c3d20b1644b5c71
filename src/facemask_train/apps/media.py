"""What a person has (images, folders, globs, videos) to frames: pixels as displayed, one after another.

What cannot be read is a `Problem`, told in its place and passed over. Files are read a little ahead, in threads, so
that they decode while a model works on those before. Knows no model, and writes nothing.
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
from facemask_train.formats.pairing import IMAGE_SUFFIXES, is_broken, list_files, suffix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".mts"))
MAX_PIXELS = 100_000_000
"""The largest image that is decoded: 300 MB as pixels. A few of them are held at once."""
_UNREADABLE = frozenset((".heic", ".heif", ".jxl", ".dng", ".cr2", ".nef", ".arw"))  # images all the same
_AHEAD = 2  # images that wait decoded, for each thread
_CAMERA, _TAKEN, _CHANGED = 0x8769, 0x9003, 0x0132  # EXIF: the camera's own block; when it was taken; when changed
_FEWER = 0.9  # a container's count of frames is an estimate: less than this share of it is a cut video


@dataclass(frozen=True, slots=True)
class Source:
    """One file. `name` tells it from all others of the same call: its path below the folder that holds them all."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        return suffix(self.name) in VIDEO_SUFFIXES


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One image, or one frame of a video, upright.

    Attributes:
        source: the file.
        name: the source's own name (`Source.name`).
        index: 0 for an image; the number of the frame in a video, from 0.
        time: seconds from the start of the video, None for an image.
        taken: when the camera says that it was taken, in the camera's own local time.
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
    """A file that could not be read, or not to its end, and why."""

    path: Path
    why: str


# ---- which files ----


def find_sources(arguments: Sequence[str | Path]) -> tuple[Source, ...]:
    """Return every file that the arguments name, once, sorted by name.

    Args:
        arguments: files, folders (searched to the bottom; hidden files are left out), globs.

    Raises:
        MissingError: an argument names no file, or no arguments.
    """
    found = {place(path): path for argument in arguments for path in _named(argument)}
    if not found:
        raise MissingError("no images or videos were named", next_step="name files, folders or globs")
    paths = sorted(found)
    top = Path(os.path.commonpath([path.parent for path in paths]))
    sources = [Source(found[path], _text(path.relative_to(top).as_posix())) for path in paths]
    return tuple(sorted(sources, key=lambda source: source.name))


def place(path: Path) -> Path:
    """Return where a file is, by which it is one and the same; a link that leads nowhere is where it stands."""
    return path.parent.resolve() / path.name if is_broken(path) else path.resolve()


def _named(argument: str | Path) -> list[Path]:
    path = Path(argument)
    if not str(argument).strip():  # as a path it would be the current folder
        _none("''", "names no file")
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [path / file for file in list_files(path, broken=True) if _is_media(file)]
        return files or _none(argument, "no images or videos")
    matches = sorted(glob.glob(str(argument), recursive=True))  # noqa: PTH207 - pathlib takes no absolute pattern
    paths = [path for match in matches if _is_media((path := Path(match)).name)]
    files = [path for path in paths if path.is_file() or is_broken(path)]
    return files or _none(argument, "no such file or folder, and as a glob it names no images or videos")


def _none(argument: str | Path, why: str) -> list[Path]:
    raise MissingError(
        f"{argument}: {why}", next_step="check the path; streams and web addresses have to be saved as a file first"
    )


def _is_media(file: str) -> bool:
    return suffix(file) in IMAGE_SUFFIXES | VIDEO_SUFFIXES | _UNREADABLE | {".avif"}


def _text(name: str) -> str:
    """Return a file's name as text that can be written: a name may hold bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def output_names(sources: Iterable[Source]) -> dict[Path, str]:
    """Return for each source's path a name without extension that no other has: `a.jpg` and `a.png` give two.

    Names that differ in capitals alone are taken for equal, as some file systems do.
    """
    listed = list(sources)
    stems = Counter(_stem(source.name).lower() for source in listed)
    taken = {stem for stem, count in stems.items() if count == 1}
    names: dict[Path, str] = {}
    for source in listed:
        stem = _stem(source.name)
        name = stem if stems[stem.lower()] == 1 else _free(f"{stem}-{suffix(source.name).lstrip('.')}", taken)
        taken.add(name.lower())
        names[source.path] = name
    return names


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _free(name: str, taken: set[str]) -> str:
    choices = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(choice for choice in choices if choice.lower() not in taken)


# ---- their pixels ----


def frames(
    sources: Iterable[Source], *, frame_interval: float | None = None, workers: int = 0, max_pixels: int = MAX_PIXELS
) -> Iterator[Frame | Problem]:
    """Yield what the sources show, in their order, and in its place what could not be read.

    Args:
        frame_interval: seconds between the frames that are taken of a video; each frame where it is None.
        workers: threads that decode; 0: one for each core.
        max_pixels: a larger image is not decoded.
    """
    threads = workers or min(usable_cores(), 8)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for is_video, group in itertools.groupby(sources, key=lambda source: source.is_video):
            if is_video:
                for source in group:
                    yield from _one_ahead(pool, _video(source, frame_interval, max_pixels))
            else:
                coming = (pool.submit(_image, source, max_pixels) for source in group)
                yield from _ahead(coming, _AHEAD * threads)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ahead(coming: Iterable[Future[Frame | Problem]], many: int) -> Iterator[Frame | Problem]:
    """Yield the results in order, with so many more of them under way."""
    waiting: deque[Future[Frame | Problem]] = deque()
    for future in coming:
        waiting.append(future)
        if len(waiting) > many:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _one_ahead(pool: ThreadPoolExecutor, found: Iterator[Frame | Problem]) -> Iterator[Frame | Problem]:
    """Yield what an iterator gives, whose next is made in a thread meanwhile."""
    coming = pool.submit(next, found, None)
    while (one := coming.result()) is not None:
        coming = pool.submit(next, found, None)
        yield one


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Frame | Problem:
    """Return an image that is at hand as bytes; it has no file, so its `source` is an empty path."""
    try:
        return _decoded(Source(Path(), ""), io.BytesIO(content), max_pixels)
    except (*BROKEN, MemoryError) as error:
        return Problem(Path(), _why(error))


def _image(source: Source, max_pixels: int) -> Frame | Problem:
    if suffix(source.name) in _UNREADABLE:
        return Problem(source.path, f"{suffix(source.name)} images are not read; save it as JPEG or PNG")
    try:
        with source.path.open("rb") as stream:
            return _decoded(source, stream, max_pixels)
    except (*BROKEN, MemoryError) as error:
        return Problem(source.path, _why(error))


def _decoded(source: Source, stream: Any, max_pixels: int) -> Frame | Problem:
    import numpy as np
    from PIL import Image, ImageOps

    # The limit below takes the place of Pillow's own, whose warning would be of half the size and on the terminal.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        image = Image.open(stream)
    except Image.DecompressionBombError as error:
        return Problem(source.path, f"too large: {error}")
    with image:
        width, height = image.size
        if width * height > max_pixels:
            return Problem(source.path, f"too large: {width} x {height} px, more than {max_pixels:,} in all")
        image.load()
        taken = _taken(image)
        upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
        pixels = np.asarray(upright if upright.mode == "RGB" else plain_rgb(upright))
    return Frame(source.path, source.name, 0, None, taken, pixels)


def _why(error: BaseException) -> str:
    told = (error.strerror if isinstance(error, OSError) else None) or str(error)  # without the path of this machine
    if "cannot identify" in told:
        return "not an image, or of a kind that is not read"
    if "truncated" in told.lower():
        return "cut short"
    return told.split("<_io.", maxsplit=1)[0].strip() or type(error).__name__


def _taken(image: Any) -> datetime | None:
    """Return when the camera says that an image was taken. A clock that was never set says 0000:00:00."""
    try:
        exif = image.getexif()
        text = exif.get_ifd(_CAMERA).get(_TAKEN) or exif.get(_CHANGED)
        return datetime.strptime(str(text).strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S")
    except BROKEN:
        return None


def open_video(path: Path) -> Any:
    """Return OpenCV's reader of a video, silenced, opened or not. Whoever asks for it releases it."""
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # it writes to the terminal by itself
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)


def frame_rate(path: Path) -> float:
    """Return a video's frames a second; 25 where it does not say."""
    import cv2

    capture = open_video(path)
    try:
        return _rate(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()


def _video(source: Source, frame_interval: float | None, max_pixels: int) -> Iterator[Frame | Problem]:
    import cv2

    capture = open_video(source.path)
    try:
        width, height = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not capture.isOpened():
            yield Problem(source.path, "not a video, cut short, or of a kind that is not read")
        elif width * height > max_pixels:
            yield Problem(source.path, f"too large: {width:.0f} x {height:.0f} px, more than {max_pixels:,} in all")
        else:
            yield from _shown(source, capture, frame_interval)
    finally:
        capture.release()


def _shown(source: Source, capture: Any, frame_interval: float | None) -> Iterator[Frame | Problem]:
    """Yield the frames of an open video: all, or the first one at or after each multiple of `frame_interval`."""
    import cv2

    expected, rate = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    index, due = 0, 0
    while capture.grab():
        time = _time(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, index, rate)
        if frame_interval is None or time >= due * frame_interval - 1e-6:
            read, pixels = capture.retrieve()
            if read:
                yield Frame(source.path, source.name, index, time, None, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            due = due if frame_interval is None else math.floor((time + 1e-6) / frame_interval) + 1
        index += 1
    if not index:
        yield Problem(source.path, "no frame can be read")
    elif index < _FEWER * expected:
        yield Problem(source.path, f"ends after {index:,} of {expected:,.0f} frames: what was read counts")


def _time(stamp: float, index: int, rate: float) -> float:
    """Return a frame's time in seconds: the container's own, or else counted."""
    return round(index / _rate(rate), 6) if stamp <= 0 and index else max(round(stamp, 6), 0.0)


def _rate(said: float) -> float:
    return said if 0 < said < 1000 else 25.0
